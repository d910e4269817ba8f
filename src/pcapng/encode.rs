//! Writes pcapng blocks.
//!
//! Header blocks go into a `Vec`; packets go straight into a caller's slice, because the capture
//! thread encodes into mapped memory and must not allocate.

use crate::pcapng::{BLOCK_EPB, BLOCK_IDB, BLOCK_SHB, OPT_COMMENT, OPT_END};
use crate::time::Timestamp;

/// Bytes of an Enhanced Packet Block around its packet data.
pub const EPB_OVERHEAD: usize = 32;
/// Of these, before the packet data.
const EPB_HEAD: usize = 28;

const SHB_HARDWARE: u16 = 2;
const SHB_OS: u16 = 3;
const SHB_USERAPPL: u16 = 4;
const IDB_NAME: u16 = 2;
const IDB_DESCRIPTION: u16 = 3;
const IDB_TSRESOL: u16 = 9;
const IDB_FILTER: u16 = 11;
const IDB_OS: u16 = 12;

/// The largest value of an option: its length field is 16 bit, and values are padded to 4.
const OPTION_VALUE_MAX: usize = 65_532;

/// What a section says about its maker.
#[derive(Debug, Clone, Default)]
pub struct Section<'a> {
    /// The machine (`shb_hardware`).
    pub hardware: &'a str,
    /// The operating system (`shb_os`).
    pub os: &'a str,
    /// The program (`shb_userappl`).
    pub application: &'a str,
    /// Comments, one option each.
    pub comments: &'a [String],
}

/// What is said about an interface.
#[derive(Debug, Clone, Default)]
pub struct Interface<'a> {
    /// LINKTYPE_ value.
    pub linktype: u16,
    /// Snapshot length in bytes.
    pub snaplen: u32,
    /// Its name (`if_name`).
    pub name: &'a str,
    /// A description (`if_description`), left out when empty.
    pub description: &'a str,
    /// The capture filter (`if_filter`), left out when empty.
    pub filter: &'a str,
    /// The operating system (`if_os`), left out when empty.
    pub os: &'a str,
}

/// Appends a Section Header Block of unspecified section length.
pub fn section_header(out: &mut Vec<u8>, section: &Section<'_>) {
    block(out, BLOCK_SHB, |out| {
        out.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
        out.extend_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        for comment in section.comments {
            text_option(out, OPT_COMMENT, comment);
        }
        text_option(out, SHB_HARDWARE, section.hardware);
        text_option(out, SHB_OS, section.os);
        text_option(out, SHB_USERAPPL, section.application);
        option(out, OPT_END, &[]);
    });
}

/// Appends an Interface Description Block with nanosecond timestamps.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, BLOCK_IDB, |out| {
        out.extend_from_slice(&interface.linktype.to_le_bytes());
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&interface.snaplen.to_le_bytes());
        text_option(out, IDB_NAME, interface.name);
        text_option(out, IDB_DESCRIPTION, interface.description);
        option(out, IDB_TSRESOL, &[9]);
        if !interface.filter.is_empty() {
            // A leading zero byte says: pcap-filter(7) text.
            let mut value = vec![0];
            value.extend_from_slice(clip(interface.filter.as_bytes(), OPTION_VALUE_MAX - 4));
            option(out, IDB_FILTER, &value);
        }
        text_option(out, IDB_OS, interface.os);
        option(out, OPT_END, &[]);
    });
}

/// Bytes that an Enhanced Packet Block of `caplen` captured bytes takes.
pub const fn epb_len(caplen: usize) -> usize {
    EPB_OVERHEAD + caplen.next_multiple_of(4)
}

