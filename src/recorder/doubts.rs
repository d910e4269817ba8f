//! The segments in doubt, on record beside the slots: those of which a sync failed when their slots
//! had been given back. A recorder that is killed before it has read them back leaves that to its
//! successor.
//!
//! The record outlives the process and not the machine, as the slots do. A line of JSON per segment;
//! written anew as a whole each time, since it is seldom more than one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{IoContext, IoError};
use crate::recorder::recovery::{ASIDE, move_aside};
use crate::recorder::segment_file::{Content, read_back};
use crate::ring::names::SegmentName;

/// A segment, and what the disk was given of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Doubt {
    segment: String,
    #[serde(flatten)]
    content: Content,
}

/// The record of a running recorder.
#[derive(Debug)]
pub struct Doubts {
    path: PathBuf,
    all: BTreeMap<SegmentName, Content>,
}

impl Doubts {
    /// None so far; the record is to be beside these slots.
    pub fn beside(slots: &Path) -> Self {
        Self {
            path: record_of(slots),
            all: BTreeMap::new(),
        }
    }

    /// A segment is in doubt.
    pub fn raise(&mut self, name: SegmentName, content: Content) -> Result<(), IoError> {
        if self.all.insert(name, content) == Some(content) {
            return Ok(());
        }
        self.write()
    }

    /// It is not any more.
    pub fn dispel(&mut self, name: SegmentName) -> Result<(), IoError> {
        match self.all.remove(&name) {
            Some(_) => self.write(),
            None => Ok(()),
        }
    }

    fn write(&self) -> Result<(), IoError> {
        let path = &self.path;
        if self.all.is_empty() {
            return remove(path);
        }
        let lines = self.all.iter().filter_map(|(name, content)| {
            let segment = name.to_string();
            let content = *content;
            serde_json::to_string(&Doubt { segment, content }).ok()
        });
        let text: String = lines.map(|line| line + "\n").collect();
        // A kill in between leaves the old one or the new one.
        let fresh = path.with_extension("doubts.new");
        fs::write(&fresh, text).at("write", &fresh)?;
        fs::rename(&fresh, path).at("rename", &fresh)
    }
}

/// Reads back what a dead recorder left in doubt beside these slots, and moves aside what the disk
/// has lost of it; which segments. The record stays: see [`settled`].
pub fn settle(slots: &Path, folder: &Path) -> Result<Vec<SegmentName>, IoError> {
    let mut lost = Vec::new();
    for doubt in read(&record_of(slots))? {
        let Some(name) = SegmentName::parse(&doubt.segment) else {
            continue;
        };
        let path = folder.join(name.to_string());
        match read_back(&path) {
            Ok(content) if content == doubt.content => {
                tracing::warn!(segment = %name, "a sync of it had failed; read back, it is whole");
                continue;
            }
            // Rotated away since; or an attempt before this one moved it and came no further.
            Err(error) if error.source.kind() == ErrorKind::NotFound => {
                if !folder.join(ASIDE).join(name.to_string()).exists() {
                    continue;
                }
            }
            found => {
                if let Err(error) = found {
                    tracing::error!(%error, "a segment cannot be read back");
                }
                move_aside(folder, &path, "the disk lost what it had taken")?;
            }
        }
        lost.push(name);
    }
    Ok(lost)
}

/// What was lost is on record: the doubts are not needed any more.
pub fn settled(slots: &Path) -> Result<(), IoError> {
    remove(&record_of(slots))
}

fn record_of(slots: &Path) -> PathBuf {
    slots.with_extension("doubts")
}

fn read(path: &Path) -> Result<Vec<Doubt>, IoError> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        bytes => {
            let bytes = bytes.at("read", path)?;
            let lines = bytes.split(|&byte| byte == b'\n');
            Ok(lines
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect())
        }
    }
}

fn remove(path: &Path) -> Result<(), IoError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn name(number: u64) -> SegmentName {
        SegmentName {
            number,
            first: Timestamp::from_ns(number),
        }
    }

    /// Three segments in doubt, all as they were written.
    fn killed() -> (tempfile::TempDir, PathBuf, Doubts) {
        let dir = tempfile::tempdir().unwrap();
        let slots = dir.path().join("eth0.100.slots");
        let mut doubts = Doubts::beside(&slots);
        for number in 1..=3 {
            let path = dir.path().join(name(number).to_string());
            fs::write(&path, [7; 8192]).unwrap();
            doubts
                .raise(name(number), read_back(&path).unwrap())
                .unwrap();
        }
        (dir, slots, doubts)
    }

    #[test]
    fn a_successor_moves_aside_what_the_disk_lost_and_nothing_else() {
        let (dir, slots, _) = killed();
        let path = |number| dir.path().join(name(number).to_string());
        fs::write(path(2), [[7; 4096], [0; 4096]].concat()).unwrap();
        fs::remove_file(path(3)).unwrap();
        assert_eq!(settle(&slots, dir.path()).unwrap(), [name(2)]);
        assert_eq!([1, 2].map(|number| path(number).exists()), [true, false]);
        let again = settle(&slots, dir.path()).unwrap();
        assert_eq!(again, [name(2)], "until it is on record");
        settled(&slots).unwrap();
        assert_eq!(settle(&slots, dir.path()).unwrap(), []);
        settled(&slots).unwrap();
    }

    #[test]
    fn a_doubt_that_is_dispelled_is_off_the_record() {
        let (dir, slots, mut doubts) = killed();
        fs::write(dir.path().join(name(2).to_string()), b"").unwrap();
        doubts.dispel(name(2)).unwrap();
        assert_eq!(settle(&slots, dir.path()).unwrap(), []);
        for number in [1, 2, 3] {
            doubts.dispel(name(number)).unwrap();
        }
        assert!(!record_of(&slots).exists());
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let (dir, slots, _) = killed();
        let record = record_of(&slots);
        let whole = fs::read_to_string(&record).unwrap();
        let torn = "{\"segment\":\"../../x\",\"bytes\":1,\"crc32\":2}\n\u{fffd}\n{\"segm";
        fs::write(&record, whole + torn).unwrap();
        fs::write(dir.path().join(name(3).to_string()), b"").unwrap();
        assert_eq!(settle(&slots, dir.path()).unwrap(), [name(3)]);
    }
}
