//! Answers as people read them.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::cli::Failure;
use crate::incident::model::{Incident, Verdict};
use crate::time::Timestamp;
use crate::trigger::Grade;
use crate::trigger::event_time::Clock;

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string_pretty(value).map_err(Failure::failed)?)
}

/// Prints a line.
pub fn line(text: &str) -> Result<(), Failure> {
    self::text(&format!("{text}\n"))
}

/// Prints text. A reader that went away (`| head`) is no failure.
pub fn text(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!(
            "write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// A list of incidents, a line each.
pub fn incidents(incidents: &[Incident]) -> String {
    if incidents.is_empty() {
        return "No incidents yet. `wirewitness freeze --reason test` makes one.\n".to_owned();
    }
    let mut out = format!(
        "{:<25} {:<10} {:<9} {:<9} {:>8} {:>10}  {}\n",
        "INCIDENT", "STATE", "GRADE", "KIND", "TRIGGERS", "PACKETS", "SUBJECT"
    );
    for incident in incidents {
        let state = format!("{:?}", incident.state).to_lowercase();
        let packets = if incident.sealed.is_some() {
            incident.packets.to_string()
        } else {
            "-".to_owned()
        };
        add(
            &mut out,
            format_args!(
                "{:<25} {:<10} {:<9} {:<9} {:>8} {:>10}  {}\n",
                incident.id,
                state,
                grade(incident.grade),
                incident.trigger.kind.to_string(),
                incident.triggers,
                packets,
                plain(&incident.subject)
            ),
        );
    }
    out
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Incident => "incident",
        Grade::Precursor => "precursor",
    }
}

/// One incident.
pub fn incident(incident: &Incident) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: &str| add(&mut out, format_args!("{name:<13} {value}\n"));
    let at = |at: Timestamp| at.to_rfc3339();
    row("incident", &incident.id);
    row("state", &format!("{:?}", incident.state).to_lowercase());
    row("grade", grade(incident.grade));
    row("subject", &plain(&incident.subject));
    row(
        "trigger",
        &format!(
            "{} ({})",
            incident.trigger.kind,
            plain(&incident.trigger.source)
        ),
    );
    row("at", &at(incident.trigger.at));
    if let Some(sign) = &incident.first_sign {
        let earlier = incident.trigger.at.since(sign.at).as_secs();
        let earlier = humantime::format_duration(Duration::from_secs(earlier));
        let (at, incident) = (at(sign.at), &sign.incident);
        row(
            "first sign",
            &format!("{earlier} earlier, at {at}, incident {incident}"),
        );
    }
    for entry in &incident.timeline {
        if let Some(doubt) = entry.doubt {
            let how = match doubt.clock {
                Clock::Future => "ahead",
                Clock::Past => "behind",
            };
            let said = at(doubt.claimed);
            let source = plain(&entry.source);
            row(
                "clock",
                &format!("{source} claimed {said}, too far {how}: filed under its arrival"),
            );
        }
    }
    row("text", &plain(&incident.trigger.text));
    row("triggers", &incident.triggers.to_string());
    row("window from", &at(incident.window.from));
    row("window to", &at(incident.window.to));
    if let Some(covered) = &incident.covered {
        row("covered from", &at(covered.from));
        row("covered to", &at(covered.to));
    }
    row(
        "packets",
        &format!(
            "{} ({})",
            incident.packets,
            bytesize::ByteSize(incident.bytes)
        ),
    );
    let verdict = match incident.completeness.verdict {
        Verdict::Complete => "complete: the counters prove that nothing is missing",
        Verdict::Incomplete => "incomplete",
        Verdict::Pending => "not decided yet",
    };
    row("evidence", verdict);
    for reason in &incident.completeness.reasons {
        row("", &format!("- {}", plain(&reason.text)));
    }
    if let Some(filter) = &incident.suggested_filter {
        row("filter", &plain(filter));
    }
    for share in &incident.interfaces {
        row(
            "interface",
            &format!(
                "{}: {} packets, {} segments",
                share.name, share.packets, share.segments
            ),
        );
    }
    out
}

