//! Connections to receivers, plain and within TLS.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Failure;
use crate::tls::server_name;

/// Connects to `host`, within TLS.
pub(in crate::notify) async fn within_tls(
    connector: &TlsConnector,
    host: &str,
    port: u16,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = server_name(host).ok_or_else(|| {
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
