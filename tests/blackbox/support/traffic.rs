//! Packets that carry a number, and the count of how often each number was found.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use super::pcapng::{self, Summary};
use super::{Space, wait_for};

/// Begins the payload of every numbered packet.
const MAGIC: &[u8; 8] = b"WWNUMBER";

/// Sends UDP datagrams numbered from 0.
pub(crate) struct Sender {
    /// One per flow; the packets take turns.
    sockets: Vec<UdpSocket>,
    payload: Vec<u8>,
    /// Datagrams of one call.
    train: u64,
    next: u64,
}

impl Sender {
    /// A sender on the cable `n` of a mirror, with frames of `frame_bytes`.
    pub(crate) fn new(space: &Space, n: u8, frame_bytes: usize) -> Self {
        Self::with_flows(space, n, frame_bytes, 1)
    }

    /// The same with `flows` source ports in turn: packet `k` is of flow `k % flows`.
    pub(crate) fn with_flows(space: &Space, n: u8, frame_bytes: usize, flows: usize) -> Self {
        let open = move || {
            let socket = UdpSocket::bind((format!("10.99.{n}.1").as_str(), 0)).unwrap();
            socket
                .connect((format!("10.99.{n}.2").as_str(), 9))
                .unwrap();
            socket
        };
        let sockets = space.enter(move || std::iter::repeat_with(open).take(flows).collect());
        let mut payload = vec![0; frame_bytes - 14 - 20 - 8];
        payload[..8].copy_from_slice(MAGIC);
        Self {
            sockets,
            payload,
            train: 1,
            next: 0,
        }
    }

    /// A sender of many datagrams at a time, which the kernel cuts out of one (UDP segmentation): one
    /// processor sends three times as many as one by one.
    pub(crate) fn in_trains(space: &Space, device: &str, n: u8, frame_bytes: usize) -> Self {
        // They are whole packets on the cable, not only behind it.
        space.ip(&["link", "set", device, "gso_max_segs", "1"]);
        let sender = Self::new(space, n, frame_bytes);
        let bytes = i32::try_from(sender.payload.len()).unwrap();
        setsockopt(&sender.sockets[0], UdpGsoSegment, &bytes).unwrap();
        Self {
            train: 64,
            ..sender
        }
    }

    /// The next number; as long as none was skipped, how many have been sent.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Leaves a number out.
    pub(crate) fn skip(&mut self) {
        self.next += 1;
    }

    /// Sends one.
    pub(crate) fn send_one(&mut self) {
        self.payload[8..16].copy_from_slice(&self.next.to_le_bytes());
        let flows = self.sockets.len() as u64;
        let turn = usize::try_from(self.next % flows).unwrap();
        self.sockets[turn].send(&self.payload).unwrap();
        self.next += 1;
    }

    /// Sends `count` in one call.
    fn send_train(&mut self, count: u64) {
        let mut train = self.payload.repeat(usize::try_from(count).unwrap());
        let payloads = train.chunks_exact_mut(self.payload.len());
        for (payload, number) in payloads.zip(self.next..) {
            payload[8..16].copy_from_slice(&number.to_le_bytes());
        }
        self.sockets[0].send(&train).unwrap();
        self.next += count;
    }

    /// Sends `count` at `per_second`.
    pub(crate) fn send(&mut self, count: u64, per_second: u64) {
        let last = self.next + count;
        self.send_while(per_second, |next| next < last);
    }

