//! What of an interface's accounting was not handed to the keeper yet. Pure: time and counters are
//! arguments.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Discipline, Moment, Steps};
use crate::counters::Counters;
use crate::time::{Timestamp, Window};

/// A span in which nothing happened is one line of at most this length.
const QUIET_MAX: Duration = Duration::from_mins(1);

/// One line: what happened to an interface's packets over a second, or over the longer span in
/// which nothing did or no line could be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// The end of the line before.
    pub from: Timestamp,
    /// When the counters were taken; before `from` when the clock was set back.
    pub to: Timestamp,
    /// What was added to each counter.
    #[serde(flatten)]
    pub counters: Counters,
    /// The longest time without a packet that ended, or lasted, within the span.
    pub longest_gap_ns: u64,
    /// The clock at `to`.
    pub clock: Clock,
}

impl Second {
    /// The span, whichever way the clock went.
    pub fn window(&self) -> Window {
        Window::new(self.from.min(self.to), self.from.max(self.to))
    }

    /// Both spans as one.
    pub(super) fn then(self, next: &Self) -> Self {
        let step = self.clock.step_ns.unwrap_or(0) + next.clock.step_ns.unwrap_or(0);
        Self {
            from: self.from,
            to: next.to,
            counters: self.counters.plus(&next.counters),
            longest_gap_ns: self.longest_gap_ns.max(next.longest_gap_ns),
            clock: Clock {
                step_ns: (step != 0).then_some(step),
                ..next.clock
            },
        }
    }
}

/// From the last line to now.
#[derive(Debug, Default)]
pub struct Ledger {
    from: Timestamp,
    /// The counters up to the last line.
    told: Counters,
    longest_gap_ns: u64,
    /// The time and the clock as last read.
    now: Timestamp,
    clock: Clock,
    synchronised: bool,
    steps: Steps,
}

impl Ledger {
    /// Recording begins (again): the time before is in no line, it is a gap's. What was counted and
    /// not told yet stays.
    pub fn begin(&mut self, at: Timestamp, counters: &Counters) {
        if self.told == *counters {
            self.from = at;
        }
        self.now = at;
    }

    /// The clock was read.
    pub fn read(&mut self, moment: &Moment, kernel: Option<Discipline>) {
        let step = self.steps.observe(moment).map(|step| step.step_ns);
        let step_ns = match (self.clock.step_ns, step) {
            (Some(before), Some(step)) => Some(before + step),
            (before, step) => before.or(step),
        };
        self.now = moment.at;
        self.clock = Clock {
            kernel,
            boottime_offset_ns: moment.boottime_offset_ns,
            raw_offset_ns: moment.raw_offset_ns,
            step_ns,
        };
    }

    /// The clock as last read.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// There was no packet for that long.
    pub fn gap(&mut self, ns: u64) {
        self.longest_gap_ns = self.longest_gap_ns.max(ns);
    }

    /// The line up to the last reading of the clock; `None` when there is nothing to say yet, which
    /// `all` does not accept.
    pub fn line(&self, counters: &Counters, all: bool) -> Option<Second> {
        let news = *counters != self.told
            || self.clock.step_ns.is_some()
            || self.synchronised() != self.synchronised
            || self.now.since(self.from) >= QUIET_MAX;
        (self.now != self.from && (news || all)).then(|| Second {
            from: self.from,
            to: self.now,
            counters: counters.since(&self.told),
            longest_gap_ns: self.longest_gap_ns,
            clock: self.clock,
        })
    }

    /// The line was handed on.
    pub fn told(&mut self, counters: &Counters) {
        self.from = self.now;
        self.told = *counters;
        self.longest_gap_ns = 0;
        self.clock.step_ns = None;
        self.synchronised = self.synchronised();
    }

    fn synchronised(&self) -> bool {
        self.clock.kernel.is_some_and(|kernel| kernel.synchronised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(received: u64) -> Counters {
        Counters {
            received,
            ..Counters::default()
        }
    }

    fn moment(second: u64, offset: i64) -> Moment {
        Moment {
            at: Timestamp::from_ns(second * 1_000_000_000),
            boottime_offset_ns: offset,
            raw_offset_ns: 0,
            uncertainty_ns: 1,
        }
    }

    #[test]
    fn what_was_not_handed_on_is_in_the_next_line() {
        let mut ledger = Ledger::default();
        ledger.begin(moment(1, 0).at, &counters(0));
        ledger.read(&moment(1, 0), None);
        ledger.read(&moment(2, 5_000_000), None);
        ledger.gap(9);
        assert_eq!(
            ledger.line(&counters(3), false).unwrap().counters,
            counters(3)
        );
        // The channel was full: nothing was told.
        ledger.gap(4);
        ledger.read(&moment(3, 12_000_000), None);
        let line = ledger.line(&counters(10), false).unwrap();
        assert_eq!((line.from, line.to), (moment(1, 0).at, moment(3, 0).at));
        assert_eq!((line.counters, line.longest_gap_ns), (counters(10), 9));
        assert_eq!(line.clock.step_ns, Some(12_000_000));
        ledger.told(&counters(10));
        ledger.read(&moment(4, 12_000_000), None);
        assert_eq!(ledger.line(&counters(10), false), None);
        let line = ledger.line(&counters(10), true).unwrap();
        assert_eq!((line.longest_gap_ns, line.clock.step_ns), (0, None));
    }

    #[test]
    fn a_minute_of_silence_is_one_line() {
        let mut ledger = Ledger::default();
        ledger.begin(moment(100, 0).at, &counters(0));
        let mut lines = 0;
        for second in 101..=220 {
            ledger.read(&moment(second, 0), None);
            if ledger.line(&counters(0), false).is_some() {
                ledger.told(&counters(0));
                lines += 1;
            }
        }
        assert_eq!(lines, 2);
    }

    #[test]
    fn time_without_recording_is_in_no_line() {
        let mut ledger = Ledger::default();
        ledger.begin(moment(10, 0).at, &counters(0));
        ledger.read(&moment(11, 0), None);
        ledger.told(&counters(5));
        ledger.begin(moment(50, 0).at, &counters(5));
        ledger.read(&moment(51, 0), None);
        let line = ledger.line(&counters(6), false).unwrap();
        assert_eq!((line.from, line.counters), (moment(50, 0).at, counters(1)));
    }
}
