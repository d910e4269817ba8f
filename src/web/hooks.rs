//! `POST /hooks/{name}`: monitoring systems call.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::body;
use super::freeze::{filter_error, not_durable};
use super::problem::Problem;
use super::serve::{Names, Peer};
use super::state::App;
use crate::time::Timestamp;
use crate::trigger::status::Count;
use crate::trigger::webhook::{BodyError, Caller, Denied, Event, Hook};
use crate::trigger::{Accepted, Refused, Trigger};

/// Calls that wait for the disk at once: fewer than there are connections, so that people are
/// still served. A source of more is told to come again.
const CALLS_MAX: usize = 384;
/// How soon.
const AGAIN_SECONDS: u64 = 1;
/// A line in the log about refused calls at most this often: anybody can call.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Filters remembered with what libpcap says of them.
const FILTERS_MAX: usize = 1024;

/// What the hooks share: room for calls, what was refused, filters already looked at.
#[derive(Debug)]
pub(super) struct Calls {
    room: Semaphore,
    refused: Mutex<RefusedCalls>,
    filters: Mutex<HashMap<String, Option<String>>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            room: Semaphore::new(CALLS_MAX),
            refused: Mutex::default(),
            filters: Mutex::default(),
        }
    }
}

/// Refused calls by the code of their problem.
#[derive(Debug, Default)]
struct RefusedCalls {
    by_code: BTreeMap<&'static str, u64>,
    said: Option<Instant>,
}

impl Calls {
    /// Takes all the room.
    #[cfg(test)]
    pub(super) fn fill(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(CALLS_MAX).unwrap_or(u32::MAX);
        self.room.try_acquire_many(all).unwrap()
    }

    /// Counts a refusal; whether it is worth a line in the log.
    fn refuse(&self, code: &'static str, now: Instant) -> bool {
        let mut refused = locked(&self.refused);
        *refused.by_code.entry(code).or_default() += 1;
        let quiet = refused
            .said
            .is_none_or(|at| now.saturating_duration_since(at) >= LINE_EVERY);
        if quiet {
            refused.said = Some(now);
        }
        quiet
    }

    /// Calls that were refused, by the code of their problem.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.refused).by_code.clone()
    }

    /// libpcap's words on a filter that does not compile; asked once for each filter.
    async fn filter_error(&self, filter: &str) -> Result<Option<String>, Problem> {
        if let Some(known) = locked(&self.filters).get(filter) {
            return Ok(known.clone());
        }
        let words = filter_error(filter).await?;
        let mut filters = locked(&self.filters);
        if filters.len() >= FILTERS_MAX {
            filters.clear();
        }
        filters.insert(filter.to_owned(), words.clone());
        Ok(words)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call did.
#[derive(Debug, Serialize)]
struct Taken {
    /// The first incident that it opened, joined or ended; `null` when it asked for nothing.
    incident: Option<String>,
    /// All of them, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incidents: Vec<String>,
    /// The maintenance windows because of which something of it freezes nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silenced_by: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    access_token: Option<String>,
}

/// `POST /hooks/{name}`.
pub(super) async fn receive(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    answer(&app, &name, None, request).await
}

/// `POST /hooks/{name}/{token}`, for senders that cannot set a header.
pub(super) async fn receive_with_token(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (name, token) = path.map(|Path(path)| path).unwrap_or_default();
    answer(&app, &name, Some(token), request).await
}

/// `OPTIONS /hooks/{name}`: the handshake of `CloudEvents`' webhooks (section 4). Whoever may call
/// is told by the hook's secret, so any origin and any rate is allowed.
pub(super) async fn handshake(
    State(app): State<App>,
    path: Result<Path<BTreeMap<String, String>>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let mut path = path.map(|Path(path)| path).unwrap_or_default();
    let name = path.remove("name").unwrap_or_default();
    let caller = caller(&request, path.remove("token"));
    let admitted = hook(&app, &name)?.admit(&caller);
    admitted.map_err(|why| denied(&why))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("POST, PUT, OPTIONS"));
    if let Some(origin) = request.headers().get("webhook-request-origin") {
        headers.insert("webhook-allowed-origin", origin.clone());
        headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    }
    Ok(response)
}

fn hook<'a>(app: &'a App, name: &str) -> Result<&'a Hook, Problem> {
    app.hook(name).ok_or_else(|| {
        let detail = "there is no [[webhook]] of this name in the configuration";
        Problem::not_found("no_such_hook", detail)
    })
}

async fn answer(app: &App, name: &str, token: Option<String>, request: Request) -> Response {
    match take_call(app, name, token, request).await {
        Ok(answer) => answer,
        Err(problem) => {
            if app.calls().refuse(problem.code(), Instant::now()) {
                tracing::warn!(hook = ?name, code = problem.code(), "hook calls are refused");
            }
            problem.into_response()
        }
    }
}

