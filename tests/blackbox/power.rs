//! Power cuts. What was acknowledged is kept outside the disk that loses its power; everything
//! else must be found on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wirewitness::time::Timestamp;

use crate::support::disk::{
    Device, Disk, Kind, Logged, mend_superblock, read_log, with_own_mounts,
};
use crate::support::ledger::{Ledger, Promises, complaints_offline, complaints_online};
use crate::support::pcapng;
use crate::support::{
    Dice, Mirror, Process, Recorder, Sender, Server, Setup, Site, Traffic, binary, median_and_p99,
    number_of, pcapng_files, privileged, record, rounds, wait_for,
};

/// `ring.sync` of these tests, short enough that many fit into one life.
const SYNC: &str = "250ms";
/// The worst that a cut may cost; docs/RELIABILITY.md promises this of `sync = "1s"`.
const WORST: Duration = Duration::from_secs(2);
const IMAGE_BYTES: u64 = 320 << 20;
/// Each incident that is released leaves a tombstone, a block on the disk: some 13 in a cut.
const CUT_BYTES: u64 = 128 << 10;

#[test]
fn ext4_keeps_every_promise_through_power_cuts() {
    power_cuts(Kind::Ext4);
}

#[test]
fn xfs_keeps_every_promise_through_power_cuts() {
    power_cuts(Kind::Xfs);
}

#[test]
fn ext4_keeps_every_promise_whatever_the_disk_had_written() {
    reordered_and_torn(Kind::Ext4);
}

#[test]
fn xfs_keeps_every_promise_whatever_the_disk_had_written() {
    reordered_and_torn(Kind::Xfs);
}

/// So much memory that slots are seldom scarce.
const PLENTY: &str = "16MiB";
/// So little that most of them are given back before their segments are durable.
const SCARCE: &str = "4MiB";

fn setup(memory: &str) -> Setup<'_> {
    Setup {
        ring_size: "24MiB",
        segment: "1MiB",
        memory,
        sync: SYNC,
        before: "300ms",
        after: "50ms",
        cooldown: "0s",
        ..Setup::default()
    }
}

/// How often, unless `WW_ROUNDS` says otherwise.
pub(crate) fn times(short: u64, soak: u64) -> u64 {
    let named = std::env::var("WW_ROUNDS").ok();
    named.map_or_else(|| rounds(short, soak), |text| text.parse().unwrap())
}

/// A life of the program between two cuts.
enum Life {
    /// Cut so long after its start, whatever it has come to.
    Unborn(Duration),
    /// Freezes under load.
    Busy(Duration),
    /// Few packets and no freeze: nothing but the ring's own syncs puts anything on the disk.
    Quiet(Duration),
}

impl Life {
    fn next(dice: &mut Dice, round: u64) -> Self {
        let span = |from, to, dice: &mut Dice| Duration::from_millis(dice.between(from, to));
        match (round, dice.between(0, 16)) {
            (1, _) | (_, 0) => Self::Quiet(span(2500, 3500, dice)),
            (_, 1 | 2) => Self::Unborn(span(0, 400, dice)),
            _ => Self::Busy(span(100, 1000, dice)),
        }
    }
}

struct Figures {
    tails: Vec<f64>,
    returns: Vec<f64>,
    sealed: usize,
    accepted: usize,
}

