//! Slots: a mapped file on tmpfs, cut into pieces of one segment each.
//!
//! The capture thread encodes packets into a slot; the keeper writes the same bytes to disk. The
//! file outlives a killed process, so that its successor finds what was accepted and not yet
//! written ([`crate::recorder::recovery`]).
//!
//! Layout: one header page group, then `count` slots of `slot_bytes`. The header holds, little
//! words of 64 bit: magic, version, count, slot bytes; then from byte 64 on, 64 bytes a slot:
//! state, segment number, first packet ns, committed bytes, when its recorder began in ns.
//!
//! This file is the memory; `handover.rs` says who may touch what of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapRaw};
use rustix::fs::{Mode, OFlags};

use crate::error::{IoContext, IoError};
pub use crate::recorder::handover::{Leftover, Slot, SlotFill, SlotRead};
use crate::recorder::handover::{STATE_FREE, leftover};
use crate::recorder::mapping;

/// Everything on disk is a multiple of this: O_DIRECT's alignment on common devices, the page
/// size, and ext4's block size.
pub const BLOCK_BYTES: usize = 4096;

const MAGIC: u64 = u64::from_le_bytes(*b"wwslots\0");
const VERSION: u64 = 1;
const RECORD_WORDS: usize = 8;

/// The mapped file.
#[derive(Debug)]
pub struct Slots {
    map: MmapRaw,
    path: PathBuf,
    count: usize,
    slot_bytes: usize,
    /// Where the first slot begins.
    first_slot: usize,
}

