//! `[[rule]]` of the configuration, and what is used when there is none.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trigger::Grade;
use crate::trigger::several::Several;

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
    /// Only syslog messages of these facilities: `kern`, `daemon`, `local0`, ...
    #[serde(default)]
    pub facility: Vec<Facility>,
    /// Only lines of this host; `*` and `?` stand for any characters and one.
    #[serde(default)]
    pub host: Option<String>,
    /// Not lines in which this regular expression is found: the next rule has its turn.
    #[serde(default)]
    pub unless: Option<String>,
    /// Only when so many lines came within a span: `"3 in 10s"`.
    #[serde(default)]
    pub at_least: Option<AtLeast>,
    /// What lines are counted by for `at_least`, or each waited for with `absence`: captures, `host`,
    /// `source`. Empty: the subject, or any line.
    #[serde(default)]
    pub group_by: Several<String>,
    /// The other way round: it asks for a freeze when no line has matched for this long.
    #[serde(default, with = "optional_span")]
    pub absence: Option<Duration>,
    /// Only at these hours of the week, by the line's own time: `"mon-fri 08:00-18:00"`.
    #[serde(default)]
    pub during: Several<String>,
    /// Not at these hours of the week.
    #[serde(default)]
    pub not_during: Several<String>,
    /// The IANA zone of these hours; this machine's without.
    #[serde(default)]
    pub zone: Option<String>,
}

mod optional_span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Span(#[serde(with = "crate::time::span")] Duration);

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        span.map(Span).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let span = Option::<Span>::deserialize(deserializer)?;
        Ok(span.map(|Span(span)| span))
    }
}

/// Which of several rules that match a line decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// The first in the file.
    #[default]
    First,
    /// Every one for itself.
    All,
}

/// So many within a span; written `"3 in 10s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AtLeast {
    /// How many lines, 2 to 1000.
    pub count: usize,
    /// Within this.
    pub within: Duration,
}

impl TryFrom<String> for AtLeast {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a number in a span such as \"3 in 10s\"");
        let (count, within) = text.split_once(" in ").ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let within = humantime::parse_duration(within.trim().trim_matches('"'));
        let within = within.map_err(|_| wrong())?;
        if !(2..=1000).contains(&count) || within.is_zero() {
            return Err(format!("{text:?}: use 2 to 1000 lines and a span above 0"));
        }
        Ok(Self { count, within })
    }
}

impl From<AtLeast> for String {
    fn from(at_least: AtLeast) -> Self {
        at_least.to_string()
    }
}

impl fmt::Display for AtLeast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = humantime::format_duration(self.within);
        write!(f, "{} in {within}", self.count)
    }
}

/// A syslog facility (RFC 5424, section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Facility(u8);

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Facility {
    /// The facility in a PRI value's upper bits.
    pub fn of_pri(pri: u8) -> Self {
        Self(pri >> 3)
    }
}

impl TryFrom<String> for Facility {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let place = FACILITIES.iter().position(|name| *name == text);
        let number = place.and_then(|place| u8::try_from(place).ok());
        number.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no facility; there are {}",
                FACILITIES.join(", ")
            )
        })
    }
}

impl From<Facility> for String {
    fn from(facility: Facility) -> Self {
        let name = FACILITIES.get(usize::from(facility.0));
        name.map_or_else(|| facility.0.to_string(), |name| (*name).to_owned())
    }
}

fn default_subject() -> String {
    "{host}".to_owned()
}

impl RuleConfig {
    /// A rule with nothing but a name and what to look for.
    pub fn new(name: &str, pattern: &str) -> Self {
        Self {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            subject: default_subject(),
            filter: None,
            grade: Grade::Incident,
            sources: Vec::new(),
            severity: None,
            facility: Vec::new(),
            host: None,
            unless: None,
            at_least: None,
            group_by: Several::default(),
            absence: None,
            during: Several::default(),
            not_during: Several::default(),
            zone: None,
        }
    }

    /// The rules of a configuration without any: syslog messages of severity `err` or worse, and
    /// lines of log files that contain ERROR, FATAL, CRITICAL or PANIC as a word.
    pub fn defaults() -> Vec<Self> {
        let syslog = Self {
            sources: vec!["syslog".to_owned(), "journal".to_owned()],
            severity: Some(Severity::Err),
            ..Self::new("syslog-error", "")
        };
        let logfile = Self {
            subject: "{source}".to_owned(),
            sources: vec!["logfile".to_owned()],
            ..Self::new("logfile-error", r"\b(?:ERROR|FATAL|CRITICAL|PANIC)\b")
        };
        vec![syslog, logfile]
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
