//! Reads the packets of one interface that lie in a window, from the folders of all its capture
//! threads, merged by time.
//!
//! Each folder is read in its own order, which is that of arrival; of the folders' next packets
//! always the earliest is given, that of the lower folder when both are of one instant. An
//! interface with one folder is read as it lies.

use crate::counters::Counters;
use crate::error::IoError;
use crate::ring::window::{Format, Found, Source, WindowReader};
use crate::time::Window;

/// One folder, with its next packet at hand.
#[derive(Debug)]
struct Part {
    reader: WindowReader,
    /// The folder's formats by their place in [`MergedReader::formats`].
    formats: Vec<usize>,
    head: Option<Found>,
}

/// The packets of an interface that lie in a window.
#[derive(Debug)]
pub struct MergedReader {
    parts: Vec<Part>,
    formats: Vec<Format>,
    /// The part whose packet was given last; its head is to be replaced.
    given: Option<usize>,
    /// Whether the first packet of each part was looked for.
    primed: bool,
}

impl MergedReader {
    /// Opens every folder of the interface: see [`WindowReader::open`].
    pub fn open(source: &Source, window: Window) -> Result<Self, IoError> {
        let mut formats: Vec<Format> = Vec::new();
        let mut parts = Vec::with_capacity(source.dirs.len());
        for dir in &source.dirs {
            let reader = WindowReader::open(dir, window)?;
            let mut places = Vec::with_capacity(reader.formats().len());
            for format in reader.formats() {
                let known = formats.iter().position(|known| known == format);
                places.push(known.unwrap_or_else(|| {
                    formats.push(format.clone());
                    formats.len() - 1
                }));
            }
            parts.push(Part {
                reader,
                formats: places,
                head: None,
            });
        }
        Ok(Self {
            parts,
            formats,
            given: None,
            primed: false,
        })
    }

    /// What of the window is recorded, by any of the threads.
    pub fn covered(&self) -> Option<Window> {
        let covered = self.parts.iter().filter_map(|part| part.reader.covered());
        covered.reduce(|a, b| a.union(&b))
    }

    /// What is recorded of the interface in all, by any of the threads.
    pub fn recorded(&self) -> Option<Window> {
        let recorded = self.parts.iter().filter_map(|part| part.reader.recorded());
        recorded.reduce(|a, b| a.union(&b))
    }

    /// The ways in which the packets were captured; more than one after a change of configuration.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// The counters over the window, as far as it was read, of all threads together.
    pub fn counters(&self) -> Counters {
        let counters = self.parts.iter().map(|part| part.reader.counters());
        counters.fold(Counters::default(), |sum, one| sum.plus(&one))
    }

    /// Segments that could not be read to their end, and why.
    pub fn damaged(&self) -> Vec<String> {
        let damaged = self.parts.iter().map(|part| part.reader.damaged());
        damaged.flatten().collect()
    }

    /// The data of the packet found last.
    pub fn data(&self, found: &Found) -> &[u8] {
        let part = self.given.and_then(|given| self.parts.get(given));
        part.map_or(&[], |part| part.reader.data(found))
    }

    /// The next packet of the window; `None` at the end.
    pub fn advance(&mut self) -> Option<Found> {
        if let [part] = self.parts.as_mut_slice() {
            // One folder has its formats in its own order: nothing to translate.
            self.given = Some(0);
            return part.reader.advance();
        }
        self.refill();
        let heads = self.parts.iter().enumerate();
        let (earliest, part) = heads
            .filter(|(_, part)| part.head.is_some())
            .min_by_key(|(_, part)| part.head.map(|head| head.at))?;
        let head = part.head?;
        let format = part.formats.get(head.format).copied();
        self.given = Some(earliest);
        Some(Found {
            format: format.unwrap_or(head.format),
            ..head
        })
    }

    /// Looks for the next packet where there is none at hand. The data of a head is that of its
    /// reader, so a head stays until its successor is asked for.
    fn refill(&mut self) {
        if self.primed {
            let part = self
                .given
                .take()
                .and_then(|given| self.parts.get_mut(given));
            if let Some(part) = part {
                part.head = part.reader.advance();
            }
            return;
        }
        self.primed = true;
        for part in &mut self.parts {
            part.head = part.reader.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixture::Segment;
    use crate::ring::window::sources_in;
    use crate::time::Timestamp;

    #[test]
    fn the_folders_of_an_interface_are_one_stream_in_order_of_time() {
        let root = tempfile::tempdir().unwrap();
        let even = Segment::new("eth0", 0).packet(10, b"a").packet(20, b"c");
        even.packet(40, b"e").sealed(50, 5, 2).write(root.path());
        let odd = Segment::new("eth0", 7).packet(15, b"b").packet(30, b"d");
        odd.sealed(50, 3, 1).write_for(root.path(), 1);
        let mut snapped = Segment::new("eth0", 8).packet(60, b"f");
        snapped.snaplen = 96;
        snapped.write_for(root.path(), 1);
        Segment::new("eth1", 0).packet(1, b"x").write(root.path());

        let sources = sources_in(root.path()).unwrap();
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].dirs.len(), 2);
        let window = Window::new(Timestamp::MIN, Timestamp::MAX);
        let mut reader = MergedReader::open(&sources[0], window).unwrap();
        let mut found = Vec::new();
        while let Some(packet) = reader.advance() {
            let data = reader.data(&packet).to_vec();
            found.push((packet.at.as_ns(), data[0], packet.format));
        }
        let expected = [
            (10, b'a', 0),
            (15, b'b', 0),
            (20, b'c', 0),
            (30, b'd', 0),
            (40, b'e', 0),
            (60, b'f', 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(reader.formats().len(), 2);
        assert_eq!(reader.advance(), None);
        let counters = reader.counters();
        assert_eq!((counters.received, counters.dropped_kernel), (8, 3));
    }
}
