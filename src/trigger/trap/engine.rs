//! Our SNMP engine (RFC 3411, RFC 3414): its id, how often it was started, and since when it runs.
//! Kept across restarts, or a sender's message of yesterday could be sent again.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{IoContext, IoError};

/// The file, in the server's own directory.
const FILE: &str = "snmp-engine.json";
/// No enterprise's number, then: the rest is octets of our own (RFC 3411, `SnmpEngineID`).
const PREFIX: [u8; 5] = [0x80, 0, 0, 0, 5];

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    id: String,
    boots: u32,
}

/// Our engine.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    id: Vec<u8>,
    boots: u32,
    started: Instant,
}

impl Engine {
    /// Reads the engine of `dir` and counts a start; a new one when there is none.
    pub(super) fn open(dir: &Path) -> Result<Self, IoError> {
        let path = dir.join(FILE);
        let saved: Option<Saved> = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            bytes => {
                let bytes = bytes.at("read", &path)?;
                let saved = serde_json::from_slice(&bytes).map_err(std::io::Error::other);
                Some(saved.at("read", &path)?)
            }
        };
        let known = saved.and_then(|saved| Some((hex::decode(saved.id).ok()?, saved.boots)));
        let (id, boots) = if let Some((id, boots)) = known {
            (id, boots.saturating_add(1))
        } else {
            let own = getrandom::u64().map_err(std::io::Error::other);
            let own = own.at("make an SNMP engine id for", &path)?;
            ([&PREFIX[..], &own.to_be_bytes()].concat(), 1)
        };
        let saved = Saved {
            id: hex::encode(&id),
            boots,
        };
        let mut json = serde_json::to_vec(&saved)
            .map_err(std::io::Error::other)
            .at("write", &path)?;
        json.push(b'\n');
        fs::create_dir_all(dir).at("create", dir)?;
        replace(&path, &json)?;
        Ok(Self {
            id,
            boots,
            started: Instant::now(),
        })
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// Boots, and seconds since the last.
    pub(super) fn clock(&self, now: Instant) -> (u32, u32) {
        let time = now.saturating_duration_since(self.started).as_secs();
        (self.boots, u32::try_from(time).unwrap_or(u32::MAX))
    }
}

/// Writes a file whole: a crash leaves the old one or the new.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let new = path.with_extension("json.new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        });
    written.at("write", &new)?;
    fs::rename(&new, path).at("rename", &new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_stays_and_its_boots_rise() {
        let dir = tempfile::tempdir().unwrap();
        let first = Engine::open(dir.path()).unwrap();
        let second = Engine::open(dir.path()).unwrap();
        assert_eq!(first.id(), second.id());
        assert_eq!(first.id().len(), 13);
        let now = Instant::now();
        assert_eq!((first.clock(now).0, second.clock(now).0), (1, 2));
        fs::write(dir.path().join(FILE), "nonsense").unwrap();
        let error = Engine::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
