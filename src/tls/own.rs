//! Calling a listener of ours: a drill knows whose certificate it must see.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject,
};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::server::verifier;
use super::{Clients, TlsError, TlsFiles, certificates};

/// A client that takes the listener's own certificate and no other. Where the listener asks its callers
/// for one and `shows` is set, it shows the same, if that is one which is taken.
pub fn to_ourselves(files: &TlsFiles, shows: bool) -> Result<TlsConnector, String> {
    let text = |error: TlsError| error.to_string();
    let other = |error: Error| error.to_string();
    let chain = certificates("certificate", &files.certificate).map_err(text)?;
    let own = chain.first().cloned().ok_or("it has no certificate")?;
    let provider = Arc::new(ring::default_provider());
    let verifies = Arc::new(OnlyOwn {
        own: own.clone(),
        provider: Arc::clone(&provider),
    });
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(verifies);
    let Some(path) = files.client_ca.as_ref().filter(|_| shows) else {
        return Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())));
    };
    let clients = verifier(Some(path), Clients::Needed, &provider).map_err(text)?;
    let rest = chain.get(1..).unwrap_or_default();
    clients
        .verify_client_cert(&own, rest, UnixTime::now())
        .map_err(|error| {
            format!(
                "it asks senders for a certificate of client_ca, and its own, which a drill would show, is not one ({error})"
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| error.to_string())?;
    let config = config.with_client_auth_cert(chain, key).map_err(other)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name asked for; of no matter, since only one certificate is taken.
pub fn own_name(address: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(address.into())
}

/// Trusts one certificate, whoever signed it and whatever its name.
#[derive(Debug)]
struct OnlyOwn {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyOwn {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.own {
            Ok(ServerCertVerified::assertion())
        } else {
            let what = "the listener shows another certificate than its configuration names";
            Err(Error::General(what.to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}
