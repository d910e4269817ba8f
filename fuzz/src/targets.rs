//! What is asked of the parsers: not to panic, hang or allocate without bound (libFuzzer sees to
//! that), and the properties that are asserted here.

pub mod trigger;

use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio_util::bytes::BytesMut;

use crate::counters::Counters;
use crate::packet::flow::sight;
use crate::pcapng::decode::{Block, Decoder};
use crate::pcapng::isb::{ClockMark, Detail, SAMPLE_LEN, Sample, decode_custom, seals};
use crate::pcapng::stream::{Blocks, Next};
use crate::probe::dns::Question;
use crate::probe::echo::{Answer, Family, decode, quoted};
use crate::probe::stamp::Stamp;
use crate::recorder::gaps::{GAPS_FILE, GapLog, read_gaps};
use crate::recorder::protocol::{Gap, GapCause, Reply, Request};
use crate::recorder::recovery::{ASIDE, recover};
use crate::recorder::release::is_incident_id;
use crate::recorder::slots::{Leftover, Slots};
use crate::ring::names::{Member, SegmentName, member_folder, parse_folder};
use crate::ring::reader::summarise;
use crate::time::Timestamp;
use crate::trigger::syslog::framing::{FRAME_BYTES_MAX, Framer};

/// Hands out at most `step` bytes a read, as sockets and pipes do.
struct Pieces<'a> {
    data: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.step.min(buffer.len()).min(self.data.len());
        let (now, later) = self.data.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.data = later;
        Ok(len)
    }
}

/// What a source holds: packets, their bytes, samples, and how it ends.
fn blocks(source: impl Read) -> (u64, usize, u64, String) {
    let mut blocks = Blocks::new(source);
    let (mut packets, mut bytes, mut samples) = (0, 0, 0);
    loop {
        let before = blocks.offset();
        match blocks.next() {
            Ok(Next::Block(block)) => {
                let captured = match block {
                    Block::Packet(packet) => {
                        packets += 1;
                        packet.data.len()
                    }
                    Block::Statistics(statistics) => {
                        samples += u64::from(statistics.sample().is_some());
                        0
                    }
                    _ => 0,
                };
                bytes += captured;
                assert_eq!(blocks.packet_data(captured).len(), captured);
                assert!(blocks.offset() > before, "it stands still");
            }
            Ok(end) => return (packets, bytes, samples, format!("{end:?}")),
            Err(error) => return (packets, bytes, samples, error.to_string()),
        }
    }
}

/// A pcapng file reads the same whole and in pieces.
pub fn pcapng(data: &[u8]) {
    let step = data.first().map_or(1, |&byte| usize::from(byte) + 1);
    assert_eq!(blocks(data), blocks(Pieces { data, step }));
    let mut decoder = Decoder::new();
    let mut rest = data;
    while let Ok(Some(len)) = decoder.length(rest) {
        let Some(block) = rest.get(..len) else { break };
        if !matches!(decoder.block(block), Ok(Some(_))) {
            break;
        }
        rest = &rest[len..];
    }
}

thread_local! {
    /// One folder in memory a process: a new one each time would be most of the work.
    static SCRATCH: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// An empty folder.
fn scratch() -> PathBuf {
    let root = SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        let dir = scratch.get_or_insert_with(|| tempfile::tempdir_in("/dev/shm").unwrap());
        dir.path().join("f")
    });
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    fs::create_dir(&root).unwrap();
    root
}

/// `kind, number, length (2), bytes` again and again.
fn pieces(mut data: &[u8]) -> Vec<(u8, u64, &[u8])> {
    let mut found = Vec::new();
    while let [kind, number, low, high, rest @ ..] = data {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, later) = rest.split_at(len);
        // The last numbers there are, too.
        let number = if *number < 250 {
            u64::from(*number)
        } else {
            u64::MAX - 255 + u64::from(*number)
        };
        found.push((*kind, number, bytes));
        data = later;
    }
    found
}

/// A ring's folder full of anything, and slots full of anything: recovery makes it whole, and a
/// second one finds nothing to do.
pub fn recover_folder(data: &[u8]) {
    let folder = scratch();
    let mut leftovers = Vec::new();
    for (kind, number, bytes) in pieces(data).into_iter().take(8) {
        let first = Timestamp::from_ns(1000);
        let name = SegmentName { number, first };
        match kind % 5 {
            0 | 1 => fs::write(folder.join(name.to_string()), bytes).unwrap(),
            2 => fs::write(folder.join(format!(".{name}.new")), bytes).unwrap(),
            3 => fs::write(folder.join(format!("{number}.pcapng")), bytes).unwrap(),
            _ => leftovers.push(Leftover {
                number,
                first,
                run: (kind % 2 == 0).then_some(first),
                bytes,
            }),
        }
    }
    check_recovery(&folder, &leftovers);
}

