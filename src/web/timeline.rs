//! `GET /api/v1/incidents/{id}/timeline`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::body::{Params, number};
use super::incidents::Named;
use super::problem::Problem;
use super::state::App;
use crate::incident::manifest::SEGMENTS_DIR;
use crate::incident::model::State as Stage;
use crate::index::timeline::Timeline;

const BUCKETS_DEFAULT: usize = 300;
const BUCKETS: std::ops::RangeInclusive<usize> = 10..=1000;

/// How fine.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    buckets: Option<String>,
}

/// `GET /api/v1/incidents/{id}/timeline`.
pub(super) async fn timeline(
    State(app): State<App>,
    Named(incident): Named,
    Params(query): Params<Query>,
) -> Result<Json<Timeline>, Problem> {
    let buckets = number("buckets", query.buckets.as_deref())?.unwrap_or(BUCKETS_DEFAULT);
    if !BUCKETS.contains(&buckets) {
        let detail = format!("buckets must be 10 to 1000, not {buckets}");
        return Err(Problem::bad("bad_parameter", detail));
    }
    let folder = app.incidents().folder(&incident.id);
    let folder = folder.ok_or_else(|| Problem::not_found("no_such_incident", "it was released"))?;
    // Counting reads every packet: a few at a time, the others wait their turn.
    let turn = app.scans().acquire().await;
    let index = app.index().clone();
    let counted = tokio::task::spawn_blocking(move || {
        let sealed = incident.state == Stage::Sealed;
        let segments = folder.join(SEGMENTS_DIR);
        index.timeline(&incident.id, &segments, incident.window, buckets, sealed)
    });
    let counted = counted.await;
    drop(turn);
    counted
        .map_err(|error| Problem::internal("counting the packets", error))?
        .map(Json)
        .map_err(|error| Problem::internal("counting the packets", error))
}
