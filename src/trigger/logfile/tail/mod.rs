//! A tail: follows a path through rotation, one step at a time. Reads real files and nothing else;
//! when to look is decided by the caller.
//!
//! - A file that exists at the very first look is read from its end; one that comes later, from
//!   its beginning.
//! - *Renamed* away (`create` of logrotate): the old file stays open and is read until the new one
//!   has content, because programs write to the old one until they reopen; then its rest, then
//!   the new one.
//! - *Emptied* (`copytruncate`): shorter than what was read, or beginning with other bytes: read
//!   again from the beginning. What is written between logrotate's copy and its truncation is lost
//!   to every reader.
//! - Only a regular file is read: a FIFO would block, a symbolic link could be turned to any file.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::checkpoint::{Checkpoint, Identity};
use super::lines::{Line, Splitter};

/// Read in one step: what is matched and journalled before the next.
const READ_BYTES: usize = 256 << 10;
/// Files looked at when searching the directory for a rotated file.
const SEARCH_MAX: usize = 10_000;

/// What a step found.
#[derive(Debug, Default)]
pub struct Step {
    /// Whole lines, in order.
    pub lines: Vec<Line>,
    /// Whether there may be more at once.
    pub more: bool,
    /// Files found replaced or emptied.
    pub rotated: u64,
    /// Where the file was left that the path no longer names.
    pub left: Option<Checkpoint>,
    /// Why nothing can be read now; `None` when all is well.
    pub failing: Option<String>,
}

/// What is known of a file that a tail is about to begin with, by device and inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// Another tail reads it still, under the name it had.
    Held,
    /// It was read up to here under another name.
    Left(Checkpoint),
}

/// The state of one tail.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<Open>,
    lines: Splitter,
    resume: Option<Checkpoint>,
    /// Nothing is known of the path from before: a file that is there now is old news.
    first_look: bool,
    /// The path named nothing at the last look: a file that comes is all new.
    absent: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    /// Read so far.
    offset: u64,
}

impl Tail {
    /// A tail of `path` that goes on from `resume`.
    pub fn new(path: &Path, resume: Option<Checkpoint>) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            lines: Splitter::default(),
            first_look: resume.is_none(),
            absent: false,
            resume,
        }
    }

    /// Where a later run should go on: everything before it was returned by [`Tail::step`].
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        match &self.file {
            Some(open) => Some(Checkpoint {
                path: self.path.clone(),
                identity: open.identity.clone(),
                offset: open.offset - self.lines.pending(),
            }),
            None if self.resume.is_some() => self.resume.clone(),
            None => self.absent.then(|| Checkpoint::nothing(&self.path)),
        }
    }

    /// Whether the path named nothing at the last look.
    pub(super) const fn is_absent(&self) -> bool {
        self.absent
    }

    /// Whether a file is open: the path's, or one that had its name.
    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Device and inode of the file that is read, or with which a run before this one ended.
    pub(super) fn holds(&self) -> Option<(u64, u64)> {
        let resume = self.resume.as_ref().filter(|resume| resume.names_a_file());
        let resume = resume.map(|resume| &resume.identity);
        let identity = self.file.as_ref().map(|open| &open.identity).or(resume)?;
        Some((identity.dev, identity.ino))
    }

    /// Looks once: opens, reads a piece, or notices a rotation.
    pub fn step(&mut self) -> Step {
        self.step_among(&|_| Known::New)
    }

    /// As [`Tail::step`], among others that may have read a file before.
    pub(super) fn step_among(&mut self, known: &dyn Fn((u64, u64)) -> Known) -> Step {
        let mut step = Step::default();
        match self.try_step(&mut step, known) {
            Ok(()) => (self.first_look, self.absent) = (false, false),
            Err(error) => {
                step.failing = Some(describe(&self.path, &error));
                self.absent = error.kind() == ErrorKind::NotFound;
                // What is there but cannot be read stays old news.
                self.first_look &= !self.absent;
            }
        }
        step
    }

    fn try_step(&mut self, step: &mut Step, known: &dyn Fn((u64, u64)) -> Known) -> io::Result<()> {
        if self.file.is_none() {
            self.file = self.open_first(step, known)?;
        }
        let Some(open) = &mut self.file else {
            return Ok(());
        };
        if open.was_emptied()? {
            step.rotated += 1;
            open.offset = 0;
            self.lines = Splitter::default();
        }
        step.more = open.read(&mut self.lines, &mut step.lines)?;
        if step.more {
            return Ok(());
        }
        self.follow(step, known)
    }

    /// Opens what the path names now, at the right place.
    fn open_first(
        &mut self,
        step: &mut Step,
        known: &dyn Fn((u64, u64)) -> Known,
    ) -> io::Result<Option<Open>> {
        if let Some(resume) = self.resume.as_ref().filter(|r| r.names_a_file())
            && let Some(open) = rotated_file(&self.path, resume)?
        {
            self.resume = None;
            return Ok(Some(open));
        }
        let file = open_regular(&self.path)?;
        let known = known(node(&file.metadata()?));
        if known == Known::Held {
            return Ok(None);
        }
        let mut offset = if self.first_look {
            file.metadata()?.len()
        } else {
            0
        };
        if let Some(resume) = self.resume.take() {
            if resume.offset <= file.metadata()?.len() && resume.identity.matches(&file)? {
                offset = resume.offset;
            } else {
                offset = place_in(&file, known)?;
                step.rotated += u64::from(resume.names_a_file());
            }
        }
        Open::new(file, offset).map(Some)
    }

    /// At the end of the open file: does the path still name it?
    fn follow(&mut self, step: &mut Step, known: &dyn Fn((u64, u64)) -> Known) -> io::Result<()> {
        let Some(open) = &mut self.file else {
            return Ok(());
        };
        let named = match fs::symlink_metadata(&self.path) {
            Ok(named) => named,
            Err(error) => {
                if open.file.metadata()?.nlink() == 0 {
                    // Deleted and read to the end: holding it open would hold its disk space.
                    step.lines.extend(self.lines.finish());
                    self.file = None;
                }
                return Err(error);
            }
        };
        if (named.dev(), named.ino()) == (open.identity.dev, open.identity.ino) {
            return Ok(());
        }
        let next = open_regular(&self.path)?;
        let metadata = next.metadata()?;
        let same = node(&metadata) == node(&named);
        let known = known(node(&metadata));
        if metadata.len() == 0 || !same || known == Known::Held {
            // The writer has not reopened yet; it may still write to the old file. Or the path
            // changed again since: the next step sees what it is then.
            return Ok(());
        }
        // It has by now: what it wrote before that is there to be read.
        while open.read(&mut self.lines, &mut step.lines)? {}
        step.lines.extend(self.lines.finish());
        step.left = Some(Checkpoint {
            path: self.path.clone(),
            identity: open.identity.clone(),
            offset: open.offset,
        });
        step.rotated += 1;
        step.more = true;
        let offset = place_in(&next, known)?;
        self.file = Some(Open::new(next, offset)?);
        Ok(())
    }
}

