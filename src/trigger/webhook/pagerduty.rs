//! `PagerDuty`'s webhooks, version 3.

use serde::Deserialize;
use serde_json::Value;

use super::BodyError;
use super::loose::scalar;
use super::report::Report;
use super::when::{Zone, instant};

#[derive(Deserialize)]
struct Body {
    event: Happened,
}

#[derive(Deserialize)]
struct Happened {
    #[serde(default)]
    id: String,
    event_type: String,
    #[serde(default)]
    occurred_at: String,
    #[serde(default)]
    data: Value,
}

pub(super) fn pagerduty(body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let Body { event } =
        Body::deserialize(body).map_err(|error| BodyError::Json(error.to_string()))?;
    let over = match event.event_type.as_str() {
        "incident.triggered" | "incident.reopened" | "incident.escalated" => false,
        "incident.resolved" => true,
        // Pings, acknowledgements, notes, changes of responders.
        _ => return Ok(Vec::new()),
    };
    let of = |pointer: &str| event.data.pointer(pointer).and_then(scalar);
    let title = of("/title").unwrap_or_default();
    let service = of("/service/summary").unwrap_or_default();
    let number = of("/number").map(|number| format!("#{number}"));
    let subject: Vec<String> = [Some(service), number, Some(title.clone())]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    let fields = [
        ("status", "/status"),
        ("urgency", "/urgency"),
        ("priority", "/priority/summary"),
        ("incident_key", "/incident_key"),
        ("url", "/html_url"),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(name, pointer)| Some((name.to_owned(), of(pointer)?)));
    let report = Report {
        over,
        subject: subject.join(" "),
        text: title,
        at: instant(&event.occurred_at, zone),
        // Of the incident, whose title may change; a delivery that is repeated is about the same one.
        key: of("/id")
            .or_else(|| Some(event.id).filter(|id| !over && !id.is_empty()))
            .map(|id| format!("pagerduty {id}")),
        fields: fields.collect(),
        ..Report::default()
    };
    Ok(vec![
        report.or_empty("event.data.title", "it says of no incident")?,
    ])
}
