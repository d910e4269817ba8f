//! What a trigger costs: the obvious way (stop tshark, copy its newest files, start it again)
//! beside ours, on the same traffic, in one run. A measurement, not a test: `make bench-freeze`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use rustix::process::Signal;

use crate::support::{
    Mirror, Process, Recorder, Sender, Server, Setup, Site, Tally, pcapng_files, wait_for,
};

const PER_SECOND: u64 = 100_000;
const FRAME_BYTES: usize = 200;
/// Triggers of the obvious way; each takes about two seconds.
const RESTARTS: usize = 20;
/// Triggers of ours.
const FREEZES: usize = 1000;

/// A steady load, and how far it has come.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Sender>,
}

impl Load {
    fn start(mirror: &Mirror) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, progress) = (Arc::clone(&stop), Arc::clone(&sent));
        let mut sender = Sender::new(&mirror.sender, 0, FRAME_BYTES);
        let thread = std::thread::spawn(move || {
            sender.send_while(PER_SECOND, |next| {
                progress.store(next, Ordering::Relaxed);
                !stopped.load(Ordering::Relaxed)
            });
            sender
        });
        Self { stop, sent, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Lets so many more packets pass.
    fn pass(&self, packets: u64) {
        let target = self.sent() + packets;
        wait_for("packets to be sent", || {
            if self.sent() >= target {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
    }

    fn finish(self) -> Sender {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What was lost in all, and with each trigger: from it to the next one.
struct Lost {
    sent: u64,
    all: u64,
    by_trigger: Vec<u64>,
}

impl Lost {
    fn count(tally: &Tally, triggers: &[u64], sent: u64) -> Self {
        let missing = tally.missing(sent);
        let mut by_trigger = vec![0; triggers.len()];
        for &number in &missing {
            let trigger = triggers.partition_point(|&at| at <= number as u64);
            if let Some(trigger) = trigger.checked_sub(1) {
                by_trigger[trigger] += 1;
            }
        }
        by_trigger.sort_unstable();
        Self {
            sent,
            all: missing.len() as u64,
            by_trigger,
        }
    }

    fn row(&self, name: &str) -> String {
        let triggers = self.by_trigger.len();
        let median = self
            .by_trigger
            .get(triggers / 2)
            .map_or("-".to_owned(), u64::to_string);
        let worst = self
            .by_trigger
            .last()
            .map_or("-".to_owned(), u64::to_string);
        format!(
            "| {name} | {triggers} | {} | {median} | {worst} | {} |",
            self.sent, self.all
        )
    }
}

#[test]
#[ignore = "a measurement: make bench-freeze"]
fn packets_lost_per_trigger() {
    let Some(mirror) = Mirror::alone("the comparison") else {
        return;
    };
    let undisturbed = tshark(&mirror, 0);
    drop(mirror);
    let mirror = Mirror::alone("the comparison").unwrap();
    let restarted = tshark(&mirror, RESTARTS);
    drop(mirror);
    let mirror = Mirror::alone("the comparison").unwrap();
    let frozen = ours(&mirror);
    let table = [
        undisturbed.row("tshark, left alone"),
        restarted.row("tshark: stop, copy the newest two files, start"),
        frozen.row("wirewitness: freeze"),
    ];
    eprintln!(
        "\n{PER_SECOND} packets/s of {FRAME_BYTES} bytes over a veth pair\n\n\
         | | triggers | packets sent | lost per trigger, median | worst | lost in all |\n\
         | --- | --- | --- | --- | --- | --- |\n{}\n",
        table.join("\n")
    );
    assert_eq!(frozen.all, 0);
}

/// The obvious way. Its ring is large enough here to keep everything, so that losses can be counted.
fn tshark(mirror: &Mirror, restarts: usize) -> Lost {
    let folder = tempfile::Builder::new()
        .prefix("wwt-tshark-")
        .tempdir()
        .unwrap();
    let start = || {
        let mut command = mirror.monitor.command("tshark");
        command
            .args([
                "-q",
                "-n",
                "-i",
                "mon0",
                "-B",
                "256",
                "-b",
                "filesize:16384",
                "-b",
                "files:1000",
            ])
            .arg("-w")
            .arg(folder.path().join("ring.pcapng"));
        Process::start(&mut command, &folder.path().join("log"))
    };
    let mut process = start();
    wait_for("tshark to capture", || {
        if newest(folder.path()).is_empty() {
            Err("no file yet".to_owned())
        } else {
            Ok(())
        }
    });
    let load = Load::start(mirror);
    load.pass(2 * PER_SECOND);
    let mut triggers = Vec::new();
    for n in 0..restarts {
        triggers.push(load.sent());
        process.stop(Signal::INT);
        let copies = folder.path().join(format!("trigger-{n}"));
        fs::create_dir(&copies).unwrap();
        for file in newest(folder.path()).iter().take(2) {
            fs::copy(file, copies.join(file.file_name().unwrap())).unwrap();
        }
        let before = newest(folder.path()).len();
        process = start();
        wait_for("tshark to capture again", || {
            if newest(folder.path()).len() > before {
                Ok(())
            } else {
                Err(process.said())
            }
        });
        load.pass(PER_SECOND);
    }
    load.pass(if restarts == 0 {
        10 * PER_SECOND
    } else {
        PER_SECOND
    });
    let sender = load.finish();
    sender.settle(&mirror.monitor, "mon0");
    process.stop(Signal::INT);
    let mut tally = Tally::default();
    for file in newest(folder.path()) {
        tally.add(&file);
    }
    Lost::count(&tally, &triggers, sender.next())
}

/// The capture files of a folder, newest first.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "pcapng"))
        .map(|path| (fs::metadata(&path).unwrap().modified().unwrap(), path))
        .collect();
    files.sort();
    files.into_iter().rev().map(|(_, path)| path).collect()
}

/// Ours: a thousand freezes, each an incident of its own.
fn ours(mirror: &Mirror) -> Lost {
    let site = Site::new(&Setup {
        ring_size: "8GiB",
        segment: "16MiB",
        memory: "256MiB",
        buffer: "256MiB",
        before: "200ms",
        after: "0s",
        cooldown: "0s",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let load = Load::start(mirror);
    load.pass(2 * PER_SECOND);
    let mut triggers = Vec::new();
    for n in 0..FREEZES {
        triggers.push(load.sent());
        let body = format!("{{\"reason\": \"freeze {n}\"}}");
        let answer = site.http("/api/v1/incidents", &["--json", &body]);
        assert_eq!(answer.status, 202, "{}", answer.head);
    }
    load.pass(PER_SECOND);
    let sender = load.finish();
    sender.settle(&mirror.monitor, "mon0");
    recorder.account("mon0", sender.next());
    let mut tally = Tally::default();
    for file in pcapng_files(&site.ring("mon0")) {
        tally.add(&file);
    }
    Lost::count(&tally, &triggers, sender.next())
}
