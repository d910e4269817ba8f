//! Encodes packets into slots and hands them to the keeper. Runs on the capture thread: no
//! allocation, no lock, no system call per packet.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use crate::clock::{Discipline, Moment};
use crate::counters::Counters;
use crate::pcapng::encode::epb_len;
use crate::pcapng::isb::{ClockMark, Detail, SAMPLE_LEN, Sample};
use crate::recorder::events::{Done, Due, Event, Remark};
use crate::recorder::ledger::Ledger;
use crate::recorder::order::Order;
use crate::recorder::protocol::{Gap, GapCause};
use crate::recorder::slots::{BLOCK_BYTES, Slot, SlotFill};
use crate::recorder::stage::Stage;
use crate::time::Timestamp;

/// How far samples and packets may disagree on the order of things.
const LITTLE: Duration = Duration::from_secs(1);
/// Room kept in every slot for the sample that seals it.
const RESERVE: usize = SAMPLE_LEN + BLOCK_BYTES;

/// Events that may wait before progress is left out. The channel holds this many beside those of
/// all slots ([`channel_capacity`]).
const PROGRESS_MAX: usize = 256;

/// Events that may wait before gaps do: the rest of the channel belongs to segments.
const GAPS_BELOW: usize = 2 * PROGRESS_MAX;
/// Gaps that may wait by themselves.
const UNTOLD_MAX: usize = 16;

/// How many events the channel to the keeper must hold with so many slots: opened, sealed and a gap
/// for each, progress, and flushes that somebody waits for.
pub const fn channel_capacity(slots: usize) -> usize {
    4 * slots + 4 * PROGRESS_MAX
}

/// Packets counted since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketCounts {
    /// Packets that passed the filter, drops included.
    pub received: u32,
    /// Packets for which the buffer had no room.
    pub dropped: u32,
}

/// Who counts packets before they come here, those among them that never will.
pub trait CountedElsewhere: std::fmt::Debug + Send {
    /// What was counted since the last time.
    fn take_counts(&self) -> io::Result<SocketCounts>;
}

/// The writer of one interface.
#[derive(Debug)]
pub struct SlotWriter {
    interface: String,
    /// SHB and IDB, the same at the head of each segment.
    header: Vec<u8>,
    free: Receiver<Slot>,
    events: Sender<Event>,
    /// Wait for a slot instead of dropping: replay of a file loses nothing by being slow.
    patient: bool,
    fill: Option<SlotFill>,
    /// What is to be appended to it.
    stage: Stage,
    next_number: u64,
    /// Packets are to be durable after so long.
    sync: Duration,
    /// When the keeper was last told to make everything durable.
    flushed: Instant,
    /// Length of the slot at its last sample.
    sampled: usize,
    last_sample: Timestamp,
    last_packet: Timestamp,
    start: Timestamp,
    /// When the last packet came, or since when one could have come.
    heard: Timestamp,
    /// The longest time without a packet that neither sample nor line has yet.
    longest_gap_ns: u64,
    /// The same, as far as samples are concerned.
    sample_gap_ns: u64,
    /// Since the last line of accounting.
    ledger: Ledger,
    clock: Option<ClockMark>,
    counters: Counters,
    /// The counters of the last sample.
    accounted: Counters,
    /// Whether a sample is wanted although nothing came.
    touched: bool,
    full_since: Option<Timestamp>,
    /// Spans without a record that the keeper had no room for yet.
    untold: VecDeque<Gap>,
    order: Order,
    scratch: Vec<u8>,
    /// Whose counters belong to the packets.
    kernel: Option<Box<dyn CountedElsewhere>>,
}

/// What a writer needs to begin.
#[derive(Debug)]
pub struct WriterParts {
    /// Interface name.
    pub interface: String,
    /// Free slots.
    pub free: Receiver<Slot>,
    /// To the keeper.
    pub events: Sender<Event>,
    /// Number of the next segment.
    pub next_number: u64,
    /// Whether to wait for slots.
    pub patient: bool,
    /// Packets are to be durable after so long.
    pub sync: Duration,
    /// Now.
    pub start: Timestamp,
}

