//! The keeper thread: makes durable what the pump wrote, names it in the ring and answers who waits.
//! It may wait for the disk; the capture thread never does, and the pump goes on meanwhile.
//!
//! What came while it waited is made durable together: one sync of the folder for many segments.
//! Where that fails it goes one step after the other, and repeats each until it works.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::error::IoError;
use crate::recorder::budget::Budget;
use crate::recorder::doubts::Doubts;
use crate::recorder::events::{Due, Remark};
use crate::recorder::gaps::GapLog;
use crate::recorder::held::Held;
use crate::recorder::ledger::Second;
use crate::recorder::protocol::{Gap, GapCause};
use crate::recorder::pump::{self, Ahead, Step, bytes_of};
use crate::recorder::seconds::SecondsLog;
use crate::recorder::segment_file::{SegmentFile, sync_folder};
use crate::recorder::shared::{Shared, lock};
use crate::recorder::slots::Slot;
use crate::recorder::store::Store;
use crate::ring::names::SegmentName;
use crate::time::Timestamp;

/// How long to wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The longest that a whole segment may wait for others, to be made durable together.
const LINGER: Duration = Duration::from_millis(500);
/// Steps taken together.
const BATCH: usize = 64;

/// The keeper of one capture thread.
#[derive(Debug)]
pub struct Keeper {
    /// The thread's files.
    pub store: Arc<Store>,
    /// The interface's bytes.
    pub budget: Arc<Budget>,
    /// What it tells others.
    pub shared: Arc<Shared>,
    /// From the pump; ends when the pump does.
    pub steps: Receiver<Step>,
    /// One that somebody waits for is among them, or slots are scarce.
    pub hurry: Receiver<()>,
    /// Slots to be filled again.
    pub free: Sender<Slot>,
    /// The record of gaps.
    pub gaps: Mutex<GapLog>,
    /// The segments in doubt.
    pub doubts: Mutex<Doubts>,
    /// The accounting, second by second.
    pub seconds: Mutex<SecondsLog>,
    /// Bytes reserved for a segment.
    pub segment_bytes: u64,
    /// How long a whole segment that nobody waits for may wait for others.
    pub linger: Duration,
    /// Closed when the recorder stops: a write that fails then is left to the next start.
    pub stopping: Receiver<()>,
}

/// Where a segment's file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The pump writes it.
    Pump,
    /// The pump wrote it and gave the slot back before a sync failed: it is to be read back.
    InDoubt,
    /// The disk lost it, which is not on record yet.
    Lost,
    /// The keeper writes it; whatever the pump still writes of this segment is void.
    Keeper,
}

/// A segment on its way.
#[derive(Debug)]
struct Underway {
    held: Arc<Held>,
    name: SegmentName,
    file: Option<Arc<SegmentFile>>,
    origin: Origin,
    /// Bytes on the medium.
    synced: u64,
    /// Its name is on the medium.
    named: bool,
    /// The store knows it.
    counted: bool,
}

/// How long it may wait where packets are to be durable after `sync`: those of a segment that nobody
/// hurries are as old as half of it.
pub fn linger(sync: Duration) -> Duration {
    LINGER.min(sync / 2)
}

impl Keeper {
    /// Makes durable until the pump ends.
    pub fn run(self) {
        let mut underway = Vec::new();
        while let Some(batch) = self.gather() {
            self.secure_together(&batch, &mut underway);
            for step in batch {
                self.handle(step, &mut underway);
            }
        }
        self.sync_seconds();
    }

    /// What is to be made durable together; none at the end.
    fn gather(&self) -> Option<Vec<Step>> {
        let first = self.steps.recv().ok()?;
        // Not on the steps: each would wake it, for nothing.
        if !first.is_urgent() && !pump::are_scarce(&self.free) && self.steps.len() < BATCH {
            self.hurry.recv_timeout(self.linger).unwrap_or_default();
        }
        let more = self.steps.try_iter().take(BATCH - 1);
        Some(std::iter::once(first).chain(more).collect())
    }