    /// Sends at `per_second` while `more` of the next number holds; in trains, up to the end of one.
    pub(crate) fn send_while(&mut self, per_second: u64, mut more: impl FnMut(u64) -> bool) {
        let (start, first) = (Instant::now(), self.next);
        loop {
            let elapsed = u64::try_from(start.elapsed().as_micros()).unwrap();
            let due = first + elapsed * per_second / 1_000_000;
            while self.next < due {
                if !more(self.next) {
                    return;
                }
                match self.train.min(due - self.next) {
                    1 => self.send_one(),
                    count => self.send_train(count),
                }
            }
            if !more(self.next) {
                return;
            }
            // The pace: bursts of a tenth of a millisecond.
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Waits until the monitor's interface has counted every packet sent.
    pub(crate) fn settle(&self, monitor: &Space, interface: &str) {
        wait_for("every packet to pass the cable", || {
            match monitor.received(interface) {
                n if n == self.next => Ok(()),
                n => Err(format!("{n} of {} have arrived", self.next)),
            }
        });
    }
}

/// Sends `count` numbered frames of 304 bytes with a VLAN tag, as a trunk port would.
pub(crate) fn send_tagged(space: &Space, interface: &str, vlan: u16, count: u64) {
    let device = interface.to_owned();
    space.enter(move || {
        let capture = pcap::Capture::from_device(device.as_str()).unwrap();
        let mut capture = capture.open().unwrap();
        for number in 0..count {
            let mut frame = vec![0; 304];
            frame[..12].copy_from_slice(&[2, 0, 0, 0, 0x45, 0x56, 2, 0, 0, 0, 0, 1]);
            frame[12..14].copy_from_slice(&[0x81, 0x00]);
            frame[14..16].copy_from_slice(&vlan.to_be_bytes());
            // IPv4, UDP to the discard port; the rest of the headers may be zero.
            frame[16..20].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
            frame[20..22].copy_from_slice(&286_u16.to_be_bytes());
            frame[26..28].copy_from_slice(&[64, 17]);
            frame[40..44].copy_from_slice(&[0, 9, 0x01, 0x0a]);
            frame[46..54].copy_from_slice(MAGIC);
            frame[54..62].copy_from_slice(&number.to_le_bytes());
            capture.sendpacket(frame).unwrap();
        }
    });
}

/// A frame of `length` bytes with this number, as a [`Sender`] would send it but for the addresses.
pub(crate) fn numbered_frame(number: u64, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0x45, 0x56, 2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    frame[14] = 0x45;
    let total = u16::try_from(length - 14).unwrap();
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..34].copy_from_slice(&[10, 99, 0, 1, 10, 99, 0, 2]);
    frame[34..38].copy_from_slice(&[0x80, 0, 0, 9]);
    frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    frame[42..50].copy_from_slice(MAGIC);
    frame[50..58].copy_from_slice(&number.to_le_bytes());
    frame
}

/// Writes a pcap savefile of Ethernet frames with times in nanoseconds.
pub(crate) fn write_savefile(path: &Path, frames: impl Iterator<Item = (u64, Vec<u8>)>) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let header = [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 262_144, 1];
    file.write_all(&header.map(u32::to_le_bytes).concat())
        .unwrap();
    for (at_ns, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let [seconds, nanos] =
            [at_ns / 1_000_000_000, at_ns % 1_000_000_000].map(|n| u32::try_from(n).unwrap());
        let record = [seconds, nanos, length, length];
        file.write_all(&record.map(u32::to_le_bytes).concat())
            .unwrap();
        file.write_all(&frame).unwrap();
    }
    file.flush().unwrap();
}

/// The number in a frame of [`Sender`], with or without a VLAN tag.
pub(crate) fn number_of(frame: &[u8]) -> Option<u64> {
    let ip = match frame.get(12..14)? {
        [0x81 | 0x88, 0x00 | 0xa8] => 18,
        _ => 14,
    };
    let payload = frame.get(ip + 28..)?;
    (payload.get(..8)? == MAGIC).then(|| u64::from_le_bytes(payload[8..16].try_into().unwrap()))
}

/// How often each number was found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    found: Vec<u8>,
    /// Packets without a number.
    pub(crate) others: u64,
    /// The earliest and the latest timestamp, numbered or not.
    pub(crate) first_ns: Option<u64>,
    pub(crate) last_ns: Option<u64>,
}

