//! Alertmanager's webhook body, version 4; Grafana's alerting sends the same with more keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use super::{BodyError, fields, from_json, mark_clock};
use crate::time::Timestamp;
use crate::trigger::event_time::event_time;
use crate::trigger::text::{address_of, inert};
use crate::trigger::{Kind, Trigger};

/// Addresses put into a suggested filter.
const ADDRESSES_MAX: usize = 8;
/// Alerts whose text is put into the trigger's.
const TEXTS_MAX: usize = 20;

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
}

impl Alert {
    /// When it began; `0001-01-01T00:00:00Z` and nonsense are no time.
    fn began(&self) -> Option<Timestamp> {
        self.starts_at.parse().ok()
    }
}

/// The trigger of a notification to the hook `name`; `None` when no alert in it is firing.
pub fn parse_alertmanager(
    name: &str,
    body: &[u8],
    received: Timestamp,
) -> Result<Option<Trigger>, BodyError> {
    let notification: Notification = from_json(body)?;
    let firing: Vec<&Alert> = notification
        .alerts
        .iter()
        .filter(|alert| alert.status == "firing")
        .collect();
    // The alert that began first; one without a time is of no use as an anchor.
    let began = |alert: &&&Alert| alert.began().unwrap_or(Timestamp::MAX);
    let Some(first) = firing.iter().min_by_key(began) else {
        return Ok(None);
    };
    let time = event_time(first.began(), received);
    let subject = subject(&notification, first);
    let text = text(&notification, &firing);
    let mut trigger = Trigger::new(
        Kind::Webhook,
        name,
        &inert(subject.as_bytes()),
        &inert(text.as_bytes()),
        time.at,
        received,
    );
    trigger.fields = fields(first.labels.iter());
    trigger.suggested_filter = suggest(&firing);
    let key = match notification.group_key.as_str() {
        "" => &subject,
        key => key,
    };
    trigger.dedup_key = Some(inert(format!("{key} {}", first.starts_at).as_bytes()));
    mark_clock(&mut trigger, time);
    Ok(Some(trigger))
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
    match all {
        1 => texts.join("; "),
        all => format!("{all} alerts firing: {}", texts.join("; ")),
    }
}

/// A filter for the addresses in the `instance` labels.
fn suggest(firing: &[&Alert]) -> Option<String> {
    let addresses: BTreeSet<IpAddr> = firing
        .iter()
        .filter_map(|alert| address_of(alert.labels.get("instance")?))
        .take(ADDRESSES_MAX)
        .collect();
    let hosts: Vec<String> = addresses.iter().map(|a| format!("host {a}")).collect();
    (!hosts.is_empty()).then(|| hosts.join(" or "))
}
