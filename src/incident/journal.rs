//! The trigger journal: what makes a trigger durable before its sender is told so.
//!
//! `journal/` holds files `NNNNNNNNNN.jsonl` of lines `<16 hex digits> <JSON>\n`; the digits are
//! the beginning of the JSON's SHA-256, so a torn tail is recognised. One thread writes: it
//! drains what is queued, writes it at once and syncs once (group commit). Files are removed
//! when every incident named in them is settled.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::id::IncidentId;
use crate::error::{IoContext, IoError};
use crate::recorder::sync::{self, Site};
use crate::time::{Timestamp, Window};
use crate::trigger::{Resolution, Trigger};

/// A file that reached this length is followed by a new one.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Appends that may wait for the writer; more make the caller wait.
const QUEUE: usize = 64;
/// How many of those one sync may cover.
const GROUP: usize = 64;
const SUM_DIGITS: usize = 16;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub(super) enum Entry {
    /// A trigger opened or joined an incident.
    Trigger {
        /// The incident.
        incident: IncidentId,
        /// Its number among the incident's triggers; 1 opened it.
        number: u64,
        /// The incident's window after it.
        window: Window,
        /// The trigger.
        trigger: Box<Trigger>,
        /// The precursors it promotes, oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        promotes: Vec<IncidentId>,
    },
    /// An incident's source said that it is over.
    Resolution {
        /// The incident.
        incident: IncidentId,
        /// The incident's window after it.
        window: Window,
        /// The resolution.
        resolution: Box<Resolution>,
    },
    /// An incident is to be released; from here on it is never made again.
    Release {
        /// The incident.
        incident: IncidentId,
        /// Who asked.
        who: String,
        /// When.
        at: Timestamp,
    },
}

impl Entry {
    /// Every incident it changes.
    fn incidents(&self) -> impl Iterator<Item = &IncidentId> {
        let (incident, others) = match self {
            Self::Trigger {
                incident, promotes, ..
            } => (incident, promotes.as_slice()),
            Self::Resolution { incident, .. } | Self::Release { incident, .. } => {
                (incident, [].as_slice())
            }
        };
        std::iter::once(incident).chain(others)
    }
}

/// A file of the journal and whom it still serves.
#[derive(Debug)]
struct Page {
    path: PathBuf,
    incidents: HashSet<IncidentId>,
}

#[derive(Debug)]
struct Job {
    lines: Vec<u8>,
    incidents: HashSet<IncidentId>,
    done: oneshot::Sender<Result<(), String>>,
}

/// The journal's handle. The writer ends when it is dropped.
#[derive(Debug)]
pub(super) struct Journal {
    jobs: Option<mpsc::Sender<Job>>,
    closed: Arc<Mutex<Vec<Page>>>,
    writer: Option<JoinHandle<()>>,
    /// Held as long as anything of this run can still write.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `dir` (made if need be) and hands every whole entry of earlier runs
    /// to `visit`, oldest first. Also returns which lines are not whole: torn by a crash (never
    /// acknowledged) or damaged.
    pub(super) fn open(
        dir: &Path,
        mut visit: impl FnMut(Entry),
    ) -> Result<(Self, Vec<String>), IoError> {
        sync::make_folders(dir, 0o700)?;
        let lock = lock(dir)?;
        let mut damaged = Vec::new();
        let mut pages = Vec::new();
        let mut next = 1;
        for (number, path) in files(dir)? {
            next = number + 1;
            let incidents = read(&path, &mut visit, &mut damaged)?;
            pages.push(Page { path, incidents });
        }
        let closed = Arc::new(Mutex::new(pages));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            dir: dir.to_owned(),
            next,
            file: None,
            closed: Arc::clone(&closed),
        };
        let writer = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(queue))
            .at("start the writer of", dir)?;
        let journal = Self {
            jobs: Some(jobs),
            closed,
            writer: Some(writer),
            _lock: lock,
        };
        Ok((journal, damaged))
    }

    /// Appends entries; they are on the medium when this returns `Ok`, and none of them is when
    /// it returns the reason why not.
    pub(super) async fn append(&self, entries: &[Entry]) -> Result<(), String> {
        let mut lines = Vec::new();
        for entry in entries {
            line(entry, &mut lines).map_err(|error| error.to_string())?;
        }
        let (done, answer) = oneshot::channel();
        let incidents = entries.iter().flat_map(Entry::incidents).cloned().collect();
        let job = Job {
            lines,
            incidents,
            done,
        };
        let stopped = || "its writer has stopped".to_owned();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Removes the oldest closed files, as far as all their incidents are settled. In order, so
    /// that a release never goes before the trigger it takes back.
    pub(super) fn retire(&self, settled: impl Fn(&IncidentId) -> bool) -> Result<(), IoError> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(page) = closed.first() {
            if !page.incidents.iter().all(&settled) {
                break;
            }
            match fs::remove_file(&page.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IoError::new("remove", &page.path, error));
                }
                _ => drop(closed.remove(0)),
            }
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

