//! Syslog over UDP: the receiver only receives; a bounded queue leads to the matcher.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::Judge;
use super::framing::FRAME_BYTES_MAX;
use crate::time::Timestamp;
use crate::trigger::delivery::Delivery;
use crate::trigger::status::Count;

/// Datagrams that wait for the matcher; with the largest datagrams 64 MiB.
const QUEUE: usize = 1024;
/// Triggers on their way into the journal side by side: they share its fsyncs.
const UNDERWAY: usize = 256;

/// The pause after a failed receive (no memory), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(10);

struct Datagram {
    bytes: Vec<u8>,
    peer: IpAddr,
    received: Timestamp,
}

/// Receives until stopped.
pub(super) async fn run(socket: UdpSocket, judge: Judge, delivery: Delivery) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let matcher = tokio::spawn(match_all(waiting, judge, delivery.clone()));
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let handle = delivery.handle();
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = delivery.stop().cancelled() => break,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error or lack of memory concerns one datagram, not the socket.
                handle.count(Count::Malformed);
                tracing::warn!(source = handle.name(), "cannot receive: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let datagram = Datagram {
            bytes: buffer.get(..length).unwrap_or_default().to_vec(),
            peer: peer.ip(),
            received: Timestamp::now(),
        };
        if queue.try_send(datagram).is_err() {
            handle.count(Count::Overflow);
        }
    }
    drop(queue);
    matcher.await.map_err(io::Error::other)
}

/// Matches what is queued; ends when the queue does.
async fn match_all(mut waiting: mpsc::Receiver<Datagram>, judge: Judge, delivery: Delivery) {
    let permits = Arc::new(Semaphore::new(UNDERWAY));
    let underway = TaskTracker::new();
    while let Some(datagram) = waiting.recv().await {
        let frame = datagram.bytes.trim_ascii_end();
        let triggers = judge.judge(frame, datagram.peer, datagram.received, &delivery);
        if triggers.is_empty() {
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let delivery = delivery.clone();
        underway.spawn(async move {
            // An error means that we are stopping; the sender of a datagram expects no answer.
            let _delivered = delivery.deliver_all(triggers).await;
            drop(permit);
        });
    }
    underway.close();
    underway.wait().await;
}
