//! What a packet costs the capture thread in system calls.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Mirror, Recorder, Sender, Setup, Site, record, rounds, thread_named, watch};

/// What it may say to the kernel: wait for packets, ask for the counters, clear its wake-up; on a
/// channel or lock that another thread holds, wait or wake; memory when a thread's heap grows.
const ALLOWED: &[&str] = &[
    "poll",
    "ppoll",
    "getsockopt",
    "read",
    "write",
    "futex",
    "sched_yield",
    "clock_gettime",
    "clock_adjtime", // once a second, for the accounting
    "restart_syscall",
];
const RATE: u64 = 50_000;

/// How often each call stands in a log of strace.
fn calls(log: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        // "poll([..]) = 1"; a signal or an exit has no parenthesis behind its first word.
        let name: String = line
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if !name.is_empty() && line[name.len()..].starts_with('(') {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

#[test]
fn a_packet_costs_no_system_call() {
    let Some(mirror) = Mirror::alone("no system call per packet") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    sender.send(1000, RATE);

    let said = fs::read_to_string(site.path("record.log")).unwrap();
    assert!(!said.contains("libpcap walks"), "{said}");

    let packets = rounds(200_000, 6_000_000);
    let tid = thread_named(recorder.process.id(), "capture");
    let mut strace = watch(&site.path(""), &tid, &[]);
    sender.send(packets, RATE);
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", sender.next());
    strace.stop(Signal::INT);

    assert_eq!(status["written"], sender.next(), "{status}");
    let calls = calls(&site.path("strace.log"));
    let total: u64 = calls.values().sum();
    let strange: Vec<&String> = calls
        .keys()
        .filter(|name| !ALLOWED.contains(&name.as_str()))
        .collect();
    let seconds = packets / RATE;
    record(
        "system calls of the capture thread",
        &format!("{packets} packets at {RATE}/s from a veth pair, under strace"),
        packets,
        &format!(
            "{total} calls, {:.5} a packet, {} a second: {calls:?}",
            total as f64 / packets as f64,
            total / seconds.max(1),
        ),
    );
    assert!(strange.is_empty(), "{strange:?} of {calls:?}");
    assert!(total > 0, "strace saw nothing");
    assert!(
        total < packets / 50,
        "{total} calls for {packets} packets: {calls:?}"
    );
}

/// Of a recorder that was root when it began: it asks for that before it gives the right to it up.
#[test]
fn what_packets_wait_for_goes_first_at_processor_and_disk() {
    let Some(mirror) = Mirror::alone("priorities") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let recorder = Recorder::start(&site, &mirror.monitor);
    let pid = recorder.process.id();
    for name in ["capture", "pump", "keeper"] {
        let tid = thread_named(pid, name);
        let said = |program: &str, options: &[&str]| {
            let output = Command::new(program).args(options).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let class = said("ionice", &["-p", &tid]);
        assert_eq!(class, "realtime: prio 2", "{name}");
        // Of all threads, by number.
        let nice = said("ps", &["-L", "-o", "lwp=,ni=", "-p", &pid.to_string()]);
        let own = nice
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|line| line[0] == tid);
        assert_eq!(own.unwrap()[1], "-10", "{name}: {nice}");
    }
}