fn power_cuts(kind: Kind) {
    let name = format!("power cuts, {}", kind.name());
    let Some(mirror) = Mirror::new(&name) else {
        return;
    };
    let cuts = times(3, 1000);
    let mut dice = Dice::new(&name);
    let site = Site::new(&setup(PLENTY));
    let images = tempfile::Builder::new()
        .prefix("wwt-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let image = images.path().join("disk");
    kind.make(&image, IMAGE_BYTES + cuts * CUT_BYTES);
    let (traffic, thread) = Traffic::start(Sender::new(&mirror.sender, 0, 256));
    let figures = with_own_mounts(|| {
        let mut cutter = Cutter::new(&site, &mirror, &traffic, &image);
        for round in 0..cuts {
            let memory = if round % 2 == 0 { SCARCE } else { PLENTY };
            site.configure(&setup(memory));
            let life = Life::next(&mut dice, round);
            cutter.live(&life, round);
            cutter.check(round);
        }
        cutter.end()
    });
    traffic.end();
    thread.join().unwrap();
    let Figures {
        mut tails,
        mut returns,
        sealed,
        accepted,
    } = figures;
    let (tail, tail_p99) = median_and_p99(&mut tails);
    let worst = tails.last().copied().unwrap_or_default();
    let (back, back_p99) = median_and_p99(&mut returns);
    let figure = format!(
        "0 of {sealed} sealed incidents lost or damaged, 0 of {accepted} accepted triggers lost; \
         ring tail lost {tail:.3} s (p99 {tail_p99:.3} s, max {worst:.3} s, sync {SYNC}); \
         recording again {back:.2} s after the mount (p99 {back_p99:.2} s)"
    );
    let injected = format!(
        "{} shut down without its journal, random moment",
        kind.name()
    );
    record("power cut", &injected, cuts, &figure);
}

struct Cutter<'a> {
    site: &'a Site,
    mirror: &'a Mirror,
    traffic: &'a Traffic,
    image: &'a Path,
    disk: Option<Disk>,
    ledger: Ledger,
    figures: Figures,
    /// First number sent in the last life, and the moment of its cut.
    last: Option<(u64, Timestamp)>,
    /// The segment that the last cut cut, and the last number in it.
    tail: Option<(PathBuf, u64)>,
}

impl<'a> Cutter<'a> {
    fn new(site: &'a Site, mirror: &'a Mirror, traffic: &'a Traffic, image: &'a Path) -> Self {
        Self {
            site,
            mirror,
            traffic,
            image,
            disk: Some(Disk::mount(image, &site.path("var")).unwrap()),
            ledger: Ledger::default(),
            figures: Figures {
                tails: Vec::new(),
                returns: Vec::new(),
                sealed: 0,
                accepted: 0,
            },
            last: None,
            tail: None,
        }
    }

    /// One life, ended by a cut and the mount that follows.
    fn live(&mut self, life: &Life, round: u64) {
        self.last = None;
        if let Life::Unborn(span) = life {
            let start = |role: &str| {
                let mut command = self.mirror.monitor.command(binary());
                command.args(self.site.arguments(&[role]));
                Process::start(&mut command, &self.site.path(&format!("{role}.log")))
            };
            let programs = [start("record"), start("serve")];
            // The moment of the cut.
            std::thread::sleep(*span);
            self.disk.as_ref().unwrap().cut();
            self.bury(programs);
            return;
        }
        let (recorder, server) = self.born();
        let first = self.traffic.next();
        let over = AtomicBool::new(false);
        let (ledger, socket) = (&self.ledger, self.site.socket());
        let lanes: &[&str] = if matches!(life, Life::Busy(_)) {
            &["a", "b", "c"]
        } else {
            &[]
        };
        let cut = std::thread::scope(|scope| {
            for lane in lanes {
                let (over, socket) = (&over, &socket);
                scope.spawn(move || ledger.run_lane(socket, &format!("{round}{lane}"), over));
            }
            let span = match life {
                Life::Quiet(span) => {
                    self.traffic.set(1_000);
                    span
                }
                Life::Busy(span) | Life::Unborn(span) => {
                    self.traffic.set(20_000);
                    span
                }
            };
            // The moment of the cut.
            std::thread::sleep(*span);
            let before = ledger.promises().clone();
            self.disk.as_ref().unwrap().cut();
            let cut = Timestamp::now();
            over.store(true, Ordering::Relaxed);
            (before, cut)
        });
        let (mut before, cut) = cut;
        // Without power nobody hears an answer. Here the programs live on for some milliseconds,
        // and XFS lets an fsync that the shutdown overtakes succeed: what they say counts no more.
        before.releasing.clone_from(&ledger.promises().releasing);
        *self.ledger.promises() = before;
        self.last = Some((first, cut));
        self.bury([recorder.process, server.process]);
    }

