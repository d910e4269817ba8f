//! The long-running commands: recorder, server, and both under one small parent.

pub mod clock;
pub mod indexer;
pub mod logging;
pub mod privileges;
pub mod record;
pub mod run;
pub mod serve;

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::args::Args;
use crate::cli::{Failure, load_config};
use crate::config::{Config, DEFAULT_PATH, embedded};

/// Set in the children of `run`: they end when it does, however it ends.
pub const CHILD: &str = "WIREWITNESS_CHILD";

/// Asks the kernel to end this process with its parent, if the parent is `run`.
pub fn die_with_parent() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let signal = Some(rustix::process::Signal::TERM);
    if let Err(error) = rustix::process::set_parent_process_death_signal(signal) {
        tracing::warn!(%error, "this process may outlive its parent");
    }
}

/// Tells systemd, if it is there, that the service is up.
pub fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager to tell");
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, SIGINT: end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals a long-running command listens to.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Listens from now on. Within a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }
}

/// Reads the configuration again for a reload; a mistake in it is logged, and the old one stays.
pub fn reread(args: &Args) -> Option<Config> {
    match load_config(args) {
        Ok(config) => Some(config),
        Err(failure) => {
            tracing::error!("reload: {failure}; the configuration in force stays");
            None
        }
    }
}

/// Runs a future on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("start: {error}")))?;
    Ok(runtime.block_on(work))
}

/// Makes what the embedded default needs, when it is what runs.
pub fn prepare(args: &Args) -> Result<(), Failure> {
    if args.config.is_none() && !Path::new(DEFAULT_PATH).exists() {
        embedded::make_hook_token().map_err(Failure::failed)?;
    }
    Ok(())
}
