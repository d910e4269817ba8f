//! What happened to an interface's packets within a window, told from the samples in its segments.

use crate::counters::Counters;
use crate::pcapng::isb::Sample;
use crate::time::{Timestamp, Window};

/// Adds up the counters over a window from samples in the order they lie.
///
/// Samples are cumulative since the recorder process began, so the window's share is the last
/// sample of the window less the one before it, per process. The seconds at both ends count
/// whole: what was dropped in them cannot be told to be outside.
#[derive(Debug, Clone)]
pub struct Accounting {
    window: Window,
    /// The share of earlier recorder processes.
    total: Counters,
    run: Option<Run>,
}

/// The samples of one recorder process.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: Timestamp,
    before: Counters,
    now: Counters,
    /// A sample at or behind the window's end was seen; later ones do not count.
    ended: bool,
}

impl Run {
    fn share(&self) -> Counters {
        self.now.since(&self.before)
    }
}

impl Accounting {
    /// Nothing counted yet.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            total: Counters::default(),
            run: None,
        }
    }

    /// Takes the next sample; `packets` lie between it and the sample before.
    pub fn add(&mut self, sample: &Sample, packets: u64) {
        if self.run.is_none_or(|run| run.start != sample.start) {
            if let Some(run) = self.run.take() {
                self.total = self.total.plus(&run.share());
            }
            if sample.start >= self.window.to {
                return;
            }
            self.run = Some(Run {
                start: sample.start,
                before: self.base(sample, packets),
                now: sample.counters,
                ended: false,
            });
        }
        let Some(run) = &mut self.run else { return };
        if run.ended {
            return;
        }
        run.now = sample.counters;
        if sample.counted() <= self.window.from {
            run.before = sample.counters;
        }
        run.ended = sample.at >= self.window.to;
    }

    /// What a process had counted before the window, as far as its first sample tells: nothing if
    /// it began within the window, else what the sample says less the packets that precede it.
    /// A later sample that still lies before the window replaces it.
    fn base(&self, sample: &Sample, packets: u64) -> Counters {
        if sample.start >= self.window.from {
            return Counters::default();
        }
        let mut base = sample.counters;
        if sample.counted() > self.window.from {
            base.received = base.received.saturating_sub(packets);
            base.written = base.written.saturating_sub(packets);
        }
        base
    }

    /// The sum so far.
    pub fn counters(&self) -> Counters {
        self.run
            .map_or(self.total, |run| self.total.plus(&run.share()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Received packets of a window, from samples (process start, time, received in all). Three
    /// packets lie before each.
    fn over(window: (u64, u64), samples: &[(u64, u64, u64)]) -> u64 {
        let at = Timestamp::from_ns;
        let mut accounting = Accounting::new(Window::new(at(window.0), at(window.1)));
        for &(start, now, received) in samples {
            let sample = Sample {
                at: at(now),
                start: at(start),
                counters: Counters {
                    received,
                    ..Counters::default()
                },
                detail: crate::pcapng::isb::Detail::default(),
                last: false,
            };
            accounting.add(&sample, 3);
        }
        accounting.counters().received
    }

    #[test]
    fn the_seconds_at_both_ends_count_whole() {
        let samples = [(0, 10, 1), (0, 20, 3), (0, 30, 7), (0, 40, 15), (0, 50, 31)];
        assert_eq!(over((20, 40), &samples), 12);
        assert_eq!(over((15, 35), &samples), 14);
        assert_eq!(over((0, 100), &samples), 31);
        assert_eq!(over((10, 100), &samples), 30);
    }

    #[test]
    fn packets_before_the_first_sample_count() {
        assert_eq!(over((7, 40), &[(0, 10, 100), (0, 20, 110)]), 13);
    }

    #[test]
    fn a_restart_begins_at_zero() {
        let samples = [(5, 10, 100), (5, 20, 110), (25, 30, 4), (25, 40, 6)];
        assert_eq!(over((10, 40), &samples), 16);
        assert_eq!(over((10, 22), &samples), 10);
    }
}