async fn take_call(
    app: &App,
    name: &str,
    token: Option<String>,
    request: Request,
) -> Result<Response, Problem> {
    let received = Timestamp::now();
    let hook = hook(app, name)?;
    let caller = caller(&request, token);
    hook.admit(&caller).map_err(|why| denied(&why))?;
    let bytes = body::read(request.into_body()).await?;
    hook.check(&caller, &bytes, received)
        .map_err(|why| denied(&why))?;
    let events = hook
        .accept(&caller, &bytes, received)
        .map_err(|why| refused(&why))?;
    let _place = app.calls().room.try_acquire().map_err(|_| busy(hook))?;
    let mut done = Vec::with_capacity(events.len());
    let mut silenced_by = Vec::new();
    let mut opened = None;
    let mut triggered = false;
    for event in events {
        match event {
            Event::Trigger(trigger) => {
                let delay = trigger.received.since(trigger.at);
                let own_time = trigger.own_time;
                match freeze(app, *trigger).await? {
                    Ok(accepted) => {
                        triggered = true;
                        if !accepted.joined {
                            opened.get_or_insert_with(|| accepted.incident.clone());
                        }
                        if !done.contains(&accepted.incident) {
                            done.push(accepted.incident);
                        }
                        hook.handle().triggered();
                        // Repeats carry the time of the first, which says nothing of the sender.
                        if own_time && !accepted.joined {
                            hook.handle().observe(delay);
                        }
                    }
                    Err(window) => {
                        hook.handle().count(Count::Silenced);
                        if !silenced_by.contains(&window) {
                            silenced_by.push(window);
                        }
                    }
                }
            }
            Event::Resolution(resolution) => {
                let ended = app.incidents().intake().resolve(*resolution).await;
                let ended = ended.map_err(|refused| not_durable(&refused))?;
                if let Some(accepted) = ended {
                    hook.handle().count(Count::Resolved);
                    if !done.contains(&accepted.incident) {
                        done.push(accepted.incident);
                    }
                }
            }
        }
    }
    let status = if triggered {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    let answer = Taken {
        // What is new says more than what was known.
        incident: opened.or_else(|| done.first().cloned()),
        incidents: if done.len() > 1 { done } else { Vec::new() },
        silenced_by,
    };
    Ok((status, Json(answer)).into_response())
}

fn caller(request: &Request, token: Option<String>) -> Caller {
    let headers = request.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let query = || {
        let shown = Query::<Shown>::try_from_uri(request.uri());
        shown.ok().and_then(|Query(shown)| shown.access_token)
    };
    Caller {
        address: match request.extensions().get::<Peer>() {
            Some(Peer::Tcp { remote, .. }) => Some(remote.ip()),
            _ => None,
        },
        headers: headers.collect(),
        token: token.or_else(query),
        names: request
            .extensions()
            .get::<Names>()
            .map_or_else(Arc::default, |names| Arc::clone(&names.0)),
    }
}

fn denied(denied: &Denied) -> Problem {
    let (status, code) = match denied {
        Denied::Address(_) => (StatusCode::FORBIDDEN, "bad_address"),
        Denied::Certificate => (StatusCode::FORBIDDEN, "bad_certificate"),
        Denied::Token | Denied::Basic => (StatusCode::UNAUTHORIZED, "bad_token"),
        Denied::Signature(_) => (StatusCode::UNAUTHORIZED, "bad_signature"),
        Denied::Stale(_) => (StatusCode::UNAUTHORIZED, "stale_signature"),
    };
    Problem::new(status, code, denied.to_string())
}

fn busy(hook: &Hook) -> Problem {
    hook.handle().count(Count::Refused);
    let detail = "too many calls wait for the disk; this one was not taken, send it again";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_calls", detail).retry_after(AGAIN_SECONDS)
}

fn refused(error: &BodyError) -> Problem {
    let detail = error.to_string();
    match error {
        BodyError::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail),
        BodyError::MediaType => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail)
        }
        BodyError::Json(_) | BodyError::Value { .. } => Problem::bad("bad_body", detail),
    }
}

/// The incident of a trigger, or the maintenance window that silences it.
async fn freeze(app: &App, mut trigger: Trigger) -> Result<Result<Accepted, String>, Problem> {
    if let Some(filter) = &trigger.suggested_filter
        && let Some(words) = app.calls().filter_error(filter).await?
    {
        // A wrong suggestion must not cost the freeze.
        trigger.suggested_filter = None;
        trigger.fields.insert("filter_error".to_owned(), words);
    }
    match app.incidents().intake().submit(trigger).await {
        Ok(accepted) => Ok(Ok(accepted)),
        Err(Refused::Silenced(window)) => Ok(Err(window)),
        Err(refused) => Err(not_durable(&refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_counts_and_few_are_worth_a_line() {
        let calls = Calls::default();
        let now = Instant::now();
        assert!(calls.refuse("bad_token", now));
        assert!(!calls.refuse("bad_token", now));
        assert!(!calls.refuse("too_large", now + LINE_EVERY / 2));
        assert!(calls.refuse("bad_token", now + LINE_EVERY));
        let counts = calls.refused();
        assert_eq!((counts["bad_token"], counts["too_large"]), (3, 1));
    }
}
