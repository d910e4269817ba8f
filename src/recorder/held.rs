//! A segment's bytes in memory: its slot, until somebody gives it back.
//!
//! Two threads may: the keeper, when the segment is on the medium; and, when slots are scarce, the
//! pump, when the device has all of it and it has its name. From then on nobody can write it anew,
//! so a keeper that means to claims it first.

use std::sync::{Mutex, TryLockError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::IoError;
use crate::recorder::segment_file::SegmentFile;
use crate::recorder::shared::lock;
use crate::recorder::slots::{Slot, SlotFill, SlotRead};
use crate::ring::names::SegmentName;

/// A segment and what of its slot is still held for it.
#[derive(Debug)]
pub struct Held {
    name: SegmentName,
    hold: Mutex<Hold>,
}

#[derive(Debug)]
struct Hold {
    slot: Halves,
    /// The keeper writes it from the slot.
    claimed: bool,
}

#[derive(Debug)]
enum Halves {
    Filling(SlotRead),
    Whole(SlotRead, SlotFill, Lease),
    GivenBack,
}

impl Held {
    /// A segment that was opened.
    pub fn new(read: SlotRead) -> Self {
        let name = SegmentName {
            number: read.number(),
            first: read.first(),
        };
        let hold = Hold {
            slot: Halves::Filling(read),
            claimed: false,
        };
        Self {
            name,
            hold: Mutex::new(hold),
        }
    }

    /// Its name.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// It is whole.
    pub fn end(&self, fill: SlotFill, lease: Lease) {
        let hold = &mut *lock(&self.hold);
        if let Halves::Filling(read) = std::mem::replace(&mut hold.slot, Halves::GivenBack) {
            hold.slot = Halves::Whole(read, fill, lease);
        }
    }

    /// Appends its bytes up to `upto` to its file, from where the file ends.
    pub fn append(&self, file: &SegmentFile, upto: usize) -> Result<(), IoError> {
        let hold = lock(&self.hold);
        let written = usize::try_from(file.written()).unwrap_or(usize::MAX);
        let missing = hold.bytes().get(written..upto).unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        file.append(missing)
    }

    /// From now on the keeper writes it from the slot, and nobody else gives that back; false when
    /// somebody has.
    pub fn claim(&self) -> bool {
        let hold = &mut *lock(&self.hold);
        hold.claimed = !hold.is_gone();
        hold.claimed
    }

    /// The slot of a segment that is on the medium, unless it was given back before.
    pub fn take(&self) -> Option<Slot> {
        lock(&self.hold).take()
    }

    /// The slot of a whole segment, if `sure` says of its bytes that they are not needed any more.
    pub fn release(&self, sure: impl FnOnce(&[u8]) -> bool) -> Released {
        let mut hold = match self.hold.try_lock() {
            Ok(hold) => hold,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The keeper is writing from it.
            Err(TryLockError::WouldBlock) => return Released::NotYet,
        };
        if hold.is_gone() {
            return Released::Before;
        }
        if hold.claimed || !hold.is_whole() || !sure(hold.bytes()) {
            return Released::NotYet;
        }
        hold.take().map_or(Released::Before, Released::Now)
    }
}

/// What came of [`Held::release`].
#[derive(Debug)]
pub enum Released {
    /// Here it is.
    Now(Slot),
    /// Somebody else gave it back.
    Before,
    /// It is needed.
    NotYet,
}

impl Hold {
    fn bytes(&self) -> &[u8] {
        match &self.slot {
            Halves::Filling(read) | Halves::Whole(read, ..) => read.bytes(),
            Halves::GivenBack => &[],
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self.slot, Halves::Whole(..))
    }

    fn is_gone(&self) -> bool {
        matches!(self.slot, Halves::GivenBack)
    }

    fn take(&mut self) -> Option<Slot> {
        match std::mem::replace(&mut self.slot, Halves::GivenBack) {
            Halves::Whole(read, fill, _lease) => Some(Slot::rejoin(fill, read)),
            other => {
                self.slot = other;
                None
            }
        }
    }
}

/// How many whole segments may be held at a time.
#[derive(Debug)]
pub struct Lead {
    taken: Sender<()>,
    given_back: Receiver<()>,
}

/// One of them; ends when dropped.
#[derive(Debug)]
pub struct Lease(Receiver<()>);

impl Lead {
    /// Of so many slots.
    ///
    /// On a slow device the keeper's few small writes stand behind each of the pump's large ones:
    /// with all slots written and none named nothing could be freed, and the device would have
    /// nothing to do while the keeper catches up.
    pub fn of(slots: usize) -> Self {
        let (taken, given_back) = bounded((slots * 3 / 4).max(1));
        Self { taken, given_back }
    }

    /// Waits for one.
    pub fn lease(&self) -> Lease {
        // Both ends are ours: it cannot fail.
        let taken = self.taken.send(());
        debug_assert!(taken.is_ok());
        Lease(self.given_back.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let given_back = self.0.try_recv();
        debug_assert!(given_back.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::slots::Slots;
    use crate::time::Timestamp;

    /// A segment of four bytes that is not whole yet, in a slot that is the only one.
    fn filling() -> (Held, SlotFill, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::create(&dir.path().join("slots"), 1, 4096).unwrap();
        let slot = slots.into_slots().pop().unwrap();
        let (mut fill, read) = slot.begin(7, Timestamp::from_ns(70), Timestamp::MIN);
        fill.tail()[..4].fill(1);
        fill.advance(4);
        fill.publish();
        (Held::new(read), fill, dir)
    }

    /// A whole one.
    fn held_by(lead: &Lead) -> (Held, tempfile::TempDir) {
        let (held, fill, dir) = filling();
        held.end(fill, lead.lease());
        (held, dir)
    }

    #[test]
    fn a_slot_is_given_back_once_when_it_is_whole_and_nobody_needs_it() {
        let (filling, _fill, _dir) = filling();
        assert!(matches!(filling.release(|_| true), Released::NotYet));
        assert!(filling.take().is_none());
        let (whole, _dir) = held_by(&Lead::of(1));
        let unsure = whole.release(|bytes| bytes != [1; 4]);
        assert!(matches!(unsure, Released::NotYet));
        assert!(matches!(whole.release(|_| true), Released::Now(_)));
        assert!(matches!(whole.release(|_| true), Released::Before));
        assert!(whole.take().is_none());
        assert!(!whole.claim(), "too late");
    }

    #[test]
    fn a_claimed_slot_stays_until_the_keeper_gives_it_back() {
        let (held, _dir) = held_by(&Lead::of(1));
        assert!(held.claim());
        assert!(matches!(held.release(|_| true), Released::NotYet));
        assert!(held.take().is_some());
    }

    #[test]
    fn a_lease_ends_with_its_slot_or_its_segment() {
        let lead = Lead::of(4);
        let segments: Vec<_> = (0..3).map(|_| held_by(&lead)).collect();
        assert!(lead.taken.is_full());
        assert!(segments[0].0.take().is_some());
        assert_eq!(lead.taken.len(), 2);
        drop(segments);
        assert!(lead.taken.is_empty());
        let rooms = [1, 2, 8, 64].map(|slots| Lead::of(slots).taken.capacity());
        assert_eq!(rooms, [1, 1, 6, 48].map(Some));
    }
}
