//! Bodies of any shape: where the values are, by JSON pointer (RFC 6901).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BodyError;
use super::loose::{is_over, scalar};
use super::report::Report;
use super::when::{Zone, instant};

/// Events taken from one body.
const EVENTS_MAX: usize = 100;

/// `[webhook.map]`: JSON pointers such as `"/alert/host"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// A list of events; the other pointers then begin at each of them.
    pub each: Option<String>,
    /// What it is about; several are joined by a space.
    pub subject: Pointers,
    /// The message; several are joined by a space.
    pub text: Pointers,
    /// When it happened.
    pub at: Option<String>,
    /// The sender's own identity of the event.
    pub key: Option<String>,
    /// Whether it is over: the value is one of `resolved`.
    pub status: Option<String>,
    /// Values of `status` that mean that it is over; `resolved`, `ok` and their like when empty.
    pub resolved: Vec<String>,
    /// A name or address of the host it is about.
    pub host: Option<String>,
    /// Fields to keep, by name.
    pub fields: BTreeMap<String, String>,
}

/// One pointer or several.
pub(super) type Pointers = super::Several<String>;

impl Mapping {
    /// Says what is no pointer.
    pub(super) fn validate(&self) -> Result<(), String> {
        let one = [&self.each, &self.at, &self.key, &self.status, &self.host];
        let one = one.into_iter().flatten();
        let several = self.subject.as_slice().iter().chain(self.text.as_slice());
        for pointer in one.chain(several).chain(self.fields.values()) {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(format!(
                    "{pointer:?} is not a JSON pointer such as \"/alert/host\" (RFC 6901)"
                ));
            }
        }
        if self.subject.is_empty() && self.text.is_empty() {
            return Err("give subject or text: what is it about?".to_owned());
        }
        Ok(())
    }

    /// What a body says.
    pub(super) fn reports(&self, body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
        let Some(each) = &self.each else {
            return Ok(vec![self.report(body, zone)?]);
        };
        let list = body.pointer(each).and_then(Value::as_array);
        let list = list.ok_or_else(|| BodyError::Value {
            key: "map.each",
            why: format!("there is no list at {each:?}"),
        })?;
        list.iter()
            .take(EVENTS_MAX)
            .map(|event| self.report(event, zone))
            .collect()
    }

    fn report(&self, event: &Value, zone: Zone) -> Result<Report, BodyError> {
        let at = |pointer: &String| event.pointer(pointer).and_then(scalar);
        let one = |pointer: &Option<String>| pointer.as_ref().and_then(at);
        let joined = |pointers: &Pointers| {
            let texts: Vec<String> = pointers.as_slice().iter().filter_map(at).collect();
            texts.join(" ")
        };
        let status = one(&self.status);
        let fields = self.fields.iter();
        let report = Report {
            over: status.is_some_and(|status| match self.resolved.as_slice() {
                [] => is_over(&status),
                words => words.contains(&status),
            }),
            subject: joined(&self.subject),
            text: joined(&self.text),
            at: one(&self.at).and_then(|text| instant(&text, zone)),
            key: one(&self.key),
            hosts: one(&self.host).into_iter().collect(),
            fields: fields
                .filter_map(|(name, pointer)| Some((name.clone(), at(pointer)?)))
                .collect(),
            ..Report::default()
        };
        report.or_empty(
            "map.subject",
            "no pointer of subject and text leads to a text",
        )
    }
}
