//! What a recorder does before it records: makes the ring whole again.
//!
//! 1. What a killed predecessor accepted and had not written lies in its slot file: it is appended
//!    to its segments.
//! 2. A segment without its final sample (power cut) is cut after its last whole block and ended.
//! 3. A file that is not a segment is moved aside into `aside/`, never deleted.
//!
//! Only file names and the two ends of each file are read; of an unfinished segment, all of it.

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
}

/// Makes the ring in `folder` whole.
pub fn recover(folder: &Path, leftovers: &[Leftover<'_>]) -> Result<Recovered, IoError> {
    let mut recovered = Recovered::default();
    remove_hidden(folder)?;
    for leftover in leftovers {
        recovered.replayed_bytes += replay(folder, leftover)?;
    }
    let catalog = Catalog::scan(folder)?;
    for path in catalog.foreign() {
        move_aside(folder, path, "its name is not a segment's")?;
    }
    let newest = catalog.segments().last().map(|segment| segment.name.number);
    for segment in catalog.segments() {
        match inspect(&segment.path)? {
            Ends::Sealed => {}
            Ends::Open if Some(segment.name.number) == newest => {
                recovered.cut_bytes += end_segment(folder, segment)?;
            }
            Ends::Open => move_aside(folder, &segment.path, "it is cut short")?,
            Ends::Foreign => move_aside(folder, &segment.path, "it does not begin as a segment")?,
        }
    }
    sync_folder(folder)?;
    recovered.catalog = Catalog::scan(folder)?;
    let last = recovered.catalog.segments().last();
    let last = last.and_then(|last| last_sample_times(&last.path));
    (recovered.until, recovered.run) = last.unzip();
    recovered.foreign = count_aside(folder);
    Ok(recovered)
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
fn replay(folder: &Path, leftover: &Leftover<'_>) -> Result<u64, IoError> {
    let name = SegmentName {
        number: leftover.number,
        first: leftover.first,
    };
    let path = folder.join(name.to_string());
    let (whole, last) = whole_prefix(leftover.bytes);
    let Some(bytes) = leftover.bytes.get(..whole) else {
        return Ok(0);
    };
    let mut exists = fs::symlink_metadata(&path).is_ok();
    if exists && !is_file(&path)? {
        move_aside(folder, &path, "it is not a file")?;
        exists = false;
    }
    if exists && matches!(inspect(&path)?, Ends::Sealed) {
        return Ok(0);
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

/// Cuts a segment after its last whole block and ends it; returns how many bytes were cut.
fn end_segment(folder: &Path, segment: &SegmentFile) -> Result<u64, IoError> {
    let path = &segment.path;
    let bytes = fs::read(path).at("read", path)?;
    let (whole, last) = whole_prefix(&bytes);
    if !last.described {
        move_aside(folder, path, "it is cut short before its first packet")?;
        return Ok(0);
    }
    let whole = u64::try_from(whole).unwrap_or(0);
    let mut file = options().open(path).at("open", path)?;
    file.set_len(whole).at("cut", path)?;
    file.seek(SeekFrom::End(0)).at("seek", path)?;
    write_end(&mut file, path, whole, &last)?;
    sync::whole(&file, Site::Recovered).at("fsync", path)?;
    Ok(segment.bytes.saturating_sub(whole))
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
    /// Whether the interface is described: without that, no packet can be read.
    described: bool,
}

impl LastSeen {
    fn sample(&self, last: bool) -> Sample {
        Sample {
            at: self.at,
            start: self.start,
            counters: self.counters,
            // Of what came after the last sample nobody knows the gaps; the clock is the last known.
            detail: Detail {
                longest_gap_ns: 0,
                clock: self.clock,
            },
            last,
        }
    }
}

/// The length of the whole blocks at the front of `bytes`, and what they end with. What follows
/// the last sample was written by us but not counted by the kernel's counters any more, so the
/// packets are added to both sides of the sum.
fn whole_prefix(bytes: &[u8]) -> (usize, LastSeen) {
    let mut last = LastSeen::default();
    let mut whole = 0;
    while let Some(block) = bytes.get(whole..).and_then(first_block) {
        match word(block, 0) {
            Some(BLOCK_EPB) => {
                last.at = last.at.max(block_time(block, 12));
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
            let (blocks, last) = whole_prefix(&whole[..cut]);
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
