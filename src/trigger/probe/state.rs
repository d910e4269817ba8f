//! When lost probes are a fault: so many of the last so many, told once until the path has been
//! good for as long.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// The memory of one probe. Outcomes come in the order in which the probes were sent.
#[derive(Debug, Clone)]
pub struct ProbeState {
    lost: usize,
    of: usize,
    recent: VecDeque<Outcome>,
    /// Replies in a row.
    good: usize,
    armed: bool,
}

/// What became of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When it was sent.
    pub sent: Timestamp,
    /// Whether its reply came in time.
    pub replied: bool,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// When the first of the lost probes was sent: the time of the event.
    pub first: Timestamp,
    /// Probes lost.
    pub lost: usize,
    /// Of how many.
    pub of: usize,
}

impl ProbeState {
    /// A fault is `lost` of the last `of` probes.
    pub fn new(lost: usize, of: usize) -> Self {
        Self {
            lost,
            of,
            recent: VecDeque::with_capacity(of),
            good: 0,
            armed: true,
        }
    }

    /// Takes in an outcome; a burst is returned once, then not again before `of` replies in a row.
    pub fn record(&mut self, outcome: Outcome) -> Option<Burst> {
        if self.recent.len() >= self.of {
            self.recent.pop_front();
        }
        self.recent.push_back(outcome);
        self.good = if outcome.replied { self.good + 1 } else { 0 };
        if self.good >= self.of {
            self.armed = true;
        }
        let burst = self.burst()?;
        (self.armed && burst.lost >= self.lost).then(|| {
            self.armed = false;
            burst
        })
    }

    /// The lost probes among the recent ones, `None` when there are none.
    pub fn burst(&self) -> Option<Burst> {
        let mut lost = self.recent.iter().filter(|outcome| !outcome.replied);
        let first = lost.next()?.sent;
        Some(Burst {
            first,
            lost: 1 + lost.count(),
            of: self.recent.len(),
        })
    }

    /// Whether the fault told last is not over yet.
    pub fn in_fault(&self) -> bool {
        !self.armed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `.` (reply) and `x` (lost), one a second; where bursts were told, with the second of
    /// the first lost probe.
    fn play(lost: usize, of: usize, outcomes: &str) -> Vec<(usize, u64)> {
        let mut state = ProbeState::new(lost, of);
        let step = |(second, outcome)| {
            let sent = Timestamp::from_ns(second as u64);
            let replied = outcome == '.';
            let burst = state.record(Outcome { sent, replied })?;
            Some((second, burst.first.as_ns()))
        };
        outcomes.chars().enumerate().filter_map(step).collect()
    }

    #[test]
    fn bursts() {
        for (outcomes, told) in [
            ("..........", vec![]),
            // Single losses, and two of five, are life.
            ("x....x....", vec![]),
            ("xx...xx...", vec![]),
            ("..xxx.....", vec![(4, 2)]),
            ("..x.x.x...", vec![(6, 2)]),
            ("xxx", vec![(2, 0)]),
            // A loss before the window does not count, nor does it set the time.
            ("x....x.xx", vec![(8, 5)]),
            // An outage is told once, however long.
            ("..xxxxxxxxxxxxxxx", vec![(4, 2)]),
            // Not told again before five replies in a row.
            ("xxx....xxx", vec![(2, 0)]),
            ("xxx.....xxx", vec![(2, 0), (10, 8)]),
            ("xxx....x.....xxx", vec![(2, 0), (15, 13)]),
        ] {
            assert_eq!(play(3, 5, outcomes), told, "{outcomes}");
        }
        assert_eq!(play(1, 1, ".x.x"), [(1, 1), (3, 3)]);
    }

    #[test]
    fn the_burst_counts_what_was_sent() {
        let mut state = ProbeState::new(2, 5);
        assert!(!state.in_fault());
        let lost = |ns| Outcome {
            sent: Timestamp::from_ns(ns),
            replied: false,
        };
        assert_eq!(state.record(lost(1)), None);
        let burst = state.record(lost(2)).unwrap();
        assert_eq!((burst.lost, burst.of), (2, 2));
        assert!(state.in_fault());
    }
}
