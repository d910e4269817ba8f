//! What the routes do.

use serde_json::json;

use super::*;

const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "a\r\nSet-Cookie: x=y",
    "\u{202e}txt.exe\u{0}\u{1b}[31m",
    "'; DROP TABLE flows; --",
    "{{7*7}}${7*7}",
];

#[tokio::test]
async fn a_freeze_is_durable_and_its_text_inert() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    for text in HOSTILE {
        let body = json!({"reason": text, "before": "1m", "after": "1h", "filter": "tcp port 80"});
        let answer = site
            .send(post_as("/api/v1/incidents", &analyst, &body))
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{text:?}");
        let id = answer.json()["incident"].as_str().unwrap().to_owned();
        let one = site
            .send(get_as(&format!("/api/v1/incidents/{id}"), &analyst))
            .await;
        assert_eq!(one.header("content-type"), "application/json");
        let incident = one.json();
        assert_eq!(incident["trigger"]["kind"], "manual");
        assert_eq!(incident["trigger"]["source"], "analyst-token");
        assert_eq!(incident["suggested_filter"], "tcp port 80");
    }
    let all = site
        .send(get_as("/api/v1/incidents?state=&q=", &analyst))
        .await;
    assert_eq!(all.json().as_array().unwrap().len(), HOSTILE.len());
    let found = site
        .send(get_as("/api/v1/incidents?q=DROP%20table", &analyst))
        .await;
    assert_eq!(found.json().as_array().unwrap().len(), 1);
    let none = site
        .send(get_as("/api/v1/incidents?state=sealed", &analyst))
        .await;
    assert_eq!(none.json(), json!([]));
    let first = site
        .send(get_as("/api/v1/incidents?limit=1", &analyst))
        .await;
    assert_eq!(first.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_freeze_is_refused_with_the_reason() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    for (body, code) in [
        (json!({"filter": "hots 192.0.2.1"}), "bad_filter"),
        (json!({"before": "soon"}), "bad_span"),
        (json!({"after": "1y"}), "bad_span"),
        (json!({"befor": "5m"}), "bad_body"),
        (json!({"reason": 7}), "bad_body"),
    ] {
        let answer = site
            .send(post_as("/api/v1/incidents", &analyst, &body))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.code(), code, "{body}");
    }
    let body = json!({"filter": "hots 192.0.2.1"});
    let answer = site
        .send(post_as("/api/v1/incidents", &analyst, &body))
        .await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("syntax error"), "{detail}");
    assert!(site.app.incidents().list().is_empty());
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    for (target, code) in [
        ("/api/v1/incidents?state=open", "bad_parameter"),
        ("/api/v1/incidents?limit=-1", "bad_parameter"),
        ("/api/v1/incidents?stat=sealed", "bad_parameter"),
        ("/api/v1/ring/pcap?format=erf", "bad_parameter"),
        ("/api/v1/ring/pcap?from=yesterday", "bad_time"),
        ("/api/v1/ring/pcap?from=now&to=-1m", "bad_window"),
        ("/api/v1/ring/pcap?filter=hots%20x", "bad_filter"),
        ("/api/v1/ring/pcap?from=-1m", "nothing_to_give"),
        (
            "/api/v1/incidents/20261123T100211Z-5f3a9c",
            "no_such_incident",
        ),
        ("/api/v1/incidents/..%2f..%2fetc/pcap", "no_such_incident"),
        ("/api/v1/incidents/%ff/bundle", "no_such_incident"),
    ] {
        let answer = site.send(get_as(target, &analyst)).await;
        assert_eq!(answer.code(), code, "{target}");
    }
}

#[tokio::test]
async fn an_empty_answer_names_its_reason() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    let answer = site
        .send(get_as("/api/v1/ring/pcap?from=-1m", &analyst))
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("recorder does not answer"), "{detail}");
}

#[tokio::test]
async fn an_incident_still_collecting_is_not_released() {
    let site = Site::new();
    let admin = site.token(Role::Admin);
    let frozen = site
        .send(post_as("/api/v1/incidents", &admin, &json!({})))
        .await;
    let id = frozen.json()["incident"].as_str().unwrap().to_owned();
    let release = request(Method::DELETE, &format!("/api/v1/incidents/{id}"))
        .header("authorization", format!("Bearer {admin}"));
    let answer = site.send(release.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.code(), "not_sealed");
    assert!(site.app.incidents().get(&id).is_some());
}

