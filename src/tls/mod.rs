//! TLS: certificates and keys read from PEM files, who may connect, and whom we trust.
//! rustls with ring throughout; nothing of it is seen by who speaks through it.

mod client;
mod names;
mod own;
mod server;

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::server::VerifierBuilderError;
use tokio_rustls::rustls::{self, RootCertStore};

pub use client::{Trust, connector, server_name};
pub use names::of_certificate;
pub use own::{own_name, to_ourselves};
pub use server::{Clients, TlsFiles};

/// Why TLS cannot be set up.
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
    #[error("{path:?}: {source}")]
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

/// The authorities of a PEM file.
fn authorities(key: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        let added = roots.add(certificate);
        added.map_err(|source| TlsError::Authority {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}
