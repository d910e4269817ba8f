//! A POST: one request per connection, redirects not followed.

use std::time::Duration;

use chrono::DateTime;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::http::uri::{Scheme, Uri};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;

use super::{Failure, connect};
use crate::notify::config::{NotifyConfig, NotifyError};
use crate::notify::target;
use crate::time::Timestamp;
use crate::trigger::webhook::{check_secret, sign_standard};

/// How much of a refusal is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where a POST goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::notify) struct Place {
    https: bool,
    host: String,
    port: u16,
    /// As it stands in the URL, for the `Host` header.
    authority: String,
    path: String,
}

impl Place {
    /// Takes a URL apart. The URL may be a secret: no error repeats it.
    pub(in crate::notify) fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url
            .trim()
            .parse()
            .map_err(|error| format!("is not a URL: {error}"))?;
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("must begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user name or password; give token instead".to_owned());
        }
        let path = uri.path_and_query();
        let host = authority.host();
        Ok(Self {
            https,
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// What a POST needs.
pub(in crate::notify) struct Post {
    place: Place,
    to: String,
    connector: Option<TlsConnector>,
    bearer: Option<HeaderValue>,
    secret: Option<String>,
}

impl Post {
    pub(in crate::notify) fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let url = config.secret("url")?;
        let url = config.need("url", url.as_deref())?;
        let place = Place::parse(url).map_err(|why| config.bad("url", why))?;
        let connector = if place.https {
            Some(target::roots(config)?)
        } else {
            None
        };
        let bearer = match config.secret("token")? {
            Some(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value
                    .map_err(|_| config.bad("token", "holds characters that no header can"))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let secret = config.secret("hmac_secret")?;
        if let Some(secret) = &secret {
            check_secret(secret).map_err(|why| config.bad("hmac_secret", why))?;
        }
        // The path of a chat's hook is its secret.
        let scheme = if place.https { "https" } else { "http" };
        Ok(Self {
            to: format!("{scheme}://{}", place.authority),
            place,
            connector,
            bearer,
            secret,
        })
    }

    /// Where it goes, without the path.
    pub(in crate::notify) fn to(&self) -> &str {
        &self.to
    }

    /// Posts a body. `id` is the same each time the same message is sent.
    pub(in crate::notify) async fn send(
        &self,
        id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let request = self.request(id, body, now)?;
        let answer = if let Some(connector) = &self.connector {
            let stream = connect::within_tls(connector, &self.place.host, self.place.port).await?;
            exchange(TokioIo::new(stream), request).await?
        } else {
            let stream = connect::plain(&self.place.host, self.place.port).await?;
            exchange(TokioIo::new(stream), request).await?
        };
        judge(&answer, now)
    }

    fn request(
        &self,
        id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let seconds = (now.as_ns() / 1_000_000_000).to_string();
        let mut request = Request::post(&self.place.path)
            .header(HOST, &self.place.authority)
            .header(
                USER_AGENT,
                concat!("wirewitness/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "application/json")
            .header(HeaderName::from_static("webhook-id"), id)
            .header(HeaderName::from_static("webhook-timestamp"), &seconds);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(secret) = &self.secret {
            let signature = sign_standard(secret, id, &seconds, body);
            request = request.header(HeaderName::from_static("webhook-signature"), signature);
        }
        let request = request.body(Full::from(body.to_vec()));
        request.map_err(|error| Failure::never(format!("the request cannot be made: {error}")))
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failure>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Failure::later(format!("the request failed: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(broken)?;
    // The connection is driven here: when the attempt is given up, it ends with it.
    let answer = async {
        let answer: Response<Incoming> = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        // An answer that breaks off has its status all the same.
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_or_else(|_| Bytes::new(), Collected::to_bytes);
        Ok(Response::from_parts(head, body))
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "notification: the connection ended");
            }
            answer.await
        }
    }
}

fn judge(answer: &Response<Bytes>, now: Timestamp) -> Result<(), Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let header = |name| {
        answer
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if status.is_redirection() {
        let location = header(LOCATION).unwrap_or("elsewhere");
        return Err(Failure::never(format!(
            "answered {status}, to {location}; redirects are not followed: give the final address"
        )));
    }
    let said = String::from_utf8_lossy(answer.body());
    let said = said.trim();
    let why = match said {
        "" => format!("answered {status}"),
        said => format!("answered {status}: {said}"),
    };
    let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !again.contains(&status) {
        return Err(Failure::never(why));
    }
    let asked = header(RETRY_AFTER).and_then(|text| retry_after(text, now));
    match Failure::later(why) {
        Failure::Later { why, .. } => Err(Failure::Later { why, after: asked }),
        never @ Failure::Never { .. } => Err(never),
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    let at = u64::try_from(at.timestamp_nanos_opt()?).ok()?;
    Some(Timestamp::from_ns(at).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let place = Place::parse("https://hooks.test/services/T0/B0?x=1").unwrap();
        assert_eq!(
            (place.port, place.path.as_str()),
            (443, "/services/T0/B0?x=1")
        );
        let six = Place::parse("http://[2001:db8::1]:8080").unwrap();
        assert_eq!(
            (six.host.as_str(), six.port, six.path.as_str()),
            ("2001:db8::1", 8080, "/")
        );
        assert_eq!(six.authority, "[2001:db8::1]:8080");
        for wrong in [
            "",
            "hooks.test/x",
            "ftp://h/x",
            "https:///x",
            "https://u:p@h/x",
            "h ttp://x",
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_time_in_two_ways() {
        let now: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let wait = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Sat, 28 Nov 2026 10:01:30 GMT"), Some(90));
        assert_eq!(wait("Sat, 28 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn what_is_final_and_what_is_not() {
        for (status, last) in [
            (301, true),
            (400, true),
            (401, true),
            (404, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let answer = Response::builder()
                .status(status)
                .header(RETRY_AFTER, "7")
                .body(Bytes::from_static(b"no\x1b[31m"))
                .unwrap();
            let failure = judge(&answer, Timestamp::MIN).unwrap_err();
            assert_eq!(failure.is_final(), last, "{status}");
            assert_eq!(failure.after().is_some(), !last, "{status}");
            assert!(!failure.to_string().contains('\x1b'));
        }
    }
}
