//! Uptime Kuma's webhook: `{heartbeat, monitor, msg}`. A test message has neither heartbeat nor monitor.

use serde_json::{Map, Value};

use super::BodyError;
use super::loose::Loose;
use super::report::Report;
use super::when::{Zone, instant};

/// The body that a form holds: Uptime Kuma's "multipart/form-data" has it in one field.
pub(super) fn of_form(fields: &Value) -> Result<Value, BodyError> {
    let data = fields.get("data").and_then(Value::as_str);
    let data = data.ok_or_else(|| BodyError::Value {
        key: "data",
        why: "expected Uptime Kuma's form, with one field of this name".to_owned(),
    })?;
    super::from_json(data.as_bytes())
}

/// What is kept of the monitor: the rest can hold passwords and tokens.
const MONITOR_KEPT: [&str; 11] = [
    "id",
    "name",
    "description",
    "pathName",
    "url",
    "hostname",
    "port",
    "type",
    "interval",
    "maxretries",
    "timeout",
];

pub(super) fn kuma(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let all = Loose::of(body)?;
    let Some(status) = all.get(&["heartbeatstatus"]) else {
        return match (body.get("msg"), body.get("heartbeat")) {
            (Some(_), Some(Value::Null) | None) => Ok(Vec::new()),
            _ => Err(BodyError::Value {
                key: "heartbeat.status",
                why: "expected Uptime Kuma's {heartbeat, monitor, msg}".to_owned(),
            }),
        };
    };
    // 0 down, 1 up, 2 pending, 3 maintenance.
    let over = match status {
        "0" => false,
        "1" => true,
        _ => return Ok(Vec::new()),
    };
    let url = all.text(&["monitorurl"]);
    let host = all.text(&["monitorhostname"]);
    let mut fields = all.fields();
    for (name, keys) in [
        ("monitor", "monitorname"),
        ("type", "monitortype"),
        ("url", "monitorurl"),
        ("hostname", "monitorhostname"),
        ("ping_ms", "heartbeatping"),
    ] {
        if let Some(value) = all.get(&[keys]) {
            fields.insert(name.to_owned(), value.to_owned());
        }
    }
    let at = all.get(&["heartbeattime"]);
    let report = Report {
        over,
        subject: all.text(&["monitorname", "monitorpathname", "monitorid"]),
        text: all.text(&["heartbeatmsg", "msg"]),
        at: at.and_then(|text| instant(text, zone)),
        hosts: vec![host, host_of(&url).to_owned()],
        fields,
        ..Report::default()
    };
    Ok(vec![
        report.or_empty("monitor.name", "it says of no monitor")?,
    ])
}

/// `https://192.0.2.1:8443/x` names `192.0.2.1:8443`.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

/// The body without what is not kept of its monitor.
pub(super) fn kept(mut body: Value) -> Value {
    if let Some(Value::Object(monitor)) = body.get_mut("monitor") {
        let all: Map<String, Value> = std::mem::take(monitor);
        let known = |name: &String| MONITOR_KEPT.contains(&name.as_str());
        *monitor = all.into_iter().filter(|(name, _)| known(name)).collect();
    }
    body
}
