//! Who may touch what of a slot, between two threads and across the death of a process.
//!
//! A [`Slot`] is the right to a whole slot. [`Slot::begin`] splits it into a [`SlotFill`], the
//! only writer, of bytes beyond `committed`, and a [`SlotRead`], which sees only the bytes
//! below `committed`, which no one writes any more. Both are needed to make it a [`Slot`] again.
//!
//! `tests/loom` compiles this very file and the writer's over a memory that notices races, and
//! runs them through every order of two threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pcapng::copy::settle;
use crate::recorder::slots::Slots;
use crate::time::Timestamp;

// The words of a slot's record.
const STATE: usize = 0;
const NUMBER: usize = 1;
const FIRST: usize = 2;
const COMMITTED: usize = 3;
const RUN: usize = 4;

pub(super) const STATE_FREE: u64 = 0;
const STATE_FILLING: u64 = 1;
const STATE_SEALED: u64 = 2;

/// What a slot held when its recorder died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover<'a> {
    /// The segment's number.
    pub number: u64,
    /// Its first packet.
    pub first: Timestamp,
    /// When the recorder that filled it began on the interface; `None` when it did not say so.
    pub run: Option<Timestamp>,
    /// Whole blocks, from the Section Header Block on.
    pub bytes: &'a [u8],
}

/// What a slot of a dead recorder holds; `None` when it was free or nothing was committed.
pub(super) fn leftover(slots: &Slots, index: usize) -> Option<Leftover<'_>> {
    let load = |field| slots.record(index, field).load(Ordering::Acquire);
    if load(STATE) == STATE_FREE {
        return None;
    }
    let committed = usize::try_from(load(COMMITTED)).unwrap_or(0);
    let bytes = slots.committed(index, committed.min(slots.slot_bytes()));
    (!bytes.is_empty()).then(|| Leftover {
        number: load(NUMBER),
        first: Timestamp::from_ns(load(FIRST)),
        run: Some(load(RUN))
            .filter(|run| *run != 0)
            .map(Timestamp::from_ns),
        bytes,
    })
}

/// The right to one whole slot.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    index: usize,
}

impl Slot {
    /// The right to a slot. The caller hands it out once.
    pub(super) fn new(slots: Arc<Slots>, index: usize) -> Self {
        Self { slots, index }
    }

    /// Opens the slot for a segment of the recorder that began at `run`.
    pub fn begin(self, number: u64, first: Timestamp, run: Timestamp) -> (SlotFill, SlotRead) {
        let record = |field| self.slots.record(self.index, field);
        record(COMMITTED).store(0, Ordering::Release);
        record(NUMBER).store(number, Ordering::Release);
        record(FIRST).store(first.as_ns(), Ordering::Release);
        record(RUN).store(run.as_ns(), Ordering::Release);
        record(STATE).store(STATE_FILLING, Ordering::Release);
        let fill = SlotFill {
            slots: Arc::clone(&self.slots),
            index: self.index,
            len: 0,
        };
        let read = SlotRead {
            slots: self.slots,
            index: self.index,
            number,
            first,
        };
        (fill, read)
    }

    /// Puts the two halves of a slot together again and marks it free: what it held is on disk.
    ///
    /// # Panics
    /// When the halves belong to different slots, which no caller can bring about by bad input.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking both halves is what makes it safe"
    )]
    pub fn rejoin(fill: SlotFill, read: SlotRead) -> Self {
        assert!(
            fill.index == read.index && Arc::ptr_eq(&fill.slots, &read.slots),
            "halves of different slots"
        );
        read.slots
            .record(read.index, STATE)
            .store(STATE_FREE, Ordering::Release);
        Self {
            slots: fill.slots,
            index: fill.index,
        }
    }
}

/// The writing half of an open slot.
#[derive(Debug)]
pub struct SlotFill {
    slots: Arc<Slots>,
    index: usize,
    len: usize,
}

impl SlotFill {
    /// The bytes not taken yet.
    #[inline]
    pub fn tail(&mut self) -> &mut [u8] {
        self.slots.uncommitted(self.index, self.len)
    }

    /// Takes the first `bytes` of [`Self::tail`]. The reading half and a successor see them after
    /// [`Self::publish`].
    #[inline]
    pub fn advance(&mut self, bytes: usize) {
        self.len = (self.len + bytes).min(self.slots.slot_bytes());
    }

    /// Commits what was taken: from now on it survives the process.
    #[inline]
    pub fn publish(&mut self) {
        settle();
        self.slots.record(self.index, COMMITTED).store(
            u64::try_from(self.len).unwrap_or(u64::MAX),
            Ordering::Release,
        );
    }

    /// Bytes taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes free.
    #[inline]
    pub fn room(&self) -> usize {
        self.slots.slot_bytes() - self.len
    }

    /// Marks the segment whole.
    pub fn seal(&mut self) {
        self.slots
            .record(self.index, STATE)
            .store(STATE_SEALED, Ordering::Release);
    }
}

/// The reading half of an open slot.
#[derive(Debug)]
pub struct SlotRead {
    slots: Arc<Slots>,
    index: usize,
    number: u64,
    first: Timestamp,
}

impl SlotRead {
    /// What is committed.
    pub fn bytes(&self) -> &[u8] {
        let len = self
            .slots
            .record(self.index, COMMITTED)
            .load(Ordering::Acquire);
        self.slots.committed(
            self.index,
            usize::try_from(len)
                .unwrap_or(0)
                .min(self.slots.slot_bytes()),
        )
    }

    /// The segment's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its first packet.
    pub fn first(&self) -> Timestamp {
        self.first
    }
}
