//! Ethernet frames of many flows, each with its number in the payload.

use std::fmt;
use std::str::FromStr;

/// Flows that the packets go round.
pub(crate) const FLOWS: u16 = 10_000;
/// Bytes of Ethernet, IPv4 and UDP headers.
pub(crate) const HEADERS: usize = 14 + 20 + 8;
/// Begins the payload; the number follows, little-endian.
const MAGIC: [u8; 8] = *b"WWPEERS1";
/// Seven small, four middle, one large, spread evenly.
const IMIX: [u16; 12] = [64, 576, 64, 64, 576, 64, 1514, 64, 576, 64, 64, 576];

/// The sizes of the packets of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mix {
    /// All of one size in bytes, without the frame check sequence.
    Fixed(u16),
    /// 7:4:1 of 64, 576 and 1514 bytes.
    Imix,
}

impl Mix {
    /// The sizes in the order in which they are sent, again and again.
    pub(crate) fn pattern(self) -> Vec<u16> {
        match self {
            Self::Fixed(bytes) => vec![bytes],
            Self::Imix => IMIX.to_vec(),
        }
    }

    /// Bytes of an average frame.
    pub(crate) fn mean_bytes(self) -> u64 {
        let pattern = self.pattern();
        let sum: u64 = pattern.iter().map(|&bytes| u64::from(bytes)).sum();
        sum / u64::try_from(pattern.len()).unwrap_or(1)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(out, "{bytes}"),
            Self::Imix => out.write_str("IMIX"),
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("imix") {
            return Ok(Self::Imix);
        }
        match text.parse() {
            Ok(bytes @ 60..=1514) => Ok(Self::Fixed(bytes)),
            _ => Err(format!("{text:?} is neither imix nor 60 to 1514 bytes")),
        }
    }
}

/// Where the UDP header begins.
pub(crate) const UDP_AT: usize = 34;

/// Writes the headers of one datagram that the kernel will cut into many packets, with the UDP
/// checksum left open (the pseudo header's sum, as a card expects it). `bytes` is all of it.
pub(crate) fn write_train_headers(buffer: &mut [u8], bytes: u16, flow: u16) -> Option<()> {
    let mut all = headers(bytes, flow);
    let addresses = all.get(26..UDP_AT)?;
    let words = addresses.chunks_exact(2).map(word);
    let length = u32::from(bytes.saturating_sub(34));
    let sum = fold(words.sum::<u32>() + 17 + length);
    all.get_mut(40..)?.copy_from_slice(&sum.to_be_bytes());
    buffer.get_mut(..HEADERS)?.copy_from_slice(&all);
    Some(())
}

/// Writes the front of a numbered payload.
pub(crate) fn write_number(payload: &mut [u8], number: u64) -> Option<()> {
    payload.get_mut(..8)?.copy_from_slice(&MAGIC);
    let place = payload.get_mut(8..16)?;
    place.copy_from_slice(&number.to_le_bytes());
    Some(())
}

/// Writes numbered frames; the headers of all flows are made beforehand.
pub(crate) struct Frames {
    pattern: Vec<(usize, Vec<[u8; HEADERS]>)>,
}

impl Frames {
    /// Frames of these sizes.
    pub(crate) fn new(mix: Mix) -> Self {
        let flows = |bytes| (0..FLOWS).map(|flow| headers(bytes, flow)).collect();
        let pattern = mix.pattern().into_iter();
        Self {
            pattern: pattern
                .map(|bytes| (usize::from(bytes), flows(bytes)))
                .collect(),
        }
    }

    /// Writes frame `number` to the front of `buffer` and returns its length; `None` when it does
    /// not fit. Whatever else is in the buffer stays and becomes payload.
    pub(crate) fn write(&self, number: u64, buffer: &mut [u8]) -> Option<usize> {
        let places = u64::try_from(self.pattern.len()).ok()?;
        let place = usize::try_from(number % places).ok()?;
        let (length, flows) = self.pattern.get(place)?;
        let flow = usize::try_from(number % u64::from(FLOWS)).ok()?;
        let frame = buffer.get_mut(..*length)?;
        let (head, payload) = frame.split_at_mut_checked(HEADERS)?;
        head.copy_from_slice(flows.get(flow)?);
        write_number(payload, number)?;
        Some(*length)
    }
}

/// Bytes from the start of a frame within which [`number`] finds what it looks for.
pub(crate) const NUMBERED: usize = HEADERS + 16;

/// The number in a frame of ours.
pub(crate) fn number(frame: &[u8]) -> Option<u64> {
    let payload = frame.get(HEADERS..)?;
    if payload.get(..8)? != MAGIC {
        return None;
    }
    let number = payload.get(8..16)?.try_into().ok()?;
    Some(u64::from_le_bytes(number))
}

/// Ethernet, IPv4 and UDP headers of a frame of `bytes`; the flows differ in both addresses and the
/// source port. No UDP checksum, which IPv4 allows.
fn headers(bytes: u16, flow: u16) -> [u8; HEADERS] {
    let [high, low] = flow.to_be_bytes();
    let total = bytes.saturating_sub(14).to_be_bytes();
    let udp = bytes.saturating_sub(34).to_be_bytes();
    let port = 10_000_u16.saturating_add(flow).to_be_bytes();
    let mut ip = [
        0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 17, 0, 0, // addresses follow
        10, 1, high, low, 10, 2, low, high,
    ];
    let sum = checksum(&ip).to_be_bytes();
    ip[10] = sum[0];
    ip[11] = sum[1];
    let mut all = [0; HEADERS];
    all[..14].copy_from_slice(&[2, 0, 0, 0, 0x57, 2, 2, 0, 0, 0, 0x57, 1, 8, 0]);
    all[14..34].copy_from_slice(&ip);
    all[34..].copy_from_slice(&[port[0], port[1], 0, 9, udp[0], udp[1], 0, 0]);
    all
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8; 20]) -> u16 {
    !fold(header.chunks_exact(2).map(word).sum())
}

fn word(two: &[u8]) -> u32 {
    two.iter()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}
