//! Reads the packets of one folder of segments that lie in a window, segment after segment.
//! [`crate::ring::merge`] reads all folders of an interface.
//!
//! It works on the live ring as on an incident's folder. Segments are held open some way ahead of
//! the one being read, so that rotation cannot take what was promised; what is damaged or was
//! taken all the same is remembered by name and does not stop the reading.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::counters::Counters;
use crate::error::{IoContext, IoError};
use crate::pcapng::decode::Block;
use crate::pcapng::stream::{Blocks, Next};
use crate::ring::accounting::Accounting;
use crate::ring::catalog::Catalog;
use crate::ring::names::parse_folder;
use crate::ring::reader::{self, Item, ReadError, SegmentReader};
use crate::time::{Timestamp, Window};

/// Segments held open ahead of the one being read. Rotation takes the oldest first, just as they
/// are read, so these are the ones in danger.
const HELD_SEGMENTS: usize = 64;
/// How much of a segment is read to find its interface description.
const HEADER_BYTES: u64 = 64 << 10;
/// The kernel's timestamps of different CPUs are not in perfect order: a segment may hold packets
/// this much later than its successor's opening.
const DISORDER: Duration = Duration::from_secs(1);
/// The most damaged segments that are named; the rest is counted.
const DAMAGED_MAX: usize = 20;

/// An interface's folders of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The interface's name.
    pub interface: String,
    /// Its folders, one per capture thread it ever had.
    pub dirs: Vec<PathBuf>,
}

/// The interfaces that have folders in `dir`: a ring, or an incident's `segments`.
pub fn sources_in(dir: &Path) -> Result<Vec<Source>, IoError> {
    let mut folders = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", dir)?,
    };
    for entry in entries {
        let entry = entry.at("list", dir)?;
        let name = entry.file_name().to_str().and_then(parse_folder);
        // `file_type` does not follow links.
        if let (Some(member), Ok(true)) = (name, entry.file_type().map(|kind| kind.is_dir())) {
            folders.push((member, entry.path()));
        }
    }
    folders.sort_unstable();
    let mut sources: Vec<Source> = Vec::new();
    for ((interface, _), dir) in folders {
        match sources.last_mut() {
            Some(last) if last.interface == interface => last.dirs.push(dir),
            _ => sources.push(Source {
                interface,
                dirs: vec![dir],
            }),
        }
    }
    Ok(sources)
}

/// How the packets of a segment were captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// LINKTYPE_ value.
    pub linktype: u16,
    /// The snapshot length, 0 when unlimited.
    pub snaplen: u32,
    /// The capture filter, empty when there was none.
    pub filter: String,
}

/// A packet found; its data is asked for with [`WindowReader::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// When it was captured.
    pub at: Timestamp,
    /// Its length on the wire.
    pub orig_len: u32,
    /// How much of it was captured.
    pub captured: usize,
    /// Its place in [`WindowReader::formats`].
    pub format: usize,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    format: usize,
    /// `None` beyond [`HELD_SEGMENTS`].
    file: Option<File>,
}

/// The packets of a folder that lie in a window.
#[derive(Debug)]
pub struct WindowReader {
    window: Window,
    covered: Option<Window>,
    recorded: Option<Window>,
    formats: Vec<Format>,
    waiting: VecDeque<Held>,
    current: Option<(SegmentReader, usize)>,
    accounting: Accounting,
    since_sample: u64,
    damaged: Vec<String>,
    more_damaged: u64,
}

