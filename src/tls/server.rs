//! The listening side: our certificate, its key, and who may connect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

use super::{TlsError, authorities, certificates};

/// The files of a TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM, our own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM.
    pub client_ca: Option<PathBuf>,
}

/// Whether a client must have a certificate, where there are authorities for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Without one there is no connection.
    Needed,
    /// It is asked for; one that is shown must be good.
    Asked,
}

impl TlsFiles {
    /// Reads the files: before privileges are dropped, since only root may read most keys.
    pub fn acceptor(&self, clients: Clients) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates("certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File {
            key: "key",
            path: self.key.clone(),
            source,
        })?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(self.client_ca.as_deref(), clients, &provider)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Its files.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_ca)
    }
}

/// Who judges the certificates of callers, by the authorities in this file.
pub(super) fn verifier(
    client_ca: Option<&Path>,
    clients: Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = client_ca else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let roots = Arc::new(authorities("client_ca", path)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    Ok(match clients {
        Clients::Needed => builder.build()?,
        Clients::Asked => builder.allow_unauthenticated().build()?,
    })
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
        let error = |certificate| {
            let acceptor = files(certificate).acceptor(Clients::Asked);
            acceptor.err().unwrap().to_string()
        };
        let missing = error("missing.pem");
        assert!(
            missing.contains("certificate = ") && missing.contains("missing.pem"),
            "{missing}"
        );
        assert!(error("empty.pem").contains("holds no certificate"));
    }
}
