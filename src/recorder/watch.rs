//! Watches the links: which index a name has, whether it is up, what its driver dropped. One thread
//! for all interfaces, so that capture threads need not ask.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::recorder::shared::Shared;
use crate::recorder::socket;

const EVERY: Duration = Duration::from_millis(200);

/// Looks at every interface, given as its capture threads, until `stopping` is closed.
pub fn run(interfaces: &[Vec<Arc<Shared>>], stopping: &Receiver<()>) {
    loop {
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
    for shared in threads {
        let link = &shared.link;
        let changed = link.index.swap(index, Ordering::AcqRel) != index;
        if changed | (link.up.swap(up, Ordering::AcqRel) != up) {
            shared.wake();
        }
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

/// What the driver says it had no room for: the counters that libpcap calls ps_ifdrop.
fn driver_drops(name: &str) -> u64 {
    ["rx_missed_errors", "rx_fifo_errors"]
        .iter()
        .filter_map(|counter| {
            let text = fs::read_to_string(format!("/sys/class/net/{name}/statistics/{counter}"));
            text.ok()?.trim().parse::<u64>().ok()
        })
        .sum()
}
