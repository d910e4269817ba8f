//! `[[rule]]` of the configuration, and what is used when there is none.

use serde::{Deserialize, Serialize};

use crate::trigger::Grade;

/// One `[[rule]]`: what a log line must look like to ask for a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, shown with the incident.
    pub name: String,
    /// A regular expression (syntax of the `regex` crate, linear time) looked for anywhere in the
    /// line. A syslog message is matched without its `<PRI>`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What the incident is about: text over the named captures, `{host}` and `{source}`.
    /// Triggers of one subject join one incident.
    #[serde(default = "default_subject")]
    pub subject: String,
    /// A pcap-filter(7) template offered to the analyst, such as `host {peer} and port {port}`.
    /// Only captures that are IP addresses or numbers are put in. Without it, `host ADDRESS` is
    /// offered when `peer` or `host` is an IP address.
    #[serde(default)]
    pub filter: Option<String>,
    /// The weight of what it finds.
    #[serde(default)]
    pub grade: Grade,
    /// Only lines of these: `syslog`, `logfile`, a listen address or a path. Empty: all.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Only syslog messages of this severity or worse.
    #[serde(default)]
    pub severity: Option<Severity>,
}

fn default_subject() -> String {
    "{host}".to_owned()
}

impl RuleConfig {
    /// The rules of a configuration without any: syslog messages of severity `err` or worse, and
    /// lines of log files that contain ERROR, FATAL, CRITICAL or PANIC as a word.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self {
                name: "syslog-error".to_owned(),
                pattern: String::new(),
                subject: "{host}".to_owned(),
                filter: None,
                grade: Grade::Incident,
                sources: vec!["syslog".to_owned()],
                severity: Some(Severity::Err),
            },
            Self {
                name: "logfile-error".to_owned(),
                pattern: r"\b(?:ERROR|FATAL|CRITICAL|PANIC)\b".to_owned(),
                subject: "{source}".to_owned(),
                filter: None,
                grade: Grade::Incident,
                sources: vec!["logfile".to_owned()],
                severity: None,
            },
        ]
    }
}

/// A syslog severity (RFC 5424, section 6.2.1); the smaller, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// System is unusable.
    Emerg,
    /// Action must be taken immediately.
    Alert,
    /// Critical conditions.
    Crit,
    /// Error conditions.
    Err,
    /// Warning conditions.
    Warning,
    /// Normal but significant.
    Notice,
    /// Informational.
    Info,
    /// Debug-level.
    Debug,
}

impl Severity {
    /// The severity in a PRI value's lower three bits.
    pub fn of_pri(pri: u8) -> Self {
        match pri & 7 {
            0 => Self::Emerg,
            1 => Self::Alert,
            2 => Self::Crit,
            3 => Self::Err,
            4 => Self::Warning,
            5 => Self::Notice,
            6 => Self::Info,
            _ => Self::Debug,
        }
    }
}
