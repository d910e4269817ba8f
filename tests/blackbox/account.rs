//! The accounting: by the second, exact, kept with the evidence.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use wirewitness::time::Timestamp;

use crate::support::{
    Mirror, Recorder, Sender, Server, Setup, Site, Tally, pcapng, pcapng_files, record, rounds,
    run, signal, wait_for,
};

const FAST: u64 = 100_000;

/// The lines of a ring's folder, in order.
fn lines(folder: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for file in seconds_files(folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        all.extend(text.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
        }));
    }
    all
}

fn seconds_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("seconds-")
        })
        .collect();
    files.sort();
    files
}

fn sum(lines: &[Value], key: &str) -> u64 {
    lines.iter().map(|line| line[key].as_u64().unwrap()).sum()
}

fn time(value: &Value) -> u64 {
    let text = value.as_str().unwrap();
    text.parse::<Timestamp>().unwrap().as_ns()
}

/// Panics unless the lines add up to what was sent, and each begins where the one before ends.
fn assert_exact(lines: &[Value], sent: u64, context: &str) -> [u64; 3] {
    let parts = ["written", "dropped_kernel", "dropped_ring"].map(|key| sum(lines, key));
    assert_eq!(
        parts.iter().sum::<u64>(),
        sent,
        "{context}: {parts:?} of {sent}"
    );
    assert_eq!(sum(lines, "received"), sent, "{context}: {parts:?}");
    parts
}

/// Panics when a segment says less than what its packets show: what the kernel dropped among them
/// must be in the counts that end it.
fn assert_counted(ring: &Path, context: &str) {
    for file in pcapng_files(ring) {
        for said in pcapng::read(&file, |_| {}).statistics {
            let told = said.os_dropped.unwrap() + said.delivered.unwrap();
            let file = file.display();
            assert!(
                said.filter_accepted.unwrap() >= told,
                "{context}: {file}: {said:?}"
            );
        }
    }
}

#[test]
fn sent_is_written_and_dropped_to_the_packet_in_every_overload() {
    // What is in short supply: the kernel's buffer, memory for the disk's stalls, both, neither.
    let overloads = [
        (
            "kernel buffer 1 MiB, recorder stopped for a while",
            "1MiB",
            "1MiB",
            "4MiB",
            true,
        ),
        ("two slots of 64 KiB", "64MiB", "64KiB", "128KiB", false),
        ("both", "1MiB", "64KiB", "128KiB", true),
        (
            "none, recorder stopped for a while",
            "64MiB",
            "4MiB",
            "64MiB",
            true,
        ),
    ];
    for (name, buffer, segment, memory, paused) in overloads {
        for _ in 0..rounds(1, 10) {
            let Some(mirror) = Mirror::alone("exact accounting") else {
                return;
            };
            let site = Site::new(&Setup {
                buffer,
                segment,
                memory,
                snaplen: 2000,
                ..Setup::default()
            });
            let mut sender = Sender::new(&mirror.sender, 0, 1514);
            let count = 20_000;
            // Twice: a restart begins new counters, and the lines go on.
            for _ in 0..2 {
                let before = sender.next();
                let mut recorder = Recorder::start(&site, &mirror.monitor);
                sender.send(count, FAST);
                if paused {
                    signal(recorder.process.id(), Signal::STOP);
                    sender.send(count, FAST);
                    signal(recorder.process.id(), Signal::CONT);
                }
                sender.send(count, FAST);
                sender.settle(&mirror.monitor, "mon0");
                recorder.account("mon0", sender.next() - before);
                let (status, _) = recorder.process.stop(Signal::TERM);
                assert!(status.success(), "{status}");
                assert_exact(&lines(&site.ring("mon0")), sender.next(), name);
            }
            assert_counted(&site.ring("mon0"), name);
            let lines = lines(&site.ring("mon0"));
            let [written, kernel, ring] = assert_exact(&lines, sender.next(), name);
            assert_eq!(sum(&lines, "written_bytes"), written * 1514, "{name}");
            let tally = Tally::of_folder(&site.ring("mon0"));
            assert_eq!(
                (tally.doubled(), tally.distinct()),
                (vec![], written),
                "{name}"
            );
            if buffer == "1MiB" {
                assert!(kernel > 0, "{name}: nothing was dropped by the kernel");
            } else if memory == "128KiB" {
                assert!(ring > 0, "{name}: there was always a slot");
            } else {
                assert_eq!((kernel, ring), (0, 0), "{name}");
            }
            record(
                "overload, counted at the sender",
                name,
                sender.next(),
                &format!("written {written} + kernel {kernel} + slots {ring}: exact"),
            );
        }
    }
}