/// The status, from the API's JSON.
pub fn status(status: &Value) -> String {
    let mut out = String::new();
    let recorder = status.get("recorder").cloned().unwrap_or_default();
    let reachable = recorder
        .get("reachable")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let recorder_text = if reachable {
        format!(
            "running (pid {})",
            recorder.get("pid").unwrap_or(&Value::Null)
        )
    } else {
        format!("NOT REACHABLE: {}", string(&recorder, "error"))
    };
    add(&mut out, format_args!("recorder   {recorder_text}\n"));
    for interface in status
        .get("interfaces")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        add(
            &mut out,
            format_args!("\n{}\n", interface_text(interface, status)),
        );
    }
    add(&mut out, format_args!("\n{}", clock_text(status)));
    let server = status.get("server").cloned().unwrap_or_default();
    add(
        &mut out,
        format_args!(
            "\nincidents  {} ({} collecting), evidence {} of {}\n",
            number(&server, "incidents"),
            number(&server, "collecting"),
            bytesize::ByteSize(number(&server, "evidence_bytes")),
            bytesize::ByteSize(number(&server, "evidence_quota_bytes")),
        ),
    );
    let disk = status.get("disk").cloned().unwrap_or_default();
    add(
        &mut out,
        format_args!(
            "disk       {} free of {}\n",
            bytesize::ByteSize(number(&disk, "free_bytes")),
            bytesize::ByteSize(number(&disk, "total_bytes")),
        ),
    );
    for source in server
        .get("sources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        add(
            &mut out,
            format_args!(
                "{:<10} {}: {} {}\n",
                string(source, "kind"),
                plain(&string(source, "name")),
                string(source, "state"),
                plain(&string(source, "detail"))
            ),
        );
        out.push_str(&lookback_text(source));
    }
    out.push_str(&maintenance_text(status));
    for target in server
        .get("notify")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        add(
            &mut out,
            format_args!("{:<10} {}\n", "notify", target_text(target)),
        );
    }
    for path in status
        .get("paths")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = path.get("text").and_then(Value::as_str);
        let text = plain(text.unwrap_or("no loss on the way"));
        let name = plain(&string(path, "name"));
        add(&mut out, format_args!("{:<10} {name}: {text}\n", "path"));
    }
    out
}

/// Whether an alert of a source would still find its packets; of probes, which are never late, only
/// when it would not.
fn lookback_text(source: &Value) -> String {
    let mut text = String::new();
    let Some(look) = source.get("lookback").filter(|look| look.is_object()) else {
        return text;
    };
    let span = |value: &Value, key: &str| {
        let ns = value.get(key).and_then(Value::as_u64)?;
        // Two digits say enough: milliseconds below a second, seconds above.
        let span = Duration::from_millis(ns / 1_000_000);
        let span = match span.as_secs() {
            0 => span,
            seconds => Duration::from_secs(seconds),
        };
        Some(humantime::format_duration(span).to_string())
    };
    let verdict = string(look, "verdict");
    if verdict == "yes" && string(source, "kind") == "probe" {
        return text;
    }
    let shown = |key| span(look, key).unwrap_or_default();
    let filling = look.get("filling").and_then(Value::as_bool) == Some(true);
    // A ring that is too short is at fault only once it is full: until then it grows.
    let (verdict, filling) = match (verdict.as_str(), filling) {
        ("no", true) => ("NOT YET".to_owned(), " so far (still filling)"),
        (_, true) => (verdict.to_uppercase(), " (not full yet)"),
        (_, false) => (verdict.to_uppercase(), ""),
    };
    add(
        &mut text,
        format_args!(
            "           packets still there: {verdict}, needs {}, {} reaches back {}{filling}",
            shown("need_ns"),
            plain(&string(look, "interface")),
            shown("span_ns"),
        ),
    );
    let lateness = source.get("lateness").cloned().unwrap_or_default();
    let known = [
        ("median", "median_ns"),
        ("95%", "p95_ns"),
        ("worst", "worst_ns"),
        ("declared", "declared_ns"),
    ];
    let known = known
        .iter()
        .filter_map(|(name, key)| Some(format!("{name} {}", span(&lateness, key)?)));
    let known: Vec<String> = known.collect();
    if !known.is_empty() {
        add(&mut text, format_args!("; late: {}", known.join(", ")));
    }
    text.push('\n');
    let too_late = number(source, "too_late");
    if too_late > 0 {
        let said =
            format_args!("           {too_late} incident(s) came too late for their packets\n");
        add(&mut text, said);
    }
    text
}

/// The maintenance windows that are open, and those that covered something.
fn maintenance_text(status: &Value) -> String {
    let windows = status.pointer("/server/maintenance");
    let mut text = String::new();
    for window in windows.and_then(Value::as_array).into_iter().flatten() {
        let active = window.get("active").and_then(Value::as_bool) == Some(true);
        let triggers = number(window, "triggers");
        if !active && triggers == 0 {
            continue;
        }
        let open = if active { "open" } else { "closed" };
        let done = match string(window, "effect").as_str() {
            "precursor" => "demoted",
            _ => "silenced",
        };
        let name = plain(&string(window, "name"));
        add(
            &mut text,
            format_args!("maintenance {name}: {open}, {triggers} trigger(s) {done}\n"),
        );
    }
    text
}

