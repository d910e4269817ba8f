//! Simulated links, each a seeded series of probe outcomes together with the truth about it: when
//! something was wrong, and from when on it was a fault.
//!
//! All links share the ordinary life of a link: queueing that is skewed and lasts from second to
//! second, more of it by day than by night and on working days, rare single losses, spikes of a
//! few seconds several times a day.

use std::f64::consts::TAU;

/// Seconds of a day and of a week.
pub(crate) const DAY: f64 = 86_400.0;
pub(crate) const WEEK: f64 = 7.0 * DAY;

/// A generator of random numbers (SplitMix64: Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` to less than `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Exponentially distributed.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Normally distributed, by twelve evenly distributed ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// What kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A leased line, hardly any queueing.
    Quiet,
    /// Queueing follows the day and the working week.
    Diurnal,
    /// A backup fills the line for an hour every night, and twice a week somebody fills it by day.
    Bufferbloat,
    /// The path changes twice a week, for good or for hours.
    Rerouted,
    /// The target answers only so many echoes by day: losses that mean nothing.
    RateLimited,
    /// Twice a week, for ten minutes to an hour, the link goes away for seconds every few minutes.
    Flapping,
    /// Twice a week the link gets slowly worse, for 20 minutes to 6 hours, then fails.
    Degrading,
    /// Now and then the link is cut at once, for a minute to ten.
    Cut,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Quiet,
        Self::Diurnal,
        Self::Bufferbloat,
        Self::Rerouted,
        Self::RateLimited,
        Self::Flapping,
        Self::Degrading,
        Self::Cut,
    ];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "stable, quiet",
            Self::Diurnal => "diurnal load",
            Self::Bufferbloat => "bufferbloat",
            Self::Rerouted => "routing change",
            Self::RateLimited => "ICMP rate limit",
            Self::Flapping => "flapping",
            Self::Degrading => "slow degradation",
            Self::Cut => "cut at once",
        }
    }
}

/// Something that is wrong, in seconds from the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// What differs: 0 longer queues, 1 more loss, 2 both (of a degradation).
    flavour: u32,
    size: f64,
}

/// What became of one probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Seconds from the beginning.
    pub(crate) at: f64,
    /// The round trip in milliseconds; `None`: lost.
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) ttl: u8,
}

/// A link under way.
pub(crate) struct Link {
    kind: Kind,
    random: Random,
    base_ms: f64,
    queue_ms: f64,
    /// The slow part of the queueing, a logarithm.
    mood: f64,
    spike_until: f64,
    spike_ms: f64,
    pub(crate) events: Vec<Event>,
    at: f64,
    interval: f64,
    lost: u32,
}

impl Link {
    /// A link watched for `weeks` by a probe every `interval` seconds. Events come from the second
    /// week on, so that they do not depend on what the first teaches.
    pub(crate) fn new(kind: Kind, seed: u64, weeks: u32, interval: f64) -> Self {
        let mut random = Random::new(seed);
        let base_ms = 4.0 * random.unit().mul_add(3.0, 0.0).exp();
        let mut link = Self {
            kind,
            base_ms,
            queue_ms: random.between(0.05, 0.2) * base_ms,
            mood: 0.0,
            spike_until: 0.0,
            spike_ms: 0.0,
            events: Vec::new(),
            at: 0.0,
            interval,
            lost: 0,
            random,
        };
        for week in 1..weeks {
            for half in 0..2 {
                let event = link.event(f64::from(week) * WEEK + f64::from(half) * WEEK / 2.0);
                link.events.extend(event);
            }
        }
        link
    }

    /// An event of this kind of link in the half week from `start`.
    fn event(&mut self, start: f64) -> Option<Event> {
        let minutes = match self.kind {
            Kind::Quiet | Kind::Diurnal | Kind::RateLimited => return None,
            Kind::Rerouted => self.random.between(60.0, 360.0),
            Kind::Bufferbloat | Kind::Flapping => self.random.between(10.0, 60.0),
            Kind::Degrading => 20.0 * self.random.between(0.0, 18.0_f64.ln()).exp(),
            Kind::Cut => self.random.between(1.0, 10.0),
        };
        let from = start + self.random.between(0.0, WEEK / 2.0 - 12.0 * 3600.0);
        Some(Event {
            from,
            to: from + minutes * 60.0,
            flavour: (self.random.unit() * 3.0) as u32,
            size: self.random.unit(),
        })
    }

