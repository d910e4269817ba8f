//! The table of all routes: router, tests of access and the OpenAPI page are made from it, so a
//! route without a stated access cannot exist.

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::accounts::Role;
use super::auth::{Access, authorise};
use super::guard::guard;
use super::problem::Problem;
use super::state::App;
use super::{
    assets, bundle, drills, events, flows, freeze, health, hooks, incidents, metrics, notify,
    openapi, pcap, probes,
};
use super::{session, status, timeline};

/// One route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    handler: fn(MethodFilter) -> MethodRouter<App>,
}

const VIEWER: Access = Access::Role(Role::Viewer);
const ANALYST: Access = Access::Role(Role::Analyst);
const ADMIN: Access = Access::Role(Role::Admin);

const fn route(
    method: Method,
    path: &'static str,
    access: Access,
    handler: fn(MethodFilter) -> MethodRouter<App>,
) -> Route {
    Route {
        method,
        path,
        access,
        handler,
    }
}

#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    route(Method::GET, "/healthz", Access::Open, |method| on(method, health::healthz)),
    route(Method::GET, "/", Access::Open, |method| on(method, assets::index)),
    route(Method::GET, "/{*path}", Access::Open, |method| on(method, assets::asset)),
    route(Method::POST, "/hooks/{name}", Access::Hook, |method| on(method, hooks::receive)),
    route(Method::PUT, "/hooks/{name}", Access::Hook, |method| on(method, hooks::receive)),
    route(Method::OPTIONS, "/hooks/{name}", Access::Hook, |method| on(method, hooks::handshake)),
    route(Method::POST, "/hooks/{name}/{token}", Access::Hook, |method| on(method, hooks::receive_with_token)),
    route(Method::PUT, "/hooks/{name}/{token}", Access::Hook, |method| on(method, hooks::receive_with_token)),
    route(Method::OPTIONS, "/hooks/{name}/{token}", Access::Hook, |method| on(method, hooks::handshake)),
    route(Method::POST, "/api/v1/login", Access::Open, |method| on(method, session::login)),
    route(Method::POST, "/api/v1/logout", VIEWER, |method| on(method, session::logout)),
    route(Method::GET, "/api/v1/session", VIEWER, |method| on(method, session::session)),
    route(Method::GET, "/api/v1/status", VIEWER, |method| on(method, status::status)),
    route(Method::POST, "/api/v1/notify/{name}/test", ADMIN, |method| on(method, notify::test)),
    route(Method::GET, "/api/v1/probes", VIEWER, |method| on(method, probes::all)),
    route(Method::GET, "/api/v1/probes/{name}", VIEWER, |method| on(method, probes::one)),
    route(Method::GET, "/api/v1/drills", VIEWER, |method| on(method, drills::board)),
    route(Method::POST, "/api/v1/drills", ANALYST, |method| on(method, drills::begin)),
    route(Method::GET, "/api/v1/incidents", VIEWER, |method| on(method, incidents::list)),
    route(Method::POST, "/api/v1/incidents", ANALYST, |method| on(method, freeze::freeze)),
    route(Method::GET, "/api/v1/incidents/{id}", VIEWER, |method| on(method, incidents::one)),
    route(Method::DELETE, "/api/v1/incidents/{id}", ADMIN, |method| on(method, incidents::release)),
    route(Method::GET, "/api/v1/incidents/{id}/timeline", VIEWER, |method| on(method, timeline::timeline)),
    route(Method::GET, "/api/v1/incidents/{id}/flows", VIEWER, |method| on(method, flows::flows)),
    route(Method::GET, "/api/v1/incidents/{id}/probes", VIEWER, |method| on(method, probes::of_incident)),
    route(Method::GET, "/api/v1/incidents/{id}/pcap", ANALYST, |method| on(method, pcap::incident)),
    route(Method::GET, "/api/v1/incidents/{id}/bundle", ANALYST, |method| on(method, bundle::bundle)),
    route(Method::GET, "/api/v1/ring/pcap", ANALYST, |method| on(method, pcap::ring)),
    route(Method::GET, "/api/v1/events", VIEWER, |method| on(method, events::events)),
    route(Method::GET, "/api/openapi.json", VIEWER, |method| on(method, openapi::openapi)),
    route(Method::GET, "/metrics", VIEWER, |method| on(method, metrics::metrics)),
];

/// The service of all routes.
pub(super) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let Ok(method) = MethodFilter::try_from(route.method.clone()) else {
            continue;
        };
        let state = (app.clone(), route.access);
        let handler = (route.handler)(method).route_layer(from_fn_with_state(state, authorise));
        router = router.route(route.path, handler);
    }
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(explain_own_errors))
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn nothing_here() -> Problem {
    Problem::not_found("no_such_page", "there is nothing at this address")
}

async fn wrong_method() -> Problem {
    let detail = "this address does not take that method; see Allow";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", detail)
}

/// What the framework refuses by itself (a path that is not UTF-8) becomes a problem too.
async fn explain_own_errors(response: Response) -> Response {
    let status = response.status();
    let ours = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    if status.is_client_error() && !ours {
        let detail = "the address or a header of the request cannot be understood";
        return Problem::new(status, "bad_request", detail).into_response();
    }
    response
}