impl SlotWriter {
    /// A writer with no segment open.
    pub fn new(parts: WriterParts) -> Self {
        Self {
            interface: parts.interface,
            header: Vec::new(),
            free: parts.free,
            events: parts.events,
            patient: parts.patient,
            fill: None,
            stage: Stage::new(),
            next_number: parts.next_number,
            sync: parts.sync,
            flushed: Instant::now(),
            sampled: 0,
            last_sample: parts.start,
            last_packet: Timestamp::MIN,
            start: parts.start,
            // The times of a savefile have nothing to do with now.
            heard: if parts.patient {
                Timestamp::MAX
            } else {
                parts.start
            },
            longest_gap_ns: 0,
            sample_gap_ns: 0,
            ledger: Ledger::default(),
            clock: None,
            counters: Counters::default(),
            accounted: Counters::default(),
            touched: false,
            full_since: None,
            untold: VecDeque::new(),
            order: Order::after(None, Timestamp::MIN),
            scratch: Vec::with_capacity(2 * BLOCK_BYTES),
            kernel: None,
        }
    }

    /// Goes on behind a ring's newest segment, of this name and with packets up to `latest`.
    pub fn follow(&mut self, newest: Option<Timestamp>, latest: Timestamp) {
        self.order = Order::after(newest, latest);
    }

    /// Packets by fate so far. The caller adds what the kernel and the interface count.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Time of the last packet; the epoch before the first.
    pub fn last_packet(&self) -> Timestamp {
        self.last_packet
    }

    /// Time of the last sample.
    pub fn last_sample(&self) -> Timestamp {
        self.last_sample
    }

    /// Whether packets were written, or lost, since the last sample.
    pub fn is_dirty(&self) -> bool {
        let written = |fill: &SlotFill| fill.len() + self.stage.waiting() > self.sampled;
        self.touched || self.fill.as_ref().is_some_and(written) || self.counters != self.accounted
    }

    /// How long ago the keeper was told to make everything durable.
    pub fn since_flush(&self) -> Duration {
        self.flushed.elapsed()
    }

    /// Sets what every segment begins with; a segment that began otherwise is sealed.
    pub fn set_header(&mut self, header: Vec<u8>, at: Timestamp) {
        if self.header != header {
            self.seal(at, Vec::new());
            self.header = header;
        }
    }

    /// Takes a packet: `original_len` bytes on the wire, `data` captured. It survives the process from
    /// the next [`Self::publish`] on.
    #[inline]
    pub fn packet(&mut self, at: Timestamp, original_len: u32, data: &[u8]) {
        let need = epb_len(data.len()) + RESERVE;
        if self.order.is_step_back(at) && self.order.step_back(Instant::now()) {
            self.seal(self.last_packet, Vec::new());
        }
        let need = need + self.stage.waiting();
        if self.fill.as_ref().is_some_and(|fill| fill.room() < need) {
            self.seal(at, Vec::new());
        }
        self.last_packet = at;
        let gap = at.as_ns().saturating_sub(self.heard.as_ns());
        self.longest_gap_ns = self.longest_gap_ns.max(gap);
        self.heard = at;
        if self.fill.is_none() && !self.open(at, at) {
            self.counters.dropped_ring += 1;
            return;
        }
        let Some(fill) = &mut self.fill else { return };
        if self.stage.packet(fill, at, original_len, data) {
            self.order.packet(at);
            self.counters.written += 1;
            let captured = u64::try_from(data.len()).unwrap_or(0);
            self.counters.written_bytes += captured;
            self.counters.truncated += u64::from(u64::from(original_len) > captured);
        } else {
            self.counters.dropped_ring += 1;
        }
    }

    /// Makes what was taken so far survive the process: to be called once for many packets, before
    /// the kernel gets their memory back.
    #[inline]
    pub fn publish(&mut self) {
        if let Some(fill) = &mut self.fill
            && self.stage.settle(fill)
        {
            fill.publish();
        }
    }

    /// Appends a sample and lets the keeper write up to it. When packets were lost and no segment
    /// is open, an empty one carries the count: a loss at the end of a burst is on record as soon
    /// as a slot is free, not when the next packet comes.
    pub fn flush(&mut self, at: Timestamp, done: Vec<Done>) {
        self.flushed = Instant::now();
        // Behind a keeper that waits for the disk, nothing is gained by more to write: the rest of
        // the channel belongs to segments.
        if done.is_empty() && self.events.len() >= PROGRESS_MAX {
            return;
        }
        if self.is_dirty() {
            self.vouch(at);
        }
        if !self.is_dirty() || self.fill.is_none() {
            if !done.is_empty() {
                self.nothing(at, done);
            }
            return;
        }
        self.sample(at, false);
        self.send(Event::Progress {
            upto: self.sampled,
            due: Due::now(at, done),
        });
    }

