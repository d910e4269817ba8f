//! `POST /api/v1/incidents`: a person asks for a freeze.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::auth::Principal;
use super::body::{JsonBody, given};
use super::problem::Problem;
use super::state::App;
use crate::packet::filter::BpfFilter;
use crate::time::Timestamp;
use crate::trigger::{Kind, Refused, Trigger};

/// The subject of a freeze without a reason.
const SUBJECT: &str = "manual freeze";
/// What drills call this source: a person.
const MANUAL: &str = "manual";
/// A longer span is a mistake: it would hold on to the whole ring.
const SPAN_MAX: Duration = Duration::from_hours(7 * 24);

/// What to freeze.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    before: Option<String>,
    after: Option<String>,
    reason: Option<String>,
    filter: Option<String>,
}

/// Where it went.
#[derive(Debug, Serialize)]
pub(super) struct Frozen {
    pub(super) incident: Option<String>,
}

/// `POST /api/v1/incidents`.
pub(super) async fn freeze(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    JsonBody(body): JsonBody<Body>,
) -> Result<(StatusCode, Json<Frozen>), Problem> {
    let now = Timestamp::now();
    let reason = given(body.reason.as_deref()).unwrap_or_default();
    let subject = if reason.is_empty() { SUBJECT } else { reason };
    let mut trigger = Trigger::new(Kind::Manual, &principal.name, subject, reason, now, now);
    trigger.before = span("before", body.before.as_deref())?;
    trigger.after = span("after", body.after.as_deref())?;
    let marks = app.sources().marks();
    if let Some(drill) = marks.hear(Kind::Manual, MANUAL, reason.as_bytes(), now) {
        trigger = drill;
    }
    if trigger.before == Some(Duration::ZERO) && trigger.after == Some(Duration::ZERO) {
        let detail = "before and after are both 0: nothing would be kept";
        return Err(Problem::bad("bad_span", detail));
    }
    if let Some(filter) = given(body.filter.as_deref()) {
        check_filter(filter).await?;
        trigger.suggested_filter = Some(filter.to_owned());
    }
    let accepted = app.incidents().intake().submit(trigger).await;
    let accepted = accepted.map_err(|refused| not_durable(&refused))?;
    let incident = Some(accepted.incident);
    Ok((StatusCode::ACCEPTED, Json(Frozen { incident })))
}

/// A trigger that could not be made durable: the sender should repeat it.
pub(super) fn not_durable(refused: &Refused) -> Problem {
    Problem::unavailable("journal", refused.to_string(), 5)
}

fn span(name: &str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    let span = humantime::parse_duration(text).map_err(|error| {
        let detail = format!("{name}: {text:?} is not a span such as 30s or 5m: {error}");
        Problem::bad("bad_span", detail)
    })?;
    if span > SPAN_MAX {
        let detail = format!("{name}: {text:?} is longer than 7 days");
        return Err(Problem::bad("bad_span", detail));
    }
    Ok(Some(span))
}

async fn check_filter(filter: &str) -> Result<(), Problem> {
    match filter_error(filter).await? {
        None => Ok(()),
        Some(words) => Err(Problem::bad("bad_filter", words)),
    }
}

/// libpcap's words on a filter that does not compile. On a thread that may wait: a host name in it
/// asks the name server, and that may be what is broken.
pub(super) async fn filter_error(filter: &str) -> Result<Option<String>, Problem> {
    let text = filter.to_owned();
    let compiled = tokio::task::spawn_blocking(move || BpfFilter::compile(&text, 1, 262_144));
    let compiled = compiled
        .await
        .map_err(|error| Problem::internal("check the filter", error))?;
    Ok(compiled.err().map(|error| error.to_string()))
}
