//! Syslog over TLS (RFC 5425): the certificate, its key and who may connect. What flows inside is
//! read as over plain TCP.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The files of a TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, our own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM; with it, a client must have one.
    pub client_ca: Option<PathBuf>,
}

/// Why a TLS listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{key} = {path:?}: {source}")]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{key} = {path:?}: holds no certificate; give a PEM file with BEGIN CERTIFICATE")]
    Empty {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A certificate of an authority is none.
    #[error("client_ca = {path:?}: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("client_ca: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// Certificate and key do not fit, or the key is of an unknown kind.
    #[error("certificate and key: {0}; does the key belong to the certificate?")]
    Pair(#[from] rustls::Error),
}

impl TlsFiles {
    /// Reads the files: before privileges are dropped, since only root may read most keys.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates("certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File {
            key: "key",
            path: self.key.clone(),
            source,
        })?;
        let provider = Arc::new(ring::default_provider());
        let clients = match &self.client_ca {
            Some(path) => verifier(path, &provider)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::File {
        key,
        path: path.to_owned(),
        source,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(error)?
        .collect();
    let found = found.map_err(error)?;
    if found.is_empty() {
        return Err(TlsError::Empty {
            key,
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// Asks every client for a certificate of one of these authorities.
fn verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty.pem"), "not a certificate\n").unwrap();
        let files = |certificate: &str| TlsFiles {
            certificate: path(certificate),
            key: path("key.pem"),
            client_ca: None,
        };
        let error = |certificate| files(certificate).acceptor().err().unwrap().to_string();
        let missing = error("missing.pem");
        assert!(
            missing.contains("certificate = ") && missing.contains("missing.pem"),
            "{missing}"
        );
        assert!(error("empty.pem").contains("holds no certificate"));
    }
}
