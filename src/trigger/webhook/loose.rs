//! Bodies without a fixed shape: people choose the names. `EVENT.ID`, `event_id` and `eventId` are
//! one name here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::BodyError;

/// Values looked at in one body.
const VALUES_MAX: usize = 512;

/// The texts, numbers and truths of an object, by name in lower case without separators. Of
/// objects within it the names are joined: `{"host": {"ip": 1}}` has `hostip`.
#[derive(Debug, Clone, Default)]
pub(super) struct Loose {
    values: BTreeMap<String, String>,
    /// The same with the names as sent, the outermost only.
    sent: BTreeMap<String, String>,
}

impl Loose {
    pub(super) fn of(body: &Value) -> Result<Self, BodyError> {
        let Value::Object(object) = body else {
            let what = "expected an object such as {\"name\": \"value\"}";
            return Err(BodyError::Json(what.to_owned()));
        };
        let mut loose = Self::default();
        for (name, value) in object {
            loose.take(&plain(name), value, 0);
            if let Some(text) = scalar(value).filter(|text| !is_macro(text)) {
                loose.sent.insert(name.clone(), text);
            }
        }
        Ok(loose)
    }

    fn take(&mut self, name: &str, value: &Value, depth: usize) {
        if self.values.len() >= VALUES_MAX {
            return;
        }
        match value {
            Value::Object(inner) if depth < 3 => {
                for (more, value) in inner {
                    self.take(&format!("{name}{}", plain(more)), value, depth + 1);
                }
            }
            value => {
                if let Some(text) = scalar(value).filter(|text| !is_macro(text)) {
                    self.values.entry(name.to_owned()).or_insert(text);
                }
            }
        }
    }

    /// The first of `names` (in lower case without separators) that says something.
    pub(super) fn get(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.values.get(*name))
            .map(String::as_str)
    }

    /// The same as a text, empty when there is none.
    pub(super) fn text(&self, names: &[&str]) -> String {
        self.get(names).unwrap_or_default().to_owned()
    }

    /// What was sent, for the fields.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        self.sent.clone()
    }
}

/// The text of a value that is one; `None` for nothing, lists and objects.
pub(super) fn scalar(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Whether a text is a macro that its sender did not fill in: `{EVENT.ID}`, `$ALERT_ID`,
/// `*UNKNOWN*`, `{{rule.id}}`.
fn is_macro(text: &str) -> bool {
    let upper = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"._".contains(&b))
    };
    let braced = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    text == "*UNKNOWN*"
        || braced.is_some_and(upper)
        || text.strip_prefix('$').is_some_and(upper)
        || (text.starts_with("{{") && text.ends_with("}}"))
}

/// Whether a word says that all is well again.
pub(super) fn is_over(word: &str) -> bool {
    let word = word.trim().to_ascii_lowercase();
    matches!(
        word.as_str(),
        "resolved"
            | "ok"
            | "recovered"
            | "recovery"
            | "up"
            | "cleared"
            | "closed"
            | "success"
            | "normal"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_however_they_are_written() {
        let body = json!({
            "EVENT.ID": 7, "event_name": " down ", "host": {"ip-address": "192.0.2.1"},
            "EVENT.OPDATA": "{EVENT.OPDATA}", "scope": "$ALERT_SCOPE", "tags": [1], "none": null
        });
        let loose = Loose::of(&body).unwrap();
        assert_eq!(loose.get(&["eventid"]), Some("7"));
        assert_eq!(loose.get(&["nothing", "eventname"]), Some("down"));
        assert_eq!(loose.get(&["hostipaddress"]), Some("192.0.2.1"));
        for absent in ["eventopdata", "scope", "tags", "none"] {
            assert_eq!(loose.get(&[absent]), None, "{absent}");
        }
        assert!(Loose::of(&json!([1])).is_err());
    }
}
