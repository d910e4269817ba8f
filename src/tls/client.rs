//! The calling side: whose certificates we believe.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{TlsError, authorities};

/// Where Linux distributions keep the authorities that a machine trusts, as one PEM file.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A connector that believes the authorities of `ca`, or without it those that the machine
/// trusts (`SSL_CERT_FILE`, else where its distribution keeps them).
pub fn connector(ca: Option<&Path>) -> Result<TlsConnector, TlsError> {
    let roots = match ca {
        Some(path) => authorities("ca", path)?,
        None => system(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The machine's authorities; those among them that nobody can use are passed over.
fn system() -> RootCertStore {
    let named = std::env::var_os("SSL_CERT_FILE");
    let bundles = BUNDLES.iter().map(Path::new);
    let mut files = named.iter().map(Path::new).chain(bundles);
    let mut roots = RootCertStore::empty();
    if let Some(found) = files.find_map(|path| super::certificates("ca", path).ok()) {
        roots.add_parsable_certificates(found);
    }
    roots
}

/// What a server's certificate must name.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}
