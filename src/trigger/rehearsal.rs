//! What can be drilled: each source, and what it takes to send it something.

use std::path::PathBuf;

use super::{Kind, syslog, trap, webhook};

/// A source as a drill sees it.
#[derive(Debug)]
pub struct Target {
    /// What kind of source.
    pub kind: Kind,
    /// Its name, as the status page shows it; `manual` for people.
    pub name: String,
    /// How its mark gets there, or why it cannot be drilled.
    pub way: Result<Way, String>,
}

/// How a mark gets to a source.
#[derive(Debug)]
pub enum Way {
    /// A call of our own web server.
    Webhook(Box<webhook::Rehearsal>),
    /// A message to the listener.
    Syslog(Box<syslog::Rehearsal>),
    /// A trap to the receiver.
    Trap(Box<trap::Rehearsal>),
    /// The thread that probes sends it, asked through the marks.
    Probe,
    /// A line at the end of the file.
    Logfile(PathBuf),
    /// An entry of this machine's journal, under this identifier.
    Journal(String),
    /// A freeze asked for as people do.
    Manual,
}
