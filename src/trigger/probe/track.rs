//! What the pages show of each target: shared between the thread that probes and whoever asks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::config::ProbeKind;
use super::icmp_error::IcmpErrorKind;
use super::path::{Health, PathConfig, where_loss_begins};
use super::stats::{Bin, Figures, Samples, WINDOWS};
use crate::time::Timestamp;
use crate::trigger::status::{SourceHandle, SourceState};

/// Routers and errors remembered of a target; further ones are not.
const ERRORS_MAX: usize = 16;
/// The history for drawing: an hour in pieces of 30 s.
const HISTORY: Duration = Duration::from_hours(1);
const HISTORY_BINS: u32 = 120;

/// One sample, as detectors of early signs want it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When the probe was sent.
    pub sent: Timestamp,
    /// The round trip, if this is its reply.
    pub rtt: Option<Duration>,
    /// No reply came in time, or it was refused.
    pub lost: bool,
    /// The hop limit the reply came with.
    pub ttl: Option<u8>,
    /// What a router or the target said about it.
    pub icmp_error: Option<IcmpErrorKind>,
    /// It is a second reply to a probe.
    pub duplicate: bool,
    /// Replies to later probes came before it.
    pub reordered: bool,
}

/// What was counted of a target since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ProbeCounts {
    /// Probes that left.
    pub sent: u64,
    /// Replies in time.
    pub received: u64,
    /// Probes without.
    pub lost: u64,
    /// Probes that this host could not send.
    pub unsent: u64,
    /// Sends that were due while the process or the machine stood still.
    pub missed: u64,
    /// Probes whose reply this host could not have noticed.
    pub unjudged: u64,
    /// Replies that came after the timeout.
    pub late: u64,
    /// Second replies.
    pub duplicates: u64,
    /// Replies overtaken by one to a later probe.
    pub reordered: u64,
    /// Changes of the replies' hop limit: another way back.
    pub ttl_changes: u64,
}

/// What somebody says about our probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Who, when it is known.
    pub by: Option<IpAddr>,
    /// What.
    pub error: IcmpErrorKind,
    /// How often.
    pub count: u64,
    /// The last time.
    pub last: Timestamp,
}

/// A target's record.
#[derive(Debug)]
pub(super) struct Track {
    name: String,
    kind: ProbeKind,
    target: String,
    interval: Duration,
    pub(super) address: Option<IpAddr>,
    pub(super) samples: Samples,
    pub(super) counts: ProbeCounts,
    pub(super) health: Option<bool>,
    ttl: Option<u8>,
    ttl_changed: Option<Timestamp>,
    said: BTreeMap<(Option<IpAddr>, IcmpErrorKind), (u64, Timestamp)>,
}

/// A target as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeView {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub kind: ProbeKind,
    /// The target as configured.
    pub target: String,
    /// Where that is now.
    pub address: Option<IpAddr>,
    /// Between two probes.
    pub interval_ns: u64,
    /// How the source is doing.
    pub state: SourceState,
    /// A word more on that.
    pub detail: String,
    /// Since the start.
    pub counts: ProbeCounts,
    /// Figures of the last minute, ten minutes and hour.
    pub windows: Vec<Figures>,
    /// Smoothed jitter in seconds (RFC 3550).
    pub jitter: Option<f64>,
    /// The hop limit of the last reply.
    pub ttl: Option<u8>,
    /// When that changed last.
    pub ttl_changed: Option<Timestamp>,
    /// What routers say.
    pub errors: Vec<Said>,
    /// The last hour in pieces, oldest first; only when one probe is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Bin>>,
}

/// A path as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathView {
    /// Its name.
    pub name: String,
    /// Its points and how each is doing: `answers`, `loses`, `unknown`, or `limited` when it loses
    /// and a further one answers.
    pub points: Vec<PointView>,
    /// The place of the first point from which on every point loses.
    pub loss_begins: Option<usize>,
    /// That in words.
    pub text: Option<String>,
}

/// A point of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointView {
    /// The probe.
    pub probe: String,
    /// How it is doing.
    pub health: &'static str,
}

