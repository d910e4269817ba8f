//! `[[notify]]` and `[watch]`: the keys, and what is wrong with them.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::event::News;
use crate::error::{IoContext, IoError};
use crate::time::span;
use crate::tls::TlsError;

/// Where a target's news goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyKind {
    /// Our own JSON, posted.
    Webhook,
    /// A Slack incoming webhook.
    Slack,
    /// A Teams workflow that takes Adaptive Cards.
    Teams,
    /// A Mattermost incoming webhook.
    Mattermost,
    /// Mail by SMTP.
    Email,
    /// Syslog, RFC 5424.
    Syslog,
}

impl NotifyKind {
    /// Whether it is told by an HTTP POST.
    pub(super) const fn is_posted(self) -> bool {
        !matches!(self, Self::Email | Self::Syslog)
    }
}

impl fmt::Display for NotifyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Mattermost => "mattermost",
            Self::Email => "email",
            Self::Syslog => "syslog",
        })
    }
}

/// What a target wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// An incident was opened.
    Opened,
    /// A precursor became an incident.
    Promoted,
    /// An incident was sealed.
    Sealed,
    /// Something is wrong with the product itself.
    Trouble,
    /// It is over.
    Recovered,
}

/// The language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Japanese.
    Ja,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// In the clear at first, then within TLS; never without (port 587).
    #[default]
    Starttls,
    /// Within TLS from the first byte (port 465).
    Implicit,
    /// In the clear: for a relay on this machine (port 25).
    None,
}

/// One `[[notify]]`. Secrets, and addresses that hold one, are never written out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where to.
    pub kind: NotifyKind,
    /// What is told.
    #[serde(default = "everything")]
    pub on: Vec<On>,
    /// Whether precursors are told, too.
    #[serde(default)]
    pub precursors: bool,
    /// Whether drills are told, too.
    #[serde(default)]
    pub drills: bool,
    /// The language of messages.
    #[serde(default)]
    pub language: Language,
    /// The address of the user interface, for links.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Where to post.
    #[serde(default, skip_serializing)]
    pub url: Option<String>,
    /// The file that holds that address, when it is itself a secret.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Shown as bearer; kind `webhook` only.
    #[serde(default, skip_serializing)]
    pub token: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Signs as Standard Webhooks ask; kind `webhook` only.
    #[serde(default, skip_serializing)]
    pub hmac_secret: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub hmac_secret_file: Option<PathBuf>,
    /// The mail server's name.
    #[serde(default)]
    pub server: Option<String>,
    /// Its port; by `tls` when left out.
    #[serde(default)]
    pub port: Option<u16>,
    /// How it is spoken to.
    #[serde(default)]
    pub tls: Option<MailTls>,
    /// Who logs in there.
    #[serde(default)]
    pub user: Option<String>,
    /// With this.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
    /// The file that holds it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The sender of mails.
    #[serde(default)]
    pub from: Option<String>,
    /// Their recipients.
    #[serde(default)]
    pub to: Vec<String>,
    /// The syslog receiver: `udp://host:514`, `tcp://host:601` or `tls://host:6514`.
    #[serde(default)]
    pub address: Option<String>,
    /// A PEM file of authorities that are trusted beside the machine's own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long one attempt may take.
    #[serde(default = "timeout", with = "span")]
    pub timeout: Duration,
}

fn everything() -> Vec<On> {
    vec![
        On::Opened,
        On::Promoted,
        On::Sealed,
        On::Trouble,
        On::Recovered,
    ]
}

const fn timeout() -> Duration {
    Duration::from_secs(10)
}

