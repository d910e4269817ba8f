//! What strangers write, from every source: it ends as inert text. And what every kind of hook
//! does with a repeat, an end and a secret.

use std::fmt::Write as _;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Http, Mirror, Recorder, Server, Setup, Site, Space, wait_for};
use crate::triggers::Running;

/// A shell's, a path's, a page's and a terminal's active parts, and a line's end.
const HOSTILE: &str = "$(touch @X@) ../../../etc/x <img src=x onerror=alert(1)> \u{1b}[31m\u{202e}\r\nSet-Cookie: a=b";
/// Must be nowhere in what is kept.
const PASSWORD: &str = "hunter2";

/// What a kind is sent: what begins an event, the same event again under another subject where the
/// kind has a key of its own, and its end.
struct Calls {
    kind: &'static str,
    media: &'static str,
    bodies: [Value; 3],
}

fn calls(bad: &str, now: &str) -> Vec<Calls> {
    let alerts = |status: &str, group: &str, name: &str| {
        json!({
            "version": "4", "groupKey": group, "status": status, "title": name, "password": PASSWORD,
            "alerts": [{
                "status": status, "startsAt": now, "endsAt": now, "fingerprint": "f",
                "labels": {"alertname": name, "instance": "192.0.2.1:9100"},
                "annotations": {"summary": name},
            }],
        })
    };
    let of = |kind, media, bodies| Calls {
        kind,
        media,
        bodies,
    };
    let json_media = "application/json";
    let zabbix = |value: &str, name: &str| json!({"EVENT.ID": "7", "EVENT.VALUE": value, "HOST.NAME": "z", "EVENT.NAME": name, "api_token": PASSWORD});
    let icinga = |kind: &str| json!({"type": kind, "host": bad, "service": "ping", "state": "x", "output": bad, "password": PASSWORD});
    let kuma = |status: u8| {
        json!({
            "heartbeat": {"monitorID": 1, "status": status, "msg": bad},
            "monitor": {"name": format!("k {bad}"), "basic_auth_pass": PASSWORD}, "msg": bad,
        })
    };
    let pagerduty = |kind: &str, id: &str, title: &str| {
        json!({"event": {"id": id, "event_type": kind, "occurred_at": now, "secret": PASSWORD,
            "data": {"number": 5, "title": title, "service": {"summary": "s"}}}})
    };
    let datadog = |transition: &str, title: &str| json!({"alert_transition": transition, "title": title, "hostname": "d", "alert_cycle_key": "9", "api_key": PASSWORD});
    let kibana = |group: &str, rule: &str| json!({"rule": rule, "alert_id": "a", "alert_uuid": "u", "group": group, "reason": bad, "token": PASSWORD});
    let splunk = |status: &str, name: &str| json!({"search_name": name, "sid": "s1", "status": status, "result": {"host": "h", "_raw": bad, "password": PASSWORD}});
    let event = |kind: &str, subject: &str| {
        json!({"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "subject": subject,
            "data": {"text": bad, "token": PASSWORD}})
    };
    let generic = |status: &str, subject: &str| {
        json!({"subject": subject, "text": bad, "key": "k", "status": status,
            "fields": {"path": bad}, "note": format!("https://a:{PASSWORD}@h/")})
    };
    let pd = "incident.triggered";
    vec![
        of(
            "alertmanager",
            json_media,
            [
                alerts("firing", "am", bad),
                alerts("firing", "am", "b"),
                alerts("resolved", "am", "c"),
            ],
        ),
        of(
            "grafana",
            json_media,
            [
                alerts("firing", "gr", &format!("g {bad}")),
                alerts("firing", "gr", "gb"),
                alerts("resolved", "gr", "gc"),
            ],
        ),
        of(
            "zabbix",
            json_media,
            [zabbix("1", bad), zabbix("1", "b"), zabbix("0", "c")],
        ),
        of(
            "icinga",
            json_media,
            [icinga("PROBLEM"), icinga("PROBLEM"), icinga("RECOVERY")],
        ),
        of(
            "uptime-kuma",
            "multipart/form-data",
            [kuma(0), kuma(0), kuma(1)],
        ),
        of(
            "pagerduty",
            json_media,
            [
                pagerduty(pd, "e1", bad),
                pagerduty(pd, "e1", "b"),
                pagerduty("incident.resolved", "e2", bad),
            ],
        ),
        of(
            "datadog",
            json_media,
            [
                datadog("Triggered", bad),
                datadog("Re-Triggered", "b"),
                datadog("Recovered", "c"),
            ],
        ),
        of(
            "kibana",
            json_media,
            [
                kibana("fired", bad),
                kibana("fired", "b"),
                kibana("recovered", "c"),
            ],
        ),
        of(
            "splunk",
            json_media,
            [
                splunk("firing", bad),
                splunk("firing", "b"),
                splunk("ok", "c"),
            ],
        ),
        of(
            "cloudevents",
            "application/cloudevents+json",
            [
                event("link.down", &format!("ce {bad}")),
                event("link.down", "b"),
                event("link.resolved", "c"),
            ],
        ),
        of(
            "generic",
            json_media,
            [
                generic("firing", &format!("gen {bad}")),
                generic("firing", "b"),
                generic("resolved", "c"),
            ],
        ),
    ]
}

