//! One target: its probes under way, what became of them, and when that is a fault. No socket and
//! no clock: both are handed in.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::config::ProbeConfig;
use super::early::Early;
use super::icmp_error::IcmpErrorKind;
use super::state::{Burst, ProbeState};
use super::stats::Fate;
use super::track::{Sample, TrackHandle};
use crate::time::Timestamp;
use crate::trigger::status::{Count, SourceHandle, SourceState};

/// Decided probes kept beside those under way: late and second replies are recognised so long.
const REMEMBERED: usize = 32;
/// The kernel's two times are believed when they say no more than this above our own clock.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(1);
/// The most probes that a trigger lists.
const LISTED_MAX: usize = 16;

/// A probe that was sent.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) seq: u64,
    /// Just before it was handed to the kernel.
    pub(super) sent: Timestamp,
    pub(super) sent_instant: Instant,
    /// When it left, by the kernel.
    pub(super) left: Option<Timestamp>,
    pub(super) to: SocketAddr,
    pub(super) cookie: u64,
    /// What finds it in a capture when it carries no stamp: our port, and for DNS the id.
    pub(super) key: Option<(u16, u16)>,
    pub(super) fate: Fate,
}

/// A reply to a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) seq: u64,
    /// When it came, by the kernel.
    pub(super) at: Option<Timestamp>,
    /// When we saw it.
    pub(super) seen: Instant,
    pub(super) ttl: Option<u8>,
}

/// One target.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) config: ProbeConfig,
    pub(super) state: ProbeState,
    pub(super) handle: SourceHandle,
    track: TrackHandle,
    /// What watches for early signs, if anything does.
    early: Option<Early>,
    flights: VecDeque<Flight>,
    underway: usize,
    highest_replied: Option<u64>,
    /// Why the last one failed.
    why: String,
    /// The last failed one that somebody on the way said something about: when it was sent, and what.
    explained: Option<(Timestamp, String)>,
}

impl Prober {
    pub(super) fn new(config: ProbeConfig, handle: SourceHandle, track: TrackHandle) -> Self {
        Self {
            state: ProbeState::new(config.lost, config.of),
            config,
            handle,
            track,
            early: None,
            flights: VecDeque::new(),
            underway: 0,
            highest_replied: None,
            why: String::new(),
            explained: None,
        }
    }

    /// Opens the record of the next probe; its number.
    pub(super) fn open(&mut self, sent: Timestamp, sent_instant: Instant, to: SocketAddr) -> u64 {
        let seq = {
            let mut track = self.track.lock();
            track.address = Some(to.ip());
            track.samples.sent(sent)
        };
        self.state.sent(seq, sent);
        self.flights.push_back(Flight {
            seq,
            sent,
            sent_instant,
            left: None,
            to,
            cookie: 0,
            key: None,
            fate: Fate::Underway,
        });
        self.underway += 1;
        while self.flights.len() > self.underway + REMEMBERED
            && self
                .flights
                .front()
                .is_some_and(|flight| flight.fate != Fate::Underway)
        {
            self.flights.pop_front();
        }
        seq
    }

