//! The ring's size, per interface: what is oldest goes first, whichever capture thread recorded it.
//!
//! The threads of an interface share its bytes, so that they reach back equally far however
//! unevenly the flows fall to them. Folders of threads that are not configured any more take part:
//! nothing is written to them, and what they hold goes when its time has come.

use std::sync::{Arc, Mutex};

use crate::error::IoError;
use crate::recorder::shared::lock;
use crate::recorder::store::{Holding, Store};
use crate::time::Timestamp;

/// The bytes of one interface.
#[derive(Debug)]
pub struct Budget {
    /// Those written to first.
    stores: Vec<Arc<Store>>,
    threads: u64,
    size_bytes: u64,
    /// One keeper at a time makes room.
    turn: Mutex<()>,
}

impl Budget {
    /// `size_bytes` for these folders, of which the first `threads` are written to.
    pub fn new(stores: Vec<Arc<Store>>, threads: u32, size_bytes: u64) -> Self {
        Self {
            stores,
            threads: u64::from(threads),
            size_bytes,
            turn: Mutex::new(()),
        }
    }

    /// The configured size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// All folders.
    pub fn stores(&self) -> &[Arc<Store>] {
        &self.stores
    }

    /// Gives up the oldest segments until another of `segment` bytes fits, beside the ones that
    /// the other threads write to. A ring that may `grow` no more (the disk is nearly full) gives
    /// up one for the one to come.
    pub fn make_room(&self, segment: u64, grow: bool) -> Result<(), IoError> {
        let _turn = lock(&self.turn);
        let wanted = segment.saturating_mul(self.threads);
        let mut owed = !grow;
        loop {
            let settled: u64 = self.stores.iter().map(|s| s.settled_bytes()).sum();
            let fits = settled.saturating_add(wanted) <= self.size_bytes;
            if fits && !owed || !self.unlink_oldest()? {
                return Ok(());
            }
            owed = false;
        }
    }

    /// Whether another segment may be begun before those underway are in the ring: they take their
    /// room beside it, so of a small ring no more than a quarter is underway.
    pub fn may_run_ahead(&self, segment: u64) -> bool {
        let underway: u64 = self.stores.iter().map(|s| s.hidden_bytes()).sum();
        underway == 0 || underway.saturating_add(segment) <= self.size_bytes / 4
    }

    /// Gives up the oldest segment, because the disk has no room; false when there is none to take.
    pub fn give_up_oldest(&self) -> Result<bool, IoError> {
        let _turn = lock(&self.turn);
        self.unlink_oldest()
    }

    fn unlink_oldest(&self) -> Result<bool, IoError> {
        let stores = self.stores.iter();
        let oldest = stores
            .filter_map(|store| Some((store.oldest()?, store)))
            .min_by_key(|(at, _)| *at);
        match oldest {
            Some((_, store)) => store.give_up_oldest(),
            None => Ok(false),
        }
    }

    /// What all folders hold. It begins where every thread's is whole: a thread that never gave a
    /// segment up has all it ever had.
    pub fn holding(&self) -> Holding {
        let all: Vec<Holding> = self.stores.iter().map(|store| store.holding()).collect();
        let cut = all.iter().filter(|one| one.rotated);
        let cut: Option<Timestamp> = cut.filter_map(|one| one.from).max();
        Holding {
            from: cut.or_else(|| all.iter().filter_map(|one| one.from).min()),
            rotated: cut.is_some(),
            bytes: all.iter().map(|one| one.bytes).sum(),
            segments: all.iter().map(|one| one.segments).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ring::catalog::Catalog;
    use crate::ring::names::SegmentName;

    fn add(store: &Store, number: u64, first: u64) {
        let first = Timestamp::from_ns(first);
        let name = SegmentName { number, first };
        fs::write(store.folder().join(name.to_string()), [0; 30]).unwrap();
        store.created(name, 30);
        store.sealed(name);
    }

    fn rig(folders: &[&str]) -> (tempfile::TempDir, Vec<Arc<Store>>) {
        let dir = tempfile::tempdir().unwrap();
        let (ring, incidents) = (dir.path().join("ring"), dir.path().join("incidents"));
        let store = |folder: &&str| {
            fs::create_dir_all(ring.join(folder)).unwrap();
            Arc::new(Store::new(&ring, folder, &incidents, &Catalog::default()))
        };
        let stores = folders.iter().map(store).collect();
        (dir, stores)
    }

    #[test]
    fn the_oldest_goes_first_whoever_recorded_it() {
        let (_dir, stores) = rig(&["eth0", "eth0+1", "eth0+2"]);
        add(&stores[0], 0, 10);
        add(&stores[0], 1, 40);
        add(&stores[1], 0, 20);
        add(&stores[2], 0, 30);
        let budget = Budget::new(stores.clone(), 2, 120);
        assert_eq!(budget.holding().from, Some(Timestamp::from_ns(10)));
        budget.make_room(30, true).unwrap();
        let left: Vec<u64> = stores.iter().map(|s| s.holding().segments).collect();
        assert_eq!(
            left,
            [1, 0, 1],
            "two of 30 beside two that are to be written"
        );
        assert_eq!(budget.holding().from, Some(Timestamp::from_ns(40)));
        assert_eq!(budget.holding().bytes, 60);
    }

    #[test]
    fn a_ring_that_may_not_grow_gives_one_for_one() {
        let (_dir, stores) = rig(&["eth0"]);
        for number in 0..4 {
            add(&stores[0], number, 10 * (number + 1));
        }
        let budget = Budget::new(stores, 1, 1000);
        budget.make_room(30, true).unwrap();
        assert_eq!(budget.holding().segments, 4);
        budget.make_room(30, false).unwrap();
        assert_eq!(budget.holding().segments, 3);
    }

    #[test]
    fn a_segment_being_written_is_never_taken() {
        let (_dir, stores) = rig(&["eth0", "eth0+1"]);
        add(&stores[1], 0, 20);
        let name = SegmentName {
            number: 0,
            first: Timestamp::from_ns(10),
        };
        fs::write(stores[0].folder().join(name.to_string()), [0; 30]).unwrap();
        stores[0].created(name, 30);
        let budget = Budget::new(stores.clone(), 2, 10);
        budget.make_room(30, true).unwrap();
        let left: Vec<u64> = stores.iter().map(|s| s.holding().segments).collect();
        assert_eq!(left, [1, 0]);
        assert!(!budget.give_up_oldest().unwrap());
    }
}
