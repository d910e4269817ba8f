//! What a power cut could have left of a [`History`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use fuser::FileType;

use super::Dice;
use super::strict::{Change, History, ROOT, overwrite};

/// What happens to changes that no sync has made last.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// They are gone.
    Lost,
    /// Names last, what files hold does not.
    NamesLast,
    /// What files hold lasts, names do not.
    ContentLasts,
    /// The newest name lasts and none before it, with what files hold.
    NewestLasts,
    /// Each lasts or does not, writes also in part.
    Either,
}

impl Fate {
    /// One of them.
    pub(crate) fn thrown(dice: &mut Dice) -> Self {
        match dice.between(0, 7) {
            0 => Self::Lost,
            1 => Self::NamesLast,
            2 => Self::ContentLasts,
            3 | 4 => Self::NewestLasts,
            _ => Self::Either,
        }
    }

    fn keeps_name(self, newest: bool, dice: &mut Dice) -> bool {
        match self {
            Self::Lost | Self::ContentLasts => false,
            Self::NamesLast => true,
            Self::NewestLasts => newest,
            Self::Either => dice.between(0, 2) == 0,
        }
    }

    /// How many of `len` bytes last.
    fn keeps_bytes(self, len: usize, dice: &mut Dice) -> usize {
        match self {
            Self::Lost | Self::NamesLast => 0,
            Self::ContentLasts | Self::NewestLasts => len,
            Self::Either => match dice.between(0, 3) {
                0 => 0,
                1 => len,
                _ => usize::try_from(dice.between(0, len as u64 + 1)).unwrap(),
            },
        }
    }
}

/// The medium after some of the changes.
pub(crate) struct State<'a> {
    history: &'a History,
    folders: HashMap<u64, BTreeMap<OsString, u64>>,
    files: HashMap<u64, Vec<u8>>,
    /// Changes that nothing has made last, by the file or folder whose sync would.
    open: HashMap<u64, Vec<usize>>,
    /// Renames from one folder to another of which the new name lasts.
    moved: HashSet<usize>,
}

impl<'a> State<'a> {
    /// After the first `cut` changes.
    pub(crate) fn after(history: &'a History, cut: usize, fate: Fate, dice: &mut Dice) -> Self {
        let mut state = Self {
            history,
            folders: HashMap::new(),
            files: HashMap::new(),
            open: HashMap::new(),
            moved: HashSet::new(),
        };
        for place in 0..cut {
            state.take(place);
        }
        state.end(fate, dice);
        state
    }

    fn change(&self, place: usize) -> &'a Change {
        &self.history.changes[place].1
    }

    fn take(&mut self, place: usize) {
        match self.change(place) {
            Change::Synced { ino } => {
                for place in self.open.remove(ino).unwrap_or_default() {
                    self.last(*ino, place);
                }
            }
            Change::Write { ino, .. } | Change::Resize { ino, .. } => self.wait(*ino, place),
            Change::Named { folder, .. } | Change::Unnamed { folder, .. } => {
                self.wait(*folder, place);
            }
            Change::Renamed { from, to, .. } => {
                self.wait(to.0, place);
                if from.0 != to.0 {
                    self.wait(from.0, place);
                }
            }
            Change::Mark(_) => {}
        }
    }

    fn wait(&mut self, ino: u64, place: usize) {
        self.open.entry(ino).or_default().push(place);
    }

    fn end(&mut self, fate: Fate, dice: &mut Dice) {
        let open = std::mem::take(&mut self.open).into_iter();
        let mut open: Vec<(u64, usize)> = open
            .flat_map(|(ino, places)| places.into_iter().map(move |place| (ino, place)))
            .collect();
        open.sort_unstable();
        let names = open.iter().map(|(_, place)| *place);
        let newest = names.filter(|place| self.change(*place).is_name()).max();
        for (ino, place) in open {
            match self.change(place) {
                Change::Write { at, bytes, .. } => {
                    let kept = fate.keeps_bytes(bytes.len(), dice);
                    if kept > 0 {
                        overwrite(self.files.entry(ino).or_default(), *at, &bytes[..kept]);
                    }
                }
                Change::Resize { .. } if fate.keeps_bytes(1, dice) == 0 => {}
                Change::Resize { .. } => self.last(ino, place),
                _ if fate.keeps_name(Some(place) == newest, dice) => self.last(ino, place),
                _ => {}
            }
        }
    }

    /// The part of a change that `ino` holds is on the medium.
    fn last(&mut self, ino: u64, place: usize) {
        match self.change(place) {
            Change::Write { at, bytes, .. } => {
                overwrite(self.files.entry(ino).or_default(), *at, bytes);
            }
            Change::Resize { len, .. } => {
                self.files.entry(ino).or_default().resize(*len, 0);
            }
            Change::Named {
                name, ino: named, ..
            } => self.name(ino, name, *named),
            Change::Unnamed { name, .. } => {
                self.folders.entry(ino).or_default().remove(name);
            }
            Change::Renamed {
                ino: named,
                from,
                to,
            } => {
                if ino == to.0 {
                    self.name(ino, &to.1, *named);
                    self.moved.insert(place);
                } else if self.moved.insert(place) {
                    // No file system loses what is only moved: the new name comes first.
                    self.name(to.0, &to.1, *named);
                }
                let old = self.folders.entry(from.0).or_default();
                if ino == from.0 && old.get(&from.1) == Some(named) {
                    old.remove(&from.1);
                }
            }
            Change::Synced { .. } | Change::Mark(_) => {}
        }
    }

    fn name(&mut self, folder: u64, name: &OsString, ino: u64) {
        let names = self.folders.entry(folder).or_default();
        names.insert(name.clone(), ino);
    }

    /// Writes it into the empty folder `at`.
    pub(crate) fn write(&self, at: &Path) {
        self.write_folder(ROOT, at, &mut HashMap::new());
    }

    fn write_folder(&self, folder: u64, at: &Path, written: &mut HashMap<u64, PathBuf>) {
        for (name, ino) in self.folders.get(&folder).into_iter().flatten() {
            let path = at.join(name);
            let (kind, mode, (user, group)) = self.history.kinds[ino];
            match kind {
                FileType::Directory => {
                    fs::create_dir(&path).unwrap();
                    self.write_folder(*ino, &path, written);
                }
                FileType::RegularFile => {
                    if let Some(first) = written.get(ino) {
                        fs::hard_link(first, &path).unwrap();
                    } else {
                        let content = self.files.get(ino).map_or(&[][..], Vec::as_slice);
                        fs::write(&path, content).unwrap();
                        written.insert(*ino, path.clone());
                    }
                }
                // Sockets mean nothing after a cut.
                _ => continue,
            }
            chown(&path, Some(user), Some(group)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode.into())).unwrap();
        }
    }
}
