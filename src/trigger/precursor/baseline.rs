//! What is usual for one figure of a block at this hour: its place and its spread, both robust.
//!
//! Figures are logarithms, so that "half as much again" is the same distance at 2 ms and at
//! 200 ms. The place follows the figure by a bounded step (Huber's); the spread is the median
//! absolute deviation, found by the mean of the errors' logarithms, which no outlier moves far.
//! Stochastic approximation: Robbins and Monro, 1951.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

use super::seasonal::{Pace, Seasonal};

/// Of a normal distribution the standard deviation is so many median absolute deviations.
const NORMAL: f64 = 1.4826;
/// A step of the place is at most so many deviations, once something is known.
const STEP_MAX: f64 = 2.5;
/// The same as long as an hour is new: what comes every night must be learned in a few nights.
const STEP_MAX_NEW: f64 = 30.0;
/// Errors are counted from here to there.
const ERROR_MIN: f64 = 1e-3;
const ERROR_MAX: f64 = 20.0;
/// Of a normal distribution, the logarithm of the median absolute deviation less the mean of the
/// logarithm of absolute deviations.
const LOGARITHM_TO_MEDIAN: f64 = 0.241;
/// A step of the spread is at most so much.
const DEVIATION_STEP_MAX: f64 = 2.0;
/// How far an hour that was never seen may be from the level, as a logarithm: half as much again.
const UNSEEN: f64 = 0.4;
/// A level remembers two days.
const LEVEL_MEMORY: Duration = Duration::from_hours(48);
/// An hour of the week remembers three weeks.
const CELL_HOURS: f64 = 3.0;
/// So much of an hour weighs as much as its neighbours.
const LEAN: Duration = Duration::from_mins(10);

/// The baseline of one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    place: Seasonal,
    /// The logarithm of the median absolute deviation.
    deviation: Seasonal,
}

/// A figure beside what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// What is usual at this hour.
    pub usual: f64,
    /// By how much the figure is above it.
    pub above: f64,
    /// The same in standard deviations, of which the smallest counted is `floor`.
    pub score: f64,
}

impl Compared {
    /// The same beside what the last days showed at this time, where that is more: up to there it is
    /// no news.
    #[must_use]
    pub fn beyond(self, seen: Option<f64>) -> Self {
        let known = seen.map_or(0.0, |seen| (seen - self.usual).max(0.0));
        if self.above <= 0.0 || known <= 0.0 {
            return self;
        }
        let above = (self.above - known).max(0.0);
        Self {
            above,
            score: self.score * above / self.above,
            ..self
        }
    }
}

/// How fast a baseline learns when a block comes every `span`.
pub fn pace(span: Duration) -> Pace {
    let per = |time: Duration| (time.as_secs_f64() / span.as_secs_f64().max(1e-3)).max(2.0);
    Pace {
        level: per(LEVEL_MEMORY),
        cell: per(Duration::from_hours(1)) * CELL_HOURS,
        lean: per(LEAN),
    }
}

impl Baseline {
    /// Nothing is known; `deviation` is a first guess of the spread.
    pub fn new(deviation: f64) -> Self {
        Self {
            place: Seasonal::new(0.0),
            deviation: Seasonal::new(deviation.ln()),
        }
    }

    /// Whether every number is one, for what was read from a file.
    pub fn is_sound(&self) -> bool {
        self.place.is_sound() && self.deviation.is_sound()
    }

    /// Compares `figure` with what is usual at `at`.
    pub fn compare(&self, at: Timestamp, figure: f64, floor: f64, pace: Pace) -> Compared {
        let usual = self.place.usual(at, pace);
        let spread = self.deviation.usual(at, pace).value.exp() * NORMAL;
        let doubt = UNSEEN * (1.0 - usual.known);
        let above = figure - usual.value;
        Compared {
            usual: usual.value,
            above,
            score: above / (spread.max(floor).powi(2) + doubt.powi(2)).sqrt(),
        }
    }

    /// Learns `figure`. While a sign stands (`frozen`), only the hour learns, not the level.
    pub fn learn(&mut self, at: Timestamp, figure: f64, pace: Pace, frozen: bool) {
        if self.place.seen < 1.0 {
            self.place.level = figure;
        }
        let usual = self.place.usual(at, pace);
        let deviation = self.deviation.usual(at, pace).value.clamp(-9.0, 3.0);
        let most = if usual.known < 0.9 {
            STEP_MAX_NEW
        } else {
            STEP_MAX
        };
        let most = deviation.exp() * most;
        self.place.learn(at, figure, most, pace, frozen);
        let error = (figure - usual.value).abs().clamp(ERROR_MIN, ERROR_MAX);
        let logarithm = error.ln() + LOGARITHM_TO_MEDIAN;
        self.deviation
            .learn(at, logarithm, DEVIATION_STEP_MAX, pace, frozen);
    }

    /// What differs has become usual: moves the level by `above`.
    pub fn rebase(&mut self, above: f64) {
        self.place.level += above;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_spread_are_found_and_outliers_change_little() {
        let span = Duration::from_secs(10);
        let pace = pace(span);
        let mut baseline = Baseline::new(0.1);
        let mut at = Timestamp::from_ns(1_795_305_600_000_000_000);
        for step in 0..3000_u32 {
            // Evenly from 2.9 to 3.1; every 100th far out.
            let even = f64::from(step * 7919 % 1000) / 1000.0;
            let figure = if step % 100 == 0 {
                5.5
            } else {
                2.9 + 0.2 * even
            };
            baseline.learn(at, figure, pace, false);
            at = at.plus(span);
        }
        let compared = baseline.compare(at, 3.5, 0.0, pace);
        assert!((compared.usual - 3.0).abs() < 0.15, "{compared:?}");
        let deviation = compared.above / compared.score / NORMAL;
        assert!((0.02..0.12).contains(&deviation), "{deviation}");
        baseline.rebase(0.5);
        let compared = baseline.compare(at, 3.5, 0.0, pace);
        assert!(compared.above.abs() < 0.15);
    }

    #[test]
    fn what_the_last_days_showed_is_no_news() {
        let more = Compared {
            usual: 3.0,
            above: 1.0,
            score: 8.0,
        };
        let is = |seen, score: f64| (more.beyond(seen).score - score).abs() < 1e-9;
        assert!(is(None, 8.0) && is(Some(2.0), 8.0) && is(Some(3.0), 8.0));
        assert!(is(Some(3.5), 4.0) && is(Some(4.0), 0.0) && is(Some(9.0), 0.0));
        let less = Compared {
            above: -1.0,
            score: -8.0,
            ..more
        };
        assert_eq!(less.beyond(Some(9.0)), less);
    }
}
