//! Webhooks: what a monitoring system posts, and who may. The web layer does the HTTP; here are
//! the secrets, the shapes of bodies and the counts.
//!
//! A call goes one way: `auth` and `signature` admit it, a sender's own file (`alertmanager`,
//! `senders`, `kuma`, `pagerduty`, `cloudevents`, `generic`, `mapping`) reads its body into
//! reports, `report` makes events of them, `redact` the copy that is kept.

mod alertmanager;
mod auth;
mod cloudevents;
mod config;
mod form;
mod generic;
mod kuma;
mod loose;
mod mapping;
mod pagerduty;
mod redact;
mod rehearsal;
mod report;
mod senders;
mod signature;
mod when;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use auth::{Caller, Denied, Headers};
pub use config::{HookError, HookKind, WebhookConfig, validate_all};
pub use mapping::Mapping;
pub use rehearsal::{Call, Rehearsal};
pub use report::Event;
pub use signature::{Dialect, check_secret, sign_standard};
pub use when::Zone;

pub use super::several::Several;

use super::status::{Count, SourceHandle, SourceState, Sources};
use super::text::{FIELD_BYTES_MAX, inert};
use super::{Kind, cut};
use crate::time::Timestamp;
use auth::Gate;
use report::Report;

/// The largest body taken, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body of several events kept with more than the first of them.
const REPEATED_BODY_BYTES_MAX: usize = 64 << 10;
/// Labels of an alert kept as fields.
const FIELDS_MAX: usize = 64;

/// Why a body is not what the hook takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than [`BODY_BYTES_MAX`].
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// Neither JSON nor, where that is taken, a form.
    #[error("send JSON with Content-Type: application/json")]
    MediaType,
    /// Not JSON or not the shape expected; the text says where.
    #[error("the body is not understood: {0}")]
    Json(String),
    /// Well-formed, but a value makes no sense.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A hook, ready for calls.
#[derive(Debug)]
pub struct Hook {
    name: String,
    kind: HookKind,
    gate: Gate,
    zone: Zone,
    map: Option<Mapping>,
    handle: SourceHandle,
}

impl Hook {
    /// Reads the secrets and enters the hook in the registry.
    pub fn from_config(config: &WebhookConfig, sources: &Sources) -> Result<Self, HookError> {
        config.validate()?;
        let gate = Gate::new(config)?;
        let handle = sources.register(Kind::Webhook, &config.name);
        handle.declare(config.late);
        handle.set(SourceState::Ok, "waiting for the first call");
        // Uptime Kuma writes UTC, without saying so.
        let usual = match config.kind {
            HookKind::UptimeKuma => Zone::Offset(0),
            _ => Zone::Local,
        };
        Ok(Self {
            name: config.name.clone(),
            kind: config.kind,
            gate,
            zone: config.zone.unwrap_or(usual),
            map: config.map.clone(),
            handle,
        })
    }

    /// Makes all hooks of a configuration.
    pub fn all(configs: &[WebhookConfig], sources: &Sources) -> Result<Vec<Self>, HookError> {
        validate_all(configs)?;
        configs
            .iter()
            .map(|config| Self::from_config(config, sources))
            .collect()
    }

    /// Its name in the address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its entry in the registry; the web layer says [`SourceHandle::triggered`] when a trigger
    /// became durable.
    pub fn handle(&self) -> &SourceHandle {
        &self.handle
    }

    /// Whether the caller may call, as far as that shows before the body is read. A refusal is
    /// counted.
    pub fn admit(&self, caller: &Caller) -> Result<(), Denied> {
        self.refuse(self.gate.admit(caller))
    }

    /// Whether the body is signed, where it must be. To be asked before it is parsed.
    pub fn check(&self, caller: &Caller, body: &[u8], now: Timestamp) -> Result<(), Denied> {
        self.refuse(self.gate.check(&caller.headers, body, now))
    }

    fn refuse(&self, result: Result<(), Denied>) -> Result<(), Denied> {
        result.inspect_err(|_| self.handle.count(Count::Refused))
    }

    /// What a body asks for; nothing when it is a test, an acknowledgement or the like.
    pub fn accept(
        &self,
        caller: &Caller,
        body: &[u8],
        received: Timestamp,
    ) -> Result<Vec<Event>, BodyError> {
        self.handle.count(Count::Received);
        let read = self.read(&caller.headers, body, received);
        let read = read.map(|events| self.or_drill(events, body, received));
        match &read {
            Ok(events) => {
                if !events.is_empty() {
                    self.handle.count(Count::Matched);
                }
                let detail = format!("last call {}", received.to_rfc3339_seconds());
                self.handle.set(SourceState::Ok, detail);
            }
            Err(BodyError::TooLarge) => self.handle.count(Count::Oversized),
            Err(_) => self.handle.count(Count::Malformed),
        }
        read
    }

