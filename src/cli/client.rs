//! The HTTP client of the commands: over the local unix socket, or to another machine by `--url`.
//! Blocking, one request per connection.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::http::HeaderValue;
use hyper::http::uri::Uri;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::tls::{self, TlsError, Trust};

/// A server that has not begun to answer by then is given up.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
/// The same for a download, before it begins and in the middle: a rare filter makes the server
/// read the whole ring between two packets.
const DOWNLOAD_WITHIN: Duration = Duration::from_mins(30);
/// JSON answers are not longer than this.
const JSON_BYTES_MAX: usize = 256 << 20;
/// What may stand unescaped in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Here.
    Socket(PathBuf),
    /// There: host and port.
    Tcp {
        /// As it stands in the URL, for the `Host` header.
        authority: String,
        /// To connect to.
        host: String,
        /// To connect to.
        port: u16,
        /// Within TLS.
        tls: bool,
    },
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("--url {url}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Whom to believe.
    #[error("--ca: {0}")]
    Tls(#[from] TlsError),
    /// Nobody listens.
    #[error("no server answers at {at}: {source}; is `wirewitness serve` running?")]
    Unreachable {
        /// Where it was tried.
        at: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The server refused, with reasons.
    #[error("{detail} ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem.
        code: String,
        /// The server's explanation.
        detail: String,
    },
    /// The conversation broke off or made no sense.
    #[error("{at}: {why}")]
    Broken {
        /// With whom.
        at: String,
        /// What happened.
        why: String,
    },
    /// What was downloaded could not be written.
    #[error("cannot write what was downloaded: {0}")]
    Write(#[source] io::Error),
    /// No runtime: the system is out of something.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// What a download was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Bytes written.
    pub bytes: u64,
    /// The file name the server suggests.
    pub name: Option<String>,
    /// Whether it was taken before the incident was sealed.
    pub provisional: bool,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// A client of one server.
pub struct Client {
    server: Server,
    tls: Option<TlsConnector>,
    token: Option<String>,
    runtime: Runtime,
    answer_within: Duration,
    download_within: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server on this machine.
    pub fn local(socket: &Path, token: Option<String>) -> Result<Self, ClientError> {
        Self::new(Server::Socket(socket.to_owned()), None, token)
    }

    /// A client of the server at `url` (`http://host:port` or `https://host:port`), which must
    /// show a certificate of the authorities in `ca`, without it of those this machine trusts.
    pub fn remote(
        url: &str,
        ca: Option<&Path>,
        token: Option<String>,
    ) -> Result<Self, ClientError> {
        let server = parse_url(url)?;
        let tls = match &server {
            Server::Tcp { tls: true, .. } => {
                let trust = ca.map_or(Trust::Machine, |path| Trust::Only("--ca", path));
                Some(tls::connector(trust)?)
            }
            _ => None,
        };
        Self::new(server, tls, token)
    }

    fn new(
        server: Server,
        tls: Option<TlsConnector>,
        token: Option<String>,
    ) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ClientError::Runtime)?;
        Ok(Self {
            server,
            tls,
            token,
            runtime,
            answer_within: ANSWER_WITHIN,
            download_within: DOWNLOAD_WITHIN,
        })
    }

    /// `GET` of JSON. Parameters without a value are left out.
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, Option<&str>)],
    ) -> Result<T, ClientError> {
        let target = with_query(path, parameters);
        self.runtime.block_on(async {
            let answer = self
                .ask(Method::GET, &target, None, self.answer_within)
                .await?;
            self.json(answer).await
        })
    }

    /// `POST` of JSON, answered with JSON.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, ClientError> {
        self.runtime.block_on(async {
            let body = Some(body.to_string());
            let answer = self
                .ask(Method::POST, path, body, self.answer_within)
                .await?;
            self.json(answer).await
        })
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            self.ask(Method::DELETE, path, None, self.answer_within)
                .await?;
            Ok(())
        })
    }

    /// `GET` of a file, written to `out` as it comes.
    pub fn download(
        &self,
        path: &str,
        parameters: &[(&str, Option<&str>)],
        out: &mut dyn Write,
    ) -> Result<Downloaded, ClientError> {
        let target = with_query(path, parameters);
        self.runtime.block_on(async {
            let mut answer = self
                .ask(Method::GET, &target, None, self.download_within)
                .await?;
            let mut downloaded = describe(&answer.response);
            let body = answer.response.body_mut();
            loop {
                let frame = tokio::time::timeout(self.download_within, body.frame()).await;
                let frame = frame.map_err(|_| self.broken("the download stopped"))?;
                let Some(frame) = frame else {
                    break;
                };
                let frame = frame.map_err(|error| {
                    self.broken(format!("the download broke off, it is not whole: {error}"))
                })?;
                if let Some(chunk) = frame.data_ref() {
                    out.write_all(chunk).map_err(ClientError::Write)?;
                    downloaded.bytes += u64::try_from(chunk.len()).unwrap_or_default();
                }
            }
            out.flush().map_err(ClientError::Write)?;
            Ok(downloaded)
        })
    }

    /// Waits.
    pub fn pause(&self, span: Duration) {
        // The timer belongs to the runtime: it is made within.
        self.runtime
            .block_on(async { tokio::time::sleep(span).await });
    }

    /// Sends a request; an answer that is no success becomes an error.
    async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<String>,
        within: Duration,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, target, body)?;
        let asked = tokio::time::timeout(within, self.send(request)).await;
        let answer = asked.map_err(|_| self.broken("the server does not answer"))??;
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(self.refusal(status, answer).await)
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.server {
            Server::Socket(_) => "localhost",
            Server::Tcp { authority, .. } => authority,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, host)
            .header(
                USER_AGENT,
                concat!("wirewitness/", env!("CARGO_PKG_VERSION")),
            )
            .header(ACCEPT, "*/*");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| self.broken("the token holds odd characters"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = Full::from(body.unwrap_or_default());
        let request = request.body(body);
        request.map_err(|error| self.broken(format!("the request cannot be made: {error}")))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        match &self.server {
            Server::Socket(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| self.unreachable(error))?;
                self.exchange(TokioIo::new(stream), request).await
            }
            Server::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|error| self.unreachable(error))?;
                let Some(tls) = &self.tls else {
                    return self.exchange(TokioIo::new(stream), request).await;
                };
                let name = tls::server_name(host);
                let name = name.ok_or_else(|| self.broken("no certificate can name this host"))?;
                let stream = tls.connect(name, stream).await;
                let stream = stream.map_err(|error| self.broken(format!("no TLS: {error}")))?;
                self.exchange(TokioIo::new(stream), request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| self.broken(format!("the request failed: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Answer {
            response,
            _connection: Driver(connection),
        })
    }

    async fn json<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, ClientError> {
        let body = http_body_util::Limited::new(answer.response.into_body(), JSON_BYTES_MAX);
        let body = body.collect().await;
        let body = body.map_err(|error| self.broken(format!("the answer broke off: {error}")))?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| self.broken(format!("the answer makes no sense: {error}")))
    }

    async fn refusal(&self, status: StatusCode, answer: Answer) -> ClientError {
        let reason = status.canonical_reason().unwrap_or("refused");
        let problem = self.json(answer).await.unwrap_or_else(|_| Problem {
            code: String::new(),
            detail: format!("{}: {reason}", self.at()),
        });
        ClientError::Refused {
            status: status.as_u16(),
            code: problem.code,
            detail: problem.detail,
        }
    }

    fn at(&self) -> String {
        match &self.server {
            Server::Socket(path) => path.display().to_string(),
            Server::Tcp { authority, tls, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                format!("{scheme}://{authority}")
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let at = self.at();
        ClientError::Unreachable { at, source }
    }

    fn broken(&self, why: impl Into<String>) -> ClientError {
        ClientError::Broken {
            at: self.at(),
            why: why.into(),
        }
    }
}

/// A response and the task that drives its connection.
struct Answer {
    response: Response<Incoming>,
    _connection: Driver,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn parse_url(url: &str) -> Result<Server, ClientError> {
    let error = |why| ClientError::Url {
        url: url.to_owned(),
        why,
    };
    let uri: Uri = url.parse().map_err(|_| error("write http://host:8642"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(error("write https://host:8642 or http://host:8642")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(error("give host and port only, no path"));
    }
    let authority = uri.authority().ok_or_else(|| error("there is no host"))?;
    if authority.as_str().contains('@') {
        return Err(error("no user name here: use --token"));
    }
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Server::Tcp {
        authority: authority.as_str().to_owned(),
        host: bare.to_owned(),
        port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        tls,
    })
}

fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    let given = parameters.iter();
    let given = given.filter_map(|(name, value)| Some((name, (*value)?)));
    for (position, (name, value)) in given.enumerate() {
        target.push(if position == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.extend(utf8_percent_encode(value, PLAIN));
    }
    target
}

fn describe(response: &Response<Incoming>) -> Downloaded {
    let headers = response.headers();
    let disposition = headers.get(CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| value.to_str().ok());
    Downloaded {
        bytes: 0,
        name: disposition.and_then(file_name),
        provisional: headers.contains_key("x-wirewitness-provisional"),
    }
}

/// The name in a `Content-Disposition`, if it is safe to use as one.
fn file_name(disposition: &str) -> Option<String> {
    let (_, rest) = disposition.split_once("filename=\"")?;
    let (name, _) = rest.split_once('"')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let safe = !name.is_empty() && !name.starts_with(['.', '-']) && name.bytes().all(plain);
    safe.then(|| name.to_owned())
}

/// The path of an incident, or of something below it. The id is escaped: it comes from the
/// command line.
pub fn incident_path(id: &str, below: &str) -> String {
    let id = utf8_percent_encode(id, PLAIN);
    format!("/api/v1/incidents/{id}{below}")
}

/// The path that tries whether a target is told. The name is escaped.
pub fn notify_path(name: &str) -> String {
    let name = utf8_percent_encode(name, PLAIN);
    format!("/api/v1/notify/{name}/test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_and_port() {
        let tcp = |authority: &str, host: &str, port| Server::Tcp {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            tls: false,
        };
        assert_eq!(
            parse_url("http://box:8642").unwrap(),
            tcp("box:8642", "box", 8642)
        );
        assert_eq!(
            parse_url("http://[::1]:8642/").unwrap(),
            tcp("[::1]:8642", "::1", 8642)
        );
        let Server::Tcp { port, tls, .. } = parse_url("https://box").unwrap() else {
            panic!("not over TCP");
        };
        assert_eq!((port, tls), (443, true));
        for bad in ["box:8642", "http://box/x", "http://u@box", "ftp://box"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_download_is_waited_for_longer_than_another_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (_never, late) = std::sync::mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            let (ignored, _) = listener.accept().unwrap();
            let (mut answered, _) = listener.accept().unwrap();
            // Longer than another answer may take.
            assert!(late.recv_timeout(Duration::from_millis(300)).is_err());
            answered
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
            drop(ignored);
        });
        let mut client = Client::local(&path, None).unwrap();
        assert!(client.download_within >= Duration::from_mins(30));
        client.answer_within = Duration::from_millis(100);
        let given_up = client.get::<String>("/x", &[]).unwrap_err();
        assert!(
            given_up.to_string().contains("does not answer"),
            "{given_up}"
        );
        let mut out = Vec::new();
        let got = client.download("/x", &[], &mut out).unwrap();
        assert_eq!((got.bytes, out.as_slice()), (2, &b"ok"[..]));
        server.join().unwrap();
    }

    #[test]
    fn values_are_escaped_and_absent_ones_left_out() {
        let parameters = [
            ("filter", Some("host 192.0.2.1 & port 80")),
            ("from", None),
            ("to", Some("2026-11-23T10:00:00+01:00")),
        ];
        assert_eq!(
            with_query("/x", &parameters),
            "/x?filter=host%20192.0.2.1%20%26%20port%2080&to=2026-11-23T10%3A00%3A00%2B01%3A00"
        );
        assert_eq!(
            incident_path("../x?y", "/pcap"),
            "/api/v1/incidents/..%2Fx%3Fy/pcap"
        );
    }

    #[test]
    fn only_a_harmless_name_is_taken_from_the_server() {
        let name = |name: &str| file_name(&format!("attachment; filename=\"{name}\""));
        assert_eq!(
            name("wirewitness-1.pcapng").as_deref(),
            Some("wirewitness-1.pcapng")
        );
        for bad in ["", "../x", ".bashrc", "-rf", "a/b", "a b"] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