    /// Starts both programs and sees that they know what they promised.
    fn born(&mut self) -> (Recorder, Server) {
        let started = Instant::now();
        let recorder = Recorder::start(self.site, &self.mirror.monitor);
        self.figures.returns.push(started.elapsed().as_secs_f64());
        if let Some((segment, last)) = self.tail.take() {
            let mut found = None;
            pcapng::read(&segment, |packet| found = found.max(number_of(packet.data)));
            assert!(
                found >= Some(last),
                "recovery lost {last} of {}: {found:?}",
                segment.display()
            );
        }
        let server = Server::start(self.site, &self.mirror.monitor);
        let complaints = complaints_online(self.site, &mut self.ledger.promises());
        assert!(complaints.is_empty(), "{complaints:#?}");
        (recorder, server)
    }

    /// After the cut: ends the programs, forgets what was in memory, and mounts what is left.
    fn bury(&mut self, programs: [Process; 2]) {
        let disk = self.disk.take().unwrap();
        self.traffic.set(0);
        drop(programs);
        disk.unmount();
        self.site.forget_memory();
        self.disk = Some(Disk::mount(self.image, &self.site.path("var")).unwrap());
    }

    /// Looks at what the cut has left, before any program of ours touches it.
    fn check(&mut self, round: u64) {
        let promises = self.ledger.promises().clone();
        let complaints = complaints_offline(self.site, &promises);
        assert!(
            complaints.is_empty(),
            "cut {round}: {complaints:#?}\n{}\n{}",
            self.said("record.log"),
            self.said("serve.log")
        );
        self.ledger.promises().released.clear();
        let Some((first, cut)) = self.last else {
            return;
        };
        let mut numbers = Vec::new();
        let mut newest = None;
        for segment in pcapng_files(&self.site.ring("mon0")).iter().rev() {
            let packets = pcapng::whole_packets(segment);
            let old = packets.first().is_none_or(|packet| packet.1 < first);
            if self.tail.is_none()
                && let Some(last) = packets.last()
            {
                newest = Some(last.0);
                self.tail = Some((segment.clone(), last.1));
            }
            numbers.extend(
                packets
                    .into_iter()
                    .map(|packet| packet.1)
                    .filter(|&n| n >= first),
            );
            if old {
                break;
            }
        }
        numbers.sort_unstable();
        let holes = numbers
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + 1)
            .count();
        assert_eq!(
            holes,
            0,
            "cut {round}: holes in {:?}",
            (numbers.first(), numbers.last())
        );
        let newest = newest.map_or(0, |ns| ns);
        let lost = Duration::from_nanos(cut.as_ns().saturating_sub(newest));
        if newest == 0 || numbers.is_empty() {
            // Nothing of this life: it was shorter than what may be lost.
            return;
        }
        assert!(
            lost <= WORST,
            "cut {round}: the ring lost its last {lost:?}"
        );
        self.figures.tails.push(lost.as_secs_f64());
    }

    /// The end of a log.
    fn said(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.site.path(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The last life: every trigger ends sealed, and all of it verifies.
    fn end(mut self) -> Figures {
        let (recorder, server) = self.born();
        let mut promises = self.ledger.promises().clone();
        let site = self.site;
        wait_for("every accepted trigger to end in a sealed incident", || {
            let list = site.list();
            let open = promises.to_be_known().filter(|id| {
                !list
                    .iter()
                    .any(|one| one["id"] == id.as_str() && one["state"] == "sealed")
            });
            match open.count() {
                0 => Ok(()),
                n => Err(format!("{n} are not")),
            }
        });
        let known: Vec<String> = promises.to_be_known().cloned().collect();
        promises.sealed.extend(known);
        let complaints = complaints_offline(site, &promises);
        assert!(complaints.is_empty(), "{complaints:#?}");
        drop((recorder, server));
        self.disk.take().unwrap().unmount();
        self.figures.sealed = promises.sealed.len();
        self.figures.accepted = promises.accepted.len();
        self.figures
    }
}

// -- the same below the file system ------------------------------------------------------------

/// Records while every write and flush is logged; then makes the disks that a power cut could have
/// left (all that was flushed, and of what came later any part, in any order, torn anywhere at a
/// sector), and starts from each.
fn reordered_and_torn(kind: Kind) {
    let name = format!("reordered and torn writes, {}", kind.name());
    let Some(mirror) = Mirror::new(&name) else {
        return;
    };
    let states = times(20, 500);
    let mut dice = Dice::new(&name);
    let site = Site::new(&setup(SCARCE));
    let images = tempfile::Builder::new()
        .prefix("wwt-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let (base, live) = (images.path().join("base"), images.path().join("live"));
    let (log, served) = (images.path().join("log"), images.path().join("served"));
    std::fs::create_dir(&served).unwrap();
    kind.make(&base, IMAGE_BYTES);
    copy_sparse(&base, &live);
    let (traffic, thread) = Traffic::start(Sender::new(&mirror.sender, 0, 256));
    let (sealed, mended) = with_own_mounts(|| {
        mixed_run(&site, &mirror, &traffic, (&live, &served, &log));
        let logged = read_log(&log);
        let (mut sealed, mut mended) = (0, 0);
        for state in 0..states {
            let image = images.path().join("state");
            let (mut promises, cut) = make_state(&mut dice, &logged, (&base, &image), kind.atom());
            sealed += promises.to_be_found().count();
            let complaints = check_state(&site, &mirror, &image, &mut promises, &mut mended);
            assert!(
                complaints.is_empty(),
                "state {state}, cut at {cut}: {complaints:#?}"
            );
        }
        (sealed, mended)
    });
    traffic.end();
    thread.join().unwrap();
    let injected = format!(
        "{}: all writes before the last flush, any part of the later ones, some torn at {} bytes",
        kind.name(),
        kind.atom()
    );
    let mended = match mended {
        0 => String::new(),
        some => format!(", {some} after e2fsck: the superblock was torn"),
    };
    let figure = format!(
        "0 states bad: each mounts{mended}, recovers and records; {sealed} sealed incidents verified"
    );
    record("power cut, block level", &injected, states, &figure);
}

/// What [`check_state`] does with one state in a thousand.
#[test]
fn a_torn_superblock_is_mended_and_nothing_else_is() {
    use std::os::unix::fs::FileExt;
    if !privileged("a torn superblock") {
        return;
    }
    let folder = tempfile::Builder::new()
        .prefix("wwt-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let (image, at) = (folder.path().join("disk"), folder.path().join("var"));
    std::fs::create_dir(&at).unwrap();
    Kind::Ext4.make(&image, IMAGE_BYTES);
    // A time in its first sector; the checksum is in the second.
    let time = 1024 + 48;
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[1, 2, 3, 4], time).unwrap();
    with_own_mounts(|| {
        let refusal = Disk::mount(&image, &at).err().unwrap();
        assert!(!mend_superblock(&image, "mount: no such device"));
        assert!(mend_superblock(&image, &refusal), "{refusal}");
        Disk::mount(&image, &at).unwrap().unmount();
    });
}

fn copy_sparse(from: &Path, to: &Path) {
    let mut command = std::process::Command::new("cp");
    crate::support::run(command.arg("--sparse=always").arg(from).arg(to));
}

/// Records, rotates, freezes, seals, releases; each acknowledgement is marked in the device's log
/// after it was given.
fn mixed_run(site: &Site, mirror: &Mirror, traffic: &Traffic, paths: (&Path, &Path, &Path)) {
    let (live, folder, log) = paths;
    let device = Arc::new(Device::serve(live, folder, Some(log)));
    let disk = Disk::mount(&device.image(), &site.path("var")).unwrap();
    let recorder = Recorder::start(site, &mirror.monitor);
    let server = Server::start(site, &mirror.monitor);
    let marking = Arc::clone(&device);
    let ledger = Ledger::on_promise(move |promise| marking.order(&format!("mark {promise}")));
    let over = AtomicBool::new(false);
    traffic.set(8_000);
    std::thread::scope(|scope| {
        for lane in ["a", "b"] {
            let (ledger, over, socket) = (&ledger, &over, site.socket());
            scope.spawn(move || ledger.run_lane(&socket, lane, over));
        }
        let wanted = times(12, 40).clamp(12, 40);
        wait_for("incidents to be sealed", || {
            let sealed = ledger.promises().sealed.len() as u64;
            if sealed >= wanted {
                Ok(())
            } else {
                Err(format!("{sealed} are"))
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    traffic.set(0);
    drop((recorder, server));
    site.forget_memory();
    disk.unmount();
    drop(ledger);
    let device = Arc::into_inner(device).expect("nobody marks any more");
    device.end();
}

/// A disk as a cut somewhere in the log could have left it, and what had been promised by then.
fn make_state(
    dice: &mut Dice,
    logged: &[Logged],
    (base, image): (&Path, &Path),
    atom: usize,
) -> (Promises, usize) {
    use std::os::unix::fs::FileExt;
    let cut = usize::try_from(dice.between(1, logged.len() as u64 + 1)).unwrap();
    let flushed = logged[..cut]
        .iter()
        .rposition(|one| matches!(one, Logged::Flush))
        .unwrap_or(0);
    copy_sparse(base, image);
    let file = std::fs::File::options().write(true).open(image).unwrap();
    let mut promises = Promises::default();
    for (place, one) in logged[..cut].iter().enumerate() {
        match one {
            Logged::Mark(line) => promises.take(line),
            Logged::Write { at, bytes } => {
                let mut kept = bytes.len();
                if place > flushed {
                    if dice.between(0, 2) == 0 {
                        continue;
                    }
                    if dice.between(0, 10) < 3 {
                        let atoms = u64::try_from(kept / atom).unwrap();
                        kept = usize::try_from(dice.between(0, atoms + 1)).unwrap() * atom;
                    }
                }
                file.write_all_at(&bytes[..kept], *at).unwrap();
            }
            Logged::Flush => {}
        }
    }
    (promises, cut)
}

fn check_state(
    site: &Site,
    mirror: &Mirror,
    image: &Path,
    promises: &mut Promises,
    mended: &mut u64,
) -> Vec<String> {
    let mut mounted = Disk::mount(image, &site.path("var"));
    if let Err(refusal) = &mounted
        && mend_superblock(image, refusal)
    {
        *mended += 1;
        mounted = Disk::mount(image, &site.path("var"));
    }
    let disk = match mounted {
        Ok(disk) => disk,
        Err(error) => return vec![format!("it does not mount: {error}")],
    };
    let mut complaints = complaints_offline(site, promises);
    if complaints.is_empty() {
        complaints = check_programs(site, mirror, promises, Vec::new);
    }
    site.forget_memory();
    disk.unmount();
    complaints
}

/// Complains unless the programs find on the disk what was promised, and go on from there; `more` looks
/// at them meanwhile.
pub(crate) fn check_programs(
    site: &Site,
    mirror: &Mirror,
    promises: &mut Promises,
    more: impl FnOnce() -> Vec<String>,
) -> Vec<String> {
    let _recorder = Recorder::start(site, &mirror.monitor);
    for segment in pcapng_files(&site.ring("mon0")) {
        pcapng::read(&segment, |_| {});
    }
    let _server = Server::start(site, &mirror.monitor);
    let mut complaints = complaints_online(site, promises);
    complaints.extend(more());
    complaints
}
