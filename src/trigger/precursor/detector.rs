//! One target: all that watches it, put together.

use std::time::Duration;

use crate::time::Timestamp;

use super::baseline::{self, Compared};
use super::block::{Block, Gatherer};
use super::change::Change;
use super::config::{PrecursorConfig, Sensitivity};
use super::hops::Hops;
use super::hysteresis::Hysteresis;
use super::icmp::Errors;
use super::loss;
use super::losses::Losses;
use super::memory::Memory;
use super::seasonal::Pace;
use super::sign::{Edge, Fate, Observation, Sign, SignKind};

/// Added to every figure before its logarithm: below it nothing matters.
const FIGURE_MS: f64 = 0.3;
/// The smallest rise of the median round trip and of its spread that matters, in milliseconds.
const LEVEL_RISE_MS: f64 = 1.0;
const SPREAD_RISE_MS: f64 = 3.0;
/// The smallest standard deviation believed, as a logarithm.
const LEVEL_FLOOR: f64 = 0.04;
const SPREAD_FLOOR: f64 = 0.3;
/// A spread needs so many times the evidence of a level: it is the noisier figure.
const SPREAD_EVIDENCE: f64 = 1.6;
/// A fall needs so many times the evidence of a rise: it is rarely bad news.
const FALL_EVIDENCE: f64 = 4.0;
/// The share of a new block in the smoothed difference.
const SMOOTH: f64 = 0.15;
/// Calm blocks until a sign of round trips is over.
const CALM_BLOCKS: u32 = 12;
/// What differs for so long is the new usual.
const NEW_USUAL: Duration = Duration::from_hours(4);
/// Until every hour of the week was seen once, what came once at a time of day is no news; then what
/// came twice in three days.
const YOUNG: Duration = Duration::from_hours(8 * 24);
/// Nothing sent for so many intervals: what was collected is worth nothing.
const GAP_INTERVALS: u32 = 20;

/// Watches the path to one target.
#[derive(Debug, Clone)]
pub struct Detector {
    sensitivity: Sensitivity,
    interval: Duration,
    pace: Pace,
    warm_up_blocks: u64,
    young_blocks: u64,
    memory: Memory,
    gatherer: Gatherer,
    level: Watch,
    spread: Watch,
    losses: Losses,
    usual_loss: f64,
    last_sent: Option<Timestamp>,
    hops: Hops,
    errors: Errors,
}

/// What is collected about one figure of blocks.
#[derive(Debug, Clone)]
struct Watch {
    change: Change,
    /// The smoothed difference from the usual, a logarithm.
    above: f64,
    /// The part of it that the last days did not show at this time.
    news: f64,
    sign: Hysteresis,
}

impl Watch {
    fn new() -> Self {
        Self {
            change: Change::default(),
            above: 0.0,
            news: 0.0,
            sign: Hysteresis::new(CALM_BLOCKS),
        }
    }

    /// Takes in a block, beside what is usual and beside the last days.
    fn add(&mut self, from: Timestamp, compared: Compared, news: Compared, cap: f64) {
        self.above += SMOOTH * (compared.above - self.above);
        self.news += SMOOTH * (news.above - self.news);
        self.change.add(from, news.score, cap);
    }

    /// What stands for long is usual from now on; by how much it differed.
    fn settle(&mut self, at: Timestamp) -> Option<f64> {
        let since = self.sign.since()?;
        if at.since(since) <= NEW_USUAL {
            return None;
        }
        (self.change, self.news) = (Change::default(), 0.0);
        Some(std::mem::take(&mut self.above))
    }

    /// Whether it is far from usual, told or no news.
    fn differs(&self, least: f64, ready: bool) -> bool {
        self.sign.since().is_some() || ready && self.above >= least
    }
}

