//! `CloudEvents` 1.0 over HTTP: structured (`application/cloudevents+json`), batched
//! (`application/cloudevents-batch+json`) and binary (`ce-*` headers).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::BodyError;
use super::auth::Headers;
use super::loose::{Loose, is_over, scalar};
use super::report::Report;
use super::when::{Zone, instant};

/// Events taken from one batch.
const EVENTS_MAX: usize = 100;
/// What every event must have.
const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];

/// Whether the attributes are in the headers.
pub(super) fn is_binary(headers: &Headers) -> bool {
    headers.get("ce-specversion").is_some() || headers.get("ce-id").is_some()
}

pub(super) fn cloudevents(
    headers: &Headers,
    body: &Value,
    zone: Zone,
) -> Result<Vec<Report>, BodyError> {
    if is_binary(headers) {
        let attributes = headers.under("ce-");
        let attributes: BTreeMap<String, String> = attributes
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        return Ok(vec![report(&attributes, body, zone)?]);
    }
    match body {
        Value::Array(events) if events.len() > EVENTS_MAX => Err(BodyError::Value {
            key: "batch",
            why: format!(
                "{} events; at most {EVENTS_MAX} are taken at once",
                events.len()
            ),
        }),
        Value::Array(events) => events.iter().map(|event| structured(event, zone)).collect(),
        event => Ok(vec![structured(event, zone)?]),
    }
}

fn structured(event: &Value, zone: Zone) -> Result<Report, BodyError> {
    let empty = Map::new();
    let object = event.as_object().unwrap_or(&empty);
    let attributes = object
        .iter()
        .filter(|(name, _)| name.as_str() != "data")
        .filter_map(|(name, value)| Some((name.clone(), scalar(value)?)))
        .collect();
    report(
        &attributes,
        object.get("data").unwrap_or(&Value::Null),
        zone,
    )
}

fn report(
    attributes: &BTreeMap<String, String>,
    data: &Value,
    zone: Zone,
) -> Result<Report, BodyError> {
    let of = |name: &str| attributes.get(name).map_or("", String::as_str);
    if let Some(missing) = REQUIRED.into_iter().find(|name| of(name).is_empty()) {
        return Err(BodyError::Value {
            key: missing,
            why: "a CloudEvent must have id, source, specversion and type".to_owned(),
        });
    }
    if !of("specversion").starts_with("1.") {
        return Err(BodyError::Value {
            key: "specversion",
            why: format!("{:?} is not known; 1.0 is", of("specversion")),
        });
    }
    let said = Loose::of(data).unwrap_or_default();
    let text = said.text(&[
        "message",
        "summary",
        "text",
        "description",
        "reason",
        "title",
    ]);
    let plain = scalar(data).unwrap_or_default();
    let kind = of("type");
    let last = kind.rsplit('.').next().unwrap_or_default();
    let status = said.get(&["status", "state"]);
    let mut fields = said.fields();
    for name in ["type", "source", "subject"] {
        if !of(name).is_empty() {
            fields.insert(name.to_owned(), of(name).to_owned());
        }
    }
    Ok(Report {
        over: is_over(last) || status.is_some_and(is_over),
        subject: [of("subject"), of("source")]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned(),
        text: [text.as_str(), plain.as_str(), kind]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned(),
        at: instant(of("time"), zone),
        key: Some(format!("{} {}", of("source"), of("id"))),
        hosts: vec![
            of("subject").to_owned(),
            said.text(&["host", "hostname", "ip", "address", "instance"]),
        ],
        fields,
        ..Report::default()
    })
}

/// Header values are percent-encoded (HTTP binding, 3.1.3.2).
fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value)
        .decode_utf8_lossy()
        .into_owned()
}
