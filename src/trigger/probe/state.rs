//! When lost probes are a fault: so many of so many in a row, told once until the path has been
//! good for as long.
//!
//! Outcomes come in the order in which they are known: a refusal at once, a loss at its timeout.
//! What counts is the order of sending, and a loss counts as soon as it is known, whatever is
//! still under way before or after it.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// The memory of one probe.
#[derive(Debug, Clone)]
pub struct ProbeState {
    lost: usize,
    of: usize,
    /// In the order of sending, without what counts for nothing.
    recent: VecDeque<Entry>,
    /// Of the entries that are decided up to the first that is not: replies in a row.
    good: usize,
    /// Entries from this number on are not counted in `good` yet.
    counted: u64,
    armed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    sent: Timestamp,
    /// Whether its reply came; `None` while it is under way.
    replied: Option<bool>,
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
    /// A fault is `lost` of `of` probes in a row.
    pub fn new(lost: usize, of: usize) -> Self {
        Self {
            lost,
            of,
            recent: VecDeque::new(),
            good: 0,
            counted: 0,
            armed: true,
        }
    }

    /// A probe is under way. Numbers rise.
    pub fn sent(&mut self, seq: u64, at: Timestamp) {
        self.recent.push_back(Entry {
            seq,
            sent: at,
            replied: None,
        });
        // Twice `of`, and beside them whatever is still under way.
        while self.recent.len() > self.of.saturating_mul(2)
            && self
                .recent
                .front()
                .is_some_and(|entry| entry.replied.is_some() && entry.seq < self.counted)
        {
            self.recent.pop_front();
        }
    }

    /// What became of a probe; a burst is returned once, then not again before `of` replies in a
    /// row.
    pub fn decide(&mut self, seq: u64, replied: bool) -> Option<Burst> {
        let at = self.position(seq)?;
        if let Some(entry) = self.recent.get_mut(at) {
            entry.replied = Some(replied);
        }
        let burst = if replied { None } else { self.worst_around(at) };
        let told = burst.filter(|burst| self.armed && burst.lost >= self.lost);
        if told.is_some() {
            self.armed = false;
            self.good = 0;
        }
        self.count_good();
        told
    }

    /// It says nothing about the path (it was not sent, or nobody listened for its answer).
    pub fn forget(&mut self, seq: u64) {
        if let Some(at) = self.position(seq) {
            self.recent.remove(at);
            self.count_good();
        }
    }

    /// The lost probes among the last `of` whose fate is known, `None` when there are none.
    pub fn burst(&self) -> Option<Burst> {
        let known = self.recent.iter().rev();
        let known = known.filter_map(|entry| entry.replied.map(|replied| (entry.sent, replied)));
        let known: Vec<(Timestamp, bool)> = known.take(self.of).collect();
        let lost = known.iter().filter(|(_, replied)| !replied);
        let first = lost.clone().map(|(sent, _)| *sent).min()?;
        Some(Burst {
            first,
            lost: lost.count(),
            of: known.len(),
        })
    }

    /// Whether the fault told last is not over yet.
    pub fn in_fault(&self) -> bool {
        !self.armed
    }

    /// Whether the last `of` show so much loss that the path here is bad: two, or all there are,
    /// and a fifth of them.
    pub fn is_losing(&self) -> bool {
        self.burst().is_some_and(|burst| {
            burst.lost >= 2.min(self.lost) && burst.lost.saturating_mul(5) >= burst.of
        })
    }

    /// Whether the fate of any probe is known.
    pub fn knows(&self) -> bool {
        self.recent.iter().any(|entry| entry.replied.is_some())
    }

    fn position(&self, seq: u64) -> Option<usize> {
        self.recent
            .binary_search_by_key(&seq, |entry| entry.seq)
            .ok()
    }

