//! Senders whose body people write themselves, with their macros: Zabbix, Icinga and Nagios,
//! Datadog, Kibana, Splunk.

use serde_json::Value;

use super::BodyError;
use super::loose::{Loose, is_over};
use super::report::Report;
use super::when::{Zone, instant};

const NOTHING_SAID: &str = "nothing says what it is about";

/// Zabbix: the macros of our media type, or of others under their own names. The recovery of a
/// problem carries the problem's event id.
pub(super) fn zabbix(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Loose::of(body)?;
    let value = body.get(&["eventvalue", "triggervalue"]);
    let status = body.get(&["eventstatus", "triggerstatus", "status"]);
    let name = body.text(&[
        "eventname",
        "triggername",
        "alertsubject",
        "subject",
        "name",
    ]);
    // With Zabbix's default parameters there is a subject and a message, and nothing else.
    let resolved = without_resolved(&name);
    let over = match (value, status) {
        (Some(value), _) => value == "0",
        (None, Some(status)) => is_over(status),
        (None, None) => resolved.is_some(),
    };
    let name = resolved.unwrap_or_else(|| name.strip_prefix("Problem: ").unwrap_or(&name));
    // An acknowledgement or a comment is neither a beginning nor an end.
    if body.get(&["eventupdatestatus"]) == Some("1") && !over {
        return Ok(Vec::new());
    }
    let host = body.text(&["hosthost", "hostname", "host"]);
    let local = match (body.get(&["eventdate"]), body.get(&["eventtime"])) {
        (Some(date), Some(time)) => instant(&format!("{date} {time}"), zone),
        _ => None,
    };
    let sent = body.get(&["at", "eventtimestamp", "timestamp"]);
    let report = Report {
        over,
        subject: joined(&[&host, name], ": "),
        text: joined(
            &[
                name,
                &body.text(&["eventopdata", "alertmessage", "message"]),
            ],
            ": ",
        ),
        // The time of the macros is that of the problem also when it is over.
        at: sent
            .and_then(|text| instant(text, zone))
            .or(local)
            .filter(|_| !over),
        key: body.get(&["eventid"]).map(|id| format!("zabbix {id}")),
        hosts: vec![body.text(&["hostip", "hostconn"])],
        fields: body.fields(),
        ..Report::default()
    };
    Ok(vec![report.or_empty("EVENT.NAME", NOTHING_SAID)?])
}

/// Icinga 2 and Nagios: what our notification command sends.
pub(super) fn icinga(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Loose::of(body)?;
    let kind = body
        .text(&["type", "notificationtype"])
        .to_ascii_uppercase();
    let over = matches!(kind.as_str(), "RECOVERY" | "FLAPPINGEND" | "FLAPPINGSTOP");
    match kind.as_str() {
        "" => {
            return Err(BodyError::Value {
                key: "type",
                why: "give the notification's type: PROBLEM, RECOVERY, ...".to_owned(),
            });
        }
        "PROBLEM" | "FLAPPINGSTART" => {}
        _ if over => {}
        // Acknowledgements, downtimes and messages of people.
        _ => return Ok(Vec::new()),
    }
    let host = body.text(&["host", "hostname"]);
    let service = body.text(&["service", "servicename", "servicedescription"]);
    let state = body.text(&["state", "servicestate", "hoststate"]);
    let output = body.text(&["output", "serviceoutput", "hostoutput"]);
    let at = body.get(&[
        "at",
        "time",
        "timestamp",
        "lasthardstatechange",
        "laststatechange",
    ]);
    let report = Report {
        over,
        subject: joined(&[&host, &service], " "),
        text: joined(&[&joined(&[&kind, &state], " "), &output], ": "),
        at: at.and_then(|text| instant(text, zone)),
        hosts: vec![
            body.text(&["address", "hostaddress"]),
            body.text(&["address6"]),
        ],
        fields: body.fields(),
        ..Report::default()
    };
    Ok(vec![report.or_empty("host", NOTHING_SAID)?])
}

