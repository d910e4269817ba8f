//! What is said on the recorder's control socket: one JSON object per line, request and reply in
//! turn. Five small verbs, all idempotent, so that the server can repeat what was not confirmed.

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Step};
use crate::counters::Counters;
use crate::time::{Timestamp, Window};

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Request {
    /// Counters, ring span, states.
    Status,
    /// Put everything received before now on disk; answered when it is durable.
    Flush,
    /// Link every segment that covers the window into the incident's folder: those on disk now,
    /// those to come as they are created. Repeat until the report says `complete`.
    Pin {
        /// The incident.
        id: String,
        /// What to keep.
        window: Window,
    },
    /// Remove an incident whose retention ended: whole, with a tombstone.
    Release {
        /// The incident.
        id: String,
    },
    /// What is linked for an incident.
    Check {
        /// The incident.
        id: String,
    },
}

/// The recorder's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(RecorderStatus),
    /// To [`Request::Flush`].
    Flushed,
    /// To [`Request::Pin`] and [`Request::Check`].
    Pinned(PinReport),
    /// To [`Request::Release`]; also when there was nothing to release.
    Released,
    /// The request failed; the text is for people.
    Failed {
        /// What failed, where, and why.
        message: String,
    },
}

/// What is linked for an incident.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PinReport {
    /// Whether the window has passed and every segment that covers it is sealed and linked.
    pub complete: bool,
    /// The linked segments, by interface and number.
    pub segments: Vec<PinnedSegment>,
}

/// One linked segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedSegment {
    /// The interface's folder name.
    pub interface: String,
    /// The file's name, the same in ring and incident.
    pub name: String,
}

/// Whether an interface is being recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// Recording.
    Running,
    /// The link is administratively down; recording resumes with it.
    Down,
    /// No interface of this name; it is opened as soon as there is one.
    Absent,
    /// It exists but cannot be opened; `why` says the reason.
    Failed,
    /// A savefile was replayed to its end.
    Finished,
}

/// One interface as the recorder sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its configured name.
    pub name: String,
    /// Whether it is being recorded.
    pub state: InterfaceState,
    /// Why it is not, or what else is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when the state holds.
    pub since: Timestamp,
    /// Packets by fate since the recorder started.
    #[serde(flatten)]
    pub counters: Counters,
    /// Packets per second over the last second.
    pub packets_per_second: f64,
    /// Captured bytes per second over the last second.
    pub bytes_per_second: f64,
    /// The longest time without a packet within, or up to the end of, the last second of accounting;
    /// of several capture threads, that of the one that waited longest for its share.
    #[serde(default)]
    pub longest_gap_ns: u64,
    /// First packet of the oldest segment, if the ring holds any.
    pub ring_from: Option<Timestamp>,
    /// Up to where the ring on disk is known to be whole.
    pub ring_to: Option<Timestamp>,
    /// Bytes of segments in the ring.
    pub ring_bytes: u64,
    /// The ring's configured size in bytes.
    pub ring_size_bytes: u64,
    /// Segments in the ring.
    pub ring_segments: u64,
    /// Slots of memory that are free.
    pub slots_free: u64,
    /// Slots of memory in all.
    pub slots: u64,
    /// The last error of the disk under this ring, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_error: Option<String>,
    /// Why the accounting cannot be written, while that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting_error: Option<String>,
    /// The capture filter in force.
    pub filter: String,
    /// The snapshot length in force, in bytes.
    pub snaplen: u32,
    /// Files in the ring's folder that are not ours or not whole, kept aside.
    pub foreign_files: u64,
}

#[cfg(test)]
impl InterfaceStatus {
    /// One that is recorded, for tests to change; nothing came yet.
    pub(crate) fn running(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: InterfaceState::Running,
            why: None,
            since: Timestamp::MIN,
            counters: Counters::default(),
            packets_per_second: 0.0,
            bytes_per_second: 0.0,
            longest_gap_ns: 0,
            ring_from: None,
            ring_to: None,
            ring_bytes: 0,
            ring_size_bytes: 0,
            ring_segments: 0,
            slots_free: 0,
            slots: 0,
            disk_error: None,
            accounting_error: None,
            filter: String::new(),
            snaplen: 262_144,
            foreign_files: 0,
        }
    }
}

/// The recorder as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecorderStatus {
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// Its version.
    pub version: String,
    /// One entry per configured interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// The clock that stamps the packets; absent from a recorder that does not watch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockStatus>,
}

/// The clock as the recorder sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Now.
    #[serde(flatten)]
    pub clock: Clock,
    /// How often it was set since the recorder started.
    pub steps_total: u64,
    /// The last few of them.
    pub steps: Vec<Step>,
}

/// A span in which an interface was not recorded, one line of `ring/<interface>/gaps.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The interface.
    pub interface: String,
    /// The last instant known to be recorded.
    pub from: Timestamp,
    /// The first instant recorded again.
    pub to: Timestamp,
    /// Why.
    pub cause: GapCause,
}

/// Why packets are missing for a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The recorder was not running.
    RecorderDown,
    /// The interface was down, absent or could not be opened.
    InterfaceDown,
    /// No slot was free: the disk was too slow or full.
    RingFull,
    /// The disk lost what it had taken and memory did not hold any more.
    DiskFailed,
}
