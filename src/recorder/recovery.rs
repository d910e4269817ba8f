//! What a recorder does before it records: makes the ring whole again.
//!
//! 1. What a killed predecessor accepted and had not written lies in its slot file: it is appended
//!    to its segments.
//! 2. A segment without its final sample (power cut) is cut after its last whole block and ended.
//! 3. A file that is not a segment, or that the disk cannot read, is moved aside into `aside/`,
//!    never deleted.
//!
//! Only file names and the two ends of each file are read; of an unfinished segment, all of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::counters::Counters;
use crate::error::{IoContext, IoError};
use crate::pcapng::isb::{ClockMark, Detail, SAMPLE_LEN, Sample, seals};
use crate::pcapng::{BLOCK_EPB, BLOCK_IDB, BLOCK_ISB, BLOCK_SHB};
use crate::recorder::segment_file::sync_folder;
use crate::recorder::slots::{BLOCK_BYTES, Leftover};
use crate::recorder::sync::{self, Site};
use crate::ring::catalog::{Catalog, SegmentFile};
use crate::ring::names::SegmentName;
use crate::time::Timestamp;

/// Where files that are not segments go, below the interface's folder.
pub const ASIDE: &str = "aside";

/// What was found and done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The ring as it now is.
    pub catalog: Catalog,
    /// Up to when it is known to be whole.
    pub until: Option<Timestamp>,
    /// When the recorder that wrote the newest segment started.
    pub run: Option<Timestamp>,
    /// Files in `aside/`.
    pub foreign: u64,
    /// Bytes brought in from the slot file.
    pub replayed_bytes: u64,
    /// Bytes cut off unfinished segments.
    pub cut_bytes: u64,
    /// What the segments stood for that were none, or that the disk cannot read any more.
    pub lost: Vec<Lost>,
}

/// A span whose segment is not in the ring any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Its first packet.
    pub from: Timestamp,
    /// The first packet of the segment behind it; `None` when it was the last.
    pub to: Option<Timestamp>,
}

/// Makes the ring in `folder` whole.
pub fn recover(folder: &Path, leftovers: &[Leftover<'_>]) -> Result<Recovered, IoError> {
    let mut recovered = Recovered::default();
    remove_hidden(folder)?;
    let known = Catalog::scan(folder)?;
    let known = known.segments().iter();
    let mut known = known
        .map(|segment| (segment.name.number, segment.path.clone()))
        .collect();
    for leftover in leftovers {
        recovered.replayed_bytes += replay(folder, leftover, &mut known)?;
    }
    let catalog = Catalog::scan(folder)?;
    for path in catalog.foreign() {
        move_aside(folder, path, "its name is not a segment's")?;
    }
    let segments = catalog.segments();
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        let Some(why) = mend(segment, next.is_none(), &mut recovered.cut_bytes)? else {
            continue;
        };
        move_aside(folder, &segment.path, &why)?;
        recovered.lost.push(Lost {
            from: segment.name.first,
            to: next.map(|next| next.name.first),
        });
    }
    sync_folder(folder)?;
    recovered.catalog = Catalog::scan(folder)?;
    let last = recovered.catalog.segments().last();
    let last = last.and_then(|last| last_sample_times(&last.path));
    (recovered.until, recovered.run) = last.unzip();
    recovered.foreign = count_aside(folder);
    Ok(recovered)
}

/// Ends a segment that needs it; why it is none, if so. One that the disk cannot read any more keeps
/// nobody from recording.
fn mend(
    segment: &SegmentFile,
    newest: bool,
    cut_bytes: &mut u64,
) -> Result<Option<String>, IoError> {
    let why = |text: &str| Ok(Some(text.to_owned()));
    match inspect(&segment.path) {
        Ok(Ends::Sealed) => Ok(None),
        Ok(Ends::Open) if newest => match end_segment(segment) {
            Ok(Some(cut)) => {
                *cut_bytes += cut;
                Ok(None)
            }
            Ok(None) => why("it is cut short before its first packet"),
            Err(error) => unreadable(error).map(Some),
        },
        Ok(Ends::Open) => why("it is cut short"),
        Ok(Ends::Foreign) => why("it does not begin as a segment"),
        Err(error) => unreadable(error).map(Some),
    }
}