/// Datadog: its `$VARIABLES` under their own names.
pub(super) fn datadog(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Loose::of(body)?;
    let transition = body.get(&["alerttransition"]);
    let kind = body.get(&["alerttype"]);
    let title = body.text(&["alerttitle", "eventtitle", "title"]);
    // The default body has neither: there the title's mark tells.
    let over = match (transition, kind) {
        (Some(transition), _) => is_over(transition),
        (None, Some(kind)) => is_over(kind),
        (None, None) => mark(&title).is_some_and(is_over),
    };
    if transition.is_none() && kind == Some("info") {
        return Ok(Vec::new());
    }
    let scope = body.text(&["hostname", "host", "alertscope", "scope"]);
    let name = without_mark(&title);
    let at = body.get(&["date", "lastupdated", "timestamp"]);
    let report = Report {
        over,
        subject: joined(&[&scope, name], ": "),
        text: joined(
            &[
                &title,
                &body.text(&["textonlymsg", "eventmsg", "body", "message"]),
            ],
            ": ",
        ),
        at: at.and_then(|text| instant(text, zone)),
        key: body
            .get(&["alertcyclekey"])
            .filter(|key| *key != "0")
            .map(|key| format!("datadog {key}")),
        hosts: vec![body.text(&["hostname", "host"])],
        fields: body.fields(),
        ..Report::default()
    };
    Ok(vec![report.or_empty("title", NOTHING_SAID)?])
}

/// `[Triggered on {host:a}] CPU` and `[Recovered] CPU` are about `CPU`.
fn without_mark(title: &str) -> &str {
    marked(title).map_or(title, |(_, rest)| rest).trim()
}

/// The first word within the brackets: `Triggered`, `Recovered`, `Warn`.
fn mark(title: &str) -> Option<&str> {
    marked(title)?.0.split_whitespace().next()
}

fn marked(title: &str) -> Option<(&str, &str)> {
    title.trim().strip_prefix('[')?.split_once(']')
}

/// What the subject of a Zabbix message begins with when the problem is over, in its own templates:
/// `Resolved in 5m: Link down`.
fn without_resolved(name: &str) -> Option<&str> {
    let rest = name.trim().strip_prefix("Resolved in ")?;
    Some(rest.split_once(": ")?.1)
}

/// Kibana's connector and Watcher: the template of the manual, or others with like names.
pub(super) fn kibana(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Loose::of(body)?;
    let group = body.text(&["group", "alertactiongroup", "actiongroup", "status"]);
    let rule = body.text(&["rulename", "rule", "watchid", "title", "name"]);
    let alert = body.text(&["alertid", "host", "hostname"]);
    let at = body.get(&["date", "timestamp", "contextdate", "at"]);
    let report = Report {
        over: is_over(&group),
        subject: joined(&[&rule, &alert], ": "),
        text: body.text(&[
            "reason",
            "contextreason",
            "message",
            "contextmessage",
            "text",
        ]),
        at: at.and_then(|text| instant(text, zone)),
        key: body
            .get(&["alertuuid"])
            .map(|uuid| format!("kibana {uuid}")),
        hosts: vec![body.text(&["hostip", "host", "hostname"]), alert],
        fields: body.fields(),
        ..Report::default()
    };
    Ok(vec![report.or_empty("rule", NOTHING_SAID)?])
}

/// Splunk's alert action (the first row of a search), or a detector of Splunk Observability.
pub(super) fn splunk(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Loose::of(body)?;
    let name = body.text(&["searchname", "detector", "rule"]);
    let host = body.text(&["resulthost", "resultsrc", "resultdest", "dimensionshost"]);
    let raw = body.text(&["resultraw", "messagebody", "description"]);
    let title = body.text(&["messagetitle", "resultmessage"]);
    let at = body.get(&["resulttime", "timestamp", "triggertime"]);
    let report = Report {
        over: body.get(&["statusextended", "status"]).is_some_and(is_over),
        subject: joined(&[&host, &name], ": "),
        text: joined(&[&title, &raw], ": "),
        at: at.and_then(|text| instant(text, zone)),
        key: body
            .get(&["sid", "incidentid"])
            .map(|id| format!("splunk {id}")),
        hosts: vec![
            body.text(&["resulthost"]),
            body.text(&["resultsrc", "resultsrcip"]),
            body.text(&["resultdest", "resultdestip"]),
        ],
        fields: body.fields(),
        ..Report::default()
    };
    Ok(vec![report.or_empty("search_name", NOTHING_SAID)?])
}

/// The texts that say something, with `between` them.
fn joined(texts: &[&str], between: &str) -> String {
    let said = texts.iter().filter(|text| !text.is_empty());
    said.copied().collect::<Vec<_>>().join(between)
}
