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

/// After so many looks every capture thread has said anew what it received.
const LOOKS_AGO: usize = 10;

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

/// Looks at every interface, given as its capture threads, and at the clock until `stopping` is closed.
pub fn run(interfaces: &[Vec<Arc<Shared>>], clock: &ClockBoard, stopping: &Receiver<()>) {
    loop {
        clock.look(&Moment::now());
        for threads in interfaces {
            look(threads);
        }
        if stopping.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Looks once at the interface of these capture threads and tells all of them. What its driver
/// dropped is told to the first alone: it is to be counted once.
pub fn look(threads: &[Arc<Shared>]) {
    let Some(first) = threads.first() else {
        return;
    };
    let index = socket::interface_index(&first.name).unwrap_or(0);
    let up = index != 0 && is_up(&first.name);
    if index != 0 {
        let drops = driver_drops(&first.name);
        first.link.drops.store(drops, Ordering::Relaxed);
    }
    if index != 0 && first.link.counted.load(Ordering::Relaxed) {
        settle(first, threads, index);
    }
    for shared in threads {
        let link = &shared.link;
        let changed = link.index.swap(index, Ordering::AcqRel) != index;
        if changed | (link.up.swap(up, Ordering::AcqRel) != up) {
            shared.wake();
        }
    }
}

/// Tells the first of the capture threads how many packets had passed the interface a look ago, and
/// what the others received. They say that once a second: of several, the look is longer ago.
fn settle(first: &Shared, threads: &[Arc<Shared>], index: u32) {
    let ago = if threads.len() > 1 { LOOKS_AGO } else { 1 };
    let link = &first.link;
    let mut past = lock(&link.past);
    if link.index.load(Ordering::Acquire) != index {
        past.clear();
    }
    past.push_back(interface_packets(&first.name));
    while past.len() > ago + 1 {
        past.pop_front();
    }
    let others = threads.iter().skip(1);
    let others = others.map(|shared| shared.counters().received).sum();
    link.others.store(others, Ordering::Relaxed);
    if let Some(settled) = past.front() {
        link.settled.store(*settled, Ordering::Relaxed);
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