/// Who is told, and whether that works.
fn target_text(target: &Value) -> String {
    let mut text = format!(
        "{} ({}): {}, {} sent",
        plain(&string(target, "name")),
        plain(&string(target, "kind")),
        plain(&string(target, "state")),
        number(target, "sent")
    );
    for (key, words) in [
        ("waiting", "waiting"),
        ("failed", "refused"),
        ("dropped", "dropped"),
    ] {
        let count = number(target, key);
        if count > 0 {
            add(&mut text, format_args!(", {count} {words}"));
        }
    }
    if string(target, "state") == "failing" {
        let error = plain(&string(target, "last_error"));
        add(&mut text, format_args!(": {error}"));
    }
    text
}

/// What came of a test message.
pub fn tested(answer: &Value) -> String {
    let (target, to) = (string(answer, "target"), string(answer, "to"));
    let (target, to) = (plain(&target), plain(&to));
    if to.starts_with("udp://") {
        return format!("{target}: sent to {to}; by UDP nobody says whether it arrived");
    }
    let milliseconds = number(answer, "milliseconds");
    format!("{target}: delivered to {to} in {milliseconds} ms")
}

/// The clock, and when it was set last.
fn clock_text(status: &Value) -> String {
    let Some(clock) = status.get("clock") else {
        return String::new();
    };
    let synchronised = clock.get("synchronised").and_then(Value::as_bool);
    let mut text = match synchronised {
        Some(true) => format!(
            "clock      synchronised ({})",
            plain(&string(clock, "source"))
        ),
        _ => "clock      NOT SYNCHRONISED".to_owned(),
    };
    if let Some(bound) = clock.get("offset_bound_ns").and_then(Value::as_u64) {
        let bound = Duration::from_micros(bound / 1000);
        add(
            &mut text,
            format_args!(", at most {} off", humantime::format_duration(bound)),
        );
    }
    let steps = number(clock, "steps_total");
    let last = clock.get("steps").and_then(Value::as_array);
    if let Some(last) = last.and_then(|steps| steps.last()) {
        let ns = last.get("step_ns").and_then(Value::as_i64).unwrap_or(0);
        let size = Duration::from_micros(ns.unsigned_abs() / 1000);
        add(
            &mut text,
            format_args!(
                "\n           set {steps} time(s), last {} by {} at {}",
                if ns < 0 { "back" } else { "forward" },
                humantime::format_duration(size),
                plain(&string(last, "to"))
            ),
        );
    }
    text.push('\n');
    text
}

