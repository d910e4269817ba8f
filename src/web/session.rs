//! `/api/v1/login`, `/api/v1/logout`, `/api/v1/session`.

use axum::extract::State;
use axum::http::header::{ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::accounts::Role;
use super::auth::{COOKIE_NAME, Principal};
use super::body::JsonBody;
use super::problem::Problem;
use super::serve::Peer;
use super::state::App;

#[derive(Serialize)]
struct Body {
    user: String,
    role: Role,
    version: &'static str,
}

impl From<Principal> for Body {
    fn from(principal: Principal) -> Self {
        Self {
            user: principal.name,
            role: principal.role,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Name and password, or a one-time code.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Credentials {
    Password { user: String, password: String },
    Link { link: String },
}

/// `POST /api/v1/login`.
pub(super) async fn login(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    JsonBody(credentials): JsonBody<Credentials>,
) -> Result<Response, Problem> {
    let peer = peer.map(|Extension(peer)| peer);
    let (principal, secret) = match credentials {
        Credentials::Password { user, password } => app.auth().login(user, password, peer).await?,
        Credentials::Link { link } => app.auth().login_by_link(&link, peer)?,
    };
    let lifetime = app.auth().session_lifetime().as_secs();
    let cookie = set_cookie(&secret, lifetime, &headers, peer);
    Ok(([(SET_COOKIE, cookie)], Json(Body::from(principal))).into_response())
}

/// `POST /api/v1/logout`.
pub(super) async fn logout(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    app.auth().logout(&headers);
    let cookie = set_cookie("", 0, &headers, peer.map(|Extension(peer)| peer));
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

/// `GET /api/v1/session`.
pub(super) async fn session(Extension(principal): Extension<Principal>) -> Response {
    Json(Body::from(principal)).into_response()
}

/// `Secure` within TLS, and when the browser says it talks TLS (to a proxy before us); over plain
/// HTTP the browser would throw such a cookie away.
fn set_cookie(secret: &str, seconds: u64, headers: &HeaderMap, peer: Option<Peer>) -> String {
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let tls = origin.is_some_and(|origin| origin.starts_with(b"https://"))
        || matches!(peer, Some(Peer::Tcp { tls: true, .. }));
    let secure = if tls { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}
