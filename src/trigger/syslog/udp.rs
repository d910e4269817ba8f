//! Syslog over UDP: the receiver only receives, many datagrams at once; a queue bounded in bytes
//! leads to the matcher. What the kernel had no room for it counts, and we with it.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::Judge;
use super::receive::{Arrived, Receiver};
use crate::time::Timestamp;
use crate::trigger::delivery::Delivery;
use crate::trigger::status::Count;

/// Bytes of datagrams that wait for the matcher.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What a waiting datagram costs beside its bytes.
const DATAGRAM_BYTES: usize = 64;
/// Batches that wait for the matcher.
const QUEUE: usize = 64 << 10;
/// Triggers on their way into the journal side by side: they share its fsyncs.
const UNDERWAY: usize = 256;

/// The pause after a failed receive (no memory), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(10);

struct Batch {
    datagrams: Vec<Arrived>,
    bytes: usize,
    received: Timestamp,
}

/// Receives until stopped.
pub(super) async fn run(socket: UdpSocket, judge: Judge, delivery: Delivery) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let held = Arc::new(AtomicUsize::new(0));
    let matcher = Matcher {
        judge,
        delivery: delivery.clone(),
        held: Arc::clone(&held),
    };
    let matcher = tokio::spawn(matcher.run(waiting));
    let mut taker = Receiver::default();
    let handle = delivery.handle();
    loop {
        let ready = tokio::select! {
            ready = socket.readable() => ready,
            () = delivery.stop().cancelled() => break,
        };
        let received =
            ready.and_then(|()| socket.try_io(Interest::READABLE, || taker.receive(&socket)));
        let datagrams = match received {
            Ok(datagrams) => datagrams,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                // An ICMP error or lack of memory concerns one datagram, not the socket.
                handle.count(Count::Malformed);
                tracing::warn!(source = handle.name(), "cannot receive: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        handle.count_by(Count::DroppedKernel, taker.dropped());
        let count = u64::try_from(datagrams.len()).unwrap_or(0);
        let bytes = datagrams.iter().map(|one| one.bytes.len() + DATAGRAM_BYTES);
        let batch = Batch {
            bytes: bytes.sum(),
            datagrams,
            received: Timestamp::now(),
        };
        let bytes = batch.bytes;
        let room = held.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        if !room || queue.try_send(batch).is_err() {
            held.fetch_sub(bytes, Ordering::Relaxed);
            handle.count_by(Count::Overflow, count);
        }
    }
    drop(queue);
    matcher.await.map_err(io::Error::other)
}

struct Matcher {
    judge: Judge,
    delivery: Delivery,
    held: Arc<AtomicUsize>,
}

impl Matcher {
    /// Matches what is queued; ends when the queue does.
    async fn run(self, mut waiting: mpsc::Receiver<Batch>) {
        let permits = Arc::new(Semaphore::new(UNDERWAY));
        let underway = TaskTracker::new();
        while let Some(batch) = waiting.recv().await {
            for Arrived { bytes, peer } in &batch.datagrams {
                let frame = bytes.trim_ascii_end();
                let judged = self
                    .judge
                    .judge(frame, *peer, batch.received, &self.delivery);
                if judged.is_empty() {
                    continue;
                }
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let delivery = self.delivery.clone();
                underway.spawn(async move {
                    // An error means that we are stopping; the sender of a datagram expects no
                    // answer.
                    let _delivered = delivery.deliver_all(judged).await;
                    drop(permit);
                });
            }
            self.held.fetch_sub(batch.bytes, Ordering::Relaxed);
        }
        underway.close();
        underway.wait().await;
    }
}
