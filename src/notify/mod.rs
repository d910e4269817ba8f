//! Telling people: incidents opened, promoted and sealed, and this product's own trouble, by hook,
//! chat, mail and syslog.
//!
//! Two watchers make news: `teller` of incidents, `watcher` of troubles (decided in `watch`). News
//! goes into the `store`, which remembers across restarts what was told and what waits; a task
//! per target (`deliver`) takes it from there. Nothing here is waited for by the incident engine.

pub mod config;
mod deliver;
pub mod event;
mod incidents;
mod look;
mod pace;
mod send;
mod shape;
pub mod status;
mod store;
mod target;
mod teller;
mod watch;
mod watcher;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{NotifyConfig, NotifyError, WatchConfig, validate_all};
pub use status::{Notifier, TargetStatus, TestError, Tested};
pub use target::{Target, open};

use crate::incident::{ClockState, Incidents};
use crate::recorder::client::Client;
use crate::trigger::status::Sources;
use store::Store;

/// What waits and what was told, within the server's own directory.
const FILE: &str = "notify.json";

/// What the watchers look at.
#[derive(Debug)]
pub struct Parts {
    /// `[watch]`.
    pub watch: WatchConfig,
    /// The server's own directory.
    pub state_dir: PathBuf,
    /// The quota of evidence in bytes.
    pub evidence_quota_bytes: u64,
    /// The incidents.
    pub incidents: Incidents,
    /// The recorder's client.
    pub recorder: Client,
    /// How the sources are doing.
    pub sources: Sources,
    /// Asks the kernel about its clock.
    pub clock: fn() -> ClockState,
}

/// Starts telling; within a tokio runtime. The tasks end when `stop` is cancelled.
pub fn start(
    targets: Vec<Target>,
    parts: Parts,
    stop: &CancellationToken,
) -> (Notifier, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let path = parts.state_dir.join(FILE);
    if targets.is_empty() {
        // What happens from now on is never told: whoever adds a target later begins anew.
        store::forget(&path);
        return (Notifier::default(), tasks);
    }
    let targets: Vec<Arc<Target>> = targets.into_iter().map(Arc::new).collect();
    let store = Arc::new(Store::open(path, targets.clone()));
    for target in &targets {
        tasks.spawn(deliver::run(
            Arc::clone(target),
            Arc::clone(&store),
            stop.clone(),
        ));
    }
    tasks.spawn(teller::run(
        parts.incidents.clone(),
        Arc::clone(&store),
        stop.clone(),
    ));
    tasks.spawn(watcher::run(parts, Arc::clone(&store), stop.clone()));
    (Notifier::new(store, targets), tasks)
}
