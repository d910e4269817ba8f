//! The way to the medium: every fsync and fdatasync of recorder and incidents goes through here and
//! says what it is for.
//!
//! A program built with the feature `skip-sync` (tests only) leaves out the one that the variable
//! `WW_SKIP_SYNC` names. That is how the power-cut tests prove that they would notice.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::error::{IoContext, IoError};

/// What is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Blocks appended to a segment.
    SegmentData,
    /// The names of our own folders: ring, incidents, state and what they lie in.
    OwnFolders,
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

/// Makes a folder, with `mode`, and those above it that are missing, and their names durable. The name
/// of one that is there already is made durable as well: who made it may have been killed before.
pub fn make_folders(path: &Path, mode: u32) -> Result<(), IoError> {
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Ok(()),
    };
    let make = || DirBuilder::new().mode(mode).create(path);
    let outcome = match make() {
        // Once: where nothing can be made, as in /proc, it is not found afterwards either.
        Err(error) if error.kind() == ErrorKind::NotFound && above != path => {
            make_folders(above, 0o755)?;
            make()
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => folder(above, Site::OwnFolders),
        Err(_) if path.is_dir() => {
            // The folder above may be another's, and closed to us; then its name is not of our making.
            if let Err(error) = folder(above, Site::OwnFolders) {
                tracing::debug!(%error, "its names are not made durable");
            }
            Ok(())
        }
        Err(error) => Err(IoError::new("create", path, error)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_those_above_them_and_what_is_no_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            make_folders(&deep, 0o700).unwrap();
            assert!(deep.is_dir());
        }
        std::fs::write(deep.join("file"), "").unwrap();
        for refused in ["file", "file/below"] {
            let error = make_folders(&deep.join(refused), 0o700).unwrap_err();
            assert!(error.to_string().contains("file"), "{error}");
        }
        for there in ["/", "."] {
            make_folders(Path::new(there), 0o700).unwrap();
        }
    }

    #[test]
    fn where_nothing_can_be_made_is_said() {
        let error = make_folders(Path::new("/proc/nowhere/ring"), 0o700).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
