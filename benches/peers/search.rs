//! The highest rate without loss, by bisection in bounded steps.

/// Halvings after the first guess.
const HALVINGS: u32 = 3;
/// Loss-free runs that an answer needs.
const CONFIRMED: u32 = 3;
/// Runs of one search at most.
const RUNS_MAX: u32 = 10;

/// One search.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// The best rate without loss so far, packets per second.
    low: u64,
    /// The worst rate with loss so far; `None` while not even the sender's best caused any.
    high: Option<u64>,
    /// Loss-free runs at `low`.
    confirmed: u32,
    runs: u32,
    halvings: u32,
    /// What the first run with loss sustained: the first guess.
    guess: Option<u64>,
    asked: Option<u64>,
}

/// What to try next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// As fast as the sender can.
    FlatOut,
    /// So many packets per second.
    Rate(u64),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Packets per second without loss.
    pub(crate) rate: u64,
    /// The sender could not send more: the true limit is higher.
    pub(crate) at_least: bool,
    /// Loss-free runs at that rate.
    pub(crate) confirmed: u32,
}

impl Search {
    /// The next run, `None` when the search is over.
    pub(crate) fn next(&mut self) -> Option<Probe> {
        if self.runs >= RUNS_MAX {
            return None;
        }
        let Some(high) = self.high else {
            return (self.confirmed < CONFIRMED).then_some(Probe::FlatOut);
        };
        let rate = if let Some(guess) = self.guess.take() {
            guess
        } else if self.halvings < HALVINGS || self.low == 0 {
            self.halvings += 1;
            u64::midpoint(self.low, high)
        } else if self.confirmed < CONFIRMED {
            self.low
        } else {
            return None;
        };
        self.asked = Some(rate);
        Some(Probe::Rate(rate))
    }

    /// What the run gave: packets per second offered, packets per second that reached the disk, and
    /// whether any was lost.
    pub(crate) fn note(&mut self, offered: u64, sustained: u64, lost: bool) {
        self.runs += 1;
        let rate = self.asked.take().unwrap_or(offered);
        match (lost, self.high) {
            (false, None) => {
                self.low = match self.low {
                    0 => rate,
                    low => low.min(rate),
                };
                self.confirmed += 1;
            }
            (true, None) => {
                (self.low, self.confirmed) = (0, 0);
                self.high = Some(offered);
                self.guess = Some(sustained.clamp(offered / 20, offered - offered / 20));
            }
            (false, Some(_)) if rate == self.low => self.confirmed += 1,
            (false, Some(_)) => (self.low, self.confirmed) = (rate, 1),
            // What was loss-free once is not: a step back.
            (true, Some(_)) if rate == self.low => {
                self.high = Some(rate);
                (self.low, self.confirmed) = (rate - rate / 10, 0);
            }
            (true, Some(high)) => self.high = Some(high.min(rate)),
        }
    }

    /// The answer, `None` when no run was without loss.
    pub(crate) fn found(&self) -> Option<Found> {
        (self.confirmed > 0).then_some(Found {
            rate: self.low,
            at_least: self.high.is_none(),
            confirmed: self.confirmed,
        })
    }
}
