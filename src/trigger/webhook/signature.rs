//! HMAC-SHA256 over the raw body, in the dialects of those who sign.
//!
//! - Grafana: hex in `X-Grafana-Alerting-Signature`, over the body or `timestamp:body`.
//! - `PagerDuty`: `v1=<hex>[,v1=<hex>...]` in `X-PagerDuty-Signature`.
//! - GitHub: `sha256=<hex>` in `X-Hub-Signature-256`.
//! - Standard Webhooks: `v1,<base64>[ v1,<base64>...]` in `webhook-signature`, over `id.timestamp.body`;
//!   the secret is base64, with or without `whsec_` in front.
//! - Splunk Observability: base64 in `X-SFX-Signature`.

use std::time::Duration;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::auth::{Denied, Headers};
use crate::time::Timestamp;

/// Signatures looked at in one header: two while a secret is rotated, with room.
const SIGNATURES_MAX: usize = 8;
/// In front of a secret of Standard Webhooks.
const STANDARD_PREFIX: &str = "whsec_";

/// How the signature is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// By the header that is there.
    #[default]
    Auto,
    /// Grafana.
    Grafana,
    /// `PagerDuty`.
    Pagerduty,
    /// GitHub, and the many who do as it does.
    Github,
    /// Standard Webhooks.
    Standard,
    /// Splunk Observability.
    Splunk,
}

impl Dialect {
    const ALL: [Self; 5] = [
        Self::Grafana,
        Self::Pagerduty,
        Self::Github,
        Self::Standard,
        Self::Splunk,
    ];

    const fn header(self) -> &'static str {
        match self {
            Self::Auto | Self::Grafana => "x-grafana-alerting-signature",
            Self::Pagerduty => "x-pagerduty-signature",
            Self::Github => "x-hub-signature-256",
            Self::Standard => "webhook-signature",
            Self::Splunk => "x-sfx-signature",
        }
    }
}

/// Checks signatures against any of its secrets.
#[derive(Debug)]
pub(super) struct Signatures {
    dialect: Dialect,
    header: Option<String>,
    timestamp_header: Option<String>,
    replay: Duration,
    secrets: Vec<Secret>,
}

struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("...")
    }
}

impl Signatures {
    pub(super) fn new(config: &super::WebhookConfig, secrets: Vec<String>) -> Self {
        let lower = |name: &Option<String>| name.as_ref().map(|name| name.to_ascii_lowercase());
        Self {
            dialect: config.hmac,
            header: lower(&config.hmac_header),
            timestamp_header: lower(&config.hmac_timestamp_header),
            replay: config.replay,
            secrets: secrets.into_iter().map(Secret).collect(),
        }
    }

    /// Whether `body` was signed with one of the secrets, and not too long ago where the dialect
    /// tells.
    pub(super) fn check(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Denied> {
        let (dialect, shown) = self.shown(headers).ok_or_else(|| {
            Denied::Signature(format!(
                "it is not signed: there is no header {}",
                self.expected()
            ))
        })?;
        let (stamp, prefix) = self.prefix(dialect, headers)?;
        if let Some(stamp) = stamp {
            self.check_stamp(stamp, now)?;
        }
        let candidates = signatures(dialect, shown);
        let right = self.secrets.iter().any(|Secret(secret)| {
            let key = key(dialect, secret);
            candidates
                .iter()
                .any(|signature| is_of(&key, &prefix, body, signature))
        });
        if right {
            return Ok(());
        }
        let what = "the signature does not fit the body and the secret";
        Err(Denied::Signature(what.to_owned()))
    }

    /// The headers with which a caller signs `body`, as one that is called `id`.
    pub(super) fn sign(&self, id: &str, body: &[u8], now: Timestamp) -> Vec<(String, String)> {
        let Some(Secret(secret)) = self.secrets.first() else {
            return Vec::new();
        };
        let dialect = match self.dialect {
            Dialect::Auto => Dialect::Grafana,
            dialect => dialect,
        };
        let stamp = (now.as_ns() / 1_000_000_000).to_string();
        let mut headers = Vec::new();
        let mut prefix = String::new();
        match (dialect, &self.timestamp_header) {
            (Dialect::Grafana, Some(name)) => {
                prefix = format!("{stamp}:");
                headers.push((name.clone(), stamp));
            }
            (Dialect::Standard, _) => {
                prefix = format!("{id}.{stamp}.");
                headers.push(("webhook-id".to_owned(), id.to_owned()));
                headers.push(("webhook-timestamp".to_owned(), stamp));
            }
            _ => {}
        }
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key(dialect, secret)) else {
            return Vec::new();
        };
        mac.update(prefix.as_bytes());
        mac.update(body);
        let digest = mac.finalize().into_bytes();
        let shown = match dialect {
            Dialect::Auto | Dialect::Grafana => hex::encode(digest),
            Dialect::Pagerduty => format!("v1={}", hex::encode(digest)),
            Dialect::Github => format!("sha256={}", hex::encode(digest)),
            Dialect::Standard => format!("v1,{}", Base64::encode_string(&digest)),
            Dialect::Splunk => Base64::encode_string(&digest),
        };
        let usual = || dialect.header().to_owned();
        headers.push((self.header.clone().unwrap_or_else(usual), shown));
        headers
    }

