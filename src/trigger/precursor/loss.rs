//! Evidence in losses: how much more likely what is seen is at a worse rate of loss than at the
//! usual one, collected (the CUSUM of a Bernoulli likelihood ratio).

use std::time::Duration;

use crate::time::Timestamp;

/// No path is believed to lose less than this.
const RATE_MIN: f64 = 0.001;
/// No rate of loss is usual beyond this.
const RATE_MAX: f64 = 0.6;
const WEEK: Duration = Duration::from_hours(168);

/// What rate of loss is looked for, beside the usual one.
#[derive(Debug, Clone, Copy)]
pub struct Worse {
    /// The usual one is believed to be no lower.
    pub usual_min: f64,
    /// At least so high.
    pub least: f64,
    /// And at least so many times the usual.
    pub times: f64,
}

/// Several losses close together.
pub const BURST: Worse = Worse {
    usual_min: RATE_MIN,
    least: 0.25,
    times: 4.0,
};
/// Single losses more often.
pub const TREND: Worse = Worse {
    usual_min: RATE_MIN,
    least: 0.02,
    times: 4.0,
};
/// Gaps of two or more losses in a row, over and over. By themselves, since losses of chance rarely
/// follow each other: so a link that goes away for two seconds every few minutes is seen soon.
pub const GAPS: Worse = Worse {
    usual_min: 0.000_05,
    least: 0.005,
    times: 4.0,
};
/// After a loss the next probe is lost at least so often: losses come in pairs now and then.
const AGAIN: f64 = 0.2;

/// The collected evidence for one worse rate.
#[derive(Debug, Clone, Copy)]
pub struct LossEvidence {
    worse: Worse,
    sum: f64,
    since: Option<Timestamp>,
    lost: u32,
    sent: u32,
}

/// By wrong evidence alone the threshold is reached about `alarms` times a week: after Wald's
/// bound, e to the threshold probes pass on average.
pub fn threshold(interval: Duration, alarms: f64) -> f64 {
    let probes = WEEK.as_secs_f64() / interval.as_secs_f64().max(1e-3);
    (probes / alarms).ln().max(6.0)
}

/// How often a gap begins at a usual rate of loss.
pub fn usual_gaps(usual: f64) -> f64 {
    usual * usual.max(AGAIN)
}

impl LossEvidence {
    /// Nothing collected.
    pub const fn new(worse: Worse) -> Self {
        Self {
            worse,
            sum: 0.0,
            since: None,
            lost: 0,
            sent: 0,
        }
    }

    /// Takes in a probe; `usual` is the usual rate of loss, 0 to 1.
    pub fn add(&mut self, sent: Timestamp, lost: bool, usual: f64, threshold: f64) {
        let usual = usual.clamp(self.worse.usual_min, RATE_MAX);
        let worse = (usual * self.worse.times).max(self.worse.least).min(0.95);
        self.sum += if lost {
            (worse / usual).ln()
        } else {
            ((1.0 - worse) / (1.0 - usual)).ln()
        };
        if self.sum <= 0.0 {
            *self = Self::new(self.worse);
            return;
        }
        self.sum = self.sum.min(threshold * 1.5);
        self.since.get_or_insert(sent);
        self.sent = self.sent.saturating_add(1);
        self.lost = self.lost.saturating_add(u32::from(lost));
    }

    /// When the loss began, if the evidence reaches `threshold`.
    pub fn reaches(&self, threshold: f64) -> Option<Timestamp> {
        self.since.filter(|_| self.sum >= threshold)
    }

    /// Whether no evidence is left.
    pub const fn is_none(&self) -> bool {
        self.since.is_none()
    }

    /// Probes lost and sent since the evidence began.
    pub const fn counts(&self) -> (u32, u32) {
        (self.lost, self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(worse: Worse, usual: f64, lost: impl Fn(u64) -> bool) -> Option<u64> {
        let threshold = threshold(Duration::from_secs(1), 0.1);
        let mut evidence = LossEvidence::new(worse);
        (0..2000).find(|second| {
            evidence.add(Timestamp::from_ns(*second), lost(*second), usual, threshold);
            evidence.reaches(threshold).is_some()
        })
    }

    #[test]
    fn losses_close_together_are_a_burst() {
        assert_eq!(play(BURST, 0.0, |s| s % 200 == 0), None);
        assert_eq!(play(BURST, 0.0, |s| s == 5 || s == 6), None);
        assert!(play(BURST, 0.0, |s| [5, 8, 12, 14].contains(&s)).is_some());
    }

    #[test]
    fn gaps_over_and_over_are_told_from_pairs_by_chance() {
        let gaps = |usual, every: u64| play(GAPS, usual_gaps(usual), |s| s % every == 1);
        assert!(gaps(0.000_3, 120).is_some_and(|second| second < 600));
        assert_eq!(gaps(0.000_3, 900), None);
        assert_eq!(gaps(0.08, 60), None, "where echoes are limited");
    }

    #[test]
    fn losses_more_often_are_a_trend_unless_that_is_usual() {
        assert!(play(TREND, 0.0, |s| s % 30 == 0).is_some_and(|second| second < 600));
        assert_eq!(play(TREND, 0.0, |s| s % 400 == 0), None);
        assert_eq!(play(TREND, 0.033, |s| s % 30 == 0), None);
    }
}
