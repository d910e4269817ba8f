//! Sending what is due: an echo, a query, a connection.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::epoll;

use super::{Due, Engine, Request};
use crate::time::Timestamp;
use crate::trigger::probe::aim::Missing;
use crate::trigger::probe::config::{ProbeConfig, ProbeKind};
use crate::trigger::probe::connect::{self, Connecting};
use crate::trigger::probe::echo;
use crate::trigger::probe::route::interface_index;
use crate::trigger::probe::socket::Way;
use crate::trigger::probe::stamp::Stamp;
use crate::trigger::probe::wires::Wires;
use crate::trigger::status::SourceState;

enum Sent {
    Underway,
    Refused(String),
}

struct Unsent {
    why: String,
    /// The reason lies on the way, not in this host's load.
    path: bool,
}

impl Unsent {
    fn new(error: &io::Error) -> Self {
        let load = [
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EAGAIN,
            libc::EMFILE,
            libc::ENFILE,
        ];
        Self {
            why: error.to_string(),
            path: !error
                .raw_os_error()
                .is_some_and(|code| load.contains(&code)),
        }
    }

    fn on_path(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            path: true,
        }
    }
}

impl Engine {
    pub(super) fn send(&mut self, place: usize, now: Instant) {
        let Some(cadence) = self.cadences.get_mut(place) else {
            return;
        };
        let missed = cadence.advance(now);
        self.due.push(Reverse((cadence.due(), Due::Send(place))));
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        target.prober.missed(missed);
        let (kind, df) = (target.prober.config.kind, target.prober.config.df);
        let usable = |address: IpAddr| self.wires.can_reach(kind, df, address);
        let (aimed, lookup) = target.aim.now(now, usable);
        if let Some(lookup) = lookup {
            self.outbox.push_back(Request::Resolve(lookup));
        }
        let (to, fault) = match aimed {
            Ok(to) => (to, None),
            Err(Missing {
                last: Some(last),
                why,
            }) => (last, Some(why)),
            Err(Missing { last: None, why }) => {
                // It never worked: most likely a mistake in the configuration, not a fault.
                target.prober.report(SourceState::Failing, &why);
                return;
            }
        };
        let (sent, sent_instant) = (Timestamp::now(), Instant::now());
        let seq = target.prober.open(sent, sent_instant, to);
        let judged = sent_instant + target.prober.config.timeout;
        let result = match fault {
            Some(why) => Err(Unsent { why, path: true }),
            None => self.hand_over(place, seq, to, sent),
        };
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        match result {
            Ok(Sent::Underway) => {
                target.prober.sent();
                self.due.push(Reverse((judged, Due::Judge(place, seq))));
            }
            Ok(Sent::Refused(why)) => {
                target.prober.sent();
                let burst = target.prober.lost(seq, &why, None);
                self.told(place, burst);
            }
            Err(Unsent { why, path }) => {
                let burst = target.prober.unsent(seq, &why, path);
                self.told(place, burst);
            }
        }
    }

    /// Gives the kernel a probe.
    fn hand_over(
        &mut self,
        place: usize,
        seq: u64,
        to: SocketAddr,
        sent: Timestamp,
    ) -> Result<Sent, Unsent> {
        let Some(target) = self.targets.get(place) else {
            return Err(Unsent::on_path("there is no such probe"));
        };
        let config = &target.prober.config;
        let way = way(config, to).map_err(|why| Unsent::on_path(&why))?;
        let (packet, wire, cookie, key) = match config.kind {
            ProbeKind::Tcp => return self.connect(place, seq, &way),
            ProbeKind::Icmp => {
                let mut stamp = Stamp {
                    instance: self.instance,
                    probe: u32::try_from(place).unwrap_or(u32::MAX),
                    seq,
                    sent_ns: sent.as_ns(),
                    cookie: 0,
                };
                stamp.cookie = self.cookie(&stamp);
                let family = Wires::family(to.ip());
                let size = usize::from(config.payload_bytes());
                let packet = echo::encode(family, self.icmp_id, &stamp, size);
                (packet, Wires::icmp(family, config.df), stamp.cookie, None)
            }
            ProbeKind::Dns => {
                let Some(question) = &target.question else {
                    return Err(Unsent::on_path("it has no question"));
                };
                let random = self.hasher.hash_one((place, seq, sent.as_ns()));
                let id = u16::try_from(random & 0xffff).unwrap_or(0);
                let wire = Wires::udp(Wires::family(to.ip()));
                let port = self.wires.udp_port(to.ip());
                (question.encode(id), wire, 0, Some((port, id)))
            }
        };
        let Some(wire) = self.wires.get(wire) else {
            return Err(Unsent::on_path("there is no socket of its family"));
        };
        // Known before it leaves: on the loopback the reply is there when the call returns.
        if let Some((_, id)) = key {
            self.queries.insert((to, id), place);
        }
        let sent = wire.send(&packet, &way);
        if let Some(target) = self.targets.get_mut(place)
            && let Some(flight) = target.prober.flight(seq)
        {
            (flight.cookie, flight.key) = (cookie, key);
        }
        match sent {
            Ok(()) => Ok(Sent::Underway),
            Err(error) => Err(Unsent::new(&error)),
        }
    }

    fn connect(&mut self, place: usize, seq: u64, way: &Way) -> Result<Sent, Unsent> {
        let name = self.targets.get(place);
        let interface = name.and_then(|target| target.prober.config.interface.clone());
        let socket = match connect::begin(way, interface.as_deref()) {
            Ok(socket) => socket,
            Err(connect::Failed::Refused(why)) => return Ok(Sent::Refused(why)),
            Err(connect::Failed::Unsent(error)) => return Err(Unsent::new(&error)),
        };
        let number = self.next_connection;
        self.next_connection += 1;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.events, socket.as_fd(), data, epoll::EventFlags::OUT)
            .map_err(|error| Unsent::new(&error.into()))?;
        let port = connect::local_port(&socket);
        if let Some(target) = self.targets.get_mut(place)
            && let Some(flight) = target.prober.flight(seq)
        {
            flight.key = Some((port, 0));
        }
        let to = way.to;
        let connecting = Connecting {
            socket,
            place,
            seq,
            to,
        };
        self.connecting.insert(number, connecting);
        Ok(Sent::Underway)
    }
}

/// By which way a probe leaves for `to`; the error is complete.
pub(super) fn way(config: &ProbeConfig, to: SocketAddr) -> Result<Way, String> {
    let index = |name: &str| interface_index(name).ok_or(format!("there is no interface {name}"));
    Ok(Way {
        to,
        from: config.source,
        interface: config.interface.as_deref().map(index).transpose()?,
        ttl: config.ttl.map(std::num::NonZeroU8::get),
        tos: config.tos,
    })
}