fn interface_text(interface: &Value, status: &Value) -> String {
    let mut text = format!(
        "{:<10} {}",
        string(interface, "name"),
        string(interface, "state")
    );
    let why = string(interface, "why");
    if !why.is_empty() {
        add(&mut text, format_args!(" ({})", plain(&why)));
    }
    add(
        &mut text,
        format_args!(
            "\n           received {}, written {}, dropped: kernel {}, ring {}, interface {}",
            number(interface, "received"),
            number(interface, "written"),
            number(interface, "dropped_kernel"),
            number(interface, "dropped_ring"),
            number(interface, "dropped_iface")
        ),
    );
    let (truncated, filtered) = (
        number(interface, "truncated"),
        number(interface, "filtered"),
    );
    if truncated > 0 {
        let cut = format_args!("\n           cut by the snapshot length: {truncated}");
        add(&mut text, cut);
    }
    if filtered > 0 {
        let refused = format_args!("\n           refused by the capture filter: about {filtered}");
        add(&mut text, refused);
    }
    let error = string(interface, "accounting_error");
    if !error.is_empty() {
        let said = format_args!(
            "\n           THE ACCOUNTING CANNOT BE WRITTEN: {}",
            plain(&error)
        );
        add(&mut text, said);
    }
    let time = |value: &Value, key: &str| value.get(key)?.as_str()?.parse::<Timestamp>().ok();
    if let (Some(from), Some(now)) = (time(interface, "ring_from"), time(status, "now")) {
        let span = Duration::from_secs(now.since(from).as_secs());
        add(
            &mut text,
            format_args!(
                "\n           you can go back {} ({} of {})",
                humantime::format_duration(span),
                bytesize::ByteSize(number(interface, "ring_bytes")),
                bytesize::ByteSize(number(interface, "ring_size_bytes")),
            ),
        );
    }
    text
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn string(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Foreign text on a terminal: control characters shown, never sent.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

/// Writing to a `String` does not fail.
fn add(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    if out.write_fmt(arguments).is_err() {
        tracing::trace!("formatting failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_sends_nothing_to_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\n"), "a\u{FFFD}[31mb\u{FFFD}");
    }

    #[test]
    fn a_test_message_by_udp_is_not_called_delivered() {
        let said = |to: &str| {
            let answer = serde_json::json!({"target": "t", "to": to, "milliseconds": 3});
            tested(&answer)
        };
        assert_eq!(
            said("tcp://log.test:601"),
            "t: delivered to tcp://log.test:601 in 3 ms"
        );
        let by_udp = said("udp://log.test:514");
        assert!(by_udp.starts_with("t: sent to ") && !by_udp.contains("delivered"));
    }

    #[test]
    fn a_status_says_what_was_cut_and_when_the_clock_was_set() {
        let status = serde_json::json!({
            "recorder": {"reachable": true, "pid": 1},
            "interfaces": [{"name": "eth1", "state": "running", "truncated": 7, "filtered": 9}],
            "clock": {
                "synchronised": true, "offset_bound_ns": 1_500_000, "source": "chrony",
                "steps_total": 3, "steps": [{"from": "a", "to": "b\u{1b}", "step_ns": -2_000_000_000_i64}]
            }
        });
        let text = super::status(&status);
        for said in [
            "cut by the snapshot length: 7",
            "refused by the capture filter: about 9",
            "clock      synchronised (chrony), at most 1ms 500us off",
            "set 3 time(s), last back by 2s at b\u{FFFD}",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn a_status_says_whether_packets_are_still_there() {
        let status = serde_json::json!({"server": {"sources": [
            {"kind": "webhook", "name": "am", "state": "ok", "detail": "", "too_late": 2,
             "lookback": {"verdict": "barely", "need_ns": 390_000_000_000_u64, "interface": "eth1",
                          "span_ns": 400_000_000_000_u64, "margin_ns": 10_000_000_000_u64, "filling": true},
             "lateness": {"median_ns": 250_000_000, "p95_ns": 90_000_000_000_u64, "events": 30}},
            {"kind": "probe", "name": "gw", "state": "ok", "detail": "",
             "lookback": {"verdict": "yes", "need_ns": 1, "interface": "eth1", "span_ns": 3}},
        ]}});
        let text = super::status(&status);
        for said in [
            "packets still there: BARELY, needs 6m 30s, eth1 reaches back 6m 40s (not full yet)",
            "; late: median 250ms, 95% 1m 30s\n",
            "2 incident(s) came too late for their packets",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert_eq!(text.matches("packets still there").count(), 1, "{text}");
    }

    #[test]
    fn a_ring_that_is_too_short_is_no_fault_while_it_fills() {
        let said = |filling: bool| {
            let source = serde_json::json!({
                "kind": "probe", "name": "gw", "state": "ok", "detail": "",
                "lookback": {"verdict": "no", "need_ns": 390_000_000_000_u64, "interface": "eth1",
                             "span_ns": 60_000_000_000_u64, "filling": filling},
            });
            lookback_text(&source)
        };
        assert_eq!(
            said(true).trim(),
            "packets still there: NOT YET, needs 6m 30s, eth1 reaches back 1m so far \
             (still filling)"
        );
        assert_eq!(
            said(false).trim(),
            "packets still there: NO, needs 6m 30s, eth1 reaches back 1m"
        );
    }

    #[test]
    fn a_status_says_what_maintenance_is_open() {
        let status = serde_json::json!({"server": {"maintenance": [
            {"name": "night\u{1b}", "effect": "silence", "active": true, "triggers": 2},
            {"name": "once", "effect": "precursor", "active": false, "triggers": 0},
        ]}});
        let text = super::status(&status);
        let said = "maintenance night\u{FFFD}: open, 2 trigger(s) silenced\n";
        assert!(text.contains(said) && !text.contains("once"), "{text}");
    }

    #[test]
    fn a_status_without_recorder_says_so_first() {
        let status = serde_json::json!({"recorder": {"reachable": false, "error": "no socket"}});
        assert!(super::status(&status).starts_with("recorder   NOT REACHABLE: no socket"));
    }
}
