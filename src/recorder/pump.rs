//! The pump thread: writes slots to files as soon as it may, ahead of the keeper, which waits for
//! the medium. While the keeper's sync hangs behind somebody else's in the file system's journal,
//! bytes go on leaving the slots' memory for the device.
//!
//! It answers for nothing: what it could not write, the keeper writes. But when slots are scarce, it
//! gives those back whose bytes the device has taken, before they are durable. Their files have their
//! names by then, so that a killed process loses none of them, and a power cut would have taken the
//! slots as well. What is risked are the packets of seconds in which a file system dies, for packets
//! that would be lost for certain.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender};

use crate::error::IoError;
use crate::recorder::budget::Budget;
use crate::recorder::events::{Due, Event, Remark};
use crate::recorder::held::{Held, Lead, Released};
use crate::recorder::segment_file::SegmentFile;
use crate::recorder::shared::Shared;
use crate::recorder::slots::{Slot, SlotFill};
use crate::recorder::store::Store;
use crate::ring::names::SegmentName;

/// What the keeper is told, in the order of the writer's events.
#[derive(Debug)]
pub enum Step {
    /// A segment is to be durable up to here.
    Bytes {
        /// Where its bytes are.
        ahead: Ahead,
        /// How many.
        upto: usize,
        /// Whether that is the whole segment.
        whole: bool,
        /// The time is that of the sample they end with.
        due: Due,
    },
    /// What has no bytes.
    Remark(Remark),
}

impl Step {
    /// So many bytes of a segment; of one that was never begun there are none.
    fn bytes(ahead: Option<Ahead>, upto: usize, whole: bool, due: Due) -> Self {
        match ahead {
            Some(ahead) => Self::Bytes {
                ahead,
                upto,
                whole,
                due,
            },
            None => Self::Remark(Remark::Nothing(due)),
        }
    }

    /// Whether the keeper must not wait for others before it.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Bytes { due, .. } | Self::Remark(Remark::Nothing(due)) => due.urgent,
            Self::Remark(Remark::Gap(_) | Remark::Second(_)) => false,
        }
    }
}

/// A segment's slot and the file that the pump wrote of it.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// The slot.
    pub held: Arc<Held>,
    /// The file; none when it could not be made or written, or must not be yet.
    pub file: Option<Arc<SegmentFile>>,
}

/// Steps that may wait for the keeper while slots are given back ahead of it: each holds a file open.
const BEHIND_MAX: usize = 512;

/// The pump of one capture thread.
#[derive(Debug)]
pub struct Pump {
    /// The thread's files.
    pub store: Arc<Store>,
    /// The interface's bytes.
    pub budget: Arc<Budget>,
    /// What it tells others.
    pub shared: Arc<Shared>,
    /// From the writer; ends when the writer does.
    pub events: Receiver<Event>,
    /// To the keeper.
    pub steps: Sender<Step>,
    /// Wakes the keeper where it lingers.
    pub hurry: Sender<()>,
    /// How many whole slots it may be ahead of the keeper.
    pub lead: Lead,
    /// Slots to be filled again.
    pub free: Sender<Slot>,
    /// Bytes reserved for a segment.
    pub segment_bytes: u64,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    ahead: Ahead,
    /// Left to the keeper from now on.
    left: bool,
}

/// A whole segment that the keeper may not be done with.
#[derive(Debug)]
struct Waiting {
    held: Weak<Held>,
    /// None of one that is left to the keeper.
    file: Option<Weak<SegmentFile>>,
}

/// Where the pump is.
#[derive(Debug, Default)]
struct State {
    active: Option<Active>,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    /// A write failed, and the keeper has not come that far yet.
    failed: bool,
}

impl Pump {
    /// Writes until the writer ends.
    pub fn run(self) {
        let mut state = State::default();
        for event in &self.events {
            let step = self.step(event, &mut state);
            self.release(&mut state);
            let Some(step) = step else { continue };
            let urgent = step.is_urgent() || are_scarce(&self.free);
            // The keeper ends after the pump; it waits here when the keeper is far behind.
            if self.steps.send(step).is_err() {
                return;
            }
            if urgent {
                // Full: it was told before, and has not looked since.
                self.hurry.try_send(()).unwrap_or_default();
            }
        }
    }

    fn step(&self, event: Event, state: &mut State) -> Option<Step> {
        match event {
            Event::Opened(read) => {
                let ahead = Ahead {
                    held: Arc::new(Held::new(read)),
                    file: None,
                };
                state.active = Some(Active { ahead, left: false });
                None
            }
            Event::Progress { upto, due } => {
                let ahead = self.advance(state, upto, self.segment_bytes);
                Some(Step::bytes(ahead, upto, false, due))
            }
            Event::Sealed { fill, due } => {
                let upto = fill.len();
                Some(Step::bytes(self.seal(state, fill), upto, true, due))
            }
            Event::Remark(remark) => Some(Step::Remark(remark)),
        }
    }

