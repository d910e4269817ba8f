//! The keeper thread: writes slots to segment files and rotates the ring. It may wait for the
//! disk; the capture thread never does.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::error::IoError;
use crate::recorder::budget::Budget;
use crate::recorder::gaps::GapLog;
use crate::recorder::ledger::Second;
use crate::recorder::seconds::SecondsLog;
use crate::recorder::segment_file::SegmentFile;
use crate::recorder::shared::{Shared, lock};
use crate::recorder::slots::{Slot, SlotFill, SlotRead};
use crate::recorder::store::Store;
use crate::recorder::writer::{Done, Event};
use crate::ring::names::SegmentName;
use crate::time::Timestamp;

/// How long to wait before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What a file system may claim to have and yet refuse.
const ROOM_SLACK: u64 = 16 << 20;

/// The keeper of one capture thread.
#[derive(Debug)]
pub struct Keeper {
    /// The thread's files.
    pub store: Arc<Store>,
    /// The interface's bytes.
    pub budget: Arc<Budget>,
    /// What it tells others.
    pub shared: Arc<Shared>,
    /// From the writer; ends when the writer does.
    pub events: Receiver<Event>,
    /// Slots to be filled again.
    pub free: Sender<Slot>,
    /// The record of gaps.
    pub gaps: Mutex<GapLog>,
    /// The accounting, second by second.
    pub seconds: Mutex<SecondsLog>,
    /// Bytes reserved for a segment.
    pub segment_bytes: u64,
    /// Closed when the recorder stops: a write that fails then is left to the next start.
    pub stopping: Receiver<()>,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    read: SlotRead,
    file: Option<SegmentFile>,
}

impl Keeper {
    /// Writes until the writer ends.
    pub fn run(self) {
        let mut active = None;
        let events = self.events.clone();
        for event in &events {
            self.handle(event, &mut active);
        }
        self.sync_seconds();
    }

    fn handle(&self, event: Event, active: &mut Option<Active>) {
        match event {
            Event::Opened(read) => *active = Some(Active { read, file: None }),
            Event::Progress { upto, at, done } => {
                let written = active
                    .as_mut()
                    .is_none_or(|active| self.write(active, upto));
                self.answer(written, at, done);
            }
            Event::Sealed { fill, at, done } => {
                let written = active.take().is_none_or(|active| self.finish(active, fill));
                self.answer(written, at, done);
                self.sync_seconds();
            }
            Event::Nothing { at, done } => self.answer(true, at, done),
            Event::Gap(gap) => {
                self.until_it_works(|keeper| lock(&keeper.gaps).append(&gap));
            }
            Event::Second(second) => self.account(&second),
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
    fn answer(&self, written: bool, at: Timestamp, done: Vec<Done>) {
        if !written {
            return;
        }
        self.shared.set_durable(at);
        for done in done {
            if done.send(()).is_err() {
                tracing::debug!("nobody waits for this flush any more");
            }
        }
    }

    /// Brings the file up to `upto` bytes; false when the recorder stops first.
    fn write(&self, active: &mut Active, upto: usize) -> bool {
        self.until_it_works(|keeper| keeper.try_write(active, upto, keeper.segment_bytes))
    }

    fn finish(&self, mut active: Active, fill: SlotFill) -> bool {
        let upto = fill.len();
        let written = self.until_it_works(|keeper| {
            keeper.try_write(&mut active, upto, bytes_of(upto))?;
            match active.file.as_mut().map(SegmentFile::finish) {
                Some(Err(error)) => {
                    active.file = None;
                    Err(error)
                }
                _ => Ok(()),
            }
        });
        if !written {
            // Slot and file stay as they are; the next start finds both.
            return false;
        }
        self.store.sealed();
        // The writer is gone when the recorder stops; then nobody needs the slot.
        if self.free.send(Slot::rejoin(fill, active.read)).is_err() {
            tracing::debug!("the writer is gone");
        }
        true
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
        timeout == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    }

    /// On a full disk, what is oldest makes room for what is new; whether something was given up.
    fn make_room_for(&self, error: &IoError) -> bool {
        if error.source.kind() != std::io::ErrorKind::StorageFull || self.has_room() {
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

    /// Whether the file system has room by its own account. Then it is the device below it that has
    /// none (thin provisioning), and giving up segments would cost them for nothing.
    fn has_room(&self) -> bool {
        rustix::fs::statvfs(self.store.folder()).is_ok_and(|room| {
            room.f_favail > 0
                && room.f_bavail.saturating_mul(room.f_frsize) >= self.segment_bytes + ROOM_SLACK
        })
    }

    /// A file that is not there yet is made with room for `reserve` bytes.
    fn try_write(&self, active: &mut Active, upto: usize, reserve: u64) -> Result<(), IoError> {
        let name = SegmentName {
            number: active.read.number(),
            first: active.read.first(),
        };
        let mut file = match active.file.take() {
            Some(file) => file,
            None => self.create(name, reserve)?,
        };
        let written = usize::try_from(file.written()).unwrap_or(usize::MAX);
        let bytes = active.read.bytes().get(written..upto).unwrap_or_default();
        // After a failed sync nobody knows what is on the medium: the file is dropped, and the
        // slot, which still holds everything, is written anew.
        if !bytes.is_empty() {
            file.append(bytes)?;
        }
        if file.is_visible() {
            self.store.grown(file.written());
        } else {
            self.publish(&mut file)?;
        }
        active.file = Some(file);
        Ok(())
    }

    fn create(&self, name: SegmentName, reserve: u64) -> Result<SegmentFile, IoError> {
        // What little the disk still has is left to others, evidence among them.
        self.budget.make_room(self.segment_bytes, self.has_room())?;
        SegmentFile::create(self.store.folder(), name, reserve)
    }

    fn publish(&self, file: &mut SegmentFile) -> Result<(), IoError> {
        let again = self.store.newest() == Some(file.name().number);
        file.publish()?;
        if again {
            self.store.replaced(file.name());
            self.store.grown(file.written());
        } else {
            self.store.created(file.name(), file.written());
        }
        Ok(())
    }
}

fn bytes_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
