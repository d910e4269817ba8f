//! TCP connections as probes: begun without waiting, closed as soon as they are decided.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::socket::Way;

/// A connection under way.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) socket: ConnectingSocket,
    /// The probe's place.
    pub(super) place: usize,
    /// The number of its packet.
    pub(super) seq: u64,
    /// Where it goes.
    pub(super) to: SocketAddr,
}

/// Its socket.
#[derive(Debug)]
pub(super) struct ConnectingSocket(Socket);

impl AsFd for ConnectingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Why a connection did not begin.
#[derive(Debug)]
pub(super) enum Failed {
    /// The other side, or a router, said so.
    Refused(String),
    /// This host did not send.
    Unsent(io::Error),
}

/// Sends the SYN.
pub(super) fn begin(way: &Way, interface: Option<&str>) -> Result<ConnectingSocket, Failed> {
    let socket = prepare(way, interface).map_err(Failed::Unsent)?;
    match socket.connect(&way.to.into()) {
        Ok(()) => Ok(ConnectingSocket(socket)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            Ok(ConnectingSocket(socket))
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => {
                Err(Failed::Refused(words(&error, way.to)))
            }
            _ => Err(Failed::Unsent(error)),
        },
    }
}

fn prepare(way: &Way, interface: Option<&str>) -> io::Result<Socket> {
    let v4 = way.to.is_ipv4();
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    match (way.ttl, v4) {
        (Some(ttl), true) => socket.set_ttl_v4(u32::from(ttl))?,
        (Some(ttl), false) => socket.set_unicast_hops_v6(u32::from(ttl))?,
        (None, _) => {}
    }
    match (way.tos, v4) {
        (Some(tos), true) => socket.set_tos_v4(u32::from(tos))?,
        (Some(tos), false) => socket.set_tclass_v6(u32::from(tos))?,
        (None, _) => {}
    }
    if let Some(source) = way.from {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// The port we connect from.
pub(super) fn local_port(connecting: &ConnectingSocket) -> u16 {
    let address = connecting.0.local_addr().ok();
    let address = address.and_then(|address| address.as_socket());
    address.map_or(0, |address| address.port())
}

/// What became of a connection that is decided; the error says why it failed.
pub(super) fn outcome(connecting: &Connecting) -> Result<(), String> {
    let socket = &connecting.socket.0;
    match socket.take_error() {
        Ok(None) => Ok(()),
        Ok(Some(error)) | Err(error) => Err(words(&error, connecting.to)),
    }
}

fn words(error: &io::Error, to: SocketAddr) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => {
            format!("{}, says {}", plain(error), to.ip())
        }
        _ => plain(error).to_owned(),
    }
}

fn plain(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connection refused",
        Some(libc::ECONNRESET) => "connection reset",
        Some(libc::EHOSTUNREACH) => "host unreachable",
        Some(libc::ENETUNREACH) => "network unreachable",
        Some(libc::EACCES | libc::EPERM) => "administratively prohibited",
        Some(libc::ETIMEDOUT) => "no answer to the SYN",
        _ => "connection failed",
    }
}
