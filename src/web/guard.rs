//! What holds for every request and every answer: the Host must be ours, a change must not come
//! from another site, and the browser is told to be strict.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::Principal;
use super::problem::Problem;
use super::serve::Peer;
use super::state::App;

/// No script, style or connection but our own; nobody may frame us.
pub(super) const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 8] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
    (CACHE_CONTROL, "no-store"),
];

/// For a month: as long as a browser refuses to speak plain HTTP after TLS was taken away.
const STRICT: &str = "max-age=2592000";

/// The outermost layer.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = without_token(request.uri().path());
    let peer = request.extensions().get::<Peer>().copied();
    let checked = check(&request, peer, &app.config().hosts);
    let strict = stays_strict(request.headers(), peer);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    if strict {
        let strict = HeaderValue::from_static(STRICT);
        response
            .headers_mut()
            .insert(STRICT_TRANSPORT_SECURITY, strict);
    }
    log(&method, &path, peer, &response, started);
    response
}

/// Whether a browser may be told to speak nothing but TLS to this name. Not of this machine's own
/// names: other programs listen there, without it.
fn stays_strict(headers: &HeaderMap, peer: Option<Peer>) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let local = |host: Authority| {
        let host = host.host();
        host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "[::1]"
    };
    matches!(peer, Some(Peer::Tcp { tls: true, .. })) && host.is_some_and(|host| !local(host))
}

fn check(request: &Request, peer: Option<Peer>, hosts: &[String]) -> Result<(), Problem> {
    let headers = request.headers();
    // A browser cannot reach the unix socket, so nothing can be rebound to it.
    if !matches!(peer, Some(Peer::Unix { .. })) {
        let local = match peer {
            Some(Peer::Tcp { local, .. }) => Some(local.ip()),
            _ => None,
        };
        let host = asked_host(headers, request.uri()).filter(|host| is_ours(host, local, hosts));
        if host.is_none() {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "this server does not go by that Host name; add the name to [web] hosts",
            ));
        }
    }
    if is_change(request.method()) && !is_same_site(headers, hosts) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_origin",
            "a change was asked for by a page of another site; if this is your own proxy, add its \
             name to [web] hosts",
        ));
    }
    Ok(())
}

/// The host asked for; `None` when it is missing, given twice, or contradicts the request line.
fn asked_host(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let mut given = headers.get_all(HOST).iter();
    let (host, None) = (given.next()?, given.next()) else {
        return None;
    };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    let plain = !host.as_str().contains('@');
    let agrees = uri.authority().is_none_or(|asked| *asked == host);
    (plain && agrees).then_some(host)
}

/// Whether a name is ours: a loopback name or address, the very address the client connected to,
/// or configured. The port is free, because a tunnel may change it.
fn is_ours(host: &Authority, local: Option<IpAddr>, hosts: &[String]) -> bool {
    let name = host.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        let address = address.to_canonical();
        if address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address) {
            return true;
        }
    }
    name.eq_ignore_ascii_case("localhost") || is_configured(name, hosts)
}

fn is_configured(name: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a browser, if it is one, says the request comes from our own page.
fn is_same_site(headers: &HeaderMap, hosts: &[String]) -> bool {
    let fetch_site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(fetch_site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|text| text.parse().ok());
    let Some(origin) = origin.as_ref().and_then(Uri::authority) else {
        return false;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(origin.as_str()))
        || is_configured(origin.host(), hosts)
}

/// The path without the token that a hook's caller may show in it.
fn without_token(path: &str) -> String {
    let hook = path
        .strip_prefix("/hooks/")
        .and_then(|rest| rest.split_once('/'));
    hook.map_or_else(|| path.to_owned(), |(name, _)| format!("/hooks/{name}/..."))
}

/// One line per request. Only the path is logged, with odd characters escaped: no query, no
/// header, so no token or code can get into the log.
fn log(method: &Method, path: &str, peer: Option<Peer>, response: &Response, started: Instant) {
    let status = response.status().as_u16();
    let user = response.extensions().get::<Principal>();
    let known = user.is_some();
    let user = user.map_or("-", |principal| principal.name.as_str());
    let ms = started.elapsed().as_millis();
    let peer = match peer {
        Some(Peer::Tcp { remote, .. }) => remote.ip().to_string(),
        Some(Peer::Unix { uid }) => format!("uid {uid}"),
        None => "-".to_owned(),
    };
    // A taken call of a hook stands in its incident; ten thousand a second would fill the disk.
    let taken = path.starts_with("/hooks/") && response.status().is_success();
    if !taken && is_worth_a_line(method, response.status(), known) {
        tracing::info!(%method, ?path, status, user, peer, ms, "request");
    } else {
        tracing::debug!(%method, ?path, status, user, peer, ms, "request");
    }
}

/// Dashboards poll; what changes something or fails is what people look for. What is refused to
/// nobody in particular is not: a stranger could fill the disk with it. Refused logins and hook
/// calls have lines of their own.
fn is_worth_a_line(method: &Method, status: StatusCode, known: bool) -> bool {
    if status.is_client_error() && !known {
        return false;
    }
    is_change(method) || status.is_client_error() || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(host: &str, local: Option<&str>) -> bool {
        let hosts = ["wire.example.net".to_owned()];
        let local = local.map(|local| local.parse().unwrap());
        host.parse().is_ok_and(|host| is_ours(&host, local, &hosts))
    }

    #[test]
    fn only_our_own_names_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:9000",
            "127.0.0.1:8642",
            "127.8.8.8",
            "[::1]:8642",
            "wire.example.net",
            "Wire.Example.Net:443",
        ] {
            assert!(ours(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.7",
            "2130706433",
            "0.0.0.0",
            "",
        ] {
            assert!(!ours(host, None), "{host}");
        }
        assert!(ours("192.0.2.7:8642", Some("192.0.2.7")));
        assert!(!ours("192.0.2.8:8642", Some("192.0.2.7")));
    }

    fn same_site(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        is_same_site(&pairs.collect(), &["wire.example.net".to_owned()])
    }

    #[test]
    fn the_token_in_a_path_is_not_logged() {
        assert_eq!(without_token("/hooks/path/secret"), "/hooks/path/...");
        assert_eq!(without_token("/hooks/path"), "/hooks/path");
    }

    #[test]
    fn a_stranger_does_not_fill_the_log() {
        let line = |method, status: u16, known| {
            is_worth_a_line(&method, StatusCode::from_u16(status).unwrap(), known)
        };
        assert!(!line(Method::GET, 401, false) && !line(Method::POST, 404, false));
        assert!(line(Method::GET, 403, true) && line(Method::POST, 404, true));
        assert!(line(Method::POST, 200, false) && line(Method::GET, 503, false));
        assert!(!line(Method::GET, 200, true));
    }

    #[test]
    fn a_change_from_another_site_is_seen() {
        let host = ("host", "localhost:8642");
        assert!(same_site(&[host]));
        assert!(same_site(&[host, ("origin", "http://localhost:8642")]));
        assert!(same_site(&[host, ("origin", "https://wire.example.net")]));
        assert!(same_site(&[host, ("sec-fetch-site", "same-origin")]));
        for origin in [
            "null",
            "",
            "http://localhost:3000",
            "http://evil.example",
            "http://localhost:8642.evil.example",
            "file://",
        ] {
            assert!(!same_site(&[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "Same-Origin", ""] {
            assert!(!same_site(&[host, ("sec-fetch-site", site)]), "{site}");
        }
    }
}
