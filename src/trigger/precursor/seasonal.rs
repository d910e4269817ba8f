//! A figure that depends on the hour of the week: a level, and for each of the 168 hours what it
//! differs by. Learned online in constant memory.
//!
//! An hour that was seen little leans on its neighbours (the hours beside it and the same hour of
//! other days), and these on the level. Hours are those of UTC; between two hours the figure runs
//! straight, so that a morning's rise has no step in it.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Hours of a week.
pub const HOURS: usize = 168;
const HOURS_PER_DAY: usize = 24;
/// 1970-01-01 was a Thursday; weeks begin on Monday.
const EPOCH_HOURS: u64 = 3 * 24;
const HOUR_NS: u64 = 3_600_000_000_000;

/// A seasonal figure. Its unit is its owner's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seasonal {
    /// What it is without regard to the hour.
    pub level: f64,
    /// How often it was learned.
    pub seen: f64,
    /// One for each hour of the week from Monday 00:00 UTC.
    pub cells: Vec<Cell>,
}

/// One hour of the week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What the hour differs from the level by.
    pub offset: f64,
    /// How often it was learned.
    pub seen: f64,
}

/// The figure at some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// What it is.
    pub value: f64,
    /// How well this hour is known: 0 (never seen, nor its neighbours) to 1.
    pub known: f64,
}

/// How fast a figure learns, in learnings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The memory of the level.
    pub level: f64,
    /// The memory of an hour.
    pub cell: f64,
    /// So many learnings weigh as much as what the neighbours say.
    pub lean: f64,
}

impl Seasonal {
    /// Nothing is known but a first guess.
    pub fn new(level: f64) -> Self {
        Self {
            level,
            seen: 0.0,
            cells: vec![Cell::default(); HOURS],
        }
    }

    /// Whether every number is one, for what was read from a file.
    pub fn is_sound(&self) -> bool {
        let sound = |number: f64| number.is_finite() && number.abs() < 1e12;
        self.cells.len() == HOURS
            && sound(self.level)
            && sound(self.seen)
            && self.seen >= 0.0
            && self
                .cells
                .iter()
                .all(|cell| sound(cell.offset) && sound(cell.seen) && cell.seen >= 0.0)
    }

    /// The figure at `at`.
    pub fn usual(&self, at: Timestamp, pace: Pace) -> Usual {
        let (hour, next, part) = place(at);
        let (here, here_known) = self.hour(hour, pace.lean);
        let (there, there_known) = self.hour(next, pace.lean);
        Usual {
            value: self.level + here * (1.0 - part) + there * part,
            known: here_known * (1.0 - part) + there_known * part,
        }
    }

    /// Learns that it is `figure` at `at`: fast as long as little was seen, then with the memory of
    /// `pace`, and never by more than `most` of what it was wrong by. `frozen` leaves the level
    /// alone.
    pub fn learn(&mut self, at: Timestamp, figure: f64, most: f64, pace: Pace, frozen: bool) {
        let error = (figure - self.usual(at, pace).value).clamp(-most, most);
        let (hour, next, part) = place(at);
        for (hour, weight) in [(hour, 1.0 - part), (next, part)] {
            if let Some(cell) = self.cells.get_mut(hour) {
                cell.seen = (cell.seen + weight).min(pace.cell);
                // Its own mean, whatever its neighbours say: only so it settles.
                let own = (figure - self.level - cell.offset).clamp(-most, most);
                cell.offset += weight * own / cell.seen.max(1.0);
            }
        }
        if !frozen {
            self.seen = (self.seen + 1.0).min(pace.level);
            self.level += error / self.seen;
        }
    }

    /// Offset of an hour and how well it is known.
    fn hour(&self, hour: usize, lean: f64) -> (f64, f64) {
        let (mut weights, mut sum) = (0.0, 0.0);
        let mut add = |hour: usize, weight: f64| {
            if let Some(cell) = self.cells.get(hour % HOURS) {
                weights += weight * cell.seen;
                sum += weight * cell.seen * cell.offset;
            }
        };
        add(hour + 1, 0.2);
        add(hour + HOURS - 1, 0.2);
        for days in 1..7 {
            add(hour + days * HOURS_PER_DAY, 0.5);
        }
        let neighbours = sum / (weights + lean);
        let own = self.cells.get(hour).copied().unwrap_or_default();
        let all = own.seen + weights;
        (
            (own.offset * own.seen + neighbours * lean) / (own.seen + lean),
            all / (all + lean),
        )
    }
}

/// The two hours between whose middles `at` lies, and the share of the second.
fn place(at: Timestamp) -> (usize, usize, f64) {
    let half_hours_ns = at.as_ns() + EPOCH_HOURS * HOUR_NS + (HOURS as u64) * HOUR_NS - HOUR_NS / 2;
    let hour = usize::try_from(half_hours_ns / HOUR_NS % HOURS as u64).unwrap_or(0);
    let part = (half_hours_ns % HOUR_NS) as f64 / HOUR_NS as f64;
    (hour, (hour + 1) % HOURS, part)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PACE: Pace = Pace {
        level: 10_000.0,
        cell: 1000.0,
        lean: 6.0,
    };

    /// Sunday 2026-11-22T00:00:00Z and so many hours.
    fn hour(hours: f64) -> Timestamp {
        Timestamp::from_ns(1_795_305_600_000_000_000).plus(Duration::from_secs_f64(hours * 3600.0))
    }

    #[test]
    fn the_week_begins_on_monday() {
        assert_eq!(place(hour(24.5)), (0, 1, 0.0));
        assert_eq!(place(hour(0.5)), (144, 145, 0.0));
        assert_eq!(place(hour(24.0)), (167, 0, 0.5));
    }

    #[test]
    fn hours_differ_and_neighbours_are_leaned_on() {
        let mut figure = Seasonal::new(0.0);
        // A day of 10 at noon and 1 otherwise.
        for step in 0..240 {
            let at = hour(f64::from(step) / 10.0);
            let truth = if (120..130).contains(&step) {
                10.0
            } else {
                1.0
            };
            for _ in 0..20 {
                figure.learn(at, truth, 100.0, PACE, false);
            }
        }
        let noon = figure.usual(hour(12.5), PACE);
        assert!(noon.value > 6.5, "{noon:?}");
        let tomorrow = figure.usual(hour(36.5), PACE);
        assert!(tomorrow.value > 3.0, "{tomorrow:?}");
        assert!(tomorrow.known > 0.5 && tomorrow.known < noon.known);
        let night = figure.usual(hour(3.5), PACE).value;
        assert!((night - 1.0).abs() < 0.5, "{night}");
    }

    #[test]
    fn damage_is_seen() {
        let mut figure = Seasonal::new(1.0);
        assert!(figure.is_sound());
        figure.cells.pop();
        assert!(!figure.is_sound());
        assert!(!Seasonal::new(f64::NAN).is_sound());
    }
}
