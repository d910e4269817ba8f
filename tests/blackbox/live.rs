//! What the recorder keeps of what really passed an interface.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::support::{
    Lab, Mirror, Recorder, Sender, Setup, Site, Tally, long, pcapng, run, send_tagged, signal,
    wait_for,
};

/// Bytes of the stream that makes frames longer than the MTU.
const BYTES: usize = 4 << 20;
/// Packets of the load tests: ten seconds at 100,000 a second.
const MANY: u64 = 1_000_000;
const FAST: u64 = 100_000;

#[test]
fn every_packet_at_100000_a_second_is_in_the_ring_exactly_once() {
    let Some(mirror) = Mirror::alone("exactly once") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 64);
    sender.send(MANY, FAST);
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", MANY);
    assert_eq!(status["dropped_kernel"], 0, "{status}");
    assert_eq!(status["dropped_ring"], 0, "{status}");
    assert_eq!(status["written"], MANY, "{status}");
    Tally::of_folder(&site.ring("mon0")).assert_each_once(MANY);
}

#[test]
fn a_ring_too_small_keeps_the_newest() {
    let rounds = if long() { 20 } else { 2 };
    for _ in 0..rounds {
        let Some(mirror) = Mirror::alone("small ring") else {
            return;
        };
        let site = Site::new(&Setup {
            ring_size: "16MiB",
            segment: "1MiB",
            memory: "16MiB",
            ..Setup::default()
        });
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 128);
        sender.send(MANY / 4, FAST);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        let sum = ["written", "dropped_kernel", "dropped_ring"]
            .map(|key| status[key].as_u64().unwrap())
            .iter()
            .sum::<u64>();
        assert_eq!(sum, sender.next(), "{status}");

        let tally = Tally::of_folder(&site.ring("mon0"));
        let lowest = tally.lowest().unwrap();
        assert!(lowest > 0, "the ring must have turned over");
        assert_eq!(tally.doubled(), [0; 0]);
        let holes = tally.missing(sender.next()).len() as u64 - lowest;
        let dropped = sum - status["written"].as_u64().unwrap();
        assert!(holes <= dropped, "{holes} holes, but {dropped} dropped");
        // At least the ring's size, less the segment that is being made and the framing.
        let kept = tally.distinct() * 128;
        assert!(kept > 10 << 20, "only {kept} bytes were kept");
        let on_disk: u64 = std::fs::read_dir(site.ring("mon0"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(
            on_disk <= (16 << 20) + (1 << 20),
            "{on_disk} bytes in a ring of 16 MiB"
        );
    }
}

#[test]
fn written_and_dropped_are_what_was_sent() {
    let rounds = if long() { 20 } else { 2 };
    for _ in 0..rounds {
        let Some(mirror) = Mirror::alone("written + dropped = sent") else {
            return;
        };
        // A small kernel buffer, and a recorder that is kept from emptying it for a while: packets
        // are dropped, and every one of them is counted.
        let site = Site::new(&Setup {
            buffer: "1MiB",
            segment: "1MiB",
            memory: "4MiB",
            ..Setup::default()
        });
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 1514);
        sender.send(MANY / 20, FAST);
        signal(recorder.process.id(), Signal::STOP);
        sender.send(MANY / 20, FAST);
        signal(recorder.process.id(), Signal::CONT);
        sender.send(MANY / 10, FAST);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        let sum = ["written", "dropped_kernel", "dropped_ring"]
            .map(|key| status[key].as_u64().unwrap())
            .iter()
            .sum::<u64>();
        assert_eq!(sum, sender.next(), "{status}");
        assert_eq!(status["received"], sender.next(), "{status}");
        assert!(status["dropped_kernel"].as_u64() > Some(0), "{status}");
        let tally = Tally::of_folder(&site.ring("mon0"));
        assert_eq!(tally.doubled(), [0; 0]);
        assert_eq!(status["written"], tally.distinct(), "{status}");

        // The same numbers lie in the segments: in the last statistics block of the newest.
        let newest = crate::support::pcapng_files(&site.ring("mon0"))
            .pop()
            .unwrap();
        let summary = pcapng::read(&newest, |_| {});
        let told = summary.statistics.last().unwrap();
        let context = format!("{summary:?}\n{status}");
        assert_eq!(
            told.filter_accepted,
            status["received"].as_u64(),
            "{context}"
        );
        assert_eq!(
            told.os_dropped,
            status["dropped_kernel"].as_u64(),
            "{context}"
        );
        assert_eq!(told.interface_dropped, Some(0), "{context}");
        let delivered = sum - status["dropped_kernel"].as_u64().unwrap();
        assert_eq!(told.delivered, Some(delivered), "{context}");
    }
}

