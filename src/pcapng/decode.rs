//! Decodes pcapng blocks (draft-ietf-opsawg-pcapng) from bytes, in either byte order.
//!
//! [`Decoder`] works on slices and borrows packets from them; [`super::stream::Blocks`] feeds it
//! from a file. Foreign bytes end in a [`DecodeError`] that says where and why, never in a panic,
//! and never make it hold more than one block.

use super::isb::{self, Sample};
use super::{BLOCK_EPB, BLOCK_IDB, BLOCK_ISB, BLOCK_SHB, OPT_COMMENT, OPT_CUSTOM_BINARY, OPT_END};
use crate::counters::Counters;
use crate::time::Timestamp;

/// The longest block that is read; a length beyond it is taken for damage.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;
/// The most interfaces a section may describe.
pub const INTERFACES_MAX: usize = 1024;
/// The longest text option that is kept; the rest is cut.
const TEXT_BYTES_MAX: usize = 16 << 10;

const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// Type, length and the length again at the end.
const FRAME_BYTES: usize = 12;

/// Where and why bytes are not pcapng.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {reason}")]
pub struct DecodeError {
    /// The offset of the offending block in the file.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The first block is no section header.
    #[error("not a pcapng file (it does not begin with a section header)")]
    NotPcapng,
    /// The byte-order magic is neither order's.
    #[error("byte-order magic {0:#010x} is of neither byte order")]
    ByteOrder(u32),
    /// Another major version.
    #[error("pcapng version {0}.{1} is not known")]
    Version(u16, u16),
    /// The length is no multiple of four, too small or too large.
    #[error("block length {0} is impossible")]
    Length(u32),
    /// The length at the end is not the one at the beginning.
    #[error("block length {0} is repeated as {1}")]
    Trailer(u32, u32),
    /// The block ends before what it says it holds.
    #[error("block of type {0:#x} ends inside its {1}")]
    Short(u32, &'static str),
    /// The block names an interface that was not described.
    #[error("interface {0} is not described")]
    Interface(u32),
    /// More interfaces than are accepted.
    #[error("more than {INTERFACES_MAX} interfaces")]
    Interfaces,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block<'a> {
    /// A section begins; what was known of interfaces is forgotten.
    Section(Section),
    /// An interface was described; ask [`Decoder::interface`] for it.
    Interface(u32),
    /// A packet.
    Packet(Packet<'a>),
    /// Counters of an interface.
    Statistics(Statistics<'a>),
    /// A block of another type, skipped (also a simple packet block: it has no timestamp).
    Other(u32),
}

/// A section header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Its comments, in order.
    pub comments: Vec<String>,
    /// The application that wrote it.
    pub application: Option<String>,
}

/// An interface description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// LINKTYPE_ value.
    pub linktype: u16,
    /// The snapshot length; 0 means no limit.
    pub snaplen: u32,
    /// Its name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// The capture filter as text.
    pub filter: Option<String>,
    clock: Clock,
}

/// A packet, borrowed from the bytes it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The interface's number within the section.
    pub interface: u32,
    /// When it was captured.
    pub at: Timestamp,
    /// Its length on the wire.
    pub orig_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// Counters of an interface as the block has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics<'a> {
    /// The interface's number within the section.
    pub interface: u32,
    /// When the counters were read.
    pub at: Timestamp,
    /// `isb_starttime`.
    pub start: Option<Timestamp>,
    /// `isb_endtime`.
    pub end: Option<Timestamp>,
    /// `isb_ifrecv`.
    pub if_received: Option<u64>,
    /// `isb_ifdrop`.
    pub if_dropped: Option<u64>,
    /// `isb_filteraccept`.
    pub filter_accepted: Option<u64>,
    /// `isb_osdrop`.
    pub os_dropped: Option<u64>,
    /// `isb_usrdeliv`.
    pub delivered: Option<u64>,
    /// The rest of the options as they lie, for [`Options::value`].
    pub options: Options<'a>,
}

impl Statistics<'_> {
    /// The block as the recorder wrote it, or `None` when it is another program's.
    pub fn sample(&self) -> Option<Sample> {
        let ours = |value: &[u8]| isb::decode_custom(value).is_some();
        let custom = isb::decode_custom(self.options.value(OPT_CUSTOM_BINARY, ours)?)?;
        Some(Sample {
            at: self.at,
            start: self.start?,
            counters: Counters {
                received: self.filter_accepted?,
                written: custom.written,
                written_bytes: custom.written_bytes,
                dropped_kernel: self.os_dropped?,
                dropped_ring: custom.dropped_ring,
                dropped_iface: self.if_dropped?,
                truncated: custom.truncated,
                filtered: custom.filtered,
            },
            detail: custom.detail,
            last: custom.last,
        })
    }
}

