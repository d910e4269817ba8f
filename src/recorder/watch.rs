//! Watches the links (which index a name has, whether it is up, what passed it and what its card
//! dropped) and the clock. One thread for all interfaces, so that capture threads need not ask. It looks when the
//! kernel says that a link changed, and once a second: to wake costs more than to look.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock::{Clock, Discipline, Moment, Step, Steps};
use crate::recorder::capture::wait;
use crate::recorder::device::Device;
use crate::recorder::link_events::LinkEvents;
use crate::recorder::protocol::ClockStatus;
use crate::recorder::shared::{Link, Shared, lock};
use crate::recorder::socket;

/// Between two counts of what passed.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the links where the kernel does not say that one changed.
const UNTOLD: Duration = Duration::from_millis(200);
/// Between a change and the look at it.
const PAUSE: Duration = Duration::from_millis(10);

/// After so many counts every capture thread has said anew what it received.
const COUNTS_AGO: usize = 3;

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

/// Looks at every interface, given as its capture threads, and at the clock until the other end of
/// `stopping` is closed.
pub fn run(interfaces: &[Vec<Arc<Shared>>], clock: &ClockBoard, stopping: BorrowedFd<'_>) {
    let events = LinkEvents::open();
    if let Err(error) = &events {
        tracing::warn!(%error, "the kernel cannot be asked to say when a link changes: they are looked at five times a second");
    }
    let events = events.ok();
    let mut due = Instant::now();
    loop {
        for threads in interfaces {
            look(threads);
        }
        let now = Instant::now();
        if now >= due {
            clock.look(&Moment::now());
            for threads in interfaces {
                count(threads);
            }
            due = now + EVERY;
        }
        let left = due.saturating_duration_since(now);
        if is_over(stopping, events.as_ref(), left) {
            return;
        }
    }
}

/// Waits for a change of a link, at most `left`; whether it is time to stop.
fn is_over(stopping: BorrowedFd<'_>, events: Option<&LinkEvents>, left: Duration) -> bool {
    let Some(events) = events else {
        let [stopped] = wait([stopping], left.min(UNTOLD));
        return stopped;
    };
    let [stopped, told] = wait([stopping, events.as_fd()], left);
    if !told || stopped {
        return stopped;
    }
    // A change is often told in several messages.
    let [stopped] = wait([stopping], PAUSE);
    events.clear();
    stopped
}

/// Looks at an interface once and tells all of its capture threads. What the driver dropped is told to
/// the first alone: it is to be counted once.
pub fn look(threads: &[Arc<Shared>]) {
    let Some(first) = threads.first() else {
        return;
    };
    let index = socket::interface_index(&first.name).unwrap_or(0);
    let up = find(&first.link, &first.name, index);
    for shared in threads {
        let link = &shared.link;
        let anew = link.index.swap(index, Ordering::AcqRel) != index;
        if anew {
            lock(&link.past).clear();
        }
        if anew | (link.up.swap(up, Ordering::AcqRel) != up) {
            shared.wake();
        }
    }
}

/// Counts what was dropped, and what passed, if somebody wants to know.
fn count(threads: &[Arc<Shared>]) {
    let Some(first) = threads.first() else {
        return;
    };
    count_drops(first);
    if let Some((_, device)) = &*lock(&first.link.device)
        && first.link.counted.load(Ordering::Relaxed)
    {
        settle(first, threads, device.packets());
    }
}

/// Counts what the interface's driver dropped by now.
pub fn count_drops(shared: &Shared) {
    if let Some((_, device)) = &*lock(&shared.link.device) {
        shared.link.drops.store(device.drops(), Ordering::Relaxed);
    }
}

/// Finds the device that has the name now; whether it is up.
fn find(link: &Link, name: &str, index: u32) -> bool {
    let mut found = lock(&link.device);
    if found.as_ref().is_none_or(|(known, _)| *known != index) {
        *found = (index != 0).then(|| (index, Device::open(name)));
        if let Some((_, device)) = &*found {
            link.drops.store(device.drops(), Ordering::Relaxed);
        }
    }
    found.as_ref().is_some_and(|(_, device)| device.is_up())
}

/// Tells the first of the capture threads how many packets had passed the interface a count ago, and
/// what the others received. They say that once a second: of several, the count is longer ago.
fn settle(first: &Shared, threads: &[Arc<Shared>], packets: u64) {
    let ago = if threads.len() > 1 { COUNTS_AGO } else { 1 };
    let link = &first.link;
    let mut past = lock(&link.past);
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
