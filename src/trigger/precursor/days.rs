//! What the same time of day showed on the last days, half hour by half hour.
//!
//! What comes every night is news once or twice. A baseline needs several weeks to know an hour of
//! the week by itself, and leans on other hours before; this looks back instead, in constant memory.
//! Three days, so that a target's first Monday remembers Friday.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const HALF_HOUR_NS: u64 = 1_800_000_000_000;
const PER_DAY: u64 = 48;
const DAYS: u64 = 3;
/// As many half hours as are looked back to, and those under way.
const KEPT: usize = 192;
/// Fewer blocks say nothing about a half hour.
const BLOCKS_MIN: u16 = 4;

/// One figure over the last days. Its unit is its owner's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Days {
    /// By its number modulo their count.
    halves: Vec<Half>,
}

/// Half an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Half {
    /// Half hours since 1970; 0: never learned.
    number: u32,
    /// Blocks seen.
    seen: u16,
    mean: f32,
    highest: f32,
}

impl Default for Days {
    fn default() -> Self {
        Self {
            halves: vec![Half::default(); KEPT],
        }
    }
}

impl Days {
    /// Whether every number is one, for what was read from a file.
    pub fn is_sound(&self) -> bool {
        let sound = |half: &Half| half.mean.is_finite() && half.highest.is_finite();
        self.halves.len() == KEPT && self.halves.iter().all(sound)
    }

    /// Learns that it was `figure` at `at`.
    pub fn learn(&mut self, at: Timestamp, figure: f64) {
        let number = at.as_ns() / HALF_HOUR_NS;
        let Ok(stamp) = u32::try_from(number) else {
            return;
        };
        let Some(half) = self.halves.get_mut(place(number)) else {
            return;
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "seven digits are more than is known"
        )]
        let figure = figure as f32;
        if half.number != stamp {
            *half = Half {
                number: stamp,
                seen: 0,
                mean: figure,
                highest: figure,
            };
        }
        half.seen = half.seen.saturating_add(1);
        half.mean += (figure - half.mean) / f32::from(half.seen);
        half.highest = half.highest.max(figure);
    }

    /// The highest it was at this time of day, give or take half an hour, on `on` of the last days.
    pub fn highest(&self, at: Timestamp, on: usize) -> Option<f64> {
        self.around(at, on, |half| half.highest)
    }

    /// The highest mean of a half hour at this time of day, give or take one, on `on` of the last
    /// days.
    pub fn highest_mean(&self, at: Timestamp, on: usize) -> Option<f64> {
        self.around(at, on, |half| half.mean)
    }

    fn around(&self, at: Timestamp, on: usize, figure: impl Fn(&Half) -> f32) -> Option<f64> {
        let now = at.as_ns() / HALF_HOUR_NS;
        let days = (1..=DAYS).filter_map(|day| {
            let middle = now.saturating_sub(day * PER_DAY);
            let halves = (middle.saturating_sub(1)..=middle + 1).filter_map(|number| {
                let half = self.halves.get(place(number))?;
                (u64::from(half.number) == number && half.seen >= BLOCKS_MIN).then(|| figure(half))
            });
            halves.reduce(f32::max)
        });
        let mut days: Vec<f32> = days.collect();
        days.sort_unstable_by(|one, other| other.total_cmp(one));
        days.get(on.checked_sub(1)?).copied().map(f64::from)
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % KEPT as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hour(hours: f64) -> Timestamp {
        Timestamp::from_ns(1_795_305_600_000_000_000).plus(Duration::from_secs_f64(hours * 3600.0))
    }

    /// So many hours of 1, but 5 from 02:00 to 03:00 of the first day.
    fn week(until: f64) -> Days {
        let mut days = Days::default();
        let blocks = (0_u32..).map(|block| f64::from(block) / 360.0);
        for at in blocks.take_while(|at| *at < until) {
            let figure = if (2.0..3.0).contains(&at) { 5.0 } else { 1.0 };
            days.learn(hour(at), figure);
        }
        days
    }

    #[test]
    fn today_is_not_looked_at_and_yesterday_is() {
        let days = week(2.7);
        assert_eq!(days.highest(hour(2.7), 1), None);
        let days = week(26.3);
        assert_eq!(days.highest(hour(26.3), 1), Some(5.0));
        assert_eq!(days.highest(hour(25.6), 1), Some(5.0), "half an hour early");
        assert_eq!(days.highest(hour(24.9), 1), Some(1.0));
        assert_eq!(days.highest_mean(hour(27.2), 1), Some(5.0));
        assert_eq!(days.highest(hour(27.6), 1), Some(1.0));
    }

    #[test]
    fn three_days_are_remembered() {
        assert_eq!(week(74.2).highest(hour(74.2), 1), Some(5.0));
        assert_eq!(week(98.2).highest(hour(98.2), 1), Some(1.0));
        // Nothing was sent for a month.
        assert_eq!(week(10.0).highest(hour(722.2), 1), None);
    }

    #[test]
    fn two_days_of_three() {
        let mut days = week(26.3);
        assert_eq!(days.highest(hour(26.3), 2), None, "only one is known");
        for block in 0_u32..720 {
            days.learn(hour(26.0 + f64::from(block) / 360.0), 4.0);
        }
        assert_eq!(days.highest(hour(50.3), 1), Some(5.0));
        assert_eq!(days.highest(hour(50.3), 2), Some(4.0));
    }

    #[test]
    fn half_a_minute_is_no_half_hour() {
        let mut days = Days::default();
        for block in 0..3 {
            days.learn(hour(f64::from(block) / 360.0), 9.0);
        }
        assert_eq!(days.highest(hour(24.0), 1), None);
    }

    #[test]
    fn damage_is_seen() {
        let mut days = week(1.0);
        assert!(days.is_sound());
        days.halves[3].mean = f32::NAN;
        assert!(!days.is_sound());
        assert!(!Days { halves: Vec::new() }.is_sound());
    }
}