#[test]
fn drops_beside_the_end_of_a_segment_are_in_the_evidence() {
    let Some(mirror) = Mirror::alone("drops in evidence") else {
        return;
    };
    let site = Site::new(&Setup {
        buffer: "1MiB",
        segment: "1MiB",
        snaplen: 2000,
        // Between two samples segments end by themselves.
        sync: "30s",
        more: "[[webhook]]\nname = \"h\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n",
        ..Setup::default()
    });
    let recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 1514);
    for _ in 0..rounds(3, 30) {
        sender.send(2000, FAST);
        sender.settle(&mirror.monitor, "mon0");
        let from = Timestamp::now();
        signal(recorder.process.id(), Signal::STOP);
        sender.send(4000, FAST);
        let to = Timestamp::now();
        signal(recorder.process.id(), Signal::CONT);
        // Several segments end behind the drops.
        sender.send(4000, FAST);
        sender.settle(&mirror.monitor, "mon0");
        let body = format!(
            "{{\"subject\": \"{to}\", \"at\": \"{to}\", \"before\": \"{}ns\", \"after\": \"0s\"}}",
            to.since(from).as_nanos()
        );
        let bearer = "Authorization: Bearer secret-of-the-test";
        let json = "Content-Type: application/json";
        let answer = site.http("/hooks/h", &["-H", bearer, "-H", json, "-d", &body]);
        assert_eq!(answer.status, 202, "{}", answer.head);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let incident = site.sealed(answer["incident"].as_str().unwrap());
        let completeness = &incident["completeness"];
        assert_eq!(completeness["verdict"], "incomplete", "{incident}");
        let reasons = completeness["reasons"].to_string();
        assert!(reasons.contains("\"dropped_kernel\""), "{incident}");
    }
}

#[test]
fn lines_follow_each_other_and_the_segments_say_the_same() {
    let Some(mirror) = Mirror::new("lines and segments") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    // Over several seconds.
    sender.send(3000, 1000);
    let status = recorder.account("mon0", 3000);
    recorder.process.stop(Signal::TERM);
    let lines = lines(&site.ring("mon0"));
    assert!(lines.len() >= 3, "{lines:?}");
    for pair in lines.windows(2) {
        assert_eq!(pair[0]["to"], pair[1]["from"], "{pair:?}");
    }
    for line in &lines {
        assert!(line["from"].as_str() < line["to"].as_str(), "{line}");
        let clock = &line["clock"];
        assert!(clock["synchronised"].is_boolean(), "{line}");
        assert!(clock.get("step_ns").is_none(), "{line}");
        // The machine's boot is the same moment in every line.
        let offset = clock["boottime_offset_ns"].as_i64().unwrap();
        let first = lines[0]["clock"]["boottime_offset_ns"].as_i64().unwrap();
        assert!(offset.abs_diff(first) < 1_000_000, "{line}");
    }
    assert_eq!(
        sum(&lines, "received"),
        status["received"].as_u64().unwrap()
    );

    let newest = pcapng_files(&site.ring("mon0")).pop().unwrap();
    let mut blocks = wirewitness::pcapng::stream::Blocks::new(std::fs::File::open(newest).unwrap());
    let mut last = None;
    while let wirewitness::pcapng::stream::Next::Block(block) = blocks.next().unwrap() {
        if let wirewitness::pcapng::decode::Block::Statistics(statistics) = block {
            last = statistics.sample();
        }
    }
    let last = last.unwrap();
    assert_eq!(last.counters.written, 3000);
    let mark = last.detail.clock.unwrap();
    let told = &lines.last().unwrap()["clock"];
    assert_eq!(told["synchronised"], mark.synchronised);
    let offset = told["boottime_offset_ns"].as_i64().unwrap();
    assert!(
        offset.abs_diff(mark.boottime_offset_ns) < 1_000_000,
        "{told}"
    );
}

