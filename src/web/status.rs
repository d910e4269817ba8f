//! `GET /api/v1/status`, and the picture of the moment that health, metrics and events share.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;

use super::lookback::{self, SourcePicture};
use super::state::App;
use crate::clock::Step;
use crate::incident::manifest::ClockState;
use crate::incident::model;
use crate::notify::TargetStatus;
use crate::recorder::protocol::{ClockStatus, InterfaceStatus};
use crate::time::Timestamp;
use crate::trigger::maintenance::MaintenanceStatus;

/// A picture is shared for this long: however many watch, the recorder is asked ten times a second
/// at most, and nobody is told what was true before his last packet.
const FRESH: Duration = Duration::from_millis(100);
/// A recorder that has not answered by then counts as not reachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The moment.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    pub(super) now: Timestamp,
    pub(super) version: &'static str,
    pub(super) interfaces: Vec<InterfaceStatus>,
    pub(super) recorder: Recorder,
    pub(super) server: Server,
    pub(super) clock: ClockPicture,
    pub(super) disk: Disk,
}

/// The clock: the server's word, and what the recorder saw of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct ClockPicture {
    #[serde(flatten)]
    pub(super) state: ClockState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) est_error_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frequency_ppm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boottime_offset_ns: Option<i64>,
    pub(super) steps_total: u64,
    pub(super) steps: Vec<Step>,
}

impl ClockPicture {
    fn new(state: ClockState, seen: Option<ClockStatus>) -> Self {
        let Some(seen) = seen else {
            return Self {
                state,
                ..Self::default()
            };
        };
        let kernel = seen.clock.kernel;
        Self {
            state,
            offset_ns: kernel.map(|kernel| kernel.offset_ns),
            est_error_ns: kernel.map(|kernel| kernel.est_error_ns),
            frequency_ppm: kernel.map(|kernel| kernel.frequency_ppm),
            boottime_offset_ns: Some(seen.clock.boottime_offset_ns),
            steps_total: seen.steps_total,
            steps: seen.steps,
        }
    }
}

/// The recorder.
#[derive(Debug, Serialize)]
pub(super) struct Recorder {
    pub(super) reachable: bool,
    pub(super) pid: Option<u32>,
    pub(super) started: Option<Timestamp>,
    pub(super) version: Option<String>,
    pub(super) error: Option<String>,
}

/// The server.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) pid: u32,
    pub(super) started: Timestamp,
    pub(super) incidents: usize,
    pub(super) collecting: usize,
    pub(super) evidence_bytes: u64,
    pub(super) evidence_quota_bytes: u64,
    /// What people should know of the evidence: a used-up quota, folders that cannot be read.
    pub(super) problems: Vec<String>,
    pub(super) sources: Vec<SourcePicture>,
    pub(super) maintenance: Vec<MaintenanceStatus>,
    pub(super) notify: Vec<TargetStatus>,
}

/// The file system of ring and evidence; null where it cannot be asked.
#[derive(Debug, Serialize)]
pub(super) struct Disk {
    pub(super) path: String,
    pub(super) free_bytes: Option<u64>,
    pub(super) total_bytes: Option<u64>,
}

/// The latest picture.
#[derive(Debug, Default)]
pub(super) struct Board {
    latest: Mutex<Option<(Instant, Arc<Picture>)>>,
}

impl Board {
    /// The latest picture, a new one if that is no longer fresh.
    pub(super) async fn picture(&self, app: &App) -> Arc<Picture> {
        let mut latest = self.latest.lock().await;
        if let Some((at, picture)) = &*latest
            && at.elapsed() < FRESH
        {
            return Arc::clone(picture);
        }
        let picture = Arc::new(take_picture(app).await);
        *latest = Some((Instant::now(), Arc::clone(&picture)));
        picture
    }
}

async fn take_picture(app: &App) -> Picture {
    let client = app.recorder().clone();
    let asked = tokio::task::spawn_blocking(move || client.status());
    let mut seen = None;
    let (interfaces, recorder) = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(Ok(status))) => {
            seen = status.clock;
            let recorder = Recorder {
                reachable: true,
                pid: Some(status.pid),
                started: Some(status.started),
                version: Some(status.version),
                error: None,
            };
            (status.interfaces, recorder)
        }
        Ok(Ok(Err(error))) => (Vec::new(), unreachable(error.to_string())),
        Ok(Err(error)) => (Vec::new(), unreachable(error.to_string())),
        Err(_) => (
            Vec::new(),
            unreachable("the recorder does not answer".to_owned()),
        ),
    };
    let incidents = app.incidents().list();
    let open = |incident: &&model::Incident| incident.state != model::State::Sealed;
    let now = Timestamp::now();
    let sources = app.sources().status();
    let sources = lookback::sources(sources, app.before(), &interfaces, &incidents, now);
    Picture {
        now,
        version: env!("CARGO_PKG_VERSION"),
        interfaces,
        recorder,
        server: Server {
            pid: std::process::id(),
            started: app.started(),
            incidents: incidents.len(),
            collecting: incidents.iter().filter(open).count(),
            evidence_bytes: app.incidents().evidence_bytes(),
            evidence_quota_bytes: app.evidence_quota_bytes(),
            problems: app.incidents().problems(),
            sources,
            maintenance: app.incidents().intake().maintenance().status(now),
            notify: app.notifier().status(),
        },
        clock: ClockPicture::new(app.clock(), seen),
        disk: disk(app.state_dir()),
    }
}

fn unreachable(error: String) -> Recorder {
    Recorder {
        reachable: false,
        pid: None,
        started: None,
        version: None,
        error: Some(error),
    }
}

fn disk(path: &Path) -> Disk {
    let stat = rustix::fs::statvfs(path).ok();
    let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
        let stat = stat.as_ref()?;
        Some(blocks(stat).saturating_mul(stat.f_frsize))
    };
    Disk {
        path: path.display().to_string(),
        free_bytes: bytes(|stat| stat.f_bavail),
        total_bytes: bytes(|stat| stat.f_blocks),
    }
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(app): State<App>) -> Response {
    Json(&*app.board().picture(&app).await).into_response()
}