impl Open {
    fn new(file: File, offset: u64) -> io::Result<Self> {
        Ok(Self {
            identity: Identity::of(&file, offset)?,
            file,
            offset,
        })
    }

    /// Whether the file was truncated since the last look, even if it has grown again.
    fn was_emptied(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() < self.offset || !self.identity.matches(&self.file)?)
    }

    /// Reads a piece; whether there may be more.
    fn read(&mut self, splitter: &mut Splitter, lines: &mut Vec<Line>) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let length = self.file.read_at(&mut buffer, self.offset)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        splitter.push(bytes, lines);
        self.offset += u64::try_from(length).unwrap_or(0);
        self.identity = Identity::of(&self.file, self.offset)?;
        Ok(length == READ_BYTES)
    }
}

fn node(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where to begin in a file that is not this tail's own from before.
fn place_in(file: &File, known: Known) -> io::Result<u64> {
    match known {
        Known::Left(left) if left.offset <= file.metadata()?.len() => {
            Ok(u64::from(left.identity.matches(file)?) * left.offset)
        }
        _ => Ok(0),
    }
}

/// Opens a regular file for reading; never blocks, never follows a symbolic link.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Looked at first: opening a device can have effects of its own.
    check_regular(&fs::symlink_metadata(path)?)?;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// The error says what it is instead of a regular file.
pub(super) fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_symlink() {
        "a symbolic link; name the file it points to"
    } else if kind.is_dir() {
        "a directory; name a file in it"
    } else if kind.is_fifo() {
        "a FIFO; only regular files are followed"
    } else {
        "a device or socket; only regular files are followed"
    };
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        format!("it is {what}"),
    ))
}

/// The file of the checkpoint under another name: rotated while nobody looked. `None` when the
/// path still names it or when it is gone.
fn rotated_file(path: &Path, resume: &Checkpoint) -> io::Result<Option<Open>> {
    let same = |metadata: &fs::Metadata| {
        (metadata.dev(), metadata.ino()) == (resume.identity.dev, resume.identity.ino)
    };
    if fs::symlink_metadata(path).is_ok_and(|named| same(&named)) {
        return Ok(None);
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    for entry in fs::read_dir(directory)?.take(SEARCH_MAX) {
        let entry = entry?;
        if !entry.metadata().is_ok_and(|metadata| same(&metadata)) {
            continue;
        }
        let file = open_regular(&entry.path())?;
        if resume.offset <= file.metadata()?.len() && resume.identity.matches(&file)? {
            return Open::new(file, resume.offset).map(Some);
        }
    }
    Ok(None)
}

fn describe(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{path}: not there; waiting for it"),
        ErrorKind::PermissionDenied => {
            format!("{path}: not readable by this user (on Debian, group adm may read logs)")
        }
        ErrorKind::InvalidInput => format!("{path}: {error}"),
        _ => format!("{path}: cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests;