#[test]
fn a_silence_is_measured_to_the_nanosecond() {
    let Some(mirror) = Mirror::new("longest gap") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    sender.send_one();
    recorder.account("mon0", 1);
    wait_for("a silence of half a second", || {
        recorder.flush();
        let silent = recorder.interface("mon0")["longest_gap_ns"]
            .as_u64()
            .unwrap();
        (silent > 500_000_000)
            .then_some(())
            .ok_or_else(|| format!("{silent} ns so far"))
    });
    sender.send_one();
    recorder.account("mon0", 2);
    recorder.process.stop(Signal::TERM);
    let mut times = Vec::new();
    for file in pcapng_files(&site.ring("mon0")) {
        pcapng::read(&file, |packet| times.push(packet.at_ns));
    }
    let [first, second] = times[..] else {
        panic!("{times:?}")
    };
    let lines = lines(&site.ring("mon0"));
    let with_second: Vec<&Value> = lines.iter().filter(|line| line["received"] == 1).collect();
    let line = with_second.last().unwrap();
    assert_eq!(line["longest_gap_ns"], second - first, "{lines:?}");
    // While it lasted, it was known a little less exactly, and never overstated.
    for line in lines.iter().filter(|line| line["received"] == 0) {
        let lasted = time(&line["to"]).saturating_sub(first);
        assert!(
            line["longest_gap_ns"].as_u64().unwrap() <= lasted.max(second - first),
            "{line}"
        );
    }
}

