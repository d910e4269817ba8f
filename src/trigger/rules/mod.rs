//! Rules: which log lines ask for a freeze, under which subject.

mod absence;
mod config;
mod memory;
mod packs;
mod template;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};

pub use config::{AtLeast, Facility, Matching, RuleConfig, Severity};
pub use packs::{RulesConfig, pack_names, pack_text};
pub use template::{Template, TemplateError};

use super::schedule::Hours;
use super::syslog::Zone;
use super::text::{FIELD_BYTES_MAX, address_of, inert, wildcard};
use super::{Grade, Kind, Resolution, Trigger, cut};
use crate::time::Timestamp;
use absence::{Beat, News, Watch};
use memory::Counts;

/// The largest compiled pattern, in bytes; the regex crate's own default is meant for trusted
/// one-off patterns.
const PATTERN_BYTES_MAX: usize = 4 << 20;
/// The largest compiled set of all patterns, in bytes.
const SET_BYTES_MAX: usize = 32 << 20;
/// Names every template may use beside the captures of its rule.
const COMMON: [&str; 2] = ["host", "source"];

/// Between the values of a group: no text that was made inert has it.
const BETWEEN: &str = "\u{1f}";

/// Why a rule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Two rules of one name.
    #[error("[[rule]] name = {0:?} is given twice; a rule's name must be its own")]
    Duplicate(String),
    /// A rule without a name.
    #[error("[[rule]] number {0}: name is empty")]
    Unnamed(usize),
    /// The regular expression does not compile; the text shows where.
    #[error("[[rule]] {name}: {key} is not a regular expression: {source}")]
    Pattern {
        /// The rule.
        name: String,
        /// `match`, `unless` or `host`.
        key: &'static str,
        /// What the regex crate says, with the place.
        #[source]
        source: regex::Error,
    },
    /// A pack that does not exist.
    #[error("[rules] packs: {0:?} is none; there are {1}")]
    NoSuchPack(String, String),
    /// Two keys that do not go together, or a name that nothing has.
    #[error("[[rule]] {0}: {1}: {2}")]
    Value(String, &'static str, String),
    /// A template is wrong.
    #[error("[[rule]] {name}: {key}: {source}")]
    Template {
        /// The rule.
        name: String,
        /// `subject` or `filter`.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: TemplateError,
    },
    /// All patterns together are too large.
    #[error("[[rule]]: the patterns of all rules together are too large: {0}")]
    Set(#[source] regex::Error),
}

/// A line that a source offers to the rules.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// What kind of source it came from.
    pub kind: Kind,
    /// The source's name: a listen address or a path.
    pub source: &'a str,
    /// The file, when the source's path names several.
    pub file: Option<&'a str>,
    /// The bytes matched against, without line end and `<PRI>`.
    pub bytes: &'a [u8],
    /// Who wrote it: the syslog host name, the sender's address or this machine.
    pub host: &'a str,
    /// The syslog severity, if it has one.
    pub severity: Option<Severity>,
    /// The syslog facility, if it has one.
    pub facility: Option<Facility>,
}

/// What a rule says of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This rule matches, and waits for more; the text says for what.
    Held(String, String),
    /// It asks for a freeze.
    Fires(Box<Trigger>),
}

/// A rule that matched and did not decide, and why.
pub type Passed = (String, String);

/// What became of a line that should keep coming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// It is missing.
    Begun(Box<Trigger>),
    /// It is there again.
    Over(Box<Resolution>),
}

/// The rules in the order of the file; the first that matches decides, or each for itself (see
/// [`Rules::judge`]).
#[derive(Debug)]
pub struct Rules {
    matching: Matching,
    set: RegexSet,
    all: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    regex: Regex,
    subject: Template,
    filter: Option<Template>,
    grade: Grade,
    sources: Vec<String>,
    severity: Option<Severity>,
    facility: Vec<Facility>,
    host: Option<Regex>,
    unless: Option<Regex>,
    at_least: Option<AtLeast>,
    group_by: Vec<String>,
    counts: Mutex<Counts>,
    absence: Option<Mutex<Watch>>,
    hours: Hours,
}

