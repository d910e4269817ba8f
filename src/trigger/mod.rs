//! What can ask for a freeze, and how it is handed on.
//!
//! A source (probe, syslog listener, log tail, webhook, person) makes a [`Trigger`] and submits it
//! through an [`Intake`]. The submission is answered when the trigger is durable: only then may a
//! source acknowledge it to its sender or read on.

pub mod delivery;
pub mod drill;
pub mod event_time;
pub mod journal;
pub mod lateness;
pub mod logfile;
pub mod maintenance;
pub mod precursor;
pub mod probe;
pub mod rehearsal;
pub mod rules;
pub mod schedule;
pub mod several;
pub mod sources;
pub mod status;
pub mod syslog;
pub mod text;
pub mod trap;
pub mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::time::Timestamp;
use event_time::Doubt;
use maintenance::Maintenance;

/// The longest trigger text kept, in bytes; the rest is cut.
pub const TEXT_BYTES_MAX: usize = 4096;
/// The longest subject kept, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;
/// The longest copy of a sender's body kept, in bytes; the rest is cut.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Where a trigger came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person: command line, API or the button.
    Manual,
    /// An ICMP echo probe lost too many replies.
    Probe,
    /// A syslog message matched a rule.
    Syslog,
    /// A line of a log file matched a rule.
    Logfile,
    /// A journal entry matched a rule.
    Journal,
    /// A monitoring system called a hook.
    Webhook,
    /// An SNMP trap.
    Trap,
    /// A symptom seen in the packets themselves.
    Symptom,
    /// A rehearsal.
    Drill,
}

impl Kind {
    /// Whether each trigger of this kind opens an incident of its own, apart from all others: a
    /// person asked for it, or it is a rehearsal.
    pub const fn stands_alone(self) -> bool {
        matches!(self, Self::Manual | Self::Drill)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Probe => "probe",
            Self::Syslog => "syslog",
            Self::Logfile => "logfile",
            Self::Journal => "journal",
            Self::Webhook => "webhook",
            Self::Trap => "trap",
            Self::Symptom => "symptom",
            Self::Drill => "drill",
        })
    }
}

/// How much weight a trigger has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// A weak early sign, frozen quietly.
    Precursor,
    /// A fault.
    #[default]
    Incident,
}

/// Something that asks for a freeze. All text in it is foreign: inert data, never a path, a
/// command or HTML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Where it came from.
    pub kind: Kind,
    /// The configured name of the source: probe, hook, listener, file; for a person the account.
    pub source: String,
    /// When it happened, by the event's own clock (startsAt, syslog timestamp, probe send time).
    pub at: Timestamp,
    /// When it reached us.
    pub received: Timestamp,
    /// What it is about. Triggers of one subject join one incident.
    pub subject: String,
    /// The message, alert summary or reason, at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// Its weight.
    #[serde(default)]
    pub grade: Grade,
    /// The rule that matched, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Named captures and labels: `host`, `peer`, `instance`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// A pcap-filter(7) expression offered to the analyst; never applied to the freeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_filter: Option<String>,
    /// The sender's own identity of the event (Alertmanager groupKey and startsAt): a repeat joins
    /// the incident it opened, however late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// What the sender sent, secrets blanked, at most [`BODY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Overrides `window.before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Duration>,
    /// Overrides `window.after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// The time that was claimed, when it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// Whether `at` is the event's own time.
    #[serde(skip)]
    pub own_time: bool,
}

impl Trigger {
    /// A trigger with the required fields; the rest at their defaults. Text and subject are cut
    /// to their limits at a character boundary.
    pub fn new(
        kind: Kind,
        source: &str,
        subject: &str,
        text: &str,
        at: Timestamp,
        received: Timestamp,
    ) -> Self {
        Self {
            kind,
            source: source.to_owned(),
            at,
            received,
            subject: cut(subject, SUBJECT_BYTES_MAX).to_owned(),
            text: cut(text, TEXT_BYTES_MAX).to_owned(),
            grade: Grade::Incident,
            rule: None,
            fields: BTreeMap::new(),
            suggested_filter: None,
            dedup_key: None,
            body: None,
            before: None,
            after: None,
            doubt: None,
            own_time: false,
        }
    }
}