    /// The record of a probe that is still remembered.
    pub(super) fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        let first = self.flights.front()?.seq;
        let place = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.flights.get_mut(place)
    }

    /// The number of the probe that has this key and went to `to`.
    pub(super) fn keyed(&self, key: (u16, u16), to: SocketAddr) -> Option<u64> {
        let wanted = |flight: &&Flight| flight.key == Some(key) && flight.to == to;
        self.flights
            .iter()
            .rev()
            .find(wanted)
            .map(|flight| flight.seq)
    }

    /// It was handed to the kernel.
    pub(super) fn sent(&self) {
        self.handle.count(Count::Sent);
        self.track.lock().counts.sent += 1;
    }

    /// It could not be sent. `path` tells that the reason lies on the way (no route), not in this
    /// host's load: then it counts towards a fault, though it is no loss.
    pub(super) fn unsent(&mut self, seq: u64, why: &str, path: bool) -> Option<Burst> {
        self.why = format!("our host did not send: {why}");
        let address = self.settle(seq, Fate::Unsent)?;
        self.track.lock().counts.unsent += 1;
        let burst = if path {
            self.state.decide(seq, false)
        } else {
            self.state.forget(seq);
            None
        };
        self.describe(&format!("{address} {}", self.why), true);
        burst
    }

    /// Sends that were due while nobody could send.
    pub(super) fn missed(&self, count: u64) {
        if count > 0 {
            self.track.lock().counts.missed += count;
        }
    }

    /// Takes in a reply.
    pub(super) fn replied(&mut self, reply: Reply) {
        let timeout = self.config.timeout;
        let Some(flight) = self.flight(reply.seq) else {
            self.handle.count(Count::Unexpected);
            return;
        };
        let (sent, fate, to) = (flight.sent, flight.fate, flight.to);
        let rtt = round_trip(flight, reply);
        let mut sample = Sample {
            sent,
            rtt: Some(rtt),
            lost: false,
            ttl: reply.ttl,
            icmp_error: None,
            duplicate: false,
            reordered: false,
        };
        match fate {
            Fate::Underway if rtt <= timeout => {}
            Fate::Underway => return,
            Fate::Replied(_) => {
                self.handle.count(Count::Unexpected);
                sample.duplicate = true;
                self.sample(sample);
                return;
            }
            Fate::Lost => {
                self.handle.count(Count::Unexpected);
                self.track.lock().counts.late += 1;
                return;
            }
            Fate::Unsent | Fate::Unjudged => {
                self.handle.count(Count::Unexpected);
                return;
            }
        }
        self.settle(reply.seq, Fate::Replied(rtt.as_secs_f32()));
        sample.reordered = self
            .highest_replied
            .is_some_and(|highest| highest > reply.seq);
        self.highest_replied = self.highest_replied.max(Some(reply.seq));
        self.handle.count(Count::Received);
        self.track.lock().counts.received += 1;
        // A loss is the answer for it: only losses are told.
        let _none = self.state.decide(reply.seq, true);
        self.sample(sample);
        let detail = format!("{} {:.3} ms", to.ip(), rtt.as_secs_f64() * 1000.0);
        self.describe(&detail, false);
    }

    /// Somebody says something about a probe; a burst if that makes a fault.
    pub(super) fn said(
        &mut self,
        seq: u64,
        error: IcmpErrorKind,
        by: Option<IpAddr>,
    ) -> Option<Burst> {
        let now = Timestamp::now();
        let flight = self.flight(seq)?;
        let (fate, sent) = (flight.fate, flight.sent);
        self.track.lock().heard(by, error, now);
        let why = match by {
            Some(by) => format!("{error}, says {by}"),
            None => error.to_string(),
        };
        if fate != Fate::Underway || !error.is_fatal() {
            self.sample(Sample {
                sent,
                rtt: None,
                lost: false,
                ttl: None,
                icmp_error: Some(error),
                duplicate: false,
                reordered: false,
            });
            return None;
        }
        self.lost(seq, &why, Some(error))
    }

    /// Its time is over, or it was refused; a burst if that makes a fault.
    pub(super) fn lost(
        &mut self,
        seq: u64,
        why: &str,
        error: Option<IcmpErrorKind>,
    ) -> Option<Burst> {
        let address = self.settle(seq, Fate::Lost)?;
        why.clone_into(&mut self.why);
        self.handle.count(Count::Lost);
        self.track.lock().counts.lost += 1;
        let burst = self.state.decide(seq, false);
        if let Some(sent) = self.flight(seq).map(|flight| flight.sent) {
            if error.is_some() {
                self.explained = Some((sent, why.to_owned()));
            }
            self.sample(Sample {
                sent,
                rtt: None,
                lost: true,
                ttl: None,
                icmp_error: error,
                duplicate: false,
                reordered: false,
            });
        }
        self.describe(&format!("{address} {why}"), true);
        burst
    }

    /// Its time is over, but this host was not awake to notice a reply.
    pub(super) fn unjudged(&mut self, seq: u64) {
        if self.settle(seq, Fate::Unjudged).is_some() {
            self.track.lock().counts.unjudged += 1;
            self.state.forget(seq);
        }
    }

    /// Lets early signs be watched for.
    pub(super) fn watch(&mut self, early: Early) {
        self.early = Some(early);
    }

    /// What watches for early signs.
    pub(super) fn early(&mut self) -> Option<&mut Early> {
        self.early.as_mut()
    }

    /// Where the last probe went.
    pub(super) fn towards(&self) -> Option<SocketAddr> {
        self.flights.back().map(|flight| flight.to)
    }

    /// Every sample of this target passes here.
    fn sample(&mut self, sample: Sample) {
        if let Some(early) = &mut self.early {
            early.observe(&sample, self.state.in_fault());
        }
        let mut track = self.track.lock();
        track.counts.duplicates += u64::from(sample.duplicate);
        track.counts.reordered += u64::from(sample.reordered);
        if let Some(ttl) = sample.ttl.filter(|_| !sample.duplicate) {
            track.hop_limit(ttl, sample.sent);
        }
    }

    /// Ends a probe that is under way; where it went.
    fn settle(&mut self, seq: u64, fate: Fate) -> Option<IpAddr> {
        let flight = self.flight(seq)?;
        if flight.fate != Fate::Underway {
            return None;
        }
        flight.fate = fate;
        let address = flight.to.ip();
        self.underway = self.underway.saturating_sub(1);
        self.track.lock().samples.decide(seq, fate);
        Some(address)
    }

    /// Whether a probe is still under way.
    pub(super) fn is_underway(&mut self, seq: u64) -> bool {
        self.flight(seq)
            .is_some_and(|flight| flight.fate == Fate::Underway)
    }

    fn describe(&self, detail: &str, failed: bool) {
        self.track.lock().health = self.state.knows().then(|| !self.state.is_losing());
        let mut detail = detail.to_owned();
        if let Some(burst) = self.state.burst() {
            detail = format!("{detail}; {} of the last {} lost", burst.lost, burst.of);
        }
        let state = if failed || self.state.in_fault() {
            SourceState::Failing
        } else {
            SourceState::Ok
        };
        self.report(state, &detail);
    }

    /// Says how the source is doing; logs a change.
    pub(super) fn report(&self, state: SourceState, detail: &str) {
        if self.handle.set(state, detail) {
            if state == SourceState::Failing {
                tracing::warn!(probe = self.handle.name(), "{detail}");
            } else {
                tracing::info!(probe = self.handle.name(), "{detail}");
            }
        }
    }

    /// Why the last one failed, and what was said about another since `since`: one that is late does
    /// not hide what a router said.
    pub(super) fn why(&self, since: Timestamp) -> String {
        match &self.explained {
            Some((sent, said)) if *sent >= since && *said != self.why => {
                format!("{}; of another: {said}", self.why)
            }
            _ => self.why.clone(),
        }
    }

    /// What incidents of this target are about.
    pub(super) fn subject(&self) -> String {
        let name = &self.config.name;
        let subject = self.config.subject.clone();
        subject.unwrap_or_else(|| format!("probe {name}"))
    }

    /// The latest probes that failed, for [`super::record`].
    pub(super) fn failed(&self) -> impl Iterator<Item = &Flight> {
        let failed = |flight: &&Flight| matches!(flight.fate, Fate::Lost | Fate::Unsent);
        let count = self.flights.iter().filter(failed).count();
        let skipped = count.saturating_sub(LISTED_MAX);
        self.flights.iter().filter(failed).skip(skipped)
    }
}

