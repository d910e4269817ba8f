//! One entry of `journalctl --output=json` (`systemd.journal-fields(7)`).

use serde_json::{Map, Value};

use crate::time::Timestamp;
use crate::trigger::rules::{Facility, Severity};

/// An entry, as far as triggers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `sshd[123]: message`, as syslog would have it.
    pub(super) line: Vec<u8>,
    pub(super) severity: Option<Severity>,
    pub(super) facility: Option<Facility>,
    pub(super) host: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) at: Option<Timestamp>,
    /// Where in the journal it stands.
    pub(super) cursor: Option<String>,
}

impl Entry {
    /// Reads a line; `None` when it is no entry.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_str(json).ok()?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let number = |name: &str| text(name).and_then(|text| text.parse::<u8>().ok());
        let mut line = match text("SYSLOG_IDENTIFIER") {
            None => Vec::new(),
            Some(who) => match text("_PID").or_else(|| text("SYSLOG_PID")) {
                Some(pid) => format!("{who}[{pid}]: ").into_bytes(),
                None => format!("{who}: ").into_bytes(),
            },
        };
        line.extend(message(fields.get("MESSAGE")));
        let us = text("__REALTIME_TIMESTAMP").and_then(|text| text.parse::<u64>().ok());
        Some(Self {
            line,
            severity: number("PRIORITY").map(Severity::of_pri),
            facility: number("SYSLOG_FACILITY")
                .filter(|number| *number < 24)
                .map(|number| Facility::of_pri(number << 3)),
            host: text("_HOSTNAME").map(str::to_owned),
            unit: text("_SYSTEMD_UNIT").map(str::to_owned),
            at: us
                .and_then(|us| us.checked_mul(1000))
                .map(Timestamp::from_ns),
            cursor: text("__CURSOR").map(str::to_owned),
        })
    }
}

/// The message: a text, the bytes of one that is not UTF-8, or of several the first.
fn message(value: Option<&Value>) -> Vec<u8> {
    match value {
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(Value::Array(values)) => match values.first() {
            Some(Value::Number(_)) => values
                .iter()
                .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
                .collect(),
            first => message(first),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_as_journalctl_writes_them() {
        let entry = Entry::parse(
            r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795428131250000","PRIORITY":"3","SYSLOG_FACILITY":"3",
                "SYSLOG_IDENTIFIER":"nginx","_PID":"77","_HOSTNAME":"web1","_SYSTEMD_UNIT":"nginx.service","MESSAGE":"upstream timed out"}"#,
        )
        .unwrap();
        assert_eq!(entry.line, b"nginx[77]: upstream timed out");
        assert_eq!(entry.severity, Some(Severity::Err));
        assert_eq!(entry.facility, Some(Facility::of_pri(3 << 3)));
        assert_eq!(entry.unit.as_deref(), Some("nginx.service"));
        assert_eq!(
            entry.at.map(Timestamp::as_ns),
            Some(1_795_428_131_250_000_000)
        );
        let bytes = Entry::parse(r#"{"MESSAGE":[104,105,255]}"#).unwrap();
        assert_eq!(bytes.line, b"hi\xff");
        let twice = Entry::parse(r#"{"MESSAGE":["a","b"]}"#).unwrap();
        assert_eq!(twice.line, b"a");
        assert_eq!(Entry::parse(r#"{"MESSAGE":null}"#).unwrap().line, b"");
        assert_eq!(Entry::parse("-- cursor: x"), None);
    }

    proptest! {
        #[test]
        fn no_line_panics(text in ".{0,200}") {
            let _any = Entry::parse(&text);
            let _any = Entry::parse(&format!("{{\"MESSAGE\":{text}}}"));
        }
    }
}
