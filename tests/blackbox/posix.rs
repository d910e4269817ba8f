//! Power cuts on a file system that keeps what POSIX promises and no more. ext4 and XFS make many a
//! name last with the next sync of something else; here each lasts by its own sync or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use wirewitness::time::Timestamp;

use crate::power::{check_programs, times};
use crate::support::disk::with_own_mounts;
use crate::support::ledger::{Ledger, Promises, ask, complaints_offline, exchange};
use crate::support::pcapng::whole_packets;
use crate::support::states::{Fate, State};
use crate::support::strict::{Change, History, Strict};
use crate::support::{
    Dice, Mirror, Recorder, Sender, Server, Setup, Site, Traffic, pcapng_files, record, run,
    wait_for,
};

/// `ring.sync`: long enough that a killed recorder leaves its slots more than its files.
const SYNC: &str = "1s";
/// The ring's tail is on the medium up to this before a cut: `ring.sync`, and what a busy machine takes.
const WORST: Duration = Duration::from_secs(3);
/// Packets in a second.
const RATE: u64 = 8_000;
/// The accounting is synced with the segments, which are cut by freezes here.
const ACCOUNTED: Duration = Duration::from_secs(4);

#[test]
fn nothing_rests_on_more_than_posix_promises() {
    let name = "power cuts, POSIX and no more";
    let Some(mirror) = Mirror::new(name) else {
        return;
    };
    let states = times(24, 500);
    let mut dice = Dice::new(name);
    let site = Site::new(&setup());
    let (traffic, thread) = Traffic::start(Sender::new(&mirror.sender, 0, 256));
    let sealed = with_own_mounts(|| {
        let strict = Strict::mount(&site.path("var"));
        three_lives(&site, &mirror, &traffic, &strict);
        let history = strict.end();
        let places = Places::of(&history);
        (0..states)
            .map(|state| {
                let (cut, fate) = (places.throw(&mut dice), Fate::thrown(&mut dice));
                let after = State::after(&history, cut, fate, &mut dice);
                let mut told = Told::by(&history, cut);
                let complaints = in_memory(&site.path("var"), || {
                    after.write(&site.path("var"));
                    check(&site, &mirror, &mut told)
                });
                site.forget_memory();
                let last = &history.changes[cut.saturating_sub(3)..cut];
                assert!(
                    complaints.is_empty(),
                    "state {state}, {fate:?} after {cut}, {last:#?}: {complaints:#?}"
                );
                told.promises.to_be_found().count()
            })
            .sum::<usize>()
    });
    traffic.end();
    thread.join().unwrap();
    let figure = format!("0 states bad; {sealed} sealed incidents verified");
    let injected = "a file system on which content lasts by fsync of the file and names by fsync of the folder";
    record("power cut, POSIX and no more", injected, states, &figure);
}

/// Nobody listens there: all news waits.
const NOTIFY: &str = r#"
[[notify]]
name = "ops"
kind = "webhook"
url = "http://127.0.0.1:9/"
"#;

fn setup() -> Setup<'static> {
    Setup {
        ring_size: "16MiB",
        segment: "1MiB",
        memory: "16MiB",
        sync: SYNC,
        before: "300ms",
        after: "50ms",
        cooldown: "0s",
        more: NOTIFY,
        ..Setup::default()
    }
}

/// Records, rotates, freezes, seals, releases; the recorder is killed once and stopped once. What is
/// acknowledged is marked.
fn three_lives(site: &Site, mirror: &Mirror, traffic: &Traffic, strict: &Strict) {
    let mark: &(dyn Fn(&str) + Sync) = &strict.marker();
    let ledger = Ledger::on_promise(strict.marker());
    let mut recorder = Recorder::start(site, &mirror.monitor);
    let server = Server::start(site, &mirror.monitor);
    mark(&format!("key {}", read(&site.path("var/signing-key.pub"))));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut told = false;
            while !over.load(Ordering::Relaxed) {
                mark(&format!("sent {}", traffic.next()));
                // The file that names an incident is not the first of its name: that one is synced by now.
                let news = waiting(site);
                if !told && ledger.promises().sealed.iter().any(|id| news.contains(id)) {
                    mark("telling of incidents");
                    told = true;
                }
                // The pace of the marks.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for lane in ["a", "b"] {
            let (ledger, over, socket) = (&ledger, &over, site.socket());
            scope.spawn(move || ledger.run_lane(&socket, lane, over));
        }
        scope.spawn(|| give_out(&site.socket(), mark, &over));
        traffic.set(RATE);
        wait_for_sent(traffic, 3);
        // From here on nothing is synced for a second, and the recorder is dead by then.
        recorder.flush();
        let before = all_taken(&recorder, traffic, 0);
        recorder.process.kill();
        recorder = Recorder::start(site, &mirror.monitor);
        let gaps = site.ring("mon0").join("gaps.jsonl");
        let gap = wait_for("the gap to be on record", || {
            let gaps = read(&gaps);
            gaps.lines().next().map(str::to_owned).ok_or(gaps)
        });
        // Seen is not yet synced; whatever is told after it is.
        recorder.flush();
        mark(&format!("gap {gap}"));
        traffic.set(RATE);
        wait_for_sent(traffic, 6);
        all_taken(&recorder, traffic, before);
        recorder.process.stop(Signal::TERM);
        recorder = Recorder::start(site, &mirror.monitor);
        traffic.set(RATE);
        wait_for_sent(traffic, 9);
        over.store(true, Ordering::Relaxed);
    });
    traffic.set(0);
    drop((recorder, server));
    site.forget_memory();
}

