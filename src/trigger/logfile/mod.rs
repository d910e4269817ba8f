//! Log files, followed through rotation.

mod checkpoint;
mod lines;
mod tail;
mod wake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use checkpoint::{Checkpoint, Identity, Store};
pub use lines::{LINE_BYTES_MAX, Line};
pub use tail::{Step, Tail};

use super::delivery::{Delivery, Stopping};
use super::event_time::{CLOCK_FIELD, event_time};
use super::rules::{self, Rules};
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::syslog::Message;
use super::{Kind, Trigger};
use crate::error::IoError;
use crate::time::Timestamp;

/// A checkpoint is saved at once after a trigger, otherwise at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// One `[[logfile]]`: a file to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogfileConfig {
    /// Its absolute path. It need not exist yet.
    pub path: PathBuf,
}

/// Why a log file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LogfileError {
    /// The path depends on where the server was started.
    #[error("[[logfile]] path = {0:?} is not absolute; begin it with /")]
    Relative(PathBuf),
    /// The path does not end in a file's name.
    #[error("[[logfile]] path = {0:?} does not name a file")]
    NoName(PathBuf),
    /// The checkpoint cannot be read or its directory made.
    #[error("[[logfile]] path = {path:?}: its checkpoint: {source}")]
    Checkpoint {
        /// The path.
        path: PathBuf,
        /// What failed.
        #[source]
        source: IoError,
    },
}

/// A log file ready to be followed.
#[derive(Debug)]
pub struct Logfile {
    path: PathBuf,
    name: String,
    store: Store,
    tail: Tail,
}

impl LogfileConfig {
    /// Checks the path and nothing else: the file itself may come later.
    pub fn validate(&self) -> Result<(), LogfileError> {
        if !self.path.is_absolute() {
            return Err(LogfileError::Relative(self.path.clone()));
        }
        if self.path.file_name().is_none()
            || self.path.as_os_str().as_encoded_bytes().ends_with(b"/")
        {
            return Err(LogfileError::NoName(self.path.clone()));
        }
        Ok(())
    }

    /// Reads the checkpoint of the last run from `state_dir`.
    pub fn open(&self, state_dir: &Path) -> Result<Logfile, LogfileError> {
        self.validate()?;
        let error = |source| LogfileError::Checkpoint {
            path: self.path.clone(),
            source,
        };
        let store = Store::new(state_dir, &self.path).map_err(error)?;
        let resume = store.load().map_err(error)?;
        Ok(Logfile {
            name: self.path.display().to_string(),
            tail: Tail::new(&self.path, resume),
            path: self.path.clone(),
            store,
        })
    }
}

impl Logfile {
    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        sources.register(Kind::Logfile, &self.name)
    }

    /// Follows the file until the delivery's token is cancelled.
    pub async fn run(self, rules: Arc<Rules>, delivery: Delivery) {
        let handle = delivery.handle().clone();
        let mut waker = wake::Waker::new(&self.path);
        let mut follower = Follower {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            name: self.name,
            store: self.store,
            rules,
            delivery,
            saved: None,
            saved_at: None,
        };
        let mut tail = self.tail;
        let token = follower.delivery.stop().clone();
        loop {
            // A log on a hanging network file system must hold up nothing but its own tail.
            let stepped = tokio::task::spawn_blocking(move || {
                let step = tail.step();
                (tail, step)
            });
            let step;
            match stepped.await {
                Ok(done) => (tail, step) = done,
                Err(error) => {
                    handle.set(SourceState::Failing, format!("ended: {error}"));
                    return;
                }
            }
            let more = step.more;
            if follower.take(step, &tail).await.is_err() {
                break;
            }
            if !more {
                tokio::select! {
                    () = waker.wait() => {}
                    () = token.cancelled() => break,
                }
            } else if token.is_cancelled() {
                break;
            }
        }
        handle.set(SourceState::Stopped, "");
    }
}

/// Turns what a tail found into triggers, then remembers how far it got.
struct Follower {
    host: String,
    name: String,
    store: Store,
    rules: Arc<Rules>,
    delivery: Delivery,
    saved: Option<Checkpoint>,
    saved_at: Option<Instant>,
}

impl Follower {
    async fn take(&mut self, step: Step, tail: &Tail) -> Result<(), Stopping> {
        let handle = self.delivery.handle();
        handle.count_by(Count::Rotated, step.rotated);
        self.report(step.failing.as_deref());
        let received = Timestamp::now();
        let triggers: Vec<Trigger> = step
            .lines
            .iter()
            .filter_map(|line| self.judge(line, received))
            .collect();
        let found = !triggers.is_empty();
        self.delivery.deliver_all(triggers).await?;
        self.save(tail, found).await;
        Ok(())
    }

    fn report(&self, failing: Option<&str>) {
        let handle = self.delivery.handle();
        let changed = match failing {
            Some(why) => handle.set(SourceState::Failing, why),
            None => handle.set(SourceState::Ok, "following"),
        };
        match failing {
            Some(why) if changed => tracing::warn!(source = handle.name(), "{why}"),
            None if changed => tracing::info!(source = handle.name(), "followed again"),
            _ => {}
        }
    }

    fn judge(&self, line: &Line, received: Timestamp) -> Option<Trigger> {
        let handle = self.delivery.handle();
        handle.count(Count::Received);
        if line.cut {
            handle.count(Count::Oversized);
        }
        let offered = rules::Line {
            kind: Kind::Logfile,
            source: &self.name,
            bytes: &line.bytes,
            host: &self.host,
            severity: None,
            facility: None,
        };
        let mut trigger = self.rules.apply(&offered, received, received)?;
        handle.count(Count::Matched);
        // Many logs begin as syslog does; a line read late still has its time.
        let time = event_time(Message::parse(&line.bytes, received).at, received);
        trigger.at = time.at;
        if let Some(clock) = time.clock {
            trigger
                .fields
                .insert(CLOCK_FIELD.to_owned(), clock.to_owned());
        }
        Some(trigger)
    }

    /// Saves the checkpoint if it moved. A crash before that offers the last lines again; they
    /// join the incident they opened.
    async fn save(&mut self, tail: &Tail, found: bool) {
        let checkpoint = tail.checkpoint();
        let recent = self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY);
        if checkpoint == self.saved || (recent && !found) {
            return;
        }
        let Some(checkpoint) = checkpoint else { return };
        let store = self.store.clone();
        let copy = checkpoint.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&copy)).await;
        match saved {
            Ok(Ok(())) => self.saved = Some(checkpoint),
            Ok(Err(error)) => tracing::warn!("a restart will read again: {error}"),
            Err(error) => tracing::warn!("a restart will read again: {error}"),
        }
        self.saved_at = Some(Instant::now());
    }
}
