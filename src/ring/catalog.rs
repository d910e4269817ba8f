//! Which segments a folder holds and which of them cover a window.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, IoError};
use crate::ring::names::SegmentName;
use crate::time::{Timestamp, Window};

/// A segment file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// What its name says.
    pub name: SegmentName,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes when it was listed.
    pub bytes: u64,
}

/// The segments of one interface, in order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    segments: Vec<SegmentFile>,
    foreign: Vec<PathBuf>,
}

impl Catalog {
    /// Lists a folder. One that does not exist is an empty catalog; a file that disappears
    /// meanwhile (rotation) is left out; files that are not segments are `foreign`.
    pub fn scan(folder: &Path) -> Result<Self, IoError> {
        let mut catalog = Self::default();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(catalog),
            entries => entries.at("list", folder)?,
        };
        for entry in entries {
            let entry = entry.at("list", folder)?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            match name.to_str().and_then(SegmentName::parse) {
                Some(name) if metadata.is_file() => catalog.segments.push(SegmentFile {
                    name,
                    path: entry.path(),
                    bytes: metadata.len(),
                }),
                _ if name.to_str().is_some_and(|name| name.ends_with(".pcapng")) => {
                    catalog.foreign.push(entry.path());
                }
                _ => {}
            }
        }
        catalog
            .segments
            .sort_unstable_by_key(|segment| segment.name);
        Ok(catalog)
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Files named `*.pcapng` that are not ours.
    pub fn foreign(&self) -> &[PathBuf] {
        &self.foreign
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The segments that may hold packets of `window`, oldest first.
    pub fn covering(&self, window: &Window) -> Vec<SegmentFile> {
        let times: Vec<Timestamp> = self.segments.iter().map(|s| s.name.first).collect();
        let covers = covering(&times, window);
        self.segments
            .iter()
            .zip(covers)
            .filter(|(_, c)| *c)
            .map(|(s, _)| s.clone())
            .collect()
    }
}

/// For segments that open at `first` (in order of their numbers), whether each may hold packets of
/// `window`.
///
/// A segment spans from its first packet to the opening of the next. After the clock was set back
/// a segment opens before its predecessor: nothing tells how far back the predecessor's packets
/// reach, so it is taken to span everything. A step costs a segment too many, never one too few.
pub fn covering(first: &[Timestamp], window: &Window) -> Vec<bool> {
    first
        .iter()
        .enumerate()
        .map(|(i, &opens)| {
            let next = first.get(i + 1).copied().unwrap_or(Timestamp::MAX);
            let (from, to) = if next < opens {
                (Timestamp::MIN, Timestamp::MAX)
            } else {
                (opens, next)
            };
            from < window.to && window.from <= to
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    #[test]
    fn a_window_takes_the_segment_that_was_open_at_its_start() {
        let first = [at(10), at(20), at(30)];
        assert_eq!(
            covering(&first, &Window::new(at(22), at(25))),
            [false, true, false]
        );
        assert_eq!(
            covering(&first, &Window::new(at(20), at(31))),
            [true, true, true]
        );
        assert_eq!(
            covering(&first, &Window::new(at(0), at(10))),
            [false, false, false]
        );
        assert_eq!(
            covering(&first, &Window::new(at(99), at(100))),
            [false, false, true]
        );
    }

    #[test]
    fn a_clock_set_back_costs_a_segment_too_many_never_one_too_few() {
        let first = [at(100), at(50), at(60)];
        assert!(covering(&first, &Window::new(at(105), at(110)))[0]);
        // Packets that came after the step and before the next segment's opening.
        assert!(covering(&first, &Window::new(at(45), at(48)))[0]);
    }

    #[test]
    fn a_folder_is_its_own_catalog() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "seg-00000000000000000002-20.pcapng",
            "seg-00000000000000000001-10.pcapng",
            "copy of seg.pcapng",
            "gaps.jsonl",
        ] {
            fs::write(dir.path().join(name), b"1234").unwrap();
        }
        let catalog = Catalog::scan(dir.path()).unwrap();
        let numbers: Vec<u64> = catalog.segments().iter().map(|s| s.name.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(catalog.foreign().len(), 1);
        assert_eq!(catalog.bytes(), 8);
        assert_eq!(
            Catalog::scan(&dir.path().join("none")).unwrap(),
            Catalog::default()
        );
    }
}
