//! Several capture threads on one interface are one recorder of it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Dice, Mirror, Recorder, Sender, Server, Setup, Site, Space, Tally, pcapng, pcapng_files,
    record, rounds, run, signal, wait_for,
};

/// Flows enough that a hash puts some on each of two threads.
const FLOWS: usize = 64;

fn two_threads() -> Setup<'static> {
    Setup {
        threads: 2,
        ring_size: "1GiB",
        before: "2m",
        after: "0s",
        ..Setup::default()
    }
}

fn sum(status: &Value) -> u64 {
    let fates = ["written", "dropped_kernel", "dropped_ring"];
    fates.iter().map(|key| status[key].as_u64().unwrap()).sum()
}

/// Freezes, waits for the seal, verifies, and returns the incident and its packets as one file.
fn frozen(site: &Site) -> (Value, std::path::PathBuf) {
    let id = site.ask(&["freeze", "--before", "2m", "--after", "0s"]);
    let incident = site.sealed(id.trim());
    let folder = site.incidents().join(id.trim());
    let verify = site.client(&["verify", folder.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(0), "{verify:?}");
    let export = site.path(&format!("{}.pcapng", id.trim()));
    site.ask(&["export", id.trim(), "-o", export.to_str().unwrap()]);
    (incident, export)
}

/// The export has one interface and is in strict order of time, also to Wireshark's own tool.
fn assert_one_ordered_interface(export: &Path) {
    let mut last = 0;
    let mut back = 0_u64;
    let summary = pcapng::read(export, |packet| {
        back += u64::from(packet.at_ns < last);
        last = packet.at_ns;
    });
    assert_eq!(summary.interfaces, ["mon0"]);
    assert_eq!(back, 0, "packets are out of order");
    let said = run(Command::new("capinfos").arg("-o").arg(export));
    assert!(said.contains("True"), "{said}");
}

#[test]
fn two_threads_record_every_packet_once_and_are_exported_as_one() {
    let Some(mirror) = Mirror::alone("two capture threads") else {
        return;
    };
    let count = rounds(200_000, 3_000_000);
    let site = Site::new(&two_threads());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::with_flows(&mirror.sender, 0, 64, FLOWS);
    // The receiving side of a cable works on the sender's processor: one, so that the order of
    // arrival is that of sending.
    on_one_processor();
    sender.send(count, 100_000);
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", count);
    assert_eq!(status["received"], count, "{status}");
    assert_eq!(status["written"], count, "{status}");
    assert_eq!(status["dropped_iface"], 0, "{status}");

    let folders = site.rings("mon0");
    assert_eq!(folders.len(), 2);
    for folder in &folders {
        let share = Tally::of_folder(folder).distinct();
        assert!(share > 0, "{} is empty", folder.display());
        eprintln!("{}: {share} of {count}", folder.display());
    }
    Tally::of_folders(&folders).assert_each_once(count);

    let (incident, export) = frozen(&site);
    assert_eq!(incident["packets"], count, "{incident}");
    let interfaces = incident["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 1, "{incident}");
    for reason in incident["completeness"]["reasons"].as_array().unwrap() {
        // The window reaches back beyond the recorder's start, and CI has no clock to rely on.
        let code = reason["code"].as_str().unwrap();
        assert!(matches!(code, "gap" | "clock"), "{incident}");
    }
    for folder in ["mon0", "mon0+1"] {
        let pinned = site.incidents().join(incident["id"].as_str().unwrap());
        let pinned = pcapng_files(&pinned.join("segments").join(folder));
        assert!(!pinned.is_empty(), "nothing of {folder} was pinned");
    }
    Tally::of_file(&export).assert_each_once(count);
    assert_one_ordered_interface(&export);
    let injected = "100,000 packets/s of 64 flows, 2 threads";
    let figure = "each exactly once, export complete and in order";
    record(
        "capture threads share an interface",
        injected,
        count,
        figure,
    );
}

/// Keeps this thread where it is.
fn on_one_processor() {
    let mut one = rustix::thread::CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

#[test]
fn a_flow_stays_with_one_thread_and_fragments_stay_as_they_came() {
    let Some(mirror) = Mirror::alone("flows and fragments") else {
        return;
    };
    let site = Site::new(&two_threads());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::with_flows(&mirror.sender, 0, 64, FLOWS);
    // Slowly: no buffer runs short, nothing is rolled over.
    sender.send(6400, 6400);
    sender.settle(&mirror.monitor, "mon0");
    recorder.account("mon0", 6400);
    let shares: Vec<Tally> = site
        .rings("mon0")
        .iter()
        .map(|f| Tally::of_folder(f))
        .collect();
    for flow in 0..FLOWS as u64 {
        let of_flow = |share: &Tally| {
            (0..100)
                .filter(|k| share.has(k * FLOWS as u64 + flow))
                .count()
        };
        let split: Vec<usize> = shares.iter().map(of_flow).collect();
        assert!(
            split == [0, 100] || split == [100, 0],
            "flow {flow}: {split:?}"
        );
    }

    // Datagrams of three fragments each.
    let mut long = Sender::with_flows(&mirror.sender, 0, 4014, FLOWS);
    long.send(300, 3000);
    recorder.account("mon0", 6400 + 900);
    let (mut fragments, mut longest) = (0, 0);
    for file in site
        .rings("mon0")
        .iter()
        .flat_map(|folder| pcapng_files(folder))
    {
        pcapng::read(&file, |packet| {
            let more_or_offset = u16::from_be_bytes([packet.data[20], packet.data[21]]) & 0x3fff;
            fragments += usize::from(more_or_offset != 0);
            longest = longest.max(packet.original_bytes);
        });
    }
    assert_eq!((fragments, longest), (900, 1514));
}

#[test]
fn what_two_threads_wrote_and_dropped_is_what_was_sent() {
    for _ in 0..rounds(1, 20) {
        let Some(mirror) = Mirror::alone("written + dropped = sent, two threads") else {
            return;
        };
        let site = Site::new(&Setup {
            buffer: "2MiB",
            segment: "1MiB",
            memory: "4MiB",
            ..two_threads()
        });
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::with_flows(&mirror.sender, 0, 1514, FLOWS);
        sender.send(50_000, 100_000);
        signal(recorder.process.id(), Signal::STOP);
        sender.send(50_000, 100_000);
        signal(recorder.process.id(), Signal::CONT);
        sender.send(100_000, 100_000);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        assert_eq!(sum(&status), sender.next(), "{status}");
        assert_eq!(status["received"], sender.next(), "{status}");
        assert!(status["dropped_kernel"].as_u64() > Some(0), "{status}");
        let tally = Tally::of_folders(&site.rings("mon0"));
        assert_eq!(tally.doubled(), [0; 0]);
        assert_eq!(status["written"], tally.distinct(), "{status}");
        let figure = format!(
            "sent = written + dropped; {} dropped",
            status["dropped_kernel"]
        );
        let injected = "2 threads stopped for 50,000 packets with 2 MiB of buffer";
        record("overload of two threads", injected, sender.next(), &figure);
    }
}

#[test]
fn two_killed_threads_lose_nothing_that_they_accepted() {
    let Some(mirror) = Mirror::alone("kill -9, two threads") else {
        return;
    };
    let kills = rounds(3, 50);
    let mut dice = Dice::new("kill -9, two threads");
    let site = Site::new(&Setup {
        ring_size: "2GiB",
        ..two_threads()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let sender = Sender::with_flows(&mirror.sender, 0, 64, FLOWS);
    let load = Load::start(sender, 100_000);
    let mut accepted = 0;
    for _ in 0..kills {
        load.wait_for_more(dice.between(5_000, 50_000));
        accepted += recorder.interface("mon0")["written"].as_u64().unwrap();
        recorder.process.kill();
        recorder = Recorder::start(&site, &mirror.monitor);
    }
    load.wait_for_more(10_000);
    let sender = load.stop();
    sender.settle(&mirror.monitor, "mon0");
    wait_for("the last packets to be in the ring", || {
        recorder.flush();
        let tally = Tally::of_folders(&site.rings("mon0"));
        let tail = sender.next() - FLOWS as u64..sender.next();
        if tail.clone().all(|number| tally.has(number)) {
            Ok(())
        } else {
            Err(format!("not all of {tail:?} are"))
        }
    });
    accepted += recorder.interface("mon0")["written"].as_u64().unwrap();
    let tally = Tally::of_folders(&site.rings("mon0"));
    assert_eq!(tally.doubled(), [0; 0]);
    assert!(
        tally.distinct() >= accepted,
        "{accepted} were accepted, only {} are found",
        tally.distinct()
    );
    // One gap a kill for the interface, not one for each thread.
    let mut down = 0;
    for folder in site.rings("mon0") {
        let gaps = std::fs::read_to_string(folder.join("gaps.jsonl")).unwrap();
        down += u64::try_from(gaps.matches("recorder_down").count()).unwrap();
    }
    assert_eq!(down, kills);
    let injected = "SIGKILL at a random moment, 100,000 packets/s, 2 threads";
    record(
        "recorder killed",
        injected,
        kills,
        "0 accepted packets lost, 0 doubled",
    );
}

/// A sender that does not stop.
struct Load {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Sender>,
}

impl Load {
    fn start(mut sender: Sender, per_second: u64) -> Self {
        let (done, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stop, progress) = (Arc::clone(&done), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            sender.send_while(per_second, |next| {
                progress.store(next, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            });
            sender
        });
        Self { done, sent, thread }
    }

    fn wait_for_more(&self, count: u64) {
        let target = self.sent.load(Ordering::Relaxed) + count;
        wait_for("packets to be sent", || {
            if self.sent.load(Ordering::Relaxed) > target {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
    }

    fn stop(self) -> Sender {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn another_number_of_threads_keeps_what_was_recorded() {
    let Some(mirror) = Mirror::alone("2, 1 and 2 threads") else {
        return;
    };
    let site = Site::new(&two_threads());
    let mut sender = Sender::with_flows(&mirror.sender, 0, 200, FLOWS);
    for (life, threads) in [2, 1, 2].into_iter().enumerate() {
        site.configure(&Setup {
            threads,
            ..two_threads()
        });
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        sender.send(10_000, 20_000);
        sender.settle(&mirror.monitor, "mon0");
        recorder.account("mon0", 10_000);
        // The first life ends without notice: what lies in the second thread's slots is found
        // although the next life has no such thread.
        if life == 0 {
            recorder.process.kill();
        } else {
            recorder.process.stop(Signal::TERM);
        }
    }
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let (incident, export) = frozen(&site);
    Tally::of_file(&export).assert_each_once(30_000);
    assert_eq!(incident["packets"], 30_000, "{incident}");
    assert_eq!(incident["interfaces"].as_array().unwrap().len(), 1);
    let reasons = incident["completeness"]["reasons"].as_array().unwrap();
    let pauses = reasons.iter().filter(|reason| {
        let text = reason["text"].as_str().unwrap();
        reason["code"] == "gap" && text.contains("the recorder was not running")
    });
    assert_eq!(pauses.count(), 3, "one for each restart: {incident}");
    for reason in reasons {
        let code = reason["code"].as_str().unwrap();
        assert!(matches!(code, "gap" | "clock"), "{incident}");
    }
}

#[test]
fn two_threads_come_back_with_their_interface() {
    let Some(mirror) = Mirror::new("two threads, deleted and re-created") else {
        return;
    };
    let site = Site::new(&two_threads());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::with_flows(&mirror.sender, 0, 100, FLOWS);
    sender.send(640, 10_000);
    recorder.account("mon0", 640);
    mirror.monitor.ip(&["link", "del", "mon0"]);
    recorder.wait_state(Some("mon0"), "absent");
    mirror.plug("tx0", "mon0", 0);
    recorder.wait_state(Some("mon0"), "running");
    sender.send(640, 10_000);
    recorder.account("mon0", 1280);
    mirror.monitor.ip(&["link", "set", "mon0", "down"]);
    recorder.wait_state(Some("mon0"), "down");
    mirror.monitor.ip(&["link", "set", "mon0", "up"]);
    wait_for("both threads to run again", || running(&mut recorder));
    sender.send(640, 10_000);
    let status = recorder.account("mon0", 1920);
    assert_eq!(status["received"], 1920, "{status}");
    Tally::of_folders(&site.rings("mon0")).assert_each_once(1920);
}

fn running(recorder: &mut Recorder) -> Result<(), String> {
    match recorder.interface("mon0") {
        status if status["state"] == "running" => Ok(()),
        status => Err(status.to_string()),
    }
}

#[test]
fn loopback_has_one_thread_and_more_than_the_cores_are_warned_of() {
    let Some(mirror) = Mirror::new("one thread for loopback") else {
        return;
    };
    let site = Site::new(&Setup {
        interfaces: &["lo"],
        threads: 4,
        ..two_threads()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    ping(&mirror.monitor);
    recorder.account("lo", 2);
    assert_eq!(site.rings("lo").len(), 1);
    let log = std::fs::read_to_string(site.path("record.log")).unwrap();
    assert!(log.contains("does not count for loopback"), "{log}");
    site.configure(&Setup {
        threads: 16,
        memory: "128MiB",
        ..two_threads()
    });
    let check = site.client(&["check-config"]);
    let said = [check.stdout, check.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(said.contains("capture.threads"), cores <= 16, "{said}");
}

fn ping(space: &Space) {
    space.run(&["ping", "-c", "1", "-q", "127.0.0.1"]);
}
