//! The pump thread: writes slots to files as soon as it may, ahead of the keeper, which waits for
//! the medium. While the keeper's sync hangs behind somebody else's in the file system's journal,
//! bytes go on leaving the slots' memory for the device.
//!
//! It answers for nothing: what it could not write, the keeper writes.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::error::IoError;
use crate::recorder::budget::Budget;
use crate::recorder::segment_file::SegmentFile;
use crate::recorder::shared::Shared;
use crate::recorder::slots::{SlotFill, SlotRead};
use crate::recorder::store::Store;
use crate::recorder::writer::{Done, Event, Remark};
use crate::ring::names::SegmentName;
use crate::time::Timestamp;

/// What the keeper is told, in the order of the writer's events.
#[derive(Debug)]
pub enum Step {
    /// A segment is to be durable up to here.
    Blocks {
        /// Where its bytes are.
        ahead: Ahead,
        /// Bytes.
        upto: usize,
        /// Time of the sample they end with.
        at: Timestamp,
        /// Who waits for it.
        done: Vec<Done>,
    },
    /// A segment is whole.
    Sealed {
        /// Where its bytes are.
        ahead: Ahead,
        /// The slot's writing half.
        fill: SlotFill,
        /// Time of the final sample.
        at: Timestamp,
        /// Who waits for it.
        done: Vec<Done>,
    },
    /// What has no bytes.
    Remark(Remark),
}

/// A segment's slot and the file that the pump wrote of it.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// The slot.
    pub read: Arc<SlotRead>,
    /// The file; none when it could not be made or written, or must not be yet.
    pub file: Option<Arc<SegmentFile>>,
}

impl Ahead {
    /// The segment's name.
    pub fn name(&self) -> SegmentName {
        SegmentName {
            number: self.read.number(),
            first: self.read.first(),
        }
    }
}

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
    /// A token for each whole segment that the keeper is not done with; its room is the pump's lead.
    pub lead: Sender<()>,
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

/// Where the pump is.
#[derive(Debug, Default)]
struct State {
    active: Option<Active>,
    /// A write failed, and the keeper has not come that far yet.
    failed: bool,
}

impl Pump {
    /// Writes until the writer ends.
    pub fn run(self) {
        let mut state = State::default();
        for event in &self.events {
            let Some(step) = self.step(event, &mut state) else {
                continue;
            };
            // The keeper ends after the pump; it waits here when the keeper is far behind.
            if self.steps.send(step).is_err() {
                return;
            }
        }
    }

    fn step(&self, event: Event, state: &mut State) -> Option<Step> {
        match event {
            Event::Opened(read) => {
                let ahead = Ahead {
                    read: Arc::new(read),
                    file: None,
                };
                state.active = Some(Active { ahead, left: false });
                None
            }
            Event::Progress { upto, at, done } => {
                let ahead = self.advance(state, upto, self.segment_bytes);
                Some(match ahead {
                    Some(ahead) => Step::Blocks {
                        ahead,
                        upto,
                        at,
                        done,
                    },
                    None => Step::Remark(Remark::Nothing { at, done }),
                })
            }
            Event::Sealed { fill, at, done } => {
                let upto = fill.len();
                if state.active.is_some() && self.lead.send(()).is_err() {
                    tracing::debug!("there is no keeper any more");
                }
                let ahead = self.advance(state, upto, bytes_of(upto));
                state.active = None;
                Some(match ahead {
                    Some(ahead) => Step::Sealed {
                        ahead,
                        fill,
                        at,
                        done,
                    },
                    None => Step::Remark(Remark::Nothing { at, done }),
                })
            }
            Event::Remark(remark) => Some(Step::Remark(remark)),
        }
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
            let made = create(store, budget, ahead.name(), reserve, self.segment_bytes)?;
            ahead.file.insert(Arc::new(made))
        };
        append(file, &ahead.read, upto)
    }
}

/// How many whole segments the pump may be ahead of the keeper, of so many slots. On a slow device the
/// keeper's few small writes stand behind each of the pump's large ones: with all slots written and none
/// named nothing can be freed, and the device has nothing to do while the keeper catches up.
pub(super) fn lead(slots: usize) -> usize {
    (slots * 3 / 4).max(1)
}

