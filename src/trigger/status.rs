//! How each source is doing, for the status page: cheap handles the sources write to, collected
//! in one registry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::drill::Marks;
use super::event_time::{Clock, EventTime, Limits};
use super::lateness::{Delays, Lateness};
use super::probe::Probes;
use super::{Kind, Trigger};
use crate::time::Timestamp;

/// How a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It works.
    Ok,
    /// It does not; the detail says why. It recovers by itself.
    Failing,
    /// It was stopped.
    Stopped,
}

/// What a source counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages, lines, calls or replies received.
    Received,
    /// Those that matched a rule.
    Matched,
    /// Those cut because they were too long.
    Oversized,
    /// Those not taken because we were too busy.
    Overflow,
    /// Those that the kernel had no room for; it says so with the next one that comes.
    DroppedKernel,
    /// Connections, calls or triggers refused.
    Refused,
    /// Those that were broken: bad framing, truncated, not what they claim to be.
    Malformed,
    /// Probes sent.
    Sent,
    /// Probes without a reply in time.
    Lost,
    /// Replies that came too late, twice or that nobody asked for.
    Unexpected,
    /// Files replaced, truncated or rotated.
    Rotated,
    /// Events said to be over that ended an incident's window.
    Resolved,
    /// Triggers that a maintenance window silenced.
    Silenced,
    /// Events whose time is too far ahead to be believed.
    Future,
    /// Events whose time is too far behind to be believed.
    Past,
}

impl Count {
    const ALL: [(Self, &'static str); 15] = [
        (Self::Received, "received"),
        (Self::Matched, "matched"),
        (Self::Oversized, "oversized"),
        (Self::Overflow, "overflow"),
        (Self::DroppedKernel, "dropped_kernel"),
        (Self::Refused, "refused"),
        (Self::Malformed, "malformed"),
        (Self::Sent, "sent"),
        (Self::Lost, "lost"),
        (Self::Unexpected, "unexpected"),
        (Self::Rotated, "rotated"),
        (Self::Resolved, "resolved"),
        (Self::Silenced, "silenced"),
        (Self::Future, "future"),
        (Self::Past, "past"),
    ];
}

/// A moment's picture of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// What kind of source.
    pub kind: Kind,
    /// Its configured name, listen address or path.
    pub name: String,
    /// How it is doing.
    pub state: SourceState,
    /// A word more on that, for people.
    pub detail: String,
    /// Triggers that became durable.
    pub triggers: u64,
    /// What it counted, by name; zero counts are left out.
    pub counters: BTreeMap<&'static str, u64>,
    /// How late its events come.
    pub lateness: Lateness,
}

/// A source's own entry in the registry. Clones share it.
#[derive(Debug, Clone)]
pub struct SourceHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    name: String,
    condition: Mutex<(SourceState, String)>,
    triggers: AtomicU64,
    counts: [AtomicU64; Count::ALL.len()],
    limits: Limits,
    /// What the configuration says of its lateness, and what was learned.
    late: Mutex<(Option<Duration>, Delays)>,
    marks: Marks,
}

