//! The engine: takes triggers, has the recorder pin their windows, seals, keeps within the quota.
//!
//! One task takes submissions in batches (`accept.rs`), one per unsealed incident tends it
//! (`tend.rs`), one keeps house (`house.rs`). All they share is the table, behind a lock that is
//! never held across an await or a disk access. Nothing is lost when any of them stops anywhere:
//! the journal and the folders are enough to resume.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{EvidenceConfig, WindowConfig};
use super::custody::Act;
use super::decide::Ledger;
use super::folder::Folder;
use super::id::IncidentId;
use super::journal::{Entry, Journal};
use super::manifest::ClockState;
use super::model::{Incident, State};
use super::reserve::Reserve;
use super::sshsig::{KeyError, Signer25519};
use super::table::{Desk, Table};
use super::{accept, house, scan, tend};
use crate::error::IoError;
use crate::recorder::client::{Client, ControlError};
use crate::recorder::sync::make_folders;
use crate::time::Timestamp;
use crate::trigger::Intake;
use crate::trigger::maintenance::Maintenance;

/// Submissions that may wait; more make their sources wait.
const INTAKE: usize = 4096;
/// Changes a slow subscriber may fall behind before it misses some.
const CHANGES: usize = 1024;
/// Calls to the recorder at a time, for incidents that have nothing yet and for the others.
const CALLS: usize = 8;
/// How long stopping may take.
const STOP_LIMIT: Duration = Duration::from_millis(900);
/// The journal, within the state directory.
const JOURNAL_DIR: &str = "journal";

/// Reads the state of the clock, for manifests.
pub type ReadClock = Arc<dyn Fn() -> ClockState + Send + Sync>;

/// What the engine works with.
pub struct Setup {
    /// `[evidence]`.
    pub evidence: EvidenceConfig,
    /// `[window]`.
    pub window: WindowConfig,
    /// How long a sealed drill is kept.
    pub keep_drills: Duration,
    /// The server's own directory: `journal/` and the signing key.
    pub state_dir: PathBuf,
    /// `[ring] path`, for gaps and counters.
    pub ring: PathBuf,
    /// The recorder.
    pub recorder: Client,
    /// `[[maintenance]]`.
    pub maintenance: Arc<Maintenance>,
    /// How far the clock can be trusted.
    pub clock: ReadClock,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("evidence", &self.evidence)
            .field("state_dir", &self.state_dir)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal or the incidents cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// There is no key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why an incident is not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is none of this id.
    #[error("there is no incident {0}")]
    NoSuchIncident(String),
    /// It is still being collected or sealed.
    #[error("incident {0} is not sealed yet; release it when it is")]
    NotSealed(String),
    /// The request could not be made durable.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    /// The recorder, which owns the packets, did not do it. It is asked again until it does.
    #[error("{0}; the release is repeated until it succeeds")]
    Recorder(ControlError),
    /// The server is stopping.
    #[error("the server is stopping; the release is repeated when it runs again")]
    Stopping,
}

/// Why an act was not noted. What it was to account for must not happen then.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// There is none of this id, or nothing of it is frozen yet.
    #[error("there is no evidence of incident {0}")]
    NoSuchIncident(String),
    /// The custody record cannot be written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// What happened to an incident.
#[derive(Debug, Clone)]
pub enum Change {
    /// It was opened or changed.
    Incident(Box<Incident>),
    /// It was sealed: its packets can be indexed.
    Sealed(Box<Incident>),
    /// It was released.
    Released(String),
}

/// What all tasks share.
pub(super) struct Engine {
    pub(super) evidence: PathBuf,
    pub(super) quota_bytes: u64,
    pub(super) keep_precursors: Duration,
    pub(super) keep_drills: Duration,
    pub(super) ring: PathBuf,
    pub(super) recorder: Client,
    pub(super) clock: ReadClock,
    pub(super) signer: Signer25519,
    pub(super) journal: Journal,
    pub(super) reserve: Reserve,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Room for the calls that freeze an incident's first packets: they wait for no repetition.
    pub(super) first_calls: Semaphore,
    /// Room for the calls that repeat a pin.
    pub(super) calls: Semaphore,
    /// One seal at a time: it is the disk's work.
    pub(super) seals: Semaphore,
    /// Wakes the housekeeper.
    pub(super) house: Notify,
    pub(super) evidence_bytes: AtomicU64,
    pub(super) full: AtomicBool,
    changes: broadcast::Sender<Change>,
    table: Mutex<Table>,
}

impl Engine {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn announce(&self, change: Change) {
        // Nobody listening is fine.
        drop(self.changes.send(change));
    }

    pub(super) fn changed(&self, incident: Incident) {
        self.announce(Change::Incident(Box::new(incident)));
    }

    pub(super) fn path(&self, id: &IncidentId) -> PathBuf {
        self.evidence.join(id.as_str())
    }

