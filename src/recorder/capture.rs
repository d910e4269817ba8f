//! The capture thread: takes packets from libpcap's mapped buffer and copies each once.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use pcap::{Active, Capture, Packet, PacketHeader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::recorder::events::Done;
use crate::recorder::fanout::Group;
use crate::recorder::live::{End, Live};
use crate::recorder::open::CaptureOptions;
use crate::recorder::protocol::GapCause;
use crate::recorder::shared::Shared;
use crate::recorder::writer::SlotWriter;
use crate::time::Timestamp;

/// Packets taken between two looks at the commands.
pub(super) const BATCH: usize = 4096;
/// Between two attempts to open an interface, when nothing says that it changed.
const REOPEN: Duration = Duration::from_millis(200);

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

/// A capture thread of an interface.
pub struct Capturer {
    /// What is recorded and how.
    pub options: CaptureOptions,
    /// Opens its socket.
    pub group: Arc<Group>,
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
        self.end();
        self.shared.publish(self.writer.counters());
    }

    /// Ends the last segment: it vouches for the time up to now, or up to when the interface was
    /// lost, and then that is on record.
    fn end(&mut self) {
        let now = Timestamp::now();
        let live = self.options.replay.is_none();
        let at = match self.blind_since.take() {
            Some(since) => {
                self.writer.gap(since, now, GapCause::InterfaceDown);
                since
            }
            None if live => {
                self.writer.vouch(now);
                now
            }
            None => self.writer.last_packet(),
        };
        self.writer
            .seal(at.max(self.writer.last_packet()), Vec::new());
    }

    fn run_live(&mut self) {
        loop {
            match self.group.open(&self.options) {
                Ok((capture, index)) => match self.record(capture, index) {
                    End::Stopped => return,
                    End::Lost(why) => {
                        self.group.left(&self.options);
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

    /// Records what `capture` takes, until stopped or until the interface is gone.
    fn record(&mut self, capture: Capture<Active>, index: u32) -> End {
        let end = Live::new(self, capture, index).run();
        // The socket lives as long as anybody holds it.
        self.writer.count_with(None);
        end
    }

    /// Answers commands while there is nothing to capture; true when asked to stop.
    pub(super) fn wait_while_blind(&mut self) -> bool {
        let [woken] = wait([self.shared.wake_fd()], REOPEN);
        if woken {
            self.shared.clear_wake();
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
                Ok(Command::Flush { seal, done }) => {
                    let at = self.writer.last_sample().max(self.writer.last_packet());
                    finish(&mut self.writer, at, seal, vec![done]);
                }
            }
        }
    }
}

/// Hands a packet of libpcap's to the writer.
#[inline]
pub(super) fn take(writer: &mut SlotWriter, packet: &Packet<'_>) {
    writer.packet(timestamp(packet.header), packet.header.len, packet.data);
}

/// Flushes or seals.
pub(super) fn finish(writer: &mut SlotWriter, at: Timestamp, seal: bool, done: Vec<Done>) {
    if seal {
        writer.seal(at, done);
    } else {
        writer.flush(at, done);
    }
}

/// With nanosecond precision the header's microseconds are nanoseconds.
#[inline]
pub(super) fn timestamp(header: &PacketHeader) -> Timestamp {
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(header.ts.tv_usec).unwrap_or(0);
    Timestamp::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Sleeps until one of the descriptors is readable or the time is up; which ones are.
pub(super) fn wait<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Duration) -> [bool; N] {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    if let Err(error) = poll(&mut fds, Some(&timeout)) {
        tracing::trace!(%error, "poll");
    }
    fds.map(|fd| !fd.revents().is_empty())
}