/// Reads numbers in the byte order of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    big: bool,
}

impl Order {
    /// A `u16` from the front of `bytes`.
    pub fn u16(self, bytes: &[u8]) -> Option<u16> {
        let raw = *bytes.first_chunk()?;
        Some(if self.big {
            u16::from_be_bytes(raw)
        } else {
            u16::from_le_bytes(raw)
        })
    }

    /// A `u32` from the front of `bytes`.
    pub fn u32(self, bytes: &[u8]) -> Option<u32> {
        let raw = *bytes.first_chunk()?;
        Some(if self.big {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        })
    }

    /// A `u64` from the front of `bytes`.
    pub fn u64(self, bytes: &[u8]) -> Option<u64> {
        let raw = *bytes.first_chunk()?;
        Some(if self.big {
            u64::from_be_bytes(raw)
        } else {
            u64::from_le_bytes(raw)
        })
    }

    /// A timestamp's two halves, high first, as pcapng has them.
    fn halves(self, bytes: &[u8]) -> Option<u64> {
        let (high, low) = (self.u32(bytes)?, self.u32(bytes.get(4..)?)?);
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// A block's options, checked to be well formed. Iterates over code and value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options<'a> {
    bytes: &'a [u8],
    order: Order,
}

impl<'a> Options<'a> {
    fn checked(bytes: &'a [u8], order: Order) -> Option<Self> {
        let mut walk = Self { bytes, order };
        while walk.next().is_some() {}
        walk.ended().then_some(Self { bytes, order })
    }

    /// The byte order of the numbers in them.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The value of the first option of this code that `wanted` accepts.
    pub fn value(&self, code: u16, wanted: impl Fn(&[u8]) -> bool) -> Option<&'a [u8]> {
        self.clone()
            .find_map(|(found, value)| (found == code && wanted(value)).then_some(value))
    }

    /// Nothing follows but an end-of-options mark, or nothing at all.
    fn ended(&self) -> bool {
        self.bytes.is_empty() || self.order.u16(self.bytes) == Some(OPT_END)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended() {
            return None;
        }
        let code = self.order.u16(self.bytes)?;
        let length = usize::from(self.order.u16(self.bytes.get(2..)?)?);
        let value = self.bytes.get(4..4 + length)?;
        self.bytes = self.bytes.get(4 + length.next_multiple_of(4)..)?;
        Some((code, value))
    }
}

/// How an interface's timestamps count (`if_tsresol`, `if_tsoffset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clock {
    /// Nanoseconds = raw * `multiply` / `divide`.
    multiply: u64,
    divide: u128,
    offset_s: i64,
}

impl Default for Clock {
    /// Microseconds, as the format says for a missing `if_tsresol`.
    fn default() -> Self {
        Self {
            multiply: 1000,
            divide: 1,
            offset_s: 0,
        }
    }
}

impl Clock {
    fn resolution(&mut self, tsresol: u8) {
        let exponent = u32::from(tsresol & 0x7f);
        (self.multiply, self.divide) = if tsresol & 0x80 != 0 {
            (1_000_000_000, 1_u128 << exponent)
        } else if exponent <= 9 {
            (10_u64.pow(9 - exponent), 1)
        } else {
            (1, 10_u128.checked_pow(exponent - 9).unwrap_or(u128::MAX))
        };
    }

    fn at(&self, raw: u64) -> Timestamp {
        if self.multiply == 1 && self.divide == 1 && self.offset_s == 0 {
            return Timestamp::from_ns(raw);
        }
        let ns = u128::from(raw) * u128::from(self.multiply) / self.divide;
        let ns = i128::try_from(ns).unwrap_or(i128::MAX);
        let ns = ns.saturating_add(i128::from(self.offset_s) * 1_000_000_000);
        Timestamp::from_ns(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
    }
}

/// Decodes one block after the other; knows the section's byte order and interfaces.
#[derive(Debug, Default)]
pub struct Decoder {
    /// `None` before the first section header.
    order: Option<Order>,
    interfaces: Vec<Interface>,
    offset: u64,
}

impl Decoder {
    /// A decoder at the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// The offset of the next block.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The description of interface `number` of the current section.
    pub fn interface(&self, number: u32) -> Option<&Interface> {
        self.interfaces.get(usize::try_from(number).ok()?)
    }

