//! The accounting of an interface, line by line: `ring/<interface>/seconds-<start>.jsonl`.
//!
//! What cannot be written now is added to the next line, so that the sum of the lines stays what
//! happened. Nothing here may keep packets from being written: every failure is the caller's to
//! note, never to wait for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{IoContext, IoError};
use crate::recorder::ledger::Second;
use crate::recorder::segment_file::sync_folder;
use crate::recorder::sync::{self, Site};
use crate::time::{Timestamp, Window};

const PREFIX: &str = "seconds-";
const SUFFIX: &str = ".jsonl";
const HOUR_NS: u64 = 3_600_000_000_000;
/// Longer than any line of ours.
const LINE_MAX: u64 = 4096;
/// How long lines stay after their packets were rotated away, as gaps do: an incident that was
/// opened meanwhile still needs them.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Appends to the record of one interface.
#[derive(Debug)]
pub struct SecondsLog {
    folder: PathBuf,
    current: Option<Current>,
    /// What could not be written yet.
    pending: Option<Second>,
}

#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    hour: u64,
    /// Bytes of whole lines.
    len: u64,
    synced: bool,
}

impl SecondsLog {
    /// The record in a ring's folder; nothing is touched before the first line.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            current: None,
            pending: None,
        }
    }

    /// Appends a line, with what is pending. `oldest` is the opening of the ring's oldest segment:
    /// once an hour, files that ended long before it are removed.
    pub fn append(&mut self, second: &Second, oldest: Option<Timestamp>) -> Result<(), IoError> {
        let line = match self.pending.take() {
            Some(pending) => pending.then(second),
            None => second.clone(),
        };
        let written = self.write(&line, oldest);
        if written.is_err() {
            self.pending = Some(line);
        }
        written
    }

    fn write(&mut self, second: &Second, oldest: Option<Timestamp>) -> Result<(), IoError> {
        let hour = second.from.as_ns() / HOUR_NS;
        if self.current.as_ref().is_none_or(|file| file.hour != hour) {
            self.sync()?;
            self.current = Some(Current::create(&self.folder, second.from, hour)?);
            if let Some(oldest) = oldest {
                self.prune(oldest)?;
            }
        }
        match &mut self.current {
            Some(current) => current.append(second),
            None => Ok(()),
        }
    }

    /// Makes what was appended durable.
    pub fn sync(&mut self) -> Result<(), IoError> {
        match &mut self.current {
            Some(current) if !current.synced => {
                sync::data(&current.file, Site::SecondsData).at("fdatasync", &current.path)?;
                current.synced = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Removes files whose last line ended long before `oldest`.
    fn prune(&self, oldest: Timestamp) -> Result<(), IoError> {
        let limit = oldest.minus(KEPT);
        let current = self.current.as_ref().map(|current| current.path.as_path());
        for (start, path) in files(&self.folder)? {
            let ended = || last_line(&path).map_or(start, |last| last.window().to);
            if Some(path.as_path()) != current && start < limit && ended() < limit {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}

impl Current {
    fn create(folder: &Path, start: Timestamp, hour: u64) -> Result<Self, IoError> {
        let path = folder.join(format!("{PREFIX}{}{SUFFIX}", start.as_ns()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .at("create", &path)?;
        let len = file.metadata().at("stat", &path)?.len();
        sync_folder(folder)?;
        Ok(Self {
            file,
            path,
            hour,
            len,
            synced: true,
        })
    }

    /// What a failed attempt left is written over.
    fn append(&mut self, second: &Second) -> Result<(), IoError> {
        let mut line = serde_json::to_vec(second)
            .map_err(io::Error::other)
            .at("encode a line of", &self.path)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all_at(&line, self.len) {
            // Half a line must not stand before the next one.
            drop(self.file.set_len(self.len));
            return Err(IoError::new("write", &self.path, error));
        }
        self.len += u64::try_from(line.len()).unwrap_or(0);
        self.synced = false;
        Ok(())
    }
}

/// The files of a ring's folder, by the time of their first line.
pub fn files(folder: &Path) -> Result<Vec<(Timestamp, PathBuf)>, IoError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        if let Some(start) = entry.file_name().to_str().and_then(start_of) {
            found.push((start, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn start_of(name: &str) -> Option<Timestamp> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Timestamp::from_ns))?
}

/// Shows every whole line of a folder that touches `window`, as bytes and as what they say, in the
/// order they were written. Lines that are not whole are passed over.
pub fn read<E: From<IoError>>(
    folder: &Path,
    window: &Window,
    mut show: impl FnMut(&[u8], &Second) -> Result<(), E>,
) -> Result<(), E> {
    for (start, path) in files(folder)? {
        // A clock set back begins a new file: one that starts later may still reach into the window.
        let before = last_line(&path).is_some_and(|last| last.window().to < window.from);
        if start >= window.to || (before && start < window.from) {
            continue;
        }
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.at("open", &path)?,
        };
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            file.read_until(b'\n', &mut line).at("read", &path)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            if let Ok(second) = serde_json::from_slice::<Second>(&line) {
                let span = second.window();
                if span.from < window.to && window.from < span.to {
                    show(&line, &second)?;
                }
            }
        }
    }
    Ok(())
}

/// The last whole line of a file.
fn last_line(path: &Path) -> Option<Second> {
    let mut file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(2 * LINE_MAX)))
        .ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    tail.split_inclusive(|&byte| byte == b'\n')
        .rev()
        .filter(|line| line.last() == Some(&b'\n'))
        .find_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::clock::Clock;
    use crate::counters::Counters;

    const DAY: u64 = 24 * HOUR_NS;

    fn second(from: u64, to: u64, received: u64) -> Second {
        Second {
            from: Timestamp::from_ns(from),
            to: Timestamp::from_ns(to),
            counters: Counters {
                received,
                ..Counters::default()
            },
            longest_gap_ns: received,
            clock: Clock::default(),
        }
    }

    fn all(folder: &Path) -> Vec<Second> {
        let mut found = Vec::new();
        let window = Window::new(Timestamp::MIN, Timestamp::MAX);
        read::<IoError>(folder, &window, |line, second| {
            assert_eq!(line.last(), Some(&b'\n'));
            found.push(second.clone());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn each_hour_has_its_file_and_old_ones_go_with_the_ring() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SecondsLog::new(dir.path());
        let at = |n: u64| 10 * DAY + n;
        for n in 0..3 {
            let line = second(at(n * HOUR_NS), at(n * HOUR_NS + 5), n);
            log.append(&line, None).unwrap();
            log.append(&second(at(n * HOUR_NS + 5), at(n * HOUR_NS + 9), n), None)
                .unwrap();
        }
        log.sync().unwrap();
        assert_eq!(files(dir.path()).unwrap().len(), 3);
        let mode = fs::metadata(&files(dir.path()).unwrap()[0].1)
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(all(dir.path()).len(), 6);
        // The ring's oldest segment is seven days and a bit younger than the second file.
        let oldest = Timestamp::from_ns(at(HOUR_NS + 9)).plus(KEPT);
        log.append(&second(at(20 * DAY), at(20 * DAY) + 1, 0), Some(oldest))
            .unwrap();
        let left: Vec<u64> = files(dir.path())
            .unwrap()
            .iter()
            .map(|(start, _)| start.as_ns())
            .collect();
        assert_eq!(left, [at(HOUR_NS), at(2 * HOUR_NS), at(20 * DAY)]);
    }

    #[test]
    fn a_torn_line_is_passed_over_and_a_window_takes_what_touches_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SecondsLog::new(dir.path());
        for n in 0..5 {
            log.append(&second(n * 10, n * 10 + 10, n), None).unwrap();
        }
        let path = files(dir.path()).unwrap().remove(0).1;
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"not json\n{\"from\":\"2026").unwrap();
        assert_eq!(all(dir.path()).len(), 5);
        let window = Window::new(Timestamp::from_ns(15), Timestamp::from_ns(30));
        let mut found = Vec::new();
        read::<IoError>(dir.path(), &window, |_, second| {
            found.push(second.counters.received);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn what_cannot_be_written_is_in_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("later");
        let mut log = SecondsLog::new(&folder);
        assert!(log.append(&second(0, 10, 1), None).is_err());
        let mut set = second(10, 20, 2);
        set.clock.step_ns = Some(-4);
        assert!(log.append(&set, None).is_err());
        fs::create_dir(&folder).unwrap();
        log.append(&second(20, 30, 4), None).unwrap();
        let mut expected = second(0, 30, 7);
        expected.longest_gap_ns = 4;
        expected.clock.step_ns = Some(-4);
        assert_eq!(all(&folder), [expected]);
    }

    #[test]
    fn a_line_says_what_the_page_of_formats_says() {
        let line = serde_json::to_value(second(0, 10, 1)).unwrap();
        let mut keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        let page = include_str!("../../docs/FORMAT.md");
        let (_, example) = page.split_once("\n## seconds-").unwrap();
        let example = example
            .lines()
            .find(|line| line.starts_with("{\"from\""))
            .unwrap();
        let shown: Second = serde_json::from_str(example).unwrap();
        let shown = serde_json::to_value(&shown).unwrap();
        let mut documented: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
        documented.sort_unstable();
        assert_eq!(keys, documented);
    }
}
