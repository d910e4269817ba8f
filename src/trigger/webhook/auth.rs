//! Who may call a hook. Every method that is configured must be shown; of several secrets of one
//! method any one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::config::{HookError, WebhookConfig};
use super::signature::Signatures;
use crate::time::Timestamp;

/// The headers of a call: names in lower case, values as text. Of a repeated one the first.
#[derive(Debug, Clone, Default)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All whose names begin with `prefix`, without it.
    pub fn under<'h>(&'h self, prefix: &'h str) -> impl Iterator<Item = (&'h str, &'h str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = BTreeMap::new();
        for (name, value) in pairs {
            let name = name.into().to_ascii_lowercase();
            headers.entry(name).or_insert_with(|| value.into());
        }
        Self(headers)
    }
}

/// What a caller shows before the body is read.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Where it calls from; `None` over the unix socket.
    pub address: Option<IpAddr>,
    /// Its headers.
    pub headers: Headers,
    /// The token in the path or the query (`access_token`).
    pub token: Option<String>,
    /// Whom the certificate names that it has shown; nobody without one.
    pub names: Arc<[String]>,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not from there.
    #[error("calls from {0} are not allowed: see allow of this [[webhook]]")]
    Address(IpAddr),
    /// No certificate, or another's.
    #[error(
        "show a client certificate with one of the names in client_certificate of this [[webhook]]"
    )]
    Certificate,
    /// No token or a wrong one.
    #[error("send the hook's token: Authorization: Bearer TOKEN, or POST /hooks/NAME/TOKEN")]
    Token,
    /// No name and password, or wrong ones.
    #[error("send the hook's user and password: HTTP basic authentication")]
    Basic,
    /// No signature or a wrong one; the text says what is wrong.
    #[error("{0}")]
    Signature(String),
    /// Signed too long ago, or in the future.
    #[error("{0}")]
    Stale(String),
}

/// What a hook asks of its callers.
#[derive(Debug)]
pub(super) struct Gate {
    networks: Vec<IpNet>,
    names: Vec<String>,
    tokens: Vec<Hashed>,
    basic: Vec<Hashed>,
    signatures: Option<Signatures>,
}

/// SHA-256 of a secret: compared instead of it, so that nothing depends on its length.
type Hashed = [u8; 32];

fn hashed(text: &str) -> Hashed {
    Sha256::digest(text).into()
}

/// Whether `shown` is one of `secrets`; takes the same time for every wrong one.
fn is_one_of(secrets: &[Hashed], shown: &str) -> bool {
    let shown = hashed(shown);
    let any = secrets.iter().fold(Choice::from(0), |any, secret| {
        any | secret.as_slice().ct_eq(shown.as_slice())
    });
    any.into()
}

impl Gate {
    pub(super) fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        let secrets = config.secrets()?;
        let all = |texts: &[String]| texts.iter().map(|text| hashed(text)).collect();
        Ok(Self {
            networks: config.networks()?,
            names: config.client_certificate.as_slice().to_vec(),
            tokens: all(&secrets.tokens),
            basic: all(&secrets.basic),
            signatures: (!secrets.hmac.is_empty()).then(|| Signatures::new(config, secrets.hmac)),
        })
    }

    /// What can be checked before the body is read.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Denied> {
        if let Some(address) = caller.address.map(|address| address.to_canonical())
            && !self.networks.is_empty()
            && !self
                .networks
                .iter()
                .any(|network| network.contains(&address))
        {
            return Err(Denied::Address(address));
        }
        let shown = |wanted: &String| caller.names.iter().any(|name| is_name(wanted, name));
        if !self.names.is_empty() && !self.names.iter().any(shown) {
            return Err(Denied::Certificate);
        }
        if !self.tokens.is_empty() {
            let bearer = credentials(&caller.headers, "bearer");
            let shown = bearer.or(caller.token.as_deref()).unwrap_or_default();
            if !is_one_of(&self.tokens, shown) {
                return Err(Denied::Token);
            }
        }
        if !self.basic.is_empty() {
            let shown = credentials(&caller.headers, "basic")
                .and_then(|encoded| Base64::decode_vec(encoded).ok())
                .and_then(|bytes| String::from_utf8(bytes).ok());
            if !is_one_of(&self.basic, &shown.unwrap_or_default()) {
                return Err(Denied::Basic);
            }
        }
        Ok(())
    }

    /// Whether the body is signed, where it must be.
    pub(super) fn check(
        &self,
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Denied> {
        match &self.signatures {
            Some(signatures) => signatures.check(headers, body, now),
            None => Ok(()),
        }
    }
}

/// Whether a certificate's name is the one wanted; `*` is any.
fn is_name(wanted: &str, name: &str) -> bool {
    wanted == "*" || wanted.eq_ignore_ascii_case(name)
}

/// What the `Authorization` header shows of a scheme.
fn credentials<'h>(headers: &'h Headers, scheme: &str) -> Option<&'h str> {
    let (shown, rest) = headers.get("authorization")?.trim().split_once(' ')?;
    shown.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}
