//! The way to the medium: every fsync and fdatasync of recorder and incidents goes through here and
//! says what it is for.
//!
//! A program built with the feature `skip-sync` (tests only) leaves out the one that the variable
//! `WW_SKIP_SYNC` names. That is how the power-cut tests prove that they would notice.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::error::{IoContext, IoError};

/// What is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Blocks appended to a segment.
    SegmentData,
    /// A sealed segment's final length.
    SegmentEnd,
    /// Names in an interface's ring.
    RingFolder,
    /// The record of gaps.
    GapRecord,
    /// Lines of the accounting.
    SecondsData,
    /// Segments that recovery ended or brought in.
    Recovered,
    /// Links to pinned segments.
    PinFolder,
    /// The folders of an incident that hold those links.
    PinParents,
    /// The removal of a released incident.
    Release,
    /// A tombstone and its name.
    Tombstone,
    /// Lines of the trigger journal.
    JournalLine,
    /// Names of the journal's files.
    JournalFolder,
    /// Lines of custody record and timeline.
    ChainLine,
    /// Names of those files.
    ChainFolder,
    /// The state of an incident that is not sealed yet: a copy of what the journal holds.
    LiveState,
    /// Signature, keys and checksums of a sealed incident.
    SealFile,
    /// Names of those files.
    SealName,
    /// An incident's copy of the accounting.
    AccountingData,
    /// Names of those copies.
    AccountingName,
    /// The manifest.
    ManifestData,
    /// The manifest's name: the moment of sealing.
    ManifestName,
    /// The signing key.
    KeyData,
    /// Names of the signing key's files.
    KeyName,
    /// What waits to be told, and what was.
    Notifications,
}

/// Makes a file's content durable, and of its metadata what is needed to read it.
pub fn data(file: impl AsFd, site: Site) -> io::Result<()> {
    if is_left_out(site) {
        return Ok(());
    }
    Ok(rustix::fs::fdatasync(file)?)
}

/// Makes a file durable with all its metadata.
pub fn whole(file: impl AsFd, site: Site) -> io::Result<()> {
    if is_left_out(site) {
        return Ok(());
    }
    Ok(rustix::fs::fsync(file)?)
}

/// Makes the names in a folder durable.
pub fn folder(path: &Path, site: Site) -> Result<(), IoError> {
    let file = File::open(path).at("open", path)?;
    whole(&file, site).at("fsync", path)
}

#[cfg(not(feature = "skip-sync"))]
const fn is_left_out(_site: Site) -> bool {
    false
}

#[cfg(feature = "skip-sync")]
fn is_left_out(site: Site) -> bool {
    static NAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("WW_SKIP_SYNC").unwrap_or_default());
    *named == format!("{site:?}")
}
