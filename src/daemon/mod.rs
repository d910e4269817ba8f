//! The long-running commands: recorder, server, and both under one small parent.

pub mod clock;
pub mod indexer;
pub mod logging;
pub mod privileges;
pub mod record;
pub mod run;
pub mod serve;

use std::path::Path;

use crate::cli::Failure;
use crate::cli::args::Args;
use crate::config::{DEFAULT_PATH, embedded};

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

/// Blocks until SIGTERM or SIGINT.
pub fn wait_for_stop() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("wait for signals: {error}")))?;
    runtime
        .block_on(stop_signal())
        .map_err(|error| Failure::failed(format!("wait for signals: {error}")))
}

/// Completes at SIGTERM or SIGINT.
pub async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Makes what the embedded default needs, when it is what runs.
pub fn prepare(args: &Args) -> Result<(), Failure> {
    if args.config.is_none() && !Path::new(DEFAULT_PATH).exists() {
        embedded::make_hook_token().map_err(Failure::failed)?;
    }
    Ok(())
}
