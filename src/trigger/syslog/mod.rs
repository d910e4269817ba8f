//! The syslog listeners: UDP, TCP and TLS.

mod device;
mod encoding;
pub mod framing;
mod message;
mod receive;
mod rehearsal;
mod tcp;
mod udp;
mod zone;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio_rustls::TlsAcceptor;

pub(in crate::trigger) use device::{abbreviation, earlier};
pub use encoding::Charset;
pub use message::Message;
pub use rehearsal::{Rehearsal, Transport};
pub use zone::Zone;

use super::delivery::Delivery;
use super::logfile::LEARN_FROM;
use super::rules::{Line, Rules};
use super::status::{Count, SourceState, Sources};
use super::{Kind, Trigger, drill};
use crate::time::{Timestamp, span};
use crate::tls::{Clients, TlsError, TlsFiles};

/// The receive buffer asked for, so that a burst of datagrams waits in the kernel while we are
/// not scheduled.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// One `[[syslog]]`: an address to listen on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// `udp://ADDRESS:PORT`, `tcp://ADDRESS:PORT` or `tls://ADDRESS:PORT`.
    pub listen: String,
    /// TLS: our certificate and the chain above it, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// TLS: the private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// TLS: the authorities whose certificate a sender must have, PEM; without, anybody may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The IANA zone of timestamps that name none; this machine's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The encoding of messages; `auto` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// How late messages usually come: one without a time of its own is filed this much earlier.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "span")]
    pub late: Duration,
}

/// Why a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// The address is not one.
    #[error(
        "[[syslog]] listen = {0:?} is not an address to listen on: \
         write udp://127.0.0.1:5514, tcp://[::]:514 or tls://0.0.0.0:6514"
    )]
    Address(String),
    /// A TLS listener without a key it needs.
    #[error(
        "[[syslog]] listen = {listen:?}: {key} is missing; TLS needs certificate and key, each a PEM file"
    )]
    Missing {
        /// The address as configured.
        listen: String,
        /// The key.
        key: &'static str,
    },
    /// A key of TLS where there is none: the sender would not be encrypted as somebody thinks.
    #[error(
        "[[syslog]] listen = {listen:?}: {key} is of no use here; write tls:// or leave it out"
    )]
    Useless {
        /// The address as configured.
        listen: String,
        /// The key.
        key: &'static str,
    },
    /// Certificate, key or authorities.
    #[error("[[syslog]] listen = {listen:?}: {source}")]
    Tls {
        /// The address as configured.
        listen: String,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
    /// No such zone.
    #[error(
        "[[syslog]] listen = {listen:?}: zone = {zone:?} is no IANA zone; write Asia/Tokyo or UTC"
    )]
    Zone {
        /// The address as configured.
        listen: String,
        /// The zone as configured.
        zone: String,
    },
    /// No such encoding.
    #[error(
        "[[syslog]] listen = {listen:?}: encoding = {encoding:?} is unknown; write auto, utf-8, shift_jis, euc-jp, iso-2022-jp or latin1"
    )]
    Encoding {
        /// The address as configured.
        listen: String,
        /// The encoding as configured.
        encoding: String,
    },
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// One message a datagram.
    Udp(SocketAddr),
    /// Messages framed as RFC 6587 says.
    Tcp(SocketAddr),
    /// The same within TLS.
    Tls(SocketAddr, TlsFiles),
}

impl SyslogConfig {
    /// The address as a value.
    pub fn parse(&self) -> Result<Listen, SyslogError> {
        self.zone()?;
        self.charset()?;
        let error = || SyslogError::Address(self.listen.clone());
        let (scheme, address) = self.listen.split_once("://").ok_or_else(error)?;
        let address = address.parse().map_err(|_| error())?;
        if scheme == "tls" {
            return Ok(Listen::Tls(address, self.tls_files()?));
        }
        self.no_tls_keys()?;
        match scheme {
            "udp" => Ok(Listen::Udp(address)),
            "tcp" => Ok(Listen::Tcp(address)),
            _ => Err(error()),
        }
    }

