//! The table of all routes: router, tests of access and the OpenAPI page are made from it, so a
//! route without a stated access cannot exist.

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::accounts::Role;
use super::auth::{Access, authorise};
use super::guard::guard;
use super::problem::Problem;
use super::session;
use super::state::App;
use super::{assets, openapi};

/// One route.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    handler: fn() -> MethodRouter<App>,
}

const VIEWER: Access = Access::Role(Role::Viewer);
const ANALYST: Access = Access::Role(Role::Analyst);
const ADMIN: Access = Access::Role(Role::Admin);

const fn route(
    method: Method,
    path: &'static str,
    access: Access,
    handler: fn() -> MethodRouter<App>,
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
    route(Method::GET, "/", Access::Open, || get(assets::index)),
    route(Method::GET, "/{*path}", Access::Open, || get(assets::asset)),
    route(Method::POST, "/api/v1/login", Access::Open, || post(session::login)),
    route(Method::POST, "/api/v1/logout", VIEWER, || post(session::logout)),
    route(Method::GET, "/api/v1/session", VIEWER, || get(session::session)),
    route(Method::GET, "/api/openapi.json", VIEWER, || get(openapi::openapi)),
];

/// The service of all routes.
pub(super) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let state = (app.clone(), route.access);
        let handler = (route.handler)().route_layer(from_fn_with_state(state, authorise));
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
