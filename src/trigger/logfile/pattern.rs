//! Paths with wildcards: which files they name now. Every folder is listed by its own part of the
//! pattern, so that nothing but what can match is looked at; symbolic links are never entered.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobMatcher};

/// Entries looked at in one search; what lies behind them is not found.
const ENTRIES_MAX: usize = 20_000;
/// How deep `**` goes.
const DEPTH_MAX: usize = 16;
/// Folders told of, for watching.
const FOLDERS_MAX: usize = 256;

/// Whether a path has wildcards.
pub(super) fn is_pattern(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().any(|byte| b"*?[".contains(byte))
}

/// A path with wildcards.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any folders, none too.
    Folders,
    /// One name; whether one that begins with a dot may match.
    Name(GlobMatcher, bool),
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What matches, of whatever kind.
    pub(super) files: Vec<(PathBuf, Metadata)>,
    /// The folders in which a file could come.
    pub(super) folders: Vec<PathBuf>,
    /// Whether there was more than is looked at.
    pub(super) cut: bool,
    entries: usize,
}

impl Pattern {
    /// Reads an absolute path; the error says what is wrong with a part.
    pub(super) fn new(path: &Path) -> Result<Self, String> {
        let mut base = PathBuf::from("/");
        let mut parts = Vec::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    return Err(".. is of no use in a pattern".to_owned());
                }
                continue;
            };
            if parts.is_empty() && !is_pattern(Path::new(name)) {
                base.push(name);
            } else {
                parts.push(part(name)?);
            }
        }
        Ok(Self { base, parts })
    }

    /// What the pattern names now.
    pub(super) fn find(&self) -> Found {
        let mut found = Found::default();
        walk(&self.base, &self.parts, 0, &mut found);
        found.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.files.dedup_by(|(a, _), (b, _)| a == b);
        found
    }
}

fn part(name: &OsStr) -> Result<Part, String> {
    let name = name.to_str().ok_or("it is not UTF-8")?;
    if name == "**" {
        return Ok(Part::Folders);
    }
    let glob = Glob::new(name).map_err(|error| error.to_string())?;
    Ok(Part::Name(glob.compile_matcher(), name.starts_with('.')))
}

fn walk(folder: &Path, parts: &[Part], depth: usize, found: &mut Found) {
    let Some((part, rest)) = parts.split_first() else {
        return;
    };
    if let Part::Folders = part {
        // A pattern that ends in ** names every file below.
        walk(folder, rest, depth, found);
        if depth >= DEPTH_MAX {
            found.cut = true;
            return;
        }
    }
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    if found.folders.len() < FOLDERS_MAX && !found.folders.iter().any(|known| known == folder) {
        found.folders.push(folder.to_owned());
    }
    for entry in entries.flatten() {
        found.entries += 1;
        if found.entries > ENTRIES_MAX {
            found.cut = true;
            return;
        }
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        match part {
            Part::Folders if hidden => {}
            Part::Folders => match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => walk(&path, parts, depth + 1, found),
                Ok(metadata) if rest.is_empty() => found.files.push((path, metadata)),
                _ => {}
            },
            Part::Name(matcher, dotted) => {
                if (hidden && !dotted) || !matcher.is_match(Path::new(&name)) {
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) if rest.is_empty() && !metadata.is_dir() => {
                        found.files.push((path, metadata));
                    }
                    Ok(metadata) if metadata.is_dir() => walk(&path, rest, depth + 1, found),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, pattern: &str) -> Vec<String> {
        let found = Pattern::new(&root.join(pattern)).unwrap().find();
        let below = found.files.iter().map(|(path, _)| {
            let name = path.strip_prefix(root).unwrap();
            name.display().to_string()
        });
        below.collect()
    }

    #[test]
    fn stars_marks_classes_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "a.log",
            "b1.log",
            "b2.log",
            ".c.log",
            "d.log.1",
            "x/e.log",
            "x/y/f.log",
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir(root.join("folder.log")).unwrap();
        std::os::unix::fs::symlink(root.join("x"), root.join("link")).unwrap();
        assert_eq!(names(root, "*.log"), ["a.log", "b1.log", "b2.log"]);
        assert_eq!(names(root, "b?.log"), ["b1.log", "b2.log"]);
        assert_eq!(names(root, "[!a-z]*"), [""; 0]);
        assert_eq!(names(root, "b[2-9].log"), ["b2.log"]);
        assert_eq!(names(root, ".*.log"), [".c.log"]);
        assert_eq!(names(root, "*/*.log"), ["x/e.log"], "no link is entered");
        assert_eq!(names(root, "x/**/f.log"), ["x/y/f.log"]);
        assert_eq!(names(root, "x/**"), ["x/e.log", "x/y/f.log"]);
        assert_eq!(
            names(root, "**/*.log"),
            ["a.log", "b1.log", "b2.log", "x/e.log", "x/y/f.log"]
        );
        assert_eq!(names(root, "none/*.log"), [""; 0]);
        let found = Pattern::new(&root.join("*/*.log")).unwrap().find();
        assert!(found.folders.contains(&root.to_owned()));
        assert!(
            found.folders.contains(&root.join("x")),
            "one can come there"
        );
    }

    #[test]
    fn a_broken_pattern_says_so() {
        let error = Pattern::new(Path::new("/var/log/[a.log")).unwrap_err();
        assert!(error.contains("unclosed"), "{error}");
        assert!(Pattern::new(Path::new("/var/*/../x")).is_err());
    }
}