impl Slots {
    /// Creates the file anew, replacing any other, and touches every page, so that no store into
    /// it can fail later. `slot_bytes` is rounded up to whole blocks.
    pub fn create(path: &Path, count: usize, slot_bytes: usize) -> Result<Self, IoError> {
        let slot_bytes = slot_bytes.next_multiple_of(BLOCK_BYTES);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IoError::new("replace", path, error));
            }
            _ => {}
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(
            rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).at("create", path)?,
        );
        let bytes = header_bytes(count) + count * slot_bytes;
        let len = u64::try_from(bytes).unwrap_or(u64::MAX);
        file.set_len(len).at("size", path)?;
        let slots = Self::map(&file, path, count, slot_bytes)?;
        let large = mapping::enlarge(&slots.map, bytes);
        tracing::debug!(bytes, large, "slots mapped");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)
            .at("reserve memory for", path)?;
        slots.touch(bytes);
        for (index, value) in [MAGIC, VERSION, to_u64(count), to_u64(slot_bytes)]
            .into_iter()
            .enumerate()
        {
            slots.word(index).store(value, Ordering::Release);
        }
        Ok(slots)
    }

    /// The file of a predecessor whose leftovers are on disk, with all its slots free, if it has the
    /// same measures: its memory is there already, and a restart need not wait for the kernel to
    /// clear as much anew. Otherwise one made by [`Self::create`].
    pub fn prepare(path: &Path, count: usize, slot_bytes: usize) -> Result<Self, IoError> {
        let slot_bytes = slot_bytes.next_multiple_of(BLOCK_BYTES);
        match Self::open(path)? {
            Some(old) if old.count == count && old.slot_bytes == slot_bytes => {
                for slot in 0..count {
                    old.record(slot, 0).store(STATE_FREE, Ordering::Release);
                }
                old.touch(header_bytes(count) + count * slot_bytes);
                Ok(old)
            }
            _ => Self::create(path, count, slot_bytes),
        }
    }

    /// Maps every page of the first `bytes` now rather than under a packet.
    fn touch(&self, bytes: usize) {
        for advice in [Advice::DontDump, Advice::PopulateWrite] {
            // Hints: a kernel without them gives pages later.
            if let Err(error) = self.map.advise_range(advice, 0, bytes) {
                tracing::debug!(?advice, %error, "the kernel does not take this advice");
            }
        }
    }

    /// Opens what a recorder left behind; `None` when there is nothing or it is not ours.
    pub fn open(path: &Path) -> Result<Option<Self>, IoError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            file => File::from(file.at("open", path)?),
        };
        let len = file.metadata().at("stat", path)?.len();
        if len < to_u64(BLOCK_BYTES) {
            return Ok(None);
        }
        // Map the header page alone first: the numbers that size the mapping are in it.
        let header = Self::map(&file, path, 0, 0)?;
        let [magic, version, count, slot_bytes] =
            [0, 1, 2, 3].map(|index| header.word(index).load(Ordering::Acquire));
        let (Ok(count), Ok(slot_bytes)) = (usize::try_from(count), usize::try_from(slot_bytes))
        else {
            return Ok(None);
        };
        let expected = count
            .checked_mul(slot_bytes)
            .and_then(|bytes| {
                bytes.checked_add(
                    count
                        .checked_mul(RECORD_WORDS * 8)?
                        .checked_add(2 * BLOCK_BYTES)?,
                )
            })
            .is_some_and(|_| len == to_u64(header_bytes(count) + count * slot_bytes));
        if magic != MAGIC || version != VERSION || !expected || slot_bytes % BLOCK_BYTES != 0 {
            return Ok(None);
        }
        Self::map(&file, path, count, slot_bytes).map(Some)
    }

    fn map(file: &File, path: &Path, count: usize, slot_bytes: usize) -> Result<Self, IoError> {
        let len = header_bytes(count) + count * slot_bytes;
        let map = mapping::map(file, len).at("map", path)?;
        Ok(Self {
            map,
            path: path.to_owned(),
            count,
            slot_bytes,
            first_slot: header_bytes(count),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a dead recorder left, in order of segment numbers. Takes the whole mapping, so that no
    /// slot of it can be in use.
    pub fn leftovers(&mut self) -> Vec<Leftover<'_>> {
        let mut found: Vec<Leftover<'_>> = (0..self.count)
            .filter_map(|index| leftover(self, index))
            .collect();
        found.sort_unstable_by_key(|leftover| leftover.number);
        found
    }

    /// Hands out every slot, once.
    pub fn into_slots(self) -> Vec<Slot> {
        let slots = Arc::new(self);
        (0..slots.count)
            .map(|index| Slot::new(Arc::clone(&slots), index))
            .collect()
    }

    /// A word of a slot's record.
    #[inline]
    pub(super) fn record(&self, slot: usize, field: usize) -> &AtomicU64 {
        self.word(8 + slot * RECORD_WORDS + field)
    }

    #[inline]
    #[expect(
        unsafe_code,
        reason = "atomics in mapped memory, shared with a successor process"
    )]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(
            (index + 1) * 8 <= self.map.len(),
            "header word {index} lies outside the mapping"
        );
        // SAFETY: the index was just checked against the mapping's length, which `map` backs with
        // a file of at least that length (`fallocate`d in a 0700 directory of ours, truncated by
        // nobody), so the offset stays inside one allocation.
        let word = unsafe { self.map.as_mut_ptr().add(index * 8) };
        // SAFETY: the address is page-aligned plus a multiple of 8, inside the mapping, and is
        // only ever accessed as an AtomicU64; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// The first `len` bytes of a slot. The caller upholds that they are committed.
    #[expect(unsafe_code, reason = "a view into mapped memory")]
    pub(super) fn committed(&self, slot: usize, len: usize) -> &[u8] {
        assert!(
            slot < self.count && len <= self.slot_bytes,
            "slot {slot} has no {len} bytes"
        );
        // SAFETY: slot and length were just checked, so the offset is inside the mapping.
        let start = unsafe { self.map.as_mut_ptr().add(self.offset(slot)) };
        // SAFETY: `len` bytes from `start` are inside the mapping. They are committed: the one
        // `SlotFill` of this slot writes only beyond `committed`, which it raised past them with
        // Release before we loaded it with Acquire, and the slot is begun again only by a `Slot`,
        // which takes back the `SlotRead` (or, in `leftovers`, the `&mut self`) that borrows here.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The bytes of a slot from `from` on. The caller is the slot's one `SlotFill`.
    #[inline]
    #[expect(
        unsafe_code,
        clippy::mut_from_ref,
        reason = "disjoint views of mapped memory by protocol"
    )]
    pub(super) fn uncommitted(&self, slot: usize, from: usize) -> &mut [u8] {
        assert!(
            slot < self.count && from <= self.slot_bytes,
            "slot {slot} has no byte {from}"
        );
        // SAFETY: slot and offset were just checked, so the address is inside the mapping.
        let start = unsafe { self.map.as_mut_ptr().add(self.offset(slot) + from) };
        // SAFETY: the rest of the slot is inside the mapping. `from` is what the fill has
        // taken, no less than what it committed, so no `SlotRead` sees these bytes, and `SlotFill` is neither Clone nor shared:
        // its `tail` borrows it mutably for as long as this slice lives.
        unsafe { std::slice::from_raw_parts_mut(start, self.slot_bytes - from) }
    }

    /// Bytes of a slot.
    pub(super) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    #[inline]
    fn offset(&self, slot: usize) -> usize {
        self.first_slot + slot * self.slot_bytes
    }
}