impl Detector {
    /// Watches a target that is probed every `interval`; `memory` is what is known of it.
    pub fn new(config: &PrecursorConfig, interval: Duration, memory: Memory) -> Self {
        let gatherer = Gatherer::new(interval);
        let span = interval.saturating_mul(gatherer.probes_each());
        let blocks = |time: Duration| {
            let blocks = time.as_nanos() / span.as_nanos().max(1);
            u64::try_from(blocks).unwrap_or(u64::MAX)
        };
        Self {
            sensitivity: config.sensitivity,
            interval,
            pace: baseline::pace(span),
            warm_up_blocks: blocks(config.warm_up).max(30),
            young_blocks: blocks(YOUNG),
            memory,
            gatherer,
            level: Watch::new(),
            spread: Watch::new(),
            losses: Losses::new(loss::threshold(
                interval,
                config.sensitivity.chance_per_week(),
            )),
            usual_loss: 0.0,
            last_sent: None,
            hops: Hops::new(),
            errors: Errors::new(),
        }
    }

    /// What is known of the target, to be saved.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the warm-up is over.
    pub const fn is_ready(&self) -> bool {
        self.memory.blocks >= self.warm_up_blocks
    }

    /// On how many of the last days something must have come at this time to be no news.
    const fn days_needed(&self) -> usize {
        if self.memory.blocks < self.young_blocks {
            1
        } else {
            2
        }
    }

    /// Takes in what was learned about a probe; the signs that begin or end with it.
    pub fn observe(&mut self, seen: &Observation) -> Vec<Sign> {
        let mut signs = Vec::new();
        let (sent, ready) = (seen.sent, self.is_ready());
        let said = self
            .errors
            .add(&mut self.memory.errors, sent, seen.icmp_error, ready);
        signs.extend(
            said.into_iter()
                .map(|told| Sign::new(SignKind::IcmpError, sent, told)),
        );
        let rtt = match seen.fate {
            Fate::Unknown => return signs,
            Fate::Lost => None,
            Fate::Replied { rtt, ttl } => {
                let told =
                    ttl.and_then(|ttl| self.hops.add(&mut self.memory.hops, sent, ttl, ready));
                signs.extend(told.map(|told| Sign::new(SignKind::Hops, sent, told)));
                Some(rtt)
            }
        };
        self.mind_gap(sent);
        let lost = rtt.is_none();
        signs.extend(self.losses.add(sent, lost, self.usual_loss, ready));
        if let Some(block) = self.gatherer.add(sent, rtt) {
            self.observe_block(&block, &mut signs);
        }
        signs
    }

    /// After a pause what was collected before it is worth nothing.
    fn mind_gap(&mut self, sent: Timestamp) {
        let gap = self.interval.saturating_mul(GAP_INTERVALS);
        if self.last_sent.is_some_and(|last| sent.since(last) > gap) {
            self.gatherer.reset();
            self.level.change = Change::default();
            self.spread.change = Change::default();
            self.losses.forget();
        }
        self.last_sent = self.last_sent.max(Some(sent));
    }

    fn observe_block(&mut self, block: &Block, signs: &mut Vec<Sign>) {
        let (at, pace) = (block.from, self.pace);
        let on = self.days_needed();
        let usual = self.memory.loss.usual(at, pace).value;
        let seen = self.memory.days.loss.highest_mean(at, on);
        self.usual_loss = usual.max(seen.unwrap_or_default()).clamp(0.0, 1.0);
        // An outage is a failure and no habit: the day after, losses at its time are news.
        if block.lost < 1.0 {
            self.memory.loss.learn(at, block.lost, 1.0, pace, false);
            self.memory.days.loss.learn(at, block.lost);
        }
        self.memory.blocks = self.memory.blocks.saturating_add(1);
        self.memory.last = block.to;
        let Some((median, spread)) = block.rtt_ms else {
            return;
        };
        signs.extend(self.observe_level(block, median, on));
        signs.extend(self.observe_spread(block, spread, on));
        let ready = self.is_ready();
        let frozen = self
            .level
            .differs(self.sensitivity.level_ratio().ln(), ready)
            || self
                .spread
                .differs(self.sensitivity.spread_ratio().ln(), ready);
        self.memory.level.learn(at, figure(median), pace, frozen);
        self.memory.spread.learn(at, figure(spread), pace, frozen);
    }