/// The sender says that an event is over. It ends the after-window of the incident that the event
/// opened or joined, and never opens one. All text in it is foreign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Where it came from.
    pub kind: Kind,
    /// The configured name of the source.
    pub source: String,
    /// What it is about; as the trigger's.
    pub subject: String,
    /// The sender's own identity of the event; as the trigger's. Decides before the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// When it was over, by the event's own clock.
    pub at: Timestamp,
    /// When that reached us.
    pub received: Timestamp,
    /// The message, at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

impl Resolution {
    /// A resolution without a key. Text and subject are cut as a trigger's.
    pub fn new(
        kind: Kind,
        source: &str,
        subject: &str,
        text: &str,
        at: Timestamp,
        received: Timestamp,
    ) -> Self {
        Self {
            kind,
            source: source.to_owned(),
            subject: cut(subject, SUBJECT_BYTES_MAX).to_owned(),
            dedup_key: None,
            at,
            received,
            text: cut(text, TEXT_BYTES_MAX).to_owned(),
        }
    }
}

/// The longest prefix of `text` of at most `limit` bytes that ends at a character.
pub fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// The answer to a submission: the trigger is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The incident it opened or joined.
    pub incident: String,
    /// Whether the incident was there before.
    pub joined: bool,
}

/// Why a trigger was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The journal could not be written; the text says why. The sender should try again later.
    #[error("the trigger journal cannot be written: {0}")]
    Journal(String),
    /// The server is stopping. The sender should try again later.
    #[error("the server is stopping")]
    Stopping,
    /// There is no room for what it would open; the text says why. Trying again is of no use until
    /// a person made room.
    #[error("not kept: {0}")]
    Full(String),
    /// A maintenance window covers it; the text names the window. It was counted.
    #[error("silenced by the maintenance window {0}")]
    Silenced(String),
}

/// What waits for a trigger to be durable.
pub type TriggerAnswer = oneshot::Sender<Result<Accepted, Refused>>;
/// What waits for a resolution to be durable; `None`: there is no incident that it concerns.
pub type ResolutionAnswer = oneshot::Sender<Result<Option<Accepted>, Refused>>;

/// One event on its way to the journal, with the place its answer goes. One queue for both, so
/// that a source's events stay in order.
#[derive(Debug)]
pub enum Submission {
    /// Something happened.
    Trigger(Box<Trigger>, TriggerAnswer),
    /// It is over.
    Resolution(Box<Resolution>, ResolutionAnswer),
}

/// The door through which sources hand in triggers. Bounded: a full queue makes the source wait,
/// which for TCP senders is back-pressure.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: mpsc::Sender<Submission>,
    maintenance: Arc<Maintenance>,
}

impl Intake {
    /// An intake of `capacity` waiting submissions and the end that journals them.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Submission>) {
        let (queue, submissions) = mpsc::channel(capacity);
        let maintenance = Arc::default();
        (Self { queue, maintenance }, submissions)
    }

    /// The same door, at which these windows are heeded.
    #[must_use]
    pub fn under(self, maintenance: Arc<Maintenance>) -> Self {
        Self {
            maintenance,
            ..self
        }
    }

    /// The maintenance windows that are heeded.
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Hands in a trigger and waits until it is durable, unless a maintenance window covers it.
    pub async fn submit(&self, trigger: Trigger) -> Result<Accepted, Refused> {
        let trigger = self.maintenance.admit(trigger).map_err(Refused::Silenced)?;
        let (answer, answered) = oneshot::channel();
        self.queue(Submission::Trigger(Box::new(trigger), answer))
            .await?;
        answered.await.map_err(|_| Refused::Stopping)?
    }

    /// Hands in that an event is over and waits until that is durable. `None`: there is no
    /// incident that it concerns.
    pub async fn resolve(&self, resolution: Resolution) -> Result<Option<Accepted>, Refused> {
        let (answer, answered) = oneshot::channel();
        self.queue(Submission::Resolution(Box::new(resolution), answer))
            .await?;
        answered.await.map_err(|_| Refused::Stopping)?
    }

    async fn queue(&self, submission: Submission) -> Result<(), Refused> {
        let sent = self.queue.send(submission).await;
        sent.map_err(|_| Refused::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(cut("aあ", 2), "a");
        assert_eq!(cut("abc", 10), "abc");
    }
}
