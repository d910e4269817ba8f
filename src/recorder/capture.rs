//! The capture thread: takes packets from libpcap's mapped buffer and copies each once.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use pcap::{Active, Capture, Packet, PacketHeader, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::counters::Counters;
use crate::pcapng::encode::{Interface, Section, interface, section_header};
use crate::recorder::protocol::{GapCause, InterfaceState};
use crate::recorder::shared::Shared;
use crate::recorder::socket;
use crate::recorder::writer::{Done, SlotWriter};
use crate::time::Timestamp;

/// Packets taken between two looks at the commands.
const BATCH: usize = 4096;
/// How long the kernel holds back a block that is not full, so that a quiet link costs few wakes.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(10);
/// How long a thread with nothing to do sleeps.
const IDLE: Duration = Duration::from_millis(200);

/// What the capture thread is asked.
#[derive(Debug)]
pub enum Command {
    /// Put everything received before now on disk.
    Flush {
        /// End the segment.
        seal: bool,
        /// Answered when it is durable.
        done: Done,
    },
    /// Record what was received and end.
    Stop,
}

/// Where packets come from and what is kept of them.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// pcap-filter(7).
    pub filter: String,
    /// Bytes kept of each packet.
    pub snaplen: u32,
    /// Bytes of the kernel's buffer.
    pub buffer_bytes: u64,
    /// Promiscuous mode.
    pub promiscuous: bool,
    /// How often to put packets on disk.
    pub sync: Duration,
    /// Read this savefile instead of the interface.
    pub replay: Option<Replay>,
}

/// A savefile to be played through the same path.
#[derive(Debug, Clone)]
pub struct Replay {
    /// pcap or pcapng.
    pub file: PathBuf,
    /// Keep the time between packets instead of reading as fast as possible.
    pub pace: bool,
}

/// Why a capture ended.
enum End {
    /// A stop was asked for.
    Stopped,
    /// The interface or its socket is gone; open again.
    Lost(String),
}

/// The capture thread of one interface.
pub struct Capturer {
    /// What is recorded and how.
    pub options: CaptureOptions,
    /// What it tells others.
    pub shared: Arc<Shared>,
    /// What it is asked.
    pub commands: Receiver<Command>,
    /// Where packets go.
    pub writer: SlotWriter,
    /// Since when nothing is recorded, while that is so.
    pub blind_since: Option<Timestamp>,
}

impl Capturer {
    /// Records until stopped; opens the interface again whenever it went away.
    pub fn run(mut self) {
        match self.options.replay.clone() {
            Some(replay) => self.run_replay(&replay),
            None => self.run_live(),
        }
        self.writer
            .seal(Timestamp::now().max(self.writer.last_packet()), Vec::new());
        self.shared.publish(self.writer.counters());
    }

    fn run_live(&mut self) {
        loop {
            match self.open() {
                Ok((capture, index)) => match Live::new(self, capture, index).run() {
                    End::Stopped => return,
                    End::Lost(why) => {
                        self.blind_since.get_or_insert(Timestamp::now());
                        tracing::info!(
                            interface = self.shared.name,
                            why,
                            "capture ended; opening again"
                        );
                    }
                },
                Err((state, why)) => {
                    self.blind_since.get_or_insert(Timestamp::now());
                    self.shared.set_state(state, Some(why));
                }
            }
            if self.wait_while_blind() {
                return;
            }
        }
    }

    /// Opens the interface; on failure says the state that follows and why.
    fn open(&mut self) -> Result<(Capture<Active>, u32), (InterfaceState, String)> {
        let name = self.shared.name.clone();
        let index = socket::interface_index(&name).ok_or_else(|| {
            (
                InterfaceState::Absent,
                format!("no interface named {name:?}"),
            )
        })?;
        open_live(&name, &self.options)
            .map(|capture| (capture, index))
            .map_err(|error| (InterfaceState::Failed, error))
    }

    /// Answers commands while there is nothing to capture; true when asked to stop.
    fn wait_while_blind(&mut self) -> bool {
        match self.commands.recv_timeout(IDLE) {
            Ok(Command::Stop) | Err(crossbeam_channel::RecvTimeoutError::Disconnected) => true,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => false,
            Ok(Command::Flush { seal, done }) => {
                let at = self.writer.last_sample().max(self.writer.last_packet());
                finish(&mut self.writer, at, seal, vec![done]);
                false
            }
        }
    }

