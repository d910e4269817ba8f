//! `POST /hooks/{name}`: monitoring systems call.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};

use super::body;
use super::freeze::{Frozen, filter_error, not_durable};
use super::problem::Problem;
use super::state::App;
use crate::time::Timestamp;
use crate::trigger::webhook::{BodyError, HookOutcome};

/// Refused calls by the code of their problem.
#[derive(Debug, Default)]
pub(super) struct RefusedCalls {
    by_code: Mutex<BTreeMap<&'static str, u64>>,
}

impl RefusedCalls {
    fn count(&self, code: &'static str) {
        let mut by_code = self.by_code.lock().unwrap_or_else(PoisonError::into_inner);
        *by_code.entry(code).or_default() += 1;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let by_code = self.by_code.lock().unwrap_or_else(PoisonError::into_inner);
        by_code.clone()
    }
}

/// `POST /hooks/{name}`.
pub(super) async fn receive(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    match take_call(&app, &name, request).await {
        Ok(answer) => answer,
        Err(problem) => {
            tracing::warn!(hook = ?name, code = problem.code(), "hook call refused");
            app.refused().count(problem.code());
            problem.into_response()
        }
    }
}

async fn take_call(app: &App, name: &str, request: Request) -> Result<Response, Problem> {
    let received = Timestamp::now();
    let hook = app.hook(name).ok_or_else(|| {
        let detail = "there is no [[webhook]] of this name in the configuration";
        Problem::not_found("no_such_hook", detail)
    })?;
    let token = request.headers().get(AUTHORIZATION);
    if !hook.authorise(token.and_then(|token| token.to_str().ok())) {
        let detail = "send the hook's token: Authorization: Bearer TOKEN";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "bad_token", detail));
    }
    body::check_json(request.headers())?;
    let bytes = body::read(request.into_body()).await?;
    let mut trigger = match hook.accept(&bytes, received) {
        HookOutcome::Trigger(trigger) => trigger,
        HookOutcome::Nothing => return Ok(Json(Frozen { incident: None }).into_response()),
        HookOutcome::Refused(BodyError::TooLarge) => {
            let detail = BodyError::TooLarge.to_string();
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                detail,
            ));
        }
        HookOutcome::Refused(error) => return Err(Problem::bad("bad_body", error.to_string())),
    };
    if let Some(filter) = &trigger.suggested_filter
        && let Some(words) = filter_error(filter).await?
    {
        // A wrong suggestion must not cost the freeze.
        trigger.suggested_filter = None;
        trigger.fields.insert("filter_error".to_owned(), words);
    }
    let accepted = app.incidents().intake().submit(*trigger).await;
    let accepted = accepted.map_err(|refused| not_durable(&refused))?;
    hook.handle().triggered();
    let incident = Some(accepted.incident);
    Ok((StatusCode::ACCEPTED, Json(Frozen { incident })).into_response())
}
