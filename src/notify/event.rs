//! What is told, as values. Foreign text becomes inert and bounded here, once for all shapes.

use serde::{Deserialize, Serialize};

use crate::incident::model::{Incident, State, TriggerSummary, Verdict};
use crate::time::{Timestamp, Window};
use crate::trigger::text::inert;
use crate::trigger::{Grade, Kind, SUBJECT_BYTES_MAX, cut};

/// The longest foreign text in a message, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Reasons why evidence is incomplete that are told.
const REASONS_MAX: usize = 3;

/// A piece of news with its identity: a receiver that hears it twice can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Letters, digits, `-`, `_` and `.`; of no other event.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub news: News,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum News {
    /// An incident was opened.
    #[serde(rename = "incident.opened")]
    Opened {
        /// The incident.
        incident: Box<About>,
    },
    /// A precursor became an incident.
    #[serde(rename = "incident.promoted")]
    Promoted {
        /// The incident.
        incident: Box<About>,
    },
    /// An incident was sealed.
    #[serde(rename = "incident.sealed")]
    Sealed {
        /// The incident.
        incident: Box<About>,
    },
    /// Something is wrong with the product itself.
    #[serde(rename = "trouble.begun")]
    Trouble {
        /// The trouble.
        trouble: Trouble,
    },
    /// It is over.
    #[serde(rename = "trouble.over")]
    Recovered {
        /// The trouble.
        trouble: Trouble,
    },
    /// Somebody tries whether messages arrive.
    #[serde(rename = "test")]
    Test,
}

impl News {
    /// The incident that it is about, if it is about one.
    pub fn incident(&self) -> Option<&About> {
        match self {
            Self::Opened { incident } | Self::Promoted { incident } | Self::Sealed { incident } => {
                Some(incident)
            }
            Self::Trouble { .. } | Self::Recovered { .. } | Self::Test => None,
        }
    }

    /// The trouble that it is about, if it is about one.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Trouble { trouble } | Self::Recovered { trouble } => Some(trouble),
            _ => None,
        }
    }
}

/// What is told of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its id.
    pub id: String,
    /// How far it had come.
    pub state: State,
    /// Its weight.
    pub grade: Grade,
    /// What it is about.
    pub subject: String,
    /// What opened it.
    pub trigger: TriggerSummary,
    /// How many triggers it had.
    pub triggers: u64,
    /// What is kept.
    pub window: Window,
    /// Packets within the window; 0 until sealed.
    pub packets: u64,
    /// Captured bytes of those.
    pub bytes: u64,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Timestamp>,
    /// When its first sign was seen, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sign: Option<Timestamp>,
    /// Whether everything is in it.
    pub verdict: Verdict,
    /// The first reasons why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl About {
    /// What is told of `incident`.
    pub fn of(incident: &Incident) -> Self {
        let trigger = &incident.trigger;
        let reasons = incident.completeness.reasons.iter().take(REASONS_MAX);
        Self {
            id: incident.id.clone(),
            state: incident.state,
            grade: incident.grade,
            subject: foreign(&incident.subject, SUBJECT_BYTES_MAX),
            trigger: TriggerSummary {
                kind: trigger.kind,
                source: foreign(&trigger.source, SUBJECT_BYTES_MAX),
                at: trigger.at,
                text: foreign(&trigger.text, TEXT_BYTES_MAX),
            },
            triggers: incident.triggers,
            window: incident.window,
            packets: incident.packets,
            bytes: incident.bytes,
            opened: incident.opened,
            sealed: incident.sealed,
            first_sign: incident.first_sign.as_ref().map(|sign| sign.at),
            verdict: incident.completeness.verdict,
            reasons: reasons
                .map(|reason| foreign(&reason.text, TEXT_BYTES_MAX))
                .collect(),
        }
    }

    /// Whether it is an early sign.
    pub fn is_precursor(&self) -> bool {
        self.grade == Grade::Precursor
    }

    /// Whether it is a rehearsal.
    pub fn is_drill(&self) -> bool {
        self.trigger.kind == Kind::Drill
    }
}

/// What can be wrong with the product itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The recorder does not answer.
    RecorderUnreachable,
    /// An interface is not recorded.
    NotRecorded,
    /// Packets were lost.
    PacketsLost,
    /// The disk under a ring reports errors.
    DiskError,
    /// A full ring reaches less far back than wanted.
    Lookback,
    /// The disk is nearly full.
    DiskFull,
    /// Evidence nearly fills its quota.
    EvidenceFull,
    /// A trigger source fails.
    SourceFailing,
    /// The clock is not synchronised.
    Clock,
}

/// A trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which.
    pub code: Code,
    /// The interface or source that it is about; empty for the machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// A word more, in English.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Packets lost, of [`Code::PacketsLost`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
}

/// Foreign text on one line, without anything active, at most `limit` bytes.
pub(super) fn foreign(text: &str, limit: usize) -> String {
    // What is spelled out grows, so it is cut after that.
    let inert = inert(cut(text, limit).as_bytes());
    let kept = cut(&inert, limit);
    if kept.len() < inert.len() || text.len() > limit {
        format!("{kept}…")
    } else {
        inert
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    pub(in crate::notify) fn about(subject: &str) -> About {
        let at = Timestamp::from_ns(1_763_892_131_000_000_000);
        About {
            id: "20251123T100211Z-5f3a9c".to_owned(),
            state: State::Sealed,
            grade: Grade::Incident,
            subject: subject.to_owned(),
            trigger: TriggerSummary {
                kind: Kind::Syslog,
                source: "udp://127.0.0.1:5514".to_owned(),
                at,
                text: subject.to_owned(),
            },
            triggers: 10_000,
            window: Window::new(at, at.plus(std::time::Duration::from_mins(6))),
            packets: 1234,
            bytes: 567_890,
            opened: at,
            sealed: Some(at),
            first_sign: None,
            verdict: Verdict::Incomplete,
            reasons: vec!["12 packets were dropped".to_owned()],
        }
    }

    pub(in crate::notify) fn opened(subject: &str) -> Event {
        let incident = Box::new(about(subject));
        Event {
            id: format!("{}.opened", incident.id),
            at: incident.opened,
            news: News::Opened { incident },
        }
    }

    pub(in crate::notify) fn trouble() -> Event {
        let at = Timestamp::from_ns(1_763_892_131_000_000_000);
        let trouble = Trouble {
            code: Code::PacketsLost,
            about: "eth1".to_owned(),
            since: at,
            until: None,
            detail: String::new(),
            packets: Some(12),
        };
        Event {
            id: "packets_lost-1".to_owned(),
            at,
            news: News::Trouble { trouble },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_being_written_down() {
        for event in [samples::opened("a \"b\""), samples::trouble()] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(
                serde_json::from_str::<Event>(&text).unwrap(),
                event,
                "{text}"
            );
        }
    }

    #[test]
    fn foreign_text_is_one_bounded_line() {
        assert_eq!(foreign("a\r\nb\x1b", 64), "a\\x0d\\x0ab\\x1b");
        let long = foreign(&"あ".repeat(400), 512);
        assert!(long.len() <= 515 && long.ends_with('…'), "{long}");
        assert!(foreign(&"\x1b".repeat(512), 512).len() <= 515);
    }
}
