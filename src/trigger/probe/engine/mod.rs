//! The thread that sends all probes and takes in all answers.
//!
//! One thread, one heap of deadlines, one socket per family: what is due is sent at its absolute
//! time, answers are handed to their target by what they carry, and before a probe is called lost
//! everything that waits in the sockets is taken in. Nothing here waits for a name server, a disk
//! or the journal. `send` puts probes on the wire, `answers` finds out what became of them, `tell` makes
//! triggers of it; `rehearsal` is the same for drills.

mod answers;
mod rehearsal;
mod send;
mod tell;

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::aim::{Aim, Lookup};
use super::cadence::Cadence;
use super::connect::Connecting;
use super::dns::Question;
use super::early::Saving;
use super::path::PathConfig;
use super::prober::Prober;
use super::stamp::Stamp;
use super::wires::Wires;
use crate::trigger::Trigger;
use crate::trigger::status::SourceState;
use rehearsal::Rehearsal;

/// The largest answer looked at; ours are far smaller.
const ANSWER_BYTES_MAX: usize = 2048;
/// The thread looks this often whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);
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

    fn cookie(&self, stamp: &Stamp) -> u64 {
        self.hasher
            .hash_one((stamp.instance, stamp.probe, stamp.seq, stamp.sent_ns))
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

/// How long the machine has slept since it was started.
fn asleep() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}
