//! Syncs that hang or fail while the disk goes on taking bytes, as behind a journal that waits for
//! somebody else's: strace holds the keeper's calls back.

use std::fs;
use std::os::unix::fs::FileExt;

use rustix::process::Signal;

use crate::support::{
    Mirror, Process, Recorder, Sender, Setup, Site, Tally, record, signal, thread_named, wait_for,
    watch,
};

/// Packets a second, of 200 bytes: a slot in less than 0.1 s.
const RATE: u64 = 50_000;

fn site() -> Site {
    Site::new(&Setup {
        segment: "1MiB",
        memory: "16MiB",
        ..Setup::default()
    })
}

/// Does to the keeper's syncs what strace calls an injection.
fn tamper(site: &Site, recorder: &Recorder, injection: &str) -> Process {
    let keeper = thread_named(recorder.process.id(), "keeper");
    let inject = format!("inject=fsync,fdatasync:{injection}");
    let options = ["-e", "trace=fsync,fdatasync", "-e", &inject];
    watch(&site.path(""), &keeper, &options)
}

/// Waits until every packet is in memory or on its way to the disk, without asking for a flush.
fn wait_taken(recorder: &mut Recorder, sent: u64) {
    wait_for("every packet to be taken", || {
        recorder.process.alive();
        let status = recorder.interface("mon0");
        let count = |key: &str| status[key].as_u64().unwrap();
        let lost = count("dropped_kernel") + count("dropped_ring");
        assert_eq!(lost, 0, "{status}");
        if count("written") == sent {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

/// Four times as much as memory holds comes while no sync returns, and then the recorder is killed.
#[test]
fn a_sync_that_hangs_costs_no_packet_and_neither_does_a_kill_then() {
    let Some(mirror) = Mirror::alone("a sync that hangs") else {
        return;
    };
    let site = site();
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    sender.send(RATE, RATE);
    sender.settle(&mirror.monitor, "mon0");
    recorder.account("mon0", sender.next());
    let strace = tamper(&site, &recorder, "delay_enter=600000000");
    sender.send(6 * RATE, RATE);
    sender.settle(&mirror.monitor, "mon0");
    wait_taken(&mut recorder, sender.next());
    // The keeper sits in its first call yet.
    let calls = fs::read_to_string(site.path("strace.log")).unwrap();
    assert!(!calls.contains(" = "), "{calls}");
    // No call gets through between: it is dead when strace lets go of it.
    signal(recorder.process.id(), Signal::KILL);
    drop(strace);
    recorder.process.kill();
    let recorder = Recorder::start(&site, &mirror.monitor);
    recorder.flush();
    Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());
    let figure = format!("0 of {} packets lost", sender.next());
    record(
        "no sync returns",
        "strace holds the keeper's first back for good; 6 s of 50,000 packets/s, 16 MiB of slots; then SIGKILL",
        1,
        &figure,
    );
}

/// The sync of a segment fails whose slot was given back while it hung: repeated, and read back.
#[test]
fn a_sync_that_fails_too_late_is_made_up_for() {
    let Some(mirror) = Mirror::alone("a sync that fails late") else {
        return;
    };
    let site = site();
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    let strace = tamper(&site, &recorder, "error=EIO:delay_enter=3000000:when=1");
    sender.send(6 * RATE, RATE);
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", sender.next());
    assert_eq!(status["written"], sender.next(), "{status}");
    let said = recorder.process.said();
    assert!(said.contains("read back, it is whole"), "{said}");
    drop(strace);
    Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());
    assert!(!site.ring("mon0").join("aside").exists());
    let figure = format!("0 of {} packets lost; read back", sender.next());
    record(
        "a sync fails after its slot was given back",
        "strace: EIO after 3 s; 50,000 packets/s, 16 MiB of slots",
        1,
        &figure,
    );
}

/// The recorder is killed while it does not know whether the disk has a segment, and it has not.
#[test]
fn a_doubt_outlives_the_recorder() {
    let Some(mirror) = Mirror::alone("a doubt that outlives the recorder") else {
        return;
    };
    let site = site();
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    let strace = tamper(&site, &recorder, "error=EIO:delay_enter=3000000");
    sender.send(4 * RATE, RATE);
    sender.settle(&mirror.monitor, "mon0");
    wait_taken(&mut recorder, sender.next());
    let doubts = wait_for("a segment in doubt", || {
        site.doubts("mon0")
            .ok_or_else(|| "no record of one".to_owned())
    });
    signal(recorder.process.id(), Signal::KILL);
    drop(strace);
    recorder.process.kill();

    let doubt: serde_json::Value = serde_json::from_str(doubts.trim()).unwrap();
    let name = doubt["segment"].as_str().unwrap();
    let segment = site.ring("mon0").join(name);
    let copy = site.path("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(&segment, copy.join(name)).unwrap();
    let lost = Tally::of_folder(&copy).distinct();
    assert!(lost > 1000, "{lost}");
    let damaged = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    damaged.write_all_at(&[0; 4096], 512 << 10).unwrap();
    drop(damaged);

    let recorder = Recorder::start(&site, &mirror.monitor);
    recorder.flush();
    assert!(!segment.exists());
    assert!(site.ring("mon0").join("aside").join(name).exists());
    let gaps = fs::read_to_string(site.ring("mon0").join("gaps.jsonl")).unwrap();
    let failed = gaps.lines().filter(|line| line.contains("disk_failed"));
    assert_eq!(failed.count(), 1, "{gaps}");
    let tally = Tally::of_folder(&site.ring("mon0"));
    assert_eq!(tally.missing(sender.next()).len() as u64, lost);
    assert!(tally.doubled().is_empty());
    assert_eq!(site.doubts("mon0"), None);
    let figure = format!("{lost} of {} packets lost, and on record", sender.next());
    record(
        "killed while a segment is in doubt that the disk lost",
        "strace: EIO after 3 s each; SIGKILL; 4 KiB of the segment zeroed",
        1,
        &figure,
    );
}
