//! Writes pcapng and nanosecond pcap.

use std::io::{self, Write};

use crate::counters::Counters;
use crate::pcapng::encode;
use crate::pcapng::isb::{Detail, SAMPLE_LEN, Sample};
use crate::time::{Timestamp, Window};

/// The snapshot length of an unlimited interface, as tcpdump has it.
pub(super) const SNAPLEN_MAX: u32 = 262_144;
/// How much is handed on at once.
const PIECE_BYTES: usize = 128 << 10;
const NS_PER_S: u64 = 1_000_000_000;

/// An interface of the file.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) linktype: u16,
    pub(super) snaplen: u32,
    pub(super) name: String,
    pub(super) filter: String,
}

/// Takes packets.
pub(super) trait Sink {
    /// Writes a packet of the interface with this number.
    fn packet(
        &mut self,
        interface: usize,
        at: Timestamp,
        orig_len: u32,
        data: &[u8],
    ) -> io::Result<()>;
}

/// Collects small writes into pieces.
#[derive(Debug)]
struct Pieces<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Pieces<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(2 * PIECE_BYTES),
        }
    }

    fn hand_on_when_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < PIECE_BYTES {
            return Ok(());
        }
        self.hand_on()
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct PcapNg<'a, W> {
    pieces: Pieces<'a, W>,
}

impl<'a, W: Write> PcapNg<'a, W> {
    /// Writes the head: one section, all interfaces.
    pub(super) fn begin(out: &'a mut W, comments: &[String], interfaces: &[Interface]) -> Self {
        let mut pieces = Pieces::new(out);
        let section = encode::Section {
            hardware: "",
            os: std::env::consts::OS,
            application: concat!("wirewitness ", env!("CARGO_PKG_VERSION")),
            comments,
        };
        encode::section_header(&mut pieces.buffer, &section);
        for interface in interfaces {
            let interface = encode::Interface {
                linktype: interface.linktype,
                snaplen: interface.snaplen,
                name: &interface.name,
                filter: &interface.filter,
                ..Default::default()
            };
            encode::interface(&mut pieces.buffer, &interface);
        }
        Self { pieces }
    }

    /// Writes what became of an interface's packets over the window.
    pub(super) fn counters(&mut self, interface: usize, window: Window, counters: Counters) {
        let sample = Sample {
            at: window.to,
            start: window.from,
            counters,
            detail: Detail::default(),
            last: false,
        };
        let interface = u32::try_from(interface).unwrap_or(u32::MAX);
        sample.encode(&mut self.pieces.buffer, interface, SAMPLE_LEN);
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.pieces.hand_on()?;
        self.pieces.out.flush()
    }
}

impl<W: Write> Sink for PcapNg<'_, W> {
    fn packet(
        &mut self,
        interface: usize,
        at: Timestamp,
        orig_len: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let buffer = &mut self.pieces.buffer;
        let start = buffer.len();
        buffer.resize(start + encode::epb_len(data.len()), 0);
        let room = buffer.get_mut(start..).unwrap_or_default();
        let interface = u32::try_from(interface).unwrap_or(u32::MAX);
        encode::epb(room, interface, at, orig_len, data)
            .ok_or_else(|| io::Error::other("a packet does not fit its block"))?;
        self.pieces.hand_on_when_full()
    }
}

#[derive(Debug)]
pub(super) struct Pcap<'a, W> {
    pieces: Pieces<'a, W>,
}

impl<'a, W: Write> Pcap<'a, W> {
    /// Writes the file header of the nanosecond variant.
    pub(super) fn begin(out: &'a mut W, linktype: u16, snaplen: u32) -> Self {
        let mut pieces = Pieces::new(out);
        let buffer = &mut pieces.buffer;
        buffer.extend_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
        buffer.extend_from_slice(&2_u16.to_le_bytes());
        buffer.extend_from_slice(&4_u16.to_le_bytes());
        for word in [0, 0, snaplen, u32::from(linktype)] {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        Self { pieces }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.pieces.hand_on()?;
        self.pieces.out.flush()
    }
}

impl<W: Write> Sink for Pcap<'_, W> {
    fn packet(
        &mut self,
        _interface: usize,
        at: Timestamp,
        orig_len: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let captured = u32::try_from(data.len()).unwrap_or(u32::MAX);
        for field in [
            word(at.as_ns() / NS_PER_S),
            word(at.as_ns() % NS_PER_S),
            captured.to_le_bytes(),
            orig_len.to_le_bytes(),
        ] {
            self.pieces.buffer.extend_from_slice(&field);
        }
        self.pieces.buffer.extend_from_slice(data);
        self.pieces.hand_on_when_full()
    }
}
