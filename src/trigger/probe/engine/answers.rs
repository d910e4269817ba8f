//! What became of a probe: answers, errors and connections are handed to their target, and a time
//! that is over is judged.

use std::time::Instant;

use super::rehearsal::FIRST_NUMBER;
use super::{Engine, Request};
use crate::trigger::probe::config::ProbeKind;
use crate::trigger::probe::connect::{self, Connecting};
use crate::trigger::probe::dns::{self, Rcode};
use crate::trigger::probe::echo::{self, Answer, Family};
use crate::trigger::probe::prober::Reply;
use crate::trigger::probe::socket::{Arrival, Note};
use crate::trigger::probe::stamp::Stamp;
use crate::trigger::probe::wires::Wires;
use crate::trigger::status::Count;

/// Answers taken from a socket in a row, so that a flood does not delay what is due.
const DRAIN_MAX: usize = 4096;

impl Engine {
    /// Takes in everything that waits in the sockets: errors and times of sending first, since the
    /// replies belong to them.
    pub(super) fn take_in(&mut self) {
        for place in 0..Wires::COUNT {
            for errors in [true, false] {
                for _ in 0..DRAIN_MAX {
                    let Some(wire) = self.wires.get(place) else {
                        break;
                    };
                    let (family, raw) = (wire.family, wire.raw);
                    let Some(arrival) = wire.receive(&mut self.buffer, errors) else {
                        break;
                    };
                    let seen = Instant::now();
                    if Wires::is_udp(place) {
                        self.dns_arrived(&arrival, seen);
                    } else {
                        self.icmp_arrived(place, (family, raw), &arrival, seen);
                    }
                }
            }
        }
    }

    fn icmp_arrived(
        &mut self,
        wire: usize,
        (family, raw): (Family, bool),
        arrival: &Arrival,
        seen: Instant,
    ) {
        let packet = self.buffer.get(..arrival.bytes).unwrap_or_default();
        let (stamp, said) = match arrival.note {
            Note::Other => return,
            Note::Left => (Stamp::find(packet), None),
            Note::Said(error, by) => (echo::quoted(family, packet), Some((error, by))),
            Note::Packet => match echo::decode(family, raw, packet) {
                Some(Answer::Reply(stamp)) => (Some(stamp), None),
                Some(Answer::Error(stamp, error)) => {
                    let by = arrival.from.map(|from| from.ip());
                    (Some(stamp), Some((error, by)))
                }
                None => return,
            },
        };
        let Some(stamp) = stamp.filter(|stamp| self.is_ours(stamp)) else {
            return;
        };
        if self.answered(&stamp, arrival.note, said.is_some()) {
            return;
        }
        let place = usize::try_from(stamp.probe).unwrap_or(usize::MAX);
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        // A raw socket hears what was sent by another of ours.
        if Wires::icmp(family, target.prober.config.df) != wire {
            return;
        }
        let Some(flight) = target.prober.flight(stamp.seq) else {
            target.prober.handle.count(Count::Unexpected);
            return;
        };
        if arrival.note == Note::Left {
            flight.left = arrival.at;
            return;
        }
        if let Some((error, by)) = said {
            let burst = target.prober.said(stamp.seq, error, by);
            self.told(place, burst);
            return;
        }
        let from_target = arrival.from.is_some_and(|from| from.ip() == flight.to.ip());
        if !from_target || flight.cookie != stamp.cookie {
            target.prober.handle.count(Count::Unexpected);
            return;
        }
        target.prober.replied(Reply {
            seq: stamp.seq,
            at: arrival.at,
            seen,
            ttl: arrival.ttl,
        });
        self.told(place, None);
    }

    fn dns_arrived(&mut self, arrival: &Arrival, seen: Instant) {
        let packet = self.buffer.get(..arrival.bytes).unwrap_or_default();
        let (Some(from), Some(id)) = (arrival.from, dns::id(packet)) else {
            return;
        };
        if self.resolved(from, id, arrival.note) {
            return;
        }
        let packet = self.buffer.get(..arrival.bytes).unwrap_or_default();
        let Some(&place) = self.queries.get(&(from, id)) else {
            return;
        };
        let port = self.wires.udp_port(from.ip());
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        let Some(seq) = target.prober.keyed((port, id), from) else {
            return;
        };
        match arrival.note {
            Note::Left | Note::Other => {}
            Note::Said(error, by) => {
                let burst = target.prober.said(seq, error, by);
                self.told(place, burst);
            }
            Note::Packet => {
                let question = target.question.as_ref();
                match question.and_then(|question| question.decode(id, packet)) {
                    None => target.prober.handle.count(Count::Unexpected),
                    Some(Rcode::NO_ERROR) => target.prober.replied(Reply {
                        seq,
                        at: arrival.at,
                        seen,
                        ttl: arrival.ttl,
                    }),
                    Some(refused) => {
                        let why = format!("the name server answers {refused}");
                        let burst = target.prober.lost(seq, &why, None);
                        self.told(place, burst);
                    }
                }
                self.told(place, None);
            }
        }
    }

    /// Whether we stamped it: the cookie covers every field.
    fn is_ours(&self, stamp: &Stamp) -> bool {
        stamp.instance == self.instance && stamp.cookie == self.cookie(stamp)
    }

    /// A connection is decided.
    pub(super) fn connected(&mut self, number: u64) {
        let seen = Instant::now();
        let Some(connecting) = self.connecting.remove(&number) else {
            return;
        };
        if connecting.seq >= FIRST_NUMBER {
            self.dialled(&connecting);
            return;
        }
        let Some(target) = self.targets.get_mut(connecting.place) else {
            return;
        };
        match connect::outcome(&connecting) {
            Ok(()) => {
                target.prober.replied(Reply {
                    seq: connecting.seq,
                    at: None,
                    seen,
                    ttl: None,
                });
                self.told(connecting.place, None);
            }
            Err(why) => {
                let burst = target.prober.lost(connecting.seq, &why, None);
                self.told(connecting.place, burst);
            }
        }
    }

    /// A probe's time is over.
    pub(super) fn judge(&mut self, place: usize, seq: u64) {
        let blind = self.blind;
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        let timeout = target.prober.config.timeout;
        let Some(flight) = target.prober.flight(seq) else {
            return;
        };
        let (sent, to, key) = (flight.sent_instant, flight.to, flight.key);
        if let Some((_, id)) = key
            && target.prober.config.kind == ProbeKind::Dns
            && self.queries.get(&(to, id)) == Some(&place)
        {
            self.queries.remove(&(to, id));
        }
        if target.prober.config.kind == ProbeKind::Tcp {
            let ended = |_: &u64, one: &mut Connecting| one.place != place || one.seq != seq;
            self.connecting.retain(ended);
        }
        if !target.prober.is_underway(seq) {
            return;
        }
        let unseen = |(from, to): (Instant, Instant)| sent < to && from < sent + timeout;
        if blind.is_some_and(unseen) {
            target.prober.unjudged(seq);
            return;
        }
        let why = format!("no reply within {}", humantime::format_duration(timeout));
        let burst = target.prober.lost(seq, &why, None);
        if let Some(lookup) = target.aim.doubt(Instant::now()) {
            self.outbox.push_back(Request::Resolve(lookup));
        }
        self.told(place, burst);
    }
}
