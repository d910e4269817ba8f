//! The files of a path with wildcards, each with a tail of its own, looked at in turn.
//!
//! - What is there at the very first look is read from its end; what comes later, from its start.
//! - A file that was renamed to a name that matches too is the same file: it is read on, not again.
//! - A file that goes away is forgotten when its last line was read.
//! - At most [`FILES_MAX`] are followed at once, the last written ones first.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Checkpoints};
use super::pattern::{Found, Pattern};
use super::tail::{Known, Step, Tail, check_regular};
use super::wake::Touched;
use crate::time::Timestamp;
use crate::trigger::status::SourceState;

/// Files of one pattern that are followed at once.
pub const FILES_MAX: usize = 256;
/// Bytes of lines in one round; the rest has its turn after these are durable.
const ROUND_BYTES: usize = 1 << 20;
/// The time between two searches that nothing asked for.
const SEARCH_EVERY: Duration = Duration::from_secs(5);
/// A file without its name is let go when nothing was written to it for this long.
const FORGET_AFTER: Duration = Duration::from_mins(1);
/// Places in files remembered that lost their name, for when they are met under another.
const LEFT_MAX: usize = 1024;

/// All files of one pattern.
#[derive(Debug)]
pub(super) struct Crowd {
    path: PathBuf,
    pattern: Pattern,
    since: Timestamp,
    /// Nothing is known of the pattern from before: files that are there now are old news.
    first_look: bool,
    files: BTreeMap<PathBuf, One>,
    /// Of the last run, until the first search.
    resume: Vec<Checkpoint>,
    left: VecDeque<Checkpoint>,
    /// Whose turn it is.
    turn: VecDeque<PathBuf>,
    searched: Option<Instant>,
    folders: Vec<PathBuf>,
    /// Those for which there was no room.
    overlooked: BTreeSet<PathBuf>,
    /// Those that are no regular files, and what they are.
    refused: Vec<String>,
    cut: bool,
}

/// One file.
#[derive(Debug)]
struct One {
    tail: Tail,
    failing: Option<String>,
    /// Since when its name is gone and nothing comes.
    silent: Option<Instant>,
}

/// What a round found.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The steps, with the file of each.
    pub(super) steps: Vec<(PathBuf, Step)>,
    /// Whether there may be more at once.
    pub(super) more: bool,
}

impl Crowd {
    /// The files of `path`, which go on from `resume`.
    pub(super) fn new(
        path: &Path,
        pattern: Pattern,
        resume: Option<Checkpoints>,
        now: Timestamp,
    ) -> Self {
        Self {
            path: path.to_owned(),
            pattern,
            since: resume.as_ref().map_or(now, |resume| resume.since),
            first_look: resume.is_none(),
            files: BTreeMap::new(),
            resume: resume.map(|resume| resume.files).unwrap_or_default(),
            left: VecDeque::new(),
            turn: VecDeque::new(),
            searched: None,
            folders: Vec::new(),
            overlooked: BTreeSet::new(),
            refused: Vec::new(),
            cut: false,
        }
    }

    /// The folders in which a file may come.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Where a later run should go on; `None` before the first search.
    pub(super) fn checkpoints(&self) -> Option<Checkpoints> {
        self.searched?;
        let files = self.files.values();
        Some(Checkpoints {
            path: self.path.clone(),
            since: self.since,
            files: files.filter_map(|one| one.tail.checkpoint()).collect(),
        })
    }

    /// Looks at what was touched, a bounded round of it.
    pub(super) fn look(&mut self, touched: &Touched, now: Instant) -> Round {
        let due = |at: Instant| now.saturating_duration_since(at) >= SEARCH_EVERY;
        if *touched == Touched::Folders || self.searched.is_none_or(due) {
            let found = self.pattern.find();
            self.take_in(found, now);
        }
        match touched {
            Touched::Files(paths) => {
                for path in paths {
                    self.enqueue(path);
                }
            }
            Touched::Folders | Touched::Anything => {
                let all: Vec<PathBuf> = self.files.keys().cloned().collect();
                for path in all {
                    self.enqueue(&path);
                }
            }
        }
        let held: HashMap<(u64, u64), PathBuf> = self
            .files
            .iter()
            .filter_map(|(path, one)| Some((one.tail.holds()?, path.clone())))
            .collect();
        let mut round = Round::default();
        let mut bytes = 0;
        for _ in 0..self.turn.len() {
            if bytes >= ROUND_BYTES {
                break;
            }
            let Some(path) = self.turn.pop_front() else {
                break;
            };
            let Some(one) = self.files.get_mut(&path) else {
                continue;
            };
            let left = &self.left;
            let known = |node| match held.get(&node) {
                Some(holder) if *holder != path => Known::Held,
                _ => left_of(left, node).map_or(Known::New, Known::Left),
            };
            let mut step = one.step(now, &known);
            bytes += step
                .lines
                .iter()
                .map(|line| line.bytes.len())
                .sum::<usize>();
            self.remember(step.left.take());
            if step.more {
                self.turn.push_back(path.clone());
            }
            round.steps.push((path, step));
        }
        round.more = !self.turn.is_empty();
        self.forget(now);
        round
    }

