//! `[capture]` and `[ring]`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::time::span;

/// What a segment holds beside its packets, with room to spare.
const SEGMENT_OVERHEAD: u64 = 16 * 1024;
/// The most capture threads per interface.
const THREADS_MAX: u32 = 16;
/// Smaller segments would be more file than packets.
const SEGMENT_MIN: u64 = 64 * 1024;

/// `[capture]`: what is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureConfig {
    /// Interfaces to record, each into its own ring.
    pub interfaces: Vec<String>,
    /// Capture filter, pcap-filter(7); empty records everything.
    pub filter: String,
    /// Bytes kept of each packet, 64 to 262144.
    pub snaplen: u32,
    /// The kernel's buffer per interface, 1MiB to 2047MiB.
    pub buffer: ByteSize,
    /// Whether to put interfaces into promiscuous mode.
    pub promiscuous: bool,
    /// Capture threads per interface, 1 to 16.
    pub threads: u32,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            filter: String::new(),
            snaplen: 262_144,
            buffer: ByteSize::mib(256),
            promiscuous: true,
            threads: 1,
        }
    }
}

/// `[ring]`: where and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RingConfig {
    /// The ring's folder.
    pub path: PathBuf,
    /// Bytes per interface.
    pub size: ByteSize,
    /// Bytes per segment: room for the longest packet, to 1GiB.
    pub segment: ByteSize,
    /// Memory that absorbs the disk's stalls, per interface; at least two segments.
    pub memory: ByteSize,
    /// How often what was captured is put on disk, 100ms to 60s.
    #[serde(with = "span")]
    pub sync: Duration,
    /// A tmpfs for the slots' memory; survives a killed recorder.
    pub slots: PathBuf,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/wirewitness/ring"),
            size: ByteSize::gib(100),
            segment: ByteSize::mib(16),
            memory: ByteSize::mib(256),
            sync: Duration::from_secs(1),
            slots: PathBuf::from("/dev/shm"),
        }
    }
}

/// A key whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidKey {
    /// The key, with its table: `ring.segment`.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

fn invalid(key: &'static str, problem: impl Into<String>) -> InvalidKey {
    InvalidKey {
        key,
        problem: problem.into(),
    }
}

impl CaptureConfig {
    /// Checks what can be checked without touching the machine.
    pub fn check(&self) -> Result<(), InvalidKey> {
        for (i, name) in self.interfaces.iter().enumerate() {
            if name.is_empty() || name.len() > 64 || name.contains(['/', '\0']) {
                return Err(invalid(
                    "capture.interfaces",
                    format!("{name:?} is not an interface name"),
                ));
            }
            if self.interfaces.iter().take(i).any(|other| other == name) {
                return Err(invalid(
                    "capture.interfaces",
                    format!("{name:?} is listed twice"),
                ));
            }
        }
        if !(64..=262_144).contains(&self.snaplen) {
            let problem = format!("{} is out of range: 64 to 262144 bytes", self.snaplen);
            return Err(invalid("capture.snaplen", problem));
        }
        if !(ByteSize::mib(1)..=ByteSize::mib(2047)).contains(&self.buffer) {
            let problem = format!("{} is out of range: 1MiB to 2047MiB", self.buffer);
            return Err(invalid("capture.buffer", problem));
        }
        if !(1..=THREADS_MAX).contains(&self.threads) {
            let problem = format!("{} is out of range: 1 to {THREADS_MAX}", self.threads);
            return Err(invalid("capture.threads", problem));
        }
        if self.buffer.as_u64() / u64::from(self.threads) < ByteSize::mib(1).as_u64() {
            let problem = format!(
                "{} is less than 1MiB for each of {} threads; raise it or lower capture.threads",
                self.buffer, self.threads
            );
            return Err(invalid("capture.buffer", problem));
        }
        Ok(())
    }
}

impl RingConfig {
    /// Checks what can be checked without touching the machine: the longest packet must fit a
    /// segment, and each capture thread needs its share.
    pub fn check(&self, capture: &CaptureConfig) -> Result<(), InvalidKey> {
        let (snaplen, threads) = (capture.snaplen, u64::from(capture.threads));
        let segment = self.segment.as_u64();
        let smallest = (u64::from(snaplen) + SEGMENT_OVERHEAD).max(SEGMENT_MIN);
        if !(smallest..=ByteSize::gib(1).as_u64()).contains(&segment) {
            let problem = format!(
                "{} is out of range: with capture.snaplen {snaplen}, {} to 1GiB",
                self.segment,
                ByteSize(smallest)
            );
            return Err(invalid("ring.segment", problem));
        }
        for (key, bytes) in [("ring.memory", self.memory), ("ring.size", self.size)] {
            if bytes.as_u64() < 2 * segment * threads {
                let each = if threads > 1 {
                    format!(" for each of {threads} capture threads")
                } else {
                    String::new()
                };
                let problem = format!(
                    "{bytes} holds fewer than two segments of {}{each}; raise it or lower ring.segment",
                    self.segment
                );
                return Err(invalid(key, problem));
            }
        }
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&self.sync) {
            let problem = format!("{:?} is out of range: 100ms to 60s", self.sync);
            return Err(invalid("ring.sync", problem));
        }
        Ok(())
    }
}
