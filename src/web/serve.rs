//! The accept loop: bounded in connections and in patience.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::keys::Keys;
use super::listen::Bound;
use super::routes;
use super::state::App;
use crate::tls;

/// Connections over TCP at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// Of these from one address, so that one client cannot take every place.
const CONNECTIONS_PER_PEER: usize = 128;
/// The same for the unix socket, apart, so that the local operator is never crowded out.
const SOCKET_CONNECTIONS_MAX: usize = 64;
/// A client that has not agreed on its keys by then is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection: a handshake's record.
const TLS_HANDSHAKE: u8 = 0x16;
/// What who speaks plain HTTP to a port with TLS is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 49\r\n\r\nthis port speaks TLS: write https:// and not http\n";
/// A client that has not sent its request's headers by then is dropped.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long running answers may go on after the stop.
const STOP_WITHIN: Duration = Duration::from_millis(700);
/// A client that acknowledges nothing, or leaves no room for our answer, is cut off by the kernel:
/// a write to it would never end.
const UNREAD_MAX: Duration = Duration::from_mins(1);
/// How long to wait when the kernel has no file descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Over the network.
    Tcp {
        /// Its address.
        remote: SocketAddr,
        /// Ours.
        local: SocketAddr,
        /// Within TLS.
        tls: bool,
    },
    /// Over the unix socket, as this user.
    Unix {
        /// The user's id, by the kernel's word.
        uid: u32,
    },
}

/// The names in the certificate that a client has shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(pub(super) Arc<[String]>);

/// Serves until `stop` is cancelled; streams end with it, other answers get a moment to finish.
pub async fn serve(bound: Bound, app: App, stop: CancellationToken) -> io::Result<()> {
    let tcp = TcpListener::from_std(bound.tcp)?;
    let router = routes::router(app);
    let tracker = TaskTracker::new();
    if let Some(keys) = bound.tls.clone() {
        tracker.spawn(keys.follow(stop.clone()));
    }
    let connections = Connections {
        router,
        tls: bound.tls,
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    // The guard of the socket's file lives until the end.
    let mut _socket_file = None;
    if let Some((unix, file)) = bound.unix {
        _socket_file = Some(file);
        let unix = UnixListener::from_std(unix)?;
        tracker.spawn(connections.clone().accept(Listener::Unix(unix)));
    }
    tracker.spawn(connections.accept(Listener::Tcp(tcp)));
    stop.cancelled().await;
    tracker.close();
    tracker.wait().await;
    Ok(())
}

type Stream = Either<TcpStream, UnixStream>;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn connections_max(&self) -> usize {
        match self {
            Self::Tcp(_) => CONNECTIONS_MAX,
            Self::Unix(_) => SOCKET_CONNECTIONS_MAX,
        }
    }

    /// The next connection, once one of the `slots` is free for it.
    async fn accept(&self, slots: &Arc<Semaphore>) -> io::Result<(Stream, Peer, Slot)> {
        let slot = Arc::clone(slots).acquire_owned().await.ok();
        let (stream, peer) = match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                limit_unread(&stream)?;
                let local = stream.local_addr()?;
                let tls = false;
                (Either::Left(stream), Peer::Tcp { remote, local, tls })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                (Either::Right(stream), Peer::Unix { uid })
            }
        };
        Ok((stream, peer, slot))
    }
}

type Slot = Option<OwnedSemaphorePermit>;

fn limit_unread(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_MAX))
}

/// Who holds how many connections.
#[derive(Debug, Clone, Default)]
struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    /// `None` where nobody is limited: on the unix socket and from this host's own address.
    address: Option<IpAddr>,
}

impl Seats {
    fn take(&self, peer: &Peer) -> Option<Seat> {
        let address = match peer {
            Peer::Tcp { remote, .. } => {
                let address = remote.ip().to_canonical();
                // A proxy or a monitoring system on this host speaks for many.
                (address != Ipv4Addr::LOCALHOST && address != Ipv6Addr::LOCALHOST)
                    .then_some(address)
            }
            Peer::Unix { .. } => None,
        };
        if let Some(address) = address {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let own = taken.get(&address).copied().unwrap_or(0);
            if own >= CONNECTIONS_PER_PEER {
                return None;
            }
            taken.insert(address, own + 1);
        }
        let seats = self.clone();
        Some(Seat { seats, address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else {
            return;
        };
        let taken = &self.seats.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&address);
            }
        }
    }
}

