//! Our own body, for scripts and for senders whose body can be templated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{BodyError, fields, from_json, mark_clock};
use crate::time::Timestamp;
use crate::trigger::event_time::event_time;
use crate::trigger::text::inert;
use crate::trigger::{Kind, Trigger, cut};

/// The longest window a caller may ask for on either side.
const SPAN_MAX: Duration = Duration::from_hours(24);
/// The longest filter and key kept, in bytes.
const WORD_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    fields: BTreeMap<String, Value>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    status: Option<String>,
    /// What other senders call these things.
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// Names under which senders that know nothing of us put a text.
const TEXTS: [&str; 5] = ["message", "summary", "title", "description", "msg"];
/// Names under which they put what it is about.
const SUBJECTS: [&str; 5] = ["host", "hostname", "instance", "name", "alert"];

/// The first of `names` that holds a text.
fn first_text(other: &BTreeMap<String, Value>, names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| word(other.get(*name)?.as_str().map(str::to_owned)))
}

/// The trigger of a call of the hook `name`; `None` when its status says that all is well again.
pub fn parse_generic(
    name: &str,
    body: &[u8],
    received: Timestamp,
) -> Result<Option<Trigger>, BodyError> {
    let body: Body = from_json(body)?;
    if matches!(body.status.as_deref(), Some("resolved" | "ok" | "OK")) {
        return Ok(None);
    }
    let subject = word(body.subject).or_else(|| first_text(&body.other, &SUBJECTS));
    let text = word(body.text).or_else(|| first_text(&body.other, &TEXTS));
    let (subject, text) = match (subject, text) {
        (None, None) => {
            return Err(BodyError::Value {
                key: "subject",
                why: "give a subject or a text".to_owned(),
            });
        }
        (Some(subject), None) => (subject.clone(), subject),
        // Calls with nothing but a text join by the hook.
        (None, Some(text)) => (name.to_owned(), text),
        (Some(subject), Some(text)) => (subject, text),
    };
    let claimed = body.at.as_deref().map(str::parse).transpose();
    let claimed = claimed.map_err(|error: crate::time::ParseTimeError| BodyError::Value {
        key: "at",
        why: error.to_string(),
    })?;
    let time = event_time(claimed, received);
    let mut trigger = Trigger::new(Kind::Webhook, name, &subject, &text, time.at, received);
    trigger.before = span("before", body.before.as_deref())?;
    trigger.after = span("after", body.after.as_deref())?;
    if trigger.before == Some(Duration::ZERO) && trigger.after == Some(Duration::ZERO) {
        return Err(BodyError::Value {
            key: "before",
            why: "before and after are both 0: nothing would be kept".to_owned(),
        });
    }
    trigger.suggested_filter = word(body.filter).map(bounded);
    trigger.dedup_key = word(body.key).map(bounded);
    let mut values = BTreeMap::new();
    for (key, value) in body.fields {
        values.insert(key, scalar(value)?);
    }
    trigger.fields = fields(values.iter());
    mark_clock(&mut trigger, time);
    Ok(Some(trigger))
}

/// Text made inert; `None` when nothing is left.
fn word(text: Option<String>) -> Option<String> {
    let text = inert(text?.trim().as_bytes());
    (!text.is_empty()).then_some(text)
}

fn bounded(text: String) -> String {
    match cut(&text, WORD_BYTES_MAX) {
        whole if whole.len() == text.len() => text,
        part => part.to_owned(),
    }
}

fn span(key: &'static str, text: Option<&str>) -> Result<Option<Duration>, BodyError> {
    let Some(text) = text else { return Ok(None) };
    let error = |why| BodyError::Value { key, why };
    let span = humantime::parse_duration(text)
        .map_err(|why| error(format!("{text:?} is not a span such as 30s or 5m: {why}")))?;
    if span > SPAN_MAX {
        return Err(error(format!("{text} is longer than 24h")));
    }
    Ok(Some(span))
}

fn scalar(value: Value) -> Result<String, BodyError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Ok(String::new()),
        Value::Array(_) | Value::Object(_) => Err(BodyError::Value {
            key: "fields",
            why: "a field is a text, a number, true or false".to_owned(),
        }),
    }
}