fn header_bytes(count: usize) -> usize {
    ((8 + count * RECORD_WORDS) * 8).next_multiple_of(BLOCK_BYTES)
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn a_successor_finds_what_was_committed_and_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let mut slots = Slots::create(&path, 3, 8192).unwrap().into_slots();
        let (mut fill, read) =
            slots
                .pop()
                .unwrap()
                .begin(7, Timestamp::from_ns(70), Timestamp::MIN);
        fill.tail()[..5].copy_from_slice(b"hello");
        fill.advance(5);
        fill.publish();
        fill.tail()[..4].copy_from_slice(b"lost");
        let (mut done, done_read) =
            slots
                .pop()
                .unwrap()
                .begin(6, Timestamp::from_ns(60), Timestamp::MIN);
        done.advance(9);
        done.publish();
        drop(Slot::rejoin(done, done_read));
        assert_eq!(read.bytes(), b"hello");

        let mut left = Slots::open(&path).unwrap().unwrap();
        let found = left.leftovers();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].number, found[0].first.as_ns(), found[0].bytes),
            (7, 70, &b"hello"[..])
        );
    }

    #[test]
    fn a_file_that_is_not_ours_is_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        assert!(Slots::open(&path).unwrap().is_none());
        for content in [vec![0; 100], vec![0xFF; 8192]] {
            std::fs::write(&path, content).unwrap();
            assert!(Slots::open(&path).unwrap().is_none());
        }
        drop(Slots::create(&path, 2, 4096).unwrap());
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(8192)
            .unwrap();
        assert!(Slots::open(&path).unwrap().is_none(), "cut short");
    }

    #[test]
    fn a_slot_is_full_at_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = Slots::create(&dir.path().join("slots"), 1, 5000)
            .unwrap()
            .into_slots();
        let (mut fill, _read) = slots
            .pop()
            .unwrap()
            .begin(0, Timestamp::MIN, Timestamp::MIN);
        assert_eq!((fill.room(), fill.tail().len()), (8192, 8192));
        fill.advance(8192);
        fill.publish();
        assert_eq!((fill.room(), fill.tail().len()), (0, 0));
    }

    // A reused file must be as good as a new one.
    #[test]
    fn a_file_of_the_same_measures_is_used_again_with_all_slots_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
        let begin = |number| {
            let slots = Slots::prepare(&path, 2, 8192).unwrap().into_slots();
            let slot = slots.into_iter().next().unwrap();
            let (mut fill, _) = slot.begin(number, Timestamp::from_ns(number), Timestamp::MIN);
            fill.tail()[..4].fill(7);
            fill.advance(4);
            fill.publish();
        };
        begin(1);
        let first = inode();
        assert_eq!(Slots::open(&path).unwrap().unwrap().leftovers().len(), 1);
        begin(2);
        assert_eq!(inode(), first);
        let mut slots = Slots::open(&path).unwrap().unwrap();
        let numbers: Vec<u64> = slots.leftovers().iter().map(|left| left.number).collect();
        assert_eq!(numbers, [2]);
        drop(Slots::prepare(&path, 3, 8192).unwrap());
        assert_ne!(inode(), first, "of other measures");
    }
}
