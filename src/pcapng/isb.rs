//! Our profile of the Interface Statistics Block: the counters of one moment.
//!
//! The recorder appends one whenever it puts packets on disk, so a segment carries its own
//! accounting, second by second. Standard options hold what the standard has words for; one custom
//! option holds the rest and, by its length, pads the block:
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | Private Enterprise Number ([`PEN`]) |
//! | 1 | layout version, 2 |
//! | 1 | flags: bit 0 = this ISB ends a sealed segment, 1 = the clock is synchronised, 2 = the clock's fields are filled in, 3 = recovery ended the segment and the kernel's drops after the ISB before are not known |
//! | 2 | by how many ms after the ISB's time the kernel's counters were read, at most 65,535; 0: not known |
//! | 8 | packets dropped for lack of a slot (`dropped_ring`) |
//! | 8 | packets written (`written`) |
//! | 8 | captured bytes written (`written_bytes`) |
//! | 8 | packets cut by the snapshot length (`truncated`) |
//! | 8 | packets the capture filter refused, an estimate (`filtered`) |
//! | 8 | the longest time without a packet since the sample before, ns |
//! | 8 | bound of the clock's error, ns; all ones: not known |
//! | 8 | CLOCK_REALTIME less CLOCK_BOOTTIME, ns, signed |
//! | n | zero padding |
//!
//! Layout 1 ends before `truncated`; it is read as well. All little-endian. `isb_usrdeliv` = written + dropped_ring. Counters are cumulative since
//! `isb_starttime`, when this recorder process began on the interface.

use std::time::Duration;

use crate::clock::Clock;
use crate::counters::Counters;
use crate::pcapng::encode::{block, option, split_timestamp};
use crate::pcapng::{BLOCK_ISB, OPT_CUSTOM_BINARY, OPT_END, PEN};
use crate::time::Timestamp;

/// `isb_starttime`
pub const ISB_STARTTIME: u16 = 2;
/// `isb_endtime`
pub const ISB_ENDTIME: u16 = 3;
/// `isb_ifdrop`
pub const ISB_IFDROP: u16 = 5;
/// `isb_filteraccept`
pub const ISB_FILTERACCEPT: u16 = 6;
/// `isb_osdrop`
pub const ISB_OSDROP: u16 = 7;
/// `isb_usrdeliv`
pub const ISB_USRDELIV: u16 = 8;

const LAYOUT_VERSION: u8 = 2;
/// Without `truncated` and what follows it.
const LAYOUT_BEFORE: u8 = 1;
const FLAG_FINAL: u8 = 1;
const FLAG_SYNCHRONISED: u8 = 2;
const FLAG_CLOCK: u8 = 4;
const FLAG_ASSUMED: u8 = 8;
const UNKNOWN: u64 = u64::MAX;
const CUSTOM_LEN: usize = 72;

/// Length in bytes of [`Sample::encode`] without padding.
pub const SAMPLE_LEN: usize = 24 + 6 * 12 + 4 + CUSTOM_LEN + 4;

/// The counters of an interface at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The moment; everything received before it lies before it in the file.
    pub at: Timestamp,
    /// When this recorder process began on the interface.
    pub start: Timestamp,
    /// Packets by fate since `start`.
    pub counters: Counters,
    /// What the moment says beyond counters.
    pub detail: Detail,
    /// Whether this is the end of a sealed segment.
    pub last: bool,
}

/// What a sample says beyond counters. Samples of layout 1 say none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detail {
    /// The longest time without a packet since the sample before.
    pub longest_gap_ns: u64,
    /// The clock that stamps the packets.
    pub clock: Option<ClockMark>,
    /// By how many milliseconds after the sample's time the kernel's counters were read: while
    /// packets wait in its buffer, they tell of drops that are still to come. 0: not known.
    pub ahead_ms: u16,
    /// Whether a recovery wrote it, and what the kernel dropped since the sample before is not known.
    pub assumed: bool,
}

impl Sample {
    /// When the kernel's counters were read: drops before it are counted, later ones are not.
    pub fn counted(&self) -> Timestamp {
        self.at
            .plus(Duration::from_millis(self.detail.ahead_ms.into()))
    }
}

/// The clock in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMark {
    /// Whether the kernel called it synchronised.
    pub synchronised: bool,
    /// The bound of its error, where the kernel says it.
    pub max_error_ns: Option<u64>,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME.
    pub boottime_offset_ns: i64,
}

