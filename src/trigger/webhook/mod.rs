//! Webhooks: what a monitoring system posts, and who may. The web layer does the HTTP; here are
//! the token, the body and the counts.

mod alertmanager;
mod generic;

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use alertmanager::parse_alertmanager;
pub use generic::parse_generic;

use super::event_time::{CLOCK_FIELD, EventTime};
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::text::{FIELD_BYTES_MAX, inert};
use super::{Kind, Trigger, cut};
use crate::error::{IoContext, IoError};
use crate::time::Timestamp;

/// The largest body taken, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Labels of an alert kept as fields.
const FIELDS_MAX: usize = 64;

/// What a hook's callers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// Alertmanager's webhook, version 4 (Grafana's alerting sends the same shape).
    Alertmanager,
    /// Our own simple shape, for scripts and templates.
    Generic,
}

/// One `[[webhook]]`: `POST /hooks/NAME`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its name in the address: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its callers send.
    pub kind: HookKind,
    /// The token its callers show. Better kept in a file of its own. Never written out.
    #[serde(default, skip_serializing)]
    pub token: Option<String>,
    /// A file that holds the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for WebhookConfig {
    /// Leaves the token out: configurations are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("token_file", &self.token_file)
            .finish()
    }
}

impl WebhookConfig {
    /// Checks all that can be checked without reading the token's file.
    pub fn validate(&self) -> Result<(), HookError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = &self.name;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with('.') {
            return Err(HookError::Name(name.clone()));
        }
        match (&self.token, &self.token_file) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(HookError::Token(name.clone())),
        }
    }
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
    /// Neither or both of the two ways to give the token.
    #[error("[[webhook]] {0}: give either token or token_file")]
    Token(String),
    /// No token at all.
    #[error("[[webhook]] {0}: the token is empty")]
    Short(String),
    /// The token's file cannot be read.
    #[error("[[webhook]] {name}: token_file: {source}")]
    File {
        /// The hook.
        name: String,
        /// What failed.
        #[source]
        source: IoError,
    },
}

/// Why a body is not what the hook takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than [`BODY_BYTES_MAX`].
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// Not JSON or not the shape expected; the text says where.
    #[error("the body is not understood: {0}")]
    Json(String),
    /// Well-formed, but a value makes no sense.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// What a body asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookOutcome {
    /// To freeze.
    Trigger(Box<Trigger>),
    /// Nothing: only resolved alerts. Answered 200.
    Nothing,
    /// It is refused.
    Refused(BodyError),
}

/// A hook, ready for calls.
#[derive(Debug)]
pub struct Hook {
    name: String,
    kind: HookKind,
    /// SHA-256 of the token: compared instead of it, so that nothing depends on its length.
    token: [u8; 32],
    handle: SourceHandle,
}

impl Hook {
    /// Reads the token and enters the hook in the registry.
    pub fn from_config(config: &WebhookConfig, sources: &Sources) -> Result<Self, HookError> {
        config.validate()?;
        let name = &config.name;
        let token = match (&config.token, &config.token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path)
                    .at("read", path)
                    .map_err(|source| HookError::File {
                        name: name.clone(),
                        source,
                    })?
            }
            _ => return Err(HookError::Token(name.clone())),
        };
        let token = token.trim();
        if token.is_empty() {
            return Err(HookError::Short(name.clone()));
        }
        let handle = sources.register(Kind::Webhook, name);
        handle.set(SourceState::Ok, "waiting for the first call");
        Ok(Self {
            name: name.clone(),
            kind: config.kind,
            token: Sha256::digest(token).into(),
            handle,
        })
    }

    /// Makes all hooks of a configuration.
    pub fn all(configs: &[WebhookConfig], sources: &Sources) -> Result<Vec<Self>, HookError> {
        validate_all(configs)?;
        configs
            .iter()
            .map(|config| Self::from_config(config, sources))
            .collect()
    }

    /// Its name in the address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its entry in the registry; the web layer says [`SourceHandle::triggered`] when a trigger
    /// became durable.
    pub fn handle(&self) -> &SourceHandle {
        &self.handle
    }

    /// Whether the `Authorization` header shows the hook's token. Takes the same time for every
    /// wrong token. A wrong one is counted.
    pub fn authorise(&self, header: Option<&str>) -> bool {
        let shown = header
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let difference = shown
            .iter()
            .zip(&self.token)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        let right = black_box(difference) == 0;
        if !right {
            self.handle.count(Count::Refused);
        }
        right
    }

    /// What a body asks for.
    pub fn accept(&self, body: &[u8], received: Timestamp) -> HookOutcome {
        self.handle.count(Count::Received);
        let parsed = match self.kind {
            HookKind::Alertmanager => parse_alertmanager(&self.name, body, received),
            HookKind::Generic => parse_generic(&self.name, body, received),
        };
        match parsed {
            Ok(Some(trigger)) => {
                self.handle.count(Count::Matched);
                self.handle
                    .set(SourceState::Ok, format!("last call {received}"));
                HookOutcome::Trigger(Box::new(trigger))
            }
            Ok(None) => {
                self.handle
                    .set(SourceState::Ok, format!("last call {received}"));
                HookOutcome::Nothing
            }
            Err(error) => {
                let count = match error {
                    BodyError::TooLarge => Count::Oversized,
                    _ => Count::Malformed,
                };
                self.handle.count(count);
                HookOutcome::Refused(error)
            }
        }
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

/// Reads a body's JSON; serde_json bounds its depth.
fn from_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, BodyError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(BodyError::TooLarge);
    }
    serde_json::from_slice(body).map_err(|error| BodyError::Json(error.to_string()))
}

/// Foreign names and values as trigger fields, bounded.
fn fields<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> BTreeMap<String, String> {
    let bounded = |text: &str| cut(&inert(text.as_bytes()), FIELD_BYTES_MAX).to_owned();
    pairs
        .take(FIELDS_MAX)
        .map(|(name, value)| (bounded(name), bounded(value)))
        .collect()
}

/// Notes in the fields that the event's own time was nonsense.
fn mark_clock(trigger: &mut Trigger, time: EventTime) {
    if let Some(clock) = time.clock {
        trigger
            .fields
            .insert(CLOCK_FIELD.to_owned(), clock.to_owned());
    }
}

#[cfg(test)]
mod tests;