    /// All interfaces of the current section so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The whole length of the block that `bytes` begins with, or `None` when more bytes are
    /// needed to tell.
    pub fn length(&self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        Ok(self.frame(bytes)?.map(|(_, _, length)| length))
    }

    /// Type, byte order and length of the block that `bytes` begins with.
    fn frame(&self, bytes: &[u8]) -> Result<Option<(u32, Order, usize)>, DecodeError> {
        let little = Order::default();
        let (Some(raw_kind), Some(raw_length)) = (
            little.u32(bytes),
            bytes.get(4..).and_then(|b| little.u32(b)),
        ) else {
            // Enough to tell a foreign file that is shorter than one header.
            return match (self.order, bytes.first()) {
                (None, Some(first)) if *first != 0x0A => Err(self.error(Reason::NotPcapng)),
                _ => Ok(None),
            };
        };
        // The section header's type reads the same in both orders.
        let order = if raw_kind == BLOCK_SHB {
            let Some(magic) = bytes.get(8..).and_then(|b| little.u32(b)) else {
                return Ok(None);
            };
            match magic {
                BYTE_ORDER_MAGIC => Order { big: false },
                _ if magic.swap_bytes() == BYTE_ORDER_MAGIC => Order { big: true },
                _ => return Err(self.error(Reason::ByteOrder(magic))),
            }
        } else {
            self.order.ok_or_else(|| self.error(Reason::NotPcapng))?
        };
        let number = |raw: u32| if order.big { raw.swap_bytes() } else { raw };
        let length = number(raw_length);
        match usize::try_from(length) {
            Ok(bytes) if (FRAME_BYTES..=BLOCK_BYTES_MAX).contains(&bytes) && bytes % 4 == 0 => {
                Ok(Some((number(raw_kind), order, bytes)))
            }
            _ => Err(self.error(Reason::Length(length))),
        }
    }

    /// Decodes the block that `bytes` begins with, or `None` when it is not all there yet.
    pub fn block<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Block<'a>>, DecodeError> {
        let Some((kind, order, length)) = self.frame(bytes)? else {
            return Ok(None);
        };
        let Some(whole) = bytes.get(..length) else {
            return Ok(None);
        };
        let (Some(body), Some(first), Some(last)) = (
            whole.get(8..length - 4),
            whole.get(4..).and_then(|b| order.u32(b)),
            whole.get(length - 4..).and_then(|b| order.u32(b)),
        ) else {
            return Ok(None);
        };
        if first != last {
            return Err(self.error(Reason::Trailer(first, last)));
        }
        let block = match kind {
            BLOCK_EPB => self.packet(body, order)?,
            BLOCK_ISB => self.statistics(body, order)?,
            BLOCK_IDB => self.describe(body, order)?,
            BLOCK_SHB => self.section(body, order)?,
            other => Block::Other(other),
        };
        self.offset += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(Some(block))
    }

    fn error(&self, reason: Reason) -> DecodeError {
        DecodeError {
            offset: self.offset,
            reason,
        }
    }

    fn short(&self, kind: u32, what: &'static str) -> DecodeError {
        self.error(Reason::Short(kind, what))
    }

