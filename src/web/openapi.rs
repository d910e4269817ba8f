//! `GET /api/openapi.json`: kept by hand; a test holds it against the table of routes.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
