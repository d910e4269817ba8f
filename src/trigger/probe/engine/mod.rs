//! The thread that sends all probes and takes in all answers.
//!
//! One thread, one heap of deadlines, one socket per family: what is due is sent at its absolute
//! time, answers are handed to their target by what they carry, and before a probe is called lost
//! everything that waits in the sockets is taken in. Nothing here waits for a name server, a disk
//! or the journal.

mod rehearsal;

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::aim::{Aim, Lookup, Missing};
use super::cadence::Cadence;
use super::config::ProbeKind;
use super::connect::{self, Connecting};
use super::dns::{self, Question, Rcode};
use super::early::Saving;
use super::echo::{self, Answer, Family};
use super::path::{Health, PathConfig, where_loss_begins};
use super::prober::{Prober, Reply};
use super::record::ProbeRecords;
use super::route::interface_index;
use super::socket::{Arrival, Note, Way};
use super::stamp::Stamp;
use super::state::Burst;
use super::wires::Wires;
use crate::time::Timestamp;
use crate::trigger::precursor::{Edge, Sign};
use crate::trigger::status::{Count, SourceState};
use crate::trigger::{Grade, Kind, Trigger};
use rehearsal::{FIRST_NUMBER, Rehearsal};

/// The largest answer looked at; ours are far smaller.
const ANSWER_BYTES_MAX: usize = 2048;
/// The thread looks this often whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Answers taken from a socket in a row, so that a flood does not delay what is due.
const DRAIN_MAX: usize = 4096;
/// Sends in a row, so that answers are taken in between.
const SENDS_MAX: usize = 256;
/// A thread that woke so much too late was not able to judge what should have come meanwhile.
const STALL: Duration = Duration::from_secs(2);
/// The machine slept when its two clocks differ by so much more than before.
const SUSPENDED: Duration = Duration::from_millis(500);
/// Connections have numbers from here on in the event list, wires those below.
const FIRST_CONNECTION: u64 = 1 << 32;

/// What the thread asks others to do.
#[derive(Debug)]
pub(super) enum Request {
    /// Hand in the trigger of the probe of this place.
    Deliver(usize, Box<Trigger>),
    /// Resolve a name.
    Resolve(Lookup),
    /// Save what is usual of a target.
    Save(Saving),
}

/// A target with what is needed to send to it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) prober: Prober,
    pub(super) aim: Aim,
    pub(super) question: Option<Question>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Send(usize),
    Judge(usize, u64),
}

pub(super) struct Engine {
    wires: Wires,
    targets: Vec<Target>,
    cadences: Vec<Cadence>,
    paths: Vec<PathConfig>,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    /// DNS queries under way, by server and id.
    queries: HashMap<(SocketAddr, u16), usize>,
    connecting: HashMap<u64, Connecting>,
    next_connection: u64,
    events: OwnedFd,
    requests: mpsc::Sender<Request>,
    /// Requests for which the queue had no room yet. Bounded: a target asks again only after its
    /// fault is over.
    outbox: VecDeque<Request>,
    instance: u64,
    icmp_id: u16,
    hasher: RandomState,
    /// The last time in which nothing could be judged.
    blind: Option<(Instant, Instant)>,
    asleep: Duration,
    buffer: Vec<u8>,
    rehearsals: Vec<Rehearsal>,
    /// Drills so far.
    drills: u64,
}

