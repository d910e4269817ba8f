//! A capture from a live interface, from its opening until it goes away.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use pcap::{Active, Capture};

use crate::clock::{Discipline, Moment};
use crate::counters::Counters;
use crate::recorder::capture::{Capturer, Command, finish, wait};
use crate::recorder::device::Device;
use crate::recorder::events::Done;
use crate::recorder::open::{BLOCK_TIMEOUT, segment_header};
use crate::recorder::protocol::{GapCause, InterfaceState};
use crate::recorder::socket;
use crate::recorder::source::Source;
use crate::time::Timestamp;

/// Between two lines of accounting.
const REPORT: Duration = Duration::from_secs(1);

/// How often a quiet link is put on record as quiet.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// The longest rest after packets were taken. Waking for each block the kernel hands over would cost
/// more than copying what is in it.
const REST: Duration = Duration::from_millis(40);

/// How long the kernel's buffer can be left alone: a fifth of it at 10 Gbit/s.
fn rest(buffer_bytes: u64) -> Duration {
    Duration::from_nanos(buffer_bytes / 5 * 8 / 10).min(REST)
}

/// Why a capture ended.
pub(super) enum End {
    /// A stop was asked for.
    Stopped,
    /// The interface or its socket is gone; open again.
    Lost(String),
}

/// Where the counts stood when an interface was opened with a filter.
struct Refused {
    packets: u64,
    received: u64,
    filtered: u64,
}

/// One opened interface.
pub(super) struct Live<'a> {
    capturer: &'a mut Capturer,
    source: Source,
    index: u32,
    /// Driver drops when it was opened.
    drops_before: u64,
    /// `dropped_iface` of earlier openings.
    drops_earlier: u64,
    /// With a capture filter: what came before it.
    refused: Option<Refused>,
    pending: Vec<Done>,
    pending_seal: bool,
    /// When the oldest pending flush came in.
    asked: Option<(Instant, Timestamp)>,
    rates: (Instant, Counters),
    down: bool,
    /// Whether packets were taken since the last sleep.
    busy: bool,
}

impl<'a> Live<'a> {
    pub(super) fn new(capturer: &'a mut Capturer, capture: Capture<Active>, index: u32) -> Self {
        let now = Instant::now();
        let drops_before = capturer.shared.link.drops.load(Ordering::Relaxed);
        let counters = *capturer.writer.counters();
        let filtered = !capturer.options.filter.is_empty();
        // What the filter refused is of the interface; the first of several threads counts it.
        let refused = (filtered && capturer.shared.member.index == 0).then(|| {
            let link = &capturer.shared.link;
            link.counted.store(true, Ordering::Relaxed);
            let others = link.others.load(Ordering::Relaxed);
            Refused {
                packets: Device::open(&capturer.shared.name).packets(),
                received: counters.received.saturating_add(others),
                filtered: counters.filtered,
            }
        });
        Self {
            refused,
            source: Source::new(capture, &capturer.shared.name, index, &capturer.options),
            index,
            drops_before,
            drops_earlier: counters.dropped_iface,
            pending: Vec::new(),
            pending_seal: false,
            asked: None,
            rates: (now, counters),
            down: false,
            busy: false,
            capturer,
        }
    }

    /// Records until stopped or until the interface is gone.
    pub(super) fn run(mut self) -> End {
        let start = Timestamp::now();
        let linktype = self.source.linktype();
        let header = segment_header(&self.capturer.shared.name, linktype, &self.capturer.options);
        self.capturer.writer.set_header(header, start);
        match self.source.socket().try_clone_to_owned() {
            Ok(socket) => self.capturer.writer.count_with(Some(Box::new(socket))),
            Err(error) => return self.lost(format!("its socket cannot be counted: {error}")),
        }
        self.resumed(start, None);
        self.capturer.writer.begin(start);
        loop {
            let sync = self.capturer.options.sync;
            let taken = self.source.take(&mut self.capturer.writer);
            let idle = matches!(taken, Ok(0));
            if self.is_due(sync, idle) {
                self.flush(idle);
            }
            self.publish(idle);
            if let Some(end) = self.answer(idle) {
                return end;
            }
            match taken {
                Ok(0) => {
                    if let Some(end) = self.check_link() {
                        return end;
                    }
                    self.sleep();
                }
                Ok(_) => self.busy = true,
                Err(error) => return self.lost(error),
            }
        }
    }

    /// Whether something should go to disk: packets after `sync`, and, on a quiet link, now and then
    /// the statement that it was quiet.
    fn is_due(&self, sync: Duration, idle: bool) -> bool {
        let since = self.capturer.writer.since_flush();
        let quiet = idle && !self.down && since >= HEARTBEAT;
        quiet || (self.capturer.writer.is_dirty() && since >= sync)
    }