impl Rules {
    /// Compiles the rules of the configuration; without any, [`RuleConfig::defaults`].
    pub fn new(configs: &[RuleConfig]) -> Result<Self, RuleError> {
        let defaults;
        let configs = if configs.is_empty() {
            defaults = RuleConfig::defaults();
            &defaults
        } else {
            configs
        };
        let mut rules: Vec<Rule> = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            if config.name.trim().is_empty() {
                return Err(RuleError::Unnamed(index + 1));
            }
            if rules.iter().any(|rule| rule.name == config.name) {
                return Err(RuleError::Duplicate(config.name.clone()));
            }
            rules.push(Rule::new(config)?);
        }
        let set = RegexSetBuilder::new(configs.iter().map(|config| &config.pattern))
            .size_limit(SET_BYTES_MAX)
            .build()
            .map_err(RuleError::Set)?;
        Ok(Self {
            matching: Matching::First,
            set,
            all: rules,
        })
    }

    /// The same rules, of which these decide.
    #[must_use]
    pub fn matching(self, matching: Matching) -> Self {
        Self { matching, ..self }
    }

    /// Whether any rule's pattern is found in a line: what costs most, and first.
    pub fn concern(&self, bytes: &[u8]) -> bool {
        self.set.is_match(bytes)
    }

    /// The triggers a line gives: none when no rule fires, and one at most where the first rule
    /// that matches decides. `at` and `received` are the line's event time and arrival.
    pub fn apply(&self, line: &Line<'_>, at: Timestamp, received: Timestamp) -> Vec<Trigger> {
        let verdicts = self.judge(line, at, received).0.into_iter();
        let fired = verdicts.filter_map(|verdict| match verdict {
            Verdict::Fires(trigger) => Some(*trigger),
            Verdict::Held(..) => None,
        });
        fired.collect()
    }

    /// What the rules say of a line: the first that matches decides, and may hold back; or each
    /// that matches. Rules that `unless` or their hours keep from matching, and those that wait for
    /// a line to be absent, decide nothing; they are listed beside.
    pub fn judge(
        &self,
        line: &Line<'_>,
        at: Timestamp,
        received: Timestamp,
    ) -> (Vec<Verdict>, Vec<Passed>) {
        let (mut verdicts, mut passed) = (Vec::new(), Vec::new());
        for index in &self.set.matches(line.bytes) {
            let Some(rule) = self.all.get(index).filter(|rule| rule.covers(line)) else {
                continue;
            };
            let pass = |why: &str| (rule.name.clone(), why.to_owned());
            if rule
                .unless
                .as_ref()
                .is_some_and(|unless| unless.is_match(line.bytes))
            {
                passed.push(pass("unless matches too"));
            } else if let Some(watch) = &rule.absence {
                let group = rule.group_of_line(line, at, received);
                locked(watch).beat(group, line.kind, received);
                passed.push(pass("it was waited for"));
            } else if let Some(why) = rule.hours.refuse(at) {
                passed.push(pass(&why));
            } else if let Some(trigger) = rule.trigger(line, at, received) {
                verdicts.push(rule.count(trigger));
                if self.matching == Matching::First {
                    break;
                }
            }
        }
        (verdicts, passed)
    }

    /// Whether any rule waits for lines to be absent.
    pub fn watch_for_absence(&self) -> bool {
        self.all.iter().any(|rule| rule.absence.is_some())
    }

    /// Waits for lines from this moment on, instead of from when the rules were made.
    pub fn wait_from(&self, at: Timestamp) {
        for watch in self.all.iter().filter_map(|rule| rule.absence.as_ref()) {
            let mut watch = locked(watch);
            *watch = Watch::new(watch.span(), at);
        }
    }

    /// What is news of lines that should keep coming, to be asked every second or so.
    pub fn absences(&self, now: Timestamp) -> Vec<Absence> {
        self.all.iter().flat_map(|rule| rule.look(now)).collect()
    }
}