fn check_recovery(folder: &Path, leftovers: &[Leftover<'_>]) {
    let before = recover(folder, leftovers).unwrap();
    for segment in before.catalog.segments() {
        assert!(segment.name.number < u64::MAX, "no number follows it");
        let bytes = fs::read(&segment.path).unwrap();
        let len = bytes
            .last_chunk::<4>()
            .map_or(0, |tail| u32::from_le_bytes(*tail));
        let at = bytes.len() - usize::try_from(len).unwrap();
        assert!(seals(&bytes[at..]), "{} is not ended", segment.name);
        let summary = summarise(&segment.path, None).unwrap();
        assert!(!summary.sealed || summary.problem.is_none());
    }
    let again = recover(folder, &[]).unwrap();
    assert_eq!(before.catalog, again.catalog);
    assert_eq!((again.cut_bytes, again.replayed_bytes), (0, 0));
    assert_eq!(before.until, again.until);
    assert_eq!(before.foreign, again.foreign);
    assert_eq!(
        fs::read_dir(folder.join(ASIDE)).map_or(0, Iterator::count) as u64,
        again.foreign
    );
}

/// Names are parsed exactly as they are written, and folders name one interface each.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(name) = SegmentName::parse(&text) {
        assert_eq!(name.to_string(), text);
    }
    if let Some((number, rest)) = data.split_first_chunk::<8>() {
        let number = u64::from_le_bytes(*number);
        let first = rest.first_chunk().map_or(0, |ns| u64::from_le_bytes(*ns));
        let name = SegmentName {
            number,
            first: Timestamp::from_ns(first),
        };
        let parsed = SegmentName::parse(&name.to_string());
        assert_eq!(parsed, (number < u64::MAX).then_some(name));
    }
    let index = u32::from(data.first().copied().unwrap_or(0) % 3);
    let folder = member_folder(&text, index);
    assert!(!folder.contains(['/', '\0', ' ']) && folder != "." && folder != "..");
    if !text.is_empty() {
        assert_eq!(parse_folder(&folder), Some((text.to_string(), index)));
    }
    if let Some((interface, index)) = parse_folder(&text) {
        assert_eq!(member_folder(&interface, index), text);
    }
    let member = Member::described(&text);
    assert!(member.index < member.of);
    assert!(!is_incident_id(&text) || !text.contains(['/', '.', '\0']));
}

/// What the control socket takes it also says, and so does what answers.
pub fn control(data: &[u8]) {
    for line in data.split(|&byte| byte == b'\n') {
        if let Ok(request) = serde_json::from_slice::<Request>(line) {
            let text = serde_json::to_vec(&request).unwrap();
            assert_eq!(serde_json::from_slice::<Request>(&text).unwrap(), request);
            if let Request::Pin { id, .. } | Request::Release { id } | Request::Check { id } =
                &request
            {
                assert!(!is_incident_id(id) || Path::new(id).components().count() == 1);
            }
        }
        if let Ok(reply) = serde_json::from_slice::<Reply>(line) {
            let text = serde_json::to_vec(&reply).unwrap();
            let again: Reply = serde_json::from_slice(&text).unwrap();
            assert_eq!(serde_json::to_vec(&again).unwrap(), text);
        }
    }
}

/// A slot file of anything, or one whose first words are right and the rest is anything: what is
/// found in it is inside it, and recovery takes it.
pub fn slot_file(data: &[u8]) {
    let [kind, data @ ..] = data else { return };
    let folder = scratch();
    let path = folder.join("slots");
    let mut file = data.to_vec();
    if kind % 4 != 0 {
        let (count, slot_bytes) = (usize::from(kind % 4), 4096);
        let mut head = Vec::new();
        head.extend_from_slice(b"wwslots\0");
        for word in [1, count as u64, slot_bytes as u64] {
            head.extend_from_slice(&word.to_le_bytes());
        }
        head.resize(64, 0);
        // Records first, then what lies in the slots.
        let (records, slots) = data.split_at(data.len().min(64 * count));
        head.extend_from_slice(records);
        head.resize(4096, 0);
        head.extend_from_slice(&slots[..slots.len().min(count * slot_bytes)]);
        head.resize(4096 + count * slot_bytes, 0);
        file = head;
    }
    fs::write(&path, &file).unwrap();
    let Some(mut slots) = Slots::open(&path).unwrap() else {
        return;
    };
    let leftovers = slots.leftovers();
    for leftover in &leftovers {
        assert!(leftover.bytes.len() < file.len());
    }
    let ring = folder.join("ring");
    fs::create_dir(&ring).unwrap();
    check_recovery(&ring, &leftovers);
}

/// A record of gaps, whatever is in it, is read and added to.
pub fn gaps(data: &[u8]) {
    let folder = scratch();
    fs::write(folder.join(GAPS_FILE), data).unwrap();
    let before = read_gaps(&folder).unwrap();
    let mut log = GapLog::open(&folder, Timestamp::MIN).unwrap();
    assert_eq!(read_gaps(&folder).unwrap(), before);
    let gap = Gap {
        interface: String::from_utf8_lossy(data).into_owned(),
        from: Timestamp::from_ns(1),
        to: Timestamp::from_ns(2),
        cause: GapCause::RingFull,
    };
    log.append(&gap).unwrap();
    let after = read_gaps(&folder).unwrap();
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after.last(), Some(&gap));
}

