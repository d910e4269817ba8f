//! Rules: which log lines ask for a freeze, under which subject.

mod config;
mod template;

use std::collections::BTreeMap;

use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};

pub use config::{RuleConfig, Severity};
pub use template::{Template, TemplateError};

use super::text::{FIELD_BYTES_MAX, address_of, inert};
use super::{Grade, Kind, Trigger, cut};
use crate::time::Timestamp;

/// The largest compiled pattern, in bytes; the regex crate's own default is meant for trusted
/// one-off patterns.
const PATTERN_BYTES_MAX: usize = 4 << 20;
/// The largest compiled set of all patterns, in bytes.
const SET_BYTES_MAX: usize = 32 << 20;
/// Names every template may use beside the captures of its rule.
const COMMON: [&str; 2] = ["host", "source"];

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
    #[error("[[rule]] {name}: match is not a regular expression: {source}")]
    Pattern {
        /// The rule.
        name: String,
        /// What the regex crate says, with the place.
        #[source]
        source: regex::Error,
    },
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
    /// The bytes matched against, without line end and `<PRI>`.
    pub bytes: &'a [u8],
    /// Who wrote it: the syslog host name, the sender's address or this machine.
    pub host: &'a str,
    /// The syslog severity, if it has one.
    pub severity: Option<Severity>,
}

/// The rules in the order of the file; the first that matches decides.
#[derive(Debug)]
pub struct Rules {
    set: RegexSet,
    rules: Vec<Rule>,
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
        Ok(Self { set, rules })
    }

    /// The trigger a line gives, or `None` when no rule matches. `at` and `received` are the
    /// line's event time and arrival.
    pub fn apply(&self, line: &Line<'_>, at: Timestamp, received: Timestamp) -> Option<Trigger> {
        let matches = self.set.matches(line.bytes);
        let rule = matches
            .iter()
            .filter_map(|index| self.rules.get(index))
            .find(|rule| rule.covers(line))?;
        rule.trigger(line, at, received)
    }
}

impl Rule {
    fn new(config: &RuleConfig) -> Result<Self, RuleError> {
        let regex = RegexBuilder::new(&config.pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|source| RuleError::Pattern {
                name: config.name.clone(),
                source,
            })?;
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
        })
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
        source && severity
    }

    fn trigger(&self, line: &Line<'_>, at: Timestamp, received: Timestamp) -> Option<Trigger> {
        let captures = self.regex.captures(line.bytes)?;
        let mut fields = self.fields(&captures);
        fields
            .entry("host".to_owned())
            .or_insert_with(|| cut(&inert(line.host.as_bytes()), FIELD_BYTES_MAX).to_owned());
        let subject = self.subject.expand(|name| {
            Some(match name {
                "source" if !fields.contains_key("source") => line.source.to_owned(),
                name => fields.get(name).cloned().unwrap_or_default(),
            })
        })?;
        let subject = match subject.trim() {
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
        trigger.suggested_filter = self.suggest(&fields, &captures);
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
        captures: &Captures<'_>,
    ) -> Option<String> {
        if let Some(template) = &self.filter {
            return template.expand(|name| harmless(fields.get(name)?));
        }
        ["peer", "host"]
            .into_iter()
            .filter(|name| captures.name(name).is_some())
            .find_map(|name| address_of(fields.get(name)?))
            .map(|address| format!("host {address}"))
    }
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
