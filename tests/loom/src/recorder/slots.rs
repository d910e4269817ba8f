//! The memory of slots under loom: what `src/recorder/slots.rs` is to the program. The bytes are
//! real; beside every [`GRANULE`] of them lies a cell of loom's that notices when it is read and
//! written without an order between the two.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell as Watched;
use loom::sync::atomic::AtomicU64;

use super::handover::leftover;
pub use super::handover::{Leftover, Slot, SlotFill, SlotRead};

/// As in the program.
pub const BLOCK_BYTES: usize = 4096;
/// Lengths in a model are multiples of this, so that a race is one of bytes and not of neighbours.
pub const GRANULE: usize = 64;

const RECORD_WORDS: usize = 8;

/// A word of a record. Loom lets the other thread on before an atomic access, not behind it; so a
/// store is followed by one more that changes nothing, and what the writer does after a store that
/// it should have done before shows.
#[derive(Debug)]
pub struct Word(AtomicU64);

impl Word {
    pub(super) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    pub(super) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
        self.0.fetch_add(0, Ordering::Relaxed);
    }
}

/// Slots of [`Slots::new`]'s size.
#[derive(Debug)]
pub struct Slots {
    words: Vec<Word>,
    bytes: Vec<UnsafeCell<u8>>,
    watch: Vec<Watched<()>>,
    count: usize,
    slot_bytes: usize,
}

// SAFETY: the protocol under test says who touches which bytes when; `watch` fails the model when
// it does not hold. Loom runs one thread at a time.
unsafe impl Sync for Slots {}
// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Slots {}

impl Slots {
    /// New memory.
    pub fn new(count: usize, slot_bytes: usize) -> Arc<Self> {
        let fill = |_| UnsafeCell::new(0xEE);
        Arc::new(Self {
            words: (0..count * RECORD_WORDS)
                .map(|_| Word(AtomicU64::new(0)))
                .collect(),
            bytes: (0..count * slot_bytes).map(fill).collect(),
            watch: (0..count * slot_bytes / GRANULE)
                .map(|_| Watched::new(()))
                .collect(),
            count,
            slot_bytes,
        })
    }

    /// Every slot, once.
    pub fn slots(self: &Arc<Self>) -> Vec<Slot> {
        (0..self.count)
            .map(|index| Slot::new(Arc::clone(self), index))
            .collect()
    }

    /// What a successor finds.
    pub fn leftovers(&self) -> Vec<Leftover<'_>> {
        (0..self.count)
            .filter_map(|index| leftover(self, index))
            .collect()
    }

    pub(super) fn record(&self, slot: usize, field: usize) -> &Word {
        &self.words[slot * RECORD_WORDS + field]
    }

    pub(super) fn committed(&self, slot: usize, len: usize) -> &[u8] {
        assert!(slot < self.count && len <= self.slot_bytes && len.is_multiple_of(GRANULE));
        let first = slot * self.slot_bytes / GRANULE;
        for cell in &self.watch[first..first + len / GRANULE] {
            cell.with(|_| ());
        }
        let start = self.bytes[slot * self.slot_bytes..].as_ptr().cast();
        // SAFETY: in bounds as asserted; that nobody writes meanwhile is what the cells just checked.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    #[expect(clippy::mut_from_ref, reason = "as in the program")]
    pub(super) fn uncommitted(&self, slot: usize, from: usize) -> &mut [u8] {
        assert!(slot < self.count && from <= self.slot_bytes && from.is_multiple_of(GRANULE));
        let end = (slot + 1) * self.slot_bytes;
        let start = slot * self.slot_bytes + from;
        for cell in &self.watch[start / GRANULE..end / GRANULE] {
            cell.with_mut(|_| ());
        }
        let start = self.bytes[start..].as_ptr().cast_mut().cast();
        // SAFETY: in bounds as asserted; that nobody reads meanwhile is what the cells just checked.
        unsafe { std::slice::from_raw_parts_mut(start, self.slot_bytes - from) }
    }

    pub(super) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }
}