    /// Runs `work` on the folder of an incident, opening it first. `None` when there is no folder
    /// yet. Blocks.
    pub(super) fn at_desk<T>(
        &self,
        id: &IncidentId,
        desk: &Desk,
        work: impl FnOnce(&mut Folder) -> Result<T, IoError>,
    ) -> Result<Option<T>, IoError> {
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(id);
        if !path.is_dir() {
            return Ok(None);
        }
        let mut folder = match desk.take() {
            Some(folder) => folder,
            None => Folder::open(&path, id)?,
        };
        // After an error nobody knows what was written: it is opened anew the next time.
        let done = work(&mut folder)?;
        *desk = Some(folder);
        Ok(Some(done))
    }

    /// Writes what is pending of an incident; false when it has no folder yet. Blocks.
    pub(super) fn write_down(&self, id: &IncidentId, desk: &Desk) -> Result<bool, IoError> {
        let written = self.at_desk(id, desk, |folder| {
            let Some((pending, live)) = self.table().items.get_mut(id).and_then(|item| {
                std::mem::take(&mut item.dirty).then(|| {
                    let live = super::folder::Live {
                        incident: item.incident.clone(),
                        dedup_keys: item.dedup_keys.clone(),
                    };
                    (std::mem::take(&mut item.pending), live)
                })
            }) else {
                return Ok(());
            };
            let saved = folder.add(&pending).and_then(|()| {
                if live.incident.state == State::Sealed {
                    return Ok(());
                }
                folder.save(&live)
            });
            if saved.is_err() {
                self.put_back(id, pending);
            }
            saved
        });
        written.map(|done| done.is_some())
    }

    /// What could not be written waits on; lines that were are recognised by their number.
    pub(super) fn put_back(&self, id: &IncidentId, mut pending: Vec<super::custody::TimelineLine>) {
        if let Some(item) = self.table().items.get_mut(id) {
            pending.append(&mut item.pending);
            item.pending = pending;
            item.dirty = true;
        }
    }

    /// Has the recorder remove an incident whose release is in the journal.
    pub(super) async fn let_go(self: &Arc<Self>, id: &IncidentId) -> Result<(), ReleaseError> {
        let engine = Arc::clone(self);
        let name = id.as_str().to_owned();
        let released = self
            .tasks
            .spawn_blocking(move || engine.recorder.release(&name));
        tokio::select! {
            released = released => match released {
                Ok(released) => released.map_err(ReleaseError::Recorder)?,
                Err(_) => return Err(ReleaseError::Stopping),
            },
            () = self.stop.cancelled() => return Err(ReleaseError::Stopping),
        }
        self.table().forget(id);
        self.announce(Change::Released(id.as_str().to_owned()));
        self.house.notify_one();
        Ok(())
    }

    /// Passes on what came of writing; on a full disk the next attempt has the room kept back.
    pub(super) fn relieve<T, E>(&self, written: Result<T, E>) -> Result<T, E> {
        written.inspect_err(|_| {
            self.reserve.give();
        })
    }

    /// Makes entries durable, on a full disk in the room that is kept back.
    pub(super) async fn journalise(&self, entries: &[Entry]) -> Result<(), String> {
        match self.journal.append(entries).await {
            Err(_) if self.reserve.give() => self.journal.append(entries).await,
            done => done,
        }
    }

    /// Makes a release durable and carries it out.
    pub(super) async fn release(
        self: &Arc<Self>,
        id: &IncidentId,
        who: &str,
    ) -> Result<(), ReleaseError> {
        let entry = Entry::Release {
            incident: id.clone(),
            who: who.to_owned(),
            at: Timestamp::now(),
        };
        self.journalise(&[entry])
            .await
            .map_err(ReleaseError::Journal)?;
        tracing::info!(incident = %id, who, "incident released");
        self.table().releasing.insert(id.clone(), who.to_owned());
        self.let_go(id).await
    }
}

/// The incidents, for everybody who shows, exports or feeds them. Cheap to clone.
#[derive(Clone)]
pub struct Incidents {
    pub(super) engine: Arc<Engine>,
    intake: Intake,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents")
            .field("evidence", &self.engine.evidence)
            .finish_non_exhaustive()
    }
}

