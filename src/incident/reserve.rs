//! Room that is kept back for evidence, so that a fault is frozen on a disk that somebody else
//! has filled: a file of allocated blocks that is given up the moment they are needed, and taken
//! again when there is room.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::error::{IoContext, IoError};

/// The file's name; a leading dot, so that it is never taken for an incident.
pub(super) const RESERVE_FILE: &str = ".reserve";

/// Some forty incidents of five minutes, whose packets are links that take no room.
const RESERVE_BYTES: u64 = 16 << 20;

/// With less than this a disk is full: what is to be written may not fit.
const FULL_BYTES: u64 = 1 << 20;

/// The reserves, one on each file system that evidence is written to.
#[derive(Debug)]
pub(super) struct Reserve {
    folders: Vec<PathBuf>,
}

impl Reserve {
    /// For what is written below `folders`.
    pub(super) fn new(folders: &[&Path]) -> Self {
        let folders = folders.iter().map(|folder| folder.to_path_buf());
        Self {
            folders: folders.collect(),
        }
    }

    /// Takes the blocks where there are plenty.
    pub(super) fn hold(&self) {
        for folder in self.one_a_file_system() {
            if let Err(error) = hold(folder) {
                tracing::warn!(%error, "no room is kept back for evidence");
            }
        }
    }

    /// Gives up the blocks of disks that are full; whether there were any.
    pub(super) fn give(&self) -> bool {
        let mut given = false;
        for folder in self.one_a_file_system() {
            if room(folder) < FULL_BYTES && fs::remove_file(folder.join(RESERVE_FILE)).is_ok() {
                tracing::warn!(folder = %folder.display(), "disk full: the room kept back for evidence is used");
                given = true;
            }
        }
        given
    }

    /// The recorder makes some of the folders, perhaps after us.
    fn one_a_file_system(&self) -> Vec<&Path> {
        let mut found: Vec<(u64, &Path)> = Vec::new();
        for folder in &self.folders {
            let Ok(device) = fs::metadata(folder).map(|metadata| metadata.dev()) else {
                continue;
            };
            if found.iter().all(|(other, _)| *other != device) {
                found.push((device, folder));
            }
        }
        found.into_iter().map(|(_, folder)| folder).collect()
    }
}

fn hold(folder: &Path) -> Result<(), IoError> {
    let path = folder.join(RESERVE_FILE);
    if fs::symlink_metadata(&path).is_ok_and(|file| file.len() == RESERVE_BYTES) {
        return Ok(());
    }
    if room(folder) < 4 * RESERVE_BYTES {
        return Ok(());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(IoError::new("remove", &path, error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file: File = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .at("create", &path)?;
    fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)
        .map_err(std::io::Error::from)
        .at("allocate", &path)
}

/// Bytes that an ordinary user may still take of the file system.
fn room(folder: &Path) -> u64 {
    statvfs(folder).map_or(u64::MAX, |room| room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_held_once_and_kept_while_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let reserve = Reserve::new(&[dir.path(), &other]);
        reserve.hold();
        reserve.hold();
        let file = fs::metadata(dir.path().join(RESERVE_FILE)).unwrap();
        assert!(file.blocks() * 512 >= RESERVE_BYTES, "they are allocated");
        assert!(!other.join(RESERVE_FILE).exists(), "one a file system");
        assert!(!reserve.give(), "the disk is not full");
        assert!(dir.path().join(RESERVE_FILE).exists());
    }

    #[test]
    fn half_a_reserve_is_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RESERVE_FILE), b"torn").unwrap();
        Reserve::new(&[dir.path()]).hold();
        let file = fs::metadata(dir.path().join(RESERVE_FILE)).unwrap();
        assert_eq!(file.len(), RESERVE_BYTES);
    }
}
