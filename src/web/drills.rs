//! `/api/v1/drills`: whether the way from each source to sealed evidence is whole.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::auth::Principal;
use super::body::{JsonBody, Params, given, number};
use super::problem::Problem;
use super::state::App;
use crate::drill::{ALL, Board, Drill, Refused};

/// Drills of the history that are shown unless more are asked for.
const LIMIT: usize = 200;

/// What to drill.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    source: Option<String>,
}

/// What was begun.
#[derive(Debug, Serialize)]
pub(super) struct Begun {
    drills: Vec<Drill>,
}

/// Parameters of the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    limit: Option<String>,
}

/// `GET /api/v1/drills`.
pub(super) async fn board(
    State(app): State<App>,
    Params(query): Params<Query>,
) -> Result<Json<Board>, Problem> {
    let limit = number("limit", query.limit.as_deref())?;
    Ok(Json(app.drills().board(limit.unwrap_or(LIMIT))))
}

/// `POST /api/v1/drills`.
pub(super) async fn begin(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    JsonBody(wish): JsonBody<Wish>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let source = given(wish.source.as_deref()).unwrap_or(ALL);
    let begun = app.drills().begin(source, &principal.name);
    let drills = begun.map_err(|refused| {
        let detail = refused.to_string();
        match refused {
            Refused::NoSuchSource(..) => Problem::not_found("no_such_source", detail),
            Refused::Cannot(..) => Problem::new(StatusCode::CONFLICT, "cannot_drill", detail),
            Refused::Underway(_) => Problem::new(StatusCode::CONFLICT, "drill_underway", detail),
        }
    })?;
    Ok((StatusCode::ACCEPTED, Json(Begun { drills })))
}