    /// The event under way and how much of it is over, 0 to 1.
    fn underway(&self) -> Option<(Event, f64)> {
        let event = self
            .events
            .iter()
            .find(|event| event.from <= self.at && self.at < event.to)?;
        Some((*event, (self.at - event.from) / (event.to - event.from)))
    }

    /// How busy it is, 0 to 1: most at 14:00 of working days. The beginning is a Monday.
    fn load(&self) -> f64 {
        let day = (self.at / DAY) as u32 % 7;
        let hour = self.at % DAY / 3600.0;
        let swing = 0.5 - 0.5 * ((hour - 2.0) / 24.0 * TAU).cos();
        swing * if day < 5 { 1.0 } else { 0.4 }
    }
}

impl Iterator for Link {
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        let at = self.at;
        let hour = at % DAY / 3600.0;
        let event = self.underway();
        let random = &mut self.random;
        // The mood wanders within minutes: e-folding time five minutes.
        let keep = (-self.interval / 300.0).exp();
        self.mood = self.mood * keep + random.normal() * 0.35 * (1.0 - keep * keep).sqrt();
        if random.unit() < self.interval / (DAY / 6.0) {
            self.spike_until = at + random.between(1.0, 12.0);
            self.spike_ms = random.between(20.0, 300.0);
        }
        let load = self.load();
        let random = &mut self.random;
        let busy = match self.kind {
            Kind::Quiet => 0.2,
            Kind::Diurnal => 0.2 + 8.0 * load,
            _ => 0.2 + 2.0 * load,
        };
        let mut queue = self.queue_ms * busy * self.mood.exp();
        let mut base = self.base_ms;
        let mut loss = if self.kind == Kind::Quiet {
            0.000_02
        } else {
            0.000_3 * (0.3 + load)
        };
        let mut ttl = 57;
        if self.kind == Kind::Bufferbloat && (2.0..3.0).contains(&hour) {
            queue += 60.0;
            loss += 0.003;
        }
        if self.kind == Kind::RateLimited && (8.0..18.0).contains(&hour) {
            loss += 0.08;
        }
        if let Some((event, part)) = event {
            match self.kind {
                Kind::Bufferbloat => {
                    queue += 40.0 + 200.0 * event.size;
                    loss += 0.005;
                }
                Kind::Rerouted => {
                    base *= 1.6 + event.size;
                    ttl -= 2;
                }
                Kind::Flapping => {
                    // Away for 1 to 5 seconds of every two minutes.
                    let gap = 1.0 + 4.0 * event.size;
                    if (at - event.from) % 120.0 < gap {
                        loss = 1.0;
                    }
                }
                Kind::Degrading => {
                    // Dirty optics, a dying radio link, a queue that never empties.
                    if event.flavour != 1 {
                        queue += self.base_ms.max(8.0) * 3.0 * (1.0 + event.size) * part * part;
                    }
                    let worst = if event.flavour == 0 { 0.03 } else { 0.2 };
                    loss += worst * part.powi(3);
                    if part > 0.97 {
                        loss = 0.7;
                    }
                }
                Kind::Cut => loss = 1.0,
                Kind::Quiet | Kind::Diurnal | Kind::RateLimited => {}
            }
        }
        if at < self.spike_until {
            queue += self.spike_ms;
        }
        // Losses come in pairs now and then.
        let again = if self.lost == 1 { 0.2 } else { 0.0 };
        let away = random.unit() < loss.max(again);
        self.lost = if away { self.lost + 1 } else { 0 };
        let rtt = base + random.exponential(queue) + random.unit() * 0.1;
        self.at += self.interval;
        Some(Outcome {
            at,
            rtt_ms: (!away).then_some(rtt),
            ttl,
        })
    }
}
