//! Reads blocks one after the other from any [`Read`], with a buffer that holds one block.

use std::io::{self, Read};

use super::decode::{Block, DecodeError, Decoder, Interface};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Where an enhanced packet block's data begins.
const EPB_DATA_OFFSET: usize = 28;

/// Why reading stopped early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The bytes are not pcapng.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The source failed.
    #[error("read: {0}")]
    Io(#[from] io::Error),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A block.
    Block(Block<'a>),
    /// The source ends behind a whole block.
    End,
    /// The source ends inside a block, or in the zeros of space that was never written; the
    /// blocks before are whole.
    Torn {
        /// Where the unfinished block begins.
        offset: u64,
    },
}

/// The blocks of a pcapng source.
#[derive(Debug)]
pub struct Blocks<R> {
    source: R,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The bytes read and not yet consumed are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Where the block returned last lies in the buffer.
    last: usize,
    /// The source has no more bytes.
    drained: bool,
}

impl<R: Read> Blocks<R> {
    /// The blocks of `source`, from its beginning.
    pub fn new(source: R) -> Self {
        Self {
            source,
            decoder: Decoder::new(),
            buffer: vec![0; CHUNK_BYTES],
            start: 0,
            end: 0,
            last: 0,
            drained: false,
        }
    }

    /// The offset of the block that comes next.
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// An interface of the current section.
    pub fn interface(&self, number: u32) -> Option<&Interface> {
        self.decoder.interface(number)
    }

    /// All interfaces of the current section so far.
    pub fn interfaces(&self) -> &[Interface] {
        self.decoder.interfaces()
    }

    /// The next block. After an error, [`Next::End`] or [`Next::Torn`] the answer stays.
    #[expect(clippy::should_implement_trait, reason = "lends from its own buffer")]
    pub fn next(&mut self) -> Result<Next<'_>, StreamError> {
        let length = loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            // What this is shows in eight bytes, in whatever pieces they come.
            if held.len() < 8 && !self.drained {
                self.fill(8)?;
                continue;
            }
            if unwritten(held) {
                let offset = self.decoder.offset();
                return Ok(Next::Torn { offset });
            }
            let wanted = match self.decoder.length(held)? {
                Some(length) if length <= held.len() => break length,
                // Section headers need 12 bytes to tell their length, others 8.
                None => held.len() + 4,
                Some(length) => length,
            };
            if self.drained {
                return Ok(match held {
                    [] => Next::End,
                    _ => Next::Torn {
                        offset: self.decoder.offset(),
                    },
                });
            }
            self.fill(wanted)?;
        };
        let block = self
            .buffer
            .get(self.start..self.start + length)
            .unwrap_or_default();
        let found = self.decoder.block(block)?;
        self.last = self.start;
        self.start += length;
        Ok(found.map_or(Next::End, Next::Block))
    }

    /// The data of the packet that [`Blocks::next`] has just returned, `captured` bytes long.
    /// For callers that cannot keep the first borrow.
    pub fn packet_data(&self, captured: usize) -> &[u8] {
        let from = self.last + EPB_DATA_OFFSET;
        self.buffer.get(from..from + captured).unwrap_or_default()
    }

    /// Reads until `wanted` bytes are held or the source ends. The caller has checked `wanted`
    /// against [`super::decode::BLOCK_BYTES_MAX`].
    fn fill(&mut self, wanted: usize) -> Result<(), StreamError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted && !self.drained {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.source.read(free) {
                Ok(0) => self.drained = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Space that was allocated and not written reads as zeros; no block begins like that.
fn unwritten(held: &[u8]) -> bool {
    held.first_chunk() == Some(&[0_u8; 8])
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use pcap_file::pcapng::{Block as Theirs, PcapNgReader};
    use proptest::prelude::*;

    use super::*;
    use crate::counters::Counters;
    use crate::pcapng::decode::{Packet, Reason};
    use crate::pcapng::encode;
    use crate::pcapng::isb::Sample;
    use crate::time::Timestamp;

    /// What a file holds, owned.
    #[derive(Debug, Default, PartialEq)]
    struct Held {
        packets: Vec<(u32, u64, u32, Vec<u8>)>,
        samples: Vec<Sample>,
        others: usize,
        torn: Option<u64>,
    }

    fn read(source: impl Read) -> Result<Held, StreamError> {
        let mut blocks = Blocks::new(source);
        let mut held = Held::default();
        loop {
            match blocks.next()? {
                Next::Block(Block::Packet(Packet {
                    interface,
                    at,
                    orig_len,
                    data,
                })) => {
                    held.packets
                        .push((interface, at.as_ns(), orig_len, data.to_vec()));
                }
                Next::Block(Block::Statistics(found)) => held.samples.extend(found.sample()),
                Next::Block(Block::Other(_)) => held.others += 1,
                Next::Block(_) => {}
                Next::End => return Ok(held),
                Next::Torn { offset } => {
                    held.torn = Some(offset);
                    return Ok(held);
                }
            }
        }
    }

    /// Hands out a byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (Some((first, rest)), Some(slot)) = (self.0.split_first(), buffer.first_mut())
            else {
                return Ok(0);
            };
            *slot = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn header() -> Vec<u8> {
        let mut out = Vec::new();
        let comments = ["a comment".to_owned()];
        let section = encode::Section {
            application: "test",
            comments: &comments,
            ..Default::default()
        };
        encode::section_header(&mut out, &section);
        for name in ["eth0", "eth1"] {
            let interface = encode::Interface {
                linktype: 1,
                snaplen: 65_535,
                name,
                filter: "ip",
                ..Default::default()
            };
            encode::interface(&mut out, &interface);
        }
        out
    }

    fn push(out: &mut Vec<u8>, interface: u32, ns: u64, orig_len: u32, data: &[u8]) {
        let start = out.len();
        out.resize(start + encode::epb_len(data.len()), 0);
        let at = Timestamp::from_ns(ns);
        encode::epb(&mut out[start..], interface, at, orig_len, data).unwrap();
    }

    fn sample(at: u64, last: bool) -> Sample {
        Sample {
            at: Timestamp::from_ns(at),
            start: Timestamp::from_ns(3),
            counters: Counters {
                received: 10,
                written: 7,
                written_bytes: 700,
                dropped_kernel: 1,
                dropped_ring: 2,
                dropped_iface: 5,
                truncated: 4,
                filtered: 6,
            },
            detail: crate::pcapng::isb::Detail::default(),
            last,
        }
    }

    /// A file of foreign make, big-endian, with a resolution and an offset, a simple packet block
    /// and a block nobody knows.
    fn foreign(tsresol: u8, offset_s: i64, raw: u64) -> Vec<u8> {
        fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
            let length = u32::try_from(body.len() + 12).unwrap().to_be_bytes();
            for part in [&kind.to_be_bytes()[..], &length, body, &length] {
                out.extend_from_slice(part);
            }
        }
        let mut out = Vec::new();
        let mut section = vec![0x1A, 0x2B, 0x3C, 0x4D, 0, 1, 0, 0];
        section.extend_from_slice(&[0xFF; 8]);
        block(&mut out, 0x0A0D_0D0A, &section);
        let mut interface = vec![0, 1, 0, 0, 0, 0, 0xFF, 0xFF, 0, 9, 0, 1, tsresol, 0, 0, 0];
        interface.extend_from_slice(&[0, 14, 0, 8]);
        interface.extend_from_slice(&offset_s.to_be_bytes());
        interface.extend_from_slice(&[0; 4]);
        block(&mut out, 1, &interface);
        block(&mut out, 0xBAD, b"whatever");
        block(&mut out, 3, &[0, 0, 0, 4, 1, 2, 3, 4]);
        let mut packet = vec![0; 4];
        packet.extend_from_slice(&raw.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 60, b'a', b'b', b'c', 0]);
        block(&mut out, 6, &packet);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = header();
        push(&mut bytes, 1, u64::from(u32::MAX) + 7, 1500, b"hello");
        push(&mut bytes, 0, 1, 0, b"");
        sample(9, false).encode(&mut bytes, 1, 4096);
        sample(10, true).encode(&mut bytes, 0, crate::pcapng::isb::SAMPLE_LEN);
        let held = read(&bytes[..]).unwrap();
        assert_eq!(
            held.packets,
            [
                (1, u64::from(u32::MAX) + 7, 1500, b"hello".to_vec()),
                (0, 1, 0, Vec::new())
            ]
        );
        assert_eq!(held.samples, [sample(9, false), sample(10, true)]);
        assert_eq!(held, read(Drip(&bytes)).unwrap());
        let mut blocks = Blocks::new(&bytes[..]);
        let Next::Block(Block::Section(section)) = blocks.next().unwrap() else {
            panic!("no section");
        };
        assert_eq!(section.comments, ["a comment"]);
        assert_eq!(blocks.next().unwrap(), Next::Block(Block::Interface(0)));
        let interface = blocks.interface(0).unwrap();
        assert_eq!(interface.name.as_deref(), Some("eth0"));
        assert_eq!(interface.filter.as_deref(), Some("ip"));
    }

    #[test]
    fn resolutions_and_offsets_of_other_programs_are_understood() {
        for (tsresol, offset_s, raw, ns) in [
            (6, 0, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
            (9, 0, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
            (9, 100, 5, 100_000_000_005),
            (9, -100, 5, 0),
            (3, 0, 1234, 1_234_000_000),
            (0, 0, 12, 12_000_000_000),
            (12, 0, 1_234_567, 1234),
            (127, 0, u64::MAX, 0),
            (0x8A, 0, 1536, 1_500_000_000),
            (0xFF, 0, u64::MAX, 0),
            (0, i64::MAX, u64::MAX, Timestamp::MAX.as_ns()),
            (0, i64::MIN, 1, 0),
        ] {
            let held = read(&foreign(tsresol, offset_s, raw)[..]).unwrap();
            assert_eq!(
                held.packets,
                [(0, ns, 60, b"abc".to_vec())],
                "tsresol {tsresol}"
            );
            assert_eq!(held.others, 2);
        }
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_blocks_and_says_where_it_is_torn() {
        let mut bytes = header();
        let mut ends = vec![bytes.len()];
        for i in 0..5 {
            push(&mut bytes, 0, i, 9, &[1; 9]);
            ends.push(bytes.len());
        }
        for cut in ends[0]..=bytes.len() {
            let held = read(&bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(held.packets.len(), whole);
            let expected = (!ends.contains(&cut)).then(|| ends[whole] as u64);
            assert_eq!(held.torn, expected, "cut at {cut}");
        }
        bytes.extend_from_slice(&[0; 4096]);
        assert_eq!(read(&bytes[..]).unwrap().torn, Some(ends[5] as u64));
    }

    #[test]
    fn an_error_says_where_and_why() {
        let mut bytes = header();
        let at = bytes.len() as u64;
        push(&mut bytes, 2, 1, 1, b"x");
        let error = read(&bytes[..]).unwrap_err().to_string();
        assert_eq!(error, format!("at byte {at}: interface 2 is not described"));
        let error = read(&b"\xd4\xc3\xb2\xa1 a pcap"[..]).unwrap_err();
        assert!(matches!(error, StreamError::Decode(e) if e.reason == Reason::NotPcapng));
        let mut bytes = header();
        bytes.extend_from_slice(&[6, 0, 0, 0, 0xFC, 0xFF, 0xFF, 0xFF]);
        let error = read(&bytes[..]).unwrap_err();
        assert!(matches!(error, StreamError::Decode(e) if e.reason == Reason::Length(0xFFFF_FFFC)));
    }

    /// The same file as an independent reader sees it.
    fn oracle(bytes: &[u8]) -> Vec<(u32, u64, u32, Vec<u8>)> {
        let mut reader = PcapNgReader::new(bytes).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let (Theirs::EnhancedPacket(packet), _) = block.unwrap() {
                let ns = u64::try_from(packet.timestamp.as_nanos()).unwrap();
                let data: Cow<'_, [u8]> = packet.data;
                packets.push((
                    packet.interface_id,
                    ns,
                    packet.original_len,
                    data.into_owned(),
                ));
            }
        }
        packets
    }

    proptest! {
        #[test]
        fn an_independent_reader_sees_the_same(
            packets in proptest::collection::vec(
                (0..2_u32, 0..i64::MAX as u64, 300..u32::MAX, proptest::collection::vec(any::<u8>(), 0..300)),
                0..20,
            ),
        ) {
            let mut bytes = header();
            for (interface, ns, orig_len, data) in &packets {
                push(&mut bytes, *interface, *ns, *orig_len, data);
            }
            let held = read(&bytes[..]).unwrap();
            prop_assert_eq!(&held.packets, &packets);
            prop_assert_eq!(oracle(&bytes), packets);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _held = read(&bytes[..]);
        }

        #[test]
        fn mutated_files_never_panic_and_never_invent_packets(
            hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            big in any::<bool>(),
        ) {
            let mut bytes = if big { foreign(9, 1, 7) } else { header() };
            if !big {
                for i in 0..10 {
                    push(&mut bytes, 0, i, 60, &[7; 60]);
                    sample(i, false).encode(&mut bytes, 0, 256);
                }
            }
            for (at, byte) in hits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(held) = read(&bytes[..]) {
                prop_assert!(held.packets.len() <= 10);
            }
        }
    }
}
