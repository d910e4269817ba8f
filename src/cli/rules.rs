//! `rule test FILE`: what lines would do, and why; `rule packs`. Needs no server.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::args::Args;
use crate::cli::{Failure, show};
use crate::time::Timestamp;
use crate::trigger::rules::{Line, RuleConfig, Rules, RulesConfig, Verdict, pack_names, pack_text};
use crate::trigger::syslog::Message;
use crate::trigger::text::inert;
use crate::trigger::{Kind, Trigger};

/// The longest line looked at, in bytes; the rest of it is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Of a configuration, what concerns rules; the rest may be anything.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    rule: Vec<RuleConfig>,
    #[serde(default)]
    rules: RulesConfig,
}

/// What became of a line.
#[derive(Serialize)]
struct Told<'a> {
    line: u64,
    /// `fires`, `held` or `passed`.
    verdict: &'a str,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a Trigger>,
}

impl Told<'_> {
    fn show(&self, args: &Args) -> Result<(), Failure> {
        if args.json {
            let text = serde_json::to_string(self).map_err(Failure::failed)?;
            return show::line(&text);
        }
        let more = match (self.trigger, self.why) {
            (Some(trigger), _) => format!("subject {:?}", trigger.subject),
            (None, why) => why.unwrap_or_default().to_owned(),
        };
        show::line(&format!(
            "{:>6}  {:<6}  {}: {more}",
            self.line, self.verdict, self.rule
        ))
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
    let mut configs = content.rule;
    configs.extend(content.rules.rules().map_err(|error| at(&error))?);
    let rules = Rules::new(&configs).map_err(|error| at(&error))?;
    let rules = rules.matching(content.rules.matching);
    let is_file = source == "logfile" || source.starts_with('/');
    let kind = if is_file { Kind::Logfile } else { Kind::Syslog };
    let (mut lines, mut fired, mut held) = (0, 0, 0);
    let mut seen = BTreeSet::new();
    let mut input = io::stdin().lock();
    let mut buffer = Vec::new();
    while read_line(&mut input, &mut buffer).map_err(Failure::failed)? {
        lines += 1;
        let now = Timestamp::now();
        let message = Message::parse(&buffer, now);
        let offered = Line {
            kind,
            source,
            file: None,
            bytes: message.line,
            host: message.host.as_deref().unwrap_or("localhost"),
            severity: message.severity,
            facility: message.facility,
        };
        let (verdicts, passed) = rules.judge(&offered, message.at.unwrap_or(now), now);
        for (rule, why) in &passed {
            seen.insert(rule.clone());
            told(lines, "passed", rule, Some(why), None).show(args)?;
        }
        for verdict in &verdicts {
            match verdict {
                Verdict::Held(rule, why) => {
                    held += 1;
                    seen.insert(rule.clone());
                    told(lines, "held", rule, Some(why), None).show(args)?;
                }
                Verdict::Fires(trigger) => {
                    fired += 1;
                    let rule = trigger.rule.as_deref().unwrap_or_default();
                    seen.insert(rule.to_owned());
                    told(lines, "fires", rule, None, Some(trigger)).show(args)?;
                }
            }
        }
    }
    if args.json {
        return Ok(());
    }
    show::line(&format!(
        "{lines} lines: {fired} would fire, {held} held back"
    ))?;
    let never: Vec<&str> = configs
        .iter()
        .map(|config| config.name.as_str())
        .filter(|name| !seen.contains(*name))
        .collect();
    if never.is_empty() {
        return Ok(());
    }
    show::line(&format!(
        "never matched: {}",
        inert(never.join(", ").as_bytes())
    ))
}

fn told<'a>(
    line: u64,
    verdict: &'a str,
    rule: &'a str,
    why: Option<&'a str>,
    trigger: Option<&'a Trigger>,
) -> Told<'a> {
    Told {
        line,
        verdict,
        rule,
        why,
        trigger,
    }
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
