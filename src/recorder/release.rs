//! Removes an incident whose retention ended: whole, with a tombstone.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{IoContext, IoError};
use crate::recorder::store::make_folder;
use crate::recorder::sync::{self, Site};
use crate::time::Timestamp;

/// The folder of tombstones, below the incidents' folder.
pub const TOMBSTONES: &str = ".tombstones";

/// What stays of a released incident.
#[derive(Debug, Serialize)]
struct Tombstone<'a> {
    id: &'a str,
    released: Timestamp,
    /// SHA-256 of its manifest.json, so that a copy that was handed out can still be recognised.
    manifest_sha256: Option<String>,
}

/// Whether `id` can be an incident's folder: letters, digits and `-`, so that it is never a path.
pub fn is_incident_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && !id.starts_with('-')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Removes `incidents/<id>`; nothing there is fine. The tombstone is durable before the first file
/// goes.
pub fn release(incidents: &Path, id: &str, now: Timestamp) -> Result<(), IoError> {
    let folder = incidents.join(id);
    match fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // A disk that cannot say whether it is there has not let go of it.
        found => found.at("stat", &folder)?,
    };
    write_tombstone(incidents, id, now)?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(IoError::new("remove", &folder, error));
        }
        _ => {}
    }
    sync::folder(incidents, Site::Release)
}

fn write_tombstone(incidents: &Path, id: &str, now: Timestamp) -> Result<(), IoError> {
    let folder = incidents.join(TOMBSTONES);
    if make_folder(&folder, 0o750)? {
        sync::folder(incidents, Site::Tombstone)?;
    }
    let manifest = fs::read(incidents.join(id).join("manifest.json")).ok();
    let tombstone = Tombstone {
        id,
        released: now,
        manifest_sha256: manifest.map(|bytes| hex::encode(Sha256::digest(bytes))),
    };
    let path = folder.join(format!("{id}.json"));
    let text = serde_json::to_string(&tombstone)
        .map_err(std::io::Error::other)
        .at("write", &path)?;
    // A release that was interrupted left its tombstone, and perhaps no manifest.
    if is_whole_tombstone(&path) {
        return Ok(());
    }
    // The server may write beside us: a name it planted is removed, never followed.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(IoError::new("replace", &path, error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&path)
        .at("create", &path)?;
    file.write_all(text.as_bytes()).at("write", &path)?;
    sync::whole(&file, Site::Tombstone).at("fsync", &path)?;
    sync::folder(&folder, Site::Tombstone)
}

/// Whether a tombstone of ours is there already.
fn is_whole_tombstone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw()
    }) && fs::read(path)
        .is_ok_and(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_a_path() {
        assert!(is_incident_id("20261123T100211Z-5f3a9c"));
        for id in [
            "",
            "..",
            "a/b",
            ".tombstones",
            "-x",
            "a\0",
            "é",
            &"a".repeat(65),
        ] {
            assert!(!is_incident_id(id), "{id:?}");
        }
    }

    #[test]
    fn a_released_incident_leaves_a_tombstone_and_twice_is_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("i1/segments/eth0")).unwrap();
        fs::write(dir.path().join("i1/manifest.json"), b"{}").unwrap();
        for _ in 0..2 {
            release(dir.path(), "i1", Timestamp::from_ns(1)).unwrap();
            assert!(!dir.path().join("i1").exists());
        }
        let stone = fs::read_to_string(dir.path().join(".tombstones/i1.json")).unwrap();
        assert!(stone.contains("44136fa355b3678a"), "{stone}");
    }

    #[test]
    fn a_planted_tombstone_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let segment = dir.path().join("segment");
        fs::write(&segment, b"packets").unwrap();
        fs::create_dir_all(dir.path().join("i1")).unwrap();
        fs::create_dir(dir.path().join(TOMBSTONES)).unwrap();
        std::os::unix::fs::symlink(&segment, dir.path().join(".tombstones/i1.json")).unwrap();
        release(dir.path(), "i1", Timestamp::from_ns(1)).unwrap();
        assert_eq!(fs::read(&segment).unwrap(), b"packets");
        fs::remove_dir_all(dir.path().join(TOMBSTONES)).unwrap();
        fs::create_dir_all(dir.path().join("i2")).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join(TOMBSTONES)).unwrap();
        assert!(release(dir.path(), "i2", Timestamp::from_ns(1)).is_err());
    }
}
