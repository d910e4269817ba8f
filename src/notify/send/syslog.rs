//! A line to a syslog receiver: a datagram (RFC 5426), or octets counted over TCP (RFC 6587) or
//! within TLS (RFC 5425), on a connection of its own.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UdpSocket, lookup_host};
use tokio_rustls::TlsConnector;

use super::{Failure, connect};
use crate::notify::config::{NotifyConfig, NotifyError};
use crate::notify::event::Event;
use crate::notify::shape::{Look, syslog};
use crate::notify::target;

/// How long the receiver may take to close after us. Syslog has no acknowledgement; that it closes
/// in order is the best sign that it read everything.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::notify) struct Address {
    way: Way,
    host: String,
    port: u16,
}

impl Address {
    pub(in crate::notify) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no address such as \"tls://log.example:6514\", tcp:// or udp://")
        };
        let (way, rest) = text.split_once("://").ok_or_else(wrong)?;
        let way = match way {
            "udp" => Way::Udp,
            "tcp" => Way::Tcp,
            "tls" => Way::Tls,
            _ => return Err(wrong()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let port = port.parse().map_err(|_| wrong())?;
        let host = bare.unwrap_or(host);
        // Without its brackets nobody could tell an IPv6 address from its port.
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Self {
            way,
            host: host.to_owned(),
            port,
        })
    }
}

/// Where lines go, and what that needs.
pub(in crate::notify) struct Line {
    to: String,
    address: Address,
    connector: Option<TlsConnector>,
}

impl Line {
    pub(in crate::notify) fn open(config: &NotifyConfig) -> Result<Self, NotifyError> {
        let to = config.need("address", config.address.as_deref())?;
        let address = Address::parse(to).map_err(|why| config.bad("address", why))?;
        let connector = match address.way {
            Way::Tls => Some(target::roots(config)?),
            _ => None,
        };
        Ok(Self {
            to: to.to_owned(),
            address,
            connector,
        })
    }

    /// Where lines go.
    pub(in crate::notify) fn to(&self) -> &str {
        &self.to
    }

    /// Sends a line for each piece of news.
    pub(in crate::notify) async fn send(
        &self,
        events: &[Event],
        look: &Look,
    ) -> Result<(), Failure> {
        let Address { host, port, .. } = &self.address;
        let lines: Vec<String> = events
            .iter()
            .map(|event| syslog::line(event, look))
            .collect();
        match (&self.address.way, &self.connector) {
            (Way::Udp, _) => self.datagrams(&lines).await,
            (_, Some(connector)) => {
                stream(connect::within_tls(connector, host, *port).await?, &lines).await
            }
            (_, None) => stream(connect::plain(host, *port).await?, &lines).await,
        }
    }

    async fn datagrams(&self, lines: &[String]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::later(format!("cannot send: {error}"));
        let Address { host, port, .. } = &self.address;
        let mut found = lookup_host((host.as_str(), *port)).await.map_err(failed)?;
        let to = found
            .next()
            .ok_or_else(|| Failure::later(format!("{host:?} has no address")))?;
        let own = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(own).await.map_err(failed)?;
        for line in lines {
            socket.send_to(line.as_bytes(), to).await.map_err(failed)?;
        }
        Ok(())
    }
}

async fn stream<S>(mut stream: S, lines: &[String]) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: std::io::Error| Failure::later(format!("cannot send: {error}"));
    for line in lines {
        let framed = format!("{} {line}", line.len());
        stream.write_all(framed.as_bytes()).await.map_err(failed)?;
    }
    stream.shutdown().await.map_err(failed)?;
    let mut rest = [0; 256];
    let closed = async {
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(CLOSED_WITHIN, closed).await {
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            Err(Failure::later(format!("the receiver broke off: {error}")))
        }
        // A TLS receiver may close without saying so.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parse = |text| Address::parse(text).map(|a| (a.way, a.host, a.port));
        assert_eq!(
            parse("udp://log.test:514"),
            Ok((Way::Udp, "log.test".to_owned(), 514))
        );
        assert_eq!(
            parse("tls://[2001:db8::1]:6514"),
            Ok((Way::Tls, "2001:db8::1".to_owned(), 6514))
        );
        for wrong in [
            "",
            "log.test:514",
            "udp://log.test",
            "udp://:514",
            "tcp://2001:db8::1:514",
            "udp://a:99999",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
