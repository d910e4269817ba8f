//! Disks that fail, fill up, stall: under the recorder while it records, through a device of our
//! own that obeys orders.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::disk::{Device, Disk, Kind, with_own_mounts};
use crate::support::ledger::ask;
use crate::support::{Mirror, Recorder, Sender, Server, Setup, Site, Tally, record, wait_for};

/// How long the recorder may take to be as before when the fault is over.
const RESUMED: Duration = Duration::from_secs(10);

/// A site whose state lies on a device of ours.
struct Bench {
    disk: Option<Disk>,
    device: Option<Device>,
    images: TempDir,
    var: PathBuf,
}

impl Bench {
    fn new(site: &Site, bytes: u64) -> Self {
        let images = tempfile::Builder::new()
            .prefix("wwt-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let (image, served) = (images.path().join("disk"), images.path().join("served"));
        std::fs::create_dir(&served).unwrap();
        Kind::Ext4.make(&image, bytes);
        let device = Device::serve(&image, &served, None);
        let mut bench = Self {
            disk: None,
            device: Some(device),
            images,
            var: site.path("var"),
        };
        bench.mount();
        bench
    }

    fn mount(&mut self) {
        let image = self.device.as_ref().unwrap().image();
        self.disk = Some(Disk::mount(&image, &self.var).unwrap());
    }

    fn order(&self, order: &str) {
        self.device.as_ref().unwrap().order(order);
    }

    fn unmount(&mut self) {
        self.disk.take().unwrap().unmount();
    }

    fn end(mut self) {
        self.unmount();
        self.device.take().unwrap().end();
        drop(self.images);
    }
}

fn count(status: &Value, key: &str) -> u64 {
    status[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {status}"))
}

/// Waits until the disk has everything again; how long it took.
fn wait_resumed(recorder: &Recorder) -> Duration {
    let since = Instant::now();
    wait_for("the recorder to have written everything", || {
        let status = recorder.interface("mon0");
        // One slot is being filled.
        if status["disk_error"].is_null()
            && count(&status, "slots_free") + 1 >= count(&status, "slots")
        {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    since.elapsed()
}

/// Freezes; the incident, if the trigger was accepted.
fn freeze(site: &Site) -> Option<String> {
    let body = json!({"reason": "in a fault"}).to_string();
    match ask(&site.socket(), "POST", "/api/v1/incidents", &body) {
        Some((202, answer)) => Some(answer["incident"].as_str().unwrap().to_owned()),
        _ => None,
    }
}

/// Panics unless a sealed incident verifies, or says itself that it is not whole.
fn assert_honest(site: &Site, id: &str) {
    let incident = site.sealed(id);
    let folder = site.incidents().join(id);
    let verify = site.client(&["verify", folder.to_str().unwrap()]);
    let whole = verify.status.code() == Some(0);
    assert!(
        whole || incident["completeness"]["verdict"] != "complete",
        "{incident}\n{verify:?}"
    );
}

/// Panics unless an incident is sealed, has packets and verifies.
fn assert_whole(site: &Site, id: &str) {
    let incident = site.sealed(id);
    assert!(incident["packets"].as_u64() > Some(0), "{incident}");
    let folder = site.incidents().join(id);
    let verify = site.client(&["verify", folder.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(0), "{verify:?}");
}

#[test]
fn a_disk_that_returns_errors_is_ridden_out() {
    ridden_out("EIO", "eio-packets");
}

#[test]
fn a_disk_without_blocks_is_ridden_out() {
    ridden_out("ENOSPC", "enospc-packets");
}

#[test]
fn a_disk_that_tears_its_writes_is_ridden_out() {
    ridden_out("torn writes, EIO", "torn-packets");
}

#[test]
fn a_slow_disk_is_ridden_out() {
    ridden_out("slow writes (20 ms each)", "slow 20");
}

/// Two seconds of the fault under the segments, a freeze in the middle of them.
fn ridden_out(fault: &str, order: &str) {
    let Some(mirror) = Mirror::new(fault) else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "160MiB",
        segment: "1MiB",
        memory: "96MiB",
        before: "1s",
        ..Setup::default()
    });
    with_own_mounts(|| {
        let bench = Bench::new(&site, 320 << 20);
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let server = Server::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 200);
        sender.send(50_000, 50_000);
        bench.order(order);
        sender.send(50_000, 50_000);
        let frozen = freeze(&site);
        sender.send(50_000, 50_000);
        bench.order("ok");
        let resumed = wait_resumed(&recorder);
        sender.send(50_000, 50_000);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        for dropped in ["dropped_kernel", "dropped_ring"] {
            assert_eq!(status[dropped], 0, "{fault}: {status}");
        }
        Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());
        assert!(
            resumed <= RESUMED,
            "{fault}: recording again only after {resumed:?}"
        );
        let id = frozen.unwrap_or_else(|| panic!("{fault}: no freeze was accepted"));
        assert_honest(&site, &id);
        let figure = format!(
            "0 of {} packets lost; on disk again {:.1} s after the fault; the freeze made in it verifies or says what it lacks",
            sender.next(),
            resumed.as_secs_f64()
        );
        record(
            fault,
            "under the segments for 2 s, 50,000 packets/s, FUSE device",
            1,
            &figure,
        );
        drop((recorder, server));
        bench.end();
    });
}

#[test]
fn a_file_system_that_died_costs_nothing_that_memory_held() {
    let Some(mirror) = Mirror::new("dead file system") else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "160MiB",
        segment: "1MiB",
        memory: "96MiB",
        ..Setup::default()
    });
    with_own_mounts(|| {
        let mut bench = Bench::new(&site, 320 << 20);
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 200);
        sender.send(50_000, 50_000);
        bench.order("eio");
        sender.send(100_000, 50_000);
        sender.settle(&mirror.monitor, "mon0");
        wait_for(
            "every packet to be in memory and the error to be told",
            || {
                recorder.process.alive();
                let status = recorder.interface("mon0");
                let taken = count(&status, "written") == sender.next();
                if taken && !status["disk_error"].is_null() {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            },
        );
        // A person mends it: ends the recorder, checks and mounts the file system anew.
        recorder.process.kill();
        bench.order("ok");
        bench.unmount();
        bench.mount();
        let recorder = Recorder::start(&site, &mirror.monitor);
        recorder.flush();
        Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());
        let figure = format!("0 of {} packets lost", sender.next());
        let injected = "every write EIO: ext4 ends itself; recorder killed, disk mounted anew";
        record("file system dead", injected, 1, &figure);
        drop(recorder);
        bench.end();
    });
}