    /// Makes durable what the pump wrote, as far as that works at once; the order of segments is kept.
    fn secure_together(&self, batch: &[Step], underway: &mut Vec<Underway>) {
        for step in batch {
            if let Step::Bytes { ahead, .. } = step {
                let one = adopt(underway, ahead);
                underway.push(one);
            }
        }
        let mut fresh = Vec::new();
        for one in underway.iter_mut() {
            if !one.is_written_ahead() {
                break;
            }
            if one.sync().is_err() {
                self.note_doubt(one);
                break;
            }
            if !one.named {
                fresh.push(one);
            }
        }
        if fresh.is_empty() {
            return;
        }
        let revealed = fresh
            .iter()
            .try_for_each(|one| one.file.as_ref().map_or(Ok(()), |file| file.reveal()));
        let named = revealed.and_then(|()| sync_folder(self.store.folder()));
        for one in fresh {
            match &named {
                Ok(()) => {
                    one.named = true;
                    self.tell(one, false);
                }
                // Nobody knows which names are on the medium: all are written anew that can be.
                Err(_) => self.lose(one),
            }
        }
    }

    fn handle(&self, step: Step, underway: &mut Vec<Underway>) {
        match step {
            Step::Bytes {
                ahead,
                upto,
                whole: false,
                due,
            } => {
                let mut one = adopt(underway, &ahead);
                let secure = self
                    .until_it_works(|keeper| keeper.secure(&mut one, upto, keeper.segment_bytes));
                underway.insert(0, one);
                self.answer(secure, due);
            }
            Step::Bytes {
                ahead,
                upto,
                whole: true,
                due,
            } => {
                let one = adopt(underway, &ahead);
                let secure = self.finish(one, upto, due.at);
                self.answer(secure, due);
                self.sync_seconds();
            }
            Step::Remark(Remark::Nothing(due)) => self.answer(true, due),
            Step::Remark(Remark::Gap(gap)) => {
                self.until_it_works(|keeper| lock(&keeper.gaps).append(&gap));
            }
            Step::Remark(Remark::Second(second)) => self.account(&second),
        }
    }

    /// Writes a line of accounting. Tried once: packets come first, and the next line holds what
    /// this one should have.
    fn account(&self, second: &Second) {
        self.shared.publish_gap(second.longest_gap_ns);
        let appended = lock(&self.seconds).append(second, self.store.holding().from);
        let error = appended.err().map(|error| error.to_string());
        self.shared.set_accounting_error(error);
    }

    fn sync_seconds(&self) {
        if let Err(error) = lock(&self.seconds).sync() {
            self.shared.set_accounting_error(Some(error.to_string()));
        }
    }

    /// Answers who waits; on failure they see their channel close.
    fn answer(&self, secure: bool, Due { at, done, .. }: Due) {
        if !secure {
            return;
        }
        self.shared.set_durable(at);
        for done in done {
            if done.send(()).is_err() {
                tracing::debug!("nobody waits for this flush any more");
            }
        }
    }

    /// Ends a whole segment and gives its slot back; false when the recorder stops first.
    fn finish(&self, mut one: Underway, upto: usize, at: Timestamp) -> bool {
        let secure = self.until_it_works(|keeper| {
            keeper.secure(&mut one, upto, bytes_of(upto))?;
            let finished = one.file.as_ref().map_or(Ok(()), |file| file.finish());
            if finished.is_err() {
                keeper.lose(&mut one);
            }
            finished?;
            keeper.dispel_doubt(&mut one, at)
        });
        if !secure {
            // Slot and file stay as they are; the next start finds both. Of a file whose slot is gone
            // it would not know that there is a doubt.
            if one.origin == Origin::InDoubt
                && let Err(error) = self.dispel_doubt(&mut one, at)
            {
                tracing::error!(segment = %one.name, %error, "whether the disk has it is not known");
            }
            return false;
        }
        self.store.sealed(one.name);
        if let Some(slot) = one.held.take() {
            // The writer is gone when the recorder stops; then nobody needs the slot.
            drop(self.free.send(slot));
        }
        true
    }

