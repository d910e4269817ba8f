//! Packet counters by cause. They travel with the evidence, so every field says what it counts.

use serde::{Deserialize, Serialize};

/// What happened to the packets of one interface since the recorder started (or, as a
/// difference, within a span).
///
/// `received = written + dropped_kernel + dropped_ring` once the kernel's buffer is drained;
/// `dropped_iface` and `filtered` stand beside that sum, `truncated` is part of `written`. Named after pcapng's Interface Statistics Block
/// (draft-ietf-opsawg-pcapng, section 4.6), whose options they are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Packets the kernel accepted for us after the capture filter, drops included
    /// (`isb_filteraccept`).
    pub received: u64,
    /// Packets written into the ring (`isb_usrdeliv` less `dropped_ring`).
    pub written: u64,
    /// Bytes of those packets as captured, without pcapng framing.
    pub written_bytes: u64,
    /// Packets the kernel had no buffer for (`isb_osdrop`).
    pub dropped_kernel: u64,
    /// Packets we had no free slot for: the disk was too slow for too long.
    pub dropped_ring: u64,
    /// Packets the interface itself dropped, as its driver says (`isb_ifdrop`).
    pub dropped_iface: u64,
    /// Written packets of which only the beginning was kept: longer than the snapshot length.
    #[serde(default)]
    pub truncated: u64,
    /// Packets the interface saw and the capture filter refused: its own count less `received`. An
    /// estimate, because the two are not counted at one place; 0 without a filter.
    #[serde(default)]
    pub filtered: u64,
}

impl Counters {
    /// What was added since `earlier`; fields that went backwards (a restart) count from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let delta = |now: u64, then: u64| if now >= then { now - then } else { now };
        Self {
            received: delta(self.received, earlier.received),
            written: delta(self.written, earlier.written),
            written_bytes: delta(self.written_bytes, earlier.written_bytes),
            dropped_kernel: delta(self.dropped_kernel, earlier.dropped_kernel),
            dropped_ring: delta(self.dropped_ring, earlier.dropped_ring),
            dropped_iface: delta(self.dropped_iface, earlier.dropped_iface),
            truncated: delta(self.truncated, earlier.truncated),
            filtered: delta(self.filtered, earlier.filtered),
        }
    }

    /// The field-wise sum; what a damaged file claims may be anything.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            received: self.received.saturating_add(other.received),
            written: self.written.saturating_add(other.written),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            dropped_kernel: self.dropped_kernel.saturating_add(other.dropped_kernel),
            dropped_ring: self.dropped_ring.saturating_add(other.dropped_ring),
            dropped_iface: self.dropped_iface.saturating_add(other.dropped_iface),
            truncated: self.truncated.saturating_add(other.truncated),
            filtered: self.filtered.saturating_add(other.filtered),
        }
    }

    /// Packets lost for any reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_kernel
            .saturating_add(self.dropped_ring)
            .saturating_add(self.dropped_iface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_counts_from_zero() {
        let before = Counters {
            received: 100,
            ..Counters::default()
        };
        let after = Counters {
            received: 7,
            ..Counters::default()
        };
        assert_eq!(after.since(&before).received, 7);
    }
}
