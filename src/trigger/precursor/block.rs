//! Probes put together: single round trips say little, the median of ten says much.

use std::time::Duration;

use crate::time::Timestamp;

/// How long a block lasts, where the interval allows.
const SPAN: Duration = Duration::from_secs(10);
/// The fewest and the most probes of a block.
const PROBES: (u32, u32) = (5, 100);
/// Fewer replies say nothing about a block's round trips.
const REPLIES_MIN: usize = 3;

/// Gathers probes of one block.
#[derive(Debug, Clone)]
pub struct Gatherer {
    probes_each: u32,
    probes: u32,
    first: Timestamp,
    rtts_ms: Vec<f64>,
}

/// What a block of probes shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// When its first probe was sent.
    pub from: Timestamp,
    /// When its last probe was sent.
    pub to: Timestamp,
    /// The share of its probes that were lost, 0 to 1.
    pub lost: f64,
    /// Median round trip and its spread (from the tenth to the ninetieth percentile) in
    /// milliseconds; `None` when too few replies came.
    pub rtt_ms: Option<(f64, f64)>,
}

impl Gatherer {
    /// For a probe sent every `interval`.
    pub fn new(interval: Duration) -> Self {
        let fitting = SPAN.as_millis() / interval.as_millis().max(1);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        Self {
            probes_each: fitting.clamp(PROBES.0, PROBES.1),
            probes: 0,
            first: Timestamp::MIN,
            rtts_ms: Vec::new(),
        }
    }

    /// Probes of a block.
    pub const fn probes_each(&self) -> u32 {
        self.probes_each
    }

    /// Takes in a probe; the block when it was its last.
    pub fn add(&mut self, sent: Timestamp, rtt: Option<Duration>) -> Option<Block> {
        if self.probes == 0 {
            self.first = sent;
            self.rtts_ms.clear();
        }
        self.probes += 1;
        if let Some(rtt) = rtt {
            self.rtts_ms.push(rtt.as_secs_f64() * 1000.0);
        }
        if self.probes < self.probes_each {
            return None;
        }
        let replies = self.rtts_ms.len();
        let lost = 1.0 - replies as f64 / f64::from(self.probes);
        self.probes = 0;
        self.rtts_ms.sort_unstable_by(f64::total_cmp);
        let at = |numerator: usize, denominator: usize| {
            let place = replies.saturating_sub(1) * numerator / denominator;
            self.rtts_ms.get(place).copied().unwrap_or_default()
        };
        let rtt_ms = (replies >= REPLIES_MIN).then(|| (at(1, 2), at(9, 10) - at(1, 10)));
        Some(Block {
            from: self.first,
            to: sent,
            lost,
            rtt_ms,
        })
    }

    /// Forgets a block begun.
    pub fn reset(&mut self) {
        self.probes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_ten_seconds_or_five_probes() {
        for (interval_ms, probes) in [(100, 100), (1000, 10), (5000, 5), (3_600_000, 5)] {
            let gatherer = Gatherer::new(Duration::from_millis(interval_ms));
            assert_eq!(gatherer.probes_each(), probes, "{interval_ms} ms");
        }
    }

    #[test]
    fn median_spread_and_loss() {
        let mut gatherer = Gatherer::new(Duration::from_secs(1));
        let mut blocks = (0..20_u64).filter_map(|second| {
            let rtt = (second % 5 != 0).then(|| Duration::from_millis(second));
            gatherer.add(Timestamp::from_ns(second), rtt)
        });
        let block = blocks.next().unwrap();
        assert_eq!((block.from.as_ns(), block.to.as_ns()), (0, 9));
        assert!((block.lost - 0.2).abs() < 1e-9);
        // 1 2 3 4 6 7 8 9
        assert_eq!(block.rtt_ms, Some((4.0, 7.0)));
        assert_eq!(blocks.next().unwrap().from.as_ns(), 10);
    }

    #[test]
    fn an_outage_has_no_round_trips() {
        let mut gatherer = Gatherer::new(Duration::from_secs(10));
        let mut last = None;
        for second in 0..5 {
            last = gatherer.add(Timestamp::from_ns(second), None);
        }
        let block = last.unwrap();
        assert_eq!((block.lost, block.rtt_ms), (1.0, None));
    }
}