#[derive(Clone)]
struct Connections {
    router: Router,
    tls: Option<Arc<Keys>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    async fn accept(self, listener: Listener) {
        let slots = Arc::new(Semaphore::new(listener.connections_max()));
        let seats = Seats::default();
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept(&slots)).await {
            match accepted {
                Ok((stream, peer, slot)) => {
                    let Some(seat) = seats.take(&peer) else {
                        tracing::debug!(?peer, "web: too many connections from one address");
                        continue;
                    };
                    let connection = self.clone();
                    self.tracker.spawn(async move {
                        connection.begin(stream, peer).await;
                        drop((slot, seat));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "web: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Agrees on keys, where that is asked.
    async fn begin(self, stream: Stream, peer: Peer) {
        let (stream, peer, keys) = match (stream, peer, self.tls.clone()) {
            (Either::Left(stream), Peer::Tcp { remote, local, .. }, Some(keys)) => {
                let tls = true;
                (stream, Peer::Tcp { remote, local, tls }, keys)
            }
            (stream, peer, _) => return self.converse(stream, peer, Names::default()).await,
        };
        let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, shake(stream, &keys));
        match self.stop.run_until_cancelled(shaken).await {
            Some(Ok(Ok((stream, names)))) => self.converse(stream, peer, names).await,
            Some(Ok(Err(error))) => tracing::info!(?peer, "web: no TLS: {error}"),
            Some(Err(_)) => tracing::debug!(?peer, "web: no TLS within 10 s"),
            None => {}
        }
    }

    async fn converse<S>(self, stream: S, peer: Peer, names: Names)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let router = self.router;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(names.clone());
            let mut router = router.clone();
            async move {
                let answer: Result<_, Infallible> = router.call(request).await;
                answer
            }
        });
        let stream = TokioIo::new(stream);
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .serve_connection(stream, service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(STOP_WITHIN, connection).await.ok()
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "web: connection broken off");
        }
    }
}

/// The TLS within a connection, and whom the client's certificate names. Who speaks plain HTTP is
/// told so.
async fn shake(mut stream: TcpStream, keys: &Keys) -> io::Result<(TlsStream<TcpStream>, Names)> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first != [TLS_HANDSHAKE] {
        stream.write_all(SPEAK_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client speaks plain HTTP"));
    }
    let stream = keys.acceptor().accept(stream).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let names = certificate.map(|der| tls::of_certificate(der));
    Ok((stream, Names(names.unwrap_or_default().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Peer {
        let address = SocketAddr::new(address.parse().unwrap(), 1);
        Peer::Tcp {
            remote: address,
            local: address,
            tls: false,
        }
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let seats = Seats::default();
        let greedy = from("192.0.2.1");
        let held: Vec<_> = (0..CONNECTIONS_MAX)
            .map_while(|_| seats.take(&greedy))
            .collect();
        assert_eq!(held.len(), CONNECTIONS_PER_PEER);
        assert!(seats.take(&from("::ffff:192.0.2.1")).is_none());
        assert!(seats.take(&from("192.0.2.2")).is_some());
        for many in [Peer::Unix { uid: 0 }, from("127.0.0.1"), from("::1")] {
            let local: Vec<_> = (0..CONNECTIONS_MAX)
                .map_while(|_| seats.take(&many))
                .collect();
            assert_eq!(local.len(), CONNECTIONS_MAX);
        }
        drop(held);
        assert!(seats.take(&greedy).is_some());
        assert!(seats.taken.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_accepted_connection_does_not_wait_for_ever_for_its_reader() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let slots = Arc::new(Semaphore::new(1));
        let (stream, ..) = Listener::Tcp(listener).accept(&slots).await.unwrap();
        let Either::Left(stream) = stream else {
            panic!("not over TCP");
        };
        let limit = SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(limit, Some(Duration::from_mins(1)));
        drop(client);
    }
}
