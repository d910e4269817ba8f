//! `drills.jsonl`: every drill, a line when it begins and one when it ended, each the whole of it;
//! of several lines of one drill the last counts. docs/FORMAT.md describes it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{Drill, Outcome};
use crate::error::{IoContext, IoError};

/// The file, in the server's own directory.
const FILE: &str = "drills.jsonl";
/// Drills that are kept.
const KEPT: usize = 1000;
/// The file is written anew when it has so many lines.
const LINES_MAX: usize = 4 * KEPT;

/// The drills that are remembered, oldest first. In memory: it never waits for a disk.
#[derive(Debug, Default)]
pub(super) struct History {
    drills: Vec<Drill>,
}

impl History {
    /// All of them.
    pub(super) fn drills(&self) -> &[Drill] {
        &self.drills
    }

    /// Takes a drill in, in place of what was known of it.
    pub(super) fn put(&mut self, drill: Drill) {
        let mut known = self.drills.iter_mut().rev();
        match known.find(|known| known.id == drill.id) {
            Some(known) => *known = drill,
            None => self.drills.push(drill),
        }
        let more = self.drills.len().saturating_sub(KEPT);
        self.drills.drain(..more);
    }
}

/// The file they are written to.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    lines: usize,
}

/// Reads the history of `state_dir`. What was under way was interrupted. A line that a crash tore
/// is passed over.
pub(super) fn open(state_dir: &Path) -> Result<(History, Book), IoError> {
    let path = state_dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        text => text.at("read", &path)?,
    };
    let mut history = History::default();
    let mut book = Book { path, lines: 0 };
    for line in text.split(|byte| *byte == b'\n') {
        if let Ok(drill) = serde_json::from_slice::<Drill>(line) {
            history.put(drill);
            book.lines += 1;
        }
    }
    let mut interrupted = false;
    for drill in &mut history.drills {
        if drill.outcome == Outcome::Running {
            drill.interrupt();
            interrupted = true;
        }
    }
    if interrupted || !text.is_empty() && !text.ends_with(b"\n") {
        book.rewrite(history.drills())?;
    }
    Ok((history, book))
}

impl Book {
    /// Makes a drill durable; `all` are those remembered, should it be time to write the file anew.
    /// Blocks.
    pub(super) fn write(
        &mut self,
        drill: &Drill,
        all: impl FnOnce() -> Vec<Drill>,
    ) -> Result<(), IoError> {
        if self.lines >= LINES_MAX {
            return self.rewrite(&all());
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .at("open", &self.path)?;
        file.write_all(&line(drill)).at("write", &self.path)?;
        self.lines += 1;
        file.sync_data().at("fsync", &self.path)
    }

    /// Writes the file anew, whole: a crash leaves the old one or the new.
    fn rewrite(&mut self, drills: &[Drill]) -> Result<(), IoError> {
        let new = self.path.with_extension("jsonl.new");
        let all: Vec<u8> = drills.iter().flat_map(line).collect();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&new)
            .at("create", &new)?;
        file.write_all(&all).at("write", &new)?;
        file.sync_all().at("fsync", &new)?;
        fs::rename(&new, &self.path).at("rename", &new)?;
        self.lines = drills.len();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .at("fsync", folder)
    }
}

fn line(drill: &Drill) -> Vec<u8> {
    // A drill holds nothing that JSON cannot say.
    let mut line = serde_json::to_vec(drill).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::record::{Done, Step};
    use crate::time::Timestamp;
    use crate::trigger::Kind;

    fn drill(number: usize, outcome: Outcome) -> Drill {
        Drill {
            id: format!("{number:016x}"),
            kind: Kind::Manual,
            source: "manual".to_owned(),
            asked_by: "schedule".to_owned(),
            started: Timestamp::from_ns(1_800_000_000_000_000_000),
            ended: None,
            outcome,
            why: None,
            failed_at: None,
            incident: None,
            steps: vec![Done {
                step: Step::Sent,
                after_ns: 7,
                detail: String::new(),
            }],
            sighting: None,
            notes: Vec::new(),
        }
    }

    fn write(book: &mut Book, drill: &Drill) {
        book.write(drill, Vec::new).unwrap();
    }

    #[test]
    fn what_was_under_way_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut book) = open(dir.path()).unwrap();
        write(&mut book, &drill(1, Outcome::Running));
        write(&mut book, &drill(1, Outcome::Passed));
        write(&mut book, &drill(2, Outcome::Running));
        let torn = fs::read(dir.path().join(FILE)).unwrap();
        fs::write(
            dir.path().join(FILE),
            [&torn[..], b"{\"id\":\"3\""].concat(),
        )
        .unwrap();
        for _ in 0..2 {
            let (again, _) = open(dir.path()).unwrap();
            let outcomes: Vec<_> = again.drills().iter().map(|one| one.outcome).collect();
            assert_eq!(outcomes, [Outcome::Passed, Outcome::Interrupted]);
            assert_eq!(again.drills()[1].took().unwrap().as_nanos(), 7);
        }
        let (_, mut again) = open(dir.path()).unwrap();
        write(&mut again, &drill(4, Outcome::Passed));
        assert_eq!(open(dir.path()).unwrap().0.drills().len(), 3);
    }

    #[test]
    fn file_and_memory_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (mut history, mut book) = open(dir.path()).unwrap();
        for number in 0..LINES_MAX {
            history.put(drill(number, Outcome::Passed));
        }
        assert_eq!(history.drills().len(), KEPT);
        book.lines = LINES_MAX;
        book.write(&drill(0, Outcome::Passed), || history.drills().to_vec())
            .unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!((text.lines().count(), book.lines), (KEPT, KEPT));
    }
}