    fn observe_level(&mut self, block: &Block, median: f64, on: usize) -> Option<Sign> {
        let (at, baseline) = (block.from, &self.memory.level);
        let compared = baseline.compare(at, figure(median), LEVEL_FLOOR, self.pace);
        let (ready, enough) = (self.is_ready(), self.sensitivity.evidence());
        let least = self.sensitivity.level_ratio().ln();
        let watch = &mut self.level;
        let days = &mut self.memory.days.level;
        let news = compared.beyond(days.highest(at, on));
        watch.add(at, compared, news, enough * FALL_EVIDENCE);
        let now = compared.usual + watch.above;
        days.learn(at, now);
        let (now_ms, usual_ms) = (milliseconds(now), milliseconds(compared.usual));
        let matters = watch.news.abs() >= least && (now_ms - usual_ms).abs() >= LEVEL_RISE_MS;
        let change = watch.change.more(enough).filter(|_| watch.news > 0.0);
        let change = change.or(watch.change.less(enough * FALL_EVIDENCE));
        let alarm = change.filter(|_| matters && ready);
        let calm = watch.above.abs() < least * 0.6 || (now_ms - usual_ms).abs() < LEVEL_RISE_MS;
        let told = watch.sign.step(block.to, alarm, calm);
        if let Some(above) = watch.settle(block.to) {
            self.memory.level.rebase(above);
        }
        let (edge, since) = told?;
        let text = match edge {
            Edge::Raised => describe("RTT median", now_ms, usual_ms, block.to.since(since)),
            Edge::Cleared => format!("RTT median {now_ms:.1} ms is usual"),
        };
        Some(Sign::new(SignKind::RttLevel, block.to, (edge, since, text)))
    }

    fn observe_spread(&mut self, block: &Block, spread: f64, on: usize) -> Option<Sign> {
        let (at, baseline) = (block.from, &self.memory.spread);
        let compared = baseline.compare(at, figure(spread), SPREAD_FLOOR, self.pace);
        let ready = self.is_ready();
        let enough = self.sensitivity.evidence() * SPREAD_EVIDENCE;
        let least = self.sensitivity.spread_ratio().ln();
        let watch = &mut self.spread;
        let days = &mut self.memory.days.spread;
        let news = compared.beyond(days.highest(at, on));
        watch.add(at, compared, news, enough);
        let now = compared.usual + watch.above;
        days.learn(at, now);
        let (now_ms, usual_ms) = (milliseconds(now), milliseconds(compared.usual));
        let matters = watch.news >= least && now_ms - usual_ms >= SPREAD_RISE_MS;
        let alarm = watch.change.more(enough).filter(|_| matters && ready);
        let calm = watch.above < least * 0.6;
        let told = watch.sign.step(block.to, alarm, calm);
        if let Some(above) = watch.settle(block.to) {
            self.memory.spread.rebase(above);
        }
        let (edge, since) = told?;
        let text = match edge {
            Edge::Raised => describe("RTT spread", now_ms, usual_ms, block.to.since(since)),
            Edge::Cleared => format!("RTT spread {now_ms:.1} ms is usual"),
        };
        Some(Sign::new(
            SignKind::RttSpread,
            block.to,
            (edge, since, text),
        ))
    }
}

/// A span of milliseconds as the logarithm that is compared.
fn figure(ms: f64) -> f64 {
    (ms.max(0.0) + FIGURE_MS).ln()
}

/// Back from the logarithm.
fn milliseconds(figure: f64) -> f64 {
    (figure.exp() - FIGURE_MS).max(0.0)
}