/// Appends a slot's bytes up to `upto` to its file.
pub(super) fn append(file: &SegmentFile, read: &SlotRead, upto: usize) -> Result<(), IoError> {
    let written = usize::try_from(file.written()).unwrap_or(usize::MAX);
    let bytes = read.bytes().get(written..upto).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(());
    }
    file.append(bytes)
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
    use std::fs;
    use std::sync::Mutex;

    use crossbeam_channel::{bounded, unbounded};

    use super::*;
    use crate::recorder::gaps::GapLog;
    use crate::recorder::keeper::Keeper;
    use crate::recorder::seconds::SecondsLog;
    use crate::recorder::slots::{Slot, Slots};
    use crate::ring::catalog::Catalog;
    use crate::ring::names::Member;

    const SEGMENT: u64 = 16384;

    struct Rig {
        pump: Pump,
        keeper: Keeper,
        steps: Receiver<Step>,
        events: Sender<Event>,
        free: Receiver<Slot>,
        dir: tempfile::TempDir,
        _running: Sender<()>,
    }

    fn rig(slots: usize, size: u64) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (ring, incidents) = (dir.path().join("ring"), dir.path().join("incidents"));
        fs::create_dir_all(ring.join("t")).unwrap();
        let store = Arc::new(Store::new(&ring, "t", &incidents, &Catalog::default()));
        let budget = Arc::new(Budget::new(vec![Arc::clone(&store)], 1, size));
        let shared = Arc::new(Shared::new("t", Member::ALONE).unwrap());
        let (give, free) = bounded(slots);
        let bytes = usize::try_from(SEGMENT).unwrap();
        let memory = Slots::create(&dir.path().join("slots"), slots, bytes).unwrap();
        for slot in memory.into_slots() {
            give.send(slot).unwrap();
        }
        let (events, told) = unbounded();
        let (pumped, steps) = unbounded();
        let (ahead, behind) = bounded(slots);
        let (running, stopping) = bounded(0);
        let pump = Pump {
            store: Arc::clone(&store),
            budget: Arc::clone(&budget),
            shared: Arc::clone(&shared),
            events: told,
            steps: pumped,
            lead: ahead,
            segment_bytes: SEGMENT,
        };
        let keeper = Keeper {
            gaps: Mutex::new(GapLog::open(store.folder(), Timestamp::MIN).unwrap()),
            seconds: Mutex::new(SecondsLog::new(store.folder())),
            store,
            budget,
            shared,
            steps: steps.clone(),
            free: give,
            lead: behind,
            segment_bytes: SEGMENT,
            stopping,
        };
        Rig {
            pump,
            keeper,
            steps,
            events,
            free,
            dir,
            _running: running,
        }
    }

    impl Rig {
        /// A whole segment, all of one byte.
        fn segment(&self, number: u8, bytes: usize) -> Receiver<()> {
            let at = Timestamp::from_ns(u64::from(number));
            let slot = self.free.try_recv().unwrap();
            let (mut fill, read) = slot.begin(u64::from(number), at);
            self.events.send(Event::Opened(read)).unwrap();
            fill.tail()[..bytes].fill(number);
            fill.advance(bytes);
            fill.publish();
            fill.seal();
            let (done, answer) = bounded(1);
            let done = vec![done];
            self.events.send(Event::Sealed { fill, at, done }).unwrap();
            answer
        }

        /// Lets the pump do all there is, then `between` to what it says, then the keeper.
        fn run(self, between: impl Fn(&mut Step)) -> (tempfile::TempDir, Arc<Store>) {
            drop(self.events);
            let store = Arc::clone(&self.keeper.store);
            self.pump.run();
            let mut steps: Vec<Step> = self.steps.try_iter().collect();
            let (send, receive) = unbounded();
            for mut step in steps.drain(..) {
                between(&mut step);
                send.send(step).unwrap();
            }
            drop(send);
            let keeper = Keeper {
                steps: receive,
                ..self.keeper
            };
            keeper.run();
            (self.dir, store)
        }
    }

    fn content(dir: &tempfile::TempDir, number: u8) -> Vec<u8> {
        let name = SegmentName {
            number: u64::from(number),
            first: Timestamp::from_ns(u64::from(number)),
        };
        fs::read(dir.path().join("ring/t").join(name.to_string())).unwrap()
    }

    fn is_hidden(dir: &tempfile::TempDir) -> bool {
        let entries = fs::read_dir(dir.path().join("ring/t")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| {
            let name = name.to_string_lossy();
            name.starts_with('.') && name.contains("pcapng")
        })
    }

    #[test]
    fn no_more_than_its_lead_is_written_before_the_keeper_is_done_with_one() {
        assert_eq!([1, 2, 8, 64].map(lead), [1, 1, 6, 48]);
        let rig = rig(4, 1 << 20);
        for number in 1..=3 {
            rig.segment(number, 8192);
        }
        let (tokens, taken) = bounded(2);
        let pump = Pump {
            lead: tokens,
            ..rig.pump
        };
        let pumping = std::thread::spawn(move || pump.run());
        let soon = std::time::Duration::from_millis(200);
        let next = || rig.steps.recv_timeout(soon);
        assert!(next().is_ok() && next().is_ok());
        assert!(next().is_err(), "the third waits");
        taken.recv().unwrap();
        assert!(rig.steps.recv().is_ok());
        drop(rig.events);
        pumping.join().unwrap();
    }

    #[test]
    fn segments_that_waited_are_named_in_order_and_answered() {
        let rig = rig(4, 1 << 20);
        let answers: Vec<_> = (1..=3).map(|number| rig.segment(number, 8192)).collect();
        let free = rig.free.clone();
        let (dir, store) = rig.run(|step| {
            let Step::Sealed { ahead, .. } = step else {
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
    fn what_the_pump_could_not_write_the_keeper_writes() {
        let rig = rig(4, 1 << 20);
        for number in 1..=3 {
            rig.segment(number, 8192);
        }
        let (dir, store) = rig.run(|step| {
            if let Step::Sealed { ahead, .. } = step
                && ahead.read.number() == 2
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
        let rig = rig(8, 8 * SEGMENT);
        for number in 1..=8 {
            rig.segment(number, 16384);
        }
        let ahead = std::cell::Cell::new(0);
        let (dir, store) = rig.run(|step| {
            if let Step::Sealed { ahead: one, .. } = step {
                ahead.set(ahead.get() + u64::from(one.file.is_some()));
            }
        });
        assert_eq!(ahead.get(), 2, "a quarter");
        assert!(store.holding().bytes <= 8 * SEGMENT);
        assert_eq!(content(&dir, 8), vec![8; 16384]);
    }
}
