//! `manifest.json`: what a sealed incident is. docs/FORMAT.md describes it field by field.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model::Incident;
use crate::error::{IoContext, IoError};
use crate::time::Timestamp;

/// The file of the manifest; an incident's folder is sealed when it is there.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The signature over the manifest's bytes.
pub const SIGNATURE_FILE: &str = "manifest.json.sig";
/// Who may sign, for `ssh-keygen -Y verify -f`.
pub const ALLOWED_SIGNERS_FILE: &str = "allowed_signers";
/// For `sha256sum -c`.
pub const SUMS_FILE: &str = "SHA256SUMS";
/// The state of an incident that is not sealed yet.
pub const LIVE_FILE: &str = "incident.json";
/// The folder of the linked segments, one folder per interface in it.
pub const SEGMENTS_DIR: &str = "segments";

/// The value of `format`.
pub const FORMAT: &str = "wirewitness-manifest";
/// The version of the fields below; a reader refuses a greater one.
pub const VERSION: u32 = 1;

/// How far the clock that stamped the packets can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockState {
    /// Whether the kernel considers it synchronised.
    pub synchronised: bool,
    /// The kernel's bound of its offset from UTC.
    #[serde(default)]
    pub offset_bound_ns: Option<u64>,
    /// What keeps it: `ntp`, `ptp`, `none`, as far as is known.
    pub source: String,
}

/// The end of a chain when the manifest was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Lines up to then.
    pub lines: u64,
    /// The hash of the last of them.
    pub hash: String,
}

/// The recorder that held the ring when the incident was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderFacts {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
}

/// One segment of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its path within the incident's folder.
    pub path: String,
    /// The interface it was recorded on.
    pub interface: String,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of the file as it was read back.
    pub sha256: String,
    /// Whether it was read back past the page cache (`false`: the file system offers no direct
    /// reads, so its cached pages were dropped first).
    pub read_direct: bool,
    /// Packets in it, also those outside the window.
    pub packets: u64,
    /// Packets of it within the window.
    pub window_packets: u64,
    /// Their captured bytes.
    pub window_bytes: u64,
    /// Its first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// Its last packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// What is wrong with its content, when something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// The accounting of one interface over the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountingEntry {
    /// Its path within the incident's folder.
    pub path: String,
    /// The interface it tells of.
    pub interface: String,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Lines in it.
    pub lines: u64,
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The version of wirewitness that sealed it.
    pub software: String,
    /// The host name of the machine.
    pub host: String,
    /// The incident as it was sealed: window, completeness, counters, first triggers.
    pub incident: Incident,
    /// Every segment, by interface and number.
    pub segments: Vec<SegmentEntry>,
    /// The recorder's accounting by the second, by interface.
    #[serde(default)]
    pub accounting: Vec<AccountingEntry>,
    /// The clock when it was sealed.
    pub clock: ClockState,
    /// The recorder, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder: Option<RecorderFacts>,
    /// `timeline.jsonl` when it was sealed.
    pub timeline: ChainHead,
    /// `custody.jsonl` before the line that seals it.
    pub custody: ChainHead,
    /// The senders' identities of the events in it.
    #[serde(default)]
    pub dedup_keys: Vec<String>,
    /// The fingerprint of the key that signs it, as `ssh-keygen -l` shows it.
    pub signed_by: String,
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there or cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is not a manifest we know.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl Manifest {
    /// Reads the manifest of an incident's folder, also its bytes.
    pub fn read(folder: &Path) -> Result<(Self, Vec<u8>), ManifestError> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = std::fs::read(&path).at("read", &path)?;
        let damaged = |what: String| ManifestError::Damaged {
            path: path.display().to_string(),
            what,
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT || manifest.version > VERSION {
            return Err(damaged(format!(
                "format {:?} version {}; this is version {VERSION} of {FORMAT:?}",
                manifest.format, manifest.version
            )));
        }
        Ok((manifest, bytes))
    }
}
