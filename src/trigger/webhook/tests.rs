//! Bodies as senders post them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const RECEIVED: &str = "2026-11-23T10:03:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn alert(status: &str, instance: &str, starts: &str, summary: &str) -> serde_json::Value {
    json!({
        "status": status,
        "labels": {"alertname": "TargetDown", "instance": instance, "job": "node"},
        "annotations": {"summary": summary},
        "startsAt": starts,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.test/graph",
        "fingerprint": "5a3c6f8e1d2b4a70"
    })
}

fn notification(group: &serde_json::Value, alerts: &[serde_json::Value]) -> Vec<u8> {
    json!({
        "version": "4", "groupKey": "{}:{alertname=\"TargetDown\"}", "truncatedAlerts": 0,
        "status": "firing", "receiver": "wirewitness", "groupLabels": group,
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.test",
        "somethingNew": [1, 2, 3], "alerts": alerts
    })
    .to_string()
    .into_bytes()
}

fn parse(body: &[u8]) -> Result<Option<Trigger>, BodyError> {
    parse_alertmanager("prometheus", body, at(RECEIVED))
}

#[test]
fn firing_alerts_become_one_trigger_at_the_first_start() {
    let group = json!({"instance": "192.0.2.7:9100", "alertname": "TargetDown"});
    let body = notification(
        &group,
        &[
            alert(
                "firing",
                "192.0.2.7:9100",
                "2026-11-23T10:02:30Z",
                "edge is down",
            ),
            alert(
                "firing",
                "[2001:db8::7]:9100",
                "2026-11-23T10:02:11.5+00:00",
                "core is down",
            ),
            alert(
                "resolved",
                "192.0.2.9:9100",
                "2026-11-23T09:00:00Z",
                "was down",
            ),
        ],
    );
    let trigger = parse(&body).unwrap().unwrap();
    assert_eq!(
        trigger.subject,
        "alertname=TargetDown,instance=192.0.2.7:9100"
    );
    assert_eq!(trigger.at, at("2026-11-23T10:02:11.5Z"));
    assert_eq!(trigger.text, "2 alerts firing: edge is down; core is down");
    assert_eq!(trigger.fields["instance"], "[2001:db8::7]:9100");
    assert_eq!(
        trigger.suggested_filter.as_deref(),
        Some("host 192.0.2.7 or host 2001:db8::7")
    );
    assert_eq!(
        trigger.dedup_key.as_deref(),
        Some("{}:{alertname=\"TargetDown\"} 2026-11-23T10:02:11.5+00:00")
    );
}

#[test]
fn only_resolved_alerts_freeze_nothing() {
    let body = notification(
        &json!({}),
        &[alert(
            "resolved",
            "192.0.2.9:9100",
            "2026-11-23T09:00:00Z",
            "x",
        )],
    );
    assert_eq!(parse(&body), Ok(None));
    assert_eq!(parse(&notification(&json!({}), &[])), Ok(None));
}

#[test]
fn without_group_labels_the_alert_names_the_subject() {
    let body = notification(
        &json!({}),
        &[alert("firing", "router1", "2026-11-23T10:02:30Z", "")],
    );
    let trigger = parse(&body).unwrap().unwrap();
    assert_eq!(
        trigger.subject,
        "alertname=TargetDown,instance=router1,job=node"
    );
    assert_eq!(trigger.text, "TargetDown");
    assert_eq!(trigger.suggested_filter, None);
}

#[test]
fn an_implausible_start_is_replaced_and_marked() {
    for (starts, clock) in [
        ("2026-11-20T10:02:30Z", Some("past")),
        ("2027-11-20T10:02:30Z", Some("future")),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
    ] {
        let body = notification(&json!({}), &[alert("firing", "x", starts, "s")]);
        let trigger = parse(&body).unwrap().unwrap();
        assert_eq!(trigger.at, at(RECEIVED), "{starts}");
        assert_eq!(
            trigger.fields.get("clock").map(String::as_str),
            clock,
            "{starts}"
        );
    }
}

