//! Who may call what, over the whole table of routes.

use std::collections::BTreeSet;

use super::*;
use crate::web::auth::Access;
use crate::web::openapi::OPENAPI;
use crate::web::routes::ROUTES;

fn target(path: &str) -> String {
    path.replace("{id}", "20261123T100211Z-5f3a9c")
        .replace("{name}", "monitoring")
        .replace("{*path}", "no-such-file.js")
}

#[tokio::test]
async fn every_route_asks_for_what_the_table_says() {
    let site = Site::new();
    let tokens = [Role::Viewer, Role::Analyst, Role::Admin].map(|role| (role, site.token(role)));
    for route in ROUTES {
        let target = target(route.path);
        let ask = |token: Option<&str>| {
            let mut request = request(route.method.clone(), &target);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            site.send(request.body(Body::empty()).unwrap())
        };
        let about = format!("{} {}", route.method, route.path);
        match route.access {
            Access::Open => {
                let answer = ask(None).await;
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{about}");
            }
            Access::Hook => {
                for token in [None, Some(tokens[2].1.as_str())] {
                    assert_eq!(ask(token).await.code(), "bad_token", "{about}");
                }
            }
            Access::Role(needed) => {
                for forged in [None, Some("ww_00"), Some("hook-token-1"), Some("")] {
                    let answer = ask(forged).await;
                    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{about}");
                    assert_eq!(answer.code(), "not_logged_in", "{about}");
                    assert_eq!(answer.header("www-authenticate"), "Bearer");
                }
                for (role, token) in &tokens {
                    let answer = ask(Some(token)).await;
                    if *role >= needed {
                        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                        assert!(!refused.contains(&answer.status), "{about} as {role}");
                    } else {
                        assert_eq!(answer.code(), "forbidden", "{about} as {role}");
                    }
                }
            }
        }
    }
}

#[test]
fn only_these_routes_are_open() {
    let open = ROUTES.iter().filter(|route| route.access == Access::Open);
    let open: BTreeSet<_> = open.map(|route| route.path).collect();
    let expected = ["/", "/api/v1/login", "/healthz", "/{*path}"];
    assert_eq!(open, BTreeSet::from(expected));
}

#[test]
fn the_openapi_page_lists_exactly_the_table() {
    let page: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let mut listed = BTreeSet::new();
    for (path, methods) in page["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let role = operation["x-role"].as_str().unwrap();
            listed.insert((path.clone(), method.to_uppercase(), role.to_owned()));
        }
    }
    let table = ROUTES.iter().map(|route| {
        let role = match route.access {
            Access::Open => "open".to_owned(),
            Access::Hook => "hook".to_owned(),
            Access::Role(role) => role.to_string(),
        };
        let path = route.path.replace("{*path}", "{path}");
        (path, route.method.to_string(), role)
    });
    assert_eq!(listed, table.collect());
}

#[tokio::test]
async fn no_spelling_of_an_address_gets_around_the_login() {
    let site = Site::new();
    for target in [
        "/api/v1/incidents/{id}",
        "/api/v1/incidents/:id/pcap",
        "/api/v1/status/",
        "/api/v1//status",
        "//api/v1/status",
        "/API/V1/STATUS",
        "/api/v1/status%2f",
        "/api/v1/%73tatus",
        "/api/v1/x/../status",
        "/x/../../api/v1/status",
        "/api/v1/status.",
        "/api/v1/status;x",
        "/metrics/",
        "/../accounts.json",
        "/%2e%2e/accounts.json",
        "/assets/..%2f..%2faccounts.json",
        "/%ff%fe",
        "/api/v1/incidents/%ff",
    ] {
        let uri = target.replace('{', "%7B").replace('}', "%7D");
        let answer = site.send(get(&uri)).await;
        assert!(
            answer.status.is_client_error(),
            "{target}: {}",
            answer.status
        );
        assert!(
            answer.headers["content-type"] == "application/problem+json",
            "{target}"
        );
    }
}

#[tokio::test]
async fn every_answer_tells_the_browser_to_be_strict() {
    let site = Site::new();
    let admin = site.token(Role::Admin);
    for target in ["/", "/healthz", "/nothing", "/api/v1/status", "/metrics"] {
        for request in [get(target), get_as(target, &admin)] {
            let answer = site.send(request).await;
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("default-src 'self'"), "{target}");
            assert!(policy.contains("frame-ancestors 'none'"), "{target}");
            assert!(!policy.contains("unsafe"), "{target}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("referrer-policy"), "no-referrer");
            assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
            if target != "/" {
                assert_eq!(answer.header("cache-control"), "no-store", "{target}");
            }
        }
    }
}

#[tokio::test]
async fn a_foreign_host_is_turned_away_before_anything_else() {
    let site = Site::new();
    let admin = site.token(Role::Admin);
    let ask = |hosts: &[&str], target: &str| {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let token = format!("Bearer {admin}");
        site.send(
            request
                .header("authorization", token)
                .body(Body::empty())
                .unwrap(),
        )
    };
    for hosts in [
        &["evil.example"][..],
        &[],
        &["localhost", "evil.example"],
        &["x@localhost"],
    ] {
        let answer = ask(hosts, "/api/v1/session").await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{hosts:?}");
        assert_eq!(answer.code(), "wrong_host");
    }
    let absolute = ask(&["localhost"], "http://evil.example/api/v1/session").await;
    assert_eq!(absolute.code(), "wrong_host");
    for host in ["localhost", "127.0.0.1:1", "[::1]:8642", "wire.example.net"] {
        assert_eq!(
            ask(&[host], "/api/v1/session").await.status,
            StatusCode::OK,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_change_from_another_site_is_refused_reading_is_the_browsers_matter() {
    let site = Site::new();
    let admin = site.token(Role::Admin);
    let crossings = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in crossings {
        for route in ROUTES {
            let request = request(route.method.clone(), &target(route.path))
                .header("authorization", format!("Bearer {admin}"))
                .header(name, value);
            let answer = site.send(request.body(Body::empty()).unwrap()).await;
            let about = format!("{name}: {value}, {} {}", route.method, route.path);
            if [Method::GET, Method::OPTIONS].contains(&route.method) {
                assert_ne!(answer.status, StatusCode::FORBIDDEN, "{about}");
            } else {
                assert_eq!(answer.code(), "cross_origin", "{about}");
            }
        }
    }
    assert!(site.app.incidents().list().is_empty());
}