#[test]
fn what_the_snaplen_cut_is_counted_exactly() {
    let Some(mirror) = Mirror::new("truncated") else {
        return;
    };
    let site = Site::new(&Setup {
        snaplen: 96,
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut long = Sender::new(&mirror.sender, 0, 1000);
    let mut short = Sender::new(&mirror.sender, 0, 96);
    long.send(123, 10_000);
    short.send(77, 10_000);
    let status = recorder.account("mon0", 200);
    assert_eq!(status["truncated"], 123, "{status}");
    recorder.process.stop(Signal::TERM);
    assert_eq!(sum(&lines(&site.ring("mon0")), "truncated"), 123);
}

#[test]
fn what_the_filter_refused_is_counted() {
    let Some(mirror) = Mirror::new("filtered") else {
        return;
    };
    // A veth counts every packet, so that the estimate must be exact here.
    let site = Site::new(&Setup {
        filter: "greater 500",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut long = Sender::new(&mirror.sender, 0, 1000);
    let mut short = Sender::new(&mirror.sender, 0, 96);
    short.send(300, 10_000);
    long.send(200, 10_000);
    short.send(41, 10_000);
    recorder.account("mon0", 200);
    let refused = wait_for("the refused packets to be counted", || {
        let status = recorder.interface("mon0");
        match status["filtered"].as_u64().unwrap() {
            n if n >= 341 => Ok(n),
            n => Err(format!("{n} are")),
        }
    });
    assert_eq!(refused, 341);
    recorder.process.stop(Signal::TERM);
    let lines = lines(&site.ring("mon0"));
    assert_eq!(
        (sum(&lines, "filtered"), sum(&lines, "received")),
        (341, 200)
    );

    // Also when it is stopped before it has looked again.
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    short.send(59, 10_000);
    wait_for("every packet to pass the cable", || {
        match mirror.monitor.received("mon0") {
            600 => Ok(()),
            n => Err(format!("{n} have")),
        }
    });
    recorder.process.stop(Signal::TERM);
    let lines = self::lines(&site.ring("mon0"));
    assert_eq!(
        (sum(&lines, "filtered"), sum(&lines, "received")),
        (400, 200)
    );
}

#[test]
fn lines_go_with_the_ring_and_a_torn_one_harms_nothing() {
    let Some(mirror) = Mirror::new("old lines") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let ring = site.ring("mon0");
    std::fs::create_dir_all(&ring).unwrap();
    let day = 24 * 3_600_000_000_000_u64;
    let now = Timestamp::now().as_ns();
    let [old, recent] = [now - 9 * day, now - 5 * day].map(|start| {
        let path = ring.join(format!("seconds-{start}.jsonl"));
        let at = |ns| Timestamp::from_ns(ns).to_rfc3339();
        let line = serde_json::json!({
            "from": at(start), "to": at(start + 1_000_000_000), "received": 1, "written": 1,
            "written_bytes": 1, "dropped_kernel": 0, "dropped_ring": 0, "dropped_iface": 0,
            "longest_gap_ns": 0, "clock": {"boottime_offset_ns": 0, "raw_offset_ns": 0},
        });
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "{line}\n{{\"from\":\"20").unwrap();
        path
    });
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    // The ring's oldest segment is of now: the second start knows it.
    for n in 1..=2 {
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        sender.send(10, 1000);
        recorder.account("mon0", 10);
        recorder.process.stop(Signal::TERM);
        assert_eq!(
            seconds_files(&ring).len(),
            1 + n + usize::from(old.exists())
        );
    }
    assert!(
        !old.exists() && recent.exists(),
        "{:?}",
        seconds_files(&ring)
    );
}

#[test]
fn an_incident_has_its_accounting_and_tampering_is_found() {
    let Some(mirror) = Mirror::new("accounting of an incident") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(2500, 1000);
    recorder.account("mon0", 2500);
    let id = site.ask(&["freeze", "--before", "20s", "--after", "0s"]);
    let id = id.trim();
    let incident = site.sealed(id);
    let folder = site.incidents().join(id);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let entry = &manifest["accounting"][0];
    assert_eq!(entry["path"], "accounting/mon0.jsonl", "{manifest}");
    let path = folder.join("accounting/mon0.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entry["lines"], lines.len(), "{manifest}");
    // The window holds the whole run: every packet is in a line, up to the window's end.
    assert_eq!(sum(&lines, "written"), 2500);
    assert!(time(&lines.last().unwrap()["to"]) >= time(&incident["window"]["to"]));
    let reasons = incident["completeness"]["reasons"].to_string();
    assert!(!reasons.contains("\"accounting\""), "{reasons}");
    run(Command::new("sha256sum")
        .args(["--strict", "-c", "SHA256SUMS"])
        .current_dir(&folder));
    let folder = folder.to_str().unwrap();
    assert_eq!(site.client(&["verify", folder]).status.code(), Some(0));
    // A bundle is the folder.
    let bundle = site.path("bundle.tar");
    let sent = site.http(&format!("/api/v1/incidents/{id}/bundle"), &[]);
    std::fs::write(&bundle, sent.body).unwrap();
    let listed = run(Command::new("tar").arg("-tf").arg(&bundle));
    assert!(
        listed.contains(&format!("{id}/accounting/mon0.jsonl")),
        "{listed}"
    );

    let copy = site.path("copy");
    run(Command::new("cp").args(["-r", folder]).arg(&copy));
    let mine = copy.join("accounting/mon0.jsonl");
    let altered = text.replacen("\"dropped_kernel\":0", "\"dropped_kernel\":1", 1);
    assert_ne!(altered, text);
    let verdict = |what: &str| {
        let output = site.client(&["verify", copy.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{what}: {output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    std::fs::write(&mine, altered).unwrap();
    assert!(verdict("altered").contains("accounting/mon0.jsonl"));
    std::fs::remove_file(&mine).unwrap();
    assert!(verdict("removed").contains("accounting/mon0.jsonl"));
    std::fs::write(&mine, &text).unwrap();
    std::fs::write(copy.join("accounting/eth9.jsonl"), &text).unwrap();
    assert!(verdict("added").contains("accounting/eth9.jsonl"));
    std::fs::remove_file(copy.join("accounting/eth9.jsonl")).unwrap();
    let output = site.client(&["verify", copy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    // It goes with the incident, whoever made the folder.
    let deleted = site.http(&format!("/api/v1/incidents/{id}"), &["-X", "DELETE"]);
    assert_eq!(deleted.status, 204, "{}", deleted.head);
    assert!(!Path::new(folder).exists());
}

#[test]
fn status_and_metrics_show_the_clock() {
    let Some(mirror) = Mirror::new("clock in status") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let status: Value = serde_json::from_str(&site.ask(&["--json", "status"])).unwrap();
    let clock = &status["clock"];
    for key in [
        "synchronised",
        "source",
        "boottime_offset_ns",
        "frequency_ppm",
        "est_error_ns",
    ] {
        assert!(clock.get(key).is_some(), "no clock.{key} in {status}");
    }
    assert_eq!(clock["steps_total"], 0, "{status}");
    assert!(site.ask(&["status"]).contains("\nclock      "));
    let metrics = site.http("/metrics", &[]).body;
    let metrics = String::from_utf8(metrics).unwrap();
    for name in [
        "wirewitness_clock_steps_total 0",
        "wirewitness_clock_max_error_seconds",
        "wirewitness_capture_truncated_packets_total{interface=\"mon0\"} 0",
        "wirewitness_capture_longest_gap_seconds{interface=\"mon0\"}",
    ] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
}