/// The thread that owns the file being written.
struct Writer {
    dir: PathBuf,
    next: u64,
    file: Option<Current>,
    closed: Arc<Mutex<Vec<Page>>>,
}

struct Current {
    file: File,
    length: u64,
    page: Page,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            let written = self.write(&group).map_err(|error| error.to_string());
            for job in group.drain(..) {
                // A caller that went away no longer wants to know.
                drop(job.done.send(written.clone()));
            }
        }
        self.close();
    }

    fn write(&mut self, group: &[Job]) -> Result<(), IoError> {
        if self
            .file
            .as_ref()
            .is_some_and(|f| f.length >= FILE_BYTES_MAX)
        {
            self.close();
        }
        let bytes: Vec<u8> = group.iter().flat_map(|job| &job.lines).copied().collect();
        let mut current = match self.file.take() {
            Some(current) => current,
            None => self.create()?,
        };
        let path = current.page.path.clone();
        let written = current
            .file
            .write_all(&bytes)
            .at("write", &path)
            .and_then(|()| sync::data(&current.file, Site::JournalLine).at("fsync", &path));
        if let Err(error) = written {
            // After a failed sync nobody knows what is on the medium: undo what can be undone
            // and leave the file, so that the next append starts on a new one.
            let undone = current
                .file
                .set_len(current.length)
                .and_then(|()| sync::whole(&current.file, Site::JournalLine));
            if let Err(undo) = undone {
                tracing::warn!(path = %path.display(), error = %undo, "a torn line stays in the journal");
            }
            self.closed().push(current.page);
            return Err(error);
        }
        current.length += bytes.len() as u64;
        for job in group {
            current.page.incidents.extend(job.incidents.iter().cloned());
        }
        self.file = Some(current);
        Ok(())
    }

    fn create(&mut self) -> Result<Current, IoError> {
        let path = self.dir.join(format!("{:010}.jsonl", self.next));
        self.next += 1;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .at("create", &path)?;
        sync::folder(&self.dir, Site::JournalFolder)?;
        let page = Page {
            path,
            incidents: HashSet::new(),
        };
        Ok(Current {
            file,
            length: 0,
            page,
        })
    }

    fn close(&mut self) {
        if let Some(current) = self.file.take() {
            self.closed().push(current.page);
        }
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, Vec<Page>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two servers on one journal would write over each other: the second is refused.
fn lock(dir: &Path) -> Result<File, IoError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .at("open", &path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => IoError::new("lock", &path, error),
        TryLockError::WouldBlock => {
            let running = "another server works here; stop it first";
            IoError::new(
                "lock",
                &path,
                io::Error::new(io::ErrorKind::WouldBlock, running),
            )
        }
    })?;
    Ok(file)
}

fn line(entry: &Entry, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let json = serde_json::to_vec(entry)?;
    out.extend_from_slice(sum(&json).as_bytes());
    out.push(b' ');
    out.extend_from_slice(&json);
    out.push(b'\n');
    Ok(())
}

fn sum(json: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(json));
    text.truncate(SUM_DIGITS);
    text
}

