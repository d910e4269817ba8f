//! Keeps the names of segments true when the clock is set back.
//!
//! A segment is taken to hold packets from the time in its name to the time in its successor's
//! ([`crate::ring::catalog::covering`]). Packets that are earlier than those before them break that:
//! a segment that opened at 100 s, went on to 200 s and was followed by one of 150 s would not be
//! found for 180 s. So the segment in which a step back was seen ends, and its successor carries a
//! time before its own: whoever reads the names takes such a segment to span everything.

use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// Packets of several processors may be out of order by so much; pins look this far beyond their
/// window for segments.
pub const DISORDER: Duration = Duration::from_millis(100);
/// Segments that may end early in a row. A clock is set now and then; a source whose times make no
/// sense at all must not cost a file a packet.
const ENDS_MAX: u32 = 64;
/// How long until one more may.
const REFILL: Duration = Duration::from_secs(1);

/// The times of one interface's packets and segments, as far as names depend on them.
#[derive(Debug, Clone)]
pub struct Order {
    /// The time in the name of the newest segment.
    opened: Option<Timestamp>,
    /// The latest packet of the newest segment.
    latest: Timestamp,
    /// Whether a step back lies in the newest segment.
    stepped: bool,
    ends: u32,
    refilled: Option<Instant>,
}

impl Order {
    /// Goes on behind the newest segment of the ring, whose last packet is not later than `latest`.
    pub fn after(newest: Option<Timestamp>, latest: Timestamp) -> Self {
        Self {
            opened: newest,
            latest,
            stepped: false,
            ends: ENDS_MAX,
            refilled: None,
        }
    }

    /// Whether a packet of this time tells that the clock was set back.
    #[inline]
    pub fn is_step_back(&self, at: Timestamp) -> bool {
        at.plus(DISORDER) < self.latest
    }

    /// Takes note of a step back; whether the segment should end before this packet.
    pub fn step_back(&mut self, now: Instant) -> bool {
        self.stepped = true;
        let refilled = *self.refilled.get_or_insert(now);
        if self.ends == 0 && now.saturating_duration_since(refilled) >= REFILL {
            self.ends = 1;
        }
        if self.ends == 0 {
            return false;
        }
        self.ends -= 1;
        self.refilled = Some(now);
        true
    }

    /// A packet went into the newest segment.
    #[inline]
    pub fn packet(&mut self, at: Timestamp) {
        self.latest = self.latest.max(at);
    }

    /// A segment opens at `first`: the time for its name.
    pub fn open(&mut self, first: Timestamp) -> Timestamp {
        let name = match self.opened {
            Some(opened) if self.stepped || self.is_step_back(first) => {
                first.min(opened.minus(Duration::from_nanos(1)))
            }
            _ => first,
        };
        self.opened = Some(name);
        self.latest = first;
        self.stepped = false;
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::catalog::covering;
    use crate::time::Window;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ns(ms * 1_000_000)
    }

    /// Segments as a writer makes them: each a name and the packets in it.
    fn write(packets: &[u64], per_segment: usize, restarts: &[usize]) -> Vec<(u64, Vec<u64>)> {
        let mut segments: Vec<(u64, Vec<u64>)> = Vec::new();
        let mut order = Order::after(None, Timestamp::MIN);
        let mut open = false;
        for (index, &ms) in packets.iter().enumerate() {
            if restarts.contains(&index) {
                let newest = segments.last();
                let latest = newest.and_then(|(_, packets)| packets.iter().max());
                let opened = newest.map(|(name, _)| Timestamp::from_ns(*name));
                order = Order::after(opened, at(latest.copied().unwrap_or(0)));
                open = false;
            }
            if order.is_step_back(at(ms)) && order.step_back(Instant::now()) {
                open = false;
            }
            if segments
                .last()
                .is_some_and(|(_, in_it)| in_it.len() == per_segment)
            {
                open = false;
            }
            if !open {
                segments.push((order.open(at(ms)).as_ns(), Vec::new()));
                open = true;
            }
            order.packet(at(ms));
            segments.last_mut().unwrap().1.push(ms);
        }
        segments
    }

    fn misses(segments: &[(u64, Vec<u64>)]) -> Vec<u64> {
        let names: Vec<Timestamp> = segments.iter().map(|s| Timestamp::from_ns(s.0)).collect();
        let mut missed = Vec::new();
        for (number, (_, packets)) in segments.iter().enumerate() {
            for &ms in packets {
                let window = Window::new(at(ms).minus(DISORDER), at(ms + 1).plus(DISORDER));
                if !covering(&names, &window)[number] {
                    missed.push(ms);
                }
            }
        }
        missed
    }

    #[test]
    fn packets_of_before_a_small_step_back_are_found_as_well() {
        let packets = [1000, 2000, 1500, 1600, 3000];
        let segments = write(&packets, 100, &[]);
        assert_eq!(segments.len(), 2, "the segment ends at the step");
        assert_eq!(misses(&segments), [0; 0]);
        let as_first_packets_say: Vec<(u64, Vec<u64>)> = segments
            .iter()
            .map(|(_, packets)| (packets[0] * 1_000_000, packets.clone()))
            .collect();
        assert_eq!(
            misses(&as_first_packets_say),
            [2000],
            "what the name is for"
        );
    }

    #[test]
    fn a_clock_set_back_while_no_recorder_ran_is_noticed() {
        let segments = write(&[1000, 5000, 2000, 2100], 100, &[2]);
        assert_eq!(misses(&segments), [0; 0]);
    }

    #[test]
    fn little_disorder_is_no_step() {
        assert_eq!(write(&[1000, 1100, 1001, 1101], 100, &[]).len(), 1);
    }

    #[test]
    fn times_without_any_order_do_not_cost_a_file_a_packet() {
        let packets: Vec<u64> = (0..10_000).map(|n| 1_000_000 + n % 2 * 500_000).collect();
        let segments = write(&packets, 1000, &[]);
        assert!(segments.len() < 200, "{} segments", segments.len());
    }

    proptest! {
        /// Whatever the clock does, the names find every packet.
        #[test]
        fn every_packet_is_found_whatever_the_clock_does(
            moves in proptest::collection::vec((0_u64..50, 0_u32..20, 0_u64..4_000_000), 1..200),
            per_segment in 1_usize..40,
            restarts in proptest::collection::vec(0_usize..200, 0..4),
        ) {
            let mut now = 1_000_000_000_000_u64;
            let mut packets = Vec::new();
            for (go, step, far) in moves {
                match step {
                    0 => now = now.saturating_sub(far),
                    1 => now += far,
                    2 => now = now.saturating_sub(far % 2000),
                    _ => now += go,
                }
                packets.push(now);
            }
            prop_assert_eq!(misses(&write(&packets, per_segment, &restarts)), [0; 0]);
        }
    }
}
