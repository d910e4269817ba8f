//! When this product's own state is trouble: a pure step over what is seen, the time passed in.
//!
//! Something must be wrong for a while before it is told, and right for a while before it is over.
//! What comes back within the hour must be right for twice as long each time, so that nothing flaps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::WatchConfig;
use super::event::{Code, Trouble, foreign};
use crate::time::Timestamp;

/// The longest detail, in bytes.
const DETAIL_BYTES_MAX: usize = 512;
/// Losses in bursts are one trouble; without any for so long it is over.
const LOSS_OVER: Duration = Duration::from_mins(5);
/// A clock needs a while after a start or a change of network.
const CLOCK_HOLD: Duration = Duration::from_mins(5);
/// How long it is remembered that a trouble was there before.
const MEMORY: Duration = Duration::from_hours(1);
/// Doublings of the time that it must be right.
const DOUBLINGS_MAX: u32 = 6;
/// How much better than its threshold something must become to be right, in percent: of the
/// quota's use, of free bytes and of the span.
const BETTER_PERCENT: u64 = 5;

/// What is seen of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// The interfaces; or why the recorder does not say.
    pub(super) ports: Result<Vec<Port>, String>,
    pub(super) evidence_bytes: u64,
    pub(super) evidence_quota_bytes: u64,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) sources: Vec<Source>,
    pub(super) clock_synchronised: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// Why it is not recorded, when it is not.
    pub(super) not_recorded: Option<String>,
    /// Packets lost since the recorder started.
    pub(super) dropped: u64,
    /// The oldest packet in its ring.
    pub(super) oldest: Option<Timestamp>,
    /// Whether its ring has come round.
    pub(super) is_full: bool,
    pub(super) disk_error: Option<String>,
}

/// A trigger source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    /// Why it fails, when it does.
    pub(super) failing: Option<String>,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// A trouble began.
    Begun(Trouble),
    /// A trouble is over.
    Over(Trouble),
}

/// How one thing is at this moment.
enum Level {
    Wrong(String),
    /// Neither wrong nor so much better that it is right.
    Between,
    Right,
}

/// What is remembered of one thing that can be wrong.
#[derive(Debug, Default)]
struct Entry {
    wrong_since: Option<Timestamp>,
    right_since: Option<Timestamp>,
    told: Option<Trouble>,
    /// How often it began without [`MEMORY`] of peace since.
    begun: u32,
}

type Key = (Code, String);

/// The watch.
#[derive(Debug)]
pub(super) struct Watch {
    config: WatchConfig,
    entries: BTreeMap<Key, Entry>,
    /// Packets lost by interface, as last seen.
    dropped: BTreeMap<String, u64>,
}

impl Watch {
    /// A watch that has told of these troubles before.
    pub(super) fn resume(config: WatchConfig, told: Vec<Trouble>) -> Self {
        let entry = |trouble: Trouble| {
            let key = (trouble.code, trouble.about.clone());
            let entry = Entry {
                begun: 1,
                told: Some(trouble),
                ..Entry::default()
            };
            (key, entry)
        };
        Self {
            config,
            entries: told.into_iter().map(entry).collect(),
            dropped: BTreeMap::new(),
        }
    }

