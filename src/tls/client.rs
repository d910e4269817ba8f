//! The calling side: whose certificates we believe.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{TlsError, authorities};

/// Whose word about a server's certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust<'a> {
    /// That of the authorities that the machine trusts (`SSL_CERT_FILE`, else where its distribution
    /// keeps them).
    Machine,
    /// Theirs, and that of the authorities in the PEM file of this configuration key.
    Also(&'static str, &'a Path),
    /// That of the authorities in the file alone.
    Only(&'static str, &'a Path),
}

/// A connector that believes whom `trust` names.
pub fn connector(trust: Trust<'_>) -> Result<TlsConnector, TlsError> {
    let mut roots = match trust {
        Trust::Only(key, path) | Trust::Also(key, path) => authorities(key, path)?,
        Trust::Machine => RootCertStore::empty(),
    };
    if !matches!(trust, Trust::Only(..)) {
        // What of the machine's own cannot be read is missed by nobody until it is needed.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a server's certificate must name.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}