    /// Looks whether a segment is on the medium that could not be written anew when a sync of it
    /// failed. What is not goes on record as lost.
    fn dispel_doubt(&self, one: &mut Underway, at: Timestamp) -> Result<(), IoError> {
        if let Some(file) = one.file.as_ref().filter(|_| one.origin == Origin::InDoubt) {
            if file.is_as_written() {
                self.note_no_doubt(one);
                tracing::warn!(segment = %one.name, "a sync of it had failed; read back, it is whole");
                one.origin = Origin::Pump;
            } else {
                self.store.set_aside(one.name)?;
                one.origin = Origin::Lost;
            }
        }
        if one.origin == Origin::Lost {
            lock(&self.gaps).append(&Gap {
                interface: self.shared.name.clone(),
                from: one.name.first,
                to: at,
                cause: GapCause::DiskFailed,
            })?;
            self.note_no_doubt(one);
            one.origin = Origin::Pump;
        }
        Ok(())
    }

    /// Gives a segment's file up; a doubt that remains is on record.
    fn lose(&self, one: &mut Underway) {
        one.lose();
        self.note_doubt(one);
    }

    /// Puts a segment in doubt on record, for a successor.
    fn note_doubt(&self, one: &Underway) {
        let content = one.file.as_ref().and_then(|file| file.content());
        if one.origin == Origin::InDoubt
            && let Some(content) = content
            && let Err(error) = lock(&self.doubts).raise(one.name, content)
        {
            tracing::error!(segment = %one.name, %error, "its doubt is not on record");
        }
    }

    fn note_no_doubt(&self, one: &Underway) {
        if let Err(error) = lock(&self.doubts).dispel(one.name) {
            tracing::error!(segment = %one.name, %error, "its doubt is still on record");
        }
    }