fn post(space: &Space, kind: &str, media: &str, body: &str) -> Http {
    let header = format!("Content-Type: {media}");
    let field = format!("data={body}");
    let more = if media == "multipart/form-data" {
        vec!["--form-string", field.as_str()]
    } else {
        vec!["-H", header.as_str(), "--data-binary", body]
    };
    Http::curl(
        space.command("curl"),
        &format!("http://127.0.0.1:8642/hooks/{kind}/secret-of-the-test"),
        &more,
    )
}

#[test]
fn every_kind_of_hook_joins_a_repeat_ends_with_its_end_and_keeps_inert_text() {
    let Some(mirror) = Mirror::new("all kinds of hooks") else {
        return;
    };
    let planted = std::env::temp_dir().join(format!("wwt-touched-{}", std::process::id()));
    let bad = HOSTILE.replace("@X@", planted.to_str().unwrap());
    let now: wirewitness::time::Timestamp = now().parse().unwrap();
    let all = calls(&bad, &now.to_string());
    let mut hooks = String::new();
    for Calls { kind, .. } in &all {
        write!(
            hooks,
            "[[webhook]]\nname = \"{kind}\"\nkind = \"{kind}\"\ntoken = \"secret-of-the-test\"\n"
        )
        .unwrap();
    }
    // Nothing but its end closes a window within the test.
    let site = Site::new(&Setup {
        before: "1s",
        after: "10m",
        cooldown: "1ms",
        more: &hooks,
        ..Setup::default()
    });
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let space = &mirror.monitor;
    let mut incidents = Vec::new();
    for Calls {
        kind,
        media,
        bodies,
    } in &all
    {
        let ids: Vec<Value> = bodies
            .iter()
            .zip([202, 202, 200])
            .map(|(body, status)| {
                let answer = post(space, kind, media, &body.to_string());
                assert_eq!(answer.status, status, "{kind}: {body}: {}", answer.head);
                answer.json()["incident"].clone()
            })
            .collect();
        assert!(
            ids[0].is_string() && ids.iter().all(|id| *id == ids[0]),
            "{kind}: {ids:?}"
        );
        incidents.push(ids[0].as_str().unwrap().to_owned());
    }
    for (id, Calls { kind, .. }) in incidents.iter().zip(&all) {
        let incident = site.sealed(id);
        assert_eq!(
            (&incident["triggers"], incident["resolved"].is_string()),
            (&json!(2), true),
            "{kind}"
        );
        assert_inert(&site, &incident);
        let timeline =
            fs::read_to_string(site.incidents().join(id).join("timeline.jsonl")).unwrap();
        assert!(!timeline.contains(PASSWORD), "{kind}: {timeline}");
        assert!(
            timeline.contains("[redacted]") || *kind == "uptime-kuma",
            "{kind}: {timeline}"
        );
    }
    assert!(!planted.exists(), "a shell saw it");

    // What is no call of a hook, told apart.
    let large = format!("{{\"subject\": \"{}\"}}", "x".repeat(1 << 20));
    let file = site.path("large.json");
    fs::write(&file, large).unwrap();
    let told = post(
        space,
        "generic",
        "application/json",
        &format!("@{}", file.display()),
    );
    assert_eq!(
        (told.status, told.json()["code"].as_str()),
        (413, Some("too_large"))
    );
    let told = post(space, "generic", "text/plain", "subject");
    assert_eq!(
        (told.status, told.json()["code"].as_str()),
        (415, Some("not_json"))
    );
    let url = "http://127.0.0.1:8642/hooks/cloudevents?access_token=secret-of-the-test";
    let handshake = [
        "-X",
        "OPTIONS",
        "-H",
        "WebHook-Request-Origin: events.example.net",
    ];
    let told = Http::curl(space.command("curl"), url, &handshake);
    assert_eq!(told.status, 204);
    let head = told.head.to_ascii_lowercase();
    assert!(
        head.contains("webhook-allowed-origin: events.example.net"),
        "{head}"
    );
    assert!(head.contains("webhook-allowed-rate: *"), "{head}");
    assert_eq!(site.list().len(), all.len());
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    wirewitness::time::Timestamp::from_ns(u64::try_from(since.as_nanos()).unwrap()).to_string()
}