    fn run_replay(&mut self, replay: &Replay) {
        let mut capture = match open_savefile(replay, &self.options.filter) {
            Ok(capture) => capture,
            Err(why) => return self.shared.set_state(InterfaceState::Failed, Some(why)),
        };
        let linktype = capture.get_datalink().0;
        let start = Timestamp::now();
        self.writer.set_header(
            segment_header(&self.shared.name, linktype, &self.options),
            start,
        );
        self.shared.set_state(
            InterfaceState::Running,
            Some(format!("replays {}", replay.file.display())),
        );
        let began = (Instant::now(), None);
        let mut pace = replay.pace.then_some(began);
        loop {
            // One packet a call when paced, so that a command is answered between two packets.
            let batch = if replay.pace { 1 } else { BATCH };
            let writer = &mut self.writer;
            let mut due = None;
            let taken = capture.dispatch(Some(batch), |packet| {
                let at = timestamp(packet.header);
                if let Some((_, first)) = &mut pace {
                    due = Some(at.since(*first.get_or_insert(at)));
                }
                writer.counters().received += 1;
                writer.packet(at, packet.header.len, packet.data);
            });
            self.shared.publish(self.writer.counters());
            if self.answer_replay() {
                return;
            }
            match taken {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let why = format!("{}: {error}", replay.file.display());
                    self.shared.set_state(InterfaceState::Failed, Some(why));
                    break;
                }
            }
            if let (Some((began, _)), Some(due)) = (&pace, due) {
                wait([self.shared.wake_fd()], due.saturating_sub(began.elapsed()));
            }
        }
        self.writer.flush(self.writer.last_packet(), Vec::new());
        if self.shared.state().state == InterfaceState::Running {
            self.shared.set_state(InterfaceState::Finished, None);
        }
        while !self.wait_while_blind() {}
    }

    fn answer_replay(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Flush { seal, done }) => {
                    let at = self.writer.last_packet();
                    finish(&mut self.writer, at, seal, vec![done]);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }
}

/// One opened interface.
struct Live<'a> {
    capturer: &'a mut Capturer,
    capture: Capture<Active>,
    index: u32,
    /// Driver drops when it was opened.
    drops_before: u64,
    /// `dropped_iface` of earlier openings.
    drops_earlier: u64,
    pending: Vec<Done>,
    pending_seal: bool,
    /// When the oldest pending flush came in.
    asked: Option<(Instant, Timestamp)>,
    last_flush: Instant,
    rates: (Instant, Counters),
    down: bool,
}

impl<'a> Live<'a> {
    fn new(capturer: &'a mut Capturer, capture: Capture<Active>, index: u32) -> Self {
        let now = Instant::now();
        let drops_before = capturer.shared.link.drops.load(Ordering::Relaxed);
        let counters = *capturer.writer.counters();
        Self {
            capture,
            index,
            drops_before,
            drops_earlier: counters.dropped_iface,
            pending: Vec::new(),
            pending_seal: false,
            asked: None,
            last_flush: now,
            rates: (now, counters),
            down: false,
            capturer,
        }
    }

    fn run(mut self) -> End {
        let start = Timestamp::now();
        let linktype = self.capture.get_datalink().0;
        let header = segment_header(&self.capturer.shared.name, linktype, &self.capturer.options);
        self.capturer.writer.set_header(header, start);
        self.resumed(start, None);
        loop {
            let writer = &mut self.capturer.writer;
            let sync = self.capturer.options.sync;
            let taken = self
                .capture
                .dispatch(Some(BATCH), |packet| take(writer, &packet));
            if writer.is_dirty() && self.last_flush.elapsed() >= sync {
                self.flush();
            }
            self.publish();
            if let Some(end) = self.answer() {
                return end;
            }
            match taken {
                Ok(0) => {
                    if let Some(end) = self.check_link() {
                        return end;
                    }
                    let fds = [self.capture_fd(), self.capturer.shared.wake_fd()];
                    wait(fds, self.patience());
                }
                Ok(_) => {}
                Err(error) => return self.lost(format!("libpcap: {error}")),
            }
        }
    }