    /// Seals the open segment. Answers when it is durable.
    ///
    /// It may wait for others, to be made durable together, but for no longer than the first half of
    /// `sync`: in the second it stands for the flush that would follow soon.
    pub fn seal(&mut self, at: Timestamp, done: Vec<Done>) {
        self.sample(at, true);
        match self.fill.take() {
            Some(mut fill) => {
                fill.seal();
                let urgent = !done.is_empty() || self.since_flush() >= self.sync / 2;
                if urgent {
                    self.flushed = Instant::now();
                }
                let due = Due { at, done, urgent };
                self.send(Event::Sealed { fill, due });
            }
            None if done.is_empty() => {}
            None => self.nothing(at, done),
        }
    }

    fn nothing(&mut self, at: Timestamp, done: Vec<Done>) {
        self.send(Remark::Nothing(Due::now(at, done)).into());
    }

    /// Makes sure that a segment vouches for the time up to `at`, even if no packet came: opens an
    /// empty one when none is open.
    pub fn vouch(&mut self, at: Timestamp) {
        if self.fill.is_none() && !self.header.is_empty() {
            self.open(self.last_sample.min(at), at);
        }
    }

    /// Makes the next flush write a sample although nothing came.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Whose counters belong to the packets; `None` when nobody's do.
    pub fn count_with(&mut self, kernel: Option<Box<dyn CountedElsewhere>>) {
        self.kernel = kernel;
    }

    /// Adds what the kernel counted since the last time. Returns when, if there is a kernel to ask.
    pub fn count(&mut self) -> Option<Timestamp> {
        match self.kernel.as_ref()?.take_counts() {
            Ok(counts) => {
                self.counters.received += u64::from(counts.received);
                self.counters.dropped_kernel += u64::from(counts.dropped);
                Some(Timestamp::now())
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel's packet counters cannot be read");
                None
            }
        }
    }

    /// Recording begins (again) at `at`.
    pub fn begin(&mut self, at: Timestamp) {
        self.ledger.begin(at, &self.counters);
        self.heard = at;
        self.flushed = Instant::now();
    }

    /// Takes a reading of the clock: for the next sample and the next line.
    pub fn read_clock(&mut self, moment: &Moment, kernel: Option<Discipline>) {
        self.ledger.read(moment, kernel);
        self.clock = Some(ClockMark::from(self.ledger.clock()));
    }

    /// No packet came up to `at`.
    pub fn silent_until(&mut self, at: Timestamp) {
        let gap = at.as_ns().saturating_sub(self.heard.as_ns());
        self.longest_gap_ns = self.longest_gap_ns.max(gap);
    }

    /// Hands a line of accounting to the keeper; what it cannot take now is in the next one. A line
    /// of nothing is left out for a while, unless `all` is asked for.
    pub fn report(&mut self, all: bool) {
        self.fold_gap();
        self.tell_gaps();
        // Behind a keeper that waits for the disk, lines wait too: the channel belongs to segments.
        if !all && self.events.len() >= PROGRESS_MAX {
            return;
        }
        let Some(second) = self.ledger.line(&self.counters, all) else {
            return;
        };
        if self.events.try_send(Remark::Second(second).into()).is_ok() {
            self.ledger.told(&self.counters);
        }
    }

    fn fold_gap(&mut self) {
        self.sample_gap_ns = self.sample_gap_ns.max(self.longest_gap_ns);
        self.ledger.gap(self.longest_gap_ns);
        self.longest_gap_ns = 0;
    }

    /// Reports a span that was not recorded. While the keeper takes none, spans wait; of more than a
    /// few the last ones are told as one.
    pub fn gap(&mut self, from: Timestamp, to: Timestamp, cause: GapCause) {
        let full = self.untold.len() >= UNTOLD_MAX;
        match self.untold.back_mut().filter(|_| full) {
            Some(last) => {
                last.from = last.from.min(from);
                last.to = last.to.max(to);
            }
            None => self.untold.push_back(Gap {
                interface: self.interface.clone(),
                from,
                to,
                cause,
            }),
        }
        self.tell_gaps();
    }

    fn tell_gaps(&mut self) {
        while self.events.len() < GAPS_BELOW
            && let Some(gap) = self.untold.pop_front()
        {
            let refused = self.events.try_send(Remark::Gap(gap).into());
            if let Err(TrySendError::Full(Event::Remark(Remark::Gap(gap)))) = refused {
                return self.untold.push_front(gap);
            }
        }
    }