impl From<&Clock> for ClockMark {
    fn from(clock: &Clock) -> Self {
        Self {
            synchronised: clock.kernel.is_some_and(|kernel| kernel.synchronised),
            max_error_ns: clock.kernel.map(|kernel| kernel.max_error_ns),
            boottime_offset_ns: clock.boottime_offset_ns,
        }
    }
}

/// What our custom option adds to the standard ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custom {
    /// Packets dropped for lack of a slot.
    pub dropped_ring: u64,
    /// Packets written.
    pub written: u64,
    /// Captured bytes written.
    pub written_bytes: u64,
    /// Packets cut by the snapshot length.
    pub truncated: u64,
    /// Packets the capture filter refused.
    pub filtered: u64,
    /// The rest.
    pub detail: Detail,
    /// Whether the ISB ends a sealed segment.
    pub last: bool,
}

impl Sample {
    /// Appends the block, padded to exactly `total_len` bytes.
    ///
    /// `total_len` is a multiple of 4 of at least [`SAMPLE_LEN`] and at most
    /// `SAMPLE_LEN + 65_000`; other values give an unpadded block.
    pub fn encode(&self, out: &mut Vec<u8>, interface_id: u32, total_len: usize) {
        let padding = total_len
            .checked_sub(SAMPLE_LEN)
            .filter(|n| n % 4 == 0 && *n <= 65_000);
        let (high, low) = split_timestamp(self.at);
        let counters = &self.counters;
        block(out, BLOCK_ISB, |out| {
            for word in [interface_id, high, low] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            time_option(out, ISB_STARTTIME, self.start);
            time_option(out, ISB_ENDTIME, self.at);
            option(out, ISB_IFDROP, &counters.dropped_iface.to_le_bytes());
            option(out, ISB_FILTERACCEPT, &counters.received.to_le_bytes());
            option(out, ISB_OSDROP, &counters.dropped_kernel.to_le_bytes());
            let delivered = counters.written.saturating_add(counters.dropped_ring);
            option(out, ISB_USRDELIV, &delivered.to_le_bytes());
            // Appended piece by piece: this runs on the capture thread, which allocates nothing.
            let len = CUSTOM_LEN + padding.unwrap_or(0);
            out.extend_from_slice(&OPT_CUSTOM_BINARY.to_le_bytes());
            out.extend_from_slice(&u16::try_from(len).unwrap_or(0).to_le_bytes());
            self.custom(out);
            out.resize(out.len() + padding.unwrap_or(0), 0);
            option(out, OPT_END, &[]);
        });
    }

    fn custom(&self, out: &mut Vec<u8>) {
        let (counters, clock) = (&self.counters, self.detail.clock);
        let synchronised = clock.is_some_and(|clock| clock.synchronised);
        let flags = [
            (self.last, FLAG_FINAL),
            (synchronised, FLAG_SYNCHRONISED),
            (clock.is_some(), FLAG_CLOCK),
            (self.detail.assumed, FLAG_ASSUMED),
        ];
        let set = flags.iter().filter(|(set, _)| *set);
        let flags = set.fold(0, |all, (_, flag)| all | flag);
        out.extend_from_slice(&PEN.to_le_bytes());
        out.extend_from_slice(&[LAYOUT_VERSION, flags]);
        out.extend_from_slice(&self.detail.ahead_ms.to_le_bytes());
        let max_error = clock.map(|clock| clock.max_error_ns.unwrap_or(UNKNOWN));
        for count in [
            counters.dropped_ring,
            counters.written,
            counters.written_bytes,
            counters.truncated,
            counters.filtered,
            self.detail.longest_gap_ns,
            max_error.unwrap_or_default(),
        ] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        let offset = clock.map_or(0, |clock| clock.boottime_offset_ns);
        out.extend_from_slice(&offset.to_le_bytes());
    }
}

