//! Watchers beside each other on the same links: how soon each alarms, and how often for nothing.

use std::time::Duration;

use wirewitness::time::Timestamp;
use wirewitness::trigger::precursor::{
    Detector, Edge, Fate, Memory, Observation, PrecursorConfig, Sensitivity,
};

use super::links::{Kind, Link, Outcome, WEEK};
use super::rivals::{Doubled, Lost, Matcher, Smoke, Watcher};

/// Monday, 2026-11-16T00:00:00Z.
const MONDAY_NS: u64 = 1_794_787_200_000_000_000;
/// An alarm so long after an event still belongs to it, in seconds.
const GRACE: f64 = 1800.0;
/// The fault that a precursor must come before: so many lost of so many.
const FAULT: (usize, usize) = (3, 5);

/// The detector among the watchers.
pub(crate) struct Ours(Detector);

impl Ours {
    /// With the default settings but for the sensitivity.
    pub(crate) fn new(sensitivity: Sensitivity, interval: f64) -> Self {
        let config = PrecursorConfig {
            sensitivity,
            ..PrecursorConfig::default()
        };
        let interval = Duration::from_secs_f64(interval);
        Self(Detector::new(&config, interval, Memory::new()))
    }
}

impl Watcher for Ours {
    fn watch(&mut self, outcome: &Outcome) -> bool {
        let since = Duration::from_secs_f64(outcome.at);
        let fate = outcome.rtt_ms.map_or(Fate::Lost, |ms| Fate::Replied {
            rtt: Duration::from_secs_f64(ms / 1000.0),
            ttl: Some(outcome.ttl),
        });
        let signs = self.0.observe(&Observation {
            sent: Timestamp::from_ns(MONDAY_NS).plus(since),
            fate,
            icmp_error: None,
        });
        signs.iter().any(|sign| sign.edge == Edge::Raised)
    }
}

/// What is compared.
pub(crate) fn watchers(interval: f64) -> Vec<(&'static str, Box<dyn Watcher>)> {
    let ours = |sensitivity| -> Box<dyn Watcher> { Box::new(Ours::new(sensitivity, interval)) };
    let smoke = |matcher| -> Box<dyn Watcher> { Box::new(Smoke::new(matcher)) };
    vec![
        ("wirewitness, medium", ours(Sensitivity::Medium)),
        ("wirewitness, low", ours(Sensitivity::Low)),
        ("wirewitness, high", ours(Sensitivity::High)),
        ("3 lost in a row", Box::new(Lost::new(3))),
        ("RTT 2 x usual", Box::new(Doubled::new())),
        ("pattern, some loss", smoke(Matcher::SomeLoss)),
        ("pattern, loss begins", smoke(Matcher::LossBegins)),
        ("CheckLoss", smoke(Matcher::CheckLoss)),
        ("Median", smoke(Matcher::Median)),
        ("Avgratio", smoke(Matcher::AvgRatio)),
    ]
}

/// What one watcher did on the links of one kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Score {
    /// Alarms outside every event, in the first week and in the later ones.
    pub(crate) false_first: u32,
    pub(crate) false_later: u32,
    pub(crate) weeks_first: u32,
    pub(crate) weeks_later: u32,
    pub(crate) events: u32,
    /// Seconds from the beginning of each event that was noticed to its first alarm.
    pub(crate) delays: Vec<f64>,
    /// Events in which a fault came to pass.
    pub(crate) faults: u32,
    /// Of these, those with an alarm before the fault.
    pub(crate) before: u32,
    /// Seconds from the alarm to the fault.
    pub(crate) leads: Vec<f64>,
}

/// Plays `weeks` of one link to watchers; the score of each, in their order.
pub(crate) fn play(
    kind: Kind,
    seed: u64,
    weeks: u32,
    interval: f64,
    mut watchers: Vec<(&'static str, Box<dyn Watcher>)>,
) -> Vec<Score> {
    let names = watchers.len();
    let mut alarms: Vec<Vec<f64>> = vec![Vec::new(); names];
    let mut faults = Vec::new();
    let mut recent = [false; FAULT.1];
    let mut link = Link::new(kind, seed, weeks, interval);
    let end = f64::from(weeks) * WEEK;
    let events = link.events.clone();
    for number in 0.. {
        let Some(outcome) = link.next().filter(|outcome| outcome.at < end) else {
            break;
        };
        recent[number % FAULT.1] = outcome.rtt_ms.is_none();
        if recent.iter().filter(|lost| **lost).count() >= FAULT.0 {
            faults.push(outcome.at);
        }
        for (alarms, (_, watcher)) in alarms.iter_mut().zip(&mut watchers) {
            if watcher.watch(&outcome) {
                alarms.push(outcome.at);
            }
        }
    }
    let score = |alarms: &Vec<f64>| {
        let mut score = Score {
            weeks_first: 1,
            weeks_later: weeks - 1,
            ..Score::default()
        };
        let belongs = |at: f64| {
            events
                .iter()
                .any(|event| event.from <= at && at < event.to + GRACE)
        };
        for at in alarms.iter().filter(|at| !belongs(**at)) {
            if *at < WEEK {
                score.false_first += 1;
            } else {
                score.false_later += 1;
            }
        }
        for event in &events {
            score.events += 1;
            let within = |at: &&f64| event.from <= **at && **at < event.to;
            let alarm = alarms.iter().find(within);
            score.delays.extend(alarm.map(|at| at - event.from));
            if let Some(fault) = faults.iter().find(within) {
                score.faults += 1;
                if let Some(alarm) = alarm.filter(|alarm| *alarm < fault) {
                    score.before += 1;
                    score.leads.push(fault - alarm);
                }
            }
        }
        score
    };
    alarms.iter().map(score).collect()
}

impl Score {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.false_first += other.false_first;
        self.false_later += other.false_later;
        self.weeks_first += other.weeks_first;
        self.weeks_later += other.weeks_later;
        self.events += other.events;
        self.delays.extend(&other.delays);
        self.faults += other.faults;
        self.before += other.before;
        self.leads.extend(&other.leads);
    }

    /// False alarms per target and week once a week was seen.
    pub(crate) fn false_per_week(&self) -> f64 {
        f64::from(self.false_later) / f64::from(self.weeks_later.max(1))
    }

    /// False alarms in the first week of a target.
    pub(crate) fn false_in_first(&self) -> f64 {
        f64::from(self.false_first) / f64::from(self.weeks_first.max(1))
    }
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
