//! Alertmanager's webhook body, version 4; Grafana's alerting sends the same with more keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::BodyError;
use super::report::Report;
use crate::time::Timestamp;

/// Alerts whose text is put into the trigger's.
const TEXTS_MAX: usize = 20;
/// Events made of one notification.
const EVENTS_MAX: usize = 100;

type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    #[serde(default)]
    group_key: String,
    #[serde(default)]
    group_labels: Labels,
    #[serde(default)]
    common_annotations: Labels,
    #[serde(default)]
    truncated_alerts: u64,
    /// The only key that must be there: without alerts it is another body.
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    ends_at: String,
}

impl Alert {
    /// When it began; `0001-01-01T00:00:00Z` and nonsense are no time.
    fn began(&self) -> Option<Timestamp> {
        self.starts_at.parse().ok()
    }
}

/// What a notification says: that its firing alerts fire, or when there are none that it is over.
///
/// A group repeats the alerts that still fire beside those that are new. Each instant at which some
/// of them began is an event of its own, the oldest first: a repeat must not hide what is new.
pub(super) fn alertmanager(body: &Value) -> Result<Vec<Report>, BodyError> {
    let notification =
        Notification::deserialize(body).map_err(|error| BodyError::Json(error.to_string()))?;
    let with = |status: &str| -> Vec<&Alert> {
        let alerts = notification.alerts.iter();
        alerts.filter(|alert| alert.status == status).collect()
    };
    let firing = with("firing");
    let over = firing.is_empty();
    let alerts = if over { with("resolved") } else { firing };
    // One without a time is of no use as an anchor and comes last.
    let mut together: BTreeMap<(Timestamp, &str), Vec<&Alert>> = BTreeMap::new();
    for alert in &alerts {
        let began = alert.began().unwrap_or(Timestamp::MAX);
        let same = together.entry((began, &alert.starts_at)).or_default();
        same.push(alert);
    }
    let hosts = instances(&alerts);
    let mut groups: Vec<Vec<&Alert>> = together.into_values().collect();
    // What began last of too many is one event, at the first of them.
    if groups.len() > EVENTS_MAX {
        let rest = groups.split_off(EVENTS_MAX - 1);
        groups.push(rest.concat());
    }
    let reports = groups.iter().filter_map(|alerts| {
        let mut report = began_together(&notification, alerts, over)?;
        report.hosts.clone_from(&hosts);
        Some(report)
    });
    Ok(reports.collect())
}

/// What the alerts that began at one instant say together.
fn began_together(notification: &Notification, alerts: &[&Alert], over: bool) -> Option<Report> {
    let first = alerts.first()?;
    let subject = subject(notification, first);
    let group = match notification.group_key.as_str() {
        "" => &subject,
        key => key,
    };
    let ended = alerts.iter().filter_map(|alert| alert.ends_at.parse().ok());
    Some(Report {
        over,
        key: Some(format!("{group} {}", first.starts_at)),
        text: text(notification, alerts),
        at: if over { ended.max() } else { first.began() },
        fields: first.labels.clone(),
        subject,
        ..Report::default()
    })
}

/// What the group is about: its labels, or those of its first alert when it is grouped by none.
fn subject(notification: &Notification, first: &Alert) -> String {
    let labels = [&notification.group_labels, &first.labels]
        .into_iter()
        .find(|labels| !labels.is_empty());
    match labels {
        Some(labels) => {
            let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join(",")
        }
        None => "alert".to_owned(),
    }
}

/// The annotations of the firing alerts, each text once.
fn text(notification: &Notification, firing: &[&Alert]) -> String {
    let summary = |annotations: &Labels| {
        let of = |key| annotations.get(key).map_or("", |text| text.trim());
        match (of("summary"), of("description")) {
            ("", description) => description.to_owned(),
            (summary, "") => summary.to_owned(),
            (summary, description) => format!("{summary}: {description}"),
        }
    };
    let mut texts = Vec::new();
    for alert in firing {
        let mut text = summary(&alert.annotations);
        if text.is_empty() {
            text = summary(&notification.common_annotations);
        }
        if !text.is_empty() && texts.len() < TEXTS_MAX && !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        let name = firing
            .iter()
            .find_map(|alert| alert.labels.get("alertname"));
        texts.extend(name.cloned());
    }
    let all = u64::try_from(firing.len()).unwrap_or(u64::MAX) + notification.truncated_alerts;
    let state = firing
        .first()
        .map_or("firing", |alert| alert.status.as_str());
    match all {
        1 => texts.join("; "),
        all => format!("{all} alerts {state}: {}", texts.join("; ")),
    }
}

/// What the `instance` labels name.
fn instances(alerts: &[&Alert]) -> Vec<String> {
    let instances = alerts
        .iter()
        .filter_map(|alert| alert.labels.get("instance"));
    instances.cloned().collect()
}