    fn packet<'a>(&self, body: &'a [u8], order: Order) -> Result<Block<'a>, DecodeError> {
        let header = || {
            let (fixed, rest) = body.split_at_checked(20)?;
            Some((
                order.u32(fixed)?,
                order.halves(fixed.get(4..)?)?,
                order.u32(fixed.get(12..)?)?,
                order.u32(fixed.get(16..)?)?,
                rest,
            ))
        };
        let (interface, raw, captured, orig_len, rest) =
            header().ok_or_else(|| self.short(BLOCK_EPB, "header"))?;
        let clock = self.clock(interface)?;
        let data = usize::try_from(captured)
            .ok()
            .and_then(|captured| rest.get(..captured))
            .ok_or_else(|| self.short(BLOCK_EPB, "packet data"))?;
        Ok(Block::Packet(Packet {
            interface,
            at: clock.at(raw),
            orig_len,
            data,
        }))
    }

    fn statistics<'a>(&self, body: &'a [u8], order: Order) -> Result<Block<'a>, DecodeError> {
        let header = || {
            let (fixed, rest) = body.split_at_checked(12)?;
            Some((order.u32(fixed)?, order.halves(fixed.get(4..)?)?, rest))
        };
        let (interface, raw, rest) = header().ok_or_else(|| self.short(BLOCK_ISB, "header"))?;
        let clock = self.clock(interface)?;
        let options =
            Options::checked(rest, order).ok_or_else(|| self.short(BLOCK_ISB, "options"))?;
        let mut found = Statistics {
            interface,
            at: clock.at(raw),
            options: options.clone(),
            ..Statistics::default()
        };
        for (code, value) in options {
            match code {
                isb::ISB_STARTTIME => found.start = order.halves(value).map(|raw| clock.at(raw)),
                isb::ISB_ENDTIME => found.end = order.halves(value).map(|raw| clock.at(raw)),
                4 => found.if_received = order.u64(value),
                isb::ISB_IFDROP => found.if_dropped = order.u64(value),
                isb::ISB_FILTERACCEPT => found.filter_accepted = order.u64(value),
                isb::ISB_OSDROP => found.os_dropped = order.u64(value),
                isb::ISB_USRDELIV => found.delivered = order.u64(value),
                _ => {}
            }
        }
        Ok(Block::Statistics(found))
    }

    fn clock(&self, interface: u32) -> Result<Clock, DecodeError> {
        self.interface(interface)
            .map(|found| found.clock)
            .ok_or_else(|| self.error(Reason::Interface(interface)))
    }

    fn describe<'a>(&mut self, body: &[u8], order: Order) -> Result<Block<'a>, DecodeError> {
        let header = || {
            let (fixed, rest) = body.split_at_checked(8)?;
            Some((order.u16(fixed)?, order.u32(fixed.get(4..)?)?, rest))
        };
        let (linktype, snaplen, rest) = header().ok_or_else(|| self.short(BLOCK_IDB, "header"))?;
        let options =
            Options::checked(rest, order).ok_or_else(|| self.short(BLOCK_IDB, "options"))?;
        if self.interfaces.len() >= INTERFACES_MAX {
            return Err(self.error(Reason::Interfaces));
        }
        let mut found = Interface {
            linktype,
            snaplen,
            name: None,
            description: None,
            filter: None,
            clock: Clock::default(),
        };
        for (code, value) in options {
            match (code, value) {
                (2, name) => found.name = Some(text(name)),
                (3, words) => found.description = Some(text(words)),
                (9, [tsresol, ..]) => found.clock.resolution(*tsresol),
                // The leading byte says which kind of filter; 0 is pcap-filter(7) text.
                (11, [0, filter @ ..]) => found.filter = Some(text(filter)),
                (14, seconds) => {
                    found.clock.offset_s = order.u64(seconds).map_or(0, u64::cast_signed);
                }
                _ => {}
            }
        }
        self.interfaces.push(found);
        let number = u32::try_from(self.interfaces.len() - 1).unwrap_or(u32::MAX);
        Ok(Block::Interface(number))
    }

    fn section<'a>(&mut self, body: &[u8], order: Order) -> Result<Block<'a>, DecodeError> {
        let header = || {
            let (fixed, rest) = body.split_at_checked(16)?;
            Some((
                order.u16(fixed.get(4..)?)?,
                order.u16(fixed.get(6..)?)?,
                rest,
            ))
        };
        let (major, minor, rest) = header().ok_or_else(|| self.short(BLOCK_SHB, "header"))?;
        if major != 1 {
            return Err(self.error(Reason::Version(major, minor)));
        }
        let options =
            Options::checked(rest, order).ok_or_else(|| self.short(BLOCK_SHB, "options"))?;
        let mut found = Section::default();
        for (code, value) in options {
            match code {
                OPT_COMMENT => found.comments.push(text(value)),
                4 => found.application = Some(text(value)),
                _ => {}
            }
        }
        self.order = Some(order);
        self.interfaces.clear();
        Ok(Block::Section(found))
    }
}

/// An option's text: UTF-8 as far as it is, without trailing NULs, cut to a limit.
fn text(value: &[u8]) -> String {
    let value = value.get(..TEXT_BYTES_MAX).unwrap_or(value);
    String::from_utf8_lossy(value)
        .trim_end_matches('\0')
        .to_owned()
}
