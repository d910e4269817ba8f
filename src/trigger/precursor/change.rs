//! Evidence that a figure has changed, collected: the cumulative sum of what is more than usual
//! (Page, 1954), once for more and once for less.

use crate::time::Timestamp;

/// A block's score counts at most so much: one strange block is no change.
const SCORE_MAX: f64 = 4.0;
/// A score up to this speaks against a change.
const ALLOWANCE: f64 = 2.0;

/// The collected evidence of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence {
    sum: f64,
    since: Option<Timestamp>,
}

impl Evidence {
    /// Takes in a block that began at `from`.
    pub fn add(&mut self, from: Timestamp, score: f64, cap: f64) {
        self.sum += score.min(SCORE_MAX) - ALLOWANCE;
        if self.sum <= 0.0 {
            *self = Self::default();
            return;
        }
        // What was collected must go away again once it stops.
        self.sum = self.sum.min(cap);
        self.since.get_or_insert(from);
    }

    /// When the change began, if the evidence reaches `threshold`.
    pub fn reaches(&self, threshold: f64) -> Option<Timestamp> {
        self.since.filter(|_| self.sum >= threshold)
    }
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    more: Evidence,
    less: Evidence,
}

impl Change {
    /// Takes in the score of a block that began at `from`.
    pub fn add(&mut self, from: Timestamp, score: f64, threshold: f64) {
        let cap = threshold * 2.0;
        self.more.add(from, score, cap);
        self.less.add(from, -score, cap);
    }

    /// When it became more.
    pub fn more(&self, threshold: f64) -> Option<Timestamp> {
        self.more.reaches(threshold)
    }

    /// When it became less.
    pub fn less(&self, threshold: f64) -> Option<Timestamp> {
        self.less.reaches(threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(scores: &[f64]) -> (Option<u64>, Option<u64>) {
        let mut change = Change::default();
        for (from, score) in (0..).zip(scores) {
            change.add(Timestamp::from_ns(from), *score, 5.0);
        }
        let ns = |at: Timestamp| at.as_ns();
        (change.more(5.0).map(ns), change.less(5.0).map(ns))
    }

    #[test]
    fn one_strange_block_is_no_change_and_three_are() {
        assert_eq!(play(&[0.0, 50.0, 0.0, 50.0, 0.0]), (None, None));
        assert_eq!(play(&[0.0, 50.0, 50.0, 50.0]), (Some(1), None));
        assert_eq!(play(&[0.0, -9.0, -9.0, -9.0]), (None, Some(1)));
        // Little, for long.
        assert_eq!(play(&[2.5; 10]), (Some(0), None));
        assert_eq!(play(&[1.4; 70]), (None, None));
    }
}
