//! Drills of probes: a packet out of turn that bears the drill's mark. Whatever becomes of it, it
//! is told as a loss would be; no figure, no state and no baseline hears of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::send::way;
use super::{Engine, Request};
use crate::time::Timestamp;
use crate::trigger::Kind;
use crate::trigger::probe::aim::Missing;
use crate::trigger::probe::config::ProbeKind;
use crate::trigger::probe::connect::{self, Connecting};
use crate::trigger::probe::echo;
use crate::trigger::probe::socket::{Note, Way};
use crate::trigger::probe::stamp::Stamp;
use crate::trigger::probe::wires::Wires;

/// Numbers of drills begin here: no probe gets that far.
pub(super) const FIRST_NUMBER: u64 = 1 << 63;
/// An answer is not waited for any longer, however patient the probe is.
const PATIENCE: Duration = Duration::from_secs(2);

/// A drill whose packet is under way.
#[derive(Debug)]
pub(super) struct Rehearsal {
    place: usize,
    mark: String,
    /// Its number, in the stamp or of the connection.
    number: u64,
    /// Of a DNS query the server and the id.
    query: Option<(SocketAddr, u16)>,
    sent: Instant,
    until: Instant,
}

impl Engine {
    /// Begins the drills that were asked for, and ends those whose time is over.
    pub(super) fn rehearse(&mut self, now: Instant) {
        let marks = self.targets.first().map(|one| one.prober.handle.marks());
        let Some(marks) = marks.cloned() else { return };
        for (name, mark) in marks.take(Kind::Probe) {
            let mut places = self.targets.iter();
            let place = places.position(|one| one.prober.config.name == name);
            let begun = place.map_or_else(
                || Err("there is no such probe".to_owned()),
                |place| self.begin(place, &mark, now),
            );
            if let Err(why) = begun {
                marks.fail(&mark, &format!("the probe cannot be sent: {why}"));
            }
        }
        while let Some(at) = self.rehearsals.iter().position(|one| one.until <= now) {
            let over = self.rehearsals.swap_remove(at);
            self.conclude(&over, "no reply came");
        }
    }

    fn begin(&mut self, place: usize, mark: &str, now: Instant) -> Result<(), String> {
        let target = self
            .targets
            .get_mut(place)
            .ok_or("there is no such probe")?;
        let config = target.prober.config.clone();
        let usable = |address| self.wires.can_reach(config.kind, config.df, address);
        let (aimed, lookup) = target.aim.now(now, usable);
        self.outbox.extend(lookup.map(Request::Resolve));
        let to = aimed.map_err(|Missing { why, .. }| why)?;
        let way = way(&config, to)?;
        self.drills = self.drills.wrapping_add(1);
        let mut rehearsal = Rehearsal {
            place,
            mark: mark.to_owned(),
            number: FIRST_NUMBER | self.drills,
            query: None,
            sent: now,
            until: now + config.timeout.min(PATIENCE),
        };
        let (packet, wire) = match config.kind {
            ProbeKind::Tcp => return self.dial(rehearsal, &way, config.interface.as_deref()),
            ProbeKind::Icmp => {
                let family = Wires::family(to.ip());
                let packet = self.marked(family, &rehearsal);
                (packet, Wires::icmp(family, config.df))
            }
            ProbeKind::Dns => {
                let target = self.targets.get(place);
                let question = target.and_then(|target| target.question.as_ref());
                let question = question.ok_or("it has no question")?;
                let id = u16::try_from(self.cookie_of(rehearsal.number) & 0xffff).unwrap_or(0);
                rehearsal.query = Some((to, id));
                (question.encode(id), Wires::udp(Wires::family(to.ip())))
            }
        };
        let wire = self
            .wires
            .get(wire)
            .ok_or("there is no socket of its family")?;
        let sent = wire.send(&packet, &way).map_err(|error| error.to_string());
        self.rehearsals.push(rehearsal);
        sent.inspect_err(|_| drop(self.rehearsals.pop()))
    }