#[test]
fn a_disk_that_stops_for_two_seconds_loses_nothing_at_a_gigabit() {
    let Some(mirror) = Mirror::alone("disk stop") else {
        return;
    };
    let site = Site::new(&Setup {
        buffer: "256MiB",
        ring_size: "800MiB",
        segment: "16MiB",
        memory: "512MiB",
        ..Setup::default()
    });
    with_own_mounts(|| {
        let bench = Bench::new(&site, 1200 << 20);
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 1500);
        sender.send(83_000, 83_000);
        bench.order("hang 2000");
        let (stopped, mut least) = (Instant::now(), u64::MAX);
        while stopped.elapsed() < Duration::from_millis(2200) {
            sender.send(8_300, 83_000);
            least = least.min(count(&recorder.interface("mon0"), "slots_free"));
        }
        let took = wait_resumed(&recorder);
        sender.send(83_000, 83_000);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        for dropped in ["dropped_kernel", "dropped_ring"] {
            assert_eq!(status[dropped], 0, "{status}");
        }
        Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());
        let slots = count(&status, "slots");
        assert!(
            least + 1 < slots,
            "the stop was not felt: {least} of {slots} slots stayed free"
        );
        let figure = format!(
            "0 of {} packets lost; {least} of {slots} slots free at the worst, all {:.1} s after",
            sender.next(),
            took.as_secs_f64()
        );
        record(
            "disk stops for 2 s",
            "hang, 83,000 x 1500 B/s (1 Gbit/s)",
            1,
            &figure,
        );
        drop(recorder);
        bench.end();
    });
}

#[test]
fn a_disk_too_slow_for_good_is_counted_to_the_packet() {
    let Some(mirror) = Mirror::new("disk too slow") else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "64MiB",
        segment: "1MiB",
        memory: "8MiB",
        ..Setup::default()
    });
    with_own_mounts(|| {
        let bench = Bench::new(&site, 320 << 20);
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 200);
        bench.order("rate 3000000");
        sender.send(150_000, 50_000);
        bench.order("ok");
        wait_resumed(&recorder);
        sender.send(1_000, 10_000);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        assert_eq!(status["dropped_kernel"], 0, "{status}");
        let (written, lost) = (count(&status, "written"), count(&status, "dropped_ring"));
        assert!(lost > 0, "{status}");
        assert_eq!(written + lost, sender.next(), "{status}");
        let tally = Tally::of_folder(&site.ring("mon0"));
        assert_eq!(tally.distinct(), written);
        assert_eq!(tally.doubled(), [0; 0]);
        assert_eq!(tally.missing(sender.next()).len() as u64, lost);
        let figure = format!(
            "{lost} of {} packets lost, every one counted as dropped_ring; kernel drops 0",
            sender.next()
        );
        record(
            "disk too slow for good",
            "3 MB/s under 12 MB/s of packets",
            1,
            &figure,
        );
        drop(recorder);
        bench.end();
    });
}

#[test]
fn recording_goes_on_when_somebody_else_fills_the_disk() {
    let Some(mirror) = Mirror::new("disk full") else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "32MiB",
        segment: "1MiB",
        memory: "16MiB",
        before: "1s",
        ..Setup::default()
    });
    with_own_mounts(|| {
        let bench = Bench::new(&site, 128 << 20);
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let server = Server::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 256);
        sender.send(40_000, 20_000);
        let hog = site.path("var/somebody-elses");
        fill(&hog);
        sender.send(60_000, 20_000);
        let during = freeze(&site).expect("a freeze works on a full disk");
        sender.send(60_000, 20_000);
        sender.settle(&mirror.monitor, "mon0");
        let status = recorder.account("mon0", sender.next());
        for dropped in ["dropped_kernel", "dropped_ring"] {
            assert_eq!(status[dropped], 0, "{status}");
        }
        assert_whole(&site, &during);
        let tally = Tally::of_folder(&site.ring("mon0"));
        let lowest = tally.lowest().unwrap();
        let missing = tally.missing(sender.next()).len() as u64;
        assert_eq!(missing, lowest, "holes in the ring");
        std::fs::remove_file(&hog).unwrap();
        let reserve = site.incidents().join(".reserve");
        wait_for("room to be kept back again", || {
            reserve.exists().then_some(()).ok_or("not yet".to_owned())
        });
        let figure = format!(
            "0 of {} packets lost, the ring goes on with {} of its bytes; a freeze is accepted, sealed and whole",
            sender.next(),
            count(&status, "ring_bytes"),
        );
        record(
            "disk full",
            "another file takes the last block of ext4",
            1,
            &figure,
        );
        drop((recorder, server));
        bench.end();
    });
}

/// Takes every block that is left.
fn fill(path: &Path) {
    let mut hog = std::fs::File::create(path).unwrap();
    let error = std::io::copy(&mut std::io::repeat(0x55), &mut hog).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    hog.sync_all().unwrap();
}