fn parse(line: &[u8]) -> Option<Entry> {
    let (digits, rest) = line.split_at_checked(SUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    (sum(json).as_bytes() == digits).then_some(())?;
    serde_json::from_slice(json).ok()
}

/// The journal's files, oldest first.
fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, IoError> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).at("list", dir)? {
        let path = item.at("list", dir)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(number) = name.strip_suffix(".jsonl").and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

fn read(
    path: &Path,
    visit: &mut impl FnMut(Entry),
    damaged: &mut Vec<String>,
) -> Result<HashSet<IncidentId>, IoError> {
    let bytes = fs::read(path).at("read", path)?;
    let mut incidents = HashSet::new();
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if let Some(entry) = line.strip_suffix(b"\n").and_then(parse) {
            incidents.extend(entry.incidents().cloned());
            visit(entry);
        } else {
            damaged.push(format!(
                "{} line {} is not whole",
                path.display(),
                index + 1
            ));
        }
    }
    Ok(incidents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Kind;

    fn entry(number: u64) -> Entry {
        let at = Timestamp::from_ns(number);
        Entry::Trigger {
            incident: "20261123T100211Z-5f3a9c".parse().unwrap(),
            number,
            window: Window::new(at, at),
            trigger: Box::new(Trigger::new(Kind::Probe, "p", "s", "text", at, at)),
            promotes: Vec::new(),
        }
    }

    fn open(dir: &Path) -> (Journal, Vec<Entry>, Vec<String>) {
        let mut entries = Vec::new();
        let (journal, damaged) = Journal::open(dir, |entry| entries.push(entry)).unwrap();
        (journal, entries, damaged)
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_replayed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ..) = open(dir.path());
        journal.append(&[entry(1), entry(2)]).await.unwrap();
        drop(journal);
        let (journal, entries, _) = open(dir.path());
        assert_eq!(entries, [entry(1), entry(2)]);
        journal.append(&[entry(3)]).await.unwrap();
        drop(journal);
        let (_journal, entries, damaged) = open(dir.path());
        assert_eq!(entries, [entry(1), entry(2), entry(3)]);
        assert!(damaged.is_empty());
    }

    #[tokio::test]
    async fn a_tail_torn_at_any_byte_costs_only_its_own_line() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ..) = open(dir.path());
        journal.append(&[entry(1), entry(2)]).await.unwrap();
        drop(journal);
        let path = dir.path().join("0000000001.jsonl");
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
        for length in first..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut entries, mut damaged) = (Vec::new(), Vec::new());
            read(&path, &mut |entry| entries.push(entry), &mut damaged).unwrap();
            assert_eq!(entries, [entry(1)], "cut at {length}");
            assert_eq!(damaged.is_empty(), length == first);
        }
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_written_refuses_and_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("journal");
        let (journal, ..) = open(&place);
        fs::remove_dir_all(&place).unwrap();
        let why = journal.append(&[entry(1)]).await.unwrap_err();
        assert!(why.contains("create"), "{why}");
        fs::create_dir(&place).unwrap();
        journal.append(&[entry(2)]).await.unwrap();
        drop(journal);
        assert_eq!(open(&place).1, [entry(2)]);
    }

    #[tokio::test]
    async fn a_file_goes_only_when_its_incidents_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ..) = open(dir.path());
        journal.append(&[entry(1)]).await.unwrap();
        drop(journal);
        let (journal, ..) = open(dir.path());
        journal.retire(|_| false).unwrap();
        assert_eq!(files(dir.path()).unwrap().len(), 1);
        journal.retire(|_| true).unwrap();
        assert!(files(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn after_a_full_disk_the_next_append_begins_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut writer = Writer {
            dir: dir.path().to_owned(),
            next: 7,
            file: Some(Current {
                file: full,
                length: 0,
                page: Page {
                    path: PathBuf::from("/dev/full"),
                    incidents: HashSet::new(),
                },
            }),
            closed: Arc::default(),
        };
        let job = || {
            let mut lines = Vec::new();
            line(&entry(1), &mut lines).unwrap();
            let (done, _) = oneshot::channel();
            Job {
                lines,
                incidents: HashSet::new(),
                done,
            }
        };
        let error = writer.write(&[job()]).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        writer.write(&[job()]).unwrap();
        assert_eq!(files(dir.path()).unwrap()[0].0, 7);
    }

    #[tokio::test]
    async fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let error = Journal::open(dir.path(), |_| {}).unwrap_err().to_string();
        assert!(error.contains("another server"), "{error}");
        drop(first);
        open(dir.path());
    }
}
