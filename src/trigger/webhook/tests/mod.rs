//! Bodies as senders post them.

mod admission;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::trigger::event_time::{Beyond, Limits};
use crate::trigger::{Resolution, Trigger};

const RECEIVED: &str = "2026-11-23T10:03:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn alert(status: &str, instance: &str, starts: &str, summary: &str) -> Value {
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

fn notification(group: &Value, alerts: &[Value]) -> Vec<u8> {
    json!({
        "version": "4", "groupKey": "{}:{alertname=\"TargetDown\"}", "truncatedAlerts": 0,
        "status": "firing", "receiver": "wirewitness", "groupLabels": group,
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.test",
        "somethingNew": [1, 2, 3], "alerts": alerts
    })
    .to_string()
    .into_bytes()
}

fn config(kind: HookKind) -> WebhookConfig {
    WebhookConfig {
        token: "s3cret-token".to_owned().into(),
        zone: Some(Zone::Offset(9 * 3600)),
        ..WebhookConfig::new("hook", kind)
    }
}

fn hook(config: &WebhookConfig) -> Hook {
    Hook::from_config(config, &Sources::default()).unwrap()
}

fn sends(media: &str) -> Caller {
    Caller {
        headers: [("Content-Type", media)].into_iter().collect(),
        ..Caller::default()
    }
}

fn read(kind: HookKind, body: &[u8]) -> Result<Vec<Event>, BodyError> {
    let caller = sends("application/json");
    hook(&config(kind)).accept(&caller, body, at(RECEIVED))
}

fn events(kind: HookKind, body: &Value) -> Vec<Event> {
    read(kind, body.to_string().as_bytes()).unwrap()
}

fn trigger(kind: HookKind, body: &Value) -> Trigger {
    match events(kind, body).as_slice() {
        [Event::Trigger(trigger)] => (**trigger).clone(),
        other => panic!("{other:?}"),
    }
}

