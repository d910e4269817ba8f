//! What the threads of one interface tell each other and the control socket.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::counters::Counters;
use crate::recorder::device::Device;
use crate::recorder::protocol::InterfaceState;
use crate::ring::names::Member;
use crate::time::Timestamp;

/// State of one capture thread of an interface, written by it and its keeper and read by anyone.
#[derive(Debug)]
pub struct Shared {
    /// Configured name of the interface.
    pub name: String,
    /// Which of the interface's capture threads.
    pub member: Member,
    received: AtomicU64,
    written: AtomicU64,
    written_bytes: AtomicU64,
    dropped_kernel: AtomicU64,
    dropped_ring: AtomicU64,
    dropped_iface: AtomicU64,
    truncated: AtomicU64,
    filtered: AtomicU64,
    /// The longest time without a packet in the last line of accounting.
    longest_gap_ns: AtomicU64,
    /// Packets per second over the last second, as the bits of an f64.
    packets_per_second: AtomicU64,
    bytes_per_second: AtomicU64,
    /// Up to where the ring on disk is whole, ns.
    durable_ns: AtomicU64,
    /// The link as the watcher last saw it.
    pub link: Link,
    state: Mutex<StateSince>,
    disk_error: Mutex<Option<String>>,
    accounting_error: Mutex<Option<String>>,
    wake: OwnedFd,
}

/// What the watcher saw of the network interface.
#[derive(Debug, Default)]
pub struct Link {
    /// Its index, 0 when there is none of the name.
    pub index: AtomicU32,
    /// Whether it is administratively up.
    pub up: AtomicBool,
    /// The device that had its name at the last look, by index; of the first capture thread alone.
    pub(super) device: Mutex<Option<(u32, Device)>>,
    /// Packets its driver dropped since it was made, when they were last counted.
    pub drops: AtomicU64,
    /// Whether somebody wants to know the following.
    pub counted: AtomicBool,
    /// Packets that had passed it at the last counts.
    pub past: Mutex<VecDeque<u64>>,
    /// The earliest of them: what was counted then has long reached the sockets.
    pub settled: AtomicU64,
    /// What its other capture threads received, as they last said.
    pub others: AtomicU64,
}

/// A state, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSince {
    /// The state.
    pub state: InterfaceState,
    /// Since when.
    pub since: Timestamp,
    /// Why, or what else is worth knowing.
    pub why: Option<String>,
}

impl StateSince {
    /// Absent, without a reason.
    pub fn absent() -> Self {
        Self {
            state: InterfaceState::Absent,
            since: Timestamp::now(),
            why: None,
        }
    }
}

