//! What is known of a target: the fate of each probe of the last hour, and figures over sliding
//! windows of it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::time::Timestamp;

/// Probes remembered of a target: an hour at one a second. At a shorter interval the longest
/// window covers less, and says so.
pub(super) const SAMPLES_MAX: usize = 3600;
/// The windows, and what they are called.
pub(super) const WINDOWS: [(&str, Duration); 3] = [
    ("1m", Duration::from_mins(1)),
    ("10m", Duration::from_mins(10)),
    ("1h", Duration::from_hours(1)),
];
/// RFC 3550 A.8: the share of a new difference in the smoothed jitter.
const JITTER_GAIN: f64 = 1.0 / 16.0;

/// What became of one probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    /// Nobody knows yet.
    Underway,
    /// Its reply came in time, after so many seconds.
    Replied(f32),
    /// No reply in time, or a refusal instead.
    Lost,
    /// This host did not send it.
    Unsent,
    /// This host was not able to notice a reply.
    Unjudged,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sent: Timestamp,
    fate: Fate,
}

/// The fate of a target's probes, and the running figures. 16 bytes a probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    ring: VecDeque<Entry>,
    /// The number of the first in `ring`.
    first: u64,
    jitter: Option<f64>,
    last_rtt: Option<f64>,
}

/// Figures over a window. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Its name: `1m`, `10m`, `1h`.
    pub window: &'static str,
    /// The first probe in it: later than the window's begin when not so much is remembered.
    pub from: Option<Timestamp>,
    /// Probes that left and whose fate is known.
    pub sent: u32,
    /// Of these, without a reply in time.
    pub lost: u32,
    /// Probes that this host did not send.
    pub unsent: u32,
    /// `lost` of `sent`, 0 to 1; absent when nothing was sent.
    pub loss: Option<f64>,
    /// Losses in a row: how often.
    pub bursts: u32,
    /// The longest of them.
    pub longest_burst: u32,
    /// Round trips.
    pub rtt: Option<Quantiles>,
    /// The 95th percentile of the difference of the round trips of two probes in a row
    /// (RFC 3393).
    pub ipdv_p95: Option<f64>,
}

/// Quantiles of round trips in seconds, each a value that was measured (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// The least.
    pub min: f64,
    /// 10 % are at most this.
    pub p10: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

/// A piece of the history, for drawing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Its begin.
    pub from: Timestamp,
    /// Probes that left and whose fate is known.
    pub sent: u32,
    /// Of these, without a reply in time.
    pub lost: u32,
    /// Probes that this host did not send.
    pub unsent: u32,
    /// Round trips.
    pub rtt: Option<Quantiles>,
}

impl Samples {
    /// A probe was sent; its number, one more than that of the one before.
    pub(super) fn sent(&mut self, at: Timestamp) -> u64 {
        if self.ring.len() >= SAMPLES_MAX {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(Entry {
            sent: at,
            fate: Fate::Underway,
        });
        self.first + u64::try_from(self.ring.len()).unwrap_or(0) - 1
    }

    /// What became of it.
    pub(super) fn decide(&mut self, seq: u64, fate: Fate) {
        let place = seq.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| self.ring.get_mut(place)) {
            entry.fate = fate;
        }
        if let Fate::Replied(rtt) = fate {
            self.smooth(f64::from(rtt));
        }
    }

    /// The smoothed difference of round trips in a row (RFC 3550 6.4.1), in seconds.
    pub(super) fn jitter(&self) -> Option<f64> {
        self.jitter
    }

    fn smooth(&mut self, rtt: f64) {
        if let Some(last) = self.last_rtt.replace(rtt) {
            let difference = (rtt - last).abs();
            let jitter = self.jitter.unwrap_or(0.0);
            self.jitter = Some(jitter + (difference - jitter) * JITTER_GAIN);
        }
    }

