//! TLS as a client: the machine's authorities, and those of `ca_file`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Failure;

/// Reads the authorities.
pub(in crate::notify) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    // What of the machine's own cannot be read is missed by nobody until it is needed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let bad = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let found = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
        let before = roots.len();
        for certificate in found {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.len() == before {
            return Err(bad(
                &"holds no certificate; give a PEM file with BEGIN CERTIFICATE",
            ));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects to `host`, within TLS.
pub(in crate::notify) async fn connect(
    connector: &TlsConnector,
    host: &str,
    port: u16,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::never(format!("{host:?} is no name that a certificate could have"))
    })?;
    let stream = plain(host, port).await?;
    connector
        .connect(name, stream)
        .await
        .map_err(|error| refused(&error))
}

/// Connects to `host`.
pub(in crate::notify) async fn plain(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect((host, port)).await;
    stream.map_err(|error| Failure::later(format!("cannot connect: {error}")))
}

fn refused(error: &io::Error) -> Failure {
    let text = error.to_string();
    let hint = if text.contains("UnknownIssuer") {
        "; if an authority of your own signed its certificate, name it in ca_file"
    } else {
        ""
    };
    Failure::later(format!("TLS: {text}{hint}"))
}
