//! The UI, embedded in the binary when it was built (`build.rs` looks), and a page that says so
//! when it was not.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

#[cfg(ui_built)]
#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
struct Dist;

const NOT_BUILT: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <title>wirewitness</title>\n<h1>wirewitness</h1>\n\
    <p>This binary was built without its user interface. Run <code>make</code> in the source\n\
    folder and start the result. Recording, the command line and the API work as they are.</p>\n\
    </html>\n";

/// `GET /`.
pub(super) async fn index() -> Response {
    #[cfg(ui_built)]
    let page = Dist::get("index.html").map_or(NOT_BUILT.as_bytes().into(), |file| file.data);
    #[cfg(not(ui_built))]
    let page = NOT_BUILT;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, page).into_response()
}

/// `GET /assets/...` and the few files beside it. A missing one is missing: the page instead of a
/// script would only hide the fault.
pub(super) async fn asset(path: Option<Path<String>>) -> Response {
    let path = path.map(|Path(path)| path).unwrap_or_default();
    #[cfg(ui_built)]
    if let Some(file) = Dist::get(&path) {
        let headers = [
            (CONTENT_TYPE, content_type(&path)),
            (CACHE_CONTROL, cache_control(&path)),
        ];
        return (headers, file.data).into_response();
    }
    let detail = format!("there is nothing at /{}", path.escape_default());
    Problem::not_found("no_such_page", detail).into_response()
}

#[cfg_attr(not(ui_built), expect(dead_code, reason = "used once there is a UI"))]
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// What lies in `assets/` carries a hash of its content in its name and never changes.
#[cfg_attr(not(ui_built), expect(dead_code, reason = "used once there is a UI"))]
fn cache_control(path: &str) -> &'static str {
    if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}