impl Engine {
    pub(super) fn new(
        wires: Wires,
        targets: Vec<Target>,
        paths: Vec<PathConfig>,
        requests: mpsc::Sender<Request>,
    ) -> io::Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (place, wire) in wires.iter() {
            let data = epoll::EventData::new_u64(u64::try_from(place).unwrap_or(0));
            epoll::add(&events, wire, data, epoll::EventFlags::IN)?;
        }
        let start = Instant::now();
        let number = |place| u32::try_from(place).unwrap_or(u32::MAX);
        let cadences: Vec<Cadence> = targets
            .iter()
            .enumerate()
            .map(|(place, target)| {
                Cadence::new(start, target.prober.config.interval, number(place))
            })
            .collect();
        let due = cadences.iter().enumerate();
        let due = due.map(|(place, cadence)| Reverse((cadence.due(), Due::Send(place))));
        let instance = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            wires,
            due: due.collect(),
            targets,
            cadences,
            paths,
            queries: HashMap::new(),
            connecting: HashMap::new(),
            next_connection: FIRST_CONNECTION,
            events,
            requests,
            outbox: VecDeque::new(),
            instance,
            icmp_id: u16::try_from(instance & 0xffff).unwrap_or(0),
            hasher: RandomState::new(),
            blind: None,
            asleep: asleep(),
            buffer: vec![0; ANSWER_BYTES_MAX],
            rehearsals: Vec::new(),
            drills: 0,
        })
    }

    /// Probes until `stop`.
    pub(super) fn run(mut self, stop: &CancellationToken) {
        let mut last = Instant::now();
        let mut planned = last;
        while !stop.is_cancelled() {
            self.take_in();
            let now = Instant::now();
            self.look_for_stalls(last, planned, now);
            let mut sends = 0;
            while let Some(Reverse((at, due))) = self.due.peek().copied()
                && at <= now
                && sends < SENDS_MAX
            {
                self.due.pop();
                match due {
                    Due::Send(place) => {
                        sends += 1;
                        self.send(place, now);
                    }
                    Due::Judge(place, seq) => self.judge(place, seq),
                }
            }
            self.rehearse(Instant::now());
            self.flush();
            last = Instant::now();
            planned = self.next(last);
            self.wait(planned.saturating_duration_since(last));
        }
        for target in &mut self.targets {
            target.prober.report(SourceState::Stopped, "");
            let saving = target.prober.early().and_then(|early| early.save());
            if let Some(saving) = saving {
                // An error means that nobody is left to save it.
                let _sent = self.requests.blocking_send(Request::Save(saving));
            }
        }
    }

    fn next(&self, now: Instant) -> Instant {
        let latest = now + LOOK_UP;
        self.due
            .peek()
            .map_or(latest, |Reverse((at, _))| latest.min(*at))
    }

    fn look_for_stalls(&mut self, last: Instant, planned: Instant, now: Instant) {
        let asleep = asleep();
        let slept = asleep.saturating_sub(self.asleep) > SUSPENDED;
        self.asleep = asleep;
        if slept || now.saturating_duration_since(planned) > STALL {
            tracing::warn!("probes: this host stood still; what was under way is not judged");
            self.blind = Some((last, now));
        }
    }

    /// Waits until something can be read, a connection is decided, or `at_most` is over.
    fn wait(&mut self, at_most: Duration) {
        let timeout = Timespec::try_from(at_most).unwrap_or(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 64];
        // An interrupted wait is a short one.
        let count = epoll::wait(&self.events, &mut events[..], Some(&timeout)).unwrap_or(0);
        for event in events.iter().take(count) {
            let number = event.data.u64();
            if number >= FIRST_CONNECTION {
                self.connected(number);
            }
        }
    }

    /// Takes in everything that waits in the sockets: errors and times of sending first, since the
    /// replies belong to them.
    fn take_in(&mut self) {
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

    fn cookie(&self, stamp: &Stamp) -> u64 {
        self.hasher
            .hash_one((stamp.instance, stamp.probe, stamp.seq, stamp.sent_ns))
    }

    fn send(&mut self, place: usize, now: Instant) {
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
        let interface = match config.interface.as_deref() {
            None => None,
            Some(name) => match interface_index(name) {
                Some(index) => Some(index),
                None => return Err(Unsent::on_path(&format!("there is no interface {name}"))),
            },
        };
        let way = Way {
            to,
            from: config.source,
            interface,
            ttl: config.ttl.map(std::num::NonZeroU8::get),
            tos: config.tos,
        };
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

    /// A connection is decided.
    fn connected(&mut self, number: u64) {
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
    fn judge(&mut self, place: usize, seq: u64) {
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

    /// Early signs and a burst, if there is one, become triggers.
    fn told(&mut self, place: usize, burst: Option<Burst>) {
        self.tell_early(place);
        let Some(burst) = burst else { return };
        if let Some(trigger) = self.trigger(place, burst) {
            let request = Request::Deliver(place, Box::new(trigger));
            self.outbox.push_back(request);
        }
    }

    fn tell_early(&mut self, place: usize) {
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        let Some(early) = target.prober.early() else {
            return;
        };
        let (signs, saving) = (early.take(), early.save_if_due());
        self.outbox.extend(saving.map(Request::Save));
        for sign in signs {
            tracing::info!(probe = target.prober.handle.name(), "{}", sign.text);
            if sign.edge == Edge::Raised
                && let Some(trigger) = early_trigger(&target.prober, &sign)
            {
                let request = Request::Deliver(place, Box::new(trigger));
                self.outbox.push_back(request);
            }
        }
    }

    fn trigger(&self, place: usize, burst: Burst) -> Option<Trigger> {
        let prober = &self.targets.get(place)?.prober;
        let config = &prober.config;
        let failed = prober.failed().last()?;
        let (target, why) = (failed.to.ip(), prober.why(burst.first));
        let mut text = format!(
            "{} of the last {} probes to {target} lost (first at {}): {why}",
            burst.lost, burst.of, burst.first
        );
        let where_lost = self.loss_on_path(&config.name);
        if let Some((path, _, words)) = &where_lost {
            text = format!("{text}; path {path}: {words}");
        }
        let received = Timestamp::now();
        let subject = prober.subject();
        let (kind, name) = (Kind::Probe, &config.name);
        let mut trigger = Trigger::new(kind, name, &subject, &text, burst.first, received);
        trigger.suggested_filter = Some(filter(config.kind, failed.to));
        let mut field = |name: &str, value: String| {
            trigger.fields.insert(name.to_owned(), value);
        };
        field("peer", target.to_string());
        field("target", config.target.clone());
        if let Some((path, at, words)) = where_lost {
            field("path", path);
            field("loss_begins_at", at);
            field("loss_begins", words);
        }
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let records = ProbeRecords::fields(self.instance, number, failed.to, prober.failed());
        for (name, value) in records {
            field(name, value);
        }
        Some(trigger)
    }

    /// Where loss begins on the first path of which this probe is a point: the path, the point,
    /// and words.
    fn loss_on_path(&self, probe: &str) -> Option<(String, String, String)> {
        let path = self
            .paths
            .iter()
            .find(|path| path.points.iter().any(|p| p == probe))?;
        let health = |point: &String| {
            let found = self
                .targets
                .iter()
                .find(|one| one.prober.config.name == *point);
            match found.map(|one| &one.prober.state) {
                Some(state) if state.is_losing() => Health::Loses,
                Some(state) if state.knows() => Health::Answers,
                _ => Health::Unknown,
            }
        };
        let healths: Vec<Health> = path.points.iter().map(health).collect();
        let map = where_loss_begins(&healths);
        let at = path.points.get(map.begins?)?;
        Some((path.name.clone(), at.clone(), map.text(&path.points)?))
    }

    /// Hands on what others are to do.
    fn flush(&mut self) {
        while let Some(request) = self.outbox.pop_front() {
            match self.requests.try_send(request) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(request)) => {
                    self.outbox.push_front(request);
                    return;
                }
                // We are stopping.
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }
}

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

/// The precursor that an early sign asks for.
fn early_trigger(prober: &Prober, sign: &Sign) -> Option<Trigger> {
    let (config, to) = (&prober.config, prober.towards()?);
    let text = format!("early sign from {}: {}", to.ip(), sign.text);
    let received = Timestamp::now();
    let (kind, name, subject) = (Kind::Probe, &config.name, prober.subject());
    let mut trigger = Trigger::new(kind, name, &subject, &text, sign.since, received);
    trigger.grade = Grade::Precursor;
    trigger.suggested_filter = Some(filter(config.kind, to));
    let fields = [
        ("peer", to.ip().to_string()),
        ("target", config.target.clone()),
        ("sign", sign.kind.name().to_owned()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    trigger.fields.extend(fields);
    Some(trigger)
}

/// What shows the probes of a target in a capture, pcap-filter(7).
fn filter(kind: ProbeKind, to: SocketAddr) -> String {
    let (host, port) = (to.ip(), to.port());
    match kind {
        ProbeKind::Icmp if host.is_ipv4() => format!("icmp and host {host}"),
        ProbeKind::Icmp => format!("icmp6 and host {host}"),
        ProbeKind::Tcp => format!("tcp port {port} and host {host}"),
        ProbeKind::Dns => format!("udp port {port} and host {host}"),
    }
}

/// How long the machine has slept since it was started.
fn asleep() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}
