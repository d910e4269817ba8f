//! What the handlers share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::WebConfig;
use super::accounts::AccountError;
use super::auth::Auth;
use super::hooks::Calls;
use super::status::Board;
use crate::drill::Drills;
use crate::incident::Incidents;
use crate::incident::manifest::ClockState;
use crate::index::Index;
use crate::notify::Notifier;
use crate::recorder::client::Client;
use crate::time::Timestamp;
use crate::trigger::status::Sources;
use crate::trigger::webhook::Hook;

/// Downloads written at once: each keeps a thread and a disk busy.
const DOWNLOADS_MAX: usize = 8;
/// Incidents whose packets are counted at once.
const SCANS_MAX: usize = 2;

/// What the server is made of, as far as the web face needs it.
#[derive(Debug)]
pub struct Parts {
    /// `[web]`.
    pub config: WebConfig,
    /// Where accounts, sessions and links are kept.
    pub state_dir: PathBuf,
    /// The ring's folder.
    pub ring: PathBuf,
    /// The quota of evidence in bytes.
    pub evidence_quota_bytes: u64,
    /// `window.before`.
    pub before: Duration,
    /// The incidents.
    pub incidents: Incidents,
    /// The flow index.
    pub index: Arc<Index>,
    /// The recorder's client.
    pub recorder: Client,
    /// The hooks that take calls.
    pub hooks: Vec<Hook>,
    /// How the sources are doing.
    pub sources: Sources,
    /// The drills.
    pub drills: Drills,
    /// Who is told of incidents and troubles.
    pub notifier: Notifier,
    /// Asks the kernel about its clock.
    pub clock: fn() -> ClockState,
}

/// The server as the web face sees it. Clones share it.
#[derive(Debug, Clone)]
pub struct App {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    auth: Arc<Auth>,
    hooks: HashMap<String, usize>,
    calls: Calls,
    board: Board,
    downloads: Arc<Semaphore>,
    scans: Semaphore,
    started: Timestamp,
    stop: CancellationToken,
}

impl App {
    /// Opens accounts and sessions in the state directory. `stop` ends the streams.
    pub fn new(parts: Parts, stop: CancellationToken) -> Result<Self, AccountError> {
        let auth = Arc::new(Auth::open(&parts.state_dir, parts.config.session)?);
        let names = parts.hooks.iter().map(|hook| hook.name().to_owned());
        Ok(Self {
            shared: Arc::new(Shared {
                hooks: names.zip(0..).collect(),
                parts,
                auth,
                calls: Calls::default(),
                board: Board::default(),
                downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
                scans: Semaphore::new(SCANS_MAX),
                started: Timestamp::now(),
                stop,
            }),
        })
    }

    pub(super) fn config(&self) -> &WebConfig {
        &self.shared.parts.config
    }

    pub(super) fn auth(&self) -> &Arc<Auth> {
        &self.shared.auth
    }

    pub(super) fn incidents(&self) -> &Incidents {
        &self.shared.parts.incidents
    }

    pub(super) fn index(&self) -> &Arc<Index> {
        &self.shared.parts.index
    }

    pub(super) fn recorder(&self) -> &Client {
        &self.shared.parts.recorder
    }

    pub(super) fn sources(&self) -> &Sources {
        &self.shared.parts.sources
    }

    pub(super) fn drills(&self) -> &Drills {
        &self.shared.parts.drills
    }

    pub(super) fn notifier(&self) -> &Notifier {
        &self.shared.parts.notifier
    }

    pub(super) fn hook(&self, name: &str) -> Option<&Hook> {
        let position = *self.shared.hooks.get(name)?;
        self.shared.parts.hooks.get(position)
    }

    /// What the hooks share.
    pub(super) fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    pub(super) fn board(&self) -> &Board {
        &self.shared.board
    }

    pub(super) fn downloads(&self) -> &Arc<Semaphore> {
        &self.shared.downloads
    }

    pub(super) fn scans(&self) -> &Semaphore {
        &self.shared.scans
    }

    pub(super) fn ring(&self) -> &Path {
        &self.shared.parts.ring
    }

    pub(super) fn evidence_quota_bytes(&self) -> u64 {
        self.shared.parts.evidence_quota_bytes
    }

    pub(super) fn before(&self) -> Duration {
        self.shared.parts.before
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.shared.parts.state_dir
    }

    pub(super) fn clock(&self) -> ClockState {
        (self.shared.parts.clock)()
    }

    pub(super) fn started(&self) -> Timestamp {
        self.shared.started
    }

    /// Cancelled when the server stops; streams end with it.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}
