//! What else is used to notice: fixed thresholds, and matchers over rounds of pings in the manner
//! of SmokePing, written anew after what its manual says they do.

use std::collections::VecDeque;

use super::links::Outcome;

/// Tells when it starts to alarm.
pub(crate) trait Watcher {
    /// Takes in a probe; whether an alarm begins with it.
    fn watch(&mut self, outcome: &Outcome) -> bool;
}

/// So many lost in a row.
pub(crate) struct Lost {
    pub(crate) in_a_row: u32,
    row: u32,
}

impl Lost {
    pub(crate) fn new(in_a_row: u32) -> Self {
        Self { in_a_row, row: 0 }
    }
}

impl Watcher for Lost {
    fn watch(&mut self, outcome: &Outcome) -> bool {
        self.row = if outcome.rtt_ms.is_none() {
            self.row + 1
        } else {
            0
        };
        self.row == self.in_a_row
    }
}

/// The median of the last 20 above twice the median of the first day.
pub(crate) struct Doubled {
    first: Vec<f64>,
    usual: Option<f64>,
    recent: VecDeque<f64>,
    alarming: bool,
}

impl Doubled {
    pub(crate) fn new() -> Self {
        Self {
            first: Vec::new(),
            usual: None,
            recent: VecDeque::new(),
            alarming: false,
        }
    }
}

impl Watcher for Doubled {
    fn watch(&mut self, outcome: &Outcome) -> bool {
        let Some(rtt) = outcome.rtt_ms else {
            return false;
        };
        let Some(usual) = self.usual else {
            self.first.push(rtt);
            if outcome.at >= super::links::DAY {
                self.usual = median(self.first.drain(..));
            }
            return false;
        };
        self.recent.push_back(rtt);
        if self.recent.len() > 20 {
            self.recent.pop_front();
        }
        let now = median(self.recent.iter().copied()).unwrap_or(usual);
        let alarming = now > usual * if self.alarming { 1.5 } else { 2.0 };
        let begins = alarming && !self.alarming;
        self.alarming = alarming;
        begins
    }
}

/// The round of 20 pings every five minutes that the matchers look at.
struct Round {
    loss: f64,
    median_ms: Option<f64>,
}

/// How a matcher judges the rounds, the newest last.
#[derive(Clone, Copy)]
pub(crate) enum Matcher {
    /// `>0%,*12*,>0%,*12*,>0%`: three rounds with loss, at most twelve others between two.
    SomeLoss,
    /// `==0%,==0%,==0%,==0%,>0%,>0%,>0%`: loss begins and stays.
    LossBegins,
    /// CheckLoss: more than 10 % in each of three rounds.
    CheckLoss,
    /// Median: that of three rounds more than a third above that of the twelve before.
    Median,
    /// Avgratio: the average of two rounds more than 150 % of that of the twenty before.
    AvgRatio,
}

/// One matcher at work.
pub(crate) struct Smoke {
    matcher: Matcher,
    started: f64,
    rtts: Vec<f64>,
    sent: u32,
    rounds: VecDeque<Round>,
    alarming: bool,
}

const ROUND_SECONDS: f64 = 300.0;
const PINGS: u32 = 20;
const ROUNDS: usize = 30;

impl Smoke {
    pub(crate) fn new(matcher: Matcher) -> Self {
        Self {
            matcher,
            started: 0.0,
            rtts: Vec::new(),
            sent: 0,
            rounds: VecDeque::new(),
            alarming: false,
        }
    }

    fn matches(&self) -> bool {
        let rounds = &self.rounds;
        let loses = |round: &Round| round.loss > 0.0;
        let newest = |skip: usize, count: usize| {
            let values = rounds.iter().rev().skip(skip).take(count);
            values
                .filter_map(|round| round.median_ms)
                .collect::<Vec<_>>()
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        match self.matcher {
            Matcher::SomeLoss => {
                let back: Vec<usize> = (0..)
                    .zip(rounds.iter().rev())
                    .filter(|(_, round)| loses(round))
                    .map(|(place, _)| place)
                    .take(3)
                    .collect();
                matches!(back[..], [0, second, third] if second <= 13 && third - second <= 13)
            }
            Matcher::LossBegins => {
                rounds.len() >= 7
                    && rounds.iter().rev().take(3).all(loses)
                    && !rounds.iter().rev().skip(3).take(4).any(loses)
            }
            Matcher::CheckLoss => {
                rounds.len() >= 3 && rounds.iter().rev().take(3).all(|round| round.loss > 0.1)
            }
            Matcher::Median => {
                let (new, old) = (newest(0, 3), newest(3, 12));
                let both = median(new.into_iter()).zip(median(old.into_iter()));
                rounds.len() >= 15 && both.is_some_and(|(new, old)| new > old * 4.0 / 3.0)
            }
            Matcher::AvgRatio => {
                let (new, old) = (newest(0, 2), newest(2, 20));
                rounds.len() >= 22 && !new.is_empty() && mean(&new) > mean(&old) * 1.5
            }
        }
    }
}

impl Watcher for Smoke {
    fn watch(&mut self, outcome: &Outcome) -> bool {
        if outcome.at - self.started >= ROUND_SECONDS {
            self.started = outcome.at - outcome.at % ROUND_SECONDS;
            (self.sent, self.rtts) = (0, Vec::new());
        }
        if self.sent >= PINGS {
            return false;
        }
        self.sent += 1;
        self.rtts.extend(outcome.rtt_ms);
        if self.sent < PINGS {
            return false;
        }
        let loss = 1.0 - self.rtts.len() as f64 / f64::from(PINGS);
        let median_ms = median(self.rtts.drain(..));
        self.rounds.push_back(Round { loss, median_ms });
        if self.rounds.len() > ROUNDS {
            self.rounds.pop_front();
        }
        let alarming = self.matches();
        let begins = alarming && !self.alarming;
        self.alarming = alarming;
        begins
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
