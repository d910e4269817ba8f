//! Watches the links (which index a name has, whether it is up, what its driver dropped) and the
//! clock. One thread for all interfaces, so that capture threads need not ask.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::clock::{Clock, Discipline, Moment, Step, Steps};
use crate::recorder::open::is_loopback;
use crate::recorder::protocol::ClockStatus;
use crate::recorder::shared::{Shared, lock};
use crate::recorder::socket;

const EVERY: Duration = Duration::from_millis(200);

/// Steps of the clock that are shown.
const STEPS_SHOWN: usize = 16;

/// The clock as the watcher saw it.
#[derive(Debug, Default)]
pub struct ClockBoard(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    steps: Steps,
    total: u64,
    recent: VecDeque<Step>,
}

impl ClockBoard {
    /// Looks at the clock once; a step is said in the log.
    fn look(&self, moment: &Moment) {
        let mut board = lock(&self.0);
        let Some(step) = board.steps.observe(moment) else {
            return;
        };
        tracing::warn!(step_ns = step.step_ns, from = %step.from, to = %step.to, "the clock was set");
        board.total += 1;
        board.recent.push_back(step);
        if board.recent.len() > STEPS_SHOWN {
            board.recent.pop_front();
        }
    }

    /// The clock now, and its last steps.
    pub fn status(&self) -> ClockStatus {
        let moment = Moment::now();
        let board = lock(&self.0);
        ClockStatus {
            clock: Clock {
                kernel: Discipline::read(),
                boottime_offset_ns: moment.boottime_offset_ns,
                raw_offset_ns: moment.raw_offset_ns,
                step_ns: None,
            },
            steps_total: board.total,
            steps: board.recent.iter().copied().collect(),
        }
    }
}

/// Looks at every interface and at the clock until `stopping` is closed.
pub fn run(interfaces: &[Arc<Shared>], clock: &ClockBoard, stopping: &Receiver<()>) {
    loop {
        clock.look(&Moment::now());
        for shared in interfaces {
            look(shared);
        }
        if stopping.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Looks once.
pub fn look(shared: &Shared) {
    let index = socket::interface_index(&shared.name).unwrap_or(0);
    let up = index != 0 && is_up(&shared.name);
    let link = &shared.link;
    if index != 0 {
        link.drops
            .store(driver_drops(&shared.name), Ordering::Relaxed);
    }
    if index != 0 && link.counted.load(Ordering::Relaxed) {
        let packets = interface_packets(&shared.name);
        let before = link.packets.swap(packets, Ordering::Relaxed);
        let same = link.index.load(Ordering::Acquire) == index;
        link.settled
            .store(if same { before } else { packets }, Ordering::Relaxed);
    }
    let changed = link.index.swap(index, Ordering::AcqRel) != index;
    if changed | (link.up.swap(up, Ordering::AcqRel) != up) {
        shared.wake();
    }
}

/// IFF_UP; an interface whose flags cannot be read is taken to be up.
fn is_up(name: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/sys/class/net/{name}/flags")) else {
        return true;
    };
    let flags = text.trim().trim_start_matches("0x");
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 != 0)
}

/// What the driver says the card had no room for. Some drivers count an overflow under both of the
/// latter names, so the greater counts. Not `rx_dropped`: that is of the kernel behind us as well,
/// and holds frames that nobody but us wanted.
fn driver_drops(name: &str) -> u64 {
    let overflow = statistic(name, "rx_fifo_errors").max(statistic(name, "rx_over_errors"));
    statistic(name, "rx_missed_errors").saturating_add(overflow)
}

/// Packets that passed the interface where we look: received, and sent, which on loopback are the
/// same ones.
pub(super) fn interface_packets(name: &str) -> u64 {
    let sent = if is_loopback(name) {
        0
    } else {
        statistic(name, "tx_packets")
    };
    statistic(name, "rx_packets").saturating_add(sent)
}

fn statistic(name: &str, counter: &str) -> u64 {
    fs::read_to_string(format!("/sys/class/net/{name}/statistics/{counter}"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