    /// Figures over the window of this name and length that ends at `now`.
    pub(super) fn figures(
        &self,
        window: &'static str,
        length: Duration,
        now: Timestamp,
    ) -> Figures {
        let begin = now.minus(length);
        let mut figures = Figures {
            window,
            from: None,
            sent: 0,
            lost: 0,
            unsent: 0,
            loss: None,
            bursts: 0,
            longest_burst: 0,
            rtt: None,
            ipdv_p95: None,
        };
        let (mut rtts, mut differences) = (Vec::new(), Vec::new());
        let (mut row, mut before) = (0_u32, None);
        for entry in self.since(begin) {
            figures.from.get_or_insert(entry.sent);
            let mut replied = None;
            match entry.fate {
                Fate::Underway | Fate::Unjudged => {}
                Fate::Unsent => figures.unsent += 1,
                Fate::Lost => {
                    figures.sent += 1;
                    figures.lost += 1;
                    row += 1;
                    figures.bursts += u32::from(row == 1);
                    figures.longest_burst = figures.longest_burst.max(row);
                }
                Fate::Replied(rtt) => {
                    figures.sent += 1;
                    row = 0;
                    rtts.push(rtt);
                    replied = Some(rtt);
                }
            }
            if let (Some(before), Some(rtt)) = (before, replied) {
                let difference: f32 = rtt - before;
                differences.push(difference.abs());
            }
            before = replied;
        }
        figures.loss =
            (figures.sent > 0).then(|| f64::from(figures.lost) / f64::from(figures.sent));
        figures.rtt = quantiles(&mut rtts);
        differences.sort_unstable_by(f32::total_cmp);
        figures.ipdv_p95 = rank(&differences, 95);
        figures
    }

    /// The span that ends at `now` in `count` equal pieces.
    pub(super) fn history(&self, span: Duration, count: u32, now: Timestamp) -> Vec<Bin> {
        let step = span / count.max(1);
        let step_ns = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Pieces begin at multiples of their length, so that a redrawn chart does not flicker.
        let end = (now.as_ns() / step_ns)
            .saturating_add(1)
            .saturating_mul(step_ns);
        let begin = end.saturating_sub(step_ns.saturating_mul(u64::from(count)));
        let mut pieces: Vec<(Bin, Vec<f32>)> = (0..u64::from(count))
            .map(|piece| {
                let bin = Bin {
                    from: Timestamp::from_ns(begin + piece * step_ns),
                    sent: 0,
                    lost: 0,
                    unsent: 0,
                    rtt: None,
                };
                (bin, Vec::new())
            })
            .collect();
        for entry in self.since(Timestamp::from_ns(begin)) {
            let place = entry.sent.as_ns().saturating_sub(begin) / step_ns;
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let Some((bin, rtts)) = pieces.get_mut(place) else {
                continue;
            };
            match entry.fate {
                Fate::Underway | Fate::Unjudged => {}
                Fate::Unsent => bin.unsent += 1,
                Fate::Lost => {
                    bin.sent += 1;
                    bin.lost += 1;
                }
                Fate::Replied(rtt) => {
                    bin.sent += 1;
                    rtts.push(rtt);
                }
            }
        }
        let finish = |(bin, mut rtts): (Bin, Vec<f32>)| Bin {
            rtt: quantiles(&mut rtts),
            ..bin
        };
        pieces.into_iter().map(finish).collect()
    }

    /// Those after the last that was sent before `begin`: when the clock was set back meanwhile,
    /// a few too many rather than none.
    fn since(&self, begin: Timestamp) -> impl Iterator<Item = &Entry> {
        let earlier = self.ring.iter().rposition(|entry| entry.sent < begin);
        self.ring.range(earlier.map_or(0, |at| at + 1)..)
    }
}

fn quantiles(rtts: &mut [f32]) -> Option<Quantiles> {
    rtts.sort_unstable_by(f32::total_cmp);
    Some(Quantiles {
        min: f64::from(*rtts.first()?),
        p10: rank(rtts, 10)?,
        p50: rank(rtts, 50)?,
        p90: rank(rtts, 90)?,
        p99: rank(rtts, 99)?,
        max: f64::from(*rtts.last()?),
    })
}