/// Why a segment cannot be read, when that is the fault of its place on the disk.
fn unreadable(error: IoError) -> Result<String, IoError> {
    // EUCLEAN and EBADMSG: a file system found its own checksum wrong.
    let of_the_medium = [libc::EIO, libc::EUCLEAN, libc::EBADMSG, libc::ENODATA];
    match error.source.raw_os_error() {
        Some(code) if of_the_medium.contains(&code) && ["open", "read"].contains(&error.op) => {
            Ok(format!("the disk cannot read it: {}", error.source))
        }
        _ => Err(error),
    }
}

fn count_aside(folder: &Path) -> u64 {
    fs::read_dir(folder.join(ASIDE))
        .map_or(0, |entries| u64::try_from(entries.count()).unwrap_or(0))
}

/// Files that never got their name: their bytes are in the slot file or were never promised.
fn remove_hidden(folder: &Path) -> Result<(), IoError> {
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        let path = entry.path();
        if !is_hidden_segment(&entry.file_name()) {
            continue;
        }
        if is_file(&path)? {
            fs::remove_file(&path).at("remove", &path)?;
        } else {
            move_aside(folder, &path, "it is not a file")?;
        }
    }
    Ok(())
}

/// Whether there is a file, and not a folder, a link or a device.
fn is_file(path: &Path) -> Result<bool, IoError> {
    Ok(fs::symlink_metadata(path).at("stat", path)?.is_file())
}

fn is_hidden_segment(name: &std::ffi::OsStr) -> bool {
    let inner = name
        .to_str()
        .and_then(|name| name.strip_prefix('.')?.strip_suffix(".new"));
    inner.and_then(SegmentName::parse).is_some()
}

