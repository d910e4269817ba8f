//! `custody.jsonl` and `timeline.jsonl`: who did what with the evidence, and which triggers asked
//! for it. Both are chains (`chain.rs`) and may grow after sealing.

use serde::{Deserialize, Serialize};

use super::model::{Note, TimelineEntry};
use crate::time::Timestamp;
use crate::trigger::event_time::Doubt;
use crate::trigger::{Grade, Kind, Resolution, Trigger, cut};

/// The file of the custody record.
pub const CUSTODY_FILE: &str = "custody.jsonl";
/// The file of the triggers.
pub const TIMELINE_FILE: &str = "timeline.jsonl";
/// The first line's action; its detail is the incident's id.
pub(super) const OPENED: &str = "opened";
/// The action whose detail is `manifest.json sha256:<hex>`.
pub(super) const SEALED: &str = "sealed";
/// Who acts when no person does.
pub(super) const SELF: &str = "wirewitness";
/// Texts after the first [`FULL_TEXTS`] of an incident are cut to this.
const LATER_TEXT_BYTES_MAX: usize = 256;
const FULL_TEXTS: u64 = 100;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// The account, or `wirewitness`.
    pub who: String,
    /// What was done: `opened`, `frozen`, `sealed`, `downloaded`, `viewed`, ...
    pub action: String,
    /// What with.
    pub detail: String,
}

impl Act {
    pub(super) fn new(who: &str, action: &str, detail: &str) -> Self {
        Self {
            at: Timestamp::now(),
            who: who.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// The detail of the seal's line.
pub(super) fn seal_detail(manifest_sha256: &str) -> String {
    format!("manifest.json sha256:{manifest_sha256}")
}

/// One trigger, or under a flood several in one line; or a note, whose count is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineLine {
    /// Its number among the incident's triggers; 1 opened it.
    pub number: u64,
    /// How many triggers the line stands for, this one first.
    pub count: u64,
    /// When it happened.
    pub at: Timestamp,
    /// When it reached us.
    pub received: Timestamp,
    /// Where it came from.
    pub kind: Kind,
    /// The configured name of the source.
    pub source: String,
    /// Its weight.
    pub grade: Grade,
    /// The message.
    pub text: String,
    /// The sender's identity of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// What the line says when it is not a trigger; its number is that of the last one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// What the sender sent, secrets blanked; with the first triggers of an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The time that the event claimed, when it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

impl TimelineLine {
    pub(super) fn new(number: u64, trigger: &Trigger) -> Self {
        let limit = if number > FULL_TEXTS {
            LATER_TEXT_BYTES_MAX
        } else {
            usize::MAX
        };
        Self {
            number,
            count: 1,
            at: trigger.at,
            received: trigger.received,
            kind: trigger.kind,
            source: trigger.source.clone(),
            grade: trigger.grade,
            text: cut(&trigger.text, limit).to_owned(),
            dedup_key: trigger.dedup_key.clone(),
            note: None,
            body: trigger.body.clone(),
            doubt: trigger.doubt,
        }
    }

    /// That the event is over, after `triggers` triggers.
    pub(super) fn resolved(triggers: u64, grade: Grade, resolution: &Resolution) -> Self {
        Self {
            number: triggers,
            count: 0,
            at: resolution.at,
            received: resolution.received,
            kind: resolution.kind,
            source: resolution.source.clone(),
            grade,
            text: resolution.text.clone(),
            dedup_key: None,
            note: Some(Note::Resolved),
            body: None,
            doubt: None,
        }
    }

    /// That the fault in `incident`, opened by `trigger`, promoted a precursor of `triggers`.
    pub(super) fn promoted(triggers: u64, incident: &str, trigger: &Trigger) -> Self {
        Self {
            number: triggers,
            count: 0,
            at: trigger.at,
            received: trigger.received,
            kind: trigger.kind,
            source: trigger.source.clone(),
            grade: Grade::Incident,
            text: incident.to_owned(),
            dedup_key: None,
            note: Some(Note::Promoted),
            body: None,
            doubt: None,
        }
    }

    /// The number of the last trigger it stands for.
    pub(super) fn last_number(&self) -> u64 {
        self.number + self.count.saturating_sub(1)
    }

    pub(super) fn entry(&self) -> TimelineEntry {
        TimelineEntry {
            at: self.at,
            received: self.received,
            kind: self.kind,
            source: self.source.clone(),
            text: self.text.clone(),
            grade: self.grade,
            note: self.note,
            doubt: self.doubt,
        }
    }
}