/// The smallest value that at least `percent` of all do not exceed.
fn rank(sorted: &[f32], percent: usize) -> Option<f64> {
    let place = sorted.len().saturating_mul(percent).div_ceil(100).max(1) - 1;
    sorted.get(place).map(|&value| f64::from(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns((1_000_000 + second) * SECOND)
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            6 => (1..2000_u16).prop_map(|ms| Fate::Replied(f32::from(ms) / 1000.0)),
            2 => Just(Fate::Lost),
            1 => Just(Fate::Unsent),
            1 => Just(Fate::Unjudged),
            1 => Just(Fate::Underway),
        ]
    }

    proptest! {
        /// Against the definitions, computed the long way.
        #[test]
        fn figures_are_those_of_the_definition(
            fates in proptest::collection::vec(fate(), 0..120),
            length in 1..100_u64,
        ) {
            let mut samples = Samples::default();
            for (second, fate) in fates.iter().enumerate() {
                let seq = samples.sent(at(second as u64));
                prop_assert_eq!(seq, second as u64);
                samples.decide(seq, *fate);
            }
            let now = at(fates.len() as u64);
            let figures = samples.figures("w", Duration::from_secs(length), now);
            let inside = &fates[fates.len().saturating_sub(usize::try_from(length).unwrap())..];
            let mut rtts: Vec<f32> = inside
                .iter()
                .filter_map(|fate| match fate { Fate::Replied(rtt) => Some(*rtt), _ => None })
                .collect();
            rtts.sort_by(f32::total_cmp);
            let lost = inside.iter().filter(|fate| **fate == Fate::Lost).count();
            prop_assert_eq!(figures.lost as usize, lost);
            prop_assert_eq!(figures.sent as usize, lost + rtts.len());
            prop_assert_eq!(figures.from.is_some(), !inside.is_empty());
            prop_assert_eq!(figures.rtt.is_some(), !rtts.is_empty());
            if let Some(found) = figures.rtt {
                for (percent, value) in
                    [(10, found.p10), (50, found.p50), (90, found.p90), (99, found.p99)]
                {
                    let below = |limit: f64| {
                        rtts.iter().filter(|rtt| f64::from(**rtt) <= limit).count() * 100
                    };
                    prop_assert!(below(value) >= percent * rtts.len());
                    // No smaller one would do.
                    let smaller = rtts.iter().rev().find(|rtt| f64::from(**rtt) < value);
                    if let Some(smaller) = smaller {
                        prop_assert!(below(f64::from(*smaller)) < percent * rtts.len());
                    }
                }
                let ends = [found.min, found.max].map(f64::to_bits);
                let expected = [rtts[0], rtts[rtts.len() - 1]];
                prop_assert_eq!(ends, expected.map(|rtt| f64::from(rtt).to_bits()));
            }
            let rows: Vec<usize> = inside
                .iter()
                .filter(|fate| matches!(fate, Fate::Lost | Fate::Replied(_)))
                .map(|fate| *fate == Fate::Lost)
                .collect::<Vec<_>>()
                .split(|lost| !lost)
                .map(<[bool]>::len)
                .filter(|&row| row > 0)
                .collect();
            prop_assert_eq!(figures.bursts as usize, rows.len());
            prop_assert_eq!(figures.longest_burst as usize, rows.iter().copied().max().unwrap_or(0));
        }

        #[test]
        fn the_history_holds_every_probe_once(
            fates in proptest::collection::vec(fate(), 1..120),
            count in 1..50_u32,
        ) {
            let mut samples = Samples::default();
            for (second, fate) in fates.iter().enumerate() {
                let seq = samples.sent(at(second as u64));
                samples.decide(seq, *fate);
            }
            let span = Duration::from_mins(5);
            let bins = samples.history(span, count, at(fates.len() as u64));
            prop_assert_eq!(bins.len(), count as usize);
            let lost: u32 = bins.iter().map(|bin| bin.lost).sum();
            let unsent: u32 = bins.iter().map(|bin| bin.unsent).sum();
            let count_of = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
            prop_assert_eq!(lost as usize, count_of(Fate::Lost));
            prop_assert_eq!(unsent as usize, count_of(Fate::Unsent));
        }
    }

    #[test]
    fn jitter_is_that_of_rfc_3550() {
        let mut samples = Samples::default();
        for rtt in [0.010, 0.026, 0.010] {
            let seq = samples.sent(at(0));
            samples.decide(seq, Fate::Replied(rtt));
        }
        // 16 ms / 16 = 1 ms, then 1 + (16 - 1) / 16.
        let jitter = samples.jitter().unwrap();
        assert!((jitter - 0.001_937_5).abs() < 1e-6, "{jitter}");
    }

    #[test]
    fn memory_is_bounded_and_late_news_finds_its_place() {
        let mut samples = Samples::default();
        for second in 0..5000 {
            samples.sent(at(second));
        }
        samples.decide(10, Fate::Lost);
        samples.decide(4999, Fate::Lost);
        assert_eq!(samples.ring.len(), SAMPLES_MAX);
        let figures = samples.figures("1h", Duration::from_hours(2), at(5000));
        assert_eq!((figures.lost, figures.from), (1, Some(at(1400))));
    }
}
