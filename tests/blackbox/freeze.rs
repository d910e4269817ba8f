//! Freezing while packets pour in: nothing is lost by it, and what is frozen is whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Mirror, Recorder, Sender, Server, Setup, Site, Tally, long, wait_for};

#[test]
fn freezes_under_load_lose_no_packet() {
    let Some(mirror) = Mirror::alone("freezes under load") else {
        return;
    };
    let freezes = if long() { 1000 } else { 100 };
    // Each freeze opens an incident of its own: no cool-down, short windows.
    let site = Site::new(&Setup {
        ring_size: "1GiB",
        before: "200ms",
        after: "0s",
        cooldown: "0s",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 64);
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let load = std::thread::spawn(move || {
        sender.send_while(100_000, |_| !stop.load(Ordering::Relaxed));
        sender
    });
    let mut incidents = BTreeSet::new();
    for n in 0..freezes {
        let body = json!({"reason": format!("freeze {n}")}).to_string();
        let answer = site.http("/api/v1/incidents", &["--json", &body]);
        assert_eq!(answer.status, 202, "{}", answer.head);
        incidents.insert(answer.json()["incident"].as_str().unwrap().to_owned());
    }
    done.store(true, Ordering::Relaxed);
    let sender = load.join().unwrap();
    sender.settle(&mirror.monitor, "mon0");
    let status = recorder.account("mon0", sender.next());
    assert_eq!(status["dropped_kernel"], 0, "{status}");
    assert_eq!(status["dropped_ring"], 0, "{status}");
    Tally::of_folder(&site.ring("mon0")).assert_each_once(sender.next());

    wait_for("every incident to be sealed", || {
        let sealed: BTreeSet<String> = site
            .list()
            .iter()
            .filter(|incident| incident["state"] == "sealed")
            .map(|incident| incident["id"].as_str().unwrap().to_owned())
            .collect();
        match incidents.difference(&sealed).count() {
            0 => Ok(()),
            n => Err(format!("{n} of {} are not", incidents.len())),
        }
    });
}

#[test]
fn an_incident_holds_what_passed_before_and_after_the_freeze() {
    let Some(mirror) = Mirror::new("before and after") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 128);
    sender.send(10_000, 5_000);
    recorder.account("mon0", 10_000);
    let arguments = [
        "freeze", "--before", "1s", "--after", "1s", "--reason", "test",
    ];
    let id = site.ask(&arguments);
    let id = id.trim();
    sender.send(10_000, 5_000);
    let incident = site.sealed(id);
    assert_eq!(
        incident["completeness"]["verdict"], "complete",
        "{incident}"
    );
    let export = site.path("export.pcapng");
    site.ask(&["export", id, "-o", export.to_str().unwrap()]);
    let tally = Tally::of_file(&export);
    assert_eq!(incident["packets"], tally.distinct(), "{incident}");
    // From before and from after it, and none missing in between.
    let (lowest, count) = (tally.lowest().unwrap(), tally.distinct());
    assert!(
        lowest < 10_000 && lowest + count > 10_000,
        "{lowest}, {count}"
    );
    assert_eq!(tally.missing(lowest + count).len() as u64, lowest);
    assert_eq!(tally.doubled(), [0; 0]);

    let manifest = site.incidents().join(id).join("manifest.json");
    assert!(manifest.exists());
    let verify = site.client(&["verify", site.incidents().join(id).to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(0), "{verify:?}");
}

#[test]
fn evidence_outlives_the_rotation_of_the_ring() {
    let Some(mirror) = Mirror::new("rotation") else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "8MiB",
        segment: "1MiB",
        memory: "8MiB",
        ..Setup::default()
    });
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 1000);
    sender.send(2000, 20_000);
    recorder.account("mon0", 2000);
    let id = site.ask(&["freeze", "--before", "30s", "--after", "0s"]);
    let id = id.trim();
    site.sealed(id);
    sender.send(20_000, 20_000);
    recorder.account("mon0", 22_000);
    assert!(Tally::of_folder(&site.ring("mon0")).lowest() > Some(2000));
    let export = site.path("export.pcapng");
    site.ask(&["export", id, "-o", export.to_str().unwrap()]);
    Tally::of_file(&export).assert_each_once(2000);
}

#[test]
fn a_window_that_is_not_there_is_explained() {
    let Some(mirror) = Mirror::new("nothing to give") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let long_ago = "/api/v1/ring/pcap?from=2020-01-01T00:00:00Z&to=2020-01-01T00:01:00Z";
    let answer = site.http(long_ago, &[]);
    assert_eq!(answer.status, 404, "{}", answer.head);
    let problem = answer.json();
    assert_eq!(problem["code"], "nothing_to_give", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.len() > 20),
        "{problem}"
    );
}
