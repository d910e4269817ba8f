//! Everything that we write is read, without a warning, by the tools that analysts have.

use std::path::Path;
use std::process::Command;

use crate::support::{
    Mirror, Recorder, Sender, Server, Setup, Site, Tally, pcapng_files, run_quietly,
};

#[test]
fn every_ring_segment_is_read_by_every_tool() {
    let Some(mirror) = Mirror::new("readable ring") else {
        return;
    };
    let site = Site::new(&Setup {
        segment: "1MiB",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 400);
    sender.send(10_000, 20_000);
    recorder.account("mon0", 10_000);
    let files = pcapng_files(&site.ring("mon0"));
    assert!(
        files.len() > 2,
        "several segments, the last still being filled"
    );
    let packets: u64 = files.iter().map(|file| read_by_every_tool(file)).sum();
    assert_eq!(packets, 10_000);
    for file in &files {
        let bytes = std::fs::metadata(file).unwrap().len();
        assert_eq!(bytes % 4096, 0, "{}", file.display());
    }
}

#[test]
fn a_segment_is_readable_at_every_moment_while_it_is_written() {
    let Some(mirror) = Mirror::new("readable while written") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 700);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let load = std::thread::spawn(move || {
        sender.send_while(5_000, |_| {
            !stopped.load(std::sync::atomic::Ordering::Relaxed)
        });
    });
    // Our own strict reader on whatever is there, over and over, across flushes.
    for round in 0..60 {
        if round % 3 == 0 {
            recorder.flush();
        }
        Tally::of_folder(&site.ring("mon0"));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.join().unwrap();
}

#[test]
fn every_export_is_read_by_every_tool() {
    let Some(mirror) = Mirror::new("readable exports") else {
        return;
    };
    mirror.plug("tx1", "mon1", 1);
    let site = Site::new(&Setup {
        interfaces: &["mon0", "mon1"],
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    for n in [0, 1] {
        let mut sender = Sender::new(&mirror.sender, n, 200);
        sender.send(500, 10_000);
        recorder.account(&format!("mon{n}"), 500);
    }
    let id = site.ask(&["freeze", "--before", "30s", "--after", "0s"]);
    let id = id.trim();
    let incident = site.sealed(id);
    assert_eq!(incident["packets"], 1000, "{incident}");

    let pcapng = site.path("export.pcapng");
    site.ask(&["export", id, "-o", pcapng.to_str().unwrap()]);
    assert_eq!(read_by_every_tool(&pcapng), 1000);
    let mut tally = Tally::default();
    let summary = tally.add(&pcapng);
    assert_eq!(summary.interfaces.len(), 2, "{summary:?}");
    assert_eq!(summary.statistics.len(), 2, "one ISB each: {summary:?}");
    let of: Vec<_> = summary.statistics.iter().map(|isb| isb.interface).collect();
    assert_eq!(of, [0, 1]);
    assert!(!summary.comments.is_empty(), "an export says what it is");
    let mut last = 0;
    crate::support::pcapng::read(&pcapng, |packet| {
        assert!(packet.at_ns >= last, "merged by time");
        last = packet.at_ns;
        let net = packet.data[32];
        assert_eq!(
            summary.interfaces[packet.interface],
            format!("mon{net}"),
            "its own interface"
        );
    });

    let pcap = site.path("export.pcap");
    site.ask(&[
        "export",
        id,
        "--format",
        "pcap",
        "-o",
        pcap.to_str().unwrap(),
    ]);
    assert_eq!(read_by_every_tool(&pcap), 1000);

    // Trimmed by a filter, and out of the live ring.
    let half = site.path("half.pcapng");
    let only_one = ["--filter", "net 10.99.1.0/24", "-o", half.to_str().unwrap()];
    site.ask(&[&["export", "--from", "-1m", "--to", "now"], &only_one[..]].concat());
    assert_eq!(read_by_every_tool(&half), 500);
}

/// Has a capture file read by tcpdump, capinfos, editcap and tshark, none of which may warn, and
/// returns how many packets they agree on.
fn read_by_every_tool(file: &Path) -> u64 {
    let tcpdump = run_quietly(Command::new("tcpdump").args(["-nn", "-r"]).arg(file));
    let by_tcpdump = tcpdump.lines().count() as u64;

    let capinfos = run_quietly(
        Command::new("capinfos")
            .args(["-M", "-T", "-r", "-c"])
            .arg(file),
    );
    let by_capinfos = last_number(&capinfos);

    let copy = file.with_extension("copy");
    run_quietly(Command::new("editcap").arg(file).arg(&copy));
    let copied = run_quietly(
        Command::new("capinfos")
            .args(["-M", "-T", "-r", "-c"])
            .arg(&copy),
    );
    std::fs::remove_file(&copy).unwrap();

    let tshark = run_quietly(
        Command::new("tshark")
            .args(["-n", "-T", "fields", "-e", "frame.number", "-r"])
            .arg(file),
    );
    let by_tshark = tshark.lines().count() as u64;
    let all = [by_tcpdump, by_capinfos, last_number(&copied), by_tshark];
    assert!(
        all.iter().all(|&n| n == by_tcpdump),
        "{}: {all:?}",
        file.display()
    );
    by_tcpdump
}

/// The number that ends capinfos' table line.
fn last_number(line: &str) -> u64 {
    let word = line.split_whitespace().next_back();
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number ends {line:?}"))
}