#[test]
fn what_is_no_notification_is_refused_with_a_reason() {
    for body in [
        &b""[..],
        b"{}",
        b"[]",
        b"{\"alerts\": {}}",
        b"{\"alerts\": [1]}",
        b"{\"alerts\": [{\"labels\": {\"a\": 1}}]}",
        b"\xff",
    ] {
        assert!(matches!(parse(body), Err(BodyError::Json(_))), "{body:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(parse(deep.as_bytes()), Err(BodyError::Json(_))));
    let huge = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(parse(&huge), Err(BodyError::TooLarge));
}

#[test]
fn the_generic_body() {
    let parse = |body: serde_json::Value| {
        parse_generic("scripts", body.to_string().as_bytes(), at(RECEIVED))
    };
    let trigger = parse(json!({
        "subject": "link 3", "text": "link 3\u{1b} is down", "at": "2026-11-23T10:02:11Z",
        "before": "10m", "after": "30s", "fields": {"port": 3, "site": "osaka"},
        "filter": "host 192.0.2.1", "key": "event-1", "status": "firing"
    }))
    .unwrap()
    .unwrap();
    assert_eq!(trigger.subject, "link 3");
    assert_eq!(trigger.text, "link 3\\x1b is down");
    assert_eq!(trigger.at, at("2026-11-23T10:02:11Z"));
    assert_eq!(trigger.before, Some(std::time::Duration::from_mins(10)));
    assert_eq!(trigger.fields["port"], "3");
    assert_eq!(trigger.dedup_key.as_deref(), Some("event-1"));
    assert_eq!(
        parse(json!({"text": "t"})).unwrap().unwrap().subject,
        "scripts"
    );
    assert_eq!(parse(json!({"subject": "s"})).unwrap().unwrap().text, "s");
    assert_eq!(
        parse(json!({"subject": "s", "status": "resolved"})),
        Ok(None)
    );
    for (body, key) in [
        (json!({}), "subject"),
        (json!({"subject": " "}), "subject"),
        (json!({"subject": "s", "at": "noon"}), "at"),
        (json!({"subject": "s", "before": "long"}), "before"),
        (json!({"subject": "s", "after": "999d"}), "after"),
        (json!({"subject": "s", "fields": {"a": [1]}}), "fields"),
    ] {
        let error = parse(body).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
    }
}

fn config(token: Option<&str>, token_file: Option<PathBuf>) -> WebhookConfig {
    WebhookConfig {
        name: "prometheus".to_owned(),
        kind: HookKind::Alertmanager,
        token: token.map(str::to_owned),
        token_file,
    }
}

#[test]
fn only_the_token_opens_the_hook() {
    let sources = Sources::default();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret-token\n").unwrap();
    for config in [config(Some("s3cret-token"), None), config(None, Some(file))] {
        let hook = Hook::from_config(&config, &sources).unwrap();
        assert!(hook.authorise(Some("Bearer s3cret-token")));
        assert!(hook.authorise(Some("bearer  s3cret-token ")));
        let wrong = [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("s3cret-token"),
            Some("Basic s3cret-token"),
            Some("Bearer s3cret-tokem"),
            Some("Bearer s3cret-token2"),
        ];
        for header in wrong {
            assert!(!hook.authorise(header), "{header:?}");
        }
        assert_eq!(hook.handle().get(Count::Refused), 8);
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}

#[test]
fn a_hook_without_a_secret_is_no_hook() {
    let sources = Sources::default();
    let error =
        |config: &WebhookConfig| Hook::from_config(config, &sources).unwrap_err().to_string();
    assert!(error(&config(None, None)).contains("either token or token_file"));
    assert!(error(&config(Some("  "), None)).contains("empty"));
    assert!(error(&config(None, Some("/nowhere/token".into()))).contains("/nowhere/token"));
    let mut bad = config(Some("long enough"), None);
    bad.name = "../x".to_owned();
    assert!(error(&bad).contains("name"));
    let twice = [
        config(Some("long enough"), None),
        config(Some("long enough"), None),
    ];
    assert!(matches!(
        Hook::all(&twice, &sources),
        Err(HookError::Duplicate(_))
    ));
}

proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..600usize) {
        let received = at(RECEIVED);
        let _random = parse_generic("x", &bytes, received);
        let _random = parse_alertmanager("x", &bytes, received);
        let group = json!({"a": "b"});
        let whole = notification(&group, &[alert("firing", "192.0.2.1:1", RECEIVED, "s")]);
        let mut damaged = whole.get(..cut).unwrap_or(&whole).to_vec();
        damaged.extend(&bytes);
        let _damaged = parse_alertmanager("x", &damaged, received);
    }
}