/// Nothing in what the API, the command and the downloads say does anything.
fn assert_inert(site: &Site, incident: &Value) {
    let id = incident["id"].as_str().unwrap();
    let harmless = |text: &str| !text.chars().any(|c| c.is_control() || c == '\u{202e}');
    assert!(
        texts(incident).iter().all(|text| harmless(text)),
        "{incident}"
    );
    let shown = site.ask(&["incidents", "show", id]) + &site.ask(&["incidents"]);
    assert!(shown.lines().all(harmless), "{shown:?}");
    let saved = site.http(&format!("/api/v1/incidents/{id}/bundle"), &[]);
    let name = saved
        .head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-disposition"));
    let name = name.unwrap_or_else(|| panic!("{}", saved.head));
    assert!(
        name.contains(id) && !name.contains(['/', '<', '$', '(']),
        "{name}"
    );
    assert!(
        !saved.head.to_ascii_lowercase().contains("set-cookie"),
        "{}",
        saved.head
    );
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(values) => values
            .iter()
            .flat_map(|(name, value)| [vec![name.as_str()], texts(value)].concat())
            .collect(),
        _ => Vec::new(),
    }
}

/// Traps, log lines and files of a hostile name.
#[test]
fn traps_and_lines_of_strangers_end_as_inert_text() {
    let config = "[[trap]]\nlisten = \"udp://127.0.0.1:10162\"\ncommunity = \"public\"\n\
        [[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n\
        [[rule]]\nname = \"any\"\nmatch = 'MARKER (?P<what>.*)'\nsubject = \"{what} on {host}\"\n";
    let Some(running) = Running::new("hostile traps and lines", config) else {
        return;
    };
    let (site, space) = (&running.site, &running.mirror.monitor);
    let planted = site.path("touched");
    let bad = HOSTILE.replace("@X@", planted.to_str().unwrap());
    let mut sent = space.command("snmptrap");
    sent.env("MIBS", "")
        .env("SNMP_PERSISTENT_FILE", "/dev/null");
    sent.args(["-v", "2c", "-c", "public", "127.0.0.1:10162", ""]);
    sent.args(["1.3.6.1.6.3.1.1.5.3", "1.3.6.1.2.1.31.1.1.1.1.3", "s"]);
    crate::support::run(sent.arg(&bad));
    let line = format!(
        "<34>Oct 11 22:14:15 h\u{1b}[2Jost app: MARKER {}",
        bad.replace("\r\n", " ")
    );
    let long = format!(
        "<34>Oct 11 22:14:15 host app: MARKER {}",
        "<b>\u{1b}[5m".repeat(6_000)
    );
    space.enter(move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for line in [line, long] {
            socket.send_to(line.as_bytes(), "127.0.0.1:5514").unwrap();
        }
    });
    wait_for("three incidents", || match site.list().len() {
        3 => Ok(()),
        count => Err(format!("there are {count}")),
    });
    for incident in site.list() {
        let incident = site.sealed(incident["id"].as_str().unwrap());
        assert_inert(site, &incident);
        assert!(incident["subject"].as_str().unwrap().len() <= 256);
    }
    assert!(!planted.exists(), "a shell saw it");
}
