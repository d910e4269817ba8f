//! `rule test FILE`: what lines would do, and why; `rule packs`. Needs no server.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::args::Args;
use crate::cli::{Failure, show};
use crate::time::Timestamp;
use crate::trigger::logfile::time_of;
use crate::trigger::rules::{
    Line, Passed, RuleConfig, Rules, RulesConfig, Verdict, pack_names, pack_text,
};
use crate::trigger::syslog::{Charset, Message, Zone};
use crate::trigger::text::inert;
use crate::trigger::{Kind, Trigger};

/// The longest line looked at, in bytes; the rest of it is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Of a configuration, what concerns rules and the reading of lines; the rest may be anything.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    rule: Vec<RuleConfig>,
    #[serde(default)]
    rules: RulesConfig,
    #[serde(default)]
    syslog: Vec<Source>,
    #[serde(default)]
    logfile: Vec<Source>,
}

/// A source of lines, by its name.
#[derive(Deserialize)]
struct Source {
    #[serde(default, alias = "path")]
    listen: String,
    encoding: Option<String>,
    zone: Option<String>,
}

/// How the lines of a source are read, as the server would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reading {
    is_file: bool,
    charset: Charset,
    zone: Zone,
}

impl Reading {
    /// As the file has it for the source of this name; the defaults where it has no such source.
    fn of(file: &File, name: &str) -> Result<Self, String> {
        let is_file = name == "logfile" || name.starts_with('/');
        let named = if is_file { &file.logfile } else { &file.syslog };
        let Some(source) = named.iter().find(|source| source.listen == name) else {
            return Ok(Self {
                is_file,
                ..Self::default()
            });
        };
        let charset = source.encoding.as_deref().unwrap_or("auto");
        let unknown = |key: &str, value: &str| format!("{name}: {key} = {value:?} is unknown");
        Ok(Self {
            is_file,
            charset: Charset::named(charset).ok_or_else(|| unknown("encoding", charset))?,
            zone: match source.zone.as_deref() {
                Some(zone) => Zone::named(zone).ok_or_else(|| unknown("zone", zone))?,
                None => Zone::default(),
            },
        })
    }

    /// What the rules say of a line that comes `now`.
    fn judge(
        self,
        rules: &Rules,
        source: &str,
        line: &[u8],
        now: Timestamp,
    ) -> (Vec<Verdict>, Vec<Passed>) {
        let line = self.charset.decode(line);
        if self.is_file {
            // A file has no PRI, and whoever wrote the line, this machine has it.
            let offered = Line {
                kind: Kind::Logfile,
                source,
                file: None,
                bytes: &line,
                host: "localhost",
                severity: None,
                facility: None,
            };
            let at = time_of(&line, now, self.zone);
            return rules.judge(&offered, at.unwrap_or(now), now);
        }
        let message = Message::parse_in(&line, now, self.zone);
        let offered = Line {
            kind: Kind::Syslog,
            source,
            file: None,
            bytes: message.line,
            host: message.host.as_deref().unwrap_or("localhost"),
            severity: message.severity,
            facility: message.facility,
        };
        rules.judge(&offered, message.at.unwrap_or(now), now)
    }
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
    let reading = Reading::of(&content, source).map_err(|error| at(&error))?;
    let mut configs = content.rule;
    configs.extend(content.rules.rules().map_err(|error| at(&error))?);
    let rules = Rules::new(&configs).map_err(|error| at(&error))?;
    let rules = rules.matching(content.rules.matching);
    let (mut lines, mut fired, mut held) = (0, 0, 0);
    let mut seen = BTreeSet::new();
    let mut input = io::stdin().lock();
    let mut buffer = Vec::new();
    while read_line(&mut input, &mut buffer).map_err(Failure::failed)? {
        lines += 1;
        let now = Timestamp::now();
        let (verdicts, passed) = reading.judge(&rules, source, &buffer, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[rule]]
        name = "link"
        match = "リンクがダウン|ｱﾗｰﾑ"
        not_during = "mon-fri 10:00-11:00"
        zone = "Asia/Tokyo"

        [[syslog]]
        listen = "udp://0.0.0.0:514"
        encoding = "shift_jis"

        [[logfile]]
        path = "/var/log/app.log"
        encoding = "euc-jp"
        zone = "Asia/Tokyo"
        late = "2s"
    "#;

    fn reading(source: &str) -> (File, Reading) {
        let file: File = toml::from_str(FILE).unwrap();
        let reading = Reading::of(&file, source).unwrap();
        (file, reading)
    }

    /// How many rules fire, and how many match and do not.
    fn judged(source: &str, line: &[u8]) -> (usize, usize) {
        let (file, reading) = reading(source);
        let rules = Rules::new(&file.rule).unwrap();
        // A Sunday.
        let now: Timestamp = "2026-11-22T01:02:11Z".parse().unwrap();
        let (verdicts, passed) = reading.judge(&rules, source, line, now);
        (verdicts.len(), passed.len())
    }

    #[test]
    fn lines_are_decoded_as_the_server_would() {
        let text = "<11>rtx: LAN1 のリンクがダウンしました";
        for encoding in [
            encoding_rs::UTF_8,
            encoding_rs::SHIFT_JIS,
            encoding_rs::EUC_JP,
        ] {
            let line = encoding.encode(text).0;
            assert_eq!(judged("syslog", &line), (1, 0), "{}", encoding.name());
            assert_eq!(judged("logfile", &line), (1, 0), "{}", encoding.name());
        }
        // Half-width katakana may be either: the source decides, where it says so.
        let line = encoding_rs::SHIFT_JIS.encode("<11>ｱﾗｰﾑ").0;
        assert_eq!(judged("udp://0.0.0.0:514", &line), (1, 0));
        let line = encoding_rs::EUC_JP.encode("リンクがダウン").0;
        assert_eq!(judged("/var/log/app.log", &line), (1, 0));
    }

    #[test]
    fn lines_of_files_have_times_of_their_own() {
        let line = "2026-11-20 10:30:00,123 リンクがダウン";
        let line = encoding_rs::EUC_JP.encode(line).0;
        assert_eq!(judged("/var/log/app.log", &line), (0, 1));
        let line = "2026-11-20 11:30:00,123 リンクがダウン";
        let line = encoding_rs::EUC_JP.encode(line).0;
        assert_eq!(judged("/var/log/app.log", &line), (1, 0));
    }

    #[test]
    fn an_unknown_encoding_or_zone_is_named() {
        for (key, value) in [("encoding", "klingon"), ("zone", "Mars/Base")] {
            let text = format!("[[logfile]]\npath = \"/x\"\n{key} = {value:?}");
            let file: File = toml::from_str(&text).unwrap();
            let error = Reading::of(&file, "/x").unwrap_err();
            assert!(error.contains(key) && error.contains(value), "{error}");
            assert!(Reading::of(&file, "/y").is_ok());
        }
    }
}