    fn enqueue(&mut self, path: &Path) {
        if self.files.contains_key(path) && !self.turn.iter().any(|waiting| waiting == path) {
            self.turn.push_back(path.to_owned());
        }
    }

    /// Enters the files that are new.
    fn take_in(&mut self, found: Found, now: Instant) {
        for checkpoint in std::mem::take(&mut self.resume) {
            let path = checkpoint.path.clone();
            let tail = Tail::new(&path, Some(checkpoint));
            self.files.entry(path).or_insert_with(|| One::new(tail));
        }
        self.refused.clear();
        self.cut = found.cut;
        self.folders = found.folders;
        let mut new = found.files;
        new.retain(|(path, metadata)| self.is_new(path, metadata));
        new.sort_by_key(|(_, metadata)| {
            std::cmp::Reverse((metadata.mtime(), metadata.mtime_nsec()))
        });
        let overlooked = std::mem::take(&mut self.overlooked);
        for (path, metadata) in new {
            if self.files.len() >= FILES_MAX {
                self.overlooked.insert(path);
                continue;
            }
            let old = self.first_look || overlooked.contains(&path) || self.is_old(&metadata);
            let node = (metadata.dev(), metadata.ino());
            let new = !old || left_of(&self.left, node).is_some();
            let resume = new.then(|| Checkpoint::nothing(&path));
            self.files
                .insert(path.clone(), One::new(Tail::new(&path, resume)));
        }
        self.first_look = false;
        self.searched = Some(now);
    }

    /// Whether a file that matches is to be followed from now on.
    fn is_new(&mut self, path: &Path, metadata: &Metadata) -> bool {
        if self.files.contains_key(path) {
            return false;
        }
        if let Err(why) = check_regular(metadata) {
            self.refused.push(format!("{}: {why}", path.display()));
            return false;
        }
        // Renamed while it is still read under the name it had.
        let held = Some((metadata.dev(), metadata.ino()));
        !self.files.values().any(|one| one.tail.holds() == held)
    }

    /// Whether a file was written last before the pattern was ever followed.
    fn is_old(&self, metadata: &Metadata) -> bool {
        u64::try_from(metadata.mtime()).unwrap_or(0) < self.since.as_ns() / 1_000_000_000
    }

    fn remember(&mut self, left: Option<Checkpoint>) {
        self.left.extend(left.filter(Checkpoint::names_a_file));
        while self.left.len() > LEFT_MAX {
            self.left.pop_front();
        }
    }

    /// Lets go of files that are gone, or that lost their name and get nothing more.
    fn forget(&mut self, now: Instant) {
        let done = |one: &One| {
            let silent = one.silent.map(|at| now.saturating_duration_since(at));
            let longer = silent.is_some_and(|span| span >= FORGET_AFTER);
            one.tail.is_absent() && (!one.tail.is_open() || longer)
        };
        let gone: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(_, one)| done(one))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            if let Some(one) = self.files.remove(&path)
                && one.tail.is_open()
            {
                self.remember(one.tail.checkpoint());
            }
        }
    }

    /// How it is, for people.
    pub(super) fn condition(&self) -> (SourceState, String) {
        let following = match self.files.len() {
            0 => "no file matches; waiting for one".to_owned(),
            1 => "following 1 file".to_owned(),
            count => format!("following {count} files"),
        };
        let absent = |one: &&One| !one.tail.is_absent();
        let failing = self.files.values().filter(absent);
        let failing: Vec<&String> = failing.filter_map(|one| one.failing.as_ref()).collect();
        let and_more = |count: usize| match count {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let mut said = vec![following];
        if let Some(first) = failing.first() {
            said.push(format!("{first}{}", and_more(failing.len())));
        }
        if let Some(first) = self.overlooked.first() {
            let count = self.overlooked.len();
            let first = first.display();
            said.push(format!(
                "at most {FILES_MAX} are followed at once: {count} more match and are not, such as {first}"
            ));
        }
        if self.cut {
            said.push("the search ended early: too many files or folders".to_owned());
        }
        if let Some(first) = self.refused.first() {
            said.push(format!(
                "not followed: {first}{}",
                and_more(self.refused.len())
            ));
        }
        let well = failing.is_empty() && self.overlooked.is_empty() && !self.cut;
        let state = if well && !self.files.is_empty() {
            SourceState::Ok
        } else {
            SourceState::Failing
        };
        (state, said.join("; "))
    }
}

/// The place in a file that was read under another name.
fn left_of(left: &VecDeque<Checkpoint>, node: (u64, u64)) -> Option<Checkpoint> {
    let same = |left: &&Checkpoint| (left.identity.dev, left.identity.ino) == node;
    left.iter().rev().find(same).cloned()
}

impl One {
    fn new(tail: Tail) -> Self {
        Self {
            tail,
            failing: None,
            silent: None,
        }
    }

    fn step(&mut self, now: Instant, known: &dyn Fn((u64, u64)) -> Known) -> Step {
        let mut step = self.tail.step_among(known);
        self.failing = step.failing.take();
        self.silent = if self.tail.is_absent() && step.lines.is_empty() {
            self.silent.or(Some(now))
        } else {
            None
        };
        step
    }
}

#[cfg(test)]
mod tests;
