//! What a drill was: its steps, how long each took, and how it ended. API, history and UI share
//! this shape.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::trigger::Kind;

/// How far a drill has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is under way.
    Running,
    /// The trigger came back as sealed, verified evidence.
    Passed,
    /// It did not; `why` says why.
    Failed,
    /// The server ended in the middle of it.
    Interrupted,
}

/// A step of a drill, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The marked trigger left.
    Sent,
    /// Its source heard it.
    Recognised,
    /// It is durable.
    Journalled,
    /// The recorder linked the packets.
    Frozen,
    /// The incident is sealed.
    Sealed,
    /// The evidence was read back and verifies.
    Verified,
    /// The marked packet was found in it.
    Canary,
}

impl Step {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Recognised => "recognised",
            Self::Journalled => "journalled",
            Self::Frozen => "frozen",
            Self::Sealed => "sealed",
            Self::Verified => "verified",
            Self::Canary => "canary",
        }
    }
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub step: Step,
    /// When, in nanoseconds after the drill began.
    pub after_ns: u64,
    /// A word more on it, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The marked packet among the frozen ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When it was captured.
    pub at: Timestamp,
    /// On which interface.
    pub interface: String,
    /// Nanoseconds from its sending to its capture; negative when the capture's clock is behind.
    pub after_ns: i64,
}

/// A drill of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Its number: hexadecimal digits.
    pub id: String,
    /// What kind of source.
    pub kind: Kind,
    /// The source's name.
    pub source: String,
    /// Who asked for it: `schedule` or an account.
    pub asked_by: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The step that was not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Step>,
    /// The incident it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The steps that were done.
    pub steps: Vec<Done>,
    /// The marked packet, if it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<Sighting>,
    /// What was not checked, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Drill {
    /// How long it took; `None` while it is under way.
    pub fn took(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.since(self.started))
    }

    /// The server ended while it was under way.
    pub(super) fn interrupt(&mut self) {
        self.outcome = Outcome::Interrupted;
        self.ended = Some(self.started);
        if let Some(last) = self.steps.last() {
            let after = Duration::from_nanos(last.after_ns);
            self.ended = Some(self.started.plus(after));
        }
        self.why = Some("the server ended in the middle of it".to_owned());
    }
}
