//! What the recorder is to reach, measured: the figures go to the record, the tests hold what must
//! be true on any machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use rustix::process::Signal;
use serde_json::{Value, json};
use wirewitness::time::Timestamp;

use crate::support::{
    Mirror, Recorder, Sender, Setup, Site, long, median_and_p99, numbered_frame, pcapng_files,
    record, rounds, wait_for, write_savefile,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Production's memory and segments.
fn as_delivered() -> Setup<'static> {
    Setup {
        ring_size: "4GiB",
        segment: "16MiB",
        memory: "256MiB",
        ..Setup::default()
    }
}

/// A sender that goes on until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(Sender, f64)>,
}

impl Load {
    fn start(mirror: &Mirror, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut sender = Sender::in_trains(&mirror.sender, "tx0", 0, 64);
        let thread = std::thread::spawn(move || {
            let since = Instant::now();
            sender.send_while(per_second, |_| !stopped.load(Ordering::Relaxed));
            let rate = sender.next() as f64 / since.elapsed().as_secs_f64();
            (sender, rate)
        });
        Self { stop, thread }
    }

    /// The sender and how many a second it really sent.
    fn stop(self) -> (Sender, f64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn pin(recorder: &Recorder, id: &str, from: Timestamp, to: Timestamp) -> Value {
    let window = json!({"from": from.to_rfc3339(), "to": to.to_rfc3339()});
    recorder.call(&json!({"verb": "pin", "id": id, "window": window}))
}

/// From the request of a pin to the answer that its links are made and durable, at 500,000 packets a
/// second: of a window that goes on (what a trigger asks for), and of one that is over (which ends
/// the segment being written first).
#[test]
fn a_pin_is_answered_while_500000_packets_a_second_are_recorded() {
    let Some(mirror) = Mirror::alone("pins at 500,000/s") else {
        return;
    };
    let pins = rounds(20, 500);
    let site = Site::new(&as_delivered());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let load = Load::start(&mirror, 500_000);
    wait_for("packets to be recorded", || {
        match recorder.interface("mon0") {
            status if status["ring_segments"].as_u64() >= Some(2) => Ok(()),
            status => Err(status.to_string()),
        }
    });
    let (mut begun, mut over) = (Vec::new(), Vec::new());
    let span = Duration::from_secs(2);
    for n in 0..pins {
        let now = Timestamp::now();
        let asked = Instant::now();
        let report = pin(
            &recorder,
            &format!("begun-{n}"),
            now.minus(span),
            now.plus(span),
        );
        begun.push(asked.elapsed().as_secs_f64() * 1e3);
        assert!(
            !report["segments"].as_array().unwrap().is_empty(),
            "{report}"
        );

        let now = Timestamp::now();
        let asked = Instant::now();
        let report = pin(&recorder, &format!("over-{n}"), now.minus(span), now);
        over.push(asked.elapsed().as_secs_f64() * 1e3);
        assert_eq!(report["complete"], true, "{report}");
        for id in [format!("begun-{n}"), format!("over-{n}")] {
            recorder.call(&json!({"verb": "release", "id": id}));
        }
    }
    let (sender, rate) = load.stop();
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", sender.next());
    let lost = sender.next() - status["written"].as_u64().unwrap();
    let (median, p99) = median_and_p99(&mut begun);
    let (over_median, over_p99) = median_and_p99(&mut over);
    let figure = format!(
        "window that goes on: {median:.1} ms (p99 {p99:.1} ms); window that is over, its segment ended \
         and durable first: {over_median:.1} ms (p99 {over_p99:.1} ms); {lost} of {} packets lost",
        sender.next()
    );
    let injected = format!("`pin` on the control socket at {rate:.0} packets/s of 64 B");
    record("trigger to pinned", &injected, 2 * pins, &figure);
}

/// Five minutes in 500 segments are frozen by links alone.
#[test]
fn freezing_500_segments_moves_no_packet_byte() {
    let Some(mirror) = Mirror::new("500 segments") else {
        return;
    };
    let freezes = rounds(2, 20);
    let site = Site::new(&Setup {
        snaplen: 2048,
        segment: "128KiB",
        memory: "4MiB",
        ..Setup::default()
    });
    let from = Timestamp::now().minus(Duration::from_mins(10));
    let packets = 66_000;
    let step = 5 * 60 * 1_000_000_000 / packets;
    let savefile = site.path("minutes.pcap");
    let frames = (0..packets).map(|n| (from.as_ns() + n * step, numbered_frame(n, 1000)));
    write_savefile(&savefile, frames);
    let arguments = ["--replay", savefile.to_str().unwrap()];
    let mut recorder = Recorder::launch(&site, &mirror.monitor, &arguments);
    recorder.wait_state(None, "finished");
    recorder.flush();
    let window_end = from.plus(Duration::from_mins(5));
    // The first ends the last segment, which is written; the others find all of them whole.
    pin(&recorder, "first", from, window_end);
    let ring: BTreeSet<u64> = inodes(&site.ring("mon0"));
    let (mut took, mut moved, mut to_disk) = (Vec::new(), 0, 0);
    let mut bytes = 0;
    for n in 0..freezes {
        let before = Written::by(recorder.process.id());
        let asked = Instant::now();
        let id = format!("freeze-{n}");
        let report = pin(&recorder, &id, from, window_end);
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        let now = Written::by(recorder.process.id());
        assert_eq!(report["complete"], true);
        let folder = site.incidents().join(&id).join("segments/mon0");
        let linked = inodes(&folder);
        assert!(linked.len() >= 500, "{} segments", linked.len());
        assert!(linked.is_subset(&ring), "links to the ring's own files");
        bytes = pcapng_files(&folder)
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        // What it does write is the answer: the segments' names.
        let reply = report.to_string().len() as u64;
        let wrote = now.called - before.called;
        assert!(
            wrote <= reply + 4096,
            "{wrote} bytes were written, the answer has {reply}"
        );
        moved = moved.max(wrote - reply.min(wrote));
        to_disk = to_disk.max(now.to_disk - before.to_disk);
    }
    let (median, p99) = median_and_p99(&mut took);
    let figure = format!(
        "{} segments, {bytes} bytes: {moved} bytes written beside the answer, {to_disk} bytes of folders \
         to disk; {median:.1} ms (p99 {p99:.1} ms)",
        ring.len()
    );
    let injected = "`pin` of 5 minutes, wchar and write_bytes of /proc/PID/io before and after";
    record("freeze of 500 segments", injected, freezes, &figure);
}

fn inodes(folder: &Path) -> BTreeSet<u64> {
    let files = pcapng_files(folder);
    files
        .iter()
        .map(|file| fs::metadata(file).unwrap().ino())
        .collect()
}

/// What a process has written so far.
struct Written {
    /// By system calls.
    called: u64,
    /// Towards the disk, file systems' own blocks included.
    to_disk: u64,
}

impl Written {
    fn by(process: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse::<u64>().unwrap()
        };
        Self {
            called: field("wchar:"),
            to_disk: field("write_bytes:"),
        }
    }
}

/// A restart over a ring of 50 GiB. Its segments have their true lengths and names, their true first
/// and last blocks, and a hole between: recovery reads no more of a whole segment. They are put out
/// of the page cache first; names and inodes stay in memory.
#[test]
fn a_ring_of_50_gib_is_recovered() {
    let Some(mirror) = Mirror::alone("50 GiB") else {
        return;
    };
    let starts = rounds(2, 20);
    let site = Site::new(&Setup {
        ring_size: "51GiB",
        segment: "16MiB",
        memory: "256MiB",
        ..Setup::default()
    });
    let disk = rustix::fs::statvfs(site.path("var")).unwrap();
    let gib = 50.min(disk.f_blocks * disk.f_frsize / GIB * 9 / 10);
    if gib < 50 {
        site.configure(&Setup {
            ring_size: &format!("{}GiB", gib + 1),
            segment: "16MiB",
            memory: "256MiB",
            ..Setup::default()
        });
    }
    let count = gib * GIB / (16 * MIB);
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 1000);
    sender.send(100, 10_000);
    recorder.account("mon0", 100);
    recorder.process.stop(Signal::TERM);
    let folder = site.ring("mon0");
    let whole = pcapng_files(&folder).pop().unwrap();
    let bytes = fs::read(&whole).unwrap();
    fs::remove_file(whole).unwrap();
    let tail = u32::from_le_bytes(bytes[bytes.len() - 4..].try_into().unwrap()) as usize;
    let (head, tail) = bytes.split_at(bytes.len() - tail);
    let began = Timestamp::now().minus(Duration::from_hours(1)).as_ns();
    for number in 0..count {
        let name = format!("seg-{number:020}-{}.pcapng", began + number * 1_000_000_000);
        let mut file = File::create(folder.join(name)).unwrap();
        file.write_all(head).unwrap();
        file.write_all_at(tail, 16 * MIB - tail.len() as u64)
            .unwrap();
    }
    let (mut times, mut largest) = (Vec::new(), 0);
    for _ in 0..starts {
        rustix::fs::syncfs(File::open(&folder).unwrap()).unwrap();
        for file in pcapng_files(&folder) {
            let file = File::open(file).unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
        let since = Instant::now();
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        times.push(since.elapsed().as_secs_f64());
        let status = recorder.interface("mon0");
        assert!(
            status["ring_segments"].as_u64().unwrap() >= count,
            "{status}"
        );
        assert_eq!(status["foreign_files"], 0, "{status}");
        largest = largest.max(status["ring_bytes"].as_u64().unwrap());
        recorder.process.kill();
    }
    assert!(largest >= gib * GIB - GIB, "{largest} bytes in the ring");
    let (median, p99) = median_and_p99(&mut times);
    let figure = format!(
        "from the start to \"running\" {median:.3} s (p99 {p99:.3} s); {count} segments of 16 MiB, sparse \
         but for both ends, out of the page cache"
    );
    let fault = format!("recovery of a {gib} GiB ring");
    record(&fault, "SIGKILL and start", starts, &figure);
}

/// Memory is what it was after the first minute (seconds, in the short form), under load, and not
/// above what is configured and 40 MiB.
#[test]
fn memory_is_constant() {
    let Some(mirror) = Mirror::alone("memory") else {
        return;
    };
    // To settle: every slot has been used, every kind of thread has run.
    let (settle, watch) = if long() { (60, 30 * 60) } else { (3, 9) };
    let site = Site::new(&Setup {
        ring_size: "256MiB",
        ..as_delivered()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let load = Load::start(&mirror, 100_000);
    let began = Instant::now();
    let mut samples: Vec<(u64, u64)> = Vec::new();
    while began.elapsed() < Duration::from_secs(settle + watch) {
        recorder.process.alive();
        let status = recorder.interface("mon0");
        assert_eq!(status["state"], "running", "{status}");
        if began.elapsed() >= Duration::from_secs(settle) {
            samples.push(resident(recorder.process.id()));
        }
        // The pace of looking.
        std::thread::sleep(Duration::from_secs(1));
    }
    let (sender, rate) = load.stop();
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", sender.next());
    assert_eq!(status["dropped_ring"], 0, "{status}");
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    let most = samples.iter().map(|sample| sample.0).max().unwrap();
    let limit = (64 + 256 + 40) * MIB;
    assert!(most <= limit, "{most} bytes are resident, {limit} allowed");
    let tolerance = 256 << 10;
    for (what, first, last) in [("VmRSS", first.0, last.0), ("RssAnon", first.1, last.1)] {
        assert!(
            last <= first + tolerance,
            "{what} grew from {first} to {last}: {samples:?}"
        );
    }
    let figure = format!(
        "at most {:.1} MiB resident (buffer 64 + slots 256 + 40 allowed); from {} to {} KiB, its own \
         heap from {} to {} KiB",
        most as f64 / MIB as f64,
        first.0 >> 10,
        last.0 >> 10,
        first.1 >> 10,
        last.1 >> 10
    );
    let injected = format!("{watch} s at {rate:.0} packets/s, sampled each second");
    record("memory", &injected, samples.len() as u64, &figure);
}

/// VmRSS and RssAnon of a process, in bytes.
fn resident(process: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        let number = line.trim().trim_end_matches(" kB");
        number.parse::<u64>().unwrap() << 10
    };
    (field("VmRSS:"), field("RssAnon:"))
}