    fn zone(&self) -> Result<Zone, SyslogError> {
        let zone = Zone::configured(self.zone.as_deref());
        zone.map_err(|zone| SyslogError::Zone {
            listen: self.listen.clone(),
            zone,
        })
    }

    fn charset(&self) -> Result<Charset, SyslogError> {
        let charset = Charset::configured(self.encoding.as_deref());
        charset.map_err(|encoding| SyslogError::Encoding {
            listen: self.listen.clone(),
            encoding,
        })
    }

    fn tls_files(&self) -> Result<TlsFiles, SyslogError> {
        let needed = |key, value: &Option<PathBuf>| {
            value.clone().ok_or_else(|| SyslogError::Missing {
                listen: self.listen.clone(),
                key,
            })
        };
        Ok(TlsFiles {
            certificate: needed("certificate", &self.certificate)?,
            key: needed("key", &self.key)?,
            client_ca: self.client_ca.clone(),
        })
    }

    fn no_tls_keys(&self) -> Result<(), SyslogError> {
        let keys = [
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("client_ca", &self.client_ca),
        ];
        match keys.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(SyslogError::Useless {
                listen: self.listen.clone(),
                key,
            }),
            None => Ok(()),
        }
    }

    /// Reads the files of a TLS listener; `None` for another.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, SyslogError> {
        let Listen::Tls(_, files) = self.parse()? else {
            return Ok(None);
        };
        let acceptor = files
            .acceptor(Clients::Needed)
            .map_err(|source| SyslogError::Tls {
                listen: self.listen.clone(),
                source,
            })?;
        Ok(Some(acceptor))
    }

    /// Opens the socket, which may need a privilege that is dropped later.
    pub fn bind(&self) -> Result<BoundSyslog, SyslogError> {
        let (zone, charset) = (self.zone()?, self.charset()?);
        let tls = self.tls()?;
        let socket = match self.parse()? {
            Listen::Udp(address) => bind_udp(address).map(BoundSocket::Udp),
            Listen::Tcp(address) | Listen::Tls(address, _) => {
                bind_tcp(address).map(|listener| BoundSocket::Tcp(listener, tls))
            }
        };
        match socket {
            Ok(socket) => Ok(BoundSyslog {
                name: self.listen.clone(),
                socket,
                zone,
                charset,
                late: self.late,
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
    receive::prepare(&socket, RECEIVE_BUFFER_BYTES)?;
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
    zone: Zone,
    charset: Charset,
    late: Duration,
}

enum BoundSocket {
    Udp(UdpSocket),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

impl fmt::Debug for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(socket) => socket.fmt(f),
            Self::Tcp(listener, _) => listener.fmt(f),
        }
    }
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
            BoundSocket::Tcp(listener, _) => listener.local_addr(),
        }
    }

    /// What a drill sends here, or why it cannot. `config` is the listener's own.
    pub fn rehearsal(&self, config: &SyslogConfig) -> Result<Rehearsal, String> {
        let address = self.local_addr().map_err(|error| error.to_string())?;
        let listen = config.parse().map_err(|error| error.to_string())?;
        Rehearsal::new(drill::reach(address), &listen)
    }

    /// Enters the listener in the registry; runs until the delivery's token is cancelled.
    pub async fn run(self, rules: Arc<Rules>, delivery: Delivery) {
        let handle = delivery.handle().clone();
        handle.set(SourceState::Ok, "listening");
        let judge = Judge {
            name: self.name,
            rules,
            zone: self.zone,
            charset: self.charset,
        };
        let ended = match self.socket {
            BoundSocket::Udp(socket) => udp::run(socket, judge, delivery).await,
            BoundSocket::Tcp(listener, tls) => tcp::run(listener, tls, judge, delivery).await,
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
        let handle = sources.register(Kind::Syslog, &self.name);
        handle.declare(self.late);
        handle
    }
}

/// Decides what a message means.
#[derive(Debug)]
struct Judge {
    name: String,
    rules: Arc<Rules>,
    zone: Zone,
    charset: Charset,
}

