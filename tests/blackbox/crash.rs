//! Processes killed without notice, over and over, under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::support::{
    Dice, Mirror, Recorder, Sender, Server, Setup, Site, Tally, long, median_and_p99, record,
    rounds, wait_for,
};

/// A recorder that is killed has not lost a packet that it had accepted: whatever it ever
/// reported as written is found exactly once, and nothing is found twice. What passed while no
/// recorder ran is missing, in as many spans as there were kills, each on record as a gap.
#[test]
fn a_killed_recorder_loses_nothing_that_it_accepted() {
    let Some(mirror) = Mirror::alone("kill -9 of the recorder") else {
        return;
    };
    let kills = rounds(4, 50);
    let mut dice = Dice::new("kill -9 of the recorder");
    let mut restarts = Vec::new();
    let site = Site::new(&Setup {
        ring_size: "2GiB",
        ..Setup::default()
    });
    let done = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 64);
    let (stop, progress) = (Arc::clone(&done), Arc::clone(&sent));
    let load = std::thread::spawn(move || {
        sender.send_while(100_000, |next| {
            progress.store(next, Ordering::Relaxed);
            !stop.load(Ordering::Relaxed)
        });
        sender
    });
    let mut accepted = 0;
    for _ in 0..kills {
        // Some tens of thousands of packets of every life, then the end without notice, at a
        // moment that no flush has prepared.
        let target = sent.load(Ordering::Relaxed) + dice.between(5_000, 50_000);
        wait_for("packets to be sent", || {
            if sent.load(Ordering::Relaxed) > target {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
        accepted += recorder.interface("mon0")["written"].as_u64().unwrap();
        let killed = Instant::now();
        recorder.process.kill();
        recorder = Recorder::start(&site, &mirror.monitor);
        restarts.push(killed.elapsed().as_secs_f64());
    }
    let target = sent.load(Ordering::Relaxed) + 10_000;
    wait_for("packets of the last life to be sent", || {
        if sent.load(Ordering::Relaxed) > target {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    done.store(true, Ordering::Relaxed);
    let sender = load.join().unwrap();
    sender.settle(&mirror.monitor, "mon0");
    wait_for("the last packet to be in the ring", || {
        recorder.flush();
        let status = recorder.interface("mon0");
        let tally = Tally::of_folder(&site.ring("mon0"));
        if tally.missing(sender.next()).last() == Some(&usize::try_from(sender.next() - 1).unwrap())
        {
            return Err(status.to_string());
        }
        Ok(())
    });
    accepted += recorder.interface("mon0")["written"].as_u64().unwrap();

    let tally = Tally::of_folder(&site.ring("mon0"));
    assert_eq!(tally.doubled(), [0; 0]);
    assert!(
        tally.distinct() >= accepted,
        "{accepted} were accepted, only {} are found",
        tally.distinct()
    );
    let missing = tally.missing(sender.next());
    let spans = missing
        .windows(2)
        .filter(|pair| pair[1] != pair[0] + 1)
        .count()
        + 1;
    assert!(
        u64::try_from(spans).unwrap() <= kills,
        "{kills} kills, but {spans} spans are missing: a span within a life was lost"
    );
    let gaps = std::fs::read_to_string(site.ring("mon0").join("gaps.jsonl")).unwrap();
    let down = u64::try_from(gaps.matches("recorder_down").count()).unwrap();
    assert_eq!(down, kills, "{gaps}");
    let injected = "SIGKILL at a random moment, 100,000 packets/s";
    let (median, p99) = median_and_p99(&mut restarts);
    let figure = format!(
        "0 accepted packets lost, 0 doubled; recording again after {median:.3} s (p99 {p99:.3} s)"
    );
    record("recorder killed", injected, kills, &figure);
}

/// Every trigger that was acknowledged ends in a sealed incident, however often the server dies.
#[test]
fn a_killed_server_forgets_no_acknowledged_trigger() {
    let Some(mirror) = Mirror::alone("kill -9 of the server") else {
        return;
    };
    let kills = if long() { 50 } else { 4 };
    let site = Site::new(&Setup {
        before: "500ms",
        after: "200ms",
        cooldown: "0s",
        more: "[[webhook]]\nname = \"test\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n",
        ..Setup::default()
    });
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 64);
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let load = std::thread::spawn(move || {
        sender.send_while(10_000, |_| !stop.load(Ordering::Relaxed));
    });

    let mut acknowledged = BTreeSet::new();
    for round in 0..kills {
        let mut server = Server::start(&site, &mirror.monitor);
        // Senders of triggers that do not stop when the server dies under them.
        let dead = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..3)
            .map(|lane| {
                let (dead, socket) = (Arc::clone(&dead), site.socket());
                std::thread::spawn(move || fire(&socket, &format!("{round}-{lane}"), &dead))
            })
            .collect();
        // Somewhere within the life of some triggers: later in every round.
        let target = 1 + round % 7;
        wait_for("incidents to be there", || {
            let count = std::fs::read_dir(site.incidents()).map_or(0, Iterator::count);
            if count > acknowledged.len() + target {
                Ok(())
            } else {
                Err(format!("{count} are"))
            }
        });
        server.process.kill();
        dead.store(true, Ordering::Relaxed);
        for sender in senders {
            acknowledged.extend(sender.join().unwrap());
        }
    }
    assert!(!acknowledged.is_empty());
    let _server = Server::start(&site, &mirror.monitor);
    wait_for(
        "every acknowledged trigger to end in a sealed incident",
        || {
            let list = site.list();
            let sealed: BTreeSet<&str> = list
                .iter()
                .filter(|incident| incident["state"] == "sealed")
                .filter_map(|incident| incident["id"].as_str())
                .collect();
            let open: Vec<_> = acknowledged
                .iter()
                .filter(|id| !sealed.contains(id.as_str()))
                .collect();
            if open.is_empty() {
                Ok(())
            } else {
                Err(format!("{open:?} are not"))
            }
        },
    );
    done.store(true, Ordering::Relaxed);
    load.join().unwrap();
    for id in &acknowledged {
        let folder = site.incidents().join(id);
        let verify = site.client(&["verify", folder.to_str().unwrap()]);
        assert_eq!(verify.status.code(), Some(0), "{id}: {verify:?}");
    }
}

/// Fires triggers of ever new subjects until `dead`, and returns the incidents acknowledged.
fn fire(socket: &std::path::Path, lane: &str, dead: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if dead.load(Ordering::Relaxed) {
            break;
        }
        let body = json!({"subject": format!("{lane}-{n}"), "text": "planted"}).to_string();
        let output = std::process::Command::new("curl")
            .args(["-s", "--fail", "--max-time", "10", "--unix-socket"])
            .arg(socket)
            .args([
                "-H",
                "Authorization: Bearer secret-of-the-test",
                "--json",
                &body,
            ])
            .arg("http://localhost/hooks/test")
            .output()
            .unwrap();
        // Only a whole answer is an acknowledgement.
        if output.status.success()
            && let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&output.stdout)
            && let Some(id) = answer["incident"].as_str()
        {
            acknowledged.push(id.to_owned());
        }
    }
    acknowledged
}
