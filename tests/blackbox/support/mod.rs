//! What the black-box tests stand on: networks, senders, processes, and an independent reader.

mod appliance;
pub(crate) mod disk;
mod journald;
mod lab;
pub(crate) mod ledger;
pub(crate) mod pcapng;
mod process;
mod soak;
pub(crate) mod states;
pub(crate) mod strict;
mod tools;
mod trace;
mod traffic;

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

pub(crate) use appliance::{Recorder, Server, Setup, Site, binary};
pub(crate) use journald::Journald;
pub(crate) use lab::{Lab, Mirror, Space};
pub(crate) use process::{Process, signal};
pub(crate) use soak::{Dice, median_and_p99, record, rounds};
pub(crate) use tools::{Http, run, run_quietly};
pub(crate) use trace::{thread_named, watch};
pub(crate) use traffic::{
    Sender, Tally, Traffic, number_of, numbered_frame, segments as pcapng_files, send_tagged,
    write_savefile,
};

/// How long anything may take to become ready or to finish.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `probe` until it answers, at most [`DEADLINE`]; panics with `what` and its last complaint.
pub(crate) fn wait_for<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> T {
    wait_at_most(DEADLINE, what, probe)
}

/// [`wait_for`] with its own deadline.
pub(crate) fn wait_at_most<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(complaint) if start.elapsed() > deadline => {
                panic!("waited {deadline:?} in vain for {what}: {complaint}")
            }
            // The pace of asking; what is waited for is the answer.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Whether the tests may build networks. Without root they are skipped, loudly; where `CI` is set
/// that is an error.
pub(crate) fn privileged(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs root to build its network, and CI must not skip it"
    );
    // Not eprintln!: libtest would swallow it.
    let notice = format!("\n*** SKIPPED: {test} needs root to build its network ***\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    false
}

/// Whether tests run at their full length.
pub(crate) fn long() -> bool {
    std::env::var_os("WW_LONG").is_some_and(|value| value == "1")
}

/// Keeps load tests alone on the machine, across threads and processes, while it lives.
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits until no other test runs.
    pub(crate) fn alone() -> Self {
        Self::take(rustix::fs::FlockOperation::LockExclusive)
    }

    /// Waits until no load test runs.
    pub(crate) fn shared() -> Self {
        Self::take(rustix::fs::FlockOperation::LockShared)
    }

    fn take(operation: rustix::fs::FlockOperation) -> Self {
        let path = std::env::temp_dir().join("wirewitness-tests.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap();
        rustix::fs::flock(&lock, operation).unwrap();
        Self { _lock: lock }
    }
}
