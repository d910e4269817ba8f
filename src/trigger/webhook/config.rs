//! `[[webhook]]`: the keys of a hook, and what is wrong with them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Several;
use super::mapping::Mapping;
use super::signature::Dialect;
use super::when::Zone;
use crate::error::{IoContext, IoError};
use crate::time::span;

/// What a hook's callers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Alertmanager's webhook, version 4.
    Alertmanager,
    /// Grafana's unified alerting: the same with more keys.
    Grafana,
    /// Zabbix: the macros of a media type, ours or another.
    Zabbix,
    /// Icinga 2 and Nagios: what our notification command sends.
    Icinga,
    /// Uptime Kuma's webhook.
    UptimeKuma,
    /// `PagerDuty`'s webhooks, version 3.
    Pagerduty,
    /// Datadog's webhook integration.
    Datadog,
    /// Kibana's webhook connector and Watcher.
    Kibana,
    /// Splunk's alert action, and Splunk Observability.
    Splunk,
    /// `CloudEvents` 1.0: structured, binary or batched.
    Cloudevents,
    /// Our own simple shape, or any other by `map`.
    Generic,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Alertmanager,
        Self::Grafana,
        Self::Zabbix,
        Self::Icinga,
        Self::UptimeKuma,
        Self::Pagerduty,
        Self::Datadog,
        Self::Kibana,
        Self::Splunk,
        Self::Cloudevents,
        Self::Generic,
    ];
}

/// One `[[webhook]]`: `POST /hooks/NAME`. Secrets are never written out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its name in the address: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its callers send.
    pub kind: HookKind,
    /// The token its callers show: as bearer, in the path or as `access_token`.
    #[serde(default, skip_serializing)]
    pub token: Several<String>,
    /// Files that hold tokens.
    #[serde(default)]
    pub token_file: Several<PathBuf>,
    /// `user:password` of HTTP basic authentication.
    #[serde(default, skip_serializing)]
    pub basic: Several<String>,
    /// Files that hold `user:password`.
    #[serde(default)]
    pub basic_file: Several<PathBuf>,
    /// The secret its callers sign with.
    #[serde(default, skip_serializing)]
    pub hmac_secret: Several<String>,
    /// Files that hold such secrets.
    #[serde(default)]
    pub hmac_secret_file: Several<PathBuf>,
    /// How the signature is shown.
    #[serde(default)]
    pub hmac: Dialect,
    /// The header of Grafana's signature, if it was renamed there.
    #[serde(default)]
    pub hmac_header: Option<String>,
    /// The header of Grafana's timestamp; when set, it is signed too and must be there.
    #[serde(default)]
    pub hmac_timestamp_header: Option<String>,
    /// How far a signed timestamp may be from now.
    #[serde(default = "replay", with = "span")]
    pub replay: Duration,
    /// The names of client certificates that callers may show, signed by `[web] client_ca`: their
    /// common name or one of their alternative names; `*` for any. Empty: none is needed.
    #[serde(default, skip_serializing_if = "Several::is_empty")]
    pub client_certificate: Several<String>,
    /// The addresses callers may have; any when empty.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The zone of times that are sent without one.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// How late calls usually come: an event without a time of its own is filed this much earlier.
    #[serde(default, with = "span")]
    pub late: Duration,
    /// Where the values are, by JSON pointer (RFC 6901); kind `generic` only.
    #[serde(default)]
    pub map: Option<Mapping>,
}

const fn replay() -> Duration {
    Duration::from_mins(5)
}

impl std::fmt::Debug for WebhookConfig {
    /// Leaves the secrets out: configurations are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("allow", &self.allow)
            .finish_non_exhaustive()
    }
}

/// A kind of secret: its keys, and what they hold.
struct Kept<'a> {
    key: &'static str,
    given: &'a Several<String>,
    files: &'a Several<PathBuf>,
}

/// The secrets of a hook, read from where they are kept.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) tokens: Vec<String>,
    pub(super) basic: Vec<String>,
    pub(super) hmac: Vec<String>,
}

