//! `[web]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::span;
use crate::tls::TlsFiles;

/// Where the web server listens and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// The address of API and UI. Without a certificate it speaks plain HTTP, which beyond loopback
    /// belongs behind a TLS proxy.
    pub listen: SocketAddr,
    /// TLS: our certificate and the chain above it, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// TLS: the private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// TLS: the authorities of client certificates, PEM. Clients are asked for one; only hooks
    /// with `client_certificate` need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The unix socket of the local commands; empty for none.
    pub socket: PathBuf,
    /// Further names this server goes by, as in a proxy's `Host` header.
    pub hosts: Vec<String>,
    /// How long a login lasts.
    #[serde(with = "span")]
    pub session: Duration,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8642)),
            certificate: None,
            key: None,
            client_ca: None,
            socket: PathBuf::from("/run/wirewitness/api.sock"),
            hosts: Vec::new(),
            session: Duration::from_hours(12),
        }
    }
}

impl WebConfig {
    /// The files of TLS; `None` for plain HTTP. The error names the key that is missing.
    pub fn tls(&self) -> Result<Option<TlsFiles>, &'static str> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.client_ca.clone(),
            })),
            (Some(_), None) => Err("key"),
            (None, Some(_)) => Err("certificate"),
            (None, None) if self.client_ca.is_some() => Err("certificate"),
            (None, None) => Ok(None),
        }
    }

    /// How the address is reached: `https://...` or `http://...`.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = match self.tls() {
            Ok(None) => "http",
            _ => "https",
        };
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_tls_go_together() {
        let mut web = WebConfig::default();
        assert_eq!(web.tls(), Ok(None));
        assert_eq!(web.url(web.listen), "http://127.0.0.1:8642");
        web.client_ca = Some("ca.pem".into());
        assert_eq!(web.tls(), Err("certificate"));
        web.certificate = Some("cert.pem".into());
        assert_eq!(web.tls(), Err("key"));
        web.key = Some("key.pem".into());
        assert!(matches!(web.tls(), Ok(Some(_))));
        assert_eq!(web.url(web.listen), "https://127.0.0.1:8642");
    }
}
