//! `POST /api/v1/notify/{name}/test`: does a message arrive?

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::problem::Problem;
use super::state::App;
use crate::notify::{TestError, Tested};

/// `POST /api/v1/notify/{name}/test`: sends a test message by the way of all others, once, and
/// answers when it is known what came of it.
pub(super) async fn test(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Tested>, Problem> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match app.notifier().test(&name).await {
        Ok(tested) => Ok(Json(tested)),
        Err(error @ TestError::NoSuchTarget(_)) => {
            Err(Problem::not_found("no_such_target", error.to_string()))
        }
        Err(error @ TestError::Failed(_)) => {
            let status = StatusCode::BAD_GATEWAY;
            Err(Problem::new(status, "not_delivered", error.to_string()))
        }
    }
}
