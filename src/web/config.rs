//! `[web]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::span;

/// Where the web server listens and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// The address of API and UI. Plain HTTP: beyond loopback it belongs behind a TLS proxy.
    pub listen: SocketAddr,
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
            socket: PathBuf::from("/run/wirewitness/api.sock"),
            hosts: Vec::new(),
            session: Duration::from_hours(12),
        }
    }
}
