//! `[evidence]` and `[window]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::time::span;
use crate::trigger::event_time::{Beyond, Limits};

/// `[evidence]`: where sealed incidents live and how much room they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// The incidents' directory; on the ring's file system, because a freeze is a hard link.
    pub path: PathBuf,
    /// How many bytes evidence may hold. Then the oldest precursors go, and new ones are refused;
    /// incidents never silently.
    pub quota: ByteSize,
    /// A sealed precursor goes by itself after this, unless a fault promoted it.
    #[serde(with = "span")]
    pub keep_precursors: Duration,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/wirewitness/incidents"),
            quota: ByteSize::gib(200),
            keep_precursors: Duration::from_hours(7 * 24),
        }
    }
}

/// `[window]`: how much time around a trigger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Kept before the trigger.
    #[serde(with = "span")]
    pub before: Duration,
    /// Kept after the trigger.
    #[serde(with = "span")]
    pub after: Duration,
    /// Triggers of one subject within this span after the last one join its incident.
    #[serde(with = "span")]
    pub cooldown: Duration,
    /// Joining triggers extend a window up to this length; a fault that lasts longer opens the
    /// next incident.
    #[serde(with = "span")]
    pub longest: Duration,
    /// A fault promotes the precursors of its subject that came within this span before it: they
    /// are kept as incidents are, and it says how much earlier its first sign was.
    #[serde(with = "span")]
    pub promote: Duration,
    /// An event's time is believed up to this much later than its arrival.
    #[serde(with = "span")]
    pub ahead: Duration,
    /// An event's time is believed up to this much earlier than its arrival.
    #[serde(with = "span")]
    pub behind: Duration,
    /// What becomes of an event whose time is not believed.
    pub beyond: Beyond,
}

impl WindowConfig {
    /// Which times of events are believed.
    pub const fn limits(&self) -> Limits {
        Limits {
            ahead: self.ahead,
            behind: self.behind,
            beyond: self.beyond,
        }
    }
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            before: Duration::from_mins(5),
            after: Duration::from_mins(1),
            cooldown: Duration::from_mins(5),
            longest: Duration::from_hours(1),
            promote: Duration::from_mins(30),
            ahead: Duration::from_mins(1),
            behind: Duration::from_hours(24),
            beyond: Beyond::Arrival,
        }
    }
}