    /// How long to sleep when nothing comes.
    fn patience(&self) -> Duration {
        if self.asked.is_some() {
            return Duration::from_millis(1);
        }
        if self.capturer.writer.is_dirty() {
            let sync = self.capturer.options.sync;
            return IDLE.min(sync.saturating_sub(self.last_flush.elapsed()));
        }
        IDLE
    }

    #[expect(unsafe_code, reason = "libpcap hands out its descriptor as a number")]
    fn capture_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.capture`, which stays open and is borrowed for
        // as long as the result lives.
        unsafe { BorrowedFd::borrow_raw(self.capture.as_raw_fd()) }
    }

    /// Takes commands in; true once everything received before the oldest one is in the slot.
    fn answer(&mut self) -> Option<End> {
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
        self.capturer.shared.clear_wake();
        if let Some((since, asked)) = self.asked {
            // A packet of after the request proves that all before it came; a quiet link proves
            // it by the time after which the kernel hands over a block that is not full.
            if self.capturer.writer.last_packet() >= asked || since.elapsed() >= 3 * BLOCK_TIMEOUT {
                self.asked = None;
                self.answer_flush(asked);
            }
        }
        None
    }

    fn answer_flush(&mut self, asked: Timestamp) {
        self.take_counts();
        let done = std::mem::take(&mut self.pending);
        let at = asked.max(self.capturer.writer.last_packet());
        if self.pending_seal && !self.down {
            self.capturer.writer.vouch(at);
        }
        finish(&mut self.capturer.writer, at, self.pending_seal, done);
        self.pending_seal = false;
        self.last_flush = Instant::now();
    }

    fn flush(&mut self) {
        self.take_counts();
        let at = Timestamp::now().max(self.capturer.writer.last_packet());
        self.capturer.writer.flush(at, Vec::new());
        self.last_flush = Instant::now();
    }

    /// Lets nothing more in, takes out what is there, counts to the last packet.
    fn drain(&mut self) {
        if let Err(error) = socket::refuse_all(self.capture_fd()) {
            tracing::warn!(%error, "cannot stop the socket; the last packets may be missing");
        }
        let since = Instant::now();
        while since.elapsed() < 3 * BLOCK_TIMEOUT {
            let writer = &mut self.capturer.writer;
            match self
                .capture
                .dispatch(Some(BATCH), |packet| take(writer, &packet))
            {
                Ok(0) => wait([self.capture_fd()], Duration::from_millis(2)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // What a full kernel buffer still held when the time was up was received and must be taken.
        loop {
            let writer = &mut self.capturer.writer;
            match self
                .capture
                .dispatch(Some(BATCH), |packet| take(writer, &packet))
            {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.take_counts();
        for done in self.pending.drain(..) {
            self.capturer.writer.flush(Timestamp::now(), vec![done]);
        }
    }

    fn lost(&mut self, why: String) -> End {
        self.take_counts();
        self.capturer.blind_since.get_or_insert(Timestamp::now());
        self.capturer
            .shared
            .set_state(InterfaceState::Down, Some(why.clone()));
        End::Lost(why)
    }

    /// Adds what the kernel and the driver counted since the last time.
    fn take_counts(&mut self) {
        match socket::take_counts(self.capture_fd()) {
            Ok(counts) => {
                let counters = self.capturer.writer.counters();
                counters.received += u64::from(counts.received);
                counters.dropped_kernel += u64::from(counts.dropped);
            }
            Err(error) => tracing::warn!(%error, "the kernel's packet counters cannot be read"),
        }
        let drops = self.capturer.shared.link.drops.load(Ordering::Relaxed);
        let since = drops.saturating_sub(self.drops_before);
        self.capturer.writer.counters().dropped_iface = self.drops_earlier + since;
    }

    /// Publishes counters; rates once a second.
    fn publish(&mut self) {
        let elapsed = self.rates.0.elapsed();
        if elapsed >= Duration::from_secs(1) {
            self.take_counts();
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

#[inline]
fn take(writer: &mut SlotWriter, packet: &Packet<'_>) {
    writer.packet(timestamp(packet.header), packet.header.len, packet.data);
}

fn finish(writer: &mut SlotWriter, at: Timestamp, seal: bool, done: Vec<Done>) {
    if seal {
        writer.seal(at, done);
    } else {
        writer.flush(at, done);
    }
}

/// With nanosecond precision the header's microseconds are nanoseconds.
#[inline]
fn timestamp(header: &PacketHeader) -> Timestamp {
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(header.ts.tv_usec).unwrap_or(0);
    Timestamp::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Opens an interface as every capture is opened. The error is a sentence for people.
pub fn open_live(name: &str, options: &CaptureOptions) -> Result<Capture<Active>, String> {
    let describe = |error: pcap::Error| describe_open_error(name, &error.to_string());
    let buffer = i32::try_from(options.buffer_bytes).unwrap_or(i32::MAX);
    let timeout = i32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(10);
    let mut capture = Capture::from_device(name)
        .map_err(describe)?
        .snaplen(i32::try_from(options.snaplen).unwrap_or(262_144))
        .buffer_size(buffer)
        .promisc(options.promiscuous)
        .timeout(timeout)
        .precision(Precision::Nano)
        .open()
        .map_err(describe)?
        .setnonblock()
        .map_err(describe)?;
    if is_loopback(name) {
        let fd = capture.as_raw_fd();
        ignore_outgoing(fd).map_err(|error| format!("{name}: PACKET_IGNORE_OUTGOING: {error}"))?;
    }
    if !options.filter.is_empty() {
        capture
            .filter(&options.filter, true)
            .map_err(|error| format!("capture.filter {:?}: {error}", options.filter))?;
    }
    Ok(capture)
}

#[expect(unsafe_code, reason = "libpcap hands out its descriptor as a number")]
fn ignore_outgoing(fd: std::os::fd::RawFd) -> std::io::Result<()> {
    // SAFETY: the caller holds the capture that owns the descriptor for the whole call.
    socket::ignore_outgoing(unsafe { BorrowedFd::borrow_raw(fd) })
}

fn is_loopback(name: &str) -> bool {
    // ARPHRD_LOOPBACK is 772.
    std::fs::read_to_string(format!("/sys/class/net/{name}/type")).is_ok_and(|t| t.trim() == "772")
}

/// libpcap's words, and what to do when they mean a missing capability.
fn describe_open_error(name: &str, error: &str) -> String {
    let denied = ["permission", "Permission", "not permitted"]
        .iter()
        .any(|word| error.contains(word));
    if !denied {
        return format!("{name}: {error}");
    }
    let binary = std::env::current_exe().unwrap_or_else(|_| "wirewitness".into());
    format!(
        "{name}: no permission to capture ({error}); the recorder needs CAP_NET_RAW: run it as root, \
         through its systemd unit, or once: sudo setcap cap_net_raw+ep {}",
        binary.display()
    )
}

fn open_savefile(replay: &Replay, filter: &str) -> Result<Capture<pcap::Offline>, String> {
    let describe = |error: pcap::Error| format!("{}: {error}", replay.file.display());
    let mut capture =
        Capture::from_file_with_precision(&replay.file, Precision::Nano).map_err(describe)?;
    if !filter.is_empty() {
        capture
            .filter(filter, true)
            .map_err(|e| format!("capture.filter {filter:?}: {e}"))?;
    }
    Ok(capture)
}

/// SHB and IDB of every segment of an interface.
pub fn segment_header(name: &str, linktype: i32, options: &CaptureOptions) -> Vec<u8> {
    let uname = rustix::system::uname();
    let os = format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    );
    let application = concat!("wirewitness ", env!("CARGO_PKG_VERSION"));
    let mut header = Vec::new();
    let hardware = uname.machine().to_string_lossy();
    section_header(
        &mut header,
        &Section {
            hardware: &hardware,
            os: &os,
            application,
            comments: &[],
        },
    );
    interface(
        &mut header,
        &Interface {
            linktype: linktype_of(linktype),
            snaplen: options.snaplen,
            name,
            description: "",
            filter: &options.filter,
            os: &os,
        },
    );
    header
}

/// The LINKTYPE_ value of a DLT_ value: the same number for all that Linux has, but raw IP, whose
/// DLT_ number differs between systems.
fn linktype_of(dlt: i32) -> u16 {
    const DLT_RAW: i32 = 12;
    const LINKTYPE_RAW: u16 = 101;
    if dlt == DLT_RAW {
        LINKTYPE_RAW
    } else {
        u16::try_from(dlt).unwrap_or(0)
    }
}

/// Sleeps until one of the descriptors is readable or the time is up.
fn wait<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    if let Err(error) = poll(&mut fds, Some(&timeout)) {
        tracing::trace!(%error, "poll");
    }
}