/// A group as people read it.
fn shown(group: &str) -> String {
    group.replace(BETWEEN, " ")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rule {
    fn new(config: &RuleConfig) -> Result<Self, RuleError> {
        let regex = regex_of(config, "match", &config.pattern)?;
        let mut known: Vec<String> = regex.capture_names().flatten().map(str::to_owned).collect();
        known.extend(COMMON.map(str::to_owned));
        let template = |key, text: &str| {
            Template::parse(text, &known).map_err(|source| RuleError::Template {
                name: config.name.clone(),
                key,
                source,
            })
        };
        let subject = template("subject", &config.subject)?;
        let filter = config
            .filter
            .as_deref()
            .map(|text| template("filter", text))
            .transpose()?;
        Ok(Self {
            name: config.name.clone(),
            regex,
            subject,
            filter,
            grade: config.grade,
            sources: config.sources.clone(),
            severity: config.severity,
            facility: config.facility.clone(),
            host: config
                .host
                .as_deref()
                .map(|text| host(config, text))
                .transpose()?,
            unless: config
                .unless
                .as_deref()
                .map(|text| regex_of(config, "unless", text))
                .transpose()?,
            at_least: config.at_least,
            group_by: group_by(config, &known)?,
            counts: Mutex::default(),
            absence: config
                .absence
                .map(|span| Mutex::new(Watch::new(span, Timestamp::now()))),
            hours: hours(config)?,
        })
    }

    /// Lets a trigger through when there are enough of its group.
    fn count(&self, trigger: Trigger) -> Verdict {
        let Some(wanted) = self.at_least else {
            return Verdict::Fires(Box::new(trigger));
        };
        let group = self.group(&trigger);
        let group = group.unwrap_or_else(|| trigger.subject.clone());
        match locked(&self.counts).add(&group, trigger.at, wanted) {
            Ok(()) => {
                let mut trigger = trigger;
                trigger
                    .fields
                    .insert("at_least".to_owned(), wanted.to_string());
                Verdict::Fires(Box::new(trigger))
            }
            Err(count) => {
                let why = format!("{count} of {wanted} for {:?}", shown(&group));
                Verdict::Held(self.name.clone(), why)
            }
        }
    }

    /// The values of what lines are grouped by; `None` of a rule that groups by nothing.
    fn group(&self, trigger: &Trigger) -> Option<String> {
        let of = |name: &String| match name.as_str() {
            "source" => trigger.source.as_str(),
            name => trigger.fields.get(name).map_or("", String::as_str),
        };
        let parts: Vec<&str> = self.group_by.iter().map(of).collect();
        (!parts.is_empty()).then(|| parts.join(BETWEEN))
    }

    fn group_of_line(&self, line: &Line<'_>, at: Timestamp, received: Timestamp) -> Option<String> {
        if self.group_by.is_empty() {
            return None;
        }
        self.group(&self.trigger(line, at, received)?)
    }

    /// What is news of the lines this rule waits for.
    fn look(&self, now: Timestamp) -> Vec<Absence> {
        let Some(watch) = &self.absence else {
            return Vec::new();
        };
        let mut watch = locked(watch);
        let news = if self.hours.refuse(now).is_some() {
            watch.rest(now)
        } else {
            watch.look(now)
        };
        let (span, kind) = (watch.span(), watch.kind());
        drop(watch);
        let kind = kind.unwrap_or_else(|| self.likely_kind());
        news.iter()
            .map(|news| self.absence(news, span, kind, now))
            .collect()
    }

    /// Where lines come from of which none came yet.
    fn likely_kind(&self) -> Kind {
        let is_file = |source: &String| source == "logfile" || source.starts_with('/');
        if !self.sources.is_empty() && self.sources.iter().all(is_file) {
            Kind::Logfile
        } else {
            Kind::Syslog
        }
    }

    fn absence(&self, news: &News, span: Duration, kind: Kind, now: Timestamp) -> Absence {
        let who = match &news.group {
            Some(group) => format!("{} of {}", self.name, shown(group)),
            None => self.name.clone(),
        };
        let subject = format!("{who} is missing");
        match news.beat {
            Beat::Missing(last) => {
                let span = humantime::format_duration(span);
                let text = format!("no line of {who} for {span}; the last came {last}");
                let mut trigger = Trigger::new(kind, &self.name, &subject, &text, last, now);
                trigger.rule = Some(self.name.clone());
                trigger.grade = self.grade;
                trigger.fields = self.fields_of_group(news.group.as_deref());
                let is_captured =
                    |name: &str| self.regex.capture_names().flatten().any(|n| n == name);
                trigger.suggested_filter = self.suggest(&trigger.fields, is_captured);
                Absence::Begun(Box::new(trigger))
            }
            Beat::Back | Beat::Excused => {
                let text = match news.beat {
                    Beat::Back => format!("lines of {who} come again"),
                    _ => format!("lines of {who} are not waited for at this hour"),
                };
                let over = Resolution::new(kind, &self.name, &subject, &text, now, now);
                Absence::Over(Box::new(over))
            }
        }
    }

    fn fields_of_group(&self, group: Option<&str>) -> BTreeMap<String, String> {
        let parts = group.into_iter().flat_map(|group| group.split(BETWEEN));
        let names = self.group_by.iter().cloned();
        names.zip(parts.map(str::to_owned)).collect()
    }

    /// Whether the rule is meant for this line's source and severity.
    fn covers(&self, line: &Line<'_>) -> bool {
        let source = self.sources.is_empty()
            || self
                .sources
                .iter()
                .any(|wanted| wanted == line.source || *wanted == line.kind.to_string());
        let severity = self
            .severity
            .is_none_or(|worst| line.severity.is_some_and(|severity| severity <= worst));
        let facility = self.facility.is_empty()
            || line
                .facility
                .is_some_and(|facility| self.facility.contains(&facility));
        let host = self
            .host
            .as_ref()
            .is_none_or(|host| host.is_match(line.host.as_bytes()));
        source && severity && facility && host
    }

    fn trigger(&self, line: &Line<'_>, at: Timestamp, received: Timestamp) -> Option<Trigger> {
        let captures = self.regex.captures(line.bytes)?;
        let mut fields = self.fields(&captures);
        fields
            .entry("host".to_owned())
            .or_insert_with(|| cut(&inert(line.host.as_bytes()), FIELD_BYTES_MAX).to_owned());
        let subject = self.subject.expand(|name| {
            Some(match name {
                "source" if !fields.contains_key("source") => {
                    line.file.unwrap_or(line.source).to_owned()
                }
                name => fields.get(name).cloned().unwrap_or_default(),
            })
        })?;
        // A file's name may be part of it, and that is anybody's.
        let subject = inert(subject.trim().as_bytes());
        let subject = match subject.as_str() {
            // A capture that took no part in the match must not throw all such lines together
            // under an empty subject.
            "" => &self.name,
            subject => subject,
        };
        let mut trigger = Trigger::new(
            line.kind,
            line.source,
            subject,
            &inert(line.bytes),
            at,
            received,
        );
        trigger.suggested_filter = self.suggest(&fields, |name| captures.name(name).is_some());
        trigger.rule = Some(self.name.clone());
        trigger.grade = self.grade;
        trigger.fields = fields;
        Some(trigger)
    }

    /// The named captures as fields.
    fn fields(&self, captures: &Captures<'_>) -> BTreeMap<String, String> {
        self.regex
            .capture_names()
            .flatten()
            .filter_map(|name| {
                let text = inert(captures.name(name)?.as_bytes());
                Some((name.to_owned(), cut(&text, FIELD_BYTES_MAX).to_owned()))
            })
            .collect()
    }

    /// A filter made of nothing but the configuration's own words, addresses and numbers: a log
    /// line's author must not write into the analyst's filter.
    fn suggest(
        &self,
        fields: &BTreeMap<String, String>,
        is_captured: impl Fn(&str) -> bool,
    ) -> Option<String> {
        if let Some(template) = &self.filter {
            return template.expand(|name| harmless(fields.get(name)?));
        }
        ["peer", "host"]
            .into_iter()
            .filter(|name| is_captured(name))
            .find_map(|name| address_of(fields.get(name)?))
            .map(|address| format!("host {address}"))
    }
}

fn regex_of(config: &RuleConfig, key: &'static str, text: &str) -> Result<Regex, RuleError> {
    let built = RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    built.map_err(|source| RuleError::Pattern {
        name: config.name.clone(),
        key,
        source,
    })
}

/// A pattern of a host, in which `*` and `?` stand for any characters and one.
fn host(config: &RuleConfig, text: &str) -> Result<Regex, RuleError> {
    regex_of(config, "host", &wildcard(text))
}

/// When the rule counts.
fn hours(config: &RuleConfig) -> Result<Hours, RuleError> {
    let bad = |(key, why)| RuleError::Value(config.name.clone(), key, why);
    let zone = Zone::configured(config.zone.as_deref()).map_err(|name| {
        let why = format!("{name:?} is no IANA zone; write Asia/Tokyo or UTC");
        bad(("zone", why))
    })?;
    Hours::new(&config.during, &config.not_during, zone).map_err(bad)
}

/// The names that lines are counted by, all known; and keys that go together.
fn group_by(config: &RuleConfig, known: &[String]) -> Result<Vec<String>, RuleError> {
    let bad = |key, why: String| RuleError::Value(config.name.clone(), key, why);
    let names = config.group_by.as_slice();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let why = format!(
            "{unknown:?} is no capture of the rule; there are {}",
            known.join(", ")
        );
        return Err(bad("group_by", why));
    }
    if !names.is_empty() && config.at_least.is_none() && config.absence.is_none() {
        let why = "there is no at_least to count for, and no absence to wait for";
        return Err(bad("group_by", why.to_owned()));
    }
    if config.absence.is_some() && config.at_least.is_some() {
        return Err(bad("absence", "it goes without at_least".to_owned()));
    }
    if config
        .absence
        .is_some_and(|span| span < Duration::from_secs(1))
    {
        return Err(bad("absence", "at least 1s".to_owned()));
    }
    Ok(names.to_vec())
}

/// The value as an address or a number; `None` for anything else.
fn harmless(value: &str) -> Option<String> {
    match value.parse::<u32>() {
        Ok(number) => Some(number.to_string()),
        Err(_) => address_of(value).map(|address| address.to_string()),
    }
}

#[cfg(test)]
mod tests;