/// Waits for the packets of so many seconds in all.
fn wait_for_sent(traffic: &Traffic, seconds: u64) {
    wait_for("packets to be sent", || {
        let sent = traffic.next();
        (sent >= seconds * RATE)
            .then_some(())
            .ok_or_else(|| format!("{sent} are"))
    });
}

/// Opens incidents and hands out their packets before they are sealed.
fn give_out(socket: &Path, mark: &(dyn Fn(&str) + Sync), over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let body = r#"{"reason": "to be given out", "after": "500ms"}"#;
        let Some((202, answer)) = ask(socket, "POST", "/api/v1/incidents", body) else {
            // The pace of asking a server that cannot answer.
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let id = answer["incident"].as_str().unwrap();
        mark(&format!("accepted {id}"));
        let path = format!("/api/v1/incidents/{id}/pcap");
        while !over.load(Ordering::Relaxed) {
            if let Some((200, _)) = exchange(socket, "GET", &path, "") {
                mark(&format!("given {id}"));
                break;
            }
            // The pace of asking again.
            std::thread::sleep(Duration::from_millis(5));
        }
        // No more of them at a time than are given out.
        let path = format!("/api/v1/incidents/{id}");
        while !over.load(Ordering::Relaxed)
            && !matches!(ask(socket, "GET", &path, ""), Some((200, one)) if one["state"] == "sealed")
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Stops the traffic and waits until the recorder has taken it all; how many there were so far, of
/// which the recorders before had `before`.
fn all_taken(recorder: &Recorder, traffic: &Traffic, before: u64) -> u64 {
    traffic.set(0);
    wait_for("the last packets to be taken", || {
        let sent = traffic.next();
        let status = recorder.interface("mon0");
        let written = status["written"].as_u64().unwrap();
        (before + written == sent && traffic.next() == sent)
            .then_some(sent)
            .ok_or_else(|| format!("{written} of {sent} are, and {before} before"))
    })
}

/// What had been said by a cut.
struct Told {
    promises: Promises,
    /// The moment of the cut.
    at: Timestamp,
    /// Numbers below were sent so long before the cut that they are on the medium.
    sent: u64,
    key: Option<String>,
    gap: Option<String>,
    /// Incidents of which packets were handed out.
    given: BTreeSet<String>,
    /// Whether news of incidents was on its way.
    telling: bool,
    /// Since when packets were sent.
    steady: Option<Timestamp>,
    /// The newest segment that was removed from the ring. Those up to it may be back, with holes.
    rotated: OsString,
}

impl Told {
    fn by(history: &History, cut: usize) -> Self {
        let changes = &history.changes[..cut];
        let at = changes.last().unwrap().0;
        let mut told = Self {
            promises: Promises::default(),
            at,
            sent: 0,
            key: None,
            gap: None,
            given: BTreeSet::new(),
            telling: false,
            steady: None,
            rotated: OsString::new(),
        };
        let mut ring = None;
        for (when, change) in changes {
            let text = match change {
                // The recorder makes it before any incident has a folder of that name.
                Change::Named { name, ino, .. } if ring.is_none() && name == "mon0" => {
                    ring = Some(*ino);
                    continue;
                }
                Change::Unnamed { folder, name } if Some(*folder) == ring => {
                    told.rotated = name.max(&told.rotated).clone();
                    continue;
                }
                Change::Mark(text) => text,
                _ => continue,
            };
            match text.split_once(' ').unwrap() {
                ("sent", "0") => {}
                ("sent", next) => {
                    told.steady.get_or_insert(*when);
                    if when.plus(WORST) < at {
                        told.sent = next.parse().unwrap();
                    }
                }
                ("key", key) => told.key = Some(key.to_owned()),
                ("gap", gap) => told.gap = Some(gap.to_owned()),
                ("given", id) => drop(told.given.insert(id.to_owned())),
                ("telling", _) => told.telling = true,
                _ => told.promises.take(text),
            }
        }
        told
    }
}

/// Places after which a cut is worth looking at.
struct Places {
    /// What lies between is one write after the other.
    all: Vec<usize>,
    /// Those where a name was given or something acknowledged, by its kind: there are few of most.
    kinds: Vec<Vec<usize>>,
}

impl Places {
    fn of(history: &History) -> Self {
        let mut all = Vec::new();
        let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for ((_, change), place) in history.changes.iter().zip(1..) {
            if !matches!(change, Change::Write { .. }) {
                all.push(place);
            }
            let text = match change {
                Change::Named { name, .. } | Change::Renamed { to: (_, name), .. } => {
                    name.to_string_lossy()
                }
                Change::Mark(text) => text.into(),
                _ => continue,
            };
            // Names without their numbers, and without an incident's id.
            let kind: String = match text.split_once('Z') {
                Some((_, id)) if text.starts_with('2') => id.split_once('.').unwrap_or_default().1,
                _ => text.split(' ').next().unwrap_or_default(),
            }
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .collect();
            if ["tmp", "new", "sock", "lock", "sent"]
                .iter()
                .any(|end| kind.ends_with(end))
            {
                continue;
            }
            kinds.entry(kind).or_default().push(place);
        }
        let kinds = kinds.into_values().collect();
        Self { all, kinds }
    }

    fn throw(&self, dice: &mut Dice) -> usize {
        let mut one = |len: usize| usize::try_from(dice.between(0, len as u64)).unwrap();
        if one(3) == 0 {
            return self.all[one(self.all.len())];
        }
        let kind = &self.kinds[one(self.kinds.len())];
        kind[one(kind.len())]
    }
}

fn check(site: &Site, mirror: &Mirror, told: &mut Told) -> Vec<String> {
    let mut complaints = complaints_offline(site, &told.promises);
    complaints.extend(complaints_ring(site, told));
    if complaints.is_empty() {
        let sealed: Vec<String> = told.promises.to_be_found().cloned().collect();
        let telling = told.telling;
        complaints = check_programs(site, mirror, &mut told.promises, || {
            if telling {
                wait_for("news of every sealed incident", || {
                    let news = waiting(site);
                    match sealed.iter().find(|id| !news.contains(id.as_str())) {
                        None => Ok(()),
                        Some(id) => Err(format!("there is none of {id}: {news}")),
                    }
                });
            }
            Vec::new()
        });
    }
    complaints
}

fn complaints_ring(site: &Site, told: &Told) -> Vec<String> {
    let mut complaints = Vec::new();
    for id in told.given.difference(&told.promises.releasing) {
        let custody = site.incidents().join(id).join("custody.jsonl");
        if !read(&custody).contains("\"downloaded\"") {
            complaints.push(format!(
                "{id} was given out and its custody record does not say so"
            ));
        }
    }
    let ring = site.ring("mon0");
    if let Some(gap) = &told.gap
        && !read(&ring.join("gaps.jsonl")).contains(gap)
    {
        complaints.push(format!("the gap {gap} is not on record any more"));
    }
    if let Some(key) = &told.key
        && read(&site.path("var/signing-key.pub")) != *key
    {
        complaints.push("the key that signed is not there any more".to_owned());
    }
    if told.sent == 0 {
        return complaints;
    }
    if !ring.exists() {
        complaints.push("there is no ring".to_owned());
        return complaints;
    }
    let mut numbers: Vec<u64> = pcapng_files(&ring)
        .iter()
        .filter(|segment| segment.file_name().unwrap() > told.rotated)
        .flat_map(|segment| whole_packets(segment))
        .map(|(_, number)| number)
        .collect();
    numbers.sort_unstable();
    let holes = numbers.windows(2).filter(|two| two[1] != two[0] + 1);
    complaints.extend(holes.map(|two| format!("between {} and {} is a hole", two[0], two[1])));
    let last = numbers.last().map_or(0, |last| last + 1);
    if last < told.sent {
        complaints.push(format!("the ring ends with {last} of {}", told.sent));
    }
    if let Some(steady) = told.steady
        && steady.plus(ACCOUNTED) < told.at
    {
        let accounted = accounted(&ring);
        if accounted.is_none_or(|to| to.plus(ACCOUNTED) < told.at) {
            complaints.push(format!("accounted to {accounted:?}, cut at {:?}", told.at));
        }
    }
    complaints
}

/// The end of the newest line of the accounting.
fn accounted(ring: &Path) -> Option<Timestamp> {
    let files = std::fs::read_dir(ring)
        .ok()?
        .map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("seconds-")
    });
    texts
        .flat_map(|path| {
            let lines: Vec<Value> = read(&path)
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            lines
        })
        .filter_map(|line| serde_json::from_value(line["to"].clone()).ok())
        .max()
}

/// The news that waits, as JSON.
fn waiting(site: &Site) -> String {
    let kept = read(&site.path("var/notify.json"));
    let kept: Value = serde_json::from_str(&kept).unwrap_or_default();
    kept["waiting"].to_string()
}

/// What a file holds; nothing where there is none.
fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs `work` with a file system of its own at `folder`.
fn in_memory<T>(folder: &Path, work: impl FnOnce() -> T) -> T {
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(folder));
    let outcome = work();
    run(Command::new("umount").arg(folder));
    outcome
}
