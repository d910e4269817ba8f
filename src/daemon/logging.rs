//! Where the log goes: standard error, one line an event, without colours or times under systemd,
//! which adds its own.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sets the log up. `RUST_LOG` overrides what is logged.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let done = if under_systemd {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
    // A second call (both roles in one test process) keeps the first log.
    if let Err(error) = done {
        tracing::trace!(%error, "the log was set up before");
    }
}