    /// Opens a slot; false when none is free.
    fn open(&mut self, first: Timestamp, now: Timestamp) -> bool {
        let slot = match self.free.try_recv() {
            Ok(slot) => slot,
            Err(TryRecvError::Empty) if self.patient => match self.free.recv() {
                Ok(slot) => slot,
                Err(_) => return false,
            },
            Err(_) => {
                self.full_since.get_or_insert(now);
                return false;
            }
        };
        let (mut fill, read) = slot.begin(self.next_number, self.order.open(first), self.start);
        self.next_number += 1;
        self.stage.reset();
        if self.stage.bytes(&mut fill, &self.header) {
            fill.publish();
        }
        self.sampled = 0;
        self.fill = Some(fill);
        self.send(Event::Opened(read));
        if let Some(from) = self.full_since.take() {
            self.gap(from, now, GapCause::RingFull);
        }
        true
    }

    /// Appends a sample that ends at a block boundary.
    fn sample(&mut self, at: Timestamp, last: bool) {
        if self.fill.is_none() {
            return self.fold_gap();
        }
        let counted = self.count();
        self.fold_gap();
        let Some(fill) = &mut self.fill else { return };
        // The clock a sample takes its time from may be a little ahead of the packets'; a step back
        // is more than a little.
        let at = if self.last_sample.since(at) < LITTLE {
            at.max(self.last_sample)
        } else {
            at
        };
        let ahead_ms = counted.map_or(0, |counted| {
            // Rounded up: 0 stands for not known.
            let ahead = counted.since(at).as_millis().saturating_add(1);
            u16::try_from(ahead).unwrap_or(u16::MAX)
        });
        let len = fill.len() + self.stage.waiting();
        let end = (len + SAMPLE_LEN).next_multiple_of(BLOCK_BYTES);
        let sample = Sample {
            at,
            start: self.start,
            counters: self.counters,
            detail: Detail {
                longest_gap_ns: std::mem::take(&mut self.sample_gap_ns),
                clock: self.clock,
                ahead_ms,
                assumed: false,
            },
            last,
        };
        self.scratch.clear();
        sample.encode(&mut self.scratch, 0, end - len);
        if self.stage.bytes(fill, &self.scratch) {
            fill.publish();
        }
        self.sampled = fill.len();
        self.last_sample = at;
        self.accounted = self.counters;
        self.touched = false;
    }