/// Brings in what a slot held and the disk does not; returns how many bytes.
fn replay(
    folder: &Path,
    leftover: &Leftover<'_>,
    known: &mut BTreeMap<u64, PathBuf>,
) -> Result<u64, IoError> {
    let name = SegmentName {
        number: leftover.number,
        first: leftover.first,
    };
    let path = folder.join(name.to_string());
    let before = name.number.checked_sub(1);
    let before = before.and_then(|number| known.get(&number));
    let began = LastSeen::before(name, leftover.run, before.map(PathBuf::as_path));
    known.insert(name.number, path.clone());
    let (whole, last) = whole_prefix(leftover.bytes, began);
    let Some(bytes) = leftover.bytes.get(..whole) else {
        return Ok(0);
    };
    let mut exists = fs::symlink_metadata(&path).is_ok();
    if exists && !is_file(&path)? {
        move_aside(folder, &path, "it is not a file")?;
        exists = false;
    }
    if exists {
        match inspect(&path) {
            Ok(Ends::Sealed) => return Ok(0),
            Ok(_) => {}
            Err(error) => {
                move_aside(folder, &path, &unreadable(error)?)?;
                exists = false;
            }
        }
    }
    let target = if exists {
        path.clone()
    } else {
        folder.join(format!(".{name}.new"))
    };
    let mut file = options().open(&target).at("open", &target)?;
    let on_disk = file.metadata().at("stat", &target)?.len();
    // What an interrupted recovery wrote behind the slot's bytes is written again.
    let on_disk = on_disk.min(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    file.set_len(on_disk).at("cut", &target)?;
    let from = usize::try_from(on_disk).unwrap_or(usize::MAX);
    let missing = bytes.get(from..).unwrap_or_default();
    file.seek(SeekFrom::End(0)).at("seek", &target)?;
    file.write_all(missing).at("write", &target)?;
    let len = on_disk.max(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    if !last.sealed {
        write_end(&mut file, &target, len, &last)?;
    }
    sync::whole(&file, Site::Recovered).at("fsync", &target)?;
    if !exists {
        fs::rename(&target, &path).at("rename", &target)?;
    }
    Ok(u64::try_from(missing.len()).unwrap_or(0))
}

/// Cuts a segment after its last whole block and ends it; returns how many bytes were cut, `None`
/// when nothing would be left.
fn end_segment(segment: &SegmentFile) -> Result<Option<u64>, IoError> {
    let path = &segment.path;
    let bytes = fs::read(path).at("read", path)?;
    let (whole, last) = whole_prefix(&bytes, LastSeen::before(segment.name, None, None));
    if !last.described {
        return Ok(None);
    }
    let whole = u64::try_from(whole).unwrap_or(0);
    let mut file = options().open(path).at("open", path)?;
    file.set_len(whole).at("cut", path)?;
    file.seek(SeekFrom::End(0)).at("seek", path)?;
    write_end(&mut file, path, whole, &last)?;
    sync::whole(&file, Site::Recovered).at("fsync", path)?;
    Ok(Some(segment.bytes.saturating_sub(whole)))
}

fn write_end(file: &mut File, path: &Path, len: u64, last: &LastSeen) -> Result<(), IoError> {
    let block = u64::try_from(BLOCK_BYTES).unwrap_or(4096);
    let sample_len = u64::try_from(SAMPLE_LEN).unwrap_or(0);
    let end = (len + sample_len).next_multiple_of(block);
    let mut sample = Vec::new();
    let total = usize::try_from(end - len).unwrap_or(SAMPLE_LEN);
    last.sample(true).encode(&mut sample, 0, total);
    file.write_all(&sample).at("write", path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits();
    options
        .write(true)
        .create(true)
        .mode(0o640)
        .custom_flags(i32::try_from(nofollow).unwrap_or(0));
    options
}

/// What the whole blocks of an unfinished segment say about its end.
#[derive(Debug, Clone, Copy, Default)]
struct LastSeen {
    at: Timestamp,
    start: Timestamp,
    counters: Counters,
    clock: Option<ClockMark>,
    sealed: bool,
    /// Whether packets followed the last sample: what the kernel dropped beside them nobody knows.
    assumed: bool,
    /// Whether the interface is described: without that, no packet can be read.
    described: bool,
}

impl LastSeen {
    /// What was known when the segment began: of a recorder that began at `run`, what the segment
    /// `before` ended with. Where that cannot be told, the segment stands for itself alone.
    fn before(name: SegmentName, run: Option<Timestamp>, before: Option<&Path>) -> Self {
        let mut last = Self::default();
        if let Some(block) = before.and_then(|path| last_block(&File::open(path).ok()?).ok()?) {
            read_sample(&block, &mut last);
        }
        if last.sealed && run == Some(last.start) {
            return Self {
                counters: last.counters,
                clock: last.clock,
                start: last.start,
                ..Self::default()
            };
        }
        // Behind a segment of another recorder it is the first of its own.
        let first = last.sealed || name.number <= 1;
        Self {
            start: run.filter(|_| first).unwrap_or(name.first),
            ..Self::default()
        }
    }

    fn sample(&self, last: bool) -> Sample {
        Sample {
            at: self.at,
            start: self.start,
            counters: self.counters,
            // Of what came after the last sample nobody knows the gaps; the clock is the last known.
            detail: Detail {
                longest_gap_ns: 0,
                clock: self.clock,
                ahead_ms: 0,
                assumed: self.assumed,
            },
            last,
        }
    }
}

/// The length of the whole blocks at the front of `bytes`, and what they end with. What follows
/// the last sample was written by us but not counted by the kernel's counters any more, so the
/// packets are added to both sides of the sum.
fn whole_prefix(bytes: &[u8], began: LastSeen) -> (usize, LastSeen) {
    let mut last = began;
    let mut whole = 0;
    while let Some(block) = bytes.get(whole..).and_then(first_block) {
        match word(block, 0) {
            Some(BLOCK_EPB) => {
                last.at = last.at.max(block_time(block, 12));
                last.assumed = true;
                let caplen = u64::from(word(block, 20).unwrap_or(0));
                // A damaged sample may have said anything.
                let counters = &mut last.counters;
                counters.written = counters.written.saturating_add(1);
                counters.received = counters.received.saturating_add(1);
                counters.written_bytes = counters.written_bytes.saturating_add(caplen);
                let original = u64::from(word(block, 24).unwrap_or(0));
                let cut = u64::from(original > caplen);
                counters.truncated = counters.truncated.saturating_add(cut);
            }
            Some(BLOCK_ISB) => read_sample(block, &mut last),
            Some(BLOCK_IDB) => last.described = true,
            _ => {}
        }
        whole += block.len();
    }
    (whole, last)
}

/// The first block of `bytes` if it is whole: both lengths agree.
fn first_block(bytes: &[u8]) -> Option<&[u8]> {
    let len = usize::try_from(word(bytes, 4)?).ok()?;
    if len < 12 || !len.is_multiple_of(4) {
        return None;
    }
    let block = bytes.get(..len)?;
    (word(block, len - 4) == word(block, 4)).then_some(block)
}

fn read_sample(block: &[u8], last: &mut LastSeen) {
    let value = |index: usize| {
        let at = 20 + index * 12 + 4;
        let bytes = block.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let custom = block
        .get(20 + 6 * 12 + 4..)
        .and_then(crate::pcapng::isb::decode_custom);
    let (Some(custom), [Some(ifdrop), Some(accept), Some(osdrop)]) =
        (custom, [value(2), value(3), value(4)])
    else {
        return;
    };
    last.at = last.at.max(block_time(block, 12));
    last.start = block_time(block, 24);
    last.sealed = custom.last;
    last.assumed = custom.detail.assumed;
    last.counters = Counters {
        received: accept,
        written: custom.written,
        written_bytes: custom.written_bytes,
        dropped_kernel: osdrop,
        dropped_ring: custom.dropped_ring,
        dropped_iface: ifdrop,
        truncated: custom.truncated,
        filtered: custom.filtered,
    };
    last.clock = custom.detail.clock;
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn block_time(block: &[u8], at: usize) -> Timestamp {
    let high = u64::from(word(block, at).unwrap_or(0));
    let low = u64::from(word(block, at + 4).unwrap_or(0));
    Timestamp::from_ns(high << 32 | low)
}

enum Ends {
    Sealed,
    Open,
    Foreign,
}

/// Reads the two ends of a file.
fn inspect(path: &Path) -> Result<Ends, IoError> {
    let file = File::open(path).at("open", path)?;
    let mut head = [0; 4];
    match (&file).read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Ends::Foreign),
        result => result.at("read", path)?,
    }
    if u32::from_le_bytes(head) != BLOCK_SHB {
        return Ok(Ends::Foreign);
    }
    let last = last_block(&file).at("read", path)?;
    Ok(if last.is_some_and(|block| seals(&block)) {
        Ends::Sealed
    } else {
        Ends::Open
    })
}

/// The last block of a file, if it may be a sample.
fn last_block(file: &File) -> io::Result<Option<Vec<u8>>> {
    let len = file.metadata()?.len();
    let mut tail = [0; 4];
    let Some(at) = len.checked_sub(4) else {
        return Ok(None);
    };
    file.read_exact_at(&mut tail, at)?;
    let block_len = u32::from_le_bytes(tail);
    let longest = u32::try_from(SAMPLE_LEN + BLOCK_BYTES).unwrap_or(u32::MAX);
    if block_len < 12 || block_len > longest || u64::from(block_len) > len {
        return Ok(None);
    }
    let mut block = vec![0; usize::try_from(block_len).unwrap_or(0)];
    file.read_exact_at(&mut block, len - u64::from(block_len))?;
    Ok(Some(block))
}

/// The time of the sample that ends a segment, and when its recorder started.
fn last_sample_times(path: &Path) -> Option<(Timestamp, Timestamp)> {
    let block = last_block(&File::open(path).ok()?).ok()??;
    Some((block_time(&block, 12), block_time(&block, 24)))
}

/// Keeps what is no segment where nobody takes it for one.
pub(super) fn move_aside(folder: &Path, path: &Path, why: &str) -> Result<(), IoError> {
    let aside = folder.join(ASIDE);
    fs::create_dir_all(&aside).at("create", &aside)?;
    let name = path.file_name().unwrap_or_default();
    let mut target: PathBuf = aside.join(name);
    let mut copy = 1;
    while fs::symlink_metadata(&target).is_ok() {
        copy += 1;
        let mut numbered = name.to_owned();
        numbered.push(format!(".{copy}"));
        target = aside.join(numbered);
    }
    tracing::warn!(file = %path.display(), why, kept = %target.display(), "not a whole segment; moved aside");
    fs::rename(path, &target).at("move aside", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcapng::encode::{Interface, Section, epb, epb_len, interface, section_header};

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    fn name(number: u64) -> SegmentName {
        SegmentName {
            number,
            first: at(1000),
        }
    }

    /// A segment of three packets; sealed or as the capture thread left it.
    fn segment(sealed: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        section_header(&mut bytes, &Section::default());
        interface(
            &mut bytes,
            &Interface {
                linktype: 1,
                snaplen: 65535,
                name: "t",
                ..Default::default()
            },
        );
        for i in 0..3 {
            let start = bytes.len();
            bytes.resize(start + epb_len(61), 0);
            epb(&mut bytes[start..], 0, at(1000 + i), 61, &[9; 61]).unwrap();
        }
        if sealed {
            let counters = Counters {
                received: 3,
                written: 3,
                ..Counters::default()
            };
            let total = (bytes.len() + SAMPLE_LEN).next_multiple_of(BLOCK_BYTES) - bytes.len();
            Sample {
                at: at(2000),
                start: at(1),
                counters,
                detail: Detail::default(),
                last: true,
            }
            .encode(&mut bytes, 0, total);
        }
        bytes
    }

    #[test]
    fn a_tail_cut_at_any_byte_keeps_all_whole_packets_and_invents_none() {
        let whole = segment(false);
        for cut in 4..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name(1).to_string());
            fs::write(&path, &whole[..cut]).unwrap();
            let recovered = recover(dir.path(), &[]).unwrap();
            let (blocks, last) = whole_prefix(&whole[..cut], LastSeen::default());
            if !last.described {
                assert_eq!(
                    (recovered.foreign, recovered.cut_bytes),
                    (1, 0),
                    "cut at {cut}"
                );
                continue;
            }
            let kept = fs::read(&path).unwrap();
            assert_eq!(&kept[..blocks], &whole[..blocks], "cut at {cut}");
            assert_eq!(kept.len() % BLOCK_BYTES, 0);
            assert!(matches!(inspect(&path).unwrap(), Ends::Sealed));
            assert_eq!(recovered.cut_bytes, u64::try_from(cut - blocks).unwrap());
            assert_eq!(
                recover(dir.path(), &[]).unwrap().cut_bytes,
                0,
                "twice is once"
            );
        }
    }

    #[test]
    fn a_slot_is_brought_in_wherever_the_disk_stopped() {
        let whole = segment(false);
        let leftover = Leftover {
            number: 1,
            first: at(1000),
            run: None,
            bytes: &whole,
        };
        let mut results = Vec::new();
        let torn_end = [&whole[..], &[5, 0, 0, 0, 0, 16]].concat();
        for on_disk in [
            None,
            Some(0),
            Some(100),
            Some(whole.len()),
            Some(torn_end.len()),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name(1).to_string());
            if let Some(len) = on_disk {
                fs::write(&path, &torn_end[..len]).unwrap();
            }
            // An empty file is no segment yet: its bytes are all in the slot.
            let recovered = recover(dir.path(), &[leftover]).unwrap();
            assert!(matches!(inspect(&path).unwrap(), Ends::Sealed));
            assert_eq!(recovered.until, Some(at(1002)));
            results.push(fs::read(&path).unwrap());
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    fn samples(path: &Path) -> Vec<Sample> {
        use crate::pcapng::decode::Block;
        use crate::pcapng::stream::{Blocks, Next};
        let mut blocks = Blocks::new(crate::ring::reader::open(path).unwrap());
        let mut samples = Vec::new();
        while let Ok(Next::Block(block)) = blocks.next() {
            if let Block::Statistics(statistics) = block {
                samples.extend(statistics.sample());
            }
        }
        samples
    }

    #[test]
    fn what_a_slot_held_goes_on_counting_where_its_predecessor_ended() {
        let bytes = segment(false);
        let tail = |run| Leftover {
            number: 2,
            first: at(2500),
            run,
            bytes: &bytes,
        };
        // The segment before says that its recorder began at 1 and wrote 3.
        for (before, run, start, written) in [
            (true, Some(at(1)), at(1), 6),
            (true, Some(at(2400)), at(2400), 3),
            (true, None, at(2500), 3),
            (false, Some(at(1)), at(2500), 3),
        ] {
            let dir = tempfile::tempdir().unwrap();
            if before {
                fs::write(dir.path().join(name(1).to_string()), segment(true)).unwrap();
            }
            let recovered = recover(dir.path(), &[tail(run)]).unwrap();
            assert_eq!(recovered.run, Some(start), "{before} {run:?}");
            let path = &recovered.catalog.segments().last().unwrap().path;
            let [sample] = samples(path)[..] else {
                panic!("one sample");
            };
            assert_eq!((sample.start, sample.counters.written), (start, written));
            assert_eq!(sample.counters.received, written);
            assert!(sample.last && sample.detail.assumed);
        }
    }

    #[test]
    fn what_is_moved_aside_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name(1).to_string()), b"not pcapng at all").unwrap();
        fs::write(dir.path().join(name(2).to_string()), segment(true)).unwrap();
        fs::write(dir.path().join(name(3).to_string()), &segment(false)[..40]).unwrap();
        let recovered = recover(dir.path(), &[]).unwrap();
        let lost: Vec<_> = recovered.lost.iter().map(|lost| lost.to).collect();
        assert_eq!(lost, [Some(at(1000)), None]);
    }

    #[test]
    fn a_sealed_segment_is_not_touched_by_an_older_slot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name(1).to_string());
        let sealed = segment(true);
        fs::write(&path, &sealed).unwrap();
        let stale = segment(false);
        recover(
            dir.path(),
            &[Leftover {
                number: 1,
                first: at(1000),
                run: None,
                bytes: &stale,
            }],
        )
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), sealed);
    }

    #[test]
    fn what_is_not_a_segment_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name(1).to_string()), b"not pcapng at all").unwrap();
        fs::write(dir.path().join(name(2).to_string()), &segment(false)[..200]).unwrap();
        fs::write(dir.path().join("holiday.pcapng"), b"mine").unwrap();
        fs::write(dir.path().join(name(3).to_string()), segment(true)).unwrap();
        let recovered = recover(dir.path(), &[]).unwrap();
        assert_eq!(
            (recovered.foreign, recovered.catalog.segments().len()),
            (3, 1)
        );
        assert_eq!(
            fs::read(dir.path().join("aside/holiday.pcapng")).unwrap(),
            b"mine"
        );
    }

    #[test]
    fn folders_and_links_that_are_named_as_segments_keep_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: String| dir.path().join(name);
        let hidden = path(format!(".{}.new", name(4)));
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("inside"), b"mine").unwrap();
        fs::create_dir(path(name(1).to_string())).unwrap();
        fs::create_dir(path(name(2).to_string())).unwrap();
        std::os::unix::fs::symlink("nowhere", path(name(3).to_string())).unwrap();
        let bytes = segment(false);
        let leftover = Leftover {
            number: 2,
            first: at(1000),
            run: None,
            bytes: &bytes,
        };
        let recovered = recover(dir.path(), &[leftover]).unwrap();
        assert_eq!(
            (recovered.foreign, recovered.catalog.segments().len()),
            (4, 1)
        );
        let kept = format!("aside/.{}.new/inside", name(4));
        assert_eq!(fs::read(path(kept)).unwrap(), b"mine");
    }
}
