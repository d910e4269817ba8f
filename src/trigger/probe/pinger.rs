//! One ICMP socket per family for all probes: sends echoes, hands each answer to who waits for it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::echo::{self, Answer, Echo, Family};
use crate::trigger::status::{Count, SourceHandle};

/// The largest answer looked at; ours are far smaller.
const ANSWER_BYTES_MAX: usize = 2048;

/// The pause after a failed receive, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(10);

/// The sockets, opened while there is still the privilege to.
#[derive(Debug)]
pub struct ProbeSockets {
    v4: Result<Opened, String>,
    v6: Result<Opened, String>,
}

/// A socket for echoes. Its standard type is that of UDP because sending to and receiving from
/// an address is all that is done with it.
#[derive(Debug)]
struct Opened {
    socket: UdpSocket,
    raw: bool,
}

impl ProbeSockets {
    /// Opens one socket per family: unprivileged ICMP where `net.ipv4.ping_group_range` allows,
    /// else raw, which takes `CAP_NET_RAW`. Fails when neither family can be had.
    pub fn open() -> io::Result<Self> {
        let v4 = open(Domain::IPV4, Protocol::ICMPV4);
        let v6 = open(Domain::IPV6, Protocol::ICMPV6);
        if let (Err(error), Err(_)) = (&v4, &v6) {
            return Err(io::Error::new(
                error.kind(),
                format!(
                    "cannot open an ICMP socket: {error}; give CAP_NET_RAW, or put the group \
                     into net.ipv4.ping_group_range"
                ),
            ));
        }
        let text = |error: io::Error| error.to_string();
        Ok(Self {
            v4: v4.map_err(text),
            v6: v6.map_err(text),
        })
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<Opened> {
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
    };
    socket.set_nonblocking(true)?;
    Ok(Opened {
        socket: socket.into(),
        raw,
    })
}

/// Sends echoes and waits for their answers. Clones share the sockets.
#[derive(Debug, Clone)]
pub(in crate::trigger) struct Pinger {
    v4: Result<Channel, String>,
    v6: Result<Channel, String>,
    waiting: Arc<Mutex<Waiting>>,
    id: u16,
}

#[derive(Debug, Clone)]
struct Channel {
    socket: Arc<tokio::net::UdpSocket>,
    family: Family,
    raw: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By cookie.
    probes: HashMap<u64, Probed>,
    /// Whom an answer of this address that nobody waits for belongs to.
    targets: HashMap<IpAddr, SourceHandle>,
}

#[derive(Debug)]
struct Probed {
    target: IpAddr,
    seq: u16,
    sent: Instant,
    answer: oneshot::Sender<Result<Duration, String>>,
}

impl Pinger {
    /// Starts to receive; within a tokio runtime. Ends with `stop`.
    pub(in crate::trigger) fn start(
        sockets: ProbeSockets,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let channel = |opened: Result<Opened, String>, family| {
            opened.and_then(|opened| {
                let socket = tokio::net::UdpSocket::from_std(opened.socket);
                Ok(Channel {
                    socket: Arc::new(socket.map_err(|error| error.to_string())?),
                    family,
                    raw: opened.raw,
                })
            })
        };
        let id = getrandom::u64().map_err(io::Error::other)?;
        let pinger = Self {
            v4: channel(sockets.v4, Family::V4),
            v6: channel(sockets.v6, Family::V6),
            waiting: Arc::default(),
            id: u16::try_from(id & 0xffff).unwrap_or(0),
        };
        for channel in [&pinger.v4, &pinger.v6].into_iter().flatten() {
            let (receiver, channel, stop) = (pinger.clone(), channel.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = receiver.receive(&channel) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(pinger)
    }

    /// Whether addresses of this family can be probed; the text says why not.
    pub(super) fn can_reach(&self, target: IpAddr) -> Result<(), &str> {
        let channel = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        channel.as_ref().map(|_| ()).map_err(String::as_str)
    }

    /// Sends one echo; its round trip, or why there is none.
    pub(super) async fn ping(
        &self,
        target: SocketAddr,
        seq: u16,
        timeout: Duration,
        handle: &SourceHandle,
    ) -> Result<Duration, String> {
        let channel = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        let channel = channel.as_ref().map_err(Clone::clone)?;
        let cookie = getrandom::u64().map_err(|error| error.to_string())?;
        let echo = Echo {
            id: self.id,
            seq,
            cookie,
        };
        let packet = echo::encode(channel.family, echo);
        let (answer, answered) = oneshot::channel();
        let _forget = self.expect(cookie, target.ip(), seq, answer, handle);
        handle.count(Count::Sent);
        let sent = channel.socket.send_to(&packet, target).await;
        sent.map_err(|error| format!("cannot send: {error}"))?;
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err(format!(
                "no reply within {}",
                humantime::format_duration(timeout)
            )),
        }
    }

    /// Enters a probe among those waited for, until the returned value is dropped.
    fn expect(
        &self,
        cookie: u64,
        target: IpAddr,
        seq: u16,
        answer: oneshot::Sender<Result<Duration, String>>,
        handle: &SourceHandle,
    ) -> Forget<'_> {
        let mut waiting = self.waiting();
        waiting.targets.insert(target, handle.clone());
        let probed = Probed {
            target,
            seq,
            sent: Instant::now(),
            answer,
        };
        waiting.probes.insert(cookie, probed);
        Forget {
            pinger: self,
            cookie,
        }
    }

