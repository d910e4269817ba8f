//! Drills: whether the way from a trigger to sealed evidence is whole.
//!
//! A drill sends a marked, harmless trigger the way that a source's own senders go (`send`), waits
//! until it comes back as a sealed incident and reads that back (`run`). Its steps and how it ended
//! are kept (`history`), and `schedule` says when the next is due.

mod canary;
mod config;
mod history;
mod http;
pub mod record;
mod run;
pub mod schedule;
mod send;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Local;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::DrillConfig;
pub use record::{Done, Drill, Outcome, Sighting, Step};
pub use schedule::Daytime;

use crate::error::IoError;
use crate::incident::Incidents;
use crate::time::Timestamp;
use crate::tls::TlsFiles;
use crate::trigger::Kind;
use crate::trigger::drill::{Marks, reach};
use crate::trigger::rehearsal::{Target, Way};
use history::{Book, History};
use send::Doors;

/// Drills side by side.
const SIDE_BY_SIDE: usize = 8;
/// Changes that a slow watcher may fall behind before it misses some.
const CHANGES: usize = 256;
/// What stands for all sources.
pub const ALL: &str = "all";
/// Who asks for a drill by the schedule.
pub const SCHEDULE: &str = "schedule";

/// What drills work with.
#[derive(Debug)]
pub struct Parts {
    /// `[drill]`.
    pub config: DrillConfig,
    /// What can be drilled.
    pub targets: Vec<Target>,
    /// The marks that sources look for.
    pub marks: Marks,
    /// Where triggers end.
    pub incidents: Incidents,
    /// The server's own directory.
    pub state_dir: PathBuf,
    /// Where the web server listens.
    pub web: SocketAddr,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Its unix socket; empty when there is none.
    pub socket: PathBuf,
}

/// Why a drill was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such source.
    #[error("there is no source {0:?}; there are {1}")]
    NoSuchSource(String, String),
    /// It cannot be drilled.
    #[error("{0} cannot be drilled: {1}")]
    Cannot(String, String),
    /// One is under way.
    #[error("a drill of {0} is under way; wait until it ended")]
    Underway(String),
}

/// What can be drilled, and what cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drillable {
    /// What kind of source.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why it cannot be drilled; null when it can.
    pub cannot: Option<String>,
}

/// Everything about drills at a moment.
#[derive(Debug, Clone, Serialize)]
pub struct Board {
    /// The sources.
    pub sources: Vec<Drillable>,
    /// When the next is due by the schedule; null without one.
    pub next: Option<Timestamp>,
    /// The history, newest first.
    pub drills: Vec<Drill>,
}

/// What drills came to, by kind of source; for metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// How many ended so since the start of the server.
    pub ended: BTreeMap<(Kind, &'static str), u64>,
    /// When the last one passed, and how long it took.
    pub passed: BTreeMap<Kind, (Timestamp, std::time::Duration)>,
}