    /// Troubles that were told and are not over.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        let told = self.entries.values().filter_map(|entry| entry.told.clone());
        told.collect()
    }

    /// Looks at a moment.
    pub(super) fn step(&mut self, sight: &Sight, now: Timestamp) -> Vec<Turn> {
        let mut seen: BTreeMap<Key, Level> = BTreeMap::new();
        let mut lost = BTreeMap::new();
        self.machine(sight, &mut seen);
        if let Ok(ports) = &sight.ports {
            for port in ports {
                let more = self.more_lost(port);
                lost.insert(port.name.clone(), more);
                self.port(port, more, now, &mut seen);
            }
        }
        // What is not there any more is not wrong; what nobody can see stays as it was.
        let blind = sight.ports.is_err();
        let gone = self.entries.keys().filter(|key| !seen.contains_key(key));
        let gone: Vec<Key> = gone
            .filter(|(code, _)| !(blind && code.is_of_interface()))
            .cloned()
            .collect();
        seen.extend(gone.into_iter().map(|key| (key, Level::Right)));
        let mut turns = Vec::new();
        for (key, level) in seen {
            let more = match key.0 {
                Code::PacketsLost => lost.get(&key.1).copied(),
                _ => None,
            };
            turns.extend(self.turn(&key, level, more, now));
        }
        turns
    }

    fn machine(&self, sight: &Sight, seen: &mut BTreeMap<Key, Level>) {
        let mut see = |code, about: &str, level| seen.insert((code, about.to_owned()), level);
        see(
            Code::RecorderUnreachable,
            "",
            match &sight.ports {
                Ok(_) => Level::Right,
                Err(why) => Level::Wrong(why.clone()),
            },
        );
        let percent = u64::from(self.config.evidence);
        let used = sight.evidence_bytes.saturating_mul(100) / sight.evidence_quota_bytes.max(1);
        see(
            Code::EvidenceFull,
            "",
            if used >= percent {
                Level::Wrong(format!(
                    "{used} % of {} are used",
                    bytesize::ByteSize(sight.evidence_quota_bytes)
                ))
            } else if used + BETTER_PERCENT > percent {
                Level::Between
            } else {
                Level::Right
            },
        );
        let wanted = self.config.disk_free.as_u64();
        if let Some(free) = sight.disk_free_bytes {
            let detail = || format!("{} are free", bytesize::ByteSize(free));
            see(Code::DiskFull, "", short_of(free, wanted, detail));
        }
        for source in &sight.sources {
            let level = match &source.failing {
                Some(why) => Level::Wrong(why.clone()),
                None => Level::Right,
            };
            see(Code::SourceFailing, &source.name, level);
        }
        let clock = if sight.clock_synchronised {
            Level::Right
        } else {
            Level::Wrong(String::new())
        };
        see(Code::Clock, "", clock);
    }

    fn port(&self, port: &Port, lost: u64, now: Timestamp, seen: &mut BTreeMap<Key, Level>) {
        let mut see = |code, level| seen.insert((code, port.name.clone()), level);
        let wrong = |why: &Option<String>| match why {
            Some(why) => Level::Wrong(why.clone()),
            None => Level::Right,
        };
        see(Code::NotRecorded, wrong(&port.not_recorded));
        see(Code::DiskError, wrong(&port.disk_error));
        see(
            Code::PacketsLost,
            match lost {
                0 => Level::Right,
                _ => Level::Wrong(String::new()),
            },
        );
        let wanted = self.config.lookback;
        let level = match port.oldest {
            // While it fills for the first time it reaches back as far as it can.
            Some(oldest) if port.is_full => {
                let span = now.since(oldest);
                let detail = || {
                    let span = Duration::from_secs(span.as_secs());
                    format!("it reaches back {}", humantime::format_duration(span))
                };
                short_of(span.as_secs(), wanted.as_secs(), detail)
            }
            _ => Level::Right,
        };
        see(Code::Lookback, level);
    }

    /// Packets lost since the last look; those of before the first look are history.
    fn more_lost(&mut self, port: &Port) -> u64 {
        match self.dropped.insert(port.name.clone(), port.dropped) {
            Some(before) if port.dropped >= before => port.dropped - before,
            // The recorder started again.
            Some(_) => port.dropped,
            None => 0,
        }
    }

    fn turn(&mut self, key: &Key, level: Level, lost: Option<u64>, now: Timestamp) -> Option<Turn> {
        let hold = self.hold(key.0);
        let least = match key.0 {
            Code::PacketsLost => self.config.clear.max(LOSS_OVER),
            _ => self.config.clear,
        };
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(told) = &mut entry.told
            && let Some(packets) = &mut told.packets
        {
            *packets = packets.saturating_add(lost.unwrap_or(0));
        }
        match level {
            Level::Between => {
                (entry.wrong_since, entry.right_since) = (None, None);
                None
            }
            Level::Wrong(detail) => {
                entry.right_since = None;
                let since = *entry.wrong_since.get_or_insert(now);
                if entry.told.is_some() || now.since(since) < hold {
                    return None;
                }
                let trouble = Trouble {
                    code: key.0,
                    about: key.1.clone(),
                    since,
                    until: None,
                    detail: foreign(&detail, DETAIL_BYTES_MAX),
                    packets: lost,
                };
                entry.begun = entry.begun.saturating_add(1);
                entry.told = Some(trouble.clone());
                Some(Turn::Begun(trouble))
            }
            Level::Right => {
                entry.wrong_since = None;
                let since = *entry.right_since.get_or_insert(now);
                let peace = now.since(since);
                let doublings = entry.begun.saturating_sub(1).min(DOUBLINGS_MAX);
                if peace < least.saturating_mul(1 << doublings).min(MEMORY) {
                    return None;
                }
                let told = entry.told.take();
                if entry.begun == 0 || peace >= MEMORY {
                    self.entries.remove(key);
                }
                told.map(|mut trouble| {
                    trouble.until = Some(since);
                    Turn::Over(trouble)
                })
            }
        }
    }

    fn hold(&self, code: Code) -> Duration {
        match code {
            Code::PacketsLost => Duration::ZERO,
            Code::Clock => self.config.hold.max(CLOCK_HOLD),
            _ => self.config.hold,
        }
    }
}