    /// Of all spans of `of` probes in a row that hold the one at `at`, that with the most losses.
    fn worst_around(&self, at: usize) -> Option<Burst> {
        let begin = (at + 1).saturating_sub(self.of);
        let end = at.saturating_add(self.of).min(self.recent.len());
        let spans = (begin..=at).map(|from| (from, from.saturating_add(self.of).min(end)));
        let lost_before: Vec<usize> = self
            .recent
            .range(begin..end)
            .scan(0, |lost, entry| {
                *lost += usize::from(entry.replied == Some(false));
                Some(*lost)
            })
            .collect();
        let count = |from: usize, to: usize| {
            let until = |place: usize| match place.checked_sub(begin + 1) {
                Some(place) => lost_before.get(place).copied().unwrap_or(0),
                None => 0,
            };
            until(to) - until(from)
        };
        // Of equal ones the widest: `max_by_key` takes the last.
        let (from, to) = spans.rev().max_by_key(|&(from, to)| count(from, to))?;
        let mut lost = self
            .recent
            .range(from..to)
            .filter(|entry| entry.replied == Some(false));
        let known = self
            .recent
            .range(from..to)
            .filter(|entry| entry.replied.is_some());
        Some(Burst {
            first: lost.next()?.sent,
            lost: count(from, to),
            of: known.count(),
        })
    }

    /// Counts replies in a row, in the order of sending.
    fn count_good(&mut self) {
        let counted = self.counted;
        let fresh = self.recent.partition_point(|entry| entry.seq < counted);
        for entry in self.recent.range(fresh..) {
            match entry.replied {
                None => break,
                Some(true) => self.good += 1,
                Some(false) => self.good = 0,
            }
            self.counted = entry.seq + 1;
            if self.good >= self.of {
                self.armed = true;
            }
        }
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
            let seq = second as u64;
            state.sent(seq, Timestamp::from_ns(seq));
            let burst = state.decide(seq, outcome == '.')?;
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
        state.sent(0, Timestamp::from_ns(1));
        assert_eq!(state.decide(0, false), None);
        state.sent(1, Timestamp::from_ns(2));
        let burst = state.decide(1, false).unwrap();
        assert_eq!((burst.lost, burst.of), (2, 2));
        assert!(state.in_fault() && state.is_losing());
    }

    /// A timeout of ten intervals: replies to later probes are known before the losses are, and
    /// three losses in a row are three in a row all the same.
    #[test]
    fn the_order_of_sending_counts() {
        let mut state = ProbeState::new(3, 3);
        for seq in 0..20 {
            state.sent(seq, Timestamp::from_ns(seq));
        }
        for seq in (0..20).filter(|seq| !(5..8).contains(seq)) {
            assert_eq!(state.decide(seq, true), None);
        }
        assert_eq!(state.decide(7, false), None);
        assert_eq!(state.decide(5, false), None);
        let burst = state.decide(6, false).unwrap();
        assert_eq!((burst.first, burst.lost), (Timestamp::from_ns(5), 3));
        assert!(!state.in_fault(), "twelve replies came after it");
    }

    /// A refusal is known at once, while what was sent before it is still under way.
    #[test]
    fn what_is_under_way_delays_nothing() {
        let mut state = ProbeState::new(2, 3);
        for seq in 0..4 {
            state.sent(seq, Timestamp::from_ns(seq));
        }
        assert_eq!(state.decide(2, false), None);
        assert!(state.decide(3, false).is_some());
    }

    #[test]
    fn what_was_not_sent_counts_for_nothing() {
        let mut state = ProbeState::new(2, 2);
        for seq in 0..3 {
            state.sent(seq, Timestamp::from_ns(seq));
        }
        assert_eq!(state.decide(0, false), None);
        assert_eq!(state.decide(2, false), None);
        state.forget(1);
        assert_eq!(state.burst().unwrap().lost, 2);
    }

    #[test]
    fn memory_is_bounded() {
        let mut state = ProbeState::new(3, 5);
        for seq in 0..10_000 {
            state.sent(seq, Timestamp::from_ns(seq));
            state.decide(seq, seq % 2 == 0);
        }
        assert!(state.recent.len() <= 11);
    }
}
