//! Pump and keeper of one thread, for their tests: run one after the other, so that each finds all
//! that the one before it did.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::recorder::budget::Budget;
use crate::recorder::doubts::Doubts;
use crate::recorder::events::{Due, Event};
use crate::recorder::gaps::GapLog;
use crate::recorder::held::Lead;
use crate::recorder::keeper::Keeper;
use crate::recorder::pump::{Pump, Step};
use crate::recorder::seconds::SecondsLog;
use crate::recorder::shared::Shared;
use crate::recorder::slots::{Slot, Slots};
use crate::recorder::store::Store;
use crate::ring::catalog::Catalog;
use crate::ring::names::{Member, SegmentName};
use crate::time::Timestamp;

/// Bytes of a slot.
pub(super) const SEGMENT: u64 = 16384;

/// Both, with what goes in and comes out.
pub(super) struct Rig {
    pub(super) pump: Pump,
    pub(super) keeper: Keeper,
    pub(super) steps: Receiver<Step>,
    pub(super) events: Sender<Event>,
    pub(super) free: Receiver<Slot>,
    pub(super) dir: tempfile::TempDir,
    _running: Sender<()>,
}

/// With so many slots and a ring of `size` bytes.
pub(super) fn rig(slots: usize, size: u64) -> Rig {
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
    let (urge, hurry) = bounded(1);
    let (running, stopping) = bounded(0);
    let pump = Pump {
        store: Arc::clone(&store),
        budget: Arc::clone(&budget),
        shared: Arc::clone(&shared),
        events: told,
        steps: pumped,
        hurry: urge,
        lead: Lead::of(slots * 2),
        free: give.clone(),
        segment_bytes: SEGMENT,
    };
    let keeper = Keeper {
        gaps: Mutex::new(GapLog::open(store.folder(), Timestamp::MIN).unwrap()),
        doubts: Mutex::new(Doubts::beside(&dir.path().join("slots"))),
        seconds: Mutex::new(SecondsLog::new(store.folder())),
        store,
        budget,
        shared,
        steps: steps.clone(),
        hurry,
        free: give,
        segment_bytes: SEGMENT,
        linger: Duration::from_millis(100),
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
    pub(super) fn segment(&self, number: u8, bytes: usize) -> Receiver<()> {
        let at = Timestamp::from_ns(u64::from(number));
        let slot = self.free.try_recv().unwrap();
        let (mut fill, read) = slot.begin(u64::from(number), at, Timestamp::MIN);
        self.events.send(Event::Opened(read)).unwrap();
        fill.tail()[..bytes].fill(number);
        fill.advance(bytes);
        fill.publish();
        fill.seal();
        let (done, answer) = bounded(1);
        let due = Due::now(at, vec![done]);
        self.events.send(Event::Sealed { fill, due }).unwrap();
        answer
    }

    /// Lets the pump do all there is, then `between` to what it says, then the keeper.
    pub(super) fn run(self, between: impl Fn(&mut Step)) -> (tempfile::TempDir, Arc<Store>) {
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

/// What is in the ring under the name of a segment.
pub(super) fn content(dir: &tempfile::TempDir, number: u8) -> Vec<u8> {
    let ring = dir.path().join("ring/t");
    fs::read(ring.join(name(number).to_string())).unwrap()
}

/// The name of a segment of [`Rig::segment`].
pub(super) fn name(number: u8) -> SegmentName {
    SegmentName {
        number: u64::from(number),
        first: Timestamp::from_ns(u64::from(number)),
    }
}

/// Whether a file waits for its name.
pub(super) fn is_hidden(dir: &tempfile::TempDir) -> bool {
    let entries = fs::read_dir(dir.path().join("ring/t")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.into_iter().any(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') && name.contains("pcapng")
    })
}
