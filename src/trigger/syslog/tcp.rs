//! Syslog over TCP, plain or within TLS: a connection is read no further than what is journalled, so that a sender
//! with a disk queue loses nothing while we cannot write.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::bytes::BytesMut;
use tokio_util::task::TaskTracker;

use super::Judge;
use super::framing::{Frame, Framer, FramingError};
use crate::time::Timestamp;
use crate::trigger::delivery::{Delivery, Stopping};
use crate::trigger::status::{Count, SourceState};

/// Connections at once, in all.
const CONNECTIONS_MAX: usize = 256;
/// Connections at once from one address.
const CONNECTIONS_PER_PEER: usize = 64;
/// A connection silent for so long is closed. Long, because senders keep idle connections for
/// hours and lose the message with which they find out that one is gone.
const IDLE_MAX: Duration = Duration::from_hours(1);
/// A sender that has not agreed on its keys after so long is closed.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Read at once: what is judged, and journalled, before the next read.
const READ_BYTES: usize = 64 << 10;
/// The pause after a failed accept (too many open files), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until stopped.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    judge: Judge,
    delivery: Delivery,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let judge = Arc::new(judge);
    let seats = Seats::default();
    let connections = TaskTracker::new();
    let handle = delivery.handle();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = delivery.stop().cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match seats.take(peer.ip()) {
                Some(seat) => {
                    let tls = tls.clone();
                    let connection = Connection {
                        peer,
                        judge: Arc::clone(&judge),
                        delivery: delivery.clone(),
                    };
                    connections.spawn(async move {
                        connection.serve(stream, tls).await;
                        drop(seat);
                    });
                }
                None => handle.count(Count::Refused),
            },
            Err(error) => {
                if handle.set(SourceState::Failing, format!("cannot accept: {error}")) {
                    tracing::warn!(source = handle.name(), "cannot accept: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        }
        handle.set(SourceState::Ok, "listening");
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// One sender.
struct Connection {
    peer: SocketAddr,
    judge: Arc<Judge>,
    delivery: Delivery,
}

/// Why a connection ended before its sender closed it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no TLS: {0}")]
    Handshake(#[source] io::Error),
    #[error("silent for too long")]
    Idle,
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let handle = self.delivery.handle().clone();
        let peer = self.peer;
        match self.open(stream, tls).await {
            Ok(()) | Err(Ended::Stopping(_)) => {}
            Err(Ended::Idle) => tracing::info!(source = handle.name(), %peer, "closed: idle"),
            Err(error) => {
                handle.count(match error {
                    Ended::Handshake(_) => Count::Refused,
                    _ => Count::Malformed,
                });
                tracing::warn!(source = handle.name(), %peer, "connection closed: {error}");
            }
        }
    }

    async fn open(&self, stream: TcpStream, tls: Option<TlsAcceptor>) -> Result<(), Ended> {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_mins(1));
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let Some(tls) = tls else {
            return self.read(stream).await;
        };
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)) => agreed,
            () = self.delivery.stop().cancelled() => return Err(Stopping.into()),
        };
        let agreed = agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.read(agreed.map_err(Ended::Handshake)?).await
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin) -> Result<(), Ended> {
        let mut splitter = Framer::default();
        let mut input = BytesMut::with_capacity(READ_BYTES);
        let stop = self.delivery.stop().clone();
        loop {
            input.reserve(READ_BYTES);
            let read = tokio::select! {
                read = tokio::time::timeout(IDLE_MAX, stream.read_buf(&mut input)) => read,
                () = stop.cancelled() => return Err(Stopping.into()),
            };
            let length = match read.map_err(|_| Ended::Idle)? {
                // Senders that close without TLS's own farewell are many; framing tells what is torn.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read?,
            };
            let received = Timestamp::now();
            let mut frames = Vec::new();
            let whole = drain(&mut splitter, &mut input, &mut frames);
            if length == 0 {
                return self.end(splitter, frames, received).await;
            }
            self.journal(frames, received).await?;
            whole?;
        }
    }

    /// The sender closed: what is left counts as a message where it can be one.
    async fn end(
        &self,
        splitter: Framer,
        mut frames: Vec<Frame>,
        received: Timestamp,
    ) -> Result<(), Ended> {
        let rest = splitter.finish();
        if let Ok(Some(frame)) = &rest {
            frames.push(frame.clone());
        }
        self.journal(frames, received).await?;
        rest?;
        Ok(())
    }

    /// Judges the frames and waits until their triggers are durable.
    async fn journal(&self, frames: Vec<Frame>, received: Timestamp) -> Result<(), Stopping> {
        let handle = self.delivery.handle();
        let judge = |frame: &Frame| {
            if frame.cut {
                handle.count(Count::Oversized);
            }
            self.judge
                .judge(&frame.bytes, self.peer.ip(), received, &self.delivery)
        };
        let triggers = frames.iter().flat_map(judge).collect();
        self.delivery.deliver_all(triggers).await
    }
}

/// Takes every whole frame out of `input`. An error leaves the frames before it.
fn drain(
    splitter: &mut Framer,
    input: &mut BytesMut,
    frames: &mut Vec<Frame>,
) -> Result<(), FramingError> {
    while let Some(frame) = splitter.next(input)? {
        frames.push(frame);
    }
    Ok(())
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
    peer: IpAddr,
}

impl Seats {
    fn take(&self, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&peer).copied().unwrap_or(0);
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_PER_PEER {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Seat {
            seats: self.clone(),
            peer,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self
            .seats
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_cannot_take_every_seat() {
        let seats = Seats::default();
        let greedy = IpAddr::from([192, 0, 2, 1]);
        let held: Vec<_> = (0..CONNECTIONS_MAX)
            .map_while(|_| seats.take(greedy))
            .collect();
        assert_eq!(held.len(), CONNECTIONS_PER_PEER);
        assert!(seats.take(IpAddr::from([192, 0, 2, 2])).is_some());
        drop(held);
        assert!(seats.take(greedy).is_some());
        assert_eq!(
            seats.taken.lock().unwrap().len(),
            0,
            "the seat above was given back"
        );
    }
}