impl Tally {
    /// Counts the packets of every pcapng file in a folder.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let mut tally = Self::default();
        for file in segments(folder) {
            tally.add(&file);
        }
        tally
    }

    /// Counts the packets of every pcapng file in several folders.
    pub(crate) fn of_folders(folders: &[PathBuf]) -> Self {
        let mut tally = Self::default();
        for file in folders.iter().flat_map(|folder| segments(folder)) {
            tally.add(&file);
        }
        tally
    }

    /// Counts the packets of one pcapng file.
    pub(crate) fn of_file(file: &Path) -> Self {
        let mut tally = Self::default();
        tally.add(file);
        tally
    }

    /// Adds the packets of the segments behind `last`, and moves it on. With `leave_newest` the
    /// segment that may be in the making is left for the next time.
    pub(crate) fn catch_up(&mut self, folder: &Path, last: &mut PathBuf, leave_newest: bool) {
        let mut files = segments(folder);
        if leave_newest {
            files.pop();
        }
        files.retain(|file| *file > *last);
        for file in files {
            self.add(&file);
            *last = file;
        }
    }

    /// How many numbers lie in each unbroken row of found ones, and how many are missing before it.
    pub(crate) fn rows(&self) -> Vec<(u64, u64)> {
        let mut rows = Vec::new();
        let (mut missing, mut found) = (0, 0);
        for &times in &self.found {
            if times > 0 {
                found += 1;
                continue;
            }
            if found > 0 {
                rows.push((missing, found));
                (missing, found) = (0, 0);
            }
            missing += 1;
        }
        if found > 0 {
            rows.push((missing, found));
        }
        rows
    }

    /// Whether a number was found.
    pub(crate) fn has(&self, number: u64) -> bool {
        let at = usize::try_from(number).unwrap();
        self.found.get(at).is_some_and(|&times| times > 0)
    }

    /// Adds the packets of one pcapng file.
    pub(crate) fn add(&mut self, file: &Path) -> Summary {
        pcapng::read(file, |packet| {
            self.first_ns = Some(
                self.first_ns
                    .map_or(packet.at_ns, |ns| ns.min(packet.at_ns)),
            );
            self.last_ns = Some(self.last_ns.map_or(packet.at_ns, |ns| ns.max(packet.at_ns)));
            match number_of(packet.data) {
                Some(number) => self.count(number),
                None => self.others += 1,
            }
        })
    }

    fn count(&mut self, number: u64) {
        let at = usize::try_from(number).unwrap();
        if at >= self.found.len() {
            self.found.resize(at + 1, 0);
        }
        self.found[at] = self.found[at].saturating_add(1);
    }

    /// How many different numbers were found.
    pub(crate) fn distinct(&self) -> u64 {
        self.found.iter().filter(|&&times| times > 0).count() as u64
    }

    /// Numbers found more than once.
    pub(crate) fn doubled(&self) -> Vec<usize> {
        self.places(|times| times > 1)
    }

    /// Numbers below `sent` that were not found.
    pub(crate) fn missing(&self, sent: u64) -> Vec<usize> {
        let mut missing = self.places(|times| times == 0);
        missing.extend(self.found.len()..usize::try_from(sent).unwrap());
        missing
    }

    fn places(&self, wanted: impl Fn(u8) -> bool) -> Vec<usize> {
        let all = self.found.iter().enumerate();
        all.filter(|&(_, &times)| wanted(times))
            .map(|(at, _)| at)
            .collect()
    }

    /// The lowest number found.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.found
            .iter()
            .position(|&times| times > 0)
            .map(|at| at as u64)
    }

    /// Panics unless each of `0..sent` was found exactly once.
    pub(crate) fn assert_each_once(&self, sent: u64) {
        let (missing, doubled) = (self.missing(sent), self.doubled());
        let beyond = self.found.len() as u64 > sent;
        assert!(
            missing.is_empty() && doubled.is_empty() && !beyond,
            "of {sent} packets {} are missing ({}), {} are doubled ({}); {} numbers were found",
            missing.len(),
            spans(&missing),
            doubled.len(),
            spans(&doubled),
            self.distinct(),
        );
    }
}

/// The segments of a folder, by name (which is by number).
pub(crate) fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("seg-") && name.ends_with(".pcapng")
        })
        .collect();
    files.sort();
    files
}

/// `3-5, 9`: at most eight spans.
fn spans(numbers: &[usize]) -> String {
    let mut text = String::new();
    let mut shown = 0;
    let mut at = 0;
    while at < numbers.len() {
        let mut end = at;
        while end + 1 < numbers.len() && numbers[end + 1] == numbers[end] + 1 {
            end += 1;
        }
        if shown == 8 {
            text.push_str(" ...");
            break;
        }
        let comma = if shown > 0 { ", " } else { "" };
        write!(text, "{comma}{}-{}", numbers[at], numbers[end]).unwrap();
        shown += 1;
        at = end + 1;
    }
    text
}

#[test]
fn a_lost_and_a_doubled_packet_are_noticed() {
    let mut tally = Tally::default();
    for number in [0, 1, 1, 3] {
        tally.count(number);
    }
    assert_eq!(tally.missing(5), [2, 4]);
    assert_eq!(tally.doubled(), [1]);
    assert_eq!(tally.rows(), [(0, 2), (1, 1)]);
    assert_eq!(spans(&[2, 3, 7]), "2-3, 7-7");
}

/// Packets that go on until told otherwise.
pub(crate) struct Traffic {
    per_second: AtomicU64,
    next: AtomicU64,
    over: AtomicBool,
}

impl Traffic {
    /// Sends nothing yet.
    pub(crate) fn start(mut sender: Sender) -> (Arc<Self>, std::thread::JoinHandle<()>) {
        let traffic = Arc::new(Self {
            per_second: AtomicU64::new(0),
            next: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&traffic);
        let thread = std::thread::spawn(move || {
            while !shared.over.load(Ordering::Relaxed) {
                let rate = shared.per_second.load(Ordering::Relaxed);
                if rate == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                sender.send_while(rate, |next| {
                    shared.next.store(next, Ordering::Relaxed);
                    shared.per_second.load(Ordering::Relaxed) == rate
                        && !shared.over.load(Ordering::Relaxed)
                });
            }
        });
        (traffic, thread)
    }

    /// From now on so many packets in a second.
    pub(crate) fn set(&self, per_second: u64) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// The next number to be sent.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Sends no more.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