/// The round trip: between the kernel's times when both are known and the clock was not set
/// meanwhile, else by our own clock.
fn round_trip(flight: &Flight, reply: Reply) -> Duration {
    let seen = reply.seen.saturating_duration_since(flight.sent_instant);
    let Some(came) = reply.at else {
        return seen;
    };
    let left = flight.left.unwrap_or(flight.sent);
    if came < left {
        return seen;
    }
    let kernel = came.since(left);
    if kernel <= seen + CLOCK_TOLERANCE {
        kernel
    } else {
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::ProbeKind;
    use super::super::track::Track;
    use super::*;
    use crate::trigger::Kind;
    use crate::trigger::status::Sources;

    const TO: &str = "192.0.2.1:0";

    fn prober() -> Prober {
        let config: ProbeConfig =
            toml::from_str("name = \"p\"\ntarget = \"192.0.2.1\"\nlost = 2\nof = 3").unwrap();
        let handle = Sources::default().register(Kind::Probe, "p");
        let track = Track::new("p", ProbeKind::Icmp, "192.0.2.1", config.interval);
        Prober::new(config, handle, TrackHandle::new(track))
    }

    fn send(prober: &mut Prober, ms: u64) -> u64 {
        let sent = Timestamp::from_ns(1_000_000_000_000 + ms * 1_000_000);
        let seq = prober.open(sent, Instant::now(), TO.parse().unwrap());
        prober.sent();
        seq
    }

    fn reply(seq: u64, after_ms: u64, prober: &mut Prober) -> Reply {
        let flight = prober.flight(seq).unwrap();
        let after = Duration::from_millis(after_ms);
        Reply {
            seq,
            at: Some(flight.sent.plus(after)),
            seen: flight.sent_instant + after,
            ttl: Some(60),
        }
    }

    #[test]
    fn each_reply_counts_once_and_in_its_time() {
        let mut prober = prober();
        let (a, b, c) = (
            send(&mut prober, 0),
            send(&mut prober, 1),
            send(&mut prober, 2),
        );
        let in_time = reply(b, 20, &mut prober);
        prober.replied(in_time);
        prober.replied(in_time);
        let overtaken = reply(a, 30, &mut prober);
        prober.replied(overtaken);
        assert!(prober.lost(c, "no reply", None).is_none());
        let late = reply(c, 1500, &mut prober);
        prober.replied(late);
        let counts = prober.track.lock().counts;
        let expected = super::super::track::ProbeCounts {
            sent: 3,
            received: 2,
            lost: 1,
            late: 1,
            duplicates: 1,
            reordered: 1,
            ..Default::default()
        };
        assert_eq!(counts, expected);
        assert_eq!(prober.handle.get(Count::Unexpected), 2);
        let status = prober.handle.status();
        assert_eq!(status.detail, "192.0.2.1 no reply; 1 of the last 3 lost");
    }

    #[test]
    fn what_was_not_sent_is_no_loss() {
        let mut prober = prober();
        for ms in 0..5 {
            let seq = send(&mut prober, ms);
            assert!(prober.unsent(seq, "no buffer space", false).is_none());
        }
        assert!(!prober.state.in_fault());
        // Without a route nothing leaves either, but that is a fault of the path.
        let seq = send(&mut prober, 6);
        assert!(prober.unsent(seq, "no route", true).is_none());
        let seq = send(&mut prober, 7);
        assert!(prober.unsent(seq, "no route", true).is_some());
        let counts = prober.track.lock().counts;
        assert_eq!((counts.lost, counts.unsent), (0, 7));
        assert_eq!(
            prober.why(Timestamp::MIN),
            "our host did not send: no route"
        );
        assert_eq!(prober.failed().count(), 7);
    }

    #[test]
    fn a_sleeping_host_accuses_nobody() {
        let mut prober = prober();
        for ms in 0..5 {
            let seq = send(&mut prober, ms);
            prober.unjudged(seq);
        }
        assert!(prober.state.burst().is_none());
        assert_eq!(prober.track.lock().counts.unjudged, 5);
    }

    #[test]
    fn a_redirect_is_heard_and_the_probe_goes_on() {
        let mut prober = prober();
        let seq = send(&mut prober, 0);
        let by = Some(IpAddr::from([192, 0, 2, 9]));
        assert!(prober.said(seq, IcmpErrorKind::Redirect, by).is_none());
        assert!(prober.is_underway(seq));
        assert!(
            prober
                .said(seq, IcmpErrorKind::HostUnreachable, by)
                .is_none()
        );
        let next = send(&mut prober, 1);
        let burst = prober
            .said(next, IcmpErrorKind::HostUnreachable, by)
            .unwrap();
        assert_eq!(burst.lost, 2);
        assert_eq!(prober.why(burst.first), "host unreachable, says 192.0.2.9");
        // A silent one behind it hides nothing, until what was said is of another time.
        let silent = send(&mut prober, 2);
        prober.lost(silent, "no reply", None);
        let both = "no reply; of another: host unreachable, says 192.0.2.9";
        assert_eq!(prober.why(burst.first), both);
        assert_eq!(prober.why(Timestamp::MAX), "no reply");
    }

    #[test]
    fn a_clock_that_was_set_spoils_no_round_trip() {
        let mut prober = prober();
        let seq = send(&mut prober, 0);
        let honest = reply(seq, 20, &mut prober);
        let flight = prober.flight(seq).unwrap();
        assert_eq!(round_trip(flight, honest), Duration::from_millis(20));
        for shift in [Duration::from_secs(5), Duration::from_millis(30)] {
            let at = honest.at.map(|at| at.plus(shift));
            let stepped = Reply { at, ..honest };
            assert_eq!(round_trip(flight, stepped), Duration::from_millis(20));
            let at = honest.at.map(|at| at.minus(shift));
            let stepped = Reply { at, ..honest };
            assert_eq!(round_trip(flight, stepped), Duration::from_millis(20));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut prober = prober();
        for ms in 0..1000 {
            let seq = send(&mut prober, ms);
            prober.lost(seq, "x", None);
        }
        assert!(prober.flights.len() <= REMEMBERED + 1);
        assert!(prober.failed().count() <= LISTED_MAX);
    }
}
