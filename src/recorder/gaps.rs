//! The record of what was not recorded: `ring/<interface>/gaps.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, IoError};
use crate::recorder::protocol::Gap;
use crate::recorder::segment_file::sync_folder;
use crate::recorder::sync::{self, Site};
use crate::time::Timestamp;

/// Its file name.
pub const GAPS_FILE: &str = "gaps.jsonl";

/// Appends to the record.
#[derive(Debug)]
pub struct GapLog {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    len: u64,
}

impl GapLog {
    /// Opens the record of a ring's folder, without the gaps that ended before `oldest`. On a full
    /// disk it stays as long as it is.
    pub fn open(folder: &Path, oldest: Timestamp) -> Result<Self, IoError> {
        match Self::renew(folder, oldest) {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "the record of gaps is not shortened");
                Self::go_on(folder)
            }
            opened => opened,
        }
    }

    fn renew(folder: &Path, oldest: Timestamp) -> Result<Self, IoError> {
        let path = folder.join(GAPS_FILE);
        let mut kept = String::new();
        for gap in read_gaps(folder)?.iter().filter(|gap| gap.to >= oldest) {
            kept.push_str(&line(gap));
        }
        let fresh = folder.join(format!(".{GAPS_FILE}.new"));
        let mut file = options().truncate(true).open(&fresh).at("create", &fresh)?;
        file.write_all(kept.as_bytes()).at("write", &fresh)?;
        sync::whole(&file, Site::GapRecord).at("fsync", &fresh)?;
        fs::rename(&fresh, &path).at("rename", &fresh)?;
        sync_folder(folder)?;
        let len = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        Ok(Self { file, path, len })
    }

    fn go_on(folder: &Path) -> Result<Self, IoError> {
        let path = folder.join(GAPS_FILE);
        let bytes = fs::read(&path).at("read", &path)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        let len = u64::try_from(whole.map_or(0, |end| end + 1)).unwrap_or(0);
        let file = options().open(&path).at("open", &path)?;
        Ok(Self { file, path, len })
    }

    /// One that takes no gap.
    #[cfg(test)]
    pub(super) fn unwritable(folder: &Path) -> Self {
        let path = folder.join(GAPS_FILE);
        let file = File::open(&path).unwrap();
        Self { file, path, len: 0 }
    }

    /// Appends a gap, durably. What a failed attempt left is written over by the next.
    pub fn append(&mut self, gap: &Gap) -> Result<(), IoError> {
        // A clock that was set back meanwhile must not make it a span of nothing.
        let line = line(&Gap {
            from: gap.from.min(gap.to),
            to: gap.to.max(gap.from),
            ..gap.clone()
        });
        self.file.set_len(self.len).at("cut", &self.path)?;
        self.file
            .write_all_at(line.as_bytes(), self.len)
            .at("write", &self.path)?;
        sync::data(&self.file, Site::GapRecord).at("fdatasync", &self.path)?;
        self.len += u64::try_from(line.len()).unwrap_or(0);
        Ok(())
    }
}

/// The gaps of a ring's folder. Lines that are not whole (a torn tail, damage) are passed
/// over.
pub fn read_gaps(folder: &Path) -> Result<Vec<Gap>, IoError> {
    let path = folder.join(GAPS_FILE);
    match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        bytes => {
            let bytes = bytes.at("read", &path)?;
            Ok(bytes
                .split(|&byte| byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect())
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o640);
    options
}

fn line(gap: &Gap) -> String {
    serde_json::to_string(gap)
        .map(|json| json + "\n")
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::protocol::GapCause;

    #[test]
    fn old_gaps_go_with_the_ring_and_torn_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let gap = |from, to| Gap {
            interface: "eth0".into(),
            from: Timestamp::from_ns(from),
            to: Timestamp::from_ns(to),
            cause: GapCause::RecorderDown,
        };
        let mut log = GapLog::open(dir.path(), Timestamp::MIN).unwrap();
        log.append(&gap(1, 2)).unwrap();
        log.append(&gap(5, 6)).unwrap();
        log.file.write_all(b"\xFF\n{\"interface\":\"et").unwrap();
        assert_eq!(read_gaps(dir.path()).unwrap().len(), 2);
        let mut log = GapLog::open(dir.path(), Timestamp::from_ns(4)).unwrap();
        log.append(&gap(7, 8)).unwrap();
        assert_eq!(read_gaps(dir.path()).unwrap(), [gap(5, 6), gap(7, 8)]);
    }
}