    /// The channel holds more than all slots can be in flight; only progress may be left out.
    fn send(&mut self, event: Event) {
        match self.events.try_send(event) {
            Ok(()) | Err(TrySendError::Full(Event::Progress { .. })) => {}
            Err(TrySendError::Full(event) | TrySendError::Disconnected(event)) => {
                // The keeper is gone or hopelessly behind; waiters see their channel close.
                tracing::error!(
                    interface = self.interface,
                    ?event,
                    "the keeper does not take events"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcapng::isb::seals;
    use crate::recorder::slots::Slots;
    use crossbeam_channel::{bounded, unbounded};

    struct Rig {
        writer: SlotWriter,
        events: Receiver<Event>,
        give: Sender<Slot>,
        _dir: tempfile::TempDir,
    }

    fn rig(slots: usize, bytes: usize) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (give, free) = bounded(slots);
        for slot in Slots::create(&dir.path().join("s"), slots, bytes)
            .unwrap()
            .into_slots()
        {
            give.send(slot).unwrap();
        }
        let (send, events) = unbounded();
        let mut writer = SlotWriter::new(WriterParts {
            interface: "t".into(),
            free,
            events: send,
            next_number: 5,
            patient: false,
            sync: Duration::from_secs(1),
            start: at(1),
        });
        writer.set_header(vec![1; 64], at(1));
        Rig {
            writer,
            events,
            give,
            _dir: dir,
        }
    }

    fn at(ns: u64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    #[test]
    fn every_packet_is_written_or_counted() {
        let mut rig = rig(2, 16384);
        for i in 0..1000 {
            rig.writer.packet(at(10 + i), 100, &[7; 100]);
        }
        let counters = *rig.writer.counters();
        assert!(counters.dropped_ring > 0);
        assert_eq!(counters.written + counters.dropped_ring, 1000);
        assert_eq!(counters.written_bytes, counters.written * 100);
    }

    #[test]
    fn what_the_keeper_may_write_is_whole_blocks_ending_in_a_sample() {
        let mut rig = rig(1, 16384);
        rig.writer.packet(at(10), 100, &[7; 100]);
        rig.writer.flush(at(20), Vec::new());
        rig.writer.flush(at(30), Vec::new());
        rig.writer.packet(at(40), 100, &[7; 100]);
        rig.writer.seal(at(50), Vec::new());
        let events: Vec<Event> = rig.events.try_iter().collect();
        let [
            Event::Opened(read),
            Event::Progress { upto: 4096, .. },
            Event::Sealed { fill, .. },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(fill.len(), 8192);
        let last = u32::from_le_bytes(read.bytes()[8188..].try_into().unwrap());
        assert!(seals(
            &read.bytes()[8192 - usize::try_from(last).unwrap()..]
        ));
    }

    #[test]
    fn a_whole_segment_stands_for_the_flush_that_would_follow_soon() {
        let mut rig = rig(3, 16384);
        let mut sealed = |half: bool| {
            if half {
                rig.writer.sync = rig.writer.since_flush();
            }
            rig.writer.packet(at(10), 100, &[7; 100]);
            rig.writer.seal(at(20), Vec::new());
            let due = rig.events.try_iter().find_map(|event| match event {
                Event::Sealed { due, .. } => Some(due.urgent),
                _ => None,
            });
            rig.writer.sync = Duration::from_mins(1);
            due.unwrap()
        };
        assert!(!sealed(false), "just begun");
        assert!(sealed(true));
        assert!(!sealed(false), "just flushed");
    }

    #[test]
    fn a_clock_set_back_ends_the_segment_and_names_the_next_before_it() {
        let mut rig = rig(2, 65536);
        for ms in [1000, 2000, 1500, 1600] {
            rig.writer.packet(at(ms * 1_000_000), 100, &[7; 100]);
        }
        let events: Vec<Event> = rig.events.try_iter().collect();
        let [
            Event::Opened(first),
            Event::Sealed { due, .. },
            Event::Opened(next),
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(due.at, at(2_000_000_000));
        assert!(next.first() < first.first(), "{next:?}");
    }

    #[test]
    fn packets_lost_at_the_end_of_a_burst_are_in_the_next_sample() {
        let mut rig = rig(2, 8192);
        while rig.writer.counters().dropped_ring == 0 {
            rig.writer.packet(at(10), 100, &[7; 100]);
        }
        let events: Vec<Event> = rig.events.try_iter().collect();
        rig.writer.flush(at(20), Vec::new());
        assert!(rig.writer.is_dirty(), "no slot is free yet");
        let (mut fill, mut read) = (None, None);
        for event in events {
            match event {
                Event::Opened(opened) if read.is_none() => read = Some(opened),
                Event::Sealed { fill: sealed, .. } if fill.is_none() => fill = Some(sealed),
                _ => {}
            }
        }
        rig.give
            .send(Slot::rejoin(fill.unwrap(), read.unwrap()))
            .unwrap();
        rig.writer.flush(at(30), Vec::new());
        assert!(!rig.writer.is_dirty());
        let events: Vec<Event> = rig.events.try_iter().collect();
        assert!(
            matches!(
                &events[..],
                [
                    Event::Opened(_),
                    Event::Remark(Remark::Gap(_)),
                    Event::Progress { .. }
                ]
            ),
            "{events:?}"
        );
    }

    #[test]
    fn no_gap_is_lost_while_the_keeper_takes_none() {
        let mut rig = rig(1, 16384);
        let (send, events) = bounded(1);
        rig.writer.events = send;
        for second in 0..100 {
            let from = at(10 * second);
            let to = at(10 * second + 1);
            rig.writer.gap(from, to, GapCause::InterfaceDown);
        }
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            let Event::Remark(Remark::Gap(gap)) = event else {
                panic!("{event:?}");
            };
            told.push((gap.from, gap.to));
            rig.writer.report(false);
        }
        assert_eq!(told.len(), 1 + UNTOLD_MAX);
        assert_eq!(told[0], (at(0), at(1)));
        assert_eq!(told[1], (at(10), at(11)));
        assert_eq!(told[UNTOLD_MAX], (at(10 * 16), at(991)));
    }

    #[test]
    fn a_slot_given_back_ends_the_gap() {
        let mut rig = rig(1, 16384);
        rig.writer.packet(at(10), 100, &[7; 100]);
        rig.writer.seal(at(11), Vec::new());
        rig.writer.packet(at(12), 100, &[7; 100]);
        let events: Vec<Event> = rig.events.try_iter().collect();
        let mut halves = (None, None);
        for event in events {
            match event {
                Event::Opened(read) => halves.0 = Some(read),
                Event::Sealed { fill, .. } => halves.1 = Some(fill),
                other => panic!("{other:?}"),
            }
        }
        rig.give
            .send(Slot::rejoin(halves.1.unwrap(), halves.0.unwrap()))
            .unwrap();
        rig.writer.packet(at(13), 100, &[7; 100]);
        assert_eq!(rig.writer.counters().dropped_ring, 1);
        let gap = rig.events.try_iter().find_map(|event| match event {
            Event::Remark(Remark::Gap(gap)) => Some((gap.from, gap.to)),
            _ => None,
        });
        assert_eq!(gap, Some((at(12), at(13))));
    }
}