/// The drills. Clones share them.
#[derive(Debug, Clone)]
pub struct Drills {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: DrillConfig,
    targets: Vec<Target>,
    marks: Marks,
    incidents: Incidents,
    doors: Doors,
    history: Mutex<History>,
    /// Locked on threads that may wait for the disk only.
    book: Mutex<Book>,
    ended: Mutex<BTreeMap<(Kind, &'static str), u64>>,
    /// The next by the schedule.
    next: Mutex<Option<Timestamp>>,
    changes: broadcast::Sender<Drill>,
    room: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drills {
    /// Reads the history.
    pub fn open(parts: Parts, stop: CancellationToken) -> Result<Self, IoError> {
        let (history, book) = history::open(&parts.state_dir)?;
        let local = reach(parts.web).ip();
        let mut targets = parts.targets;
        for target in &mut targets {
            // To an address of this host it is sent from the same.
            if let Ok(Way::Webhook(hook)) = &target.way
                && let Some(why) = hook.refuses(local)
            {
                target.way = Err(why);
            }
        }
        let drills = Self {
            shared: Arc::new(Shared {
                config: parts.config,
                targets,
                marks: parts.marks,
                incidents: parts.incidents,
                doors: Doors {
                    web: parts.web,
                    tls: parts.tls,
                    socket: parts.socket,
                },
                history: Mutex::new(history),
                book: Mutex::new(book),
                ended: Mutex::default(),
                next: Mutex::new(None),
                changes: broadcast::Sender::new(CHANGES),
                room: Semaphore::new(SIDE_BY_SIDE),
                stop,
                tasks: TaskTracker::new(),
            }),
        };
        Ok(drills)
    }

    /// Begins the drills that are due, until the server stops. A drill that was due while it did
    /// not run is made up for at its start.
    pub async fn keep_schedule(self) {
        if let Some(every) = self.shared.config.every {
            let at = self.shared.config.at;
            let by_schedule = |drill: &&Drill| drill.asked_by == SCHEDULE;
            let known = self.history().drills().iter().rfind(by_schedule).cloned();
            let mut last = known.map_or_else(Timestamp::now, |drill| drill.started);
            loop {
                let due = schedule::next(every, at, last, &Local);
                *self.next() = Some(due);
                if !self.wait_until(due).await {
                    break;
                }
                last = Timestamp::now();
                self.begin_scheduled();
            }
        }
        self.shared.stop.cancelled().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Waits for a time of the clock, which may be set meanwhile; `false` when the server stops.
    async fn wait_until(&self, due: Timestamp) -> bool {
        const LOOK: std::time::Duration = std::time::Duration::from_secs(10);
        loop {
            let left = due.since(Timestamp::now());
            if left.is_zero() {
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                () = self.shared.stop.cancelled() => return false,
            }
        }
    }

    fn begin_scheduled(&self) {
        let names = self.shared.config.sources.clone();
        let all = vec![ALL.to_owned()];
        for name in if names.is_empty() { all } else { names } {
            if let Err(why) = self.begin(&name, SCHEDULE) {
                tracing::warn!("drill: {why}");
            }
        }
    }

    /// Begins a drill of each source of this name, or of [`ALL`] that can be drilled. Within a
    /// tokio runtime.
    pub fn begin(&self, name: &str, who: &str) -> Result<Vec<Drill>, Refused> {
        let chosen = self.chosen(name)?;
        let mut begun = Vec::with_capacity(chosen.len());
        for place in chosen {
            let Some(target) = self.shared.targets.get(place) else {
                continue;
            };
            let number = getrandom::u64().unwrap_or(Timestamp::now().as_ns());
            let drill = Drill {
                id: format!("{number:016x}"),
                kind: target.kind,
                source: target.name.clone(),
                asked_by: who.to_owned(),
                started: Timestamp::now(),
                ended: None,
                outcome: Outcome::Running,
                why: None,
                failed_at: None,
                incident: None,
                steps: Vec::new(),
                sighting: None,
                notes: Vec::new(),
            };
            self.history().put(drill.clone());
            let task = run::run(self.clone(), place, drill.clone());
            self.shared.tasks.spawn(task);
            begun.push(drill);
        }
        Ok(begun)
    }

    fn chosen(&self, name: &str) -> Result<Vec<usize>, Refused> {
        let all = name == ALL;
        let mut chosen = Vec::new();
        let mut cannot = None;
        let mut underway = None;
        for (place, target) in self.shared.targets.iter().enumerate() {
            if !all && target.name != name {
                continue;
            }
            if let Err(why) = &target.way {
                cannot = Some(Refused::Cannot(target.name.clone(), why.clone()));
            } else if self.is_underway(target) {
                underway = Some(Refused::Underway(target.name.clone()));
            } else {
                chosen.push(place);
            }
        }
        if !chosen.is_empty() {
            return Ok(chosen);
        }
        Err(underway.or(cannot).unwrap_or_else(|| {
            let names = self.shared.targets.iter().map(|one| one.name.as_str());
            let known: Vec<&str> = names.chain([ALL]).collect();
            let shown = crate::trigger::cut(name, 80).to_owned();
            Refused::NoSuchSource(shown, known.join(", "))
        }))
    }

    fn is_underway(&self, target: &Target) -> bool {
        self.history().drills().iter().any(|drill| {
            drill.outcome == Outcome::Running
                && drill.kind == target.kind
                && drill.source == target.name
        })
    }

    /// What can be drilled, and how drills ended; of these the latest `limit`.
    pub fn board(&self, limit: usize) -> Board {
        let sources = self.shared.targets.iter().map(|target| Drillable {
            kind: target.kind,
            name: target.name.clone(),
            cannot: target.way.as_ref().err().cloned(),
        });
        let sources = sources.collect();
        let next = *self.next();
        let history = self.history();
        let drills = history.drills().iter().rev().take(limit).cloned();
        Board {
            sources,
            next,
            drills: drills.collect(),
        }
    }

    /// Drills as they get on, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Drill> {
        self.shared.changes.subscribe()
    }

    /// What they came to.
    pub fn tally(&self) -> Tally {
        let ended = &self.shared.ended;
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tally = Tally {
            ended,
            ..Tally::default()
        };
        for drill in self.history().drills() {
            if let (Outcome::Passed, Some(at), Some(took)) =
                (drill.outcome, drill.ended, drill.took())
            {
                tally.passed.insert(drill.kind, (at, took));
            }
        }
        tally
    }

    /// Writes a drill down. Blocks.
    fn write(&self, drill: &Drill) -> Result<(), IoError> {
        let book = &self.shared.book;
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        book.write(drill, || self.history().drills().to_vec())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        let history = &self.shared.history;
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> MutexGuard<'_, Option<Timestamp>> {
        let next = &self.shared.next;
        next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
