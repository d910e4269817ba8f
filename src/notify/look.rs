//! What the watch for trouble sees of this moment.

use std::path::Path;
use std::time::Duration;

use super::Parts;
use super::event::foreign;
use super::watch::{Port, Sight, Source};
use crate::recorder::protocol::{InterfaceState, InterfaceStatus};
use crate::trigger::status::{SourceState, SourceStatus};

/// A recorder that has not answered by then counts as not reachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The longest name of a source, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Parts of a hundred of its size from which on a ring counts as full: a segment of it is always
/// empty.
const FULL_PERCENT: u64 = 90;

/// This moment.
pub(super) async fn look(parts: &Parts) -> Sight {
    let client = parts.recorder.clone();
    let asked = tokio::task::spawn_blocking(move || client.status());
    let seen = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(Ok(status))) => Ok(status.interfaces.iter().map(port).collect()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the recorder does not answer".to_owned()),
    };
    Sight {
        ports: seen,
        evidence_bytes: parts.incidents.evidence_bytes(),
        evidence_quota_bytes: parts.evidence_quota_bytes,
        disk_free_bytes: free_bytes(&parts.state_dir),
        sources: parts.sources.status().iter().map(source).collect(),
        clock_synchronised: (parts.clock)().synchronised,
    }
}

fn port(of: &InterfaceStatus) -> Port {
    let why = of.why.as_deref().unwrap_or_default();
    let not_recorded = match of.state {
        InterfaceState::Running | InterfaceState::Finished => None,
        InterfaceState::Down => Some(format!("the link is down {why}")),
        InterfaceState::Absent => Some(format!("there is no such interface {why}")),
        InterfaceState::Failed => Some(why.to_owned()),
    };
    Port {
        name: of.name.clone(),
        not_recorded: not_recorded.map(|text| text.trim().to_owned()),
        dropped: of.counters.dropped(),
        oldest: of.ring_from,
        is_full: of.ring_bytes >= of.ring_size_bytes / 100 * FULL_PERCENT,
        disk_error: of.disk_error.clone(),
    }
}

fn source(of: &SourceStatus) -> Source {
    // A probe that loses replies is an incident, not a trouble of ours.
    let failing = of.state == SourceState::Failing && of.kind != crate::trigger::Kind::Probe;
    Source {
        // As it is told: a trouble of before a restart is recognised by it.
        name: foreign(&format!("{} {}", of.kind, of.name), NAME_BYTES_MAX),
        failing: failing.then(|| of.detail.clone()),
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
