//! Processes killed without notice, over and over, under load.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::support::{
    Dice, Mirror, Process, Recorder, Sender, Server, Setup, Site, Tally, binary, long,
    median_and_p99, record, rounds, wait_for,
};

/// Packets a second under which recorders are killed.
const LOAD: u64 = 50_000;

/// A recorder that is killed has not lost a packet that it had accepted: what a life reported as
/// written is found, each packet once and in one unbroken row. What passed while no recorder ran is
/// missing, in as many spans as there were kills, each on record as a gap.
#[test]
fn a_killed_recorder_loses_nothing_that_it_accepted() {
    let Some(mirror) = Mirror::alone("kill -9 of the recorder") else {
        return;
    };
    let kills = rounds(4, 1000);
    let mut dice = Dice::new("kill -9 of the recorder");
    let mut restarts = Vec::new();
    // Segments and memory as in the default configuration: a restart finds as much.
    let site = Site::new(&Setup {
        ring_size: "2GiB",
        segment: "16MiB",
        memory: "256MiB",
        ..Setup::default()
    });
    let done = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 64);
    let (stop, progress) = (Arc::clone(&done), Arc::clone(&sent));
    let load = std::thread::spawn(move || {
        sender.send_while(LOAD, |next| {
            progress.store(next, Ordering::Relaxed);
            !stop.load(Ordering::Relaxed)
        });
        sender
    });
    let folder = site.ring("mon0");
    let (mut tally, mut read) = (Tally::default(), PathBuf::new());
    let mut accepted = Vec::new();
    for kill in 1..=kills {
        // Some tens of thousands of packets of every life, then the end without notice, at a
        // moment that no flush has prepared.
        let target = sent.load(Ordering::Relaxed) + dice.between(5_000, 50_000);
        wait_until_sent(&sent, target);
        accepted.push(recorder.interface("mon0")["written"].as_u64().unwrap());
        let killed = Instant::now();
        recorder.process.kill();
        recorder = Recorder::start(&site, &mirror.monitor);
        restarts.push(killed.elapsed().as_secs_f64());
        // What the ring holds is counted before it is rotated away.
        if kill % 10 == 0 {
            tally.catch_up(&folder, &mut read, true);
            assert_eq!(tally.doubled(), [0; 0]);
            assert_lives(&tally, &accepted);
            eprintln!("{kill} of {kills} kills");
        }
    }
    wait_until_sent(&sent, sent.load(Ordering::Relaxed) + 10_000);
    done.store(true, Ordering::Relaxed);
    let sender = load.join().unwrap();
    sender.settle(&mirror.monitor, "mon0");
    wait_for("the last packet to be in the ring", || {
        recorder.flush();
        let newest = crate::support::pcapng_files(&folder).pop().unwrap();
        if Tally::of_file(&newest).has(sender.next() - 1) {
            Ok(())
        } else {
            Err(recorder.interface("mon0").to_string())
        }
    });
    accepted.push(recorder.interface("mon0")["written"].as_u64().unwrap());
    recorder.process.stop(rustix::process::Signal::TERM);

    tally.catch_up(&folder, &mut read, false);
    assert_eq!(tally.doubled(), [0; 0]);
    assert_lives(&tally, &accepted);
    let rows = tally.rows();
    assert_eq!(rows.len(), accepted.len(), "a row of packets for each life");
    let gaps = std::fs::read_to_string(folder.join("gaps.jsonl")).unwrap();
    let down = u64::try_from(gaps.matches("recorder_down").count()).unwrap();
    assert_eq!(down, kills, "{gaps}");
    let injected = "SIGKILL at a random moment, 50,000 packets/s, 256 MiB of slots";
    let (median, p99) = median_and_p99(&mut restarts);
    let mut blind: Vec<f64> = rows
        .iter()
        .skip(1)
        .map(|row| row.0 as f64 / LOAD as f64)
        .collect();
    let (blind_median, blind_p99) = median_and_p99(&mut blind);
    let figure = format!(
        "0 of {} accepted packets lost, 0 doubled; from the kill to \"running\" {median:.3} s (p99 \
         {p99:.3} s), packets missing for {blind_median:.3} s (p99 {blind_p99:.3} s)",
        accepted.iter().sum::<u64>()
    );
    record("recorder killed", injected, kills, &figure);
}

