//! How each target is doing, and the handle that the web face has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::config::NotifyKind;
use super::event::{Event, News};
use super::store::Store;
use super::target::Target;
use crate::time::Timestamp;

/// How a target is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// The last message arrived, or there was none yet.
    #[default]
    Ok,
    /// The last attempt failed; the detail says why.
    Failing,
}

/// What a target counts since the server started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) state: TargetState,
    pub(super) last_error: String,
    pub(super) last_sent: Option<Timestamp>,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
}

/// A moment's picture of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetStatus {
    /// Its configured name.
    pub name: String,
    /// Where it goes.
    pub kind: NotifyKind,
    /// How it is doing.
    pub state: TargetState,
    /// Notifications that arrived.
    pub sent: u64,
    /// Notifications that the receiver refused for good.
    pub failed: u64,
    /// Notifications that were the oldest in a full queue.
    pub dropped: u64,
    /// Notifications that wait.
    pub waiting: usize,
    /// When one arrived last.
    pub last_sent: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// A test message arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The target.
    pub target: String,
    /// Where it went.
    pub to: String,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// A test message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// There is no such target.
    #[error("there is no [[notify]] of that name; there are: {0}")]
    NoSuchTarget(String),
    /// It was not delivered; the text says where and why.
    #[error("{0}")]
    Failed(String),
}

/// All targets, for everybody who shows or tries them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    store: Option<Arc<Store>>,
    targets: Arc<[Arc<Target>]>,
}

impl Notifier {
    pub(super) fn new(store: Arc<Store>, targets: Vec<Arc<Target>>) -> Self {
        Self {
            store: Some(store),
            targets: targets.into(),
        }
    }

    /// All targets, in the order of the configuration.
    pub fn status(&self) -> Vec<TargetStatus> {
        let one = |target: &Arc<Target>| {
            let counts = target.counts().clone();
            TargetStatus {
                name: target.name().to_owned(),
                kind: target.kind(),
                state: counts.state,
                sent: counts.sent,
                failed: counts.failed,
                dropped: counts.dropped,
                waiting: self.store.as_ref().map_or(0, |store| store.waiting(target)),
                last_sent: counts.last_sent,
                last_error: (!counts.last_error.is_empty()).then_some(counts.last_error),
            }
        };
        self.targets.iter().map(one).collect()
    }

    /// Sends a test message to a target, at once and once, past what waits.
    pub async fn test(&self, name: &str) -> Result<Tested, TestError> {
        let Some(target) = self.targets.iter().find(|target| target.name() == name) else {
            let known: Vec<&str> = self.targets.iter().map(|target| target.name()).collect();
            let known = match known.as_slice() {
                [] => "none".to_owned(),
                known => known.join(", "),
            };
            return Err(TestError::NoSuchTarget(known));
        };
        let at = Timestamp::now();
        let event = Event {
            id: format!("test-{}", at.as_ns()),
            at,
            news: News::Test,
        };
        let begun = Instant::now();
        let sent = target.send(&[event]).await;
        target.note(&sent, 1);
        let took: Duration = begun.elapsed();
        match sent {
            Ok(()) => Ok(Tested {
                target: name.to_owned(),
                to: target.to().to_owned(),
                milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
            Err(failure) => Err(TestError::Failed(format!("{}: {failure}", target.to()))),
        }
    }
}