    fn expected(&self) -> String {
        match (&self.header, self.dialect) {
            (Some(header), _) => header.clone(),
            (None, Dialect::Auto) => Dialect::ALL.map(Dialect::header).join(", "),
            (None, dialect) => dialect.header().to_owned(),
        }
    }

    fn shown<'h>(&self, headers: &'h Headers) -> Option<(Dialect, &'h str)> {
        if let Some(name) = &self.header {
            let dialect = match self.dialect {
                Dialect::Auto => Dialect::Grafana,
                dialect => dialect,
            };
            return Some((dialect, headers.get(name)?));
        }
        let tried: &[Dialect] = match &self.dialect {
            Dialect::Auto => &Dialect::ALL,
            one => std::slice::from_ref(one),
        };
        tried
            .iter()
            .find_map(|dialect| Some((*dialect, headers.get(dialect.header())?)))
    }

    /// The signed timestamp, and what is signed before the body.
    fn prefix(
        &self,
        dialect: Dialect,
        headers: &Headers,
    ) -> Result<(Option<i64>, Vec<u8>), Denied> {
        let need = |name: &str| {
            headers.get(name).ok_or_else(|| {
                Denied::Signature(format!("there is no header {name}, which is signed too"))
            })
        };
        let number = |name: &str, text: &str| {
            text.trim().parse::<i64>().map_err(|_| {
                Denied::Signature(format!("{name}: {text:?} is not seconds since 1970"))
            })
        };
        match (dialect, &self.timestamp_header) {
            (Dialect::Grafana, Some(name)) => {
                let text = need(name)?;
                let prefix = format!("{text}:").into_bytes();
                Ok((Some(number(name, text)?), prefix))
            }
            (Dialect::Standard, _) => {
                let (id, text) = (need("webhook-id")?, need("webhook-timestamp")?);
                let prefix = format!("{id}.{text}.").into_bytes();
                Ok((Some(number("webhook-timestamp", text)?), prefix))
            }
            _ => Ok((None, Vec::new())),
        }
    }

    fn check_stamp(&self, stamp: i64, now: Timestamp) -> Result<(), Denied> {
        let now = i64::try_from(now.as_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        let away = Duration::from_secs(now.abs_diff(stamp));
        if away > self.replay {
            let side = if stamp < now { "old" } else { "ahead" };
            return Err(Denied::Stale(format!(
                "its signature is {} s {side}; at most {} s are taken: is it replayed, or a clock wrong?",
                away.as_secs(),
                self.replay.as_secs()
            )));
        }
        Ok(())
    }
}

/// Whether `secret` can be one of Standard Webhooks, if it says that it is.
pub fn check_secret(secret: &str) -> Result<(), String> {
    match secret.trim().strip_prefix(STANDARD_PREFIX) {
        Some(encoded) if Base64::decode_vec(encoded).is_err() => {
            Err(format!("after {STANDARD_PREFIX} there must be base64"))
        }
        _ => Ok(()),
    }
}

/// The signature of Standard Webhooks over a message of ours, as `webhook-signature` has it.
pub fn sign_standard(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = key(Dialect::Standard, secret);
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", Base64::encode_string(&mac.finalize().into_bytes()))
}

fn key(dialect: Dialect, secret: &str) -> Vec<u8> {
    let encoded = secret.strip_prefix(STANDARD_PREFIX);
    let decoded = match dialect {
        Dialect::Standard => Base64::decode_vec(encoded.unwrap_or(secret)).ok(),
        _ => None,
    };
    decoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// The signatures in a header; what is not one is passed over.
fn signatures(dialect: Dialect, shown: &str) -> Vec<Vec<u8>> {
    let from_hex = |text: &str| hex::decode(text.trim()).ok();
    let from_base64 = |text: &str| Base64::decode_vec(text.trim()).ok();
    let found: Vec<Vec<u8>> = match dialect {
        Dialect::Auto | Dialect::Grafana => from_hex(shown).into_iter().collect(),
        Dialect::Pagerduty => shown
            .split(',')
            .filter_map(|part| from_hex(part.trim().strip_prefix("v1=")?))
            .take(SIGNATURES_MAX)
            .collect(),
        Dialect::Github => shown
            .trim()
            .strip_prefix("sha256=")
            .and_then(from_hex)
            .into_iter()
            .collect(),
        Dialect::Standard => shown
            .split(' ')
            .filter_map(|part| from_base64(part.trim().strip_prefix("v1,")?))
            .take(SIGNATURES_MAX)
            .collect(),
        Dialect::Splunk => from_base64(shown).into_iter().collect(),
    };
    found
}

/// Compares in constant time.
fn is_of(key: &[u8], prefix: &[u8], body: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return false;
    };
    mac.update(prefix);
    mac.update(body);
    mac.verify_slice(signature).is_ok()
}