/// Each life's row of packets is at least as long as what it said it had written.
fn assert_lives(tally: &Tally, accepted: &[u64]) {
    let rows = tally.rows();
    for (life, ((_, found), accepted)) in rows.iter().zip(accepted).enumerate() {
        assert!(
            found >= accepted,
            "life {life} accepted {accepted} packets, {found} are found in a row"
        );
    }
    assert!(
        rows.len() <= accepted.len() + 1,
        "{} lives, but {} rows: a span within a life was lost",
        accepted.len(),
        rows.len()
    );
}

fn wait_until_sent(sent: &AtomicU64, target: u64) {
    wait_for("packets to be sent", || {
        if sent.load(Ordering::Relaxed) > target {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}

/// Of two recorders that are started on one ring at the same moment one records, and the other
/// leaves at once and says why. So it is also when the one before them was killed.
#[test]
fn of_two_recorders_on_one_ring_one_runs() {
    let Some(mirror) = Mirror::new("two recorders") else {
        return;
    };
    let races = rounds(5, 100);
    let site = Site::new(&Setup::default());
    for race in 0..races {
        let mut twins: Vec<Process> = (0..2)
            .map(|twin| {
                let mut command = mirror.monitor.command(binary());
                command.args(site.arguments(&["record"]));
                Process::start(&mut command, &site.path(&format!("race-{race}-{twin}.log")))
            })
            .collect();
        let loser = wait_for("one of two recorders to leave", || {
            let gone = twins.iter_mut().position(|twin| twin.ended().is_some());
            gone.ok_or_else(|| "both run".to_owned())
        });
        let mut loser = twins.remove(loser);
        let status = loser.ended().unwrap();
        assert_eq!(status.code(), Some(2), "{}", loser.said());
        let said = loser.said();
        let why = "another recorder runs on";
        assert!(said.contains(why), "race {race}: {said}");
        let mut winner = Recorder::adopt(&site, twins.remove(0));
        winner.wait_state(None, "running");
        if race % 2 == 0 {
            winner.process.kill();
        } else {
            let (status, _) = winner.process.stop(rustix::process::Signal::TERM);
            assert!(status.success(), "{}", winner.process.said());
        }
    }
    let figure =
        "exactly one ran each time; the other ended with 2 and \"another recorder runs on ...\"";
    let injected = "two started at the same moment, every other time after a SIGKILL";
    record("two recorders, one ring", injected, races, figure);
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
        more: "[[webhook]]\nname = \"test\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n\
               [[syslog]]\nlisten = \"tcp://127.0.0.1:5514\"\n\
               [[rule]]\nname = \"lines\"\nmatch = 'LINE (?P<number>\\S+)'\nsubject = \"{number}\"\n",
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
    let mut by_line = false;
    for round in 0..kills {
        let mut server = Server::start(&site, &mirror.monitor);
        // Senders of triggers that do not stop when the server dies under them.
        let dead = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..3)
            .map(|lane| {
                let (dead, socket) = (Arc::clone(&dead), site.socket());
                let lines = mirror
                    .monitor
                    .enter(|| TcpStream::connect("127.0.0.1:5514").unwrap());
                let lane = format!("{round}-{lane}");
                std::thread::spawn(move || fire(&socket, lines, &lane, &dead))
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
        // A line has no answer: it is acknowledged when its incident shows.
        let shown = site.list();
        let ids = shown
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned());
        acknowledged.extend(ids);
        by_line |= shown.iter().any(|one| one["trigger"]["kind"] == "syslog");
        server.process.kill();
        dead.store(true, Ordering::Relaxed);
        for sender in senders {
            acknowledged.extend(sender.join().unwrap());
        }
    }
    assert!(!acknowledged.is_empty() && by_line);
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
    let figure = format!(
        "all of {} incidents acknowledged, by answer or by being shown, sealed and whole",
        acknowledged.len()
    );
    let injected = "SIGKILL while three senders call a hook and send lines, packets meanwhile";
    record(
        "server killed",
        injected,
        u64::try_from(kills).unwrap(),
        &figure,
    );
}

/// Fires triggers of ever new subjects until `dead`, by lines and by calls, and returns the
/// incidents acknowledged.
fn fire(
    socket: &std::path::Path,
    mut lines: TcpStream,
    lane: &str,
    dead: &AtomicBool,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if dead.load(Ordering::Relaxed) {
            break;
        }
        // The server may be dead already.
        let _written = writeln!(lines, "<11>app: LINE {lane}-line-{n}");
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