    /// The echo request, the mark in plain sight behind the stamp.
    fn marked(&self, family: echo::Family, rehearsal: &Rehearsal) -> Vec<u8> {
        let mut stamp = Stamp {
            instance: self.instance,
            probe: u32::try_from(rehearsal.place).unwrap_or(u32::MAX),
            seq: rehearsal.number,
            sent_ns: Timestamp::now().as_ns(),
            cookie: 0,
        };
        stamp.cookie = self.cookie(&stamp);
        echo::encode_with(family, self.icmp_id, &stamp, rehearsal.mark.as_bytes())
    }

    fn dial(
        &mut self,
        rehearsal: Rehearsal,
        way: &Way,
        interface: Option<&str>,
    ) -> Result<(), String> {
        let socket = match connect::begin(way, interface) {
            Ok(socket) => socket,
            Err(connect::Failed::Refused(why)) => {
                self.conclude(&rehearsal, &why);
                return Ok(());
            }
            Err(connect::Failed::Unsent(error)) => return Err(error.to_string()),
        };
        let number = self.next_connection;
        self.next_connection += 1;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.events, &socket, data, epoll::EventFlags::OUT)
            .map_err(|error| error.to_string())?;
        let connecting = Connecting {
            socket,
            place: rehearsal.place,
            seq: rehearsal.number,
            to: way.to,
        };
        self.connecting.insert(number, connecting);
        self.rehearsals.push(rehearsal);
        Ok(())
    }

    /// An answer to the packet of a drill; `false` when it is none.
    pub(super) fn answered(&mut self, stamp: &Stamp, note: Note, refused: bool) -> bool {
        if stamp.seq < FIRST_NUMBER {
            return false;
        }
        let words = match note {
            _ if refused => "a router refused it",
            Note::Packet | Note::Said(..) => "its reply came",
            Note::Left | Note::Other => return true,
        };
        self.over(|one| one.number == stamp.seq, words);
        true
    }

    /// A name server's answer to the query of a drill; `false` when it is none.
    pub(super) fn resolved(&mut self, from: SocketAddr, id: u16, note: Note) -> bool {
        let ours = |one: &Rehearsal| one.query == Some((from, id));
        if !self.rehearsals.iter().any(ours) {
            return false;
        }
        match note {
            Note::Packet => self.over(ours, "its answer came"),
            Note::Said(..) => self.over(ours, "a router refused it"),
            Note::Left | Note::Other => {}
        }
        true
    }

    /// The connection of a drill is decided.
    pub(super) fn dialled(&mut self, connecting: &Connecting) {
        let words = match connect::outcome(connecting) {
            Ok(()) => "the connection was accepted".to_owned(),
            Err(why) => why,
        };
        self.over(|one| one.number == connecting.seq, &words);
    }

    fn over(&mut self, is: impl Fn(&Rehearsal) -> bool, words: &str) {
        if let Some(at) = self.rehearsals.iter().position(is) {
            let over = self.rehearsals.swap_remove(at);
            self.conclude(&over, words);
        }
    }

    /// Tells it as a loss is told.
    fn conclude(&mut self, over: &Rehearsal, words: &str) {
        self.connecting.retain(|_, one| one.seq != over.number);
        let Some(target) = self.targets.get(over.place) else {
            return;
        };
        let handle = &target.prober.handle;
        let Some(mut trigger) = handle.drill(over.mark.as_bytes(), Timestamp::now()) else {
            return;
        };
        let took = humantime::format_duration(over.sent.elapsed());
        trigger.text = format!("{}; after {took} {words}, told as a loss", trigger.text);
        let request = Request::Deliver(over.place, Box::new(trigger));
        self.outbox.push_back(request);
    }

    fn cookie_of(&self, number: u64) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one((self.instance, number))
    }
}
