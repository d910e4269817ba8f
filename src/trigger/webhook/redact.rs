//! What is kept of a body: secrets blanked, bounded, inert.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::trigger::text::inert;
use crate::trigger::{BODY_BYTES_MAX, cut};

/// What stands in place of a secret.
const BLANK: &str = "[redacted]";

/// Parts of the names, in lower case without separators, of values that are secret.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "cookie",
    "privatekey",
    "signature",
    "community",
    "bearer",
];

/// Secrets within texts, and what is put in their place.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", "$1 [redacted]"),
        (r"://[^/\s:@]*:[^/\s@]+@", "://[redacted]@"),
        (
            r"(?i)([?&;](?:access_token|token|api_?key|key|secret|password|passwd|sig|signature)=)[^&;\s]+",
            "$1[redacted]",
        ),
        (
            r#"(?i)\b(password|passwd|passphrase|secret|api_?key|token)("?\s*[=:]\s*"?)[^\s,;&"]+"#,
            "$1$2[redacted]",
        ),
    ]
    .into_iter()
    .filter_map(|(pattern, blank)| Some((Regex::new(pattern).ok()?, blank)))
    .collect()
});

/// The copy to keep of a body.
pub(super) fn redacted(mut body: Value) -> String {
    blank(&mut body);
    let text = inert(body.to_string().as_bytes());
    cut(&text, BODY_BYTES_MAX).to_owned()
}

/// The same of one text.
pub(super) fn blanked(text: &str) -> String {
    let mut text = text.to_owned();
    blank_text(&mut text);
    text
}

/// The same of fields.
pub(super) fn blanked_fields(mut fields: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, text) in &mut fields {
        if is_secret(name) && !text.is_empty() {
            BLANK.clone_into(text);
        } else {
            blank_text(text);
        }
    }
    fields
}

fn blank(value: &mut Value) {
    match value {
        Value::String(text) => blank_text(text),
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::Object(values) => {
            for (name, value) in values {
                if is_secret(name) && !value.is_null() && !value.is_boolean() {
                    *value = Value::from(BLANK);
                } else {
                    blank(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    plain.ends_with("pass") || SECRET_NAMES.iter().any(|secret| plain.contains(secret))
}

fn blank_text(text: &mut String) {
    // JSON within a text, as templates and binary events have it.
    if text.trim_start().starts_with(['{', '['])
        && let Ok(mut value) = serde_json::from_str::<Value>(text)
    {
        blank(&mut value);
        *text = value.to_string();
        return;
    }
    for (pattern, blank) in PATTERNS.iter() {
        if pattern.is_match(text) {
            *text = pattern.replace_all(text, *blank).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_blanked_wherever_they_stand() {
        let body = json!({
            "host": "edge",
            "monitor": {"basic_auth_pass": "hunter2-a", "apiKey": "hunter2-b", "tokens": ["hunter2-c"]},
            "url": "https://bob:hunter2-d@example.net/x?access_token=hunter2-e&page=2",
            "headers": "Authorization: Bearer hunter2-f",
            "text": "login with password=hunter2-g, or secret: hunter2-h now",
            "message": "{\"Pass-Word\": {\"x\": \"hunter2-i\"}, \"y\": [\"{\\\"api_key\\\": 1234567}\"]}",
            "cut": "{\"password\": \"hunter2-j\", \"z\"",
            "acknowledged": true
        });
        let kept = redacted(body);
        assert!(
            !kept.contains("hunter2") && !kept.contains("1234567"),
            "{kept}"
        );
        for whole in [
            "edge",
            "example.net/x",
            "page=2",
            "login with",
            "acknowledged",
            "now",
        ] {
            assert!(kept.contains(whole), "{whole}: {kept}");
        }
        let parsed: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(parsed["host"], "edge");
    }

    #[test]
    fn a_huge_body_is_cut_and_nothing_active_is_kept() {
        let kept = redacted(json!({"text": "\u{1b}[31m\u{202e}".repeat(50_000)}));
        assert!(kept.len() <= BODY_BYTES_MAX);
        assert!(!kept.chars().any(|c| c.is_control() || c == '\u{202e}'));
        assert_eq!(PATTERNS.len(), 4);
    }
}