    /// Ends the segment being written, once the pump may be ahead by another.
    fn seal(&self, state: &mut State, fill: SlotFill) -> Option<Ahead> {
        let upto = fill.len();
        let held = Arc::clone(&state.active.as_ref()?.ahead.held);
        held.end(fill, self.lead.lease());
        let ahead = self.advance(state, upto, bytes_of(upto));
        state.active = None;
        let written = ahead.as_ref().and_then(|ahead| ahead.file.as_ref());
        state.waiting.push_back(Waiting {
            held: Arc::downgrade(&held),
            file: written.map(Arc::downgrade),
        });
        ahead
    }

    /// Gives slots back before their segments are durable, as long as few are free: oldest first, so
    /// that a power cut leaves no hole.
    fn release(&self, state: &mut State) {
        while let Some(oldest) = state.waiting.front() {
            if let Some(held) = oldest.held.upgrade() {
                match self.give_back(&held, oldest) {
                    // The writer is gone when the recorder stops; then nobody needs the slot.
                    Released::Now(slot) => drop(self.free.send(slot)),
                    Released::Before => {}
                    Released::NotYet => return,
                }
            }
            state.waiting.pop_front();
        }
    }

    fn give_back(&self, held: &Held, oldest: &Waiting) -> Released {
        let Some(file) = oldest.file.as_ref().and_then(Weak::upgrade) else {
            return held.release(|_| false);
        };
        let may = are_scarce(&self.free)
            && self.steps.len() < BEHIND_MAX
            && self.shared.disk_error().is_none();
        held.release(|bytes| may && self.is_named(&file, bytes))
    }

    /// Whether the device has all of a segment, under its name in the ring.
    fn is_named(&self, file: &SegmentFile, bytes: &[u8]) -> bool {
        if !file.is_direct() || file.written() != bytes_of(bytes.len()) {
            return false;
        }
        file.keep_sum(bytes);
        if let Err(error) = file.reveal() {
            tracing::debug!(%error, "left to the keeper");
            return false;
        }
        self.store.created(file.name(), file.written());
        self.store.sealed(file.name());
        true
    }

    /// Brings the file up to `upto` bytes, or leaves the segment to the keeper.
    fn advance(&self, state: &mut State, upto: usize, reserve: u64) -> Option<Ahead> {
        state.failed &= !self.steps.is_empty();
        let active = state.active.as_mut()?;
        // In trouble the keeper goes one step after the other, and rotates no more than it must.
        let fine = !active.left && !state.failed && self.shared.disk_error().is_none();
        if fine && (active.ahead.file.is_some() || self.budget.may_run_ahead(self.segment_bytes)) {
            if let Err(error) = self.write(&mut active.ahead, upto, reserve) {
                tracing::debug!(%error, "left to the keeper");
                state.failed = true;
                active.left = true;
            }
        } else {
            active.left = true;
        }
        if active.left {
            active.ahead.file = None;
        }
        Some(active.ahead.clone())
    }

    fn write(&self, ahead: &mut Ahead, upto: usize, reserve: u64) -> Result<(), IoError> {
        let file = if let Some(file) = &ahead.file {
            file
        } else {
            let (store, budget) = (&self.store, &self.budget);
            let made = create(
                store,
                budget,
                ahead.held.name(),
                reserve,
                self.segment_bytes,
            )?;
            ahead.file.insert(Arc::new(made))
        };
        ahead.held.append(file, upto)
    }
}

/// Whether no more than half of all slots are free.
pub(super) fn are_scarce(free: &Sender<Slot>) -> bool {
    2 * free.len() <= free.capacity().unwrap_or(0)
}

/// Makes a segment's file with room for `reserve` bytes, after older ones made room for it.
pub(super) fn create(
    store: &Store,
    budget: &Budget,
    name: SegmentName,
    reserve: u64,
    segment_bytes: u64,
) -> Result<SegmentFile, IoError> {
    // What little the disk still has is left to others, evidence among them.
    budget.make_room(segment_bytes, store.has_room(segment_bytes))?;
    let file = SegmentFile::create(store.folder(), name, reserve)?;
    store.made(name, reserve);
    Ok(file)
}