/// Samples survive writing and reading; anything else is refused.
pub fn isb(data: &[u8]) {
    if let Some(custom) = decode_custom(data) {
        assert!(data.len() >= 32);
        std::hint::black_box(custom);
    }
    std::hint::black_box(seals(data));
    let Some((words, rest)) = data.split_first_chunk::<106>() else {
        return;
    };
    let word = |at: usize| {
        words[at * 8..]
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word))
    };
    let sample = Sample {
        at: Timestamp::from_ns(word(0)),
        start: Timestamp::from_ns(word(1)),
        counters: Counters {
            received: word(2),
            written: word(3),
            written_bytes: word(4),
            dropped_kernel: word(5),
            dropped_ring: word(6),
            dropped_iface: word(7),
            truncated: word(8),
            filtered: word(9),
        },
        detail: Detail {
            longest_gap_ns: word(10),
            clock: (words[104] & 2 == 2).then(|| ClockMark {
                synchronised: words[104] & 4 == 4,
                max_error_ns: (word(11) != u64::MAX).then(|| word(11)),
                boottime_offset_ns: word(12).cast_signed(),
            }),
            ahead_ms: u16::from(words[104]) * 257,
            assumed: words[104] & 8 == 8,
        },
        last: words[104] & 1 == 1,
    };
    let padding = usize::from(words[105]) * 4;
    let mut file = Vec::new();
    crate::pcapng::encode::section_header(&mut file, &crate::pcapng::encode::Section::default());
    let interface = crate::pcapng::encode::Interface {
        linktype: 1,
        name: "t",
        ..Default::default()
    };
    crate::pcapng::encode::interface(&mut file, &interface);
    let start = file.len();
    sample.encode(&mut file, 0, SAMPLE_LEN + padding);
    assert_eq!(file.len(), start + SAMPLE_LEN + padding);
    assert_eq!(seals(&file[start..]), sample.last);
    file.extend_from_slice(rest);
    let mut blocks = Blocks::new(&file[..]);
    for _ in 0..2 {
        blocks.next().unwrap();
    }
    let Ok(Next::Block(Block::Statistics(statistics))) = blocks.next() else {
        panic!("the sample is not read")
    };
    assert_eq!(statistics.sample(), Some(sample));
}

/// Headers that lie.
pub fn flow(data: &[u8]) {
    let [kind, longer, data @ ..] = data else {
        return;
    };
    let linktype = [1, 12, 14, 101, 113, 228, 229, 276, 0][usize::from(kind % 9)];
    let orig_len = u32::try_from(data.len()).unwrap() + u32::from(*longer) * 257;
    if let Some(sighting) = sight(linktype, data, orig_len) {
        let (key, _) = sighting.tuple.key();
        assert!(key.low <= key.high);
        if let Some(segment) = sighting.tcp {
            assert!(segment.span() <= orig_len + 2);
        }
    }
}

/// A chain of custody with anything behind any line: what is whole is read, and only a whole one
/// is continued.
pub fn chain(data: &[u8]) {
    let path = scratch().join("custody.jsonl");
    fs::write(&path, data).unwrap();
    let (before, after, broken) = crate::incident::read_and_append(&path).unwrap();
    assert_eq!(after, before + usize::from(!broken));
}

/// Echo replies, ICMP errors and DNS responses: an answer names a stamp that lies in the packet.
pub fn probe(data: &[u8]) {
    let lies = |stamp: Stamp| {
        let bytes = stamp.encode();
        assert!(data.windows(bytes.len()).any(|window| window == bytes));
    };
    for family in [Family::V4, Family::V6] {
        for raw in [false, true] {
            match decode(family, raw, data) {
                Some(Answer::Reply(stamp) | Answer::Error(stamp, _)) => lies(stamp),
                None => {}
            }
        }
        quoted(family, data).into_iter().for_each(lies);
    }
    Stamp::find(data).into_iter().for_each(lies);
    let Ok(question) = Question::new("example.com", "AAAA") else {
        return;
    };
    let id = data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    if question.decode(id, data).is_some() {
        assert!(question.decode(id ^ 1, data).is_none());
    }
}

/// The frames of a connection do not depend on the pieces it comes in.
pub fn syslog(data: &[u8]) {
    let [step, data @ ..] = data else { return };
    let whole = frames(data.chunks(data.len().max(1)));
    let pieces = frames(data.chunks(usize::from(*step) + 1));
    assert_eq!(whole, pieces);
}

fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, String) {
    let mut framer = Framer::default();
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match framer.next(&mut input) {
                Ok(Some(frame)) => {
                    assert!(frame.bytes.len() <= FRAME_BYTES_MAX);
                    found.push(frame.bytes);
                }
                Ok(None) => break,
                Err(error) => return (found, error.to_string()),
            }
        }
    }
    match framer.finish() {
        Ok(last) => {
            found.extend(last.map(|frame| frame.bytes));
            (found, String::new())
        }
        Err(error) => (found, error.to_string()),
    }
}