    /// A drill is one only if its body was understood as a fault, and then nothing else.
    fn or_drill(&self, events: Vec<Event>, body: &[u8], received: Timestamp) -> Vec<Event> {
        let fault = events
            .iter()
            .any(|event| matches!(event, Event::Trigger(_)));
        let drill = if fault {
            self.handle.drill(body, received)
        } else {
            None
        };
        match drill {
            Some(drill) => vec![Event::Trigger(Box::new(drill))],
            None => events,
        }
    }

    fn read(
        &self,
        headers: &Headers,
        body: &[u8],
        received: Timestamp,
    ) -> Result<Vec<Event>, BodyError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        let body = self.value(headers, body)?;
        let mut reports = self.reports(headers, &body)?;
        name_by_delivery(&mut reports, headers);
        let mut events: Vec<Event> = reports
            .into_iter()
            .filter_map(|report| report.event(&self.handle, received))
            .collect();
        let body = match self.kind {
            HookKind::UptimeKuma => kuma::kept(body),
            _ => body,
        };
        keep_body(&mut events, body);
        Ok(events)
    }

    /// The body as a JSON value: of a form its fields, of anything in a binary `CloudEvent` a text.
    fn value(&self, headers: &Headers, body: &[u8]) -> Result<Value, BodyError> {
        let media = headers.get("content-type").unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        let media = media.to_ascii_lowercase();
        let is_json = media == "application/json" || media.ends_with("+json");
        if is_json {
            if body.is_empty() && self.kind == HookKind::Cloudevents {
                return Ok(Value::Null);
            }
            return from_json(body);
        }
        let form = || form::fields(headers.get("content-type").unwrap_or_default(), body);
        match self.kind {
            HookKind::Icinga | HookKind::Zabbix | HookKind::Generic => {
                if let Some(fields) = form() {
                    return fields;
                }
            }
            HookKind::UptimeKuma => {
                if let Some(fields) = form() {
                    return kuma::of_form(&fields?);
                }
            }
            _ => {}
        }
        if self.kind == HookKind::Cloudevents && cloudevents::is_binary(headers) {
            return Ok(Value::from(String::from_utf8_lossy(body).into_owned()));
        }
        Err(BodyError::MediaType)
    }

    fn reports(&self, headers: &Headers, body: &Value) -> Result<Vec<Report>, BodyError> {
        let zone = self.zone;
        match self.kind {
            HookKind::Alertmanager | HookKind::Grafana => alertmanager::alertmanager(body),
            HookKind::Zabbix => senders::zabbix(body, zone),
            HookKind::Icinga => senders::icinga(body, zone),
            HookKind::UptimeKuma => kuma::kuma(body, zone),
            HookKind::Pagerduty => pagerduty::pagerduty(body, zone),
            HookKind::Datadog => senders::datadog(body, zone),
            HookKind::Kibana => senders::kibana(body, zone),
            HookKind::Splunk => senders::splunk(body, zone),
            HookKind::Cloudevents => cloudevents::cloudevents(headers, body, zone),
            HookKind::Generic => match &self.map {
                Some(map) => map.reports(body, zone),
                None => generic::generic(&self.name, body, zone),
            },
        }
    }
}

/// Reads a body's JSON; `serde_json` bounds its depth.
fn from_json(body: &[u8]) -> Result<Value, BodyError> {
    serde_json::from_slice(body).map_err(|error| BodyError::Json(error.to_string()))
}

/// Each incident gets the body: the first event about each subject has it. A large one only the
/// first of all, or a batch would be kept a hundred times.
fn keep_body(events: &mut [Event], body: Value) {
    let mut triggers = events.iter_mut().filter_map(|event| match event {
        Event::Trigger(trigger) => Some(trigger),
        Event::Resolution(_) => None,
    });
    let Some(first) = triggers.next() else {
        return;
    };
    let kept = redact::redacted(body);
    let mut told = BTreeSet::from([first.subject.clone()]);
    if kept.len() <= REPEATED_BODY_BYTES_MAX {
        for trigger in triggers {
            if told.insert(trigger.subject.clone()) {
                trigger.body = Some(kept.clone());
            }
        }
    }
    first.body = Some(kept);
}

/// What its sender gives no identity has that of the delivery, where there is one: a delivery that
/// is repeated has the same (Standard Webhooks, "webhook-id").
fn name_by_delivery(reports: &mut [Report], headers: &Headers) {
    let Some(id) = headers.get("webhook-id") else {
        return;
    };
    for (number, report) in reports.iter_mut().enumerate() {
        if report.key.is_none() && !report.over {
            report.key = Some(format!("delivery {id} {number}"));
        }
    }
}

/// Foreign names and values as trigger fields, bounded.
fn bounded_fields(fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let bounded = |text: &str| cut(&inert(text.as_bytes()), FIELD_BYTES_MAX).to_owned();
    fields
        .iter()
        .take(FIELDS_MAX)
        .map(|(name, value)| (bounded(name), bounded(value)))
        .collect()
}

#[cfg(test)]
mod tests;
