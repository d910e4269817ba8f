//! SNMP traps and informs: versions 1, 2c and 3 over UDP.
//!
//! A datagram goes one way: `ber` and `pdu` read it, `security` (with `usm` and `engine`) decides
//! whether its sender may speak, `names` and `event` make it readable. An inform is answered when
//! its trigger is durable.

mod ber;
mod config;
mod engine;
mod event;
mod names;
mod pdu;
mod rehearsal;
mod security;
mod usm;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use config::{TrapConfig, TrapError, TrapUser};
pub use rehearsal::Rehearsal;
pub use usm::{Auth, Priv};

use super::delivery::{Delivery, Stopping};
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::{Kind, drill};
use crate::time::Timestamp;
use config::Choice;
use event::{Event, Told};
use security::{Guard, Incoming, Refusal};

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Triggers on their way into the journal side by side: they share its fsyncs.
const UNDERWAY: usize = 256;
/// Informs remembered, so that one that is sent again is answered again and not told again.
const INFORMS: usize = 1024;
/// How long: what comes later with the same number is another.
const INFORM_AGAIN: Duration = Duration::from_mins(2);
/// The pause after a failed receive, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(10);

/// A receiver with its socket open.
#[derive(Debug)]
pub struct BoundTraps {
    name: String,
    late: Duration,
    socket: UdpSocket,
    guard: Guard,
    choice: Choice,
}

/// An inform that was heard.
#[derive(Debug)]
struct Heard {
    from: SocketAddr,
    request_id: i64,
    variables: Vec<u8>,
    at: Instant,
    durable: bool,
}

/// The informs of the last minutes.
type Informs = Arc<Mutex<VecDeque<Heard>>>;

/// What is known of an inform.
enum Known {
    New,
    Underway,
    Durable,
}

impl BoundTraps {
    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        let handle = sources.register(Kind::Trap, &self.name);
        handle.declare(self.late);
        handle
    }

    /// The address it really listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What a drill sends here.
    pub fn rehearsal(&self) -> io::Result<Rehearsal> {
        Ok(Rehearsal {
            address: drill::reach(self.local_addr()?),
            guard: self.guard.clone(),
        })
    }

    /// Receives until the delivery's token is cancelled.
    pub async fn run(self, delivery: Delivery) {
        let handle = delivery.handle().clone();
        handle.set(SourceState::Ok, "listening");
        match self.receive(delivery).await {
            Ok(()) => handle.set(SourceState::Stopped, ""),
            Err(error) => {
                tracing::error!(source = handle.name(), "receiver of traps ended: {error}");
                handle.set(SourceState::Failing, error.to_string())
            }
        };
    }

    async fn receive(mut self, delivery: Delivery) -> io::Result<()> {
        let socket = Arc::new(tokio::net::UdpSocket::from_std(self.socket)?);
        let handle = delivery.handle().clone();
        let permits = Arc::new(Semaphore::new(UNDERWAY));
        let underway = TaskTracker::new();
        let informs = Informs::default();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                () = delivery.stop().cancelled() => break,
            };
            let (length, from) = match received {
                Ok(received) => received,
                Err(error) => {
                    handle.count(Count::Malformed);
                    tracing::warn!(source = handle.name(), "cannot receive: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            handle.count(Count::Received);
            let datagram = buffer.get(..length).unwrap_or_default();
            let (notice, reply) = match self.guard.open(datagram, Instant::now()) {
                Ok(Incoming::Notice(notice, reply)) => (notice, reply),
                Ok(Incoming::Other) => continue,
                Ok(Incoming::Report(report)) => {
                    send(&socket, &report, from, &handle).await;
                    continue;
                }
                Err((refusal, report)) => {
                    refused(&handle, from, refusal);
                    if let Some(report) = report {
                        send(&socket, &report, from, &handle).await;
                    }
                    continue;
                }
            };
            let told = Told::new(&notice, from.ip());
            let drill = handle.drill(&notice.raw_variables, Timestamp::now());
            let inform = notice
                .inform
                .then_some((notice.request_id, notice.raw_variables));
            if let Some((id, variables)) = &inform {
                match known(&informs, from, *id, variables) {
                    Known::New => {}
                    Known::Underway => continue,
                    Known::Durable => {
                        send(&socket, &reply, from, &handle).await;
                        continue;
                    }
                }
            }
            let event = match drill {
                Some(drill) => Some(Event::Trigger(Box::new(drill))),
                None => self.choice.takes(&told.name, &told.oid).then(|| {
                    handle.count(Count::Matched);
                    let received = Timestamp::now();
                    let at = handle.file(None, received).at;
                    told.event(&self.name, from.ip(), at, received)
                }),
            };
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            let (delivery, socket) = (delivery.clone(), Arc::clone(&socket));
            let informs = Arc::clone(&informs);
            underway.spawn(async move {
                // An error means that we are stopping: then there is no answer.
                if deliver(&delivery, event).await.is_ok()
                    && let Some((id, _)) = inform
                {
                    durable(&informs, from, id);
                    send(&socket, &reply, from, delivery.handle()).await;
                }
                drop(permit);
            });
        }
        underway.close();
        underway.wait().await;
        Ok(())
    }
}

async fn deliver(delivery: &Delivery, event: Option<Event>) -> Result<(), Stopping> {
    match event {
        None => Ok(()),
        Some(Event::Trigger(trigger)) => delivery.deliver(*trigger).await,
        Some(Event::Resolution(resolution)) => delivery.resolve(*resolution).await,
    }
}

fn refused(handle: &SourceHandle, from: SocketAddr, refusal: Refusal) {
    let count = match refusal {
        Refusal::Malformed(_) => Count::Malformed,
        _ => Count::Refused,
    };
    handle.count(count);
    // Anybody can send anything: the page shows the last, the log only when asked.
    handle.set(
        SourceState::Ok,
        format!("refused one from {from}: {refusal}"),
    );
    tracing::debug!(source = handle.name(), %from, "trap refused: {refusal}");
}

async fn send(socket: &tokio::net::UdpSocket, bytes: &[u8], to: SocketAddr, handle: &SourceHandle) {
    if let Err(error) = socket.send_to(bytes, to).await {
        tracing::warn!(source = handle.name(), %to, "an inform stays unanswered: {error}");
    }
}

fn known(informs: &Informs, from: SocketAddr, request_id: i64, variables: &[u8]) -> Known {
    let mut informs = informs.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    informs.retain(|heard| now.saturating_duration_since(heard.at) < INFORM_AGAIN);
    let same = informs.iter().find(|heard| {
        heard.from == from && heard.request_id == request_id && heard.variables == variables
    });
    match same {
        Some(heard) if heard.durable => Known::Durable,
        Some(_) => Known::Underway,
        None => {
            if informs.len() >= INFORMS {
                informs.pop_front();
            }
            informs.push_back(Heard {
                from,
                request_id,
                variables: variables.to_vec(),
                at: now,
                durable: false,
            });
            Known::New
        }
    }
}

fn durable(informs: &Informs, from: SocketAddr, request_id: i64) {
    let mut informs = informs.lock().unwrap_or_else(PoisonError::into_inner);
    let mut same = informs.iter_mut();
    if let Some(heard) = same.find(|heard| heard.from == from && heard.request_id == request_id) {
        heard.durable = true;
    }
}

#[cfg(test)]
mod tests;