/// A length in a file.
pub(super) fn bytes_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recorder::protocol::{Gap, GapCause};
    use crate::recorder::rig::{SEGMENT, content, is_hidden, name, rig};
    use crate::time::Timestamp;

    #[test]
    fn no_more_than_its_lead_is_written_before_the_keeper_is_done_with_one() {
        let rig = rig(8, 1 << 20);
        for number in 1..=3 {
            rig.segment(number, 8192);
        }
        let pump = Pump {
            lead: Lead::of(3),
            ..rig.pump
        };
        let pumping = std::thread::spawn(move || pump.run());
        let next = || rig.steps.recv_timeout(Duration::from_millis(200));
        let (first, _second) = (next().unwrap(), next().unwrap());
        assert!(next().is_err(), "the third waits");
        let Step::Bytes { ahead, .. } = first else {
            panic!("{first:?}");
        };
        assert!(ahead.held.take().is_some());
        assert!(rig.steps.recv().is_ok());
        drop(rig.events);
        pumping.join().unwrap();
    }

    #[test]
    fn the_keeper_is_woken_for_what_somebody_waits_for_and_for_nothing_else() {
        let quiet = rig(4, 1 << 20);
        let gap = Gap {
            interface: "t".into(),
            from: Timestamp::MIN,
            to: Timestamp::MIN,
            cause: GapCause::DiskFailed,
        };
        let remark = Event::Remark(Remark::Gap(gap));
        quiet.events.send(remark).unwrap();
        drop(quiet.events);
        quiet.pump.run();
        assert_eq!(quiet.steps.len(), 1);
        assert!(quiet.keeper.hurry.try_recv().is_err());

        let waited_for = rig(4, 1 << 20);
        let _answer = waited_for.segment(1, 8192);
        drop(waited_for.events);
        waited_for.pump.run();
        assert!(waited_for.keeper.hurry.try_recv().is_ok());
    }

    #[test]
    fn segments_that_waited_are_named_in_order_and_answered() {
        let rig = rig(4, 1 << 20);
        let answers: Vec<_> = (1..=3).map(|number| rig.segment(number, 8192)).collect();
        let free = rig.free.clone();
        let (dir, store) = rig.run(|step| {
            let Step::Bytes { ahead, .. } = step else {
                return;
            };
            assert_eq!(ahead.file.as_ref().unwrap().written(), 8192, "ahead");
        });
        for number in 1..=3 {
            assert_eq!(content(&dir, number), vec![number; 8192]);
        }
        assert!(answers.iter().all(|answer| answer.try_recv().is_ok()));
        let holding = store.holding();
        assert_eq!((holding.segments, holding.bytes), (3, 3 * 8192));
        assert_eq!(store.newest(), Some(3));
        assert_eq!((store.hidden_bytes(), is_hidden(&dir)), (0, false));
        assert_eq!(free.len(), 4, "every slot came back");
    }

    #[test]
    fn scarce_slots_come_back_before_the_keeper_is_done_with_them() {
        let rig = rig(4, 1 << 20);
        let answers: Vec<_> = (1..=3).map(|number| rig.segment(number, 8192)).collect();
        let (free, folder) = (rig.free.clone(), rig.dir.path().join("ring/t"));
        let pumped = std::cell::Cell::new(false);
        let visible = |number| folder.join(name(number).to_string()).exists();
        let (dir, store) = rig.run(|_| {
            if pumped.replace(true) {
                return;
            }
            assert_eq!(free.len(), 3, "until more than half are free");
            assert_eq!([1, 2, 3].map(visible), [true, true, false]);
            let unanswered = answers.iter().all(|answer| answer.try_recv().is_err());
            assert!(unanswered, "nothing is durable yet");
        });
        for number in 1..=3 {
            assert_eq!(content(&dir, number), vec![number; 8192]);
        }
        assert!(answers.iter().all(|answer| answer.try_recv().is_ok()));
        assert_eq!(store.holding().bytes, 3 * 8192);
        assert_eq!((store.hidden_bytes(), is_hidden(&dir)), (0, false));
        assert_eq!(free.len(), 4, "every slot came back once");
    }

    #[test]
    fn no_slot_comes_back_past_one_that_is_left_to_the_keeper() {
        let rig = rig(4, 1 << 20);
        let trouble = std::io::Error::other("no");
        let trouble = IoError::new("write", rig.dir.path(), trouble);
        rig.keeper.shared.set_disk_error(Some(trouble.to_string()));
        for number in 1..=3 {
            rig.segment(number, 8192);
        }
        let free = rig.free.clone();
        let (dir, _) = rig.run(|_| assert_eq!(free.len(), 1));
        for number in 1..=3 {
            assert_eq!(content(&dir, number), vec![number; 8192]);
        }
        assert_eq!(free.len(), 4);
    }

    #[test]
    fn what_the_pump_could_not_write_the_keeper_writes() {
        let rig = rig(8, 1 << 20);
        for number in 1..=3 {
            rig.segment(number, 8192);
        }
        let (dir, store) = rig.run(|step| {
            if let Step::Bytes { ahead, .. } = step
                && ahead.held.name().number == 2
            {
                ahead.file = None;
            }
        });
        for number in 1..=3 {
            assert_eq!(content(&dir, number), vec![number; 8192]);
        }
        assert_eq!(store.holding().bytes, 3 * 8192);
        assert_eq!((store.hidden_bytes(), is_hidden(&dir)), (0, false));
    }

    #[test]
    fn of_a_small_ring_little_is_underway_at_a_time() {
        let rig = rig(20, 8 * SEGMENT);
        for number in 1..=8 {
            rig.segment(number, 16384);
        }
        let ahead = std::cell::Cell::new(0);
        let (dir, store) = rig.run(|step| {
            if let Step::Bytes { ahead: one, .. } = step {
                ahead.set(ahead.get() + u64::from(one.file.is_some()));
            }
        });
        assert_eq!(ahead.get(), 2, "a quarter");
        assert!(store.holding().bytes <= 8 * SEGMENT);
        assert_eq!(content(&dir, 8), vec![8; 16384]);
    }
}
