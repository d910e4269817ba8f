//! How lines are read for `rule test`: as the source would that they are said to come from.

use serde::Deserialize;

use crate::time::Timestamp;
use crate::trigger::Kind;
use crate::trigger::logfile::time_of;
use crate::trigger::maintenance::MaintenanceConfig;
use crate::trigger::rules::{Line, RuleConfig, RulesConfig};
use crate::trigger::syslog::{Charset, Message, Zone};

/// Of a configuration, what concerns rules and the reading of lines; the rest may be anything.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) rule: Vec<RuleConfig>,
    #[serde(default)]
    pub(super) rules: RulesConfig,
    #[serde(default)]
    pub(super) maintenance: Vec<MaintenanceConfig>,
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
pub(super) struct Reading {
    is_file: bool,
    charset: Charset,
    zone: Zone,
}

impl Reading {
    /// As the file has it for the source of this name; the defaults where it has no such source.
    pub(super) fn of(file: &File, name: &str) -> Result<Self, String> {
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

    /// Hands a line that comes `now` to `offer`, with its own time if it has one.
    pub(super) fn offer<T>(
        self,
        source: &str,
        bytes: &[u8],
        now: Timestamp,
        offer: impl FnOnce(&Line<'_>, Option<Timestamp>) -> T,
    ) -> T {
        let bytes = self.charset.decode(bytes);
        let line = Line {
            kind: Kind::Logfile,
            source,
            file: None,
            bytes: &bytes,
            host: "localhost",
            severity: None,
            facility: None,
        };
        if self.is_file {
            // A file has no PRI, and whoever wrote the line, this machine has it.
            return offer(&line, time_of(&bytes, now, self.zone));
        }
        let message = Message::parse_in(&bytes, now, self.zone);
        let line = Line {
            kind: Kind::Syslog,
            bytes: message.line,
            host: message.host.as_deref().unwrap_or("localhost"),
            severity: message.severity,
            facility: message.facility,
            ..line
        };
        offer(&line, message.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::rules::Rules;

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

    /// How many rules fire, and how many match and do not.
    fn judged(source: &str, line: &[u8]) -> (usize, usize) {
        let file: File = toml::from_str(FILE).unwrap();
        let reading = Reading::of(&file, source).unwrap();
        let rules = Rules::new(&file.rule).unwrap();
        // A Sunday.
        let now: Timestamp = "2026-11-22T01:02:11Z".parse().unwrap();
        let (verdicts, passed) = reading.offer(source, line, now, |line, at| {
            rules.judge(line, at.unwrap_or(now), now)
        });
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