/// Writes an Enhanced Packet Block without options to the front of `dst` and returns its length,
/// or `None`, with `dst` untouched, when it does not fit.
///
/// `original_len` is the packet's length on the wire in bytes.
#[inline]
pub fn epb(
    dst: &mut [u8],
    interface_id: u32,
    at: Timestamp,
    original_len: u32,
    data: &[u8],
) -> Option<usize> {
    let len = epb_len(data.len());
    let dst = dst.get_mut(..len)?;
    let (head, rest) = dst.split_first_chunk_mut()?;
    let (body, tail) = rest.split_last_chunk_mut::<4>()?;
    *head = epb_head(len, interface_id, at, original_len, data.len())?;
    // Zero whole words first: a fill of nought to three bytes would be a call for every packet.
    if let Some(last) = body.last_chunk_mut::<4>() {
        *last = [0; 4];
    }
    body.get_mut(..data.len())?.copy_from_slice(data);
    *tail = u32::try_from(len).ok()?.to_le_bytes();
    Some(len)
}

/// What stands before the packet in an Enhanced Packet Block of `len` bytes in all and `caplen` bytes
/// of packet. Behind it: zeros to a multiple of four, and `len` once more.
#[inline]
pub fn epb_head(
    len: usize,
    interface_id: u32,
    at: Timestamp,
    original_len: u32,
    caplen: usize,
) -> Option<[u8; EPB_HEAD]> {
    let (high, low) = split_timestamp(at);
    let words: [[u8; 4]; EPB_HEAD / 4] = [
        BLOCK_EPB.to_le_bytes(),
        u32::try_from(len).ok()?.to_le_bytes(),
        interface_id.to_le_bytes(),
        high.to_le_bytes(),
        low.to_le_bytes(),
        u32::try_from(caplen).ok()?.to_le_bytes(),
        original_len.to_le_bytes(),
    ];
    words.as_flattened().first_chunk().copied()
}

/// The high and low words of a block timestamp.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "takes words apart"
)]
pub(crate) const fn split_timestamp(at: Timestamp) -> (u32, u32) {
    ((at.as_ns() >> 32) as u32, at.as_ns() as u32)
}

/// Appends a block: type, length, what `body` writes (padded to 4), length.
pub(crate) fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    pad(out, start);
    let len = u32::try_from(out.len() - start + 4)
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&len);
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&len);
    }
}

/// Appends an option, its value cut to what the format allows.
pub(crate) fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = clip(value, OPTION_VALUE_MAX);
    let start = out.len();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, start);
}

fn text_option(out: &mut Vec<u8>, code: u16, text: &str) {
    if !text.is_empty() {
        let end = text.floor_char_boundary(OPTION_VALUE_MAX);
        option(out, code, clip(text.as_bytes(), end));
    }
}

fn clip(bytes: &[u8], limit: usize) -> &[u8] {
    bytes.get(..limit).unwrap_or(bytes)
}

fn pad(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start;
    out.resize(start + len.next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epb_that_does_not_fit_touches_nothing() {
        let mut dst = [7_u8; 40];
        assert_eq!(epb(&mut dst, 0, Timestamp::MIN, 9, &[1; 9]), None);
        assert!(dst.iter().all(|&b| b == 7));
    }

    #[test]
    fn golden_epb() {
        let mut dst = [0xFF_u8; 40];
        let at = Timestamp::from_ns((2 << 32) + 1);
        assert_eq!(epb(&mut dst, 3, at, 1500, b"abcde"), Some(40));
        #[rustfmt::skip]
        let expected = [
            6, 0, 0, 0, 40, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0xDC, 5, 0, 0,
            b'a', b'b', b'c', b'd', b'e', 0, 0, 0, 40, 0, 0, 0,
        ];
        assert_eq!(dst, expected);
    }

    #[test]
    fn blocks_are_whole_words() {
        let mut out = Vec::new();
        section_header(
            &mut out,
            &Section {
                os: "Linux",
                comments: &["日本".into()],
                ..Default::default()
            },
        );
        interface(
            &mut out,
            &Interface {
                name: "eth0",
                filter: "tcp",
                ..Default::default()
            },
        );
        assert_eq!(out.len() % 4, 0);
    }
}
