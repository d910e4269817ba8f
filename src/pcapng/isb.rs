//! Our profile of the Interface Statistics Block: the counters of one moment.
//!
//! The recorder appends one whenever it puts packets on disk, so a segment carries its own
//! accounting, second by second. Standard options hold what the standard has words for; one custom
//! option holds the rest and, by its length, pads the block:
//!
//! | bytes | field |
//! | --- | --- |
//! | 4 | Private Enterprise Number ([`PEN`]) |
//! | 1 | layout version, 1 |
//! | 1 | flags: bit 0 = this ISB ends a sealed segment |
//! | 2 | zero |
//! | 8 | packets dropped for lack of a slot (`dropped_ring`) |
//! | 8 | packets written (`written`) |
//! | 8 | captured bytes written (`written_bytes`) |
//! | n | zero padding |
//!
//! All little-endian. `isb_usrdeliv` = written + dropped_ring. Counters are cumulative since
//! `isb_starttime`, when this recorder process began on the interface.

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

const LAYOUT_VERSION: u8 = 1;
const FLAG_FINAL: u8 = 1;
const CUSTOM_LEN: usize = 32;

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
    /// Whether this is the end of a sealed segment.
    pub last: bool,
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
            out.extend_from_slice(&PEN.to_le_bytes());
            out.extend_from_slice(&[LAYOUT_VERSION, u8::from(self.last) * FLAG_FINAL, 0, 0]);
            for count in [
                counters.dropped_ring,
                counters.written,
                counters.written_bytes,
            ] {
                out.extend_from_slice(&count.to_le_bytes());
            }
            out.resize(out.len() + padding.unwrap_or(0), 0);
            option(out, OPT_END, &[]);
        });
    }
}

/// Reads the value of a custom option; `None` when it is not ours or of another layout.
pub fn decode_custom(value: &[u8]) -> Option<Custom> {
    let (head, rest) = value.split_first_chunk::<8>()?;
    let [p0, p1, p2, p3, version, flags, _, _] = *head;
    if u32::from_le_bytes([p0, p1, p2, p3]) != PEN || version != LAYOUT_VERSION {
        return None;
    }
    let (dropped_ring, rest) = rest.split_first_chunk::<8>()?;
    let (written, rest) = rest.split_first_chunk::<8>()?;
    let (written_bytes, _) = rest.split_first_chunk::<8>()?;
    Some(Custom {
        dropped_ring: u64::from_le_bytes(*dropped_ring),
        written: u64::from_le_bytes(*written),
        written_bytes: u64::from_le_bytes(*written_bytes),
        last: flags & FLAG_FINAL != 0,
    })
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
                ..Counters::default()
            },
            last,
        }
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
