//! When probes are sent: at absolute times, so that lateness of one never moves the next.

use std::time::{Duration, Instant};

/// The golden ratio's fraction: multiples of it spread evenly over an interval, however many.
const SPREAD: f64 = 0.618_033_988_749_895;

/// The schedule of one probe: the k-th is due at `start + k * interval`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cadence {
    start: Instant,
    interval: Duration,
    k: u64,
}

impl Cadence {
    /// The schedule of the probe of this number; probes of one interval are spread over it.
    pub(super) fn new(start: Instant, interval: Duration, number: u32) -> Self {
        let phase = (f64::from(number) * SPREAD).fract();
        Self {
            start: start + interval.mul_f64(phase),
            interval,
            k: 0,
        }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Instant {
        self.at(self.k)
    }

    /// Goes on to the next that is not over already; how many were passed over because nobody
    /// could send them (a stopped process, an overloaded machine): they were not lost, they were
    /// never sent.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let interval = self.interval.as_nanos().max(1);
        let passed = now.saturating_duration_since(self.start).as_nanos() / interval;
        let passed = u64::try_from(passed).unwrap_or(u64::MAX - 1);
        let next = self.k + 1;
        // One that is late by less than an interval is sent late.
        let missed = passed.saturating_sub(next);
        self.k = next + missed;
        missed
    }

    fn at(&self, k: u64) -> Instant {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(interval.saturating_mul(k))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the lateness of each send, below an interval nothing is missed and the k-th
        /// is due at its time to the nanosecond.
        #[test]
        fn lateness_does_not_add_up(
            late in proptest::collection::vec(0..999_999_999_u64, 1..500),
            number: u32,
        ) {
            let start = Instant::now();
            let interval = Duration::from_secs(1);
            let mut cadence = Cadence::new(start, interval, number);
            let first = cadence.due();
            prop_assert!(first >= start && first < start + interval);
            for (k, late) in (0..).zip(late) {
                prop_assert_eq!(cadence.due(), first + interval * k);
                let now = cadence.due() + Duration::from_nanos(late);
                prop_assert_eq!(cadence.advance(now), 0);
            }
        }

        #[test]
        fn what_could_not_be_sent_is_counted(pause in 1..100_000_u64) {
            let start = Instant::now();
            let interval = Duration::from_millis(200);
            let mut cadence = Cadence::new(start, interval, 0);
            let woken = start + Duration::from_millis(pause);
            let missed = cadence.advance(woken);
            let due = cadence.due();
            prop_assert!(due + interval > woken, "nothing is sent that is over");
            prop_assert_eq!(due, start + Duration::from_millis(200 * (missed + 1)));
        }
    }

    #[test]
    fn a_thousand_probes_are_spread_over_their_interval() {
        let start = Instant::now();
        let interval = Duration::from_secs(1);
        let mut tenths = [0; 10];
        for number in 0..1000 {
            let phase = Cadence::new(start, interval, number).due() - start;
            tenths[usize::try_from(phase.as_millis() / 100).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|&count| (98..=102).contains(&count)),
            "{tenths:?}"
        );
    }
}
