//! Reading what clients send: bounded in size and time, with errors as problems.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::problem::Problem;

/// The largest body taken.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
/// A body that is not here by then is not waited for.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Reads a body whole.
pub(super) async fn read(body: Body) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES_MAX)).await;
    let read = read.map_err(|_| {
        let detail = "the body did not arrive within 30 s";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail)
    })?;
    read.map_err(|error| {
        if is_too_large(&error) {
            let detail = "the body is larger than 1 MiB";
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
        } else {
            Problem::bad("bad_body", format!("the body cannot be read: {error}"))
        }
    })
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Refuses a body that does not say it is JSON: what a foreign page's form can send does not.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = given.and_then(|given| given.split(';').next());
    if kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not_json",
        "send JSON with Content-Type: application/json",
    ))
}

/// A JSON body of at most [`BODY_BYTES_MAX`] bytes.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_json(request.headers())?;
        let bytes = read(request.into_body()).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::bad("bad_body", format!("the body does not fit: {error}")))
    }
}

/// Query parameters; an unknown name is an error, so that a misspelt filter is not ignored.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|error| Problem::bad("bad_parameter", error.to_string()))
    }
}

/// A numeric parameter; empty means absent, as in a form left blank.
pub(super) fn number(name: &str, text: Option<&str>) -> Result<Option<usize>, Problem> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        let detail = format!("{name} must be a whole number, not {text:?}");
        Problem::bad("bad_parameter", detail)
    })
}

/// A parameter that takes the words of an enumeration.
pub(super) fn word<T: DeserializeOwned>(
    name: &str,
    text: Option<&str>,
) -> Result<Option<T>, Problem> {
    let Some(text) = given(text) else {
        return Ok(None);
    };
    let word = T::deserialize(StrDeserializer::<ValueError>::new(text));
    word.map(Some)
        .map_err(|error| Problem::bad("bad_parameter", format!("{name}: {error}")))
}

/// A parameter that is there and not blank.
pub(super) fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}