impl fmt::Debug for NotifyConfig {
    /// Leaves the secrets out: configurations are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifyConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The name would not survive in an address or a label.
    #[error("[[notify]] name = {0:?}: use 1 to 64 letters, digits, '-', '_' and '.'")]
    Name(String),
    /// Two targets of one name.
    #[error("[[notify]] name = {0:?} is given twice")]
    Twice(String),
    /// A key that its kind needs.
    #[error("[[notify]] {name}: {key} is missing; kind = \"{kind}\" needs it")]
    Missing {
        /// The target.
        name: String,
        /// The key.
        key: &'static str,
        /// The kind.
        kind: NotifyKind,
    },
    /// A key that its kind does not know.
    #[error("[[notify]] {name}: {key} is not for kind = \"{kind}\"; take it away")]
    NotFor {
        /// The target.
        name: String,
        /// The key.
        key: &'static str,
        /// The kind.
        kind: NotifyKind,
    },
    /// A value that makes no sense.
    #[error("[[notify]] {0}: {1}: {2}")]
    Value(String, &'static str, String),
    /// The authorities cannot be read.
    #[error("[[notify]] {0}: {1}")]
    Tls(String, #[source] TlsError),
    /// A file of a secret cannot be read.
    #[error("[[notify]] {name}: {key}: {source}")]
    File {
        /// The target.
        name: String,
        /// The key.
        key: &'static str,
        /// What failed.
        #[source]
        source: IoError,
    },
    /// The watch for trouble.
    #[error("watch.{0}: {1}")]
    Watch(&'static str, String),
}

impl NotifyConfig {
    /// Whether this piece of news is for this target.
    pub(super) fn wants(&self, news: &News) -> bool {
        let on = match news {
            News::Opened { .. } => On::Opened,
            News::Promoted { .. } => On::Promoted,
            News::Sealed { .. } => On::Sealed,
            News::Trouble { .. } => On::Trouble,
            News::Recovered { .. } => On::Recovered,
            News::Test => return true,
        };
        let wanted_kind = news.incident().is_none_or(|about| {
            (self.precursors || !about.is_precursor()) && (self.drills || !about.is_drill())
        });
        self.on.contains(&on) && wanted_kind
    }

    /// A value that makes no sense.
    pub(super) fn bad(&self, key: &'static str, why: impl Into<String>) -> NotifyError {
        NotifyError::Value(self.name.clone(), key, why.into())
    }

    /// A key that must be there.
    pub(super) fn need<'a, T: ?Sized>(
        &self,
        key: &'static str,
        value: Option<&'a T>,
    ) -> Result<&'a T, NotifyError> {
        value.ok_or_else(|| NotifyError::Missing {
            name: self.name.clone(),
            key,
            kind: self.kind,
        })
    }

    /// Checks all that can be checked without reading a file.
    fn validate(&self) -> Result<(), NotifyError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = &self.name;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with('.') {
            return Err(NotifyError::Name(name.clone()));
        }
        self.check_keys()?;
        if self.timeout.is_zero() || self.timeout > Duration::from_mins(5) {
            return Err(self.bad("timeout", "use a span from 1s to 5m"));
        }
        if let Some(base) = &self.base_url
            && !(base.starts_with("http://") || base.starts_with("https://"))
        {
            return Err(self.bad(
                "base_url",
                format!("{base:?} does not begin with http:// or https://"),
            ));
        }
        if self.on.is_empty() {
            return Err(self.bad("on", "is empty; nothing would be told"));
        }
        for (key, given, file) in self.secrets() {
            if given.is_some() && file.is_some() {
                return Err(self.bad(key, format!("give either {key} or {key}_file")));
            }
        }
        super::target::check(self)
    }

    /// Keys that are given, and the kinds they are for.
    fn check_keys(&self) -> Result<(), NotifyError> {
        let posted = self.kind.is_posted();
        let hook = self.kind == NotifyKind::Webhook;
        let mail = self.kind == NotifyKind::Email;
        let syslog = self.kind == NotifyKind::Syslog;
        let keys = [
            ("url", self.url.is_some(), posted),
            ("url_file", self.url_file.is_some(), posted),
            ("token", self.token.is_some(), hook),
            ("token_file", self.token_file.is_some(), hook),
            ("hmac_secret", self.hmac_secret.is_some(), hook),
            ("hmac_secret_file", self.hmac_secret_file.is_some(), hook),
            ("server", self.server.is_some(), mail),
            ("port", self.port.is_some(), mail),
            ("tls", self.tls.is_some(), mail),
            ("user", self.user.is_some(), mail),
            ("password", self.password.is_some(), mail),
            ("password_file", self.password_file.is_some(), mail),
            ("from", self.from.is_some(), mail),
            ("to", !self.to.is_empty(), mail),
            ("address", self.address.is_some(), syslog),
        ];
        match keys.iter().find(|(_, given, fits)| *given && !fits) {
            Some((key, ..)) => Err(NotifyError::NotFor {
                name: self.name.clone(),
                key,
                kind: self.kind,
            }),
            None => Ok(()),
        }
    }

    fn secrets(&self) -> [(&'static str, Option<&String>, Option<&PathBuf>); 4] {
        [
            ("url", self.url.as_ref(), self.url_file.as_ref()),
            ("token", self.token.as_ref(), self.token_file.as_ref()),
            (
                "hmac_secret",
                self.hmac_secret.as_ref(),
                self.hmac_secret_file.as_ref(),
            ),
            (
                "password",
                self.password.as_ref(),
                self.password_file.as_ref(),
            ),
        ]
    }

    /// Files that are read before rights are dropped, with their keys.
    pub fn secret_files(&self) -> Vec<(&'static str, &Path)> {
        let files = self.secrets();
        let files = files.iter();
        files
            .filter_map(|(key, _, file)| Some((*key, file.as_ref()?.as_path())))
            .collect()
    }

    /// The secret of this key, read from its file if it has one.
    pub(super) fn secret(&self, wanted: &'static str) -> Result<Option<String>, NotifyError> {
        let secrets = self.secrets();
        let Some((_, given, file)) = secrets.iter().find(|(key, ..)| *key == wanted) else {
            return Ok(None);
        };
        let text = match (given, file) {
            (Some(given), _) => (*given).clone(),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).at("read", file);
                text.map_err(|source| NotifyError::File {
                    name: self.name.clone(),
                    key: wanted,
                    source,
                })?
            }
            (None, None) => return Ok(None),
        };
        match text.trim() {
            "" => Err(self.bad(wanted, "the secret is empty")),
            text => Ok(Some(text.to_owned())),
        }
    }
}