impl Judge {
    /// The triggers of a message; none when no rule fires.
    fn judge(
        &self,
        frame: &[u8],
        peer: IpAddr,
        received: Timestamp,
        delivery: &Delivery,
    ) -> Vec<Trigger> {
        let handle = delivery.handle();
        handle.count(Count::Received);
        let frame = self.charset.decode(frame);
        let line = Message::line_of(&frame);
        if let Some(drill) = handle.drill(line, received) {
            return vec![drill];
        }
        // Most lines concern no rule: of these the time of one in some is learned from.
        let concern = self.rules.concern(line);
        if !concern && !handle.get(Count::Received).is_multiple_of(LEARN_FROM) {
            return Vec::new();
        }
        let message = Message::parse_in(&frame, received, self.zone);
        let peer = peer.to_canonical().to_string();
        let line = Line {
            kind: Kind::Syslog,
            source: &self.name,
            file: None,
            bytes: message.line,
            host: message.host.as_deref().unwrap_or(&peer),
            severity: message.severity,
            facility: message.facility,
        };
        let time = handle.event_time(message.at, received);
        if time.refused || !concern {
            handle.count_by(Count::Refused, u64::from(concern));
            return Vec::new();
        }
        let mut triggers = self.rules.apply(&line, time.at, received);
        handle.count_by(Count::Matched, u64::from(!triggers.is_empty()));
        for trigger in &mut triggers {
            for (name, value) in &message.data {
                // What a rule captured goes before.
                let entry = trigger.fields.entry(name.clone());
                entry.or_insert_with(|| value.clone());
            }
            trigger.fields.insert("sender".to_owned(), peer.clone());
            time.mark(trigger);
        }
        triggers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(listen: &str) -> Result<Listen, SyslogError> {
        config(listen).parse()
    }

    fn config(listen: &str) -> SyslogConfig {
        toml::from_str(&format!("listen = {listen:?}")).unwrap()
    }

    #[test]
    fn addresses() {
        assert!(matches!(parse("udp://127.0.0.1:5514"), Ok(Listen::Udp(_))));
        assert!(matches!(parse("tcp://[::]:514"), Ok(Listen::Tcp(_))));
        for bad in [
            "",
            "127.0.0.1:514",
            "udp://localhost",
            "tsl://127.0.0.1:6514",
            "udp://:514",
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains("listen") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn the_keys_of_tls_belong_to_tls() {
        let mut tls = config("tls://127.0.0.1:6514");
        let error = tls.parse().unwrap_err().to_string();
        assert!(error.contains("certificate is missing"), "{error}");
        tls.certificate = Some("/etc/ssl/a.pem".into());
        let error = tls.parse().unwrap_err().to_string();
        assert!(error.contains("key is missing"), "{error}");
        tls.key = Some("/etc/ssl/a.key".into());
        assert!(matches!(tls.parse(), Ok(Listen::Tls(..))));
        let mut plain = config("tcp://127.0.0.1:5514");
        plain.client_ca = Some("/etc/ssl/ca.pem".into());
        let error = plain.parse().unwrap_err().to_string();
        assert!(error.contains("client_ca is of no use here"), "{error}");
    }

    #[test]
    fn zone_and_encoding_are_known_ones() {
        let mut config = config("udp://127.0.0.1:5514");
        config.zone = Some("Asia/Tokio".to_owned());
        let error = config.parse().unwrap_err().to_string();
        assert!(error.contains("zone = \"Asia/Tokio\""), "{error}");
        config.zone = Some("Asia/Tokyo".to_owned());
        config.encoding = Some("sjiss".to_owned());
        let error = config.parse().unwrap_err().to_string();
        assert!(error.contains("encoding = \"sjiss\""), "{error}");
        config.encoding = Some("shift_jis".to_owned());
        assert!(config.parse().is_ok());
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = config(&format!("tcp://{}", taken.local_addr().unwrap()));
        let error = config.bind().unwrap_err().to_string();
        assert!(
            error.contains(&config.listen) && error.contains("another program"),
            "{error}"
        );
    }
}
