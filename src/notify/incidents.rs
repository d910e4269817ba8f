//! Which news of an incident is not told yet: pure, over what was told and what the incident is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{About, Event, News};
use crate::incident::model::{Incident, State};
use crate::time::Timestamp;
use crate::trigger::Grade;

/// What was told of one incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Told {
    /// As what it was opened.
    pub(super) grade: Grade,
    /// Whether it was sealed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) sealed: bool,
}

impl Told {
    fn of(incident: &Incident) -> Self {
        Self {
            grade: incident.grade,
            sealed: incident.state == State::Sealed,
        }
    }
}

/// What was told, by incident.
pub(super) type Ledger = BTreeMap<String, Told>;

/// Takes `incident` as told, without telling.
pub(super) fn assume(ledger: &mut Ledger, incident: &Incident) {
    ledger.insert(incident.id.clone(), Told::of(incident));
}

/// What is to be told of `incident` now; the ledger has it as told then.
pub(super) fn news(ledger: &mut Ledger, incident: &Incident, now: Timestamp) -> Vec<Event> {
    let known = ledger.get(&incident.id).copied();
    let is = Told::of(incident);
    if known == Some(is) {
        return Vec::new();
    }
    let mut events = Vec::new();
    let mut tell = |what: &str, at, news: fn(Box<About>) -> News| {
        events.push(Event {
            id: format!("{}.{what}", incident.id),
            at,
            news: news(Box::new(About::of(incident))),
        });
    };
    // One that was promoted before it was ever seen began as a precursor as well.
    let own = |incident: &Incident| {
        let sign = incident.first_sign.as_ref();
        sign.is_some_and(|sign| sign.incident == incident.id)
    };
    let began = match known {
        Some(told) => told.grade,
        None if own(incident) => Grade::Precursor,
        None => incident.grade,
    };
    if began == Grade::Precursor && incident.grade == Grade::Incident {
        tell("promoted", now, |incident| News::Promoted { incident });
    } else if known.is_none() {
        tell("opened", incident.opened, |incident| News::Opened {
            incident,
        });
    }
    if is.sealed && !known.is_some_and(|told| told.sealed) {
        let at = incident.sealed.unwrap_or(now);
        tell("sealed", at, |incident| News::Sealed { incident });
    }
    ledger.insert(incident.id.clone(), is);
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::model::{Completeness, FirstSign, TriggerSummary, Verdict};
    use crate::time::Window;
    use crate::trigger::Kind;

    const NOW: Timestamp = Timestamp::from_ns(2_000_000_000);

    fn incident(state: State, grade: Grade) -> Incident {
        let at = Timestamp::from_ns(1_000_000_000);
        Incident {
            id: "20251123T100211Z-5f3a9c".to_owned(),
            state,
            grade,
            subject: "s".to_owned(),
            trigger: TriggerSummary {
                kind: Kind::Probe,
                source: "edge".to_owned(),
                at,
                text: String::new(),
            },
            triggers: 1,
            window: Window::new(at, at),
            covered: None,
            packets: 0,
            bytes: 0,
            opened: at,
            sealed: None,
            resolved: None,
            first_sign: None,
            rule: None,
            fields: BTreeMap::new(),
            suggested_filter: None,
            completeness: Completeness {
                verdict: Verdict::Pending,
                reasons: Vec::new(),
                gaps: Vec::new(),
            },
            interfaces: Vec::new(),
            timeline: Vec::new(),
        }
    }

    fn told(ledger: &mut Ledger, incident: &Incident) -> Vec<String> {
        let events = news(ledger, incident, NOW);
        let ids = events.iter().map(|event| &event.id);
        ids.map(|id| id.rsplit('.').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn each_step_is_told_once_however_often_it_is_seen() {
        let mut ledger = Ledger::new();
        let mut one = incident(State::Collecting, Grade::Incident);
        assert_eq!(told(&mut ledger, &one), ["opened"]);
        // Ten thousand triggers are one incident, and one message.
        for triggers in 2..10_000 {
            one.triggers = triggers;
            assert_eq!(told(&mut ledger, &one), [""; 0]);
        }
        one.state = State::Sealing;
        assert_eq!(told(&mut ledger, &one), [""; 0]);
        one.state = State::Sealed;
        assert_eq!(told(&mut ledger, &one), ["sealed"]);
        assert_eq!(told(&mut ledger, &one), [""; 0]);
    }

    #[test]
    fn what_happened_while_nobody_looked_is_told_in_order() {
        let sealed = incident(State::Sealed, Grade::Incident);
        assert_eq!(told(&mut Ledger::new(), &sealed), ["opened", "sealed"]);
        let mut promoted = sealed.clone();
        promoted.first_sign = Some(FirstSign {
            at: promoted.opened,
            incident: promoted.id.clone(),
        });
        assert_eq!(told(&mut Ledger::new(), &promoted), ["promoted", "sealed"]);
    }

    #[test]
    fn a_precursor_that_becomes_an_incident_is_promoted() {
        let mut ledger = Ledger::new();
        let mut one = incident(State::Collecting, Grade::Precursor);
        let events = news(&mut ledger, &one, NOW);
        assert!(events[0].news.incident().unwrap().is_precursor());
        one.grade = Grade::Incident;
        assert_eq!(told(&mut ledger, &one), ["promoted"]);
        one.state = State::Sealed;
        assert_eq!(told(&mut ledger, &one), ["sealed"]);
    }

    #[test]
    fn what_was_there_before_is_not_news_but_its_sealing_is() {
        let mut ledger = Ledger::new();
        let mut one = incident(State::Collecting, Grade::Incident);
        assume(&mut ledger, &one);
        assert_eq!(told(&mut ledger, &one), [""; 0]);
        one.state = State::Sealed;
        assert_eq!(told(&mut ledger, &one), ["sealed"]);
    }
}
