//! The requests of drills to our own web server: over TCP as a monitoring system's, over the unix
//! socket as the command line's.

use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::tls::{TlsFiles, own_name, to_ourselves};
use crate::trigger::cut;
use crate::trigger::text::inert;
use crate::trigger::webhook::Call;

/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// What is shown of one that is no success.
const SHOWN_BYTES_MAX: usize = 300;

/// Posts to the web server's address, within TLS where it speaks it. The error is what it answered, or
/// why it did not.
pub(super) async fn over_tcp(
    to: SocketAddr,
    tls: Option<&TlsFiles>,
    call: &Call,
) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("the web server at {to}: {error}");
    let stream = TcpStream::connect(to).await.map_err(failed)?;
    let host = to.to_string();
    let Some(files) = tls else {
        return post(TokioIo::new(stream), &host, call).await;
    };
    // Read each time: certificates are renewed.
    let connector = to_ourselves(files, false)?;
    let stream = connector.connect(own_name(to.ip()), stream).await;
    post(TokioIo::new(stream.map_err(failed)?), &host, call).await
}

/// Posts to the web server's socket.
pub(super) async fn over_unix(socket: &Path, call: &Call) -> Result<String, String> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| format!("{}: {error}", socket.display()))?;
    post(TokioIo::new(stream), "localhost", call).await
}

async fn post<S>(stream: S, host: &str, call: &Call) -> Result<String, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| format!("the request failed: {error}");
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&call.path)
        .header(HOST, host);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::from(call.body.clone()));
    let request = request.map_err(|error| format!("the request cannot be made: {error}"))?;
    let handshake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(stream);
    let (mut sender, connection) = handshake.await.map_err(text)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map(http_body_util::Collected::to_bytes);
        let body = inert(&body.unwrap_or_default());
        if status.is_success() {
            return Ok(format!("answered {}", status.as_u16()));
        }
        let body = cut(&body, SHOWN_BYTES_MAX);
        Err(format!("answered {}: {body}", status.as_u16()))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => match ended {
            Ok(()) => Err("the web server closed the connection".to_owned()),
            Err(error) => Err(text(error)),
        },
    }
}