impl Track {
    pub(super) fn new(name: &str, kind: ProbeKind, target: &str, interval: Duration) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            target: target.to_owned(),
            interval,
            address: None,
            samples: Samples::default(),
            counts: ProbeCounts::default(),
            health: None,
            ttl: None,
            ttl_changed: None,
            said: BTreeMap::new(),
        }
    }

    /// Takes in the hop limit of a reply.
    pub(super) fn hop_limit(&mut self, ttl: u8, at: Timestamp) {
        if self.ttl.replace(ttl).is_some_and(|before| before != ttl) {
            self.counts.ttl_changes += 1;
            self.ttl_changed = Some(at);
        }
    }

    /// Takes in what somebody says.
    pub(super) fn heard(&mut self, by: Option<IpAddr>, error: IcmpErrorKind, at: Timestamp) {
        let known = self.said.contains_key(&(by, error));
        if known || self.said.len() < ERRORS_MAX {
            let entry = self.said.entry((by, error)).or_insert((0, at));
            *entry = (entry.0 + 1, at);
        }
    }

    fn view(&self, source: &SourceHandle, now: Timestamp, history: bool) -> ProbeView {
        let status = source.status();
        let figures =
            |&(name, length): &(&'static str, Duration)| self.samples.figures(name, length, now);
        let said = self.said.iter().map(|(&(by, error), &(count, last))| Said {
            by,
            error,
            count,
            last,
        });
        ProbeView {
            name: self.name.clone(),
            kind: self.kind,
            target: self.target.clone(),
            address: self.address,
            interval_ns: u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX),
            state: status.state,
            detail: status.detail,
            counts: self.counts,
            windows: WINDOWS.iter().map(figures).collect(),
            jitter: self.samples.jitter(),
            ttl: self.ttl,
            ttl_changed: self.ttl_changed,
            errors: said.collect(),
            history: history.then(|| self.samples.history(HISTORY, HISTORY_BINS, now)),
        }
    }

    fn path_health(&self) -> Health {
        match self.health {
            None => Health::Unknown,
            Some(true) => Health::Answers,
            Some(false) => Health::Loses,
        }
    }
}

/// A shared [`Track`].
#[derive(Debug, Clone)]
pub(super) struct TrackHandle(Arc<Mutex<Track>>);

impl TrackHandle {
    pub(super) fn new(track: Track) -> Self {
        Self(Arc::new(Mutex::new(track)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Track> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All targets and paths. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    tracks: Vec<(SourceHandle, TrackHandle)>,
    paths: Vec<PathConfig>,
}

impl Probes {
    pub(super) fn enter(&self, source: &SourceHandle, track: &TrackHandle) {
        self.lock().tracks.push((source.clone(), track.clone()));
    }

    pub(in crate::trigger) fn set_paths(&self, paths: &[PathConfig]) {
        self.lock().paths = paths.to_vec();
    }

    /// Every target, without histories.
    pub fn views(&self, now: Timestamp) -> Vec<ProbeView> {
        let tracks = self.lock().tracks.clone();
        let view =
            |(source, track): &(SourceHandle, TrackHandle)| track.lock().view(source, now, false);
        tracks.iter().map(view).collect()
    }

    /// One target, with its history.
    pub fn view(&self, name: &str, now: Timestamp) -> Option<ProbeView> {
        let tracks = self.lock().tracks.clone();
        let (source, track) = tracks.iter().find(|(source, _)| source.name() == name)?;
        Some(track.lock().view(source, now, true))
    }

    /// Every path.
    pub fn paths(&self) -> Vec<PathView> {
        let (tracks, paths) = {
            let shared = self.lock();
            (shared.tracks.clone(), shared.paths.clone())
        };
        let health = |point: &String| {
            let found = tracks.iter().find(|(source, _)| source.name() == point);
            found.map_or(Health::Unknown, |(_, track)| track.lock().path_health())
        };
        let view = |path: &PathConfig| {
            let healths: Vec<Health> = path.points.iter().map(health).collect();
            path_view(path, &healths)
        };
        paths.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path_view(path: &PathConfig, healths: &[Health]) -> PathView {
    let map = where_loss_begins(healths);
    let point = |(at, (probe, health)): (usize, (&String, &Health))| PointView {
        probe: probe.clone(),
        health: match health {
            Health::Loses if map.limited.contains(&at) => "limited",
            Health::Loses => "loses",
            Health::Answers => "answers",
            Health::Unknown => "unknown",
        },
    };
    PathView {
        name: path.name.clone(),
        points: path
            .points
            .iter()
            .zip(healths)
            .enumerate()
            .map(point)
            .collect(),
        loss_begins: map.begins,
        text: map.text(&path.points),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_limits_its_answers_is_called_so() {
        let path = PathConfig {
            name: "osaka".to_owned(),
            points: ["gw", "edge", "far"].map(str::to_owned).into(),
        };
        let view = path_view(&path, &[Health::Loses, Health::Answers, Health::Loses]);
        let healths: Vec<_> = view.points.iter().map(|point| point.health).collect();
        assert_eq!(healths, ["limited", "answers", "loses"]);
        assert_eq!(
            view.text.as_deref(),
            Some("loss begins between edge and far")
        );
    }

    #[test]
    fn another_way_back_is_counted() {
        let mut track = Track::new("a", ProbeKind::Icmp, "192.0.2.1", Duration::from_secs(1));
        for (second, ttl) in [(1, 60), (2, 60), (3, 58), (4, 58)] {
            track.hop_limit(ttl, Timestamp::from_ns(second));
        }
        assert_eq!(track.counts.ttl_changes, 1);
        assert_eq!(track.ttl_changed, Some(Timestamp::from_ns(3)));
        for second in 0..100 {
            let by = IpAddr::from([192, 0, 2, u8::try_from(second).unwrap()]);
            track.heard(
                Some(by),
                IcmpErrorKind::Redirect,
                Timestamp::from_ns(second),
            );
        }
        assert_eq!(track.said.len(), ERRORS_MAX);
    }
}