/// `[watch]`: when this product's own state is trouble that people are told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// How long something must be wrong before it is told.
    #[serde(with = "span")]
    pub hold: Duration,
    /// How long it must be right before it counts as over; doubled each time it comes back within
    /// the hour.
    #[serde(with = "span")]
    pub clear: Duration,
    /// How far back a full ring must reach; 0 for any.
    #[serde(with = "span")]
    pub lookback: Duration,
    /// How much of the disk must be free; 0 for any.
    pub disk_free: ByteSize,
    /// Percent of `evidence.quota` that may be used.
    pub evidence: u8,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(15),
            clear: Duration::from_mins(1),
            lookback: Duration::ZERO,
            disk_free: ByteSize::gib(1),
            evidence: 90,
        }
    }
}

impl WatchConfig {
    fn validate(&self) -> Result<(), NotifyError> {
        let hour = Duration::from_hours(1);
        for (key, span) in [("hold", self.hold), ("clear", self.clear)] {
            if span > hour {
                return Err(NotifyError::Watch(key, "use a span up to 1h".to_owned()));
            }
        }
        if !(1..=100).contains(&self.evidence) {
            let why = format!("{} is not a percentage from 1 to 100", self.evidence);
            return Err(NotifyError::Watch("evidence", why));
        }
        Ok(())
    }
}

/// Checks all targets of a configuration, their names against each other, and the watch.
pub fn validate_all(targets: &[NotifyConfig], watch: &WatchConfig) -> Result<(), NotifyError> {
    let mut names = HashSet::new();
    if let Some(twice) = targets.iter().find(|target| !names.insert(&target.name)) {
        return Err(NotifyError::Twice(twice.name.clone()));
    }
    watch.validate()?;
    targets.iter().try_for_each(NotifyConfig::validate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        #[derive(Deserialize)]
        struct File {
            notify: Vec<NotifyConfig>,
            #[serde(default)]
            watch: WatchConfig,
        }
        let file: File = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => return error.to_string(),
        };
        match validate_all(&file.notify, &file.watch) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    const HOOK: &str =
        "[[notify]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"https://h.test/x?y\"\n";
    const MAIL: &str = "[[notify]]\nname = \"m\"\nkind = \"email\"\nserver = \"mail.test\"\n\
        from = \"Tap <tap@h.test>\"\nto = [\"noc@h.test\"]\n";
    const SYSLOG: &str =
        "[[notify]]\nname = \"s\"\nkind = \"syslog\"\naddress = \"tls://log.test:6514\"\n";

    #[test]
    fn what_is_right_is_taken() {
        for right in [HOOK, MAIL, SYSLOG] {
            assert_eq!(check(right), "");
        }
        assert_eq!(
            check(&format!(
                "{HOOK}{MAIL}{SYSLOG}[watch]\nlookback = \"1day\"\n"
            )),
            ""
        );
    }

    #[test]
    fn every_mistake_names_target_and_key() {
        for (text, said) in [
            (HOOK.repeat(2), "name = \"a\" is given twice"),
            (HOOK.replace("\"a\"", "\"a b\""), "use 1 to 64 letters"),
            (
                HOOK.replace("url", "#"),
                "a: url is missing; kind = \"webhook\" needs it",
            ),
            (HOOK.replace("https", "gopher"), "a: url: "),
            (HOOK.replace("h.test", "u:p@h.test"), "a: url: "),
            (
                format!("{HOOK}to = [\"x\"]\n"),
                "a: to is not for kind = \"webhook\"",
            ),
            (
                format!("{HOOK}url_file = \"/x\"\n"),
                "either url or url_file",
            ),
            (
                format!("{HOOK}hmac_secret = \"whsec_!\"\n"),
                "a: hmac_secret: ",
            ),
            (format!("{HOOK}on = []\n"), "a: on: is empty"),
            (format!("{HOOK}base_url = \"tap.test\"\n"), "a: base_url: "),
            (MAIL.replace("noc@h.test", "nobody"), "m: to: "),
            (
                MAIL.replace("tap@h.test", "tap\\r\\nBcc: x@h.test"),
                "m: from: ",
            ),
            (format!("{MAIL}user = \"u\"\n"), "m: password is missing"),
            (
                format!("{MAIL}tls = \"none\"\nuser = \"u\"\npassword = \"p\"\n"),
                "m: tls: a password would travel in the clear",
            ),
            (SYSLOG.replace("tls:", "http:"), "s: address: "),
            (SYSLOG.replace(":6514", ""), "s: address: "),
            (format!("{HOOK}[watch]\nevidence = 0\n"), "watch.evidence: "),
            (format!("{HOOK}langauge = \"ja\"\n"), "langauge"),
        ] {
            let found = check(&text);
            assert!(found.contains(said), "{text}: {found}");
        }
    }

    #[test]
    fn secrets_are_not_written_out() {
        let config: NotifyConfig =
            toml::from_str("name = \"a\"\nkind = \"slack\"\nurl = \"https://hooks.test/SECRET\"\n")
                .unwrap();
        let shown = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
