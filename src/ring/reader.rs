//! Reads a segment: packets in the order they lie, and the recorder's counters between them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Take};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, IoError};
use crate::pcapng::decode::{Block, DecodeError, Interface, Packet};
use crate::pcapng::isb::Sample;
use crate::pcapng::stream::{Blocks, Next, StreamError};
use crate::time::{Timestamp, Window};

/// Why a segment could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Its bytes are not those of a segment; what came before is whole.
    #[error("{} is damaged or foreign: {error}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: DecodeError,
    },
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// The counters at this point of the file.
    Sample(Sample),
    /// The file ends behind a whole block.
    End,
    /// The file ends inside the block that begins at `offset`; what came before is whole.
    Torn {
        /// Where the unfinished block begins.
        offset: u64,
    },
}

/// A segment open for reading. It stays readable when its name is unlinked.
#[derive(Debug)]
pub struct SegmentReader {
    blocks: Blocks<Take<File>>,
    path: PathBuf,
}

/// Opens a segment without following a symbolic link and without waiting for a FIFO's writer.
pub fn open(path: &Path) -> Result<File, IoError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .at("open", path)?;
    if !file.metadata().at("stat", path)?.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(IoError::new("open", path, error));
    }
    Ok(file)
}

impl SegmentReader {
    /// Opens the segment at `path`.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::new(open(path)?, path)?)
    }

    /// Reads an opened segment up to the length it has now: the recorder may be appending to it.
    pub fn new(file: File, path: &Path) -> Result<Self, IoError> {
        let length = file.metadata().at("stat", path)?.len();
        Ok(Self {
            blocks: Blocks::new(file.take(length)),
            path: path.to_owned(),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An interface described so far; a segment has one, number 0.
    pub fn interface(&self, number: u32) -> Option<&Interface> {
        self.blocks.interface(number)
    }

    /// The data of the packet that [`SegmentReader::next`] has just returned, `captured` bytes
    /// long. For callers that cannot keep the first borrow.
    pub fn packet_data(&self, captured: usize) -> &[u8] {
        self.blocks.packet_data(captured)
    }

    /// The next packet or sample. What follows an error, [`Item::End`] or [`Item::Torn`] is the
    /// same again.
    #[expect(clippy::should_implement_trait, reason = "lends from its own buffer")]
    pub fn next(&mut self) -> Result<Item<'_>, ReadError> {
        let (interface, at, orig_len, captured) = loop {
            let next = self.blocks.next().map_err(|e| failed(&self.path, e))?;
            match next {
                Next::Block(Block::Packet(found)) => {
                    break (found.interface, found.at, found.orig_len, found.data.len());
                }
                Next::Block(Block::Statistics(found)) => {
                    if let Some(sample) = found.sample() {
                        return Ok(Item::Sample(sample));
                    }
                }
                Next::Block(_) => {}
                Next::End => return Ok(Item::End),
                Next::Torn { offset } => return Ok(Item::Torn { offset }),
            }
        };
        // Borrowed anew: a borrow from within the loop could not be returned.
        Ok(Item::Packet(Packet {
            interface,
            at,
            orig_len,
            data: self.blocks.packet_data(captured),
        }))
    }
}

fn failed(path: &Path, error: StreamError) -> ReadError {
    match error {
        StreamError::Io(source) => IoError::new("read", path, source).into(),
        StreamError::Decode(error) => ReadError::Damaged {
            path: path.to_owned(),
            error,
        },
    }
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentSummary {
    /// Packets within the window.
    pub packets: u64,
    /// Captured bytes of those packets.
    pub bytes: u64,
    /// Of those packets, the ones of which only a part was captured (snaplen).
    pub truncated_packets: u64,
    /// The earliest of those packets.
    pub first: Option<Timestamp>,
    /// The latest of those packets.
    pub last: Option<Timestamp>,
    /// The interface's name.
    pub interface: Option<String>,
    /// Its LINKTYPE_ value.
    pub linktype: Option<u16>,
    /// The snapshot length, 0 when unlimited.
    pub snaplen: u32,
    /// The capture filter, empty when there was none.
    pub filter: String,
    /// The recorder's counters, all of the file's, in order.
    pub samples: Vec<Sample>,
    /// Whether the file ends with the mark of a sealed segment.
    pub sealed: bool,
    /// What is wrong with the file, if anything: torn, damaged, foreign, empty. What came before
    /// is counted.
    pub problem: Option<String>,
}

/// Reads the segment at `path` through and counts what lies in `window`, or everything. Only a
/// file that cannot be opened or read is an error; wrong contents are a `problem`.
pub fn summarise(path: &Path, window: Option<Window>) -> Result<SegmentSummary, ReadError> {
    summarise_reader(SegmentReader::open(path)?, window)
}

/// [`summarise`] for a segment that is open already.
pub fn summarise_reader(
    mut reader: SegmentReader,
    window: Option<Window>,
) -> Result<SegmentSummary, ReadError> {
    let mut found = SegmentSummary::default();
    loop {
        match reader.next() {
            Ok(Item::Packet(packet)) => {
                found.sealed = false;
                if window.is_none_or(|window| window.contains(packet.at)) {
                    found.add(&packet);
                }
            }
            Ok(Item::Sample(sample)) => {
                found.sealed = sample.last;
                found.samples.push(sample);
            }
            Ok(Item::End) => break,
            Ok(Item::Torn { offset }) => {
                found.problem = Some(format!("it ends inside the block at byte {offset}"));
                break;
            }
            Err(ReadError::Damaged { error, .. }) => {
                found.problem = Some(error.to_string());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    match reader.interface(0) {
        Some(interface) => {
            found.interface.clone_from(&interface.name);
            found.linktype = Some(interface.linktype);
            found.snaplen = interface.snaplen;
            found.filter = interface.filter.clone().unwrap_or_default();
        }
        None if found.problem.is_none() => {
            found.problem = Some("it describes no interface".to_owned());
        }
        None => {}
    }
    if found.problem.is_some() {
        found.sealed = false;
    }
    Ok(found)
}

impl SegmentSummary {
    fn add(&mut self, packet: &Packet<'_>) {
        let captured = u64::try_from(packet.data.len()).unwrap_or(u64::MAX);
        self.packets += 1;
        self.bytes += captured;
        self.truncated_packets += u64::from(captured < u64::from(packet.orig_len));
        self.first = Some(self.first.map_or(packet.at, |first| first.min(packet.at)));
        self.last = self.last.max(Some(packet.at));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::counters::Counters;
    use crate::pcapng::encode;

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    fn segment(packets: &[(u64, u32, usize)], seal: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode::section_header(&mut out, &encode::Section::default());
        let interface = encode::Interface {
            linktype: 1,
            snaplen: 96,
            name: "eth0",
            filter: "ip",
            ..Default::default()
        };
        encode::interface(&mut out, &interface);
        for &(ns, orig_len, captured) in packets {
            let start = out.len();
            out.resize(start + encode::epb_len(captured), 0);
            encode::epb(&mut out[start..], 0, at(ns), orig_len, &vec![1; captured]).unwrap();
        }
        let sample = Sample {
            at: at(1000),
            start: at(1),
            counters: Counters::default(),
            detail: crate::pcapng::isb::Detail::default(),
            last: seal,
        };
        sample.encode(&mut out, 0, crate::pcapng::isb::SAMPLE_LEN);
        out
    }

    #[test]
    fn a_segment_is_summed_up_within_the_window() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seg");
        fs::write(
            &path,
            segment(
                &[(10, 60, 60), (25, 1500, 96), (20, 70, 70), (30, 9, 9)],
                true,
            ),
        )
        .unwrap();
        let found = summarise(&path, Some(Window::new(at(20), at(30)))).unwrap();
        assert_eq!(
            (found.packets, found.bytes, found.truncated_packets),
            (2, 166, 1)
        );
        assert_eq!((found.first, found.last), (Some(at(20)), Some(at(25))));
        assert_eq!(found.interface.as_deref(), Some("eth0"));
        assert_eq!(
            (found.linktype, found.snaplen, found.filter.as_str()),
            (Some(1), 96, "ip")
        );
        assert!(found.sealed && found.samples.len() == 1 && found.problem.is_none());
        assert_eq!(summarise(&path, None).unwrap().packets, 4);
    }

    #[test]
    fn torn_foreign_and_empty_files_are_problems_not_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seg");
        let whole = segment(&[(10, 60, 60), (20, 60, 60)], true);
        for (bytes, packets, problem) in [
            (
                &whole[..whole.len() - 1],
                2,
                "it ends inside the block at byte",
            ),
            (
                &whole[..whole.len() - crate::pcapng::isb::SAMPLE_LEN - 4],
                1,
                "it ends inside the block at byte",
            ),
            (b"#!/bin/sh", 0, "at byte 0: not a pcapng file"),
            (b"", 0, "it describes no interface"),
        ] {
            fs::write(&path, bytes).unwrap();
            let found = summarise(&path, None).unwrap();
            assert_eq!(found.packets, packets);
            assert!(!found.sealed);
            assert!(found.problem.unwrap().starts_with(problem));
        }
    }

    #[test]
    fn links_and_fifos_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (link, fifo) = (dir.path().join("link"), dir.path().join("fifo"));
        symlink("/etc/passwd", &link).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        for path in [&link, &fifo, &dir.path().to_owned()] {
            assert!(
                matches!(summarise(path, None), Err(ReadError::Io(_))),
                "{path:?}"
            );
        }
    }
}