impl WebhookConfig {
    /// A hook without a secret, all else at its default.
    pub fn new(name: &str, kind: HookKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            token: Several::default(),
            token_file: Several::default(),
            basic: Several::default(),
            basic_file: Several::default(),
            hmac_secret: Several::default(),
            hmac_secret_file: Several::default(),
            hmac: Dialect::Auto,
            hmac_header: None,
            hmac_timestamp_header: None,
            replay: replay(),
            client_certificate: Several::default(),
            allow: Vec::new(),
            zone: None,
            late: Duration::ZERO,
            map: None,
        }
    }

    fn kept(&self) -> [Kept<'_>; 3] {
        let kept = |key, given, files| Kept { key, given, files };
        [
            kept("token", &self.token, &self.token_file),
            kept("basic", &self.basic, &self.basic_file),
            kept("hmac_secret", &self.hmac_secret, &self.hmac_secret_file),
        ]
    }

    /// Checks all that can be checked without reading the files of secrets.
    pub fn validate(&self) -> Result<(), HookError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = &self.name;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with('.') {
            return Err(HookError::Name(name.clone()));
        }
        let kept = self.kept();
        if kept
            .iter()
            .all(|k| k.given.is_empty() && k.files.is_empty())
            && self.client_certificate.is_empty()
        {
            return Err(HookError::NoSecret(name.clone()));
        }
        for Kept { key, given, files } in kept {
            if !given.is_empty() && !files.is_empty() {
                return Err(HookError::Both(name.clone(), key));
            }
            if given.as_slice().iter().any(|text| text.trim().is_empty()) {
                return Err(HookError::Empty(name.clone(), key));
            }
        }
        let bad = |key, why: String| HookError::Value(name.clone(), key, why);
        if let Some(pair) = self
            .basic
            .as_slice()
            .iter()
            .find(|pair| !pair.contains(':'))
        {
            let why = format!(
                "{} characters without a ':'; write \"user:password\"",
                pair.len()
            );
            return Err(bad("basic", why));
        }
        self.networks()?;
        let names = self.client_certificate.as_slice();
        if names.iter().any(|name| name.trim().is_empty()) {
            return Err(bad("client_certificate", "a name is empty".to_owned()));
        }
        if self.map.is_some() && self.kind != HookKind::Generic {
            let why = "only kind = \"generic\" is mapped; the others know their senders".to_owned();
            return Err(bad("map", why));
        }
        if let Some(map) = &self.map {
            map.validate().map_err(|why| bad("map", why))?;
        }
        if let Dialect::Standard | Dialect::Auto = self.hmac {
            for secret in self.hmac_secret.as_slice() {
                super::signature::check_secret(secret).map_err(|why| bad("hmac_secret", why))?;
            }
        }
        Ok(())
    }

    /// The networks of `allow`.
    pub(super) fn networks(&self) -> Result<Vec<IpNet>, HookError> {
        let parse = |text: &String| {
            let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
            text.parse::<IpNet>().or_else(|_| one()).map_err(|_| {
                let why = format!("{text:?} is not an address or network such as \"10.0.0.0/8\"");
                HookError::Value(self.name.clone(), "allow", why)
            })
        };
        self.allow.iter().map(parse).collect()
    }

    /// Secrets given in the configuration itself, with their keys.
    pub fn given_secrets(&self) -> BTreeMap<&'static str, Vec<&str>> {
        [
            ("token", &self.token),
            ("basic", &self.basic),
            ("hmac_secret", &self.hmac_secret),
        ]
        .into_iter()
        .map(|(key, given)| (key, given.as_slice().iter().map(String::as_str).collect()))
        .collect()
    }

    /// Files that secrets are kept in, with their keys.
    pub fn secret_files(&self) -> Vec<(&'static str, &Path)> {
        [
            ("token_file", &self.token_file),
            ("basic_file", &self.basic_file),
            ("hmac_secret_file", &self.hmac_secret_file),
        ]
        .into_iter()
        .flat_map(|(key, files)| {
            files
                .as_slice()
                .iter()
                .map(move |file| (key, file.as_path()))
        })
        .collect()
    }

    /// Reads the secrets.
    pub(super) fn secrets(&self) -> Result<Secrets, HookError> {
        let [tokens, basic, hmac] = self.kept().map(|kept| self.read(&kept));
        Ok(Secrets {
            tokens: tokens?,
            basic: basic?,
            hmac: hmac?,
        })
    }

    fn read(&self, kept: &Kept<'_>) -> Result<Vec<String>, HookError> {
        let mut secrets: Vec<String> = kept.given.as_slice().to_vec();
        for path in kept.files.as_slice() {
            let text = std::fs::read_to_string(path).at("read", path);
            secrets.push(text.map_err(|source| HookError::File {
                name: self.name.clone(),
                key: kept.key,
                source,
            })?);
        }
        for secret in &mut secrets {
            *secret = secret.trim().to_owned();
            if secret.is_empty() {
                return Err(HookError::Empty(self.name.clone(), kept.key));
            }
        }
        Ok(secrets)
    }
}

/// Checks all hooks of a configuration, their names against each other.
pub fn validate_all(configs: &[WebhookConfig]) -> Result<(), HookError> {
    let mut names = HashSet::new();
    if let Some(twice) = configs.iter().find(|config| !names.insert(&config.name)) {
        return Err(HookError::Duplicate(twice.name.clone()));
    }
    configs.iter().try_for_each(WebhookConfig::validate)
}

/// Why a hook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The name would not survive in an address.
    #[error("[[webhook]] name = {0:?}: use 1 to 64 letters, digits, '-', '_' and '.'")]
    Name(String),
    /// Two hooks of one name.
    #[error("[[webhook]] name = {0:?} is given twice")]
    Duplicate(String),
    /// Anybody could call it.
    #[error(
        "[[webhook]] {0}: give token, basic or hmac_secret, or one of them with _file, or client_certificate: anybody could call it"
    )]
    NoSecret(String),
    /// Both of the two ways to give a secret.
    #[error("[[webhook]] {0}: give either {1} or {1}_file")]
    Both(String, &'static str),
    /// A secret of nothing.
    #[error("[[webhook]] {0}: {1}: the secret is empty")]
    Empty(String, &'static str),
    /// A value that makes no sense.
    #[error("[[webhook]] {0}: {1}: {2}")]
    Value(String, &'static str, String),
    /// A file of secrets cannot be read.
    #[error("[[webhook]] {name}: {key}_file: {source}")]
    File {
        /// The hook.
        name: String,
        /// The key, without `_file`.
        key: &'static str,
        /// What failed.
        #[source]
        source: IoError,
    },
}
