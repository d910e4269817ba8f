//! The folder of an incident: the server's own files beside the recorder's `segments/`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{self, Head};
use super::custody::{Act, CUSTODY_FILE, OPENED, SEALED, SELF, TIMELINE_FILE, TimelineLine};
use super::durable;
use super::id::IncidentId;
use super::manifest::{LIVE_FILE, SEGMENTS_DIR};
use super::model::Incident;
use super::retention::Blob;
use crate::error::{IoContext, IoError};
use crate::ring::catalog::{Catalog, SegmentFile};

/// The mode of the files people may read.
pub(super) const MODE: u32 = 0o640;

/// `incident.json`: an incident before it is sealed. The journal is the truth; this saves reading
/// it and serves people who look at the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    /// The incident.
    pub(super) incident: Incident,
    /// The senders' identities of its events.
    pub(super) dedup_keys: BTreeSet<String>,
}

/// The folder of one incident, opened to be written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) custody: Head,
    pub(super) timeline: Head,
    /// The number of the last trigger in the timeline.
    pub(super) noted: u64,
    /// The notes in the timeline: few.
    notes: Vec<TimelineLine>,
    /// The detail of the last line that seals, if there is one.
    pub(super) seal: Option<String>,
}

impl Folder {
    /// Opens the folder, which the recorder made; the custody record begins with the id.
    pub(super) fn open(path: &Path, id: &IncidentId) -> Result<Self, IoError> {
        let custody = chain::reopen::<Act>(&path.join(CUSTODY_FILE))?;
        let timeline = chain::reopen::<TimelineLine>(&path.join(TIMELINE_FILE))?;
        let seal = custody.items.iter().rfind(|act| act.action == SEALED);
        let mut folder = Self {
            path: path.to_owned(),
            custody: custody.head,
            noted: timeline
                .items
                .iter()
                .map(TimelineLine::last_number)
                .max()
                .unwrap_or(0),
            notes: notes(timeline.items),
            timeline: timeline.head,
            seal: seal.map(|act| act.detail.clone()),
        };
        if folder.custody.lines == 0 {
            folder.note(Act::new(SELF, OPENED, id.as_str()))?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an act to the custody record.
    pub(super) fn note(&mut self, act: Act) -> Result<(), IoError> {
        chain::append(&self.path.join(CUSTODY_FILE), &mut self.custody, &[&act])?;
        if act.action == SEALED {
            self.seal = Some(act.detail);
        }
        Ok(())
    }

    /// Adds triggers to the timeline, those it does not have yet.
    pub(super) fn add(&mut self, lines: &[TimelineLine]) -> Result<(), IoError> {
        let new = lines.iter().filter(|line| match line.note {
            None => line.last_number() > self.noted,
            Some(_) => !self.notes.contains(line),
        });
        let mut new: Vec<TimelineLine> = new.cloned().collect();
        let first = new.iter_mut().find(|line| line.note.is_none());
        if let Some(first) = first
            && first.number <= self.noted
        {
            first.count = first.last_number() - self.noted;
            first.number = self.noted + 1;
        }
        if new.is_empty() {
            return Ok(());
        }
        chain::append(&self.path.join(TIMELINE_FILE), &mut self.timeline, &new)?;
        let last = new.iter().map(TimelineLine::last_number).max();
        self.noted = self.noted.max(last.unwrap_or(0));
        self.notes.extend(notes(new));
        Ok(())
    }

    /// Writes `incident.json`. Not synced: what a power cut takes of it, the journal has.
    pub(super) fn save(&self, live: &Live) -> Result<(), IoError> {
        let path = self.path.join(LIVE_FILE);
        let mut json = serde_json::to_vec_pretty(live)
            .map_err(|error| IoError::new("encode", &path, error.into()))?;
        json.push(b'\n');
        let tmp = durable::temporary(&path);
        durable::write(&tmp, &json, MODE)?;
        fs::rename(&tmp, &path).at("rename", &tmp)
    }
}

fn notes(lines: Vec<TimelineLine>) -> Vec<TimelineLine> {
    let mut lines = lines;
    lines.retain(|line| line.note.is_some());
    lines
}

/// The linked segments of an incident by interface folder, in order.
pub(super) fn segments(folder: &Path) -> Result<Vec<(String, Vec<SegmentFile>)>, IoError> {
    let root = folder.join(SEGMENTS_DIR);
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", &root)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("list", &root)?;
        if entry.file_type().at("stat", &entry.path())?.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let catalog = Catalog::scan(&entry.path())?;
            found.push((name, catalog.segments().to_vec()));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The inodes an incident holds.
pub(super) fn blobs(folder: &Path) -> Result<Vec<Blob>, IoError> {
    let mut blobs = Vec::new();
    for (_, files) in segments(folder)? {
        for file in files {
            let metadata = fs::symlink_metadata(&file.path).at("stat", &file.path)?;
            blobs.push(Blob {
                inode: metadata.ino(),
                bytes: metadata.len(),
            });
        }
    }
    Ok(blobs)
}
