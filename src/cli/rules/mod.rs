//! `rule test FILE`: what lines would do, and why; `rule packs`. Needs no server.

mod reading;
mod replay;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;

use serde::Serialize;

use self::reading::{File, Reading};
use self::replay::{Outcome, Replay};
use crate::cli::args::Args;
use crate::cli::{Failure, show};
use crate::time::Timestamp;
use crate::trigger::maintenance::{MAINTENANCE_FIELD, Maintenance};
use crate::trigger::rules::{Rules, pack_names, pack_text};
use crate::trigger::text::inert;
use crate::trigger::{Grade, Resolution, Trigger};

/// The longest line looked at, in bytes; the rest of it is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What became of a line.
#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    line: u64,
    /// `fires`, `silent`, `held`, `passed` or `over`.
    verdict: &'a str,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a Trigger>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<&'a Resolution>,
}

impl<'a> Told<'a> {
    /// What a line that has this number, or the time before it, came to.
    fn of(line: u64, outcome: &'a Outcome) -> Self {
        let (verdict, trigger, why) = match outcome {
            Outcome::Passed(_, why) => ("passed", None, Some(why.into())),
            Outcome::Held(_, why) => ("held", None, Some(why.into())),
            Outcome::Silenced(trigger, window) => {
                let why = format!("maintenance {window:?}");
                ("silent", Some(&**trigger), Some(why.into()))
            }
            Outcome::Fires(trigger) => {
                let window = trigger.fields.get(MAINTENANCE_FIELD);
                let why = window.map(|window| format!("maintenance {window:?}").into());
                ("fires", Some(&**trigger), why)
            }
            Outcome::Over(_) => ("over", None, None),
        };
        Self {
            line,
            verdict,
            rule: rule_of(outcome),
            why,
            trigger,
            resolution: match outcome {
                Outcome::Over(resolution) => Some(resolution),
                _ => None,
            },
        }
    }

    fn show(&self, args: &Args) -> Result<(), Failure> {
        if args.json {
            let text = serde_json::to_string(self).map_err(Failure::failed)?;
            return show::line(&text);
        }
        show::line(&format!(
            "{:>6}  {:<6}  {}: {}",
            self.line,
            self.verdict,
            self.rule,
            self.words()
        ))
    }

    fn words(&self) -> String {
        let why = self.why.as_deref();
        if let Some(trigger) = self.trigger {
            let sign = match trigger.grade {
                Grade::Precursor => ", an early sign",
                Grade::Incident => "",
            };
            let why = why.map(|why| format!(", {why}")).unwrap_or_default();
            // Of a line both are its own time: this is one that did not come.
            let missed = match trigger.received {
                at if at == trigger.at => String::new(),
                at => format!(", missed at {}", at.to_rfc3339_seconds()),
            };
            return format!("subject {:?}{missed}{sign}{why}", trigger.subject);
        }
        match self.resolution {
            Some(over) => {
                let at = over.at.to_rfc3339_seconds();
                format!("subject {:?}, back at {at}", over.subject)
            }
            None => why.unwrap_or_default().to_owned(),
        }
    }
}

fn rule_of(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Passed(rule, _) | Outcome::Held(rule, _) => rule,
        Outcome::Silenced(trigger, _) | Outcome::Fires(trigger) => {
            trigger.rule.as_deref().unwrap_or_default()
        }
        // Its source is the rule that waited.
        Outcome::Over(over) => &over.source,
    }
}

/// How many lines, and what came of them.
#[derive(Debug, Default)]
struct Totals {
    lines: u64,
    fired: u64,
    held: u64,
    silenced: u64,
    rules: BTreeSet<String>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Held(..) => self.held += 1,
            Outcome::Fires(_) => self.fired += 1,
            Outcome::Silenced(..) => self.silenced += 1,
            Outcome::Passed(..) | Outcome::Over(_) => {}
        }
        let rule = rule_of(outcome);
        if !self.rules.contains(rule) {
            self.rules.insert(rule.to_owned());
        }
    }

    fn show<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
        let silenced = match self.silenced {
            0 => String::new(),
            silenced => format!(", {silenced} silenced"),
        };
        let Self {
            lines, fired, held, ..
        } = self;
        show::line(&format!(
            "{lines} lines: {fired} would fire, {held} held back{silenced}"
        ))?;
        let never: Vec<&str> = known.filter(|name| !self.rules.contains(*name)).collect();
        if never.is_empty() {
            return Ok(());
        }
        let never = inert(never.join(", ").as_bytes());
        show::line(&format!("never matched: {never}"))
    }
}

/// `rule packs`, `rule packs NAME`
pub fn packs(args: &Args, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        if args.json {
            return show::json(&pack_names());
        }
        return pack_names().into_iter().try_for_each(|name| {
            // Each begins with a comment that says what it is for.
            let first = pack_text(name).and_then(|text| text.lines().next());
            let about = first.unwrap_or_default().trim_start_matches(['#', ' ']);
            show::line(&format!("{name:<16}{about}"))
        });
    };
    let text = pack_text(name).ok_or_else(|| {
        let known = pack_names().join(", ");
        Failure::usage(format!("there is no pack {name:?}; there are {known}"))
    })?;
    show::line(text.trim_end())
}

/// The rules of a file, or of the pack of that name where there is no such file.
fn read(file: &Path) -> Result<Cow<'static, str>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pack = file.to_str().and_then(pack_text);
            pack.map(Cow::from).ok_or_else(|| {
                let known = pack_names().join(", ");
                let file = file.display();
                Failure::usage(format!("{file}: {error}; nor is it a pack: {known}"))
            })
        }
        Err(error) => Err(Failure::usage(format!("{}: {error}", file.display()))),
    }
}

/// `rule test FILE`
pub fn test(args: &Args, file: &Path, source: &str) -> Result<(), Failure> {
    let text = read(file)?;
    let at = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
    let content: File = toml::from_str(&text).map_err(|error| at(&error))?;
    let reading = Reading::of(&content, source).map_err(|error| at(&error))?;
    let maintenance = Maintenance::new(&content.maintenance).map_err(|error| at(&error))?;
    let mut configs = content.rule;
    configs.extend(content.rules.rules().map_err(|error| at(&error))?);
    let rules = Rules::new(&configs).map_err(|error| at(&error))?;
    let rules = rules.matching(content.rules.matching);
    let mut replay = Replay::new(&rules, &maintenance, reading, source);
    let mut totals = Totals::default();
    let mut input = io::stdin().lock();
    let mut buffer = Vec::new();
    while read_line(&mut input, &mut buffer).map_err(Failure::failed)? {
        totals.lines += 1;
        for outcome in replay.line(&buffer, Timestamp::now()) {
            totals.add(&outcome);
            Told::of(totals.lines, &outcome).show(args)?;
        }
    }
    if args.json {
        return Ok(());
    }
    totals.show(configs.iter().map(|config| config.name.as_str()))
}

/// Reads a line without its end into `buffer`; `false` at the end of input.
fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    if input.read_until(b'\n', buffer)? == 0 {
        return Ok(false);
    }
    while buffer.last().is_some_and(|last| b"\r\n".contains(last)) {
        buffer.pop();
    }
    buffer.truncate(LINE_BYTES_MAX);
    Ok(true)
}