fn call(token: Option<&str>, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request(Method::POST, "/hooks/monitoring").header("content-type", kind);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn calls_without_room_are_told_to_come_again_and_counted() {
    let site = Site::new();
    let send = || {
        site.send(call(
            Some("hook-token-1"),
            "application/json",
            r#"{"subject": "x"}"#,
        ))
    };
    let full = site.app.calls().fill();
    let refused = send().await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (refused.code().as_str(), refused.header("retry-after")),
        ("too_many_calls", "1")
    );
    drop(full);
    assert_eq!(send().await.status, StatusCode::ACCEPTED);
    assert_eq!(site.app.calls().refused()["too_many_calls"], 1);
    assert_eq!(site.app.incidents().list().len(), 1);
}

#[tokio::test]
async fn hooks_take_what_is_theirs_and_count_what_is_not() {
    let site = Site::new();
    let token = Some("hook-token-1");
    let json = "application/json";
    let accepted = site
        .send(call(token, json, r#"{"subject": "disk", "text": "full"}"#))
        .await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    let id = accepted.json()["incident"].as_str().unwrap().to_owned();
    assert_eq!(site.app.incidents().get(&id).unwrap().subject, "disk");
    for (request, status, code) in [
        (call(None, json, "{}"), 401, "bad_token"),
        (call(Some("hook-token-2"), json, "{}"), 401, "bad_token"),
        (call(token, "text/plain", "{}"), 415, "not_json"),
        (call(token, json, "{}"), 400, "bad_body"),
        (call(token, json, &b"\xff\xfe"[..]), 400, "bad_body"),
        (
            call(token, json, vec![b' '; (1 << 20) + 1]),
            413,
            "too_large",
        ),
    ] {
        let answer = site.send(request).await;
        assert_eq!(answer.status, status, "{code}");
        assert_eq!(answer.code(), code);
    }
    let other = request(Method::POST, "/hooks/other")
        .body(Body::empty())
        .unwrap();
    assert_eq!(site.send(other).await.code(), "no_such_hook");
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        let request = request(method.clone(), "/hooks/monitoring");
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    let metrics = site
        .send(get_as("/metrics", &site.token(Role::Viewer)))
        .await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "wirewitness_webhooks_refused_total{reason=\"bad_token\"} 2",
        "wirewitness_webhooks_refused_total{reason=\"bad_body\"} 2",
        "wirewitness_webhooks_refused_total{reason=\"too_large\"} 1",
        "wirewitness_triggers_total{kind=\"webhook\",source=\"monitoring\"} 1",
        "wirewitness_incidents{state=\"collecting\"} 1",
        "wirewitness_recorder_up 0",
        "wirewitness_build_info{version=\"",
        "wirewitness_evidence_quota_bytes 1000",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_large_body_is_cut_off_even_without_a_length() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 65536]));
    let request = request(Method::POST, "/api/v1/incidents")
        .header("authorization", format!("Bearer {analyst}"))
        .header("content-type", "application/json");
    let answer = site
        .send(request.body(Body::from_stream(chunks)).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.code(), "too_large");
}

#[tokio::test]
async fn status_and_health_say_that_the_recorder_is_away() {
    let site = Site::new();
    let health = site.send(get("/healthz")).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["status"], "degraded");
    assert!(!String::from_utf8_lossy(&health.body).contains("control.sock"));
    let status = site
        .send(get_as("/api/v1/status", &site.token(Role::Viewer)))
        .await;
    let status = status.json();
    assert_eq!(status["recorder"]["reachable"], false);
    assert!(
        status["recorder"]["error"]
            .as_str()
            .unwrap()
            .contains("control.sock")
    );
    assert_eq!(status["server"]["sources"][0]["name"], "monitoring");
    assert!(status["disk"]["free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(status["interfaces"], json!([]));
}

#[tokio::test]
async fn a_page_is_there_and_a_missing_asset_is_missing() {
    let site = Site::new();
    let page = site.send(get("/")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-cache");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(
        !text.contains("<script>") && !text.contains("style="),
        "{text}"
    );
    let missing = site.send(get("/assets/gone-1234.js")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.code(), "no_such_page");
}