impl SourceHandle {
    fn new(kind: Kind, name: &str, limits: Limits, marks: Marks) -> Self {
        Self {
            shared: Arc::new(Shared {
                kind,
                name: name.to_owned(),
                condition: Mutex::new((SourceState::Ok, String::new())),
                triggers: AtomicU64::new(0),
                counts: Default::default(),
                limits,
                late: Mutex::default(),
                marks,
            }),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The trigger of a drill of this source, when `bytes` hold its mark. To be asked before any
    /// rule: a drill must not be counted, joined or passed over by one.
    pub fn drill(&self, bytes: &[u8], received: Timestamp) -> Option<Trigger> {
        let Shared { kind, name, .. } = &*self.shared;
        self.shared.marks.hear(*kind, name, bytes, received)
    }

    /// The marks of drills under way.
    pub fn marks(&self) -> &Marks {
        &self.shared.marks
    }

    /// Adds one to a count.
    pub fn count(&self, what: Count) {
        self.count_by(what, 1);
    }

    /// Adds `n` to a count.
    pub fn count_by(&self, what: Count, n: u64) {
        let entry = Count::ALL.iter().zip(&self.shared.counts);
        for ((candidate, _), counter) in entry {
            if *candidate == what {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// A count's value.
    pub fn get(&self, what: Count) -> u64 {
        Count::ALL
            .iter()
            .zip(&self.shared.counts)
            .find(|((candidate, _), _)| *candidate == what)
            .map_or(0, |(_, counter)| counter.load(Ordering::Relaxed))
    }

    /// Says how late its events usually come; zero says nothing.
    pub fn declare(&self, late: Duration) {
        self.late().0 = (!late.is_zero()).then_some(late);
    }

    /// The time an event is filed under: what it claims, where that can be believed, else the
    /// arrival; without a claim, as much before it as is declared or else usual here. Counts what
    /// is not believed.
    pub fn file(&self, claimed: Option<Timestamp>, received: Timestamp) -> EventTime {
        let late = match claimed {
            Some(_) => Duration::ZERO,
            None => self.usual(),
        };
        let time = self.shared.limits.judge(claimed, late, received);
        match time.doubt.map(|doubt| doubt.clock) {
            Some(Clock::Future) => self.count(Count::Future),
            Some(Clock::Past) => self.count(Count::Past),
            None => {}
        }
        time
    }

    /// As [`SourceHandle::file`], and learns from an event that carries its own time.
    pub fn event_time(&self, claimed: Option<Timestamp>, received: Timestamp) -> EventTime {
        let time = self.file(claimed, received);
        if time.own {
            self.observe(received.since(time.at));
        }
        time
    }

    /// Learns how late an event came.
    pub fn observe(&self, delay: Duration) {
        self.late().1.add(delay);
    }

    /// How late events without a time of their own are taken to come.
    fn usual(&self) -> Duration {
        let late = self.late();
        if let Some(declared) = late.0 {
            return declared;
        }
        let learned = late.1.lateness(None).median_ns;
        learned.map(Duration::from_nanos).unwrap_or_default()
    }

    pub(super) fn delays(&self) -> Delays {
        self.late().1.clone()
    }

    pub(super) fn set_delays(&self, delays: Delays) {
        self.late().1 = delays;
    }

    fn late(&self) -> std::sync::MutexGuard<'_, (Option<Duration>, Delays)> {
        self.shared
            .late
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one durable trigger.
    pub fn triggered(&self) {
        self.shared.triggers.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how the source is doing. Returns whether the state is another than before, so that the
    /// source logs a change once.
    pub fn set(&self, state: SourceState, detail: impl Into<String>) -> bool {
        let mut condition = self.condition();
        let changed = condition.0 != state;
        *condition = (state, detail.into());
        changed
    }

    /// A picture of this moment.
    pub fn status(&self) -> SourceStatus {
        let (state, detail) = self.condition().clone();
        let (declared, delays) = self.late().clone();
        let counters = Count::ALL
            .iter()
            .zip(&self.shared.counts)
            .map(|((_, name), counter)| (*name, counter.load(Ordering::Relaxed)))
            .filter(|(_, value)| *value > 0)
            .collect();
        SourceStatus {
            kind: self.shared.kind,
            name: self.shared.name.clone(),
            state,
            detail,
            triggers: self.shared.triggers.load(Ordering::Relaxed),
            counters,
            lateness: delays.lateness(declared),
        }
    }

    fn condition(&self) -> std::sync::MutexGuard<'_, (SourceState, String)> {
        self.shared
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry of all sources. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    handles: Arc<Mutex<Vec<SourceHandle>>>,
    probes: Probes,
    limits: Limits,
    marks: Marks,
}

impl Sources {
    /// An empty registry of sources whose events are believed within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// All handles, in the order of registration.
    pub(super) fn handles(&self) -> Vec<SourceHandle> {
        self.handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Enters a source and returns its handle.
    pub fn register(&self, kind: Kind, name: &str) -> SourceHandle {
        let handle = SourceHandle::new(kind, name, self.limits, self.marks.clone());
        self.handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handle.clone());
        handle
    }

    /// What is known of the probes' targets.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// The marks of drills under way.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// All sources, in the order of registration.
    pub fn status(&self) -> Vec<SourceStatus> {
        self.handles().iter().map(SourceHandle::status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_without_a_time_are_as_late_as_declared_or_else_as_usual() {
        let handle = Sources::default().register(Kind::Syslog, "udp");
        let received = Timestamp::from_ns(1_800_000_000_000_000_000);
        let at = || handle.event_time(None, received).at;
        assert_eq!(at(), received, "nothing is known");
        for _ in 0..20 {
            handle.event_time(Some(received.minus(Duration::from_mins(1))), received);
        }
        handle.event_time(Some(Timestamp::MIN), received);
        handle.event_time(Some(Timestamp::MAX), received);
        let usual = received.since(at()).as_secs();
        assert!((60..72).contains(&usual), "{usual}");
        handle.declare(Duration::from_secs(5));
        assert_eq!(received.since(at()).as_secs(), 5);
        assert_eq!((handle.get(Count::Future), handle.get(Count::Past)), (1, 1));
        assert_eq!(
            handle.status().lateness.events,
            20,
            "nonsense teaches nothing"
        );
    }

    #[test]
    fn what_a_source_says_is_what_the_page_shows() {
        let sources = Sources::default();
        let handle = sources.register(Kind::Probe, "edge");
        assert!(handle.set(SourceState::Failing, "2 of 5 lost"));
        assert!(!handle.set(SourceState::Failing, "3 of 5 lost"));
        handle.count(Count::Lost);
        handle.count_by(Count::Lost, 2);
        handle.triggered();
        assert_eq!(handle.get(Count::Lost), 3);
        assert_eq!(
            serde_json::to_value(sources.status()).unwrap(),
            serde_json::json!([{"kind": "probe", "name": "edge", "state": "failing",
                "detail": "3 of 5 lost", "triggers": 1, "counters": {"lost": 3},
                "lateness": {"events": 0}}])
        );
    }
}