    /// Sleeps until there is something to do. While packets come, that is after a rest, however many
    /// blocks the kernel fills meanwhile.
    fn sleep(&mut self) {
        let shared = &self.capturer.shared;
        let busy = std::mem::take(&mut self.busy);
        let [woken] = if busy && self.asked.is_none() {
            let rest = rest(self.capturer.options.buffer_bytes);
            wait([shared.wake_fd()], rest)
        } else {
            let fds = [shared.wake_fd(), self.source.socket()];
            let [woken, signalled] = wait(fds, self.patience());
            self.source.signalled(signalled);
            [woken]
        };
        if woken {
            shared.clear_wake();
        }
    }

    /// How long to sleep when nothing comes.
    fn patience(&self) -> Duration {
        if self.asked.is_some() {
            return Duration::from_millis(1);
        }
        let report = REPORT.saturating_sub(self.rates.0.elapsed());
        if self.capturer.writer.is_dirty() {
            let sync = self.capturer.options.sync;
            return report.min(sync.saturating_sub(self.capturer.writer.since_flush()));
        }
        report
    }

    /// Takes commands in; true once everything received before the oldest one is in the slot.
    fn answer(&mut self, idle: bool) -> Option<End> {
        loop {
            match self.capturer.commands.try_recv() {
                Ok(Command::Flush { seal, done }) => {
                    self.pending.push(done);
                    self.pending_seal |= seal;
                    // The newest request counts: it wants what came before *it*.
                    self.asked = Some((Instant::now(), Timestamp::now()));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.drain();
                    return Some(End::Stopped);
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        if let Some((since, asked)) = self.asked {
            // A packet of after the request proves that all before it came. So does an empty buffer
            // after the time in which the kernel hands over a block that is not full.
            let drained = idle && since.elapsed() >= 3 * BLOCK_TIMEOUT;
            if drained || self.capturer.writer.last_packet() >= asked {
                self.asked = None;
                self.answer_flush(asked, idle);
            }
        }
        None
    }

    fn answer_flush(&mut self, asked: Timestamp, idle: bool) {
        self.take_counts(idle);
        self.capturer.writer.report(true);
        let done = std::mem::take(&mut self.pending);
        let at = self.vouched(asked);
        if self.pending_seal && !self.down {
            self.capturer.writer.vouch(at);
        }
        finish(&mut self.capturer.writer, at, self.pending_seal, done);
        self.pending_seal = false;
    }

    /// Lets the keeper write what is there. With an empty buffer that is everything up to now;
    /// otherwise everything up to the last packet taken.
    fn flush(&mut self, idle: bool) {
        self.take_counts(idle);
        let writer = &mut self.capturer.writer;
        if idle && !self.down && !writer.is_dirty() {
            writer.vouch(Timestamp::now());
            writer.touch();
        }
        let at = if idle {
            Timestamp::now()
        } else {
            writer.last_packet()
        };
        let at = self.vouched(at);
        self.capturer.writer.flush(at, Vec::new());
    }

    /// Up to when a sample at `at` may vouch: not beyond the moment the link went down.
    fn vouched(&self, at: Timestamp) -> Timestamp {
        let blind = self.capturer.blind_since.filter(|_| self.down);
        let at = blind.map_or(at, |since| since.min(at));
        at.max(self.capturer.writer.last_packet())
    }

    /// Lets nothing more in, takes out what is there, counts to the last packet.
    fn drain(&mut self) {
        // Of several threads the others may still receive.
        let alone = self.capturer.shared.member.of <= 1;
        let seen = self
            .refused
            .as_ref()
            .filter(|_| alone)
            .map(|_| Device::open(&self.capturer.shared.name).packets());
        if let Err(error) = socket::refuse_all(self.source.socket()) {
            tracing::warn!(%error, "cannot stop the socket; the last packets may be missing");
        }
        let since = Instant::now();
        while since.elapsed() < 3 * BLOCK_TIMEOUT {
            match self.source.take(&mut self.capturer.writer) {
                Ok(0) => {
                    wait([self.source.socket()], Duration::from_millis(2));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // What a full kernel buffer still held when the time was up was received and must be taken.
        loop {
            match self.source.take(&mut self.capturer.writer) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.take_counts(false);
        if let Some(seen) = seen {
            self.count_refused(seen);
        }
        self.capturer.writer.report(true);
        for done in self.pending.drain(..) {
            self.capturer.writer.flush(Timestamp::now(), vec![done]);
        }
    }

    /// Takes what the kernel received before the interface went away: it hands over the last block
    /// when its time is up, and until then libpcap only says that the interface is gone.
    fn take_rest(&mut self) {
        let since = Instant::now();
        while since.elapsed() < 3 * BLOCK_TIMEOUT {
            let taken = self.source.take(&mut self.capturer.writer);
            if !matches!(taken, Ok(1..)) {
                wait([], Duration::from_millis(2));
            }
        }
    }

    fn lost(&mut self, why: String) -> End {
        self.capturer.blind_since.get_or_insert(Timestamp::now());
        self.take_rest();
        self.take_counts(false);
        self.capturer.writer.report(true);
        self.capturer
            .shared
            .set_state(InterfaceState::Down, Some(why.clone()));
        End::Lost(why)
    }

    /// Adds what the kernel and the driver counted since the last time, and reads the clock. `idle`:
    /// the buffer was just seen empty.
    fn take_counts(&mut self, idle: bool) {
        let moment = Moment::now();
        self.capturer.writer.read_clock(&moment, Discipline::read());
        if idle {
            // A block the kernel has not handed over yet may hold a packet.
            self.capturer
                .writer
                .silent_until(moment.at.minus(3 * BLOCK_TIMEOUT));
        }
        self.capturer.writer.count();
        let drops = self.capturer.shared.link.drops.load(Ordering::Relaxed);
        let since = drops.saturating_sub(self.drops_before);
        // The driver's counter goes with the interface; what was lost stays lost.
        let dropped = &mut self.capturer.writer.counters().dropped_iface;
        *dropped = (*dropped).max(self.drops_earlier + since);
        let link = &self.capturer.shared.link;
        if link.index.load(Ordering::Acquire) == self.index {
            self.count_refused(link.settled.load(Ordering::Relaxed));
        }
    }

    /// What the interface had counted a moment ago and the sockets were not given, the filter refused.
    fn count_refused(&mut self, packets: u64) {
        let Some(refused) = &self.refused else { return };
        let others = self.capturer.shared.link.others.load(Ordering::Relaxed);
        let counters = self.capturer.writer.counters();
        let seen = packets.saturating_sub(refused.packets);
        let received = counters.received.saturating_add(others);
        let received = received.saturating_sub(refused.received);
        let filtered = refused.filtered + seen.saturating_sub(received);
        counters.filtered = counters.filtered.max(filtered);
    }

    /// Publishes counters; rates once a second.
    fn publish(&mut self, idle: bool) {
        let elapsed = self.rates.0.elapsed();
        if elapsed >= REPORT {
            self.take_counts(idle);
            self.capturer.writer.report(false);
            let counters = *self.capturer.writer.counters();
            let since = counters.since(&self.rates.1);
            let per_second = |n: u64| n as f64 / elapsed.as_secs_f64();
            let (packets, bytes) = (per_second(since.written), per_second(since.written_bytes));
            self.capturer.shared.publish_rates(packets, bytes);
            self.rates = (Instant::now(), counters);
        }
        self.capturer
            .shared
            .publish(self.capturer.writer.counters());
    }

    /// Looks at what the watcher saw: gone or made anew, renamed, down, up again.
    fn check_link(&mut self) -> Option<End> {
        let link = &self.capturer.shared.link;
        let (index, up) = (
            link.index.load(Ordering::Acquire),
            link.up.load(Ordering::Acquire),
        );
        if index == self.index {
            match (up, self.down) {
                (false, false) => {
                    self.down = true;
                    self.capturer.blind_since.get_or_insert(Timestamp::now());
                    self.capturer
                        .shared
                        .set_state(InterfaceState::Down, Some("the link is down".into()));
                }
                (true, true) => self.resumed(Timestamp::now(), None),
                _ => {}
            }
            return None;
        }
        if index != 0 {
            return Some(self.lost("the interface was made anew".into()));
        }
        match socket::interface_name(self.index) {
            // The port we were told to record goes on under another name.
            Some(name) if name != self.capturer.shared.name => {
                let why = format!("recorded on; it is now named {name:?}");
                self.capturer
                    .shared
                    .set_state(InterfaceState::Running, Some(why));
                None
            }
            Some(_) => None,
            None => Some(self.lost("the interface was deleted".into())),
        }
    }

    fn resumed(&mut self, at: Timestamp, why: Option<String>) {
        self.down = false;
        self.capturer.shared.set_state(InterfaceState::Running, why);
        if let Some(from) = self.capturer.blind_since.take() {
            self.capturer.writer.gap(from, at, GapCause::InterfaceDown);
        }
    }
}
