//! `GET /healthz`: for load balancers and monitoring, without login and without detail of the
//! network.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::state::App;
use super::status::Picture;
use crate::recorder::protocol::InterfaceState;

#[derive(Serialize)]
struct Body {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

/// `GET /healthz`.
pub(super) async fn healthz(State(app): State<App>) -> Response {
    let problems = problems(&*app.board().picture(&app).await);
    let (code, status) = if problems.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "degraded")
    };
    (code, Json(Body { status, problems })).into_response()
}

/// What keeps us from recording. A path or an address would tell a stranger too much, so none is
/// named; the status page does.
fn problems(picture: &Picture) -> Vec<String> {
    if !picture.recorder.reachable {
        return vec!["the recorder is not reachable".to_owned()];
    }
    let mut problems = Vec::new();
    for interface in &picture.interfaces {
        let name = &interface.name;
        match interface.state {
            InterfaceState::Running | InterfaceState::Finished => {}
            InterfaceState::Down => problems.push(format!("interface {name} is down")),
            InterfaceState::Absent => problems.push(format!("there is no interface {name}")),
            InterfaceState::Failed => problems.push(format!("interface {name} is not recorded")),
        }
        if interface.disk_error.is_some() {
            problems.push(format!("the disk under the ring of {name} reports errors"));
        }
    }
    problems
}