impl WindowReader {
    /// Finds the segments that may hold packets of the window, reads their headers and holds
    /// the first of them open.
    pub fn open(dir: &Path, window: Window) -> Result<Self, IoError> {
        let catalog = Catalog::scan(dir)?;
        let wide = Window::new(window.from.minus(DISORDER), window.to.plus(DISORDER));
        let mut found = Self {
            window,
            covered: None,
            recorded: recorded(&catalog),
            formats: Vec::new(),
            waiting: VecDeque::new(),
            current: None,
            accounting: Accounting::new(window),
            since_sample: 0,
            damaged: Vec::new(),
            more_damaged: 0,
        };
        let mut opens = None;
        for segment in catalog.covering(&wide) {
            if found.take_up(&segment.path)? {
                opens.get_or_insert(segment.name.first);
            }
        }
        if let (Some(opens), Some(recorded)) = (opens, found.recorded) {
            // The earliest segment may have been rotated away since the listing.
            let there = Window::new(opens.max(recorded.from), recorded.to);
            found.covered = there.intersect(&window);
        }
        Ok(found)
    }

    /// Reads a segment's header; says whether the segment is there and can be read.
    fn take_up(&mut self, path: &Path) -> Result<bool, IoError> {
        let file = match reader::open(path) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let format = match format_of(&file) {
            Ok(format) => format,
            Err(reason) => {
                self.damage(path, &reason);
                return Ok(false);
            }
        };
        (&file).rewind().at("seek", path)?;
        let number = self.formats.iter().position(|known| *known == format);
        let format = number.unwrap_or_else(|| {
            self.formats.push(format);
            self.formats.len() - 1
        });
        let file = (self.waiting.len() < HELD_SEGMENTS).then_some(file);
        let path = path.to_owned();
        self.waiting.push_back(Held { path, format, file });
        Ok(true)
    }

    /// What of the window is recorded here, from the first segment's opening to the last counters
    /// or packet on disk; gaps in between are not looked for.
    pub fn covered(&self) -> Option<Window> {
        self.covered
    }

    /// What is recorded here in all.
    pub fn recorded(&self) -> Option<Window> {
        self.recorded
    }

    /// The ways in which the packets were captured; more than one after a change of configuration.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// The counters over the window, as far as it was read.
    pub fn counters(&self) -> Counters {
        self.accounting.counters()
    }

    /// Segments that could not be read to their end, and why.
    pub fn damaged(&self) -> Vec<String> {
        let mut damaged = self.damaged.clone();
        if self.more_damaged > 0 {
            damaged.push(format!("and {} more", self.more_damaged));
        }
        damaged
    }

    /// The data of the packet found last.
    pub fn data(&self, found: &Found) -> &[u8] {
        self.current
            .as_ref()
            .map_or(&[], |(reader, _)| reader.packet_data(found.captured))
    }

    /// The next packet of the window, in the order they lie; `None` at the end.
    ///
    /// That order is the order of arrival. Segments are read to their end, because after a step
    /// of the clock a packet of the window may lie behind one that is later.
    pub fn advance(&mut self) -> Option<Found> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                continue;
            }
            let (reader, format) = self.current.as_mut()?;
            let format = *format;
            match reader.next() {
                Ok(Item::Packet(packet)) => {
                    self.since_sample += 1;
                    if self.window.contains(packet.at) && packet.interface == 0 {
                        return Some(Found {
                            at: packet.at,
                            orig_len: packet.orig_len,
                            captured: packet.data.len(),
                            format,
                        });
                    }
                }
                Ok(Item::Sample(sample)) => {
                    self.accounting.add(&sample, self.since_sample);
                    self.since_sample = 0;
                }
                Ok(Item::End) => self.current = None,
                Ok(Item::Torn { offset }) => {
                    // The newest segment of a live ring may be read in mid-write.
                    let cut = if self.waiting.is_empty() {
                        " (still being written, or cut short)"
                    } else {
                        ""
                    };
                    let path = reader.path().to_owned();
                    let reason = format!("it ends inside the block at byte {offset}{cut}");
                    self.damage(&path, &reason);
                    self.current = None;
                }
                Err(error) => {
                    let path = reader.path().to_owned();
                    self.damage(&path, &reason(&error));
                    self.current = None;
                }
            }
        }
    }

    /// Opens the next segment; `None` when there is none, `false` when it cannot be read.
    fn open_next(&mut self) -> Option<bool> {
        let held = self.waiting.pop_front()?;
        self.since_sample = 0;
        let file = match held.file {
            Some(file) => Ok(file),
            None => reader::open(&held.path),
        };
        match file.and_then(|file| SegmentReader::new(file, &held.path)) {
            Ok(reader) => self.current = Some((reader, held.format)),
            Err(error) => self.damage(&held.path, &error.source.to_string()),
        }
        // Move the hold on by one.
        if let Some(next) = self.waiting.get_mut(HELD_SEGMENTS - 1)
            && next.file.is_none()
        {
            next.file = reader::open(&next.path).ok();
        }
        Some(self.current.is_some())
    }

    fn damage(&mut self, path: &Path, reason: &str) {
        if self.damaged.len() < DAMAGED_MAX {
            let name = path.file_name().unwrap_or(path.as_os_str());
            self.damaged.push(format!("{}: {reason}", name.display()));
        } else {
            self.more_damaged += 1;
        }
    }
}

