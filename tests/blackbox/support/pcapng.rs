//! A strict reader of pcapng, written apart from the product's: it panics on anything that is not
//! exactly as the draft says (draft-ietf-opsawg-pcapng).

use std::path::Path;

use super::number_of;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// One captured packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) interface: usize,
    pub(crate) at_ns: u64,
    pub(crate) original_bytes: u32,
    pub(crate) data: &'a [u8],
}

/// What a file says about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// `if_name` of each interface.
    pub(crate) interfaces: Vec<String>,
    /// `snaplen` of each interface.
    pub(crate) snaplens: Vec<u32>,
    /// Comments (option 1) of any block.
    pub(crate) comments: Vec<String>,
    /// Statistics blocks.
    pub(crate) statistics: Vec<Statistics>,
    pub(crate) packets: u64,
}

/// One Interface Statistics Block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Statistics {
    pub(crate) interface: usize,
    pub(crate) interface_dropped: Option<u64>,
    pub(crate) filter_accepted: Option<u64>,
    pub(crate) os_dropped: Option<u64>,
    pub(crate) delivered: Option<u64>,
}

/// Reads a file of one little-endian section, showing every packet to `show`.
pub(crate) fn read(path: &Path, show: impl FnMut(Packet<'_>)) -> Summary {
    let bytes = std::fs::read(path).unwrap();
    parse(&bytes, &path.display().to_string(), show)
}

/// [`read`] of bytes; `name` is for complaints.
pub(crate) fn parse(bytes: &[u8], name: &str, mut show: impl FnMut(Packet<'_>)) -> Summary {
    let mut summary = Summary::default();
    let mut at = 0;
    while at < bytes.len() {
        let complain = |what: &str| -> ! { panic!("{name}: at byte {at}: {what}") };
        let rest = &bytes[at..];
        if rest.len() < 12 {
            complain("less than a block is left");
        }
        let (kind, length) = (u32_at(rest, 0), u32_at(rest, 4) as usize);
        if length % 4 != 0 || length < 12 || length > rest.len() {
            complain(&format!("block 0x{kind:x} claims a length of {length}"));
        }
        if u32_at(rest, length - 4) as usize != length {
            complain("the two lengths of a block differ");
        }
        let body = &rest[8..length - 4];
        match kind {
            SECTION => {
                if at != 0 {
                    complain("a second section");
                }
                assert_eq!(u32_at(body, 0), 0x1a2b_3c4d, "{name}: byte order");
                each_option(&body[16..], |code, value| note(&mut summary, code, value));
            }
            INTERFACE => {
                let mut if_name = String::new();
                let mut resolution = 6;
                each_option(&body[8..], |code, value| match code {
                    2 => if_name = String::from_utf8(value.to_vec()).unwrap(),
                    9 => resolution = value[0],
                    _ => note(&mut summary, code, value),
                });
                assert_eq!(resolution, 9, "{name}: if_tsresol");
                summary.interfaces.push(if_name);
                summary.snaplens.push(u32_at(body, 4));
            }
            ENHANCED_PACKET => {
                let captured = u32_at(body, 12) as usize;
                let interface = u32_at(body, 0) as usize;
                if interface >= summary.interfaces.len() {
                    complain("a packet of an interface that was not described");
                }
                summary.packets += 1;
                show(Packet {
                    interface,
                    at_ns: u64::from(u32_at(body, 4)) << 32 | u64::from(u32_at(body, 8)),
                    original_bytes: u32_at(body, 16),
                    data: &body[20..20 + captured],
                });
            }
            STATISTICS => {
                let mut statistics = Statistics {
                    interface: u32_at(body, 0) as usize,
                    ..Statistics::default()
                };
                each_option(&body[12..], |code, value| match code {
                    5 => statistics.interface_dropped = Some(u64_at(value)),
                    6 => statistics.filter_accepted = Some(u64_at(value)),
                    7 => statistics.os_dropped = Some(u64_at(value)),
                    8 => statistics.delivered = Some(u64_at(value)),
                    _ => note(&mut summary, code, value),
                });
                summary.statistics.push(statistics);
            }
            // Name resolution, custom blocks: allowed, not used by these tests.
            _ => {}
        }
        at += length;
    }
    summary
}

fn note(summary: &mut Summary, code: u16, value: &[u8]) {
    if code == 1 {
        summary
            .comments
            .push(String::from_utf8(value.to_vec()).unwrap());
    }
}

fn each_option(mut bytes: &[u8], mut show: impl FnMut(u16, &[u8])) {
    while bytes.len() >= 4 {
        let code = u16::from_le_bytes([bytes[0], bytes[1]]);
        let length = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if code == 0 {
            assert_eq!((length, bytes.len()), (0, 4), "bytes after opt_endofopt");
            return;
        }
        show(code, &bytes[4..4 + length]);
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
    assert!(
        bytes.is_empty(),
        "{} stray bytes after the options",
        bytes.len()
    );
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
#[should_panic(expected = "claims a length of 13")]
fn a_crooked_block_is_noticed() {
    parse(&[6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0], "sample", |_| {});
}

/// Time and number of the packets in the whole blocks at the front of a file.
pub(crate) fn whole_packets(path: &Path) -> Vec<(u64, u64)> {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(word.try_into().unwrap()))
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = word(at + 4).map(|length| length as usize)
        && length >= 12
        && word(at + length - 4) == word(at + 4)
    {
        if word(at) == Some(6) {
            let ns = u64::from(word(at + 12).unwrap()) << 32 | u64::from(word(at + 16).unwrap());
            let captured = word(at + 20).unwrap() as usize;
            if let Some(number) = number_of(&bytes[at + 28..at + 28 + captured]) {
                found.push((ns, number));
            }
        }
        at += length;
    }
    found
}
