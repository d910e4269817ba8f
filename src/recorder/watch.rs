//! Watches the links (which index a name has, whether it is up, what its driver dropped) and the
//! clock. One thread for all interfaces, so that capture threads need not ask.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::clock::{Clock, Discipline, Moment, Step, Steps};
use crate::recorder::device::Device;
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
pub fn run(interfaces: Vec<Vec<Arc<Shared>>>, clock: &ClockBoard, stopping: &Receiver<()>) {
    let mut links: Vec<_> = interfaces.into_iter().map(LinkWatch::new).collect();
    loop {
        clock.look(&Moment::now());
        for link in &mut links {
            link.look();
        }
        if stopping.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// One interface.
#[derive(Debug)]
pub struct LinkWatch {
    /// Its capture threads.
    threads: Vec<Arc<Shared>>,
    /// The device that had the name at the last look, by index.
    device: Option<(u32, Device)>,
}

impl LinkWatch {
    /// Watches for these capture threads of one interface.
    pub fn new(threads: Vec<Arc<Shared>>) -> Self {
        Self {
            threads,
            device: None,
        }
    }

    /// Looks once and tells all threads. What the driver dropped is told to the first alone: it is to
    /// be counted once.
    pub fn look(&mut self) {
        let Some(first) = self.threads.first() else {
            return;
        };
        let index = socket::interface_index(&first.name).unwrap_or(0);
        if self
            .device
            .as_ref()
            .is_none_or(|(known, _)| *known != index)
        {
            self.device = (index != 0).then(|| (index, Device::open(&first.name)));
        }
        let mut up = false;
        if let Some((_, device)) = &self.device {
            up = device.is_up();
            first.link.drops.store(device.drops(), Ordering::Relaxed);
            if first.link.counted.load(Ordering::Relaxed) {
                settle(&self.threads, index, device.packets());
            }
        }
        for shared in &self.threads {
            let link = &shared.link;
            let changed = link.index.swap(index, Ordering::AcqRel) != index;
            if changed | (link.up.swap(up, Ordering::AcqRel) != up) {
                shared.wake();
            }
        }
    }
}

/// Tells the first of the capture threads how many packets had passed the interface a look ago, and
/// what the others received. They say that once a second: of several, the look is longer ago.
fn settle(threads: &[Arc<Shared>], index: u32, packets: u64) {
    let Some(first) = threads.first() else {
        return;
    };
    let ago = if threads.len() > 1 { LOOKS_AGO } else { 1 };
    let link = &first.link;
    let mut past = lock(&link.past);
    if link.index.load(Ordering::Acquire) != index {
        past.clear();
    }
    past.push_back(packets);
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
