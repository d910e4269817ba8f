//! "Would this alert still have found its packets?", for every source: how late its events come and
//! the time kept before them, against how far back the ring reaches.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::incident::model::Incident;
use crate::recorder::protocol::InterfaceStatus;
use crate::time::Timestamp;
use crate::trigger::Kind;
use crate::trigger::lateness::Lateness;
use crate::trigger::status::SourceStatus;

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The ring reaches back at least twice as far as needed.
    Yes,
    /// It reaches back far enough, not twice as far.
    Barely,
    /// It does not.
    No,
}

/// The answer for one source, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Lookback {
    pub(super) verdict: Verdict,
    /// How far back packets must be there when an event arrives.
    pub(super) need_ns: u64,
    /// How far back they are there, on the interface whose ring is the shortest.
    pub(super) span_ns: u64,
    /// How much more than needed; negative when it is not enough.
    pub(super) margin_ns: i64,
    pub(super) interface: String,
    /// That ring is not full yet: it reaches back further by the minute.
    pub(super) filling: bool,
}

/// A source, with what is computed for it.
#[derive(Debug, Serialize)]
pub(super) struct SourcePicture {
    #[serde(flatten)]
    pub(super) status: SourceStatus,
    /// `null` while no interface has recorded anything.
    pub(super) lookback: Option<Lookback>,
    /// Incidents of its triggers for whose packets it came too late.
    pub(super) too_late: u64,
}

/// All sources of a moment.
pub(super) fn sources(
    all: Vec<SourceStatus>,
    before: Duration,
    interfaces: &[InterfaceStatus],
    incidents: &[Incident],
    now: Timestamp,
) -> Vec<SourcePicture> {
    let reach = reach(interfaces, now);
    let mut late: BTreeMap<(Kind, &str), u64> = BTreeMap::new();
    for incident in incidents.iter().filter(|incident| came_too_late(incident)) {
        let trigger = &incident.trigger;
        *late
            .entry((trigger.kind, trigger.source.as_str()))
            .or_default() += 1;
    }
    let picture = |status: SourceStatus| SourcePicture {
        lookback: reach
            .as_ref()
            .map(|reach| reach.judge(before, &status.lateness)),
        too_late: late
            .get(&(status.kind, status.name.as_str()))
            .copied()
            .unwrap_or(0),
        status,
    };
    all.into_iter().map(picture).collect()
}

/// Whether packets of the window were gone when its trigger came.
fn came_too_late(incident: &Incident) -> bool {
    let has = |code: &str| {
        let mut reasons = incident.completeness.reasons.iter();
        reasons.any(|reason| reason.code == code)
    };
    // Nothing at all of a window that was over before anybody asked for it.
    has("rotated") || (has("no_segments") && incident.window.to < incident.opened)
}

/// How far back the shortest ring reaches.
struct Reach<'a> {
    span: Duration,
    interface: &'a InterfaceStatus,
}

fn reach(interfaces: &[InterfaceStatus], now: Timestamp) -> Option<Reach<'_>> {
    let spans = interfaces.iter().filter_map(|interface| {
        let span = now.since(interface.ring_from?);
        Some(Reach { span, interface })
    });
    spans.min_by_key(|reach| reach.span)
}

impl Reach<'_> {
    fn judge(&self, before: Duration, lateness: &Lateness) -> Lookback {
        let need = before.saturating_add(lateness.expected().unwrap_or_default());
        let verdict = if self.span >= need.saturating_mul(2) {
            Verdict::Yes
        } else if self.span >= need {
            Verdict::Barely
        } else {
            Verdict::No
        };
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let (need_ns, span_ns) = (ns(need), ns(self.span));
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let (used, size) = (self.interface.ring_bytes, self.interface.ring_size_bytes);
        Lookback {
            verdict,
            need_ns,
            span_ns,
            margin_ns: signed(span_ns).saturating_sub(signed(need_ns)),
            interface: self.interface.name.clone(),
            // What is left is less than a segment or two.
            filling: used < size / 20 * 19,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::status::Sources;

    fn interface(name: &str, from: Option<u64>, bytes: u64) -> InterfaceStatus {
        InterfaceStatus {
            ring_from: from.map(|second| Timestamp::from_ns(second * 1_000_000_000)),
            ring_bytes: bytes,
            ring_size_bytes: 1000,
            ..InterfaceStatus::running(name)
        }
    }

    #[test]
    fn the_shortest_ring_decides_and_twice_is_a_yes() {
        let now = Timestamp::from_ns(10_000 * 1_000_000_000);
        let before = Duration::from_mins(5);
        let sources = Sources::default();
        let handle = sources.register(Kind::Webhook, "am");
        handle.declare(Duration::from_secs(700));
        let judge = |interfaces: &[InterfaceStatus]| {
            let mut all = super::sources(sources.status(), before, interfaces, &[], now);
            all.pop().unwrap().lookback
        };
        assert_eq!(judge(&[interface("a", None, 0)]), None);
        for (from, verdict, margin) in [
            (8000, Verdict::Yes, 1000),
            (8001, Verdict::Barely, 999),
            (9000, Verdict::Barely, 0),
            (9001, Verdict::No, -1),
        ] {
            let both = [
                interface("a", Some(1), 999),
                interface("b", Some(from), 100),
            ];
            let found = judge(&both).unwrap();
            assert_eq!(found.verdict, verdict, "{from}");
            assert_eq!(found.margin_ns, margin * 1_000_000_000);
            assert_eq!((found.interface.as_str(), found.filling), ("b", true));
        }
        assert!(!judge(&[interface("a", Some(1), 999)]).unwrap().filling);
    }
}