    fn until_it_works(&self, mut work: impl FnMut(&Self) -> Result<(), IoError>) -> bool {
        let mut warned = Instant::now();
        loop {
            match work(self) {
                Ok(()) => {
                    self.shared.set_disk_error(None);
                    return true;
                }
                Err(error) => {
                    self.shared.set_disk_error(Some(error.to_string()));
                    if warned.elapsed() > Duration::from_mins(1) {
                        warned = Instant::now();
                        tracing::error!(interface = self.shared.name, %error, "the ring still cannot be written");
                    }
                    let freed = self.make_room_for(&error);
                    if self.is_stopping(if freed { Duration::ZERO } else { RETRY }) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits before another try; true when the recorder stops meanwhile.
    fn is_stopping(&self, pause: Duration) -> bool {
        let timeout = self.stopping.recv_timeout(pause);
        timeout == Err(RecvTimeoutError::Disconnected)
    }

    /// On a full disk, what is oldest makes room for what is new; whether something was given up.
    fn make_room_for(&self, error: &IoError) -> bool {
        // A quota says nothing of the file system's room, nor the other way round.
        let of_quota = error.source.kind() == std::io::ErrorKind::QuotaExceeded;
        if !error.is_full() || !of_quota && self.store.has_room(self.segment_bytes) {
            return false;
        }
        match self.budget.give_up_oldest() {
            Ok(true) => {
                tracing::warn!(
                    interface = self.shared.name,
                    "disk full: the oldest segment was given up"
                );
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::error!(%error, "disk full, and nothing can be given up");
                false
            }
        }
    }

    /// Has the segment on the medium and in the ring up to `upto` bytes. A file that is not there
    /// is made with room for `reserve` bytes and written from the slot, which still holds everything.
    fn secure(&self, one: &mut Underway, upto: usize, reserve: u64) -> Result<(), IoError> {
        let anew = one.file.is_none();
        let file = match &one.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(pump::create(
                &self.store,
                &self.budget,
                one.name,
                reserve,
                self.segment_bytes,
            )?),
        };
        if anew {
            one.origin = Origin::Keeper;
        }
        one.file = Some(file);
        let secure = self.try_secure(one, upto);
        match secure {
            Ok(()) => self.tell(one, anew),
            // After a failed sync nobody knows what is on the medium.
            Err(_) => self.lose(one),
        }
        secure
    }

    fn try_secure(&self, one: &mut Underway, upto: usize) -> Result<(), IoError> {
        let Some(file) = one.file.clone() else {
            return Ok(());
        };
        if one.origin == Origin::Keeper {
            one.held.append(&file, upto)?;
        }
        if one.synced < bytes_of(upto) {
            one.sync()?;
        }
        if !one.named {
            file.reveal()?;
            sync_folder(self.store.folder())?;
            one.named = true;
        }
        Ok(())
    }

    /// Tells the store of a segment's bytes, or of its file if it is a new one.
    fn tell(&self, one: &mut Underway, anew: bool) {
        if !one.counted {
            self.store.created(one.name, one.synced);
        } else if anew {
            self.store.replaced(one.name);
        }
        self.store.grown(one.name, one.synced);
        if !one.counted || anew {
            self.store.sync_links(one.name);
        }
        one.counted = true;
    }
}

impl Underway {
    fn new(ahead: &Ahead) -> Self {
        Self {
            held: Arc::clone(&ahead.held),
            name: ahead.held.name(),
            file: None,
            origin: Origin::Pump,
            synced: 0,
            named: false,
            counted: false,
        }
    }

    /// Whether the pump's file is there to be made durable.
    fn is_written_ahead(&self) -> bool {
        self.origin != Origin::Keeper && self.file.is_some()
    }

    /// Makes durable what is in the file.
    fn sync(&mut self) -> Result<(), IoError> {
        if let Some(file) = &self.file
            && self.synced < file.written()
        {
            match file.sync() {
                Ok(synced) => self.synced = synced,
                Err(error) => {
                    self.lose();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Gives its file up: it is to be written anew from the slot. One that has no slot any more
    /// keeps its file, whose sync is to be repeated.
    fn lose(&mut self) {
        if self.held.claim() {
            self.file = None;
            self.origin = Origin::Keeper;
        } else if self.origin != Origin::Lost {
            self.origin = Origin::InDoubt;
        }
        self.synced = 0;
        self.named = false;
    }
}

/// Takes the segment of a step out of those underway, with the file that the pump has for it by now.
fn adopt(underway: &mut Vec<Underway>, ahead: &Ahead) -> Underway {
    let name = ahead.held.name();
    let known = underway.iter().position(|one| one.name == name);
    let mut one = match known {
        Some(place) => underway.remove(place),
        None => Underway::new(ahead),
    };
    if one.origin != Origin::Keeper {
        match &ahead.file {
            Some(file) => one.file = Some(Arc::clone(file)),
            // The pump gave it up.
            None => one.lose(),
        }
    }
    one
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::recorder::events::Event;
    use crate::recorder::gaps::read_gaps;
    use crate::recorder::held::Released;
    use crate::recorder::rig::{Rig, content, name, rig};

    /// What the pump wrote of one segment, whose slot it gave back since.
    fn in_doubt(rig: &Rig) -> Underway {
        rig.segment(1, 8192);
        let file = SegmentFile::create(rig.keeper.store.folder(), name(1), 8192).unwrap();
        let Ok(Event::Opened(read)) = rig.pump.events.try_recv() else {
            panic!("nothing was opened");
        };
        let Ok(Event::Sealed { fill, .. }) = rig.pump.events.try_recv() else {
            panic!("nothing was sealed");
        };
        let held = Held::new(read);
        held.append(&file, 8192).unwrap();
        held.end(fill, rig.pump.lead.lease());
        assert!(matches!(held.release(|_| true), Released::Now(_)));
        file.keep_sum(&[1; 8192]);
        file.reveal().unwrap();
        rig.keeper.store.created(name(1), 8192);
        let ahead = Ahead {
            held: Arc::new(held),
            file: Some(Arc::new(file)),
        };
        let mut one = Underway::new(&ahead);
        one.file = ahead.file;
        one.origin = Origin::InDoubt;
        one
    }

    #[test]
    fn nothing_waits_for_longer_than_sync_allows() {
        let linger = |ms| linger(Duration::from_millis(ms)).as_millis();
        assert_eq!([100, 1000, 60_000].map(linger), [50, 500, 500]);
    }

    #[test]
    fn what_is_oldest_makes_room_within_a_quota() {
        let rig = rig(4, 1 << 20);
        let folder = rig.keeper.store.folder();
        for number in 1..=2 {
            fs::write(folder.join(name(number).to_string()), [0; 8192]).unwrap();
            rig.keeper.store.created(name(number), 8192);
        }
        let refused = |errno: Errno| IoError::new("write", folder, errno.into());
        for errno in [Errno::IO, Errno::NOSPC] {
            let freed = rig.keeper.make_room_for(&refused(errno));
            assert!(!freed, "the file system has room by its own account");
        }
        assert!(rig.keeper.make_room_for(&refused(Errno::DQUOT)));
        assert!(!folder.join(name(1).to_string()).exists());
        assert_eq!(rig.keeper.store.holding().segments, 1);
    }

    #[test]
    fn a_segment_in_doubt_that_the_disk_has_stays() {
        let rig = rig(4, 1 << 20);
        let mut one = in_doubt(&rig);
        rig.keeper.dispel_doubt(&mut one, Timestamp::MIN).unwrap();
        assert_eq!(one.origin, Origin::Pump);
        assert_eq!(content(&rig.dir, 1), vec![1; 8192]);
        assert_eq!(read_gaps(rig.keeper.store.folder()).unwrap(), []);
    }

    #[test]
    fn a_segment_in_doubt_that_the_disk_lost_goes_aside_and_on_record() {
        for damage in [&[0; 8192][..], &[1; 4096]] {
            let rig = rig(4, 1 << 20);
            let mut one = in_doubt(&rig);
            let folder = rig.keeper.store.folder().to_owned();
            fs::write(folder.join(name(1).to_string()), damage).unwrap();
            let at = Timestamp::from_ns(99);
            rig.keeper.dispel_doubt(&mut one, at).unwrap();
            assert!(!folder.join(name(1).to_string()).exists());
            let aside = folder.join("aside").join(name(1).to_string());
            assert_eq!(fs::read(aside).unwrap(), damage);
            let gap = Gap {
                interface: "t".into(),
                from: name(1).first,
                to: at,
                cause: GapCause::DiskFailed,
            };
            assert_eq!(read_gaps(&folder).unwrap(), [gap]);
            assert_eq!(rig.keeper.store.holding().segments, 0);
        }
    }

    #[test]
    fn a_recorder_that_stops_leaves_no_segment_in_doubt() {
        let mut rig = rig(4, 1 << 20);
        rig.keeper.stopping = crossbeam_channel::bounded(0).1;
        let mut one = in_doubt(&rig);
        let folder = rig.keeper.store.folder().to_owned();
        let path = folder.join(name(1).to_string());
        fs::write(&path, [0; 8192]).unwrap();
        let file = one.file.take().and_then(Arc::into_inner).unwrap();
        one.file = Some(Arc::new(file.unsyncable()));
        assert!(!rig.keeper.finish(one, 8192, Timestamp::from_ns(99)));
        assert!(!path.exists());
        assert_eq!(read_gaps(&folder).unwrap().len(), 1);
    }

    #[test]
    fn a_loss_that_could_not_be_put_on_record_is_at_the_next_attempt() {
        let mut rig = rig(4, 1 << 20);
        let mut one = in_doubt(&rig);
        let folder = rig.keeper.store.folder().to_owned();
        fs::write(folder.join(name(1).to_string()), [0; 8192]).unwrap();
        let works = std::mem::replace(&mut rig.keeper.gaps, GapLog::unwritable(&folder).into());
        let at = Timestamp::from_ns(99);
        assert!(rig.keeper.dispel_doubt(&mut one, at).is_err());
        assert_eq!(read_gaps(&folder).unwrap(), []);
        rig.keeper.gaps = works;
        rig.keeper.dispel_doubt(&mut one, at).unwrap();
        assert_eq!(read_gaps(&folder).unwrap().len(), 1);
    }
}