impl Shared {
    /// For a capture thread of the interface `name`, absent until somebody says otherwise.
    pub fn new(name: &str, member: Member) -> std::io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self {
            name: name.to_owned(),
            member,
            received: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            dropped_kernel: AtomicU64::new(0),
            dropped_ring: AtomicU64::new(0),
            dropped_iface: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            longest_gap_ns: AtomicU64::new(0),
            packets_per_second: AtomicU64::new(0),
            bytes_per_second: AtomicU64::new(0),
            durable_ns: AtomicU64::new(0),
            link: Link::default(),
            state: Mutex::new(StateSince::absent()),
            disk_error: Mutex::new(None),
            accounting_error: Mutex::new(None),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// Publishes the capture thread's counters.
    pub fn publish(&self, counters: &Counters) {
        self.received.store(counters.received, Ordering::Relaxed);
        self.written.store(counters.written, Ordering::Relaxed);
        self.written_bytes
            .store(counters.written_bytes, Ordering::Relaxed);
        self.dropped_kernel
            .store(counters.dropped_kernel, Ordering::Relaxed);
        self.dropped_ring
            .store(counters.dropped_ring, Ordering::Relaxed);
        self.dropped_iface
            .store(counters.dropped_iface, Ordering::Relaxed);
        self.truncated.store(counters.truncated, Ordering::Relaxed);
        self.filtered.store(counters.filtered, Ordering::Relaxed);
    }

    /// The counters as last published.
    pub fn counters(&self) -> Counters {
        Counters {
            received: self.received.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            dropped_kernel: self.dropped_kernel.load(Ordering::Relaxed),
            dropped_ring: self.dropped_ring.load(Ordering::Relaxed),
            dropped_iface: self.dropped_iface.load(Ordering::Relaxed),
            truncated: self.truncated.load(Ordering::Relaxed),
            filtered: self.filtered.load(Ordering::Relaxed),
        }
    }

    /// Publishes packets and bytes per second.
    pub fn publish_rates(&self, packets: f64, bytes: f64) {
        self.packets_per_second
            .store(packets.to_bits(), Ordering::Relaxed);
        self.bytes_per_second
            .store(bytes.to_bits(), Ordering::Relaxed);
    }

    /// Packets and bytes per second as last published.
    pub fn rates(&self) -> (f64, f64) {
        let load = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        (load(&self.packets_per_second), load(&self.bytes_per_second))
    }

    /// Says up to where the ring on disk is whole.
    pub fn set_durable(&self, at: Timestamp) {
        self.durable_ns.store(at.as_ns(), Ordering::Release);
    }

    /// Up to where the ring on disk is whole; `None` before anything is on disk.
    pub fn durable(&self) -> Option<Timestamp> {
        match self.durable_ns.load(Ordering::Acquire) {
            0 => None,
            ns => Some(Timestamp::from_ns(ns)),
        }
    }

    /// Changes the state, and says so in the log; no change is silent and none is said twice.
    pub fn set_state(&self, state: InterfaceState, why: Option<String>) {
        let mut current = lock(&self.state);
        if current.state == state && current.why == why {
            return;
        }
        let reason = why.as_deref().unwrap_or("");
        let thread = (self.member.of > 1).then_some(self.member.index);
        match state {
            InterfaceState::Running | InterfaceState::Finished => {
                tracing::info!(interface = self.name, thread, ?state, reason, "interface");
            }
            _ => tracing::warn!(
                interface = self.name,
                thread,
                ?state,
                reason,
                "interface is not recorded"
            ),
        }
        *current = StateSince {
            state,
            since: Timestamp::now(),
            why,
        };
    }

    /// The state.
    pub fn state(&self) -> StateSince {
        lock(&self.state).clone()
    }

    /// Says what is wrong with the disk, or that nothing is any more.
    pub fn set_disk_error(&self, error: Option<String>) {
        let mut current = lock(&self.disk_error);
        match (&*current, &error) {
            (None, Some(error)) => {
                tracing::error!(
                    interface = self.name,
                    error,
                    "the ring cannot be written; packets wait in memory"
                );
            }
            (Some(_), None) => tracing::info!(interface = self.name, "the ring is written again"),
            _ => {}
        }
        *current = error;
    }

    /// What is wrong with the disk.
    pub fn disk_error(&self) -> Option<String> {
        lock(&self.disk_error).clone()
    }

    /// Publishes the longest time without a packet.
    pub fn publish_gap(&self, ns: u64) {
        self.longest_gap_ns.store(ns, Ordering::Relaxed);
    }

    /// The longest time without a packet as last published.
    pub fn longest_gap_ns(&self) -> u64 {
        self.longest_gap_ns.load(Ordering::Relaxed)
    }

    /// Says what is wrong with the record of accounting, or that nothing is any more.
    pub fn set_accounting_error(&self, error: Option<String>) {
        let mut current = lock(&self.accounting_error);
        match (&*current, &error) {
            (None, Some(error)) => tracing::error!(
                interface = self.name,
                error,
                "the accounting cannot be written; it is added to the next line"
            ),
            (Some(_), None) => {
                tracing::info!(interface = self.name, "the accounting is written again");
            }
            _ => {}
        }
        *current = error;
    }

    /// What is wrong with the record of accounting.
    pub fn accounting_error(&self) -> Option<String> {
        lock(&self.accounting_error).clone()
    }

    /// Wakes the capture thread.
    pub fn wake(&self) {
        // A full eventfd is awake already.
        if let Err(error) = rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "wake");
        }
    }

    /// The descriptor to poll for [`Self::wake`].
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Forgets a wake that was answered.
    pub fn clear_wake(&self) {
        let mut count = [0; 8];
        // EAGAIN: nobody woke us.
        if let Err(error) = rustix::io::read(&self.wake, &mut count) {
            tracing::trace!(%error, "no wake");
        }
    }
}

/// Locks, also after another thread panicked: every value behind these locks is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
