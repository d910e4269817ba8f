//! The clock is set forwards and back while packets are recorded.
//!
//! The machine's clock is never touched: a savefile is played whose times step, through the same
//! writer, the same segments and the same search as live packets.

use std::collections::BTreeSet;

use serde_json::json;
use wirewitness::time::Timestamp;

use crate::support::{
    Dice, Mirror, Recorder, Server, Setup, Site, Tally, numbered_frame, record, rounds,
    write_savefile,
};

const MS: u64 = 1_000_000;
const PACKETS: u64 = 4000;
const WINDOWS: u64 = 8;

/// Whatever the clock did: a window gets exactly the packets that carry a time within it, and a
/// freeze keeps every segment in which one lies.
#[test]
fn a_window_holds_the_packets_of_its_time_whatever_the_clock_did() {
    let Some(mirror) = Mirror::new("clock steps") else {
        return;
    };
    let runs = rounds(3, 60);
    let mut dice = Dice::new("clock steps");
    let (mut windows, mut steps) = (0, 0);
    for _ in 0..runs {
        let (times, stepped) = times(&mut dice);
        steps += stepped;
        windows += one_run(&mirror, &times, &mut dice);
    }
    let figure = format!(
        "{windows} windows: each packet of the window handed out once, none of another; every \
         segment that holds one was kept by a freeze"
    );
    let injected = "played savefile whose times step by 0.2 s to 30 min, back and forwards, within and \
                    between segments";
    record("clock set forwards and back", injected, steps, &figure);
}

/// The time of each packet, and how many steps are among them.
fn times(dice: &mut Dice) -> (Vec<u64>, u64) {
    let mut now = Timestamp::now().as_ns() - 3 * 3_600_000 * MS;
    let mut steps = 0;
    let mut times = Vec::new();
    for _ in 0..PACKETS {
        // A segment of some 240 packets lasts about 20 s: steps are shorter and longer than that.
        now += dice.between(MS, 160 * MS);
        if dice.between(0, PACKETS / 12) == 0 {
            // Small ones as of a time daemon, large ones as of a hand.
            let most = if dice.between(0, 4) > 0 {
                20_000
            } else {
                1_800_000
            };
            let by = dice.between(200, most) * MS;
            now = if dice.between(0, 3) > 0 {
                now - by
            } else {
                now + by
            };
            steps += 1;
        }
        times.push(now);
    }
    (times, steps)
}

fn one_run(mirror: &Mirror, times: &[u64], dice: &mut Dice) -> u64 {
    let site = Site::new(&Setup {
        snaplen: 2048,
        segment: "128KiB",
        memory: "4MiB",
        ..Setup::default()
    });
    let savefile = site.path("steps.pcap");
    let frames = times
        .iter()
        .zip(0..)
        .map(|(&at, n)| (at, numbered_frame(n, 500)));
    write_savefile(&savefile, frames);
    let arguments = ["--replay", savefile.to_str().unwrap()];
    let mut recorder = Recorder::launch(&site, &mirror.monitor, &arguments);
    recorder.wait_state(None, "finished");
    recorder.flush();
    let _server = Server::start(&site, &mirror.monitor);
    let time = |n: u64| times[usize::try_from(n).unwrap()];
    let mut asked = 0;
    for window in 0..WINDOWS {
        // About a packet, so that something lies in it: every other time about the last one before
        // the clock went back, which is later than what its segment's successor begins with.
        let back: Vec<u64> = (1..PACKETS)
            .filter(|&n| time(n) < time(n - 1))
            .map(|n| n - 1)
            .collect();
        let n = match back.len() {
            0 => dice.between(0, PACKETS),
            _ if window % 2 == 0 => dice.between(0, PACKETS),
            count => back[usize::try_from(dice.between(0, count as u64)).unwrap()],
        };
        let from = time(n) - dice.between(0, 500) * MS;
        let to = time(n) + dice.between(1, 500) * MS;
        let within: BTreeSet<u64> = (0..PACKETS)
            .filter(|&n| (from..to).contains(&time(n)))
            .collect();
        let [from, to] = [from, to].map(|ns| Timestamp::from_ns(ns).to_rfc3339());
        let what = format!("{from} to {to}");

        let answer = site.http(&format!("/api/v1/ring/pcap?from={from}&to={to}"), &[]);
        assert_eq!(
            answer.status,
            200,
            "{what}: {} packets: {answer:?}",
            within.len()
        );
        let handed = site.path("window.pcapng");
        std::fs::write(&handed, &answer.body).unwrap();
        let handed = Tally::of_file(&handed);
        assert_eq!(handed.doubled(), [0; 0], "{what}");
        assert_eq!(numbers(&handed), within, "{what}");

        let id = format!("window-{window}");
        let pinned =
            recorder.call(&json!({"verb": "pin", "id": id, "window": {"from": from, "to": to}}));
        assert_eq!(pinned["complete"], true, "{pinned}");
        let folder = site.incidents().join(&id).join("segments/mon0");
        let missing: Vec<u64> = within
            .difference(&numbers(&Tally::of_folder(&folder)))
            .copied()
            .collect();
        assert!(missing.is_empty(), "{what}: {missing:?} are not kept");
        asked += 1;
    }
    asked
}

fn numbers(tally: &Tally) -> BTreeSet<u64> {
    (0..PACKETS).filter(|&number| tally.has(number)).collect()
}
