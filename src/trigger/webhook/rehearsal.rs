//! A hook called by ourselves for a drill: with its own secrets, in the shape of its sender.

use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::config::{HookError, HookKind, WebhookConfig};
use super::mapping::Mapping;
use super::signature::Signatures;
use crate::time::Timestamp;

/// What the body says, before the mark.
const SAYS: &str = "wirewitness drill";
/// The host it is about.
const HOST: &str = "wirewitness.invalid";

/// All that a call of a hook needs.
pub struct Rehearsal {
    name: String,
    kind: HookKind,
    token: Option<String>,
    basic: Option<String>,
    signatures: Option<Signatures>,
    networks: Vec<IpNet>,
    by_certificate: bool,
    map: Option<Mapping>,
}

impl std::fmt::Debug for Rehearsal {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A request to our own web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The path of the request.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Rehearsal {
    /// Reads the secrets of a hook.
    pub fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        let secrets = config.secrets()?;
        Ok(Self {
            name: config.name.clone(),
            kind: config.kind,
            token: secrets.tokens.into_iter().next(),
            basic: secrets.basic.into_iter().next(),
            signatures: (!secrets.hmac.is_empty()).then(|| Signatures::new(config, secrets.hmac)),
            networks: config.networks()?,
            by_certificate: !config.client_certificate.is_empty(),
            map: config.map.clone(),
        })
    }

    /// Why the hook takes no call of ours that comes from this address, if that is so.
    pub fn refuses(&self, address: IpAddr) -> Option<String> {
        let allowed = |network: &IpNet| network.contains(&address);
        if self.by_certificate {
            return Some("it asks callers for a certificate, of which we have none".to_owned());
        }
        let open = self.networks.is_empty() || self.networks.iter().any(allowed);
        (!open).then(|| format!("it takes no calls from this host: add \"{address}\" to its allow"))
    }

    /// The call that carries `mark`.
    pub fn call(&self, mark: &str, now: Timestamp) -> Call {
        let body = self.body(mark, now).to_string().into_bytes();
        let media = match self.kind {
            HookKind::Cloudevents => "application/cloudevents+json",
            _ => "application/json",
        };
        let mut path = format!("/hooks/{}", self.name);
        let mut headers = vec![("content-type".to_owned(), media.to_owned())];
        let mut authorise = |shown: String| headers.push(("authorization".to_owned(), shown));
        match (&self.token, &self.basic) {
            // There is one such header: with both, the token goes into the address.
            (token, Some(pair)) => {
                authorise(format!("Basic {}", Base64::encode_string(pair.as_bytes())));
                if let Some(token) = token {
                    let token = percent_encoding::utf8_percent_encode(
                        token,
                        percent_encoding::NON_ALPHANUMERIC,
                    );
                    path = format!("{path}/{token}");
                }
            }
            (Some(token), None) => authorise(format!("Bearer {token}")),
            (None, None) => {}
        }
        if let Some(signatures) = &self.signatures {
            headers.extend(signatures.sign(mark, &body, now));
        }
        Call {
            path,
            headers,
            body,
        }
    }

    fn body(&self, mark: &str, now: Timestamp) -> Value {
        let text = format!("{SAYS} {mark}");
        let at = now.to_rfc3339();
        match self.kind {
            HookKind::Alertmanager | HookKind::Grafana => json!({
                "version": "4", "status": "firing", "groupKey": mark,
                "groupLabels": {"alertname": SAYS},
                "alerts": [{"status": "firing", "labels": {"alertname": SAYS},
                    "annotations": {"summary": text}, "startsAt": at}],
            }),
            HookKind::Zabbix => json!({
                "EVENT.VALUE": "1", "EVENT.ID": mark, "EVENT.NAME": text, "HOST.HOST": HOST,
            }),
            HookKind::Icinga => json!({
                "type": "PROBLEM", "host": HOST, "service": SAYS, "state": "CRITICAL", "output": text,
            }),
            HookKind::UptimeKuma => json!({
                "heartbeat": {"status": 0, "msg": text}, "monitor": {"name": SAYS}, "msg": text,
            }),
            HookKind::Pagerduty => json!({"event": {
                "id": mark, "event_type": "incident.triggered", "occurred_at": at,
                "data": {"title": text, "service": {"summary": SAYS}},
            }}),
            HookKind::Datadog => json!({
                "alert_transition": "Triggered", "alert_title": text, "hostname": HOST,
            }),
            HookKind::Kibana => json!({"rule_name": SAYS, "alert_id": HOST, "reason": text}),
            HookKind::Splunk => json!({
                "search_name": SAYS, "result": {"host": HOST, "_raw": text},
            }),
            HookKind::Cloudevents => json!({
                "specversion": "1.0", "id": mark, "source": HOST, "type": "wirewitness.drill",
                "data": {"message": text},
            }),
            HookKind::Generic => match &self.map {
                Some(map) => mapped(map, &text),
                None => json!({"subject": SAYS, "text": text}),
            },
        }
    }
}

/// A body in which `text` stands where the pointers lead.
fn mapped(map: &Mapping, text: &str) -> Value {
    let mut event = json!({});
    for pointer in map.subject.as_slice().iter().chain(map.text.as_slice()) {
        put(&mut event, pointer, text.into());
    }
    let Some(each) = &map.each else { return event };
    let mut body = json!({});
    put(&mut body, each, json!([event]));
    body
}

/// Sets the value at a JSON pointer, making the objects on the way. Numbers name members there:
/// reading finds them too.
fn put(body: &mut Value, pointer: &str, value: Value) {
    let mut place = body;
    for token in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        let Value::Object(members) = place else {
            return;
        };
        let name = token.replace("~1", "/").replace("~0", "~");
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = value;
}