    async fn receive(&self, channel: &Channel) {
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            match channel.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    let now = Instant::now();
                    let packet = buffer.get(..length).unwrap_or_default();
                    if let Some(answer) = echo::decode(channel.family, channel.raw, packet) {
                        self.answered(channel, from.ip(), answer, now);
                    }
                }
                // The error of one probe, which is counted lost at its timeout.
                Err(error) => {
                    tracing::debug!("icmp receive: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Hands an answer to who waits for it. What does not fit exactly is counted and dropped.
    fn answered(&self, channel: &Channel, from: IpAddr, answer: Answer, now: Instant) {
        let (echo, why) = match answer {
            Answer::Reply(echo) => (echo, None),
            Answer::Undelivered(echo, why) => (echo, Some(why)),
        };
        let mut waiting = self.waiting();
        let fits = waiting.probes.get(&echo.cookie).is_some_and(|probed| {
            // Behind an unprivileged socket the kernel has checked its own identifier.
            let id = !channel.raw || echo.id == self.id;
            // An error comes from whoever found it.
            id && echo.seq == probed.seq && (why.is_some() || from == probed.target)
        });
        if !fits {
            if let Some(handle) = waiting.targets.get(&from) {
                handle.count(Count::Unexpected);
            }
            return;
        }
        if let Some(probed) = waiting.probes.remove(&echo.cookie) {
            let result = match why {
                None => Ok(now.saturating_duration_since(probed.sent)),
                Some(why) => Err(format!("{why}, says {from}")),
            };
            // Nobody waits any more: the timeout was at this very moment.
            let _late = probed.answer.send(result);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a probe out of those waited for: an answer from now on is late.
struct Forget<'a> {
    pinger: &'a Pinger,
    cookie: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pinger.waiting().probes.remove(&self.cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Kind;
    use crate::trigger::status::Sources;

    /// A pinger without sockets, and a channel such as answers come from.
    fn pinger() -> (Pinger, SourceHandle) {
        let pinger = Pinger {
            v4: Err("none".to_owned()),
            v6: Err("none".to_owned()),
            waiting: Arc::default(),
            id: 5,
        };
        (pinger, Sources::default().register(Kind::Probe, "p"))
    }

    #[tokio::test]
    async fn only_the_exact_answer_counts_and_only_once() {
        let (pinger, handle) = pinger();
        let std = UdpSocket::bind("127.0.0.1:0").unwrap();
        std.set_nonblocking(true).unwrap();
        let channel = Channel {
            socket: Arc::new(tokio::net::UdpSocket::from_std(std).unwrap()),
            family: Family::V4,
            raw: true,
        };
        let target = IpAddr::from([192, 0, 2, 1]);
        let right = Echo {
            id: 5,
            seq: 9,
            cookie: 77,
        };
        let (answer, mut answered) = oneshot::channel();
        let forget = pinger.expect(77, target, 9, answer, &handle);
        let now = Instant::now();
        for wrong in [
            Echo { id: 6, ..right },
            Echo { seq: 8, ..right },
            Echo {
                cookie: 78,
                ..right
            },
        ] {
            pinger.answered(&channel, target, Answer::Reply(wrong), now);
        }
        let stranger = IpAddr::from([192, 0, 2, 2]);
        pinger.answered(&channel, stranger, Answer::Reply(right), now);
        assert!(answered.try_recv().is_err());
        assert_eq!(handle.get(Count::Unexpected), 3);
        pinger.answered(&channel, target, Answer::Reply(right), now);
        assert!(answered.try_recv().unwrap().is_ok());
        // A duplicate.
        pinger.answered(&channel, target, Answer::Reply(right), now);
        assert_eq!(handle.get(Count::Unexpected), 4);
        drop(forget);

        // A late reply.
        let (answer, _answered) = oneshot::channel();
        drop(pinger.expect(80, target, 10, answer, &handle));
        let late = Echo {
            id: 5,
            seq: 10,
            cookie: 80,
        };
        pinger.answered(&channel, target, Answer::Reply(late), now);
        assert_eq!(handle.get(Count::Unexpected), 5);
        assert!(pinger.waiting().probes.is_empty());

        // A router's word on it.
        let (answer, mut answered) = oneshot::channel();
        let _forget = pinger.expect(81, target, 11, answer, &handle);
        let echo = Echo {
            id: 5,
            seq: 11,
            cookie: 81,
        };
        let word = Answer::Undelivered(echo, "host unreachable");
        pinger.answered(&channel, stranger, word, now);
        let said = answered.try_recv().unwrap();
        assert_eq!(said, Err("host unreachable, says 192.0.2.2".to_owned()));
    }
}