/// Whether there is less than wanted; 0 wants nothing.
fn short_of(is: u64, wanted: u64, detail: impl FnOnce() -> String) -> Level {
    if is < wanted {
        Level::Wrong(detail())
    } else if wanted > 0 && is < wanted.saturating_add(wanted / 100 * BETTER_PERCENT) {
        Level::Between
    } else {
        Level::Right
    }
}

impl Code {
    /// Whether only the recorder can tell.
    const fn is_of_interface(self) -> bool {
        matches!(
            self,
            Self::NotRecorded | Self::PacketsLost | Self::DiskError | Self::Lookback
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_ns((1_000_000 + seconds) * 1_000_000_000)
    }

    fn port() -> Port {
        Port {
            name: "eth1".to_owned(),
            not_recorded: None,
            dropped: 100,
            oldest: Some(at(0)),
            is_full: true,
            disk_error: None,
        }
    }

    fn fine() -> Sight {
        Sight {
            ports: Ok(vec![port()]),
            evidence_bytes: 0,
            evidence_quota_bytes: 1000,
            disk_free_bytes: Some(u64::MAX / 2),
            sources: vec![Source {
                name: "syslog udp".to_owned(),
                failing: None,
            }],
            clock_synchronised: true,
        }
    }

    fn watch() -> Watch {
        Watch::resume(WatchConfig::default(), Vec::new())
    }

    /// Looks every two seconds; gives what was told as (second, code, whether it began).
    fn told(
        watch: &mut Watch,
        seconds: std::ops::Range<u64>,
        sight: impl Fn(u64) -> Sight,
    ) -> Vec<(u64, Code, bool)> {
        let mut all = Vec::new();
        for second in seconds.step_by(2) {
            for turn in watch.step(&sight(second), at(second)) {
                all.push(match turn {
                    Turn::Begun(trouble) => (second, trouble.code, true),
                    Turn::Over(trouble) => (second, trouble.code, false),
                });
            }
        }
        all
    }

    fn away(away: bool) -> Sight {
        let ports = if away {
            Err("no socket".to_owned())
        } else {
            Ok(vec![port()])
        };
        Sight { ports, ..fine() }
    }

    #[test]
    fn a_recorder_that_comes_back_at_once_is_no_trouble() {
        let sight = |second| away((100..112).contains(&second));
        assert_eq!(told(&mut watch(), 0..400, sight), []);
    }

    #[test]
    fn a_recorder_that_stays_away_is_told_once_and_its_return_once() {
        let sight = |second| away((100..300).contains(&second));
        let expected = [
            (116, Code::RecorderUnreachable, true),
            (360, Code::RecorderUnreachable, false),
        ];
        assert_eq!(told(&mut watch(), 0..900, sight), expected);
    }

    #[test]
    fn what_flaps_is_told_ever_less_often() {
        // Away for a minute, there for two, all day long.
        let sight = |second| away(second % 180 < 60);
        let all = told(&mut watch(), 0..86_400, sight);
        let begun = all.iter().filter(|(.., begun)| *begun).count();
        assert!(begun <= 4, "{all:?}");
    }

    #[test]
    fn a_restart_neither_repeats_nor_forgets_a_trouble() {
        let mut first = watch();
        assert_eq!(told(&mut first, 0..60, |_| away(true)).len(), 1);
        let mut second = Watch::resume(WatchConfig::default(), first.troubles());
        assert_eq!(told(&mut second, 60..200, |_| away(true)), []);
        let over = told(&mut second, 200..400, |_| away(false));
        assert_eq!(over, [(260, Code::RecorderUnreachable, false)]);
    }

    #[test]
    fn losses_are_one_trouble_and_their_sum_is_told_at_its_end() {
        let mut watch = watch();
        let sight = |second: u64| {
            let mut port = port();
            port.dropped += match second {
                0..100 | 200..220 => 0,
                100..160 => 7,
                160..200 => 20,
                _ => 5,
            };
            // The recorder started again, and lost some more.
            if second >= 200 {
                port.dropped -= 100;
            }
            Sight {
                ports: Ok(vec![port]),
                ..fine()
            }
        };
        let mut turns = Vec::new();
        for second in (0..900).step_by(2) {
            turns.extend(watch.step(&sight(second), at(second)));
        }
        let [Turn::Begun(begun), Turn::Over(over)] = turns.as_slice() else {
            panic!("{turns:?}");
        };
        assert_eq!((begun.code, begun.packets), (Code::PacketsLost, Some(7)));
        assert_eq!((begun.since, over.packets), (at(100), Some(25)));
    }

    #[test]
    fn what_is_near_its_threshold_does_not_flap() {
        let sight = |second: u64| Sight {
            evidence_bytes: if second % 20 < 10 { 900 } else { 880 },
            ..fine()
        };
        assert_eq!(told(&mut watch(), 0..2000, sight), []);
        let sight = |second: u64| Sight {
            evidence_bytes: if second < 100 { 950 } else { 880 },
            ..fine()
        };
        assert_eq!(
            told(&mut watch(), 0..2000, sight),
            [(16, Code::EvidenceFull, true)]
        );
    }

    #[test]
    fn a_ring_is_too_short_only_once_it_has_come_round() {
        let config = WatchConfig {
            lookback: Duration::from_hours(1),
            ..WatchConfig::default()
        };
        let sight = |is_full| {
            move |second: u64| Sight {
                ports: Ok(vec![Port {
                    oldest: Some(at(second).minus(Duration::from_mins(50))),
                    is_full,
                    ..port()
                }]),
                ..fine()
            }
        };
        let mut watch = Watch::resume(config, Vec::new());
        assert_eq!(told(&mut watch, 10_000..10_100, sight(false)), []);
        let expected = [(10_116, Code::Lookback, true)];
        assert_eq!(told(&mut watch, 10_100..10_200, sight(true)), expected);
    }

    #[test]
    fn interface_source_disk_and_clock_are_watched() {
        let bad = Sight {
            ports: Ok(vec![Port {
                not_recorded: Some("gone".to_owned()),
                disk_error: Some("EIO".to_owned()),
                ..port()
            }]),
            disk_free_bytes: Some(1),
            sources: vec![Source {
                name: "syslog udp".to_owned(),
                failing: Some("in use".to_owned()),
            }],
            clock_synchronised: false,
            ..fine()
        };
        let codes: Vec<Code> = told(&mut watch(), 0..400, |_| bad.clone())
            .into_iter()
            .map(|(_, code, _)| code)
            .collect();
        let expected = [
            Code::NotRecorded,
            Code::DiskError,
            Code::DiskFull,
            Code::SourceFailing,
            Code::Clock,
        ];
        assert_eq!(codes, expected);
    }

    #[test]
    fn a_source_that_is_configured_away_is_over() {
        let mut watch = watch();
        let mut failing = fine();
        failing.sources[0].failing = Some("in use".to_owned());
        assert_eq!(told(&mut watch, 0..60, |_| failing.clone()).len(), 1);
        let mut none = fine();
        none.sources.clear();
        let over = told(&mut watch, 60..200, |_| none.clone());
        assert_eq!(over, [(120, Code::SourceFailing, false)]);
    }
}