/// Reads the value of a custom option; `None` when it is not ours or of another layout.
pub fn decode_custom(value: &[u8]) -> Option<Custom> {
    let (head, rest) = value.split_first_chunk::<8>()?;
    let [p0, p1, p2, p3, version, flags, ahead @ ..] = *head;
    let known = [LAYOUT_BEFORE, LAYOUT_VERSION].contains(&version);
    if u32::from_le_bytes([p0, p1, p2, p3]) != PEN || !known {
        return None;
    }
    let mut words = rest.chunks_exact(8).map_while(|word| word.first_chunk());
    let mut next = || words.next().map(|word| u64::from_le_bytes(*word));
    let mut custom = Custom {
        dropped_ring: next()?,
        written: next()?,
        written_bytes: next()?,
        truncated: 0,
        filtered: 0,
        detail: Detail::default(),
        last: flags & FLAG_FINAL != 0,
    };
    if version == LAYOUT_BEFORE {
        return Some(custom);
    }
    custom.detail.ahead_ms = u16::from_le_bytes(ahead);
    custom.detail.assumed = flags & FLAG_ASSUMED != 0;
    custom.truncated = next()?;
    custom.filtered = next()?;
    custom.detail.longest_gap_ns = next()?;
    let (max_error, offset) = (next()?, next()?);
    custom.detail.clock = (flags & FLAG_CLOCK != 0).then_some(ClockMark {
        synchronised: flags & FLAG_SYNCHRONISED != 0,
        max_error_ns: (max_error != UNKNOWN).then_some(max_error),
        boottime_offset_ns: offset.cast_signed(),
    });
    Some(custom)
}

/// Whether `block`, the last block of a segment, is the ISB that seals it.
pub fn seals(block: &[u8]) -> bool {
    const CUSTOM_AT: usize = 20 + 6 * 12;
    block.starts_with(&BLOCK_ISB.to_le_bytes())
        && block
            .get(CUSTOM_AT + 4..)
            .and_then(decode_custom)
            .is_some_and(|custom| custom.last)
}

fn time_option(out: &mut Vec<u8>, code: u16, at: Timestamp) {
    let (high, low) = split_timestamp(at);
    let mut value = [0; 8];
    value[..4].copy_from_slice(&high.to_le_bytes());
    value[4..].copy_from_slice(&low.to_le_bytes());
    option(out, code, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(last: bool) -> Sample {
        Sample {
            at: Timestamp::from_ns(5_000_000_000),
            start: Timestamp::from_ns(1),
            counters: Counters {
                received: 9,
                written: 5,
                written_bytes: 500,
                dropped_ring: 4,
                truncated: 3,
                filtered: 11,
                ..Counters::default()
            },
            detail: Detail {
                longest_gap_ns: 77,
                clock: Some(ClockMark {
                    synchronised: true,
                    max_error_ns: Some(1234),
                    boottime_offset_ns: -5,
                }),
                ahead_ms: 300,
                assumed: true,
            },
            last,
        }
    }

    fn custom_of(block: &[u8]) -> &[u8] {
        let len = usize::from(u16::from_le_bytes([block[94], block[95]]));
        &block[96..96 + len]
    }

    #[test]
    fn the_custom_option_reads_back_with_any_clock() {
        for max_error_ns in [None, Some(0), Some(1234)] {
            for clock in [false, true] {
                let mut given = sample(false);
                let mark = given.detail.clock.as_mut().unwrap();
                mark.max_error_ns = max_error_ns;
                given.detail.clock = given.detail.clock.filter(|_| clock);
                let mut out = Vec::new();
                given.encode(&mut out, 0, 4096);
                let read = decode_custom(custom_of(&out)).unwrap();
                assert_eq!(read.detail, given.detail);
                assert_eq!((read.truncated, read.filtered), (3, 11));
            }
        }
    }

    #[test]
    fn layout_1_is_read_and_its_padding_is_no_value() {
        let mut value = Vec::from(PEN.to_le_bytes());
        value.extend_from_slice(&[1, 1, 0, 0]);
        for word in [4_u64, 5, 500, 9, 9, 9, 9, 9] {
            value.extend_from_slice(&word.to_le_bytes());
        }
        let read = decode_custom(&value).unwrap();
        assert_eq!((read.dropped_ring, read.written), (4, 5));
        assert_eq!((read.written_bytes, read.last), (500, true));
        assert_eq!((read.truncated, read.filtered), (0, 0));
        assert_eq!(read.detail, Detail::default());
        value[4] = 3;
        assert_eq!(decode_custom(&value), None, "a later layout is passed over");
    }

    #[test]
    fn the_block_takes_exactly_the_room_asked_for() {
        for total in [SAMPLE_LEN, SAMPLE_LEN + 4, 4096, SAMPLE_LEN + 4092] {
            let mut out = Vec::new();
            sample(false).encode(&mut out, 0, total);
            assert_eq!(out.len(), total);
        }
    }

    #[test]
    fn only_the_final_sample_seals() {
        for (last, total) in [(true, SAMPLE_LEN), (true, 4096), (false, 4096)] {
            let mut out = Vec::new();
            sample(last).encode(&mut out, 0, total);
            assert_eq!(seals(&out), last);
        }
        assert!(!seals(&[5, 0, 0, 0]));
    }
}
