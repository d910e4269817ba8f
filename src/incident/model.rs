//! An incident as every other part sees it: API, CLI, UI and manifest share this shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::recorder::protocol::Gap;
use crate::time::{Timestamp, Window};
use crate::trigger::event_time::Doubt;
use crate::trigger::{Grade, Kind};

/// How far an incident has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The after-window is still running.
    Collecting,
    /// All segments are linked; they are being read back and hashed.
    Sealing,
    /// The manifest is written; nothing changes any more.
    Sealed,
}

/// What triggered it, as far as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSummary {
    /// Where it came from.
    pub kind: Kind,
    /// The configured name of the source.
    pub source: String,
    /// When it happened.
    pub at: Timestamp,
    /// The message.
    pub text: String,
}

/// One line of an incident's timeline: a trigger that opened or joined it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When it happened.
    pub at: Timestamp,
    /// When it reached us.
    pub received: Timestamp,
    /// Where it came from.
    pub kind: Kind,
    /// The configured name of the source.
    pub source: String,
    /// The message.
    pub text: String,
    /// Its weight.
    #[serde(default)]
    pub grade: Grade,
    /// What the line says when it is not a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// The time that the event claimed, when it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// A line of a timeline that is not a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Note {
    /// The source said that the event is over.
    Resolved,
    /// A fault followed: the precursor is kept as an incident.
    Promoted,
}

/// The first sign of a fault, before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSign {
    /// When.
    pub at: Timestamp,
    /// The incident that holds its packets; the incident's own id when it began as a precursor.
    pub incident: String,
}

/// Whether everything that passed in the window is in the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The counters prove that nothing is missing.
    Complete,
    /// Something is missing; the reasons say what.
    Incomplete,
    /// Not decided yet: the incident is not sealed.
    Pending,
}

/// A reason why something is not in the evidence. `code` is for programs and translations:
/// `dropped_kernel`, `dropped_ring`, `dropped_iface`, `gap`, `rotated`, `not_recorded_yet`,
/// `filtered`, `snaplen`, `no_segments`, `damaged`, `clock`, `unproven`, `recorder_unreachable`,
/// `seal_failed`, `accounting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs.
    pub code: String,
    /// The interface, when it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// For people, in English.
    pub text: String,
}

/// What was not captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    /// The summary.
    pub verdict: Verdict,
    /// Why it is not complete, or what an analyst must know.
    pub reasons: Vec<Reason>,
    /// Spans in which nothing was recorded, within the window.
    pub gaps: Vec<Gap>,
}

/// One interface's share of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceShare {
    /// The interface.
    pub name: String,
    /// Packets within the window.
    pub packets: u64,
    /// Captured bytes of those packets.
    pub bytes: u64,
    /// What of the window is recorded.
    pub covered: Option<Window>,
    /// Counters over the seconds that cover the window.
    pub counters: Counters,
    /// Segments linked.
    pub segments: u64,
}

impl Incident {
    /// Whether a trigger of this weight makes an incident of a precursor.
    pub(super) fn is_promoted_by(&self, grade: Grade) -> bool {
        self.triggers > 0 && self.grade == Grade::Precursor && grade == Grade::Incident
    }
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Sorts by time: `20261123T100211Z-5f3a9c`; letters, digits and `-` only.
    pub id: String,
    /// How far it has come.
    pub state: State,
    /// Its weight.
    pub grade: Grade,
    /// What it is about.
    pub subject: String,
    /// The trigger that opened it.
    pub trigger: TriggerSummary,
    /// How many triggers opened or joined it.
    pub triggers: u64,
    /// What was asked for.
    pub window: Window,
    /// What of it is recorded; `None` while unknown or when nothing is.
    pub covered: Option<Window>,
    /// Packets within the window, all interfaces; 0 until sealed.
    pub packets: u64,
    /// Captured bytes of those packets.
    pub bytes: u64,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Timestamp>,
    /// When its source last said that it is over. A later trigger may have followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Timestamp>,
    /// The precursor that came before it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sign: Option<FirstSign>,
    /// The rule that matched, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Named captures and labels of the trigger.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// A pcap-filter(7) expression to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_filter: Option<String>,
    /// What was not captured.
    pub completeness: Completeness,
    /// By interface; empty until sealed.
    #[serde(default)]
    pub interfaces: Vec<InterfaceShare>,
    /// The first triggers in order of arrival (at most 100).
    #[serde(default)]
    pub timeline: Vec<TimelineEntry>,
}