fn resolution(kind: HookKind, body: &Value) -> Resolution {
    match events(kind, body).as_slice() {
        [Event::Resolution(resolution)] => (**resolution).clone(),
        other => panic!("{other:?}"),
    }
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn firing_alerts_become_a_trigger_for_each_instant_at_which_they_began() {
    let group = json!({"instance": "192.0.2.7:9100", "alertname": "TargetDown"});
    let one = alert(
        "firing",
        "192.0.2.7:9100",
        "2026-11-23T10:02:30Z",
        "edge is down",
    );
    let two = alert(
        "firing",
        "[2001:db8::7]:9100",
        "2026-11-23T10:02:11.5+00:00",
        "core is down",
    );
    let with_two = alert(
        "firing",
        "192.0.2.7:9100",
        "2026-11-23T10:02:11.5+00:00",
        "so is its twin",
    );
    let over = alert(
        "resolved",
        "192.0.2.9:9100",
        "2026-11-23T09:00:00Z",
        "was down",
    );
    for kind in [HookKind::Alertmanager, HookKind::Grafana] {
        let body = notification(
            &group,
            &[one.clone(), two.clone(), with_two.clone(), over.clone()],
        );
        let events = events(kind, &value(&body));
        let [Event::Trigger(trigger), Event::Trigger(later)] = events.as_slice() else {
            panic!("{events:?}");
        };
        let subject = "alertname=TargetDown,instance=192.0.2.7:9100";
        assert_eq!((&*trigger.subject, &*later.subject), (subject, subject));
        assert_eq!(trigger.at, at("2026-11-23T10:02:11.5Z"));
        assert_eq!(
            trigger.text,
            "2 alerts firing: core is down; so is its twin"
        );
        assert_eq!(trigger.fields["instance"], "[2001:db8::7]:9100");
        assert_eq!(later.at, at("2026-11-23T10:02:30Z"));
        assert_eq!(later.text, "edge is down");
        assert_eq!(later.suggested_filter, trigger.suggested_filter);
        assert_eq!(
            trigger.suggested_filter.as_deref(),
            Some("host 192.0.2.7 or host 2001:db8::7")
        );
        assert_eq!(
            trigger.dedup_key.as_deref(),
            Some("hook/{}:{alertname=\"TargetDown\"} 2026-11-23T10:02:11.5+00:00")
        );
        assert!(trigger.body.as_ref().unwrap().contains("edge is down"));
    }
}

#[test]
fn resolved_alerts_end_what_they_began() {
    let group = json!({"alertname": "TargetDown"});
    let firing = alert("firing", "192.0.2.9:9100", "2026-11-23T10:02:00Z", "x");
    let fired = trigger(
        HookKind::Alertmanager,
        &value(&notification(&group, &[firing])),
    );
    let mut resolved = alert("resolved", "192.0.2.9:9100", "2026-11-23T10:02:00Z", "x");
    resolved["endsAt"] = json!("2026-11-23T10:02:50Z");
    let over = resolution(
        HookKind::Alertmanager,
        &value(&notification(&group, &[resolved])),
    );
    assert_eq!(over.subject, fired.subject);
    assert_eq!(over.dedup_key, fired.dedup_key);
    assert_eq!(over.at, at("2026-11-23T10:02:50Z"));
    assert_eq!(
        events(HookKind::Alertmanager, &value(&notification(&group, &[]))),
        []
    );
}

#[test]
fn without_group_labels_the_alert_names_the_subject() {
    let alert = alert("firing", "router1", "2026-11-23T10:02:30Z", "");
    let trigger = trigger(
        HookKind::Alertmanager,
        &value(&notification(&json!({}), &[alert])),
    );
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
        let alert = alert("firing", "x", starts, "s");
        let trigger = trigger(
            HookKind::Alertmanager,
            &value(&notification(&json!({}), &[alert])),
        );
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
    let bodies = [
        &b""[..],
        b"{}",
        b"[]",
        b"{\"alerts\": {}}",
        b"{\"alerts\": [1]}",
        b"{\"alerts\": [{\"labels\": {\"a\": 1}}]}",
        b"\xff",
    ];
    for body in bodies {
        let refused = read(HookKind::Alertmanager, body);
        assert!(matches!(refused, Err(BodyError::Json(_))), "{body:?}");
    }
    let deep = "[".repeat(100_000);
    let huge = vec![b' '; BODY_BYTES_MAX + 1];
    for kind in HookKind::ALL {
        assert!(
            matches!(read(kind, deep.as_bytes()), Err(BodyError::Json(_))),
            "{kind:?}"
        );
        assert_eq!(read(kind, &huge), Err(BodyError::TooLarge), "{kind:?}");
    }
}

#[test]
fn the_generic_body() {
    let generic = HookKind::Generic;
    let full = trigger(
        generic,
        &json!({
            "subject": "link 3", "text": "link 3\u{1b} is down", "at": "2026-11-23T10:02:11Z",
            "before": "10m", "after": "30s", "fields": {"port": 3, "site": "osaka"},
            "filter": "host 192.0.2.1", "key": "event-1", "status": "firing"
        }),
    );
    assert_eq!(full.subject, "link 3");
    assert_eq!(full.text, "link 3\\x1b is down");
    assert_eq!(full.at, at("2026-11-23T10:02:11Z"));
    assert_eq!(full.before, Some(Duration::from_mins(10)));
    assert_eq!(full.fields["port"], "3");
    assert_eq!(full.dedup_key.as_deref(), Some("hook/event-1"));
    assert_eq!(trigger(generic, &json!({"text": "t"})).subject, "hook");
    assert_eq!(trigger(generic, &json!({"subject": "s"})).text, "s");
    let over = resolution(generic, &json!({"key": "event-1", "status": "resolved"}));
    assert_eq!(over.dedup_key.as_deref(), Some("hook/event-1"));
    for (body, key) in [
        (json!({}), "subject"),
        (json!({"subject": " "}), "subject"),
        (json!({"subject": "s", "at": "noon"}), "at"),
        (json!({"subject": "s", "before": "long"}), "before"),
        (
            json!({"subject": "s", "before": "0s", "after": "0s"}),
            "before",
        ),
        (json!({"subject": "s", "after": "999d"}), "after"),
        (json!({"subject": "s", "fields": {"a": [1]}}), "fields"),
    ] {
        let error = read(generic, body.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
    }
}

#[test]
fn zabbix_problems_and_recoveries() {
    let problem = json!({
        "EVENT.ID": "4711", "EVENT.NAME": "Interface Gi0/1: Link down", "EVENT.VALUE": "1",
        "EVENT.DATE": "2026.11.23", "EVENT.TIME": "19:02:11", "EVENT.OPDATA": "Current state: down (2)",
        "EVENT.UPDATE.STATUS": "0", "HOST.HOST": "sw1", "HOST.IP": "192.0.2.5", "TRIGGER.URL": "{TRIGGER.URL}"
    });
    let fired = trigger(HookKind::Zabbix, &problem);
    assert_eq!(fired.subject, "sw1: Interface Gi0/1: Link down");
    assert_eq!(
        fired.text,
        "Interface Gi0/1: Link down: Current state: down (2)"
    );
    assert_eq!(fired.at, at("2026-11-23T10:02:11Z"), "the zone is +09:00");
    assert_eq!(fired.suggested_filter.as_deref(), Some("host 192.0.2.5"));
    assert_eq!(fired.fields["EVENT.ID"], "4711");
    assert!(!fired.fields.contains_key("TRIGGER.URL"));
    let mut recovery = problem.clone();
    recovery["EVENT.VALUE"] = json!("0");
    let over = resolution(HookKind::Zabbix, &recovery);
    assert_eq!(
        (over.dedup_key, over.subject),
        (fired.dedup_key, fired.subject)
    );
    let mut update = problem.clone();
    update["EVENT.UPDATE.STATUS"] = json!("1");
    assert_eq!(events(HookKind::Zabbix, &update), []);
    assert!(read(HookKind::Zabbix, b"{\"EVENT.VALUE\": \"1\"}").is_err());
    let default = |subject: &str| json!({"Subject": subject, "Message": "m", "To": "ops"});
    let fired = trigger(HookKind::Zabbix, &default("Problem: Link down"));
    let over = resolution(HookKind::Zabbix, &default("Resolved in 5m 2s: Link down"));
    assert_eq!(
        (&*fired.subject, &*over.subject),
        ("Link down", "Link down")
    );
}

#[test]
fn a_delivery_that_is_repeated_has_an_identity_where_its_sender_names_it() {
    let mut caller = sends("application/json");
    caller.headers = [
        ("Content-Type", "application/json"),
        ("webhook-id", "msg_1"),
    ]
    .into_iter()
    .collect();
    let key = |body: &[u8]| {
        let events = hook(&config(HookKind::Generic)).accept(&caller, body, at(RECEIVED));
        match events.unwrap().as_slice() {
            [Event::Trigger(trigger)] => trigger.dedup_key.clone(),
            [Event::Resolution(over)] => over.dedup_key.clone(),
            other => panic!("{other:?}"),
        }
    };
    let named = |text: &str| Some(text.to_owned());
    assert_eq!(key(br#"{"text": "x"}"#), named("hook/delivery msg_1 0"));
    assert_eq!(key(br#"{"text": "x", "key": "7"}"#), named("hook/7"));
    assert_eq!(key(br#"{"text": "x", "status": "ok"}"#), None);
}

#[test]
fn icinga_notifications_as_a_form_and_as_json() {
    let form = b"type=PROBLEM&host=core-1&service=ping4&state=CRITICAL&output=PING+CRITICAL+-+Packet+loss+%3D+100%25&time=1795428131&address=192.0.2.9";
    let caller = sends("application/x-www-form-urlencoded");
    let icinga = hook(&config(HookKind::Icinga));
    let events = icinga.accept(&caller, form, at(RECEIVED)).unwrap();
    let [Event::Trigger(fired)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(fired.subject, "core-1 ping4");
    assert_eq!(
        fired.text,
        "PROBLEM CRITICAL: PING CRITICAL - Packet loss = 100%"
    );
    assert_eq!(fired.at, at("2026-11-23T10:02:11Z"));
    assert_eq!(fired.suggested_filter.as_deref(), Some("host 192.0.2.9"));
    let body = |kind: &str| json!({"type": kind, "host": "core-1", "service": "ping4"});
    assert_eq!(
        resolution(HookKind::Icinga, &body("RECOVERY")).subject,
        fired.subject
    );
    for quiet in ["ACKNOWLEDGEMENT", "DOWNTIMESTART", "CUSTOM"] {
        assert_eq!(tests::events(HookKind::Icinga, &body(quiet)), [], "{quiet}");
    }
    let multipart = sends("multipart/form-data; boundary=x");
    let refused = icinga.accept(&multipart, form, at(RECEIVED)).unwrap_err();
    assert!(refused.to_string().contains("multipart/form-data: "));
    let text = sends("text/plain");
    assert_eq!(
        icinga.accept(&text, form, at(RECEIVED)),
        Err(BodyError::MediaType)
    );
}

#[test]
fn uptime_kuma_without_its_secrets() {
    let body = |status: u8| {
        json!({
            "heartbeat": {"monitorID": 3, "status": status, "time": "2026-11-23 19:02:11.500", "msg": "timeout of 48000ms exceeded", "ping": null},
            "monitor": {"id": 3, "name": "shop", "url": "https://192.0.2.80:8443/login", "type": "http",
                        "basic_auth_pass": "hunter2", "headers": "{\"X-Key\": \"hunter2\"}", "hostname": null},
            "msg": "[shop] [Down] timeout"
        })
    };
    let fired = trigger(HookKind::UptimeKuma, &body(0));
    assert_eq!(
        (fired.subject.as_str(), fired.text.as_str()),
        ("shop", "timeout of 48000ms exceeded")
    );
    assert_eq!(fired.at, at("2026-11-23T10:02:11.5Z"));
    assert_eq!(fired.suggested_filter.as_deref(), Some("host 192.0.2.80"));
    let kept = fired.body.unwrap();
    assert!(!kept.contains("hunter2") && kept.contains("shop"), "{kept}");
    let mut told = body(0);
    told["monitor"]["url"] = json!("https://u:hunter2@192.0.2.80/x?token=hunter2");
    told["heartbeat"]["msg"] = json!("401 with password=hunter2");
    told["api_token"] = json!("hunter2");
    let fired = trigger(HookKind::UptimeKuma, &told);
    let everything = format!("{fired:?}");
    assert!(!everything.contains("hunter2"), "{everything}");
    assert!(everything.contains("401 with"), "{everything}");
    assert_eq!(resolution(HookKind::UptimeKuma, &body(1)).subject, "shop");
    assert_eq!(events(HookKind::UptimeKuma, &body(2)), []);
    let test = json!({"heartbeat": null, "monitor": null, "msg": "Testing"});
    assert_eq!(events(HookKind::UptimeKuma, &test), []);
    assert!(read(HookKind::UptimeKuma, b"{}").is_err());
    let kuma = hook(&config(HookKind::UptimeKuma));
    let form = |field: &str| {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n");
        let form = format!("{head}{}\r\n--x--\r\n", body(0));
        kuma.accept(
            &sends("multipart/form-data; boundary=x"),
            form.as_bytes(),
            at(RECEIVED),
        )
    };
    let events = form("data").unwrap();
    let [Event::Trigger(fired)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(fired.subject, "shop");
    assert!(!format!("{fired:?}").contains("hunter2"), "{fired:?}");
    let error = form("payload").unwrap_err().to_string();
    assert!(error.contains("data"), "{error}");
}

#[test]
fn pagerduty_incidents_and_pings() {
    let body = |kind: &str, id: &str| {
        json!({"event": {"id": id, "event_type": kind, "resource_type": "incident",
            "occurred_at": "2026-11-23T10:02:11.123Z", "agent": null,
            "data": {"id": "PGR0VU2", "type": "incident", "number": 2, "title": "A little bump in the road",
                     "service": {"summary": "API Service"}, "status": "triggered", "priority": {"summary": "P1"}}}})
    };
    let fired = trigger(HookKind::Pagerduty, &body("incident.triggered", "01A"));
    assert_eq!(fired.subject, "API Service #2 A little bump in the road");
    assert_eq!(fired.at, at("2026-11-23T10:02:11.123Z"));
    assert_eq!(fired.dedup_key.as_deref(), Some("hook/pagerduty PGR0VU2"));
    assert_eq!(fired.fields["priority"], "P1");
    let mut renamed = body("incident.resolved", "01B");
    renamed["event"]["data"]["title"] = json!("A bump that was understood");
    let over = resolution(HookKind::Pagerduty, &renamed);
    assert_eq!(over.dedup_key, fired.dedup_key);
    for quiet in ["pagey.ping", "incident.acknowledged", "incident.annotated"] {
        assert_eq!(
            events(HookKind::Pagerduty, &body(quiet, "01C")),
            [],
            "{quiet}"
        );
    }
    assert!(read(HookKind::Pagerduty, b"{\"messages\": []}").is_err());
}

#[test]
fn datadog_kibana_and_splunk() {
    let fired = trigger(
        HookKind::Datadog,
        &json!({"title": "[Triggered on {host:web-1}] Ping loss", "body": "50 %", "date": "1795428131000",
                "alert_transition": "Triggered", "alert_cycle_key": "77", "hostname": "web-1", "scope": "$ALERT_SCOPE"}),
    );
    assert_eq!(fired.subject, "web-1: Ping loss");
    assert_eq!(fired.at, at("2026-11-23T10:02:11Z"));
    let over = resolution(
        HookKind::Datadog,
        &json!({"title": "[Recovered on {host:web-1}] Ping loss", "alert_transition": "Recovered",
                "ALERT_CYCLE_KEY": "77", "hostname": "web-1"}),
    );
    assert_eq!(
        (over.dedup_key, over.subject),
        (fired.dedup_key, fired.subject)
    );

    let default = |mark: &str| {
        let title = format!("[{mark}] Ping loss");
        json!({"id": "1", "title": title, "event_type": "query_alert_monitor", "date": "1795428131000"})
    };
    let fired = trigger(HookKind::Datadog, &default("Triggered on {host:web-1}"));
    let over = resolution(HookKind::Datadog, &default("Recovered on {host:web-1}"));
    assert_eq!(over.subject, fired.subject);

    let body = |group: &str| {
        json!({"rule_id": "r1", "rule": "Loss", "alert_id": "web-1", "group": group,
               "date": "2026-11-23T10:02:11.000Z", "reason": "loss is 50 %"})
    };
    let fired = trigger(HookKind::Kibana, &body("threshold met"));
    assert_eq!(
        (fired.subject.as_str(), fired.text.as_str()),
        ("Loss: web-1", "loss is 50 %")
    );
    assert_eq!(
        resolution(HookKind::Kibana, &body("recovered")).subject,
        fired.subject
    );

    let fired = trigger(
        HookKind::Splunk,
        &json!({"result": {"host": "192.0.2.4", "_time": "1795428131.250", "_raw": "%LINK-3-UPDOWN"},
                "sid": "scheduler_1", "search_name": "link down", "owner": "admin", "app": "search", "results_link": "http://x"}),
    );
    assert_eq!(fired.subject, "192.0.2.4: link down");
    assert_eq!(fired.at, at("2026-11-23T10:02:11.25Z"));
    assert_eq!(fired.text, "%LINK-3-UPDOWN");
    assert_eq!(fired.suggested_filter.as_deref(), Some("host 192.0.2.4"));
}

#[test]
fn cloudevents_structured_batched_and_binary() {
    let event = |id: &str, kind: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/net/osaka", "type": kind, "subject": "link 3",
               "time": "2026-11-23T10:02:11Z", "data": {"message": "link down", "host": "192.0.2.3"}})
    };
    let one = trigger(HookKind::Cloudevents, &event("1", "net.link.down"));
    assert_eq!(
        (one.subject.as_str(), one.text.as_str()),
        ("link 3", "link down")
    );
    assert_eq!(one.dedup_key.as_deref(), Some("hook//net/osaka 1"));
    assert_eq!(one.suggested_filter.as_deref(), Some("host 192.0.2.3"));
    let mut other = event("3", "net.link.down");
    other["subject"] = json!("link 4");
    let several = json!([
        event("1", "net.link.down"),
        event("2", "net.link.down"),
        other
    ]);
    let bodies: Vec<bool> = events(HookKind::Cloudevents, &several)
        .iter()
        .map(|event| matches!(event, Event::Trigger(one) if one.body.is_some()))
        .collect();
    assert_eq!(bodies, [true, false, true], "each incident has it once");
    let batch = json!([event("1", "net.link.down"), event("2", "net.link.resolved")]);
    let both = events(HookKind::Cloudevents, &batch);
    assert!(
        matches!(both.as_slice(), [Event::Trigger(_), Event::Resolution(_)]),
        "{both:?}"
    );
    let binary = Caller {
        headers: [
            ("content-type", "text/plain"),
            ("ce-specversion", "1.0"),
            ("ce-id", "9"),
            ("ce-source", "/net/osaka"),
            ("ce-type", "net.link.down"),
            ("ce-subject", "link%203"),
        ]
        .into_iter()
        .collect(),
        ..Caller::default()
    };
    let hook = hook(&config(HookKind::Cloudevents));
    let read = hook.accept(&binary, b"it broke", at(RECEIVED)).unwrap();
    let [Event::Trigger(fired)] = read.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!(
        (fired.subject.as_str(), fired.text.as_str()),
        ("link 3", "it broke")
    );
    let mut broken = event("1", "x");
    broken["source"] = json!("");
    let error = tests::read(HookKind::Cloudevents, broken.to_string().as_bytes());
    assert!(error.unwrap_err().to_string().starts_with("source: "));
}

#[test]
fn any_shape_by_json_pointer() {
    let mut config = config(HookKind::Generic);
    config.map = Some(
        toml::from_str(
            r#"
            each = "/alarms"
            subject = ["/device/name", "/port"]
            text = "/message"
            at = "/raised"
            key = "/id"
            status = "/state"
            resolved = ["CLEAR"]
            host = "/device/ip"
            fields = { site = "/device/site" }
            "#,
        )
        .unwrap(),
    );
    let body = json!({"alarms": [
        {"id": 5, "device": {"name": "sw1", "ip": "192.0.2.1", "site": "osaka"}, "port": "ge-0/0/1",
         "message": "loss of signal", "raised": 1_795_428_131, "state": "RAISED"},
        {"id": 5, "device": {"name": "sw1"}, "port": "ge-0/0/1", "message": "x", "state": "CLEAR"}
    ]});
    let hook = hook(&config);
    let json = sends("application/json");
    let events = hook
        .accept(&json, body.to_string().as_bytes(), at(RECEIVED))
        .unwrap();
    let [Event::Trigger(fired), Event::Resolution(over)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(fired.subject, "sw1 ge-0/0/1");
    assert_eq!(fired.at, at("2026-11-23T10:02:11Z"));
    assert_eq!(fired.fields["site"], "osaka");
    assert_eq!(fired.suggested_filter.as_deref(), Some("host 192.0.2.1"));
    assert_eq!(
        (&over.subject, &over.dedup_key),
        (&fired.subject, &fired.dedup_key)
    );
    let error = hook
        .accept(&json, b"{}", at(RECEIVED))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/alarms"), "{error}");
    for (map, word) in [
        ("text = \"message\"", "JSON pointer"),
        ("at = \"/a\"", "subject"),
    ] {
        config.map = Some(toml::from_str(map).unwrap());
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn an_event_without_a_time_is_as_old_as_calls_usually_are() {
    let mut late = config(HookKind::Generic);
    late.late = Duration::from_secs(90);
    let json = sends("application/json");
    let events = hook(&late)
        .accept(&json, b"{\"subject\": \"s\"}", at(RECEIVED))
        .unwrap();
    let [Event::Trigger(fired)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(fired.at, at("2026-11-23T10:01:30Z"));
}

#[test]
fn a_time_that_is_not_believed_is_marked_or_refused_as_configured() {
    let json = sends("application/json");
    let body = b"{\"subject\": \"s\", \"at\": \"2020-01-01T00:00:00Z\"}";
    let over = b"{\"subject\": \"s\", \"at\": \"2020-01-01T00:00:00Z\", \"status\": \"resolved\"}";
    let asks = |beyond| {
        let limits = Limits {
            beyond,
            ..Limits::default()
        };
        let hook = Hook::from_config(&config(HookKind::Generic), &Sources::new(limits)).unwrap();
        let events = hook.accept(&json, body, at(RECEIVED)).unwrap();
        assert_eq!(hook.handle().get(Count::Past), 1);
        let ends = hook.accept(&json, over, at(RECEIVED)).unwrap();
        assert!(
            matches!(ends.as_slice(), [Event::Resolution(_)]),
            "an end is an end"
        );
        events
    };
    let marked = asks(Beyond::Arrival);
    let [Event::Trigger(fired)] = marked.as_slice() else {
        panic!("{marked:?}");
    };
    assert_eq!(fired.at, at(RECEIVED));
    assert_eq!(fired.doubt.unwrap().claimed, at("2020-01-01T00:00:00Z"));
    assert!(!fired.own_time, "it teaches nothing");
    assert_eq!(asks(Beyond::Refuse), []);
}

proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..600usize) {
        let whole = notification(&json!({"a": "b"}), &[alert("firing", "192.0.2.1:1", RECEIVED, "s")]);
        let mut damaged = whole.get(..cut).unwrap_or(&whole).to_vec();
        damaged.extend(&bytes);
        for kind in HookKind::ALL {
            let _random = read(kind, &bytes);
            let _damaged = read(kind, &damaged);
        }
    }

    #[test]
    fn no_value_panics(
        names in proptest::collection::vec("(event|heartbeat|monitor|result|data|status|time|date|type|host|name|at|[a-z]{1,4})", 0..8),
        texts in proptest::collection::vec(".{0,20}", 8),
    ) {
        let inner: Map<String, Value> = names.iter().zip(&texts)
            .map(|(name, text)| (name.clone(), json!(text))).collect();
        let mut outer = inner.clone();
        for name in &names {
            outer.insert(name.clone(), json!(inner));
        }
        for body in [json!(inner), json!(outer)] {
            for kind in HookKind::ALL {
                let _any = read(kind, body.to_string().as_bytes());
            }
        }
    }
}
