//! The syslog listeners, UDP and TCP.

pub mod framing;
mod message;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

pub use message::Message;

use super::delivery::Delivery;
use super::event_time::{CLOCK_FIELD, event_time};
use super::rules::{Line, Rules};
use super::status::{Count, SourceState, Sources};
use super::{Kind, Trigger};
use crate::time::Timestamp;

/// The receive buffer asked for, so that a burst of datagrams waits in the kernel while we are
/// not scheduled.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// One `[[syslog]]`: an address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// `udp://ADDRESS:PORT` or `tcp://ADDRESS:PORT`.
    pub listen: String,
}

/// Why a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// The address is not one.
    #[error(
        "[[syslog]] listen = {0:?} is not an address to listen on: \
         write udp://127.0.0.1:5514, tcp://0.0.0.0:514 or tcp://[::]:514"
    )]
    Address(String),
    /// The kernel refuses it.
    #[error(
        "[[syslog]] listen = {listen:?}: cannot listen: {source}{}",
        hint(source)
    )]
    Bind {
        /// The address as configured.
        listen: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program (rsyslog?) has this port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}

/// How a listener is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// One message a datagram.
    Udp(SocketAddr),
    /// Messages framed as RFC 6587 says.
    Tcp(SocketAddr),
}

impl SyslogConfig {
    /// The address as a value.
    pub fn parse(&self) -> Result<Listen, SyslogError> {
        let error = || SyslogError::Address(self.listen.clone());
        let (scheme, address) = self.listen.split_once("://").ok_or_else(error)?;
        let address = address.parse().map_err(|_| error())?;
        match scheme {
            "udp" => Ok(Listen::Udp(address)),
            "tcp" => Ok(Listen::Tcp(address)),
            _ => Err(error()),
        }
    }

    /// Opens the socket, which may need a privilege that is dropped later.
    pub fn bind(&self) -> Result<BoundSyslog, SyslogError> {
        let socket = match self.parse()? {
            Listen::Udp(address) => bind_udp(address).map(BoundSocket::Udp),
            Listen::Tcp(address) => bind_tcp(address).map(BoundSocket::Tcp),
        };
        match socket {
            Ok(socket) => Ok(BoundSyslog {
                name: self.listen.clone(),
                socket,
            }),
            Err(source) => Err(SyslogError::Bind {
                listen: self.listen.clone(),
                source,
            }),
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    // As much as net.core.rmem_max allows; less is no error.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(&SockAddr::from(address))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A listener with its socket open.
#[derive(Debug)]
pub struct BoundSyslog {
    name: String,
    socket: BoundSocket,
}

#[derive(Debug)]
enum BoundSocket {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl BoundSyslog {
    /// The listen address as configured: the source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address it really listens on (port 0 takes a free one).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            BoundSocket::Udp(socket) => socket.local_addr(),
            BoundSocket::Tcp(listener) => listener.local_addr(),
        }
    }

    /// Enters the listener in the registry; runs until the delivery's token is cancelled.
    pub async fn run(self, rules: Arc<Rules>, delivery: Delivery) {
        let handle = delivery.handle().clone();
        handle.set(SourceState::Ok, "listening");
        let judge = Judge {
            name: self.name,
            rules,
        };
        let ended = match self.socket {
            BoundSocket::Udp(socket) => udp::run(socket, judge, delivery).await,
            BoundSocket::Tcp(listener) => tcp::run(listener, judge, delivery).await,
        };
        match ended {
            Ok(()) => handle.set(SourceState::Stopped, ""),
            Err(error) => {
                tracing::error!(source = handle.name(), "syslog listener ended: {error}");
                handle.set(SourceState::Failing, error.to_string())
            }
        };
    }

    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> super::status::SourceHandle {
        sources.register(Kind::Syslog, &self.name)
    }
}

/// Decides what a message means.
#[derive(Debug)]
struct Judge {
    name: String,
    rules: Arc<Rules>,
}

impl Judge {
    /// The trigger of a message, or `None` when no rule matches it.
    fn judge(
        &self,
        frame: &[u8],
        peer: IpAddr,
        received: Timestamp,
        delivery: &Delivery,
    ) -> Option<Trigger> {
        let handle = delivery.handle();
        handle.count(Count::Received);
        let message = Message::parse(frame, received);
        let peer = peer.to_canonical().to_string();
        let line = Line {
            kind: Kind::Syslog,
            source: &self.name,
            bytes: message.line,
            host: message.host.as_deref().unwrap_or(&peer),
            severity: message.severity,
        };
        let time = event_time(message.at, received);
        let mut trigger = self.rules.apply(&line, time.at, received)?;
        handle.count(Count::Matched);
        trigger.fields.insert("sender".to_owned(), peer);
        if let Some(clock) = time.clock {
            trigger
                .fields
                .insert(CLOCK_FIELD.to_owned(), clock.to_owned());
        }
        Some(trigger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(listen: &str) -> Result<Listen, SyslogError> {
        SyslogConfig {
            listen: listen.to_owned(),
        }
        .parse()
    }

    #[test]
    fn addresses() {
        assert!(matches!(parse("udp://127.0.0.1:5514"), Ok(Listen::Udp(_))));
        assert!(matches!(parse("tcp://[::]:514"), Ok(Listen::Tcp(_))));
        for bad in [
            "",
            "127.0.0.1:514",
            "udp://localhost",
            "tls://127.0.0.1:6514",
            "udp://:514",
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("listen") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = SyslogConfig {
            listen: format!("tcp://{}", taken.local_addr().unwrap()),
        };
        let error = config.bind().unwrap_err().to_string();
        assert!(
            error.contains(&config.listen) && error.contains("another program"),
            "{error}"
        );
    }
}