fn reason(error: &ReadError) -> String {
    match error {
        ReadError::Damaged { error, .. } => error.to_string(),
        ReadError::Io(error) => error.source.to_string(),
    }
}

/// From the oldest segment's opening to the last counters or packet of the newest.
fn recorded(catalog: &Catalog) -> Option<Window> {
    let segments = catalog.segments();
    let from = segments.iter().map(|segment| segment.name.first).min()?;
    let newest = segments.last()?;
    let summary = reader::summarise(&newest.path, None).unwrap_or_default();
    let sampled = summary.samples.iter().map(|sample| sample.at).max();
    let opened = Some(newest.name.first);
    let last = sampled.max(summary.last.map(just_after)).max(opened)?;
    Some(Window::new(from, last))
}

fn just_after(at: Timestamp) -> Timestamp {
    at.plus(Duration::from_nanos(1))
}

/// Reads the interface description; the error says why there is none.
fn format_of(file: &File) -> Result<Format, String> {
    let mut blocks = Blocks::new(file.take(HEADER_BYTES));
    loop {
        match blocks.next() {
            Ok(Next::Block(Block::Interface(_))) => break,
            Ok(Next::Block(Block::Section(_) | Block::Other(_))) => {}
            Ok(_) => return Err("it describes no interface".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let interface = blocks.interface(0).ok_or("it describes no interface")?;
    Ok(Format {
        linktype: interface.linktype,
        snaplen: interface.snaplen,
        filter: interface.filter.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixture::Segment;

    #[test]
    fn the_hold_moves_on_with_the_reading() {
        let root = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for number in 0..200 {
            let segment = Segment::new("eth0", number).packet(1000 + number, b"x");
            paths.push(segment.write(root.path()));
        }
        let window = Window::new(Timestamp::MIN, Timestamp::MAX);
        let mut reader = WindowReader::open(&root.path().join("eth0"), window).unwrap();
        for (number, path) in paths.iter().enumerate() {
            // Rotation stays within the hold, ahead of the reading.
            if let Some(ahead) = paths.get(number + HELD_SEGMENTS - 1) {
                fs::remove_file(ahead).unwrap();
            }
            let found = reader.advance();
            assert!(
                found.is_some(),
                "{} is lost: {:?}",
                path.display(),
                reader.damaged()
            );
        }
        assert_eq!(reader.advance(), None);
    }

    #[test]
    fn coverage_ends_with_the_last_sample_or_packet() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("eth0");
        let at = Timestamp::from_ns;
        let covered = |from, to| {
            WindowReader::open(&dir, Window::new(at(from), at(to)))
                .unwrap()
                .covered()
        };
        assert_eq!(covered(0, 9), None);
        Segment::new("eth0", 0)
            .packet(100, b"x")
            .sealed(150, 1, 0)
            .write(root.path());
        assert_eq!(covered(0, 500), Some(Window::new(at(100), at(150))));
        Segment::new("eth0", 1).packet(160, b"x").write(root.path());
        assert_eq!(covered(120, 500), Some(Window::new(at(120), at(161))));
        assert_eq!(covered(161, 500), None);
    }
}
