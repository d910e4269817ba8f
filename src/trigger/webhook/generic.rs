//! Our own body, for scripts and for senders whose body can be templated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::BodyError;
use super::loose::is_over;
use super::report::Report;
use super::when::{Zone, instant};

/// The longest window a caller may ask for on either side.
const SPAN_MAX: Duration = Duration::from_hours(24);

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

/// What a call of the hook `name` says.
pub(super) fn generic(name: &str, body: &Value, zone: Zone) -> Result<Vec<Report>, BodyError> {
    let body = Body::deserialize(body).map_err(|error| BodyError::Json(error.to_string()))?;
    let subject = word(body.subject).or_else(|| first_text(&body.other, &SUBJECTS));
    let text = word(body.text).or_else(|| first_text(&body.other, &TEXTS));
    let over = body.status.as_deref().is_some_and(is_over);
    let (subject, text) = match (subject, text) {
        (None, None) if !over || body.key.is_none() => {
            return Err(BodyError::Value {
                key: "subject",
                why: "give a subject or a text".to_owned(),
            });
        }
        (Some(subject), None) => (subject.clone(), subject),
        // Calls with nothing but a text join by the hook.
        (None, text) => (name.to_owned(), text.unwrap_or_default()),
        (Some(subject), Some(text)) => (subject, text),
    };
    let at = body.at.as_deref().map(|text| {
        instant(text, zone).ok_or_else(|| BodyError::Value {
            key: "at",
            why: format!("{text:?} is not a time such as 2026-11-23T10:02:11Z"),
        })
    });
    let at = at.transpose()?;
    let before = span("before", body.before.as_deref())?;
    let after = span("after", body.after.as_deref())?;
    if before == Some(Duration::ZERO) && after == Some(Duration::ZERO) {
        return Err(BodyError::Value {
            key: "before",
            why: "before and after are both 0: nothing would be kept".to_owned(),
        });
    }
    let mut fields = BTreeMap::new();
    for (key, value) in body.fields {
        fields.insert(key, scalar(value)?);
    }
    Ok(vec![Report {
        over,
        subject,
        text,
        at,
        key: body.key,
        fields,
        filter: body.filter,
        before,
        after,
        hosts: Vec::new(),
    }])
}

/// The text; `None` when nothing is left.
fn word(text: Option<String>) -> Option<String> {
    let text = text?.trim().to_owned();
    (!text.is_empty()).then_some(text)
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