impl Incidents {
    /// Reads the directories and the journal, resumes what is not sealed, and starts. Must be
    /// called within a tokio runtime. The handle ends soon after `stop` is cancelled.
    pub fn open(
        setup: Setup,
        stop: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), OpenError> {
        let state_dir = &setup.state_dir;
        make_folders(state_dir, 0o777)?;
        let signer = Signer25519::open(state_dir)?;
        let mut table = Table::new(Ledger::new(setup.window));
        scan::scan(&setup.evidence.path, &mut table)?;
        let journal = setup.state_dir.join(JOURNAL_DIR);
        let (journal, damaged) = Journal::open(&journal, |entry| table.replay(&entry))?;
        for line in damaged {
            tracing::warn!("journal: {line}: torn by a crash, its sender was not told otherwise");
        }
        let released: Vec<IncidentId> = table.releasing.keys().cloned().collect();
        for id in released {
            table.items.remove(&id);
            table.ledger.forget(&id);
            table.untouchable.insert(id.clone());
            if !setup.evidence.path.join(id.as_str()).exists() {
                table.releasing.remove(&id);
            }
        }
        scan::report_unknown(&setup.evidence.path, &mut table);
        let unsealed: Vec<IncidentId> = table
            .items
            .iter()
            .filter(|(_, item)| item.incident.state != State::Sealed)
            .map(|(id, _)| id.clone())
            .collect();

        let (intake, submissions) = Intake::new(INTAKE);
        let intake = intake.under(setup.maintenance);
        let reserve = Reserve::new(&[&setup.evidence.path, &setup.state_dir]);
        let engine = Arc::new(Engine {
            evidence: setup.evidence.path,
            quota_bytes: setup.evidence.quota.as_u64(),
            keep_precursors: setup.evidence.keep_precursors,
            keep_drills: setup.keep_drills,
            ring: setup.ring,
            recorder: setup.recorder,
            clock: setup.clock,
            signer,
            journal,
            reserve,
            stop,
            tasks: TaskTracker::new(),
            first_calls: Semaphore::new(CALLS),
            calls: Semaphore::new(CALLS),
            seals: Semaphore::new(1),
            house: Notify::new(),
            evidence_bytes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            changes: broadcast::Sender::new(CHANGES),
            table: Mutex::new(table),
        });
        for id in unsealed {
            tend::spawn(&engine, id);
        }
        engine
            .tasks
            .spawn(accept::run(Arc::clone(&engine), submissions));
        engine.tasks.spawn(house::run(Arc::clone(&engine)));
        let tasks = engine.tasks.clone();
        let stop = engine.stop.clone();
        let handle = tokio::spawn(async move {
            stop.cancelled().await;
            tasks.close();
            // Also what runs on blocking threads; a call that hangs is left behind, everything
            // it could still do is repeated by the next run.
            if tokio::time::timeout(STOP_LIMIT, tasks.wait())
                .await
                .is_err()
            {
                tracing::warn!("stopping without waiting for the recorder or the disk");
            }
        });
        Ok((Self { engine, intake }, handle))
    }

    /// The door for triggers.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// All incidents, newest first.
    pub fn list(&self) -> Vec<Incident> {
        let table = self.engine.table();
        table
            .items
            .values()
            .rev()
            .map(|i| i.incident.clone())
            .collect()
    }

    /// One incident.
    pub fn get(&self, id: &str) -> Option<Incident> {
        let id: IncidentId = id.parse().ok()?;
        let table = self.engine.table();
        table.items.get(&id).map(|item| item.incident.clone())
    }

    /// Changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.engine.changes.subscribe()
    }

    /// The folder of an incident; it is there as soon as the recorder has pinned anything.
    pub fn folder(&self, id: &str) -> Option<PathBuf> {
        let id: IncidentId = id.parse().ok()?;
        let known = self.engine.table().items.contains_key(&id);
        known.then(|| self.engine.path(&id))
    }

    /// Where all incidents are.
    pub fn directory(&self) -> &Path {
        &self.engine.evidence
    }

    /// Releases a sealed incident: its packets go, its tombstone stays.
    pub async fn release(&self, id: &str, who: &str) -> Result<(), ReleaseError> {
        let none = || ReleaseError::NoSuchIncident(id.to_owned());
        let id: IncidentId = id.parse().map_err(|_| none())?;
        let state = self
            .engine
            .table()
            .items
            .get(&id)
            .map(|item| item.incident.state);
        match state {
            None => Err(none()),
            Some(State::Sealed) => self.engine.release(&id, who).await,
            Some(_) => Err(ReleaseError::NotSealed(id.as_str().to_owned())),
        }
    }

    /// Adds an act to an incident's custody record; it is durable when this returns. To be called
    /// before the first byte of a download leaves.
    pub async fn note(
        &self,
        id: &str,
        who: &str,
        action: &str,
        detail: &str,
    ) -> Result<(), NoteError> {
        let none = || NoteError::NoSuchIncident(id.to_owned());
        let parsed: IncidentId = id.parse().map_err(|_| none())?;
        let desk = self
            .engine
            .table()
            .items
            .get(&parsed)
            .map(|item| Arc::clone(&item.desk));
        let desk = desk.ok_or_else(none)?;
        let act = Act::new(who, action, detail);
        let engine = Arc::clone(&self.engine);
        let noted = self
            .engine
            .tasks
            .spawn_blocking(move || engine.at_desk(&parsed, &desk, |folder| folder.note(act)));
        match noted.await {
            Ok(Ok(Some(()))) => Ok(()),
            Ok(Ok(None)) => Err(none()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(NoteError::Stopping),
        }
    }

    /// Bytes of evidence, files shared by several incidents counted once.
    pub fn evidence_bytes(&self) -> u64 {
        self.engine.evidence_bytes.load(Ordering::Relaxed)
    }

    /// What people should know: folders that cannot be read, a quota that is used up.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.engine.table().problems.clone();
        if self.engine.full.load(Ordering::Relaxed) {
            problems.push(format!(
                "evidence holds {} bytes, its quota is {}: release incidents or raise \
                 evidence.quota; new precursors are refused",
                self.evidence_bytes(),
                self.engine.quota_bytes
            ));
        }
        problems
    }
}
