//! `/api/v1/probes`: targets and paths; and the probes of an incident in its packets.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;

use super::incidents::Named;
use super::problem::Problem;
use super::state::App;
use crate::incident::manifest::SEGMENTS_DIR;
use crate::incident::model::State as Stage;
use crate::index::probes::{self, ProbeFinding};
use crate::time::Timestamp;
use crate::trigger::cut;
use crate::trigger::probe::{FAILED_FIELD, PROBE_FIELD, PathView, ProbeRecords, ProbeView};

/// All targets and paths.
#[derive(Debug, Serialize)]
pub(super) struct Board {
    now: Timestamp,
    probes: Vec<ProbeView>,
    paths: Vec<PathView>,
}

/// What became of the probes of an incident.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    /// Where they went; null when the incident is not of a probe.
    target: Option<String>,
    findings: Vec<ProbeFinding>,
    provisional: bool,
}

/// `GET /api/v1/probes`.
pub(super) async fn all(State(app): State<App>) -> Result<Json<Board>, Problem> {
    let probes = app.sources().probes().clone();
    let now = Timestamp::now();
    let board = tokio::task::spawn_blocking(move || Board {
        now,
        probes: probes.views(now),
        paths: probes.paths(),
    });
    let board = board.await;
    board
        .map(Json)
        .map_err(|error| Problem::internal("adding up the probes", error))
}

/// `GET /api/v1/probes/{name}`.
pub(super) async fn one(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ProbeView>, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let view = app.sources().probes().view(&name, Timestamp::now());
    view.map(Json).ok_or_else(|| {
        let detail = format!("there is no probe {:?}", cut(&name, 80));
        Problem::not_found("no_such_probe", detail)
    })
}

/// `GET /api/v1/incidents/{id}/probes`.
pub(super) async fn of_incident(
    State(app): State<App>,
    Named(incident): Named,
) -> Result<Json<Found>, Problem> {
    let fields = &incident.fields;
    let said = fields.get(PROBE_FIELD).zip(fields.get(FAILED_FIELD));
    let Some(records) = said.and_then(|(id, failed)| ProbeRecords::parse(id, failed)) else {
        return Ok(Json(Found::default()));
    };
    let folder = app.incidents().folder(&incident.id);
    let folder = folder.ok_or_else(|| Problem::not_found("no_such_incident", "it was released"))?;
    // Looking for them reads packets: a few at a time, the others wait their turn.
    let turn = app.scans().acquire().await;
    let found = tokio::task::spawn_blocking(move || {
        let segments = folder.join(SEGMENTS_DIR);
        probes::find(&segments, incident.window, &records).map(|findings| Found {
            target: Some(records.to.ip().to_string()),
            findings,
            provisional: incident.state != Stage::Sealed,
        })
    });
    let found = found.await;
    drop(turn);
    found
        .map_err(|error| Problem::internal("looking for the probes", error))?
        .map(Json)
        .map_err(|error| Problem::internal("looking for the probes", error))
}