fn describe(what: &str, now_ms: f64, usual_ms: f64, span: Duration) -> String {
    let span = humantime::format_duration(Duration::from_secs(span.as_secs()));
    format!("{what} {now_ms:.1} ms, usual {usual_ms:.1} ms at this hour, for {span}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A path that answers in 12 ms, give or take 1, for `seconds`.
    struct Path {
        detector: Detector,
        at: Timestamp,
        noise: u64,
    }

    impl Path {
        fn new() -> Self {
            let config = PrecursorConfig {
                warm_up: Duration::from_mins(30),
                ..PrecursorConfig::default()
            };
            Self {
                detector: Detector::new(&config, SECOND, Memory::new()),
                at: Timestamp::from_ns(1_795_305_600_000_000_000),
                noise: 1,
            }
        }

        fn noise(&mut self) -> f64 {
            self.noise = self
                .noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.noise >> 40) as f64 / f64::from(1 << 24)
        }

        /// Sends a probe every second; `rtt` makes of the second and a noise from 0 to 1 the
        /// milliseconds, or a loss.
        fn play(&mut self, seconds: u32, rtt: impl Fn(u32, f64) -> Option<f64>) -> Vec<Sign> {
            let mut signs = Vec::new();
            for second in 0..seconds {
                let noise = self.noise();
                let fate = rtt(second, noise).map_or(Fate::Lost, |ms| Fate::Replied {
                    rtt: Duration::from_secs_f64(ms / 1000.0),
                    ttl: Some(59),
                });
                let seen = Observation {
                    sent: self.at,
                    fate,
                    icmp_error: None,
                };
                signs.extend(self.detector.observe(&seen));
                self.at = self.at.plus(SECOND);
            }
            signs
        }

        fn quiet(&mut self, seconds: u32) -> Vec<Sign> {
            self.play(seconds, |_, noise| Some(11.0 + 2.0 * noise))
        }
    }

    fn kinds(signs: &[Sign]) -> Vec<(SignKind, Edge)> {
        signs.iter().map(|sign| (sign.kind, sign.edge)).collect()
    }

    #[test]
    fn a_longer_round_trip_is_told_with_its_beginning_and_its_end() {
        let mut path = Path::new();
        assert_eq!(path.quiet(7200), []);
        let began = path.at;
        let signs = path.play(120, |_, noise| Some(40.0 + 2.0 * noise));
        assert_eq!(kinds(&signs), [(SignKind::RttLevel, Edge::Raised)]);
        let sign = &signs[0];
        assert!(sign.since >= began.minus(SECOND * 10) && sign.since <= began.plus(SECOND * 10));
        assert!(sign.at <= began.plus(SECOND * 120), "{sign:?}");
        assert!(
            sign.text.starts_with("RTT median ") && sign.text.contains("usual 12."),
            "{sign:?}"
        );
        let signs = path.quiet(600);
        assert_eq!(kinds(&signs), [(SignKind::RttLevel, Edge::Cleared)]);
    }

    #[test]
    fn there_is_no_sign_before_the_warm_up_is_over() {
        let mut path = Path::new();
        path.quiet(900);
        assert_eq!(path.play(120, |_, _| Some(90.0)), []);
        assert!(!path.detector.is_ready());
    }

    #[test]
    fn spread_without_level() {
        let mut path = Path::new();
        path.quiet(7200);
        let signs = path.play(300, |second, noise| {
            let far = second % 4 == 0;
            Some(if far {
                30.0 + 30.0 * noise
            } else {
                11.0 + 2.0 * noise
            })
        });
        assert_eq!(kinds(&signs), [(SignKind::RttSpread, Edge::Raised)]);
    }

    #[test]
    fn single_losses_are_nothing_more_of_them_a_trend_and_together_a_burst() {
        let mut path = Path::new();
        let losing = |every: u32| {
            move |second: u32, noise: f64| {
                (second % every != 7 % every).then_some(11.0 + 2.0 * noise)
            }
        };
        path.quiet(7200);
        assert_eq!(path.play(7200, losing(1200)), []);
        let signs = path.play(900, losing(40));
        assert_eq!(kinds(&signs), [(SignKind::LossTrend, Edge::Raised)]);
        let mut path = Path::new();
        path.quiet(7200);
        let signs = path.play(40, losing(5));
        assert_eq!(kinds(&signs)[0], (SignKind::LossBurst, Edge::Raised));
        assert!(
            signs[0].text.contains("probes lost, usual 0.0 %"),
            "{}",
            signs[0].text
        );
    }

    #[test]
    fn a_link_that_goes_away_for_two_seconds_over_and_over_is_told() {
        let mut path = Path::new();
        path.quiet(50 * 3600);
        let signs = path.play(1200, |second, noise| {
            (second % 120 > 1).then_some(11.0 + 2.0 * noise)
        });
        assert_eq!(kinds(&signs)[..1], [(SignKind::LossTrend, Edge::Raised)]);
        let sign = &signs[0];
        assert!(sign.text.contains(" gaps of two or more in "), "{sign:?}");
        assert!(
            sign.at.since(sign.since) < Duration::from_mins(15),
            "{sign:?}"
        );
    }

    #[test]
    fn a_few_strange_seconds_are_nothing() {
        let mut path = Path::new();
        path.quiet(7200);
        for _ in 0..10 {
            assert_eq!(path.play(12, |_, _| Some(200.0)), []);
            assert_eq!(path.quiet(300), []);
        }
    }

    #[test]
    fn what_lasts_becomes_usual() {
        let mut path = Path::new();
        path.quiet(7200);
        let signs = path.play(6 * 3600, |_, noise| Some(30.0 + 2.0 * noise));
        let level = (SignKind::RttLevel, Edge::Raised);
        assert_eq!(kinds(&signs), [level, (SignKind::RttLevel, Edge::Cleared)]);
    }

    #[test]
    fn what_comes_every_night_is_told_once() {
        let mut path = Path::new();
        let night = |path: &mut Path| {
            path.quiet(22 * 3600);
            path.play(3600, |_, noise| Some(70.0 + 10.0 * noise))
        };
        let level = (SignKind::RttLevel, Edge::Raised);
        assert_eq!(kinds(&night(&mut path))[..1], [level]);
        for _ in 0..3 {
            path.quiet(3600);
            assert_eq!(night(&mut path), []);
        }
        path.quiet(3600);
        path.quiet(22 * 3600);
        let worse = path.play(3600, |_, noise| Some(300.0 + 20.0 * noise));
        assert_eq!(kinds(&worse)[..1], [level], "more than any night before");
    }

    #[test]
    fn losses_of_every_day_are_told_once() {
        let mut path = Path::new();
        let day = |path: &mut Path| {
            path.quiet(14 * 3600);
            path.play(10 * 3600, |second, noise| {
                (second % 12 != 5).then_some(11.0 + 2.0 * noise)
            })
        };
        assert!(!day(&mut path).is_empty());
        for _ in 0..3 {
            assert_eq!(day(&mut path), []);
        }
    }

    #[test]
    fn an_outage_hides_nothing_the_day_after() {
        let mut path = Path::new();
        path.quiet(12 * 3600);
        path.play(1800, |_, _| None);
        path.quiet(47 * 1800);
        let signs = path.play(60, |second, noise| {
            (second % 5 != 2).then_some(11.0 + 2.0 * noise)
        });
        assert_eq!(kinds(&signs)[0], (SignKind::LossBurst, Edge::Raised));
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let mut path = Path::new();
        path.quiet(7200);
        let saved = path.detector.memory().save().unwrap();
        let config = PrecursorConfig::default();
        let config = PrecursorConfig {
            warm_up: Duration::from_mins(30),
            ..config
        };
        path.detector = Detector::new(&config, SECOND, Memory::load(&saved).unwrap());
        assert!(path.detector.is_ready());
        path.at = path.at.plus(Duration::from_mins(10));
        assert_eq!(path.quiet(300), []);
        let signs = path.play(120, |_, _| Some(50.0));
        assert_eq!(kinds(&signs), [(SignKind::RttLevel, Edge::Raised)]);
    }

    #[test]
    fn absurd_input_breaks_nothing() {
        let mut path = Path::new();
        path.quiet(3000);
        let huge = Fate::Replied {
            rtt: Duration::MAX,
            ttl: Some(0),
        };
        for sent in [Timestamp::MAX, Timestamp::MIN, Timestamp::MAX] {
            for fate in [huge, Fate::Lost, Fate::Unknown] {
                let seen = Observation {
                    sent,
                    fate,
                    icmp_error: None,
                };
                for _ in 0..50 {
                    path.detector.observe(&seen);
                }
            }
        }
        let saved = path.detector.memory().save().unwrap();
        assert!(Memory::load(&saved).is_ok());
    }
}