#[test]
fn several_interfaces_are_recorded_each_in_its_own_ring() {
    let Some(mirror) = Mirror::new("several interfaces") else {
        return;
    };
    mirror.plug("tx1", "mon1", 1);
    mirror.plug("tx2", "mon2", 2);
    let site = Site::new(&Setup {
        interfaces: &["mon0", "mon1", "mon2"],
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    for (n, count) in [(0, 300), (1, 2000), (2, 7)] {
        let mut sender = Sender::new(&mirror.sender, n, 200);
        sender.send(count, 10_000);
        let interface = format!("mon{n}");
        sender.settle(&mirror.monitor, &interface);
        recorder.account(&interface, count);
        Tally::of_folder(&site.ring(&interface)).assert_each_once(count);
    }
}

#[test]
fn recording_resumes_when_the_interface_comes_back_up() {
    let Some(mirror) = Mirror::new("down and up") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(1000, 10_000);
    recorder.account("mon0", 1000);
    mirror.monitor.ip(&["link", "set", "mon0", "down"]);
    recorder.wait_state(Some("mon0"), "down");
    mirror.monitor.ip(&["link", "set", "mon0", "up"]);
    recorder.wait_state(Some("mon0"), "running");
    sender.send(1000, 10_000);
    recorder.account("mon0", 2000);
    Tally::of_folder(&site.ring("mon0")).assert_each_once(2000);
    assert_gap(&site, "mon0", "interface_down");
}

#[test]
fn recording_resumes_when_the_interface_is_made_anew() {
    let Some(mirror) = Mirror::new("deleted and re-created") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(500, 10_000);
    recorder.account("mon0", 500);
    mirror.monitor.ip(&["link", "del", "mon0"]);
    recorder.wait_state(Some("mon0"), "absent");
    mirror.plug("tx0", "mon0", 0);
    recorder.wait_state(Some("mon0"), "running");
    sender.send(500, 10_000);
    recorder.account("mon0", 1000);
    Tally::of_folder(&site.ring("mon0")).assert_each_once(1000);
    assert_gap(&site, "mon0", "interface_down");
}

#[test]
fn an_interface_that_is_renamed_away_and_back_is_recorded_again() {
    let Some(mirror) = Mirror::new("renamed") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(500, 10_000);
    recorder.account("mon0", 500);
    mirror.monitor.ip(&["link", "set", "mon0", "down"]);
    mirror
        .monitor
        .ip(&["link", "set", "mon0", "name", "other0"]);
    mirror.monitor.ip(&["link", "set", "other0", "up"]);
    recorder.wait_state(Some("mon0"), "absent");
    mirror.monitor.ip(&["link", "set", "other0", "down"]);
    mirror
        .monitor
        .ip(&["link", "set", "other0", "name", "mon0"]);
    mirror.monitor.ip(&["link", "set", "mon0", "up"]);
    recorder.wait_state(Some("mon0"), "running");
    sender.send(500, 10_000);
    recorder.account("mon0", 1000);
    Tally::of_folder(&site.ring("mon0")).assert_each_once(1000);
    assert_gap(&site, "mon0", "interface_down");
}

#[test]
fn an_interface_absent_at_the_start_is_recorded_as_soon_as_it_is_there() {
    let Some(mirror) = Mirror::new("absent at start") else {
        return;
    };
    let site = Site::new(&Setup {
        interfaces: &["mon0", "mon1"],
        ..Setup::default()
    });
    let mut recorder = Recorder::launch(&site, &mirror.monitor, &[]);
    recorder.wait_state(Some("mon0"), "running");
    recorder.wait_state(Some("mon1"), "absent");
    mirror.plug("tx1", "mon1", 1);
    recorder.wait_state(Some("mon1"), "running");
    let mut sender = Sender::new(&mirror.sender, 1, 100);
    sender.send(500, 10_000);
    recorder.account("mon1", 500);
    Tally::of_folder(&site.ring("mon1")).assert_each_once(500);
}

#[test]
fn vlan_tags_are_kept() {
    let Some(mirror) = Mirror::new("VLAN") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    send_tagged(&mirror.sender, "tx0", 42, 200);
    recorder.account("mon0", 200);
    let tally = Tally::of_folder(&site.ring("mon0"));
    tally.assert_each_once(200);
    each_packet(&site, "mon0", |packet| {
        assert_eq!(packet.data[12..16], [0x81, 0x00, 0, 42]);
        assert_eq!((packet.data.len(), packet.original_bytes), (304, 304));
    });
}

#[test]
fn frames_longer_than_the_mtu_are_kept_whole() {
    let Some(mirror) = Mirror::new("GSO") else {
        return;
    };
    let (monitor, sender) = (&mirror.monitor, &mirror.sender);
    Lab::cable((sender, "big0"), (monitor, "big1"));
    sender.ip(&["addr", "add", "10.98.0.1/24", "dev", "big0"]);
    monitor.ip(&["addr", "add", "10.98.0.2/24", "dev", "big1"]);
    let site = Site::new(&Setup {
        interfaces: &["big1"],
        filter: "tcp dst port 7000",
        ..Setup::default()
    });
    let recorder = Recorder::start(&site, monitor);
    let listener = monitor.enter(|| TcpListener::bind("10.98.0.2:7000").unwrap());
    let reader = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    let mut stream = sender.enter(|| TcpStream::connect("10.98.0.2:7000").unwrap());
    stream.write_all(&vec![0x5a; BYTES]).unwrap();
    drop(stream);
    assert_eq!(reader.join().unwrap(), BYTES as u64);

    // The ring holds every byte of the stream; veth carries it in frames of up to 64 KiB.
    let (mut longest, mut covered) = (0, vec![false; BYTES]);
    wait_for("the whole stream to be in the ring", || {
        recorder.flush();
        let mut start = None;
        each_packet(&site, "big1", |packet| {
            assert_eq!(packet.data.len(), packet.original_bytes as usize);
            longest = longest.max(packet.data.len());
            let tcp = &packet.data[34..];
            let number = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
            if tcp[13] & 0x02 != 0 {
                start = Some(number.wrapping_add(1));
            }
            let total = usize::from(u16::from_be_bytes([packet.data[16], packet.data[17]]));
            let header = 20 + usize::from(tcp[12] >> 4) * 4;
            let at = number.wrapping_sub(start.expect("the SYN comes first")) as usize;
            // A total length of 0 stands for a frame above 64 KiB (BIG TCP).
            let payload = if total == 0 {
                packet.data.len() - 14
            } else {
                total
            } - header;
            if payload > 0 {
                covered[at..at + payload].fill(true);
            }
        });
        let lacking = covered.iter().filter(|&&there| !there).count();
        if lacking == 0 {
            Ok(())
        } else {
            Err(format!("{lacking} bytes are not"))
        }
    });
    assert!(longest > 20_000, "the longest frame had {longest} bytes");
}

#[test]
fn the_capture_filter_lets_in_what_it_names() {
    let Some(mirror) = Mirror::new("capture filter") else {
        return;
    };
    mirror.plug("tx1", "mon1", 1);
    let site = Site::new(&Setup {
        interfaces: &["mon0", "mon1"],
        filter: "udp and dst net 10.99.1.0/24",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut outside = Sender::new(&mirror.sender, 0, 100);
    let mut inside = Sender::new(&mirror.sender, 1, 100);
    outside.send(300, 10_000);
    outside.settle(&mirror.monitor, "mon0");
    inside.send(300, 10_000);
    let status = recorder.account("mon1", 300);
    assert_eq!(status["received"], 300, "{status}");
    Tally::of_folder(&site.ring("mon1")).assert_each_once(300);
    let status = recorder.interface("mon0");
    assert_eq!(status["received"], 0, "{status}");
}

#[test]
fn snaplen_cuts_and_the_original_length_is_kept() {
    let Some(mirror) = Mirror::new("snaplen") else {
        return;
    };
    let site = Site::new(&Setup {
        snaplen: 96,
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 1000);
    sender.send(100, 10_000);
    recorder.account("mon0", 100);
    Tally::of_folder(&site.ring("mon0")).assert_each_once(100);
    each_packet(&site, "mon0", |packet| {
        assert_eq!((packet.data.len(), packet.original_bytes), (96, 1000));
    });
}

#[test]
fn what_is_recorded_without_a_flush_is_on_disk_within_two_seconds() {
    let Some(mirror) = Mirror::new("sync") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(10, 1000);
    let sent = std::time::Instant::now();
    wait_for("the packets to be on disk", || {
        match Tally::of_folder(&site.ring("mon0")).distinct() {
            10 => Ok(()),
            n => Err(format!("{n} of 10 are")),
        }
    });
    assert!(
        sent.elapsed().as_millis() < 2500,
        "it took {:?}",
        sent.elapsed()
    );
}

#[test]
fn a_savefile_is_replayed_through_the_same_path() {
    let Some(mirror) = Mirror::new("replay") else {
        return;
    };
    // The savefile is recorded by ourselves from numbered packets, and converted by editcap.
    let first = Site::new(&Setup::default());
    {
        let mut recorder = Recorder::start(&first, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 100);
        sender.send(1000, 10_000);
        recorder.account("mon0", 1000);
    }
    let source = crate::support::pcapng_files(&first.ring("mon0")).remove(0);
    let savefile = first.path("savefile.pcap");
    run(std::process::Command::new("editcap")
        .args(["-F", "nsecpcap"])
        .arg(&source)
        .arg(&savefile));

    let site = Site::new(&Setup::default());
    let arguments = ["--replay", savefile.to_str().unwrap()];
    let mut recorder = Recorder::launch(&site, &mirror.monitor, &arguments);
    recorder.wait_state(None, "finished");
    recorder.flush();
    let mut tally = Tally::default();
    for entry in std::fs::read_dir(site.path("var/ring")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in crate::support::pcapng_files(&path) {
                tally.add(&file);
            }
        }
    }
    tally.assert_each_once(1000);
    let original = Tally::of_file(&source);
    assert_eq!(
        (tally.first_ns, tally.last_ns),
        (original.first_ns, original.last_ns),
        "timestamps are the savefile's"
    );
}

/// Shows every packet of an interface's ring.
fn each_packet(site: &Site, interface: &str, mut show: impl FnMut(pcapng::Packet<'_>)) {
    for file in crate::support::pcapng_files(&site.ring(interface)) {
        pcapng::read(&file, &mut show);
    }
}

/// Panics unless the interface's gaps name this cause.
fn assert_gap(site: &Site, interface: &str, cause: &str) {
    let gaps = site.ring(interface).join("gaps.jsonl");
    let text = std::fs::read_to_string(&gaps).unwrap();
    let known = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .any(|gap| gap["cause"] == cause && gap["from"].as_str() < gap["to"].as_str());
    assert!(known, "no gap of cause {cause} in {text}");
}
