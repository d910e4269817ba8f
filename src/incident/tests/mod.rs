//! The engine against a double of the recorder: real hard links of real segments over the real
//! socket protocol. Crashes are made by stopping the engine, or by putting the folders into the
//! state a crash at that step leaves.

mod site;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use site::Site;

use super::chain;
use super::custody::{Act, CUSTODY_FILE, SEALED, TIMELINE_FILE, TimelineLine};
use super::engine::Change;
use super::folder::Live;
use super::journal::{Entry, Journal};
use super::manifest::{LIVE_FILE, MANIFEST_FILE, Manifest, SUMS_FILE};
use super::model::{Note, State, Verdict};
use super::verify::{VerifyReport, verify};
use crate::ring::catalog::Catalog;
use crate::time::{Timestamp, Window};
use crate::trigger::{Grade, Resolution, Trigger};

fn custody(folder: &Path) -> Vec<Act> {
    let chain = chain::read::<Act>(&folder.join(CUSTODY_FILE)).unwrap();
    assert_eq!(chain.broken, None);
    chain.items
}

fn assert_verifies(folder: &Path) -> VerifyReport {
    let report = verify(folder).unwrap();
    assert!(report.is_ok(), "{report:?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_becomes_sealed_evidence_that_verifies() {
    let site = Site::new();
    let mut server = site.open();
    let accepted = server.submit(site.trigger("db")).await;
    assert!(!accepted.joined);
    let sealed = server.sealed(&accepted.incident).await;
    assert_eq!(
        sealed.completeness.verdict,
        Verdict::Complete,
        "{:?}",
        sealed.completeness
    );
    assert_eq!(sealed.covered, Some(sealed.window));
    assert_eq!((sealed.packets, sealed.bytes), (15, 900));
    assert_eq!(sealed.interfaces[0].segments, 2);

    let folder = site.folder(&accepted.incident);
    assert_eq!(
        server.incidents.folder(&accepted.incident),
        Some(folder.clone())
    );
    let report = assert_verifies(&folder);
    assert_eq!(report.incidents[0].segments, 2);
    assert_verifies(&site.evidence());
    assert!(!folder.join(LIVE_FILE).exists());
    let actions: Vec<String> = custody(&folder).into_iter().map(|act| act.action).collect();
    assert_eq!(actions, ["opened", "frozen", "sealed"]);

    let id = accepted.incident;
    server
        .incidents
        .note(&id, "alice", "downloaded", "pcapng")
        .await
        .unwrap();
    assert_eq!(custody(&folder)[3].who, "alice");
    assert_verifies(&folder);
    assert!(
        server
            .incidents
            .note("20260101T000000Z-000000", "a", "b", "c")
            .await
            .is_err()
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_tools_verify_it() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    let run = |program: &str, args: &str| {
        let manifest = fs::File::open(site.folder(&id).join(MANIFEST_FILE)).unwrap();
        std::process::Command::new(program)
            .args(args.split(' '))
            .current_dir(site.folder(&id))
            .stdin(manifest)
            .output()
            .unwrap()
    };
    let sums = run("sha256sum", "--strict -c SHA256SUMS");
    assert!(sums.status.success(), "{sums:?}");
    let signed = run(
        "ssh-keygen",
        "-Y verify -f allowed_signers -I wirewitness -n evidence@wirewitness -s manifest.json.sig",
    );
    assert!(signed.status.success(), "{signed:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_triggers_are_one_incident() {
    let site = Site::new();
    let mut server = site.open();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let intake = server.incidents.intake();
        let mut trigger = site.trigger("db");
        trigger.text = "x".repeat(1000);
        waiting.spawn(async move { intake.submit(trigger).await.unwrap().incident });
    }
    let ids: std::collections::BTreeSet<String> = waiting.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    let id = ids.first().unwrap().clone();
    server.sealed(&id).await;
    assert_eq!(server.incidents.get(&id).unwrap().triggers, 10_000);
    assert_eq!(server.incidents.get(&id).unwrap().timeline.len(), 100);
    server.stop().await;

    let mut server = site.open();
    assert_eq!(server.incidents.list().len(), 1);
    assert_eq!(server.sealed(&id).await.triggers, 10_000);
    let timeline = site.folder(&id).join(TIMELINE_FILE);
    let lines = || chain::read::<TimelineLine>(&timeline).unwrap().items;
    if lines().last().unwrap().last_number() < 10_000 {
        server
            .until(|change| matches!(change, Change::Incident(i) if i.id == id))
            .await;
    }
    assert_eq!(lines().iter().map(|line| line.count).sum::<u64>(), 10_000);
    assert_verifies(&site.folder(&id));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_is_away_is_waited_for_and_named() {
    let site = Site::new();
    site.up.store(false, Ordering::SeqCst);
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server
        .until(|change| {
            matches!(change, Change::Incident(i)
                if i.completeness.reasons.first().is_some_and(|r| r.code == "recorder_unreachable"))
        })
        .await;
    assert_eq!(server.incidents.get(&id).unwrap().state, State::Collecting);
    site.up.store(true, Ordering::SeqCst);
    let sealed = server.sealed(&id).await;
    assert_eq!(sealed.completeness.verdict, Verdict::Complete);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incident_does_not_wait_for_the_pins_of_others() {
    let site = Site::new();
    let mut server = site.open();
    let engine = Arc::clone(&server.incidents.engine);
    let all = u32::try_from(engine.calls.available_permits()).unwrap();
    let repeating = engine.calls.acquire_many(all).await.unwrap();
    let id = server.submit(site.trigger("db")).await.incident;
    let sealed = server.sealed(&id).await;
    assert_eq!(sealed.completeness.verdict, Verdict::Complete);
    drop(repeating);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ring_no_longer_had_is_explained() {
    let site = Site::new();
    let mut server = site.open();
    let mut trigger = site.trigger("db");
    trigger.before = Some(Duration::from_mins(10));
    let first = Catalog::scan(&site.ring().join("eth1")).unwrap().segments()[0]
        .path
        .clone();
    fs::remove_file(first).unwrap();
    let id = server.submit(trigger).await.incident;
    let sealed = server.sealed(&id).await;
    assert_eq!(sealed.completeness.verdict, Verdict::Incomplete);
    assert_eq!(sealed.completeness.reasons[0].code, "rotated");
    assert_eq!(sealed.packets, 20);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_still_being_written_is_ended_before_it_is_hashed() {
    let site = Site::new();
    let active = site.active();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    let (manifest, _) = Manifest::read(&site.folder(&id)).unwrap();
    let last = manifest.segments.last().unwrap();
    assert!(active.ends_with(Path::new(&last.path).file_name().unwrap()));
    assert_eq!(last.size_bytes, fs::metadata(&active).unwrap().len());
    assert_verifies(&site.folder(&id));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_journal_it_ends_sealed() {
    let site = Site::new();
    let trigger = site.trigger("db");
    let entry = Entry::Trigger {
        incident: "20261123T100211Z-5f3a9c".parse().unwrap(),
        number: 1,
        window: Window::around(site.now, Duration::from_secs(15), Duration::ZERO),
        trigger: Box::new(trigger),
        promotes: Vec::new(),
    };
    let (journal, _) = Journal::open(&site.dir.path().join("journal"), |_| {}).unwrap();
    journal.append(&[entry]).await.unwrap();
    drop(journal);
    let mut server = site.open();
    let sealed = server.sealed("20261123T100211Z-5f3a9c").await;
    assert_eq!((sealed.triggers, sealed.packets), (1, 15));
    assert_verifies(&site.folder(&sealed.id));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_pin_it_ends_sealed_with_every_trigger() {
    let site = Site::new();
    site.completes.store(false, Ordering::SeqCst);
    let server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    for _ in 0..5 {
        assert!(server.submit(site.trigger("db")).await.joined);
    }
    server.stop().await;

    // Once with the state saved in the folder and once with that copy torn: the journal has it.
    for torn in [false, true] {
        let mut server = site.open();
        let live = site.folder(&id).join(LIVE_FILE);
        assert!(server.submit(site.trigger("db")).await.joined);
        server
            .until(|c| matches!(c, Change::Incident(i) if i.id == id && i.triggers > 6))
            .await;
        server.stop().await;
        if torn {
            fs::write(live, "{").unwrap();
        }
    }
    site.completes.store(true, Ordering::SeqCst);
    let mut server = site.open();
    assert_eq!(server.sealed(&id).await.triggers, 8);
    assert_eq!(server.incidents.list().len(), 1);
    let timeline = site.folder(&id).join(TIMELINE_FILE);
    let lines = chain::read::<TimelineLine>(&timeline).unwrap().items;
    let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8], "each once, in order");
    assert_verifies(&site.folder(&id));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_the_seal_it_ends_sealed_once() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    let mut incident = server.sealed(&id).await;
    server.stop().await;
    incident.state = State::Sealing;
    let live = Live {
        incident,
        dedup_keys: std::collections::BTreeSet::new(),
    };
    let folder = site.folder(&id);
    let manifest = folder.join(MANIFEST_FILE);
    let tmp = folder.join("manifest.json.tmp");
    let whole = fs::read(folder.join(CUSTODY_FILE)).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|&b| b == b'\n').collect();
    let seals = |acts: &[Act]| acts.iter().filter(|act| act.action == SEALED).count();

    // Before the rename: it is finished, not made again.
    let content = fs::read(&manifest).unwrap();
    fs::rename(&manifest, &tmp).unwrap();
    let mut server = site.open();
    server.sealed(&id).await;
    server.stop().await;
    assert_eq!(fs::read(&manifest).unwrap(), content);
    assert_eq!(seals(&custody(&folder)), 1);
    assert_verifies(&folder);

    // Before the custody line, in the middle of it, in the middle of the manifest, before it.
    let mut torn_line = lines[..lines.len() - 1].concat();
    torn_line.extend_from_slice(&lines[lines.len() - 1][..40]);
    for (chain, content) in [
        (lines[..lines.len() - 1].concat(), Some(content.clone())),
        (torn_line, Some(content.clone())),
        (
            lines[..2].concat(),
            Some(content[..content.len() / 2].to_vec()),
        ),
        (lines[..1].concat(), None),
        (Vec::new(), None),
    ] {
        fs::remove_file(&manifest).unwrap();
        fs::write(folder.join(LIVE_FILE), serde_json::to_vec(&live).unwrap()).unwrap();
        fs::write(folder.join(CUSTODY_FILE), chain).unwrap();
        if let Some(content) = content {
            fs::write(&tmp, content).unwrap();
        }
        let mut server = site.open();
        let sealed = server.sealed(&id).await;
        assert_eq!((sealed.triggers, sealed.packets), (1, 15));
        server.stop().await;
        assert_eq!(seals(&custody(&folder)), 1);
        assert!(!tmp.exists() && !folder.join(LIVE_FILE).exists());
        assert_verifies(&folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_join_counts_and_leaves_the_manifest_alone() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    let before = fs::read(site.folder(&id).join(MANIFEST_FILE)).unwrap();
    let late = server.submit(site.trigger("db")).await;
    assert_eq!((late.incident, late.joined), (id.clone(), true));
    server
        .until(|c| matches!(c, Change::Incident(i) if i.triggers == 2))
        .await;
    server.stop().await;
    assert_eq!(
        fs::read(site.folder(&id).join(MANIFEST_FILE)).unwrap(),
        before
    );
    assert_verifies(&site.folder(&id));
    let server = site.open();
    assert_eq!(server.incidents.get(&id).unwrap().triggers, 2);
    server.stop().await;
}

/// What a timeline says, without its chain.
fn timeline(folder: &Path) -> Vec<TimelineLine> {
    chain::read::<TimelineLine>(&folder.join(TIMELINE_FILE))
        .unwrap()
        .items
}

fn over(trigger: &Trigger) -> Resolution {
    let now = Timestamp::now();
    Resolution::new(trigger.kind, "hook", &trigger.subject, "it works", now, now)
}

#[tokio::test]
async fn a_resolution_ends_the_after_window_and_survives_a_restart() {
    let site = Site::new();
    let server = site.open();
    let mut trigger = site.trigger("edge");
    trigger.after = Some(Duration::from_mins(10));
    let id = server.submit(trigger.clone()).await.incident;
    let resolution = over(&trigger);
    let intake = server.incidents.intake();
    let ended = intake.resolve(resolution.clone()).await.unwrap().unwrap();
    assert_eq!((ended.incident.as_str(), ended.joined), (id.as_str(), true));
    let again = intake.resolve(over(&trigger)).await.unwrap();
    assert_eq!(again.map(|a| a.incident), Some(id.clone()));
    server.stop().await;
    let mut server = site.open();
    let sealed = server.sealed(&id).await;
    assert_eq!(
        sealed.window.to,
        resolution.received.plus(Duration::from_secs(2))
    );
    assert_eq!(sealed.resolved, Some(resolution.received));
    assert_eq!(sealed.triggers, 1);
    let notes: Vec<_> = sealed.timeline.iter().map(|entry| entry.note).collect();
    assert_eq!(notes, [None, Some(Note::Resolved)]);
    assert_eq!(timeline(&site.folder(&id)).len(), 2);
    assert_verifies(&site.folder(&id));
    // A later one is noted as known; nothing is opened.
    let intake = server.incidents.intake();
    assert!(intake.resolve(over(&trigger)).await.unwrap().is_some());
    let other = site.trigger("elsewhere");
    assert_eq!(intake.resolve(over(&other)).await.unwrap(), None);
    assert_eq!(server.incidents.list().len(), 1);
}

#[tokio::test]
async fn a_resolution_after_the_seal_is_noted_once_and_kept() {
    let site = Site::new();
    let mut server = site.open();
    let trigger = site.trigger("edge");
    let id = server.submit(trigger.clone()).await.incident;
    server.sealed(&id).await;
    let resolution = over(&trigger);
    let intake = server.incidents.intake();
    intake.resolve(resolution.clone()).await.unwrap().unwrap();
    server.stop().await;
    for _ in 0..2 {
        let server = site.open();
        let incident = server.incidents.get(&id).unwrap();
        assert_eq!(incident.resolved, Some(resolution.received));
        assert_eq!(incident.timeline.len(), 2);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_fault_promotes_its_first_sign() {
    let site = Site::new();
    let mut server = site.open();
    let mut weak = site.trigger("edge");
    weak.grade = Grade::Precursor;
    weak.at = site.now.minus(Duration::from_mins(11));
    let sign = server.submit(weak.clone()).await.incident;
    server.sealed(&sign).await;
    let fault = server.submit(site.trigger("edge")).await.incident;
    assert_ne!(sign, fault);
    let sealed = server.sealed(&fault).await;
    let first = sealed.first_sign.unwrap();
    assert_eq!(
        (first.at, first.incident.as_str()),
        (weak.at, sign.as_str())
    );
    server.stop().await;
    let server = site.open();
    let promoted = server.incidents.get(&sign).unwrap();
    assert_eq!(promoted.grade, Grade::Incident);
    let note = promoted.timeline.last().unwrap();
    assert_eq!(
        (note.note, note.text.as_str()),
        (Some(Note::Promoted), fault.as_str())
    );
    assert_verifies(&site.folder(&sign));
    assert!(server.incidents.get(&fault).unwrap().first_sign.is_some());
}

#[tokio::test]
async fn a_fault_that_joins_an_open_sign_shows_how_early_it_was() {
    let site = Site::new();
    let mut server = site.open();
    let mut weak = site.trigger("edge");
    weak.grade = Grade::Precursor;
    weak.at = site.now.minus(Duration::from_secs(10));
    weak.after = Some(Duration::from_secs(11));
    let id = server.submit(weak.clone()).await.incident;
    let joined = server.submit(site.trigger("edge")).await;
    assert_eq!(
        (joined.incident.as_str(), joined.joined),
        (id.as_str(), true)
    );
    let sealed = server.sealed(&id).await;
    assert_eq!(sealed.grade, Grade::Incident);
    let first = sealed.first_sign.unwrap();
    assert_eq!((first.at, first.incident), (weak.at, id));
}

#[tokio::test]
async fn the_first_bodies_are_kept() {
    let site = Site::new();
    site.completes.store(false, Ordering::SeqCst);
    let mut server = site.open();
    let mut id = String::new();
    for number in 1..=30 {
        let mut trigger = site.trigger("edge");
        trigger.body = Some(format!("{{\"number\":{number}}}"));
        id = server.submit(trigger).await.incident;
    }
    site.completes.store(true, Ordering::SeqCst);
    server.sealed(&id).await;
    server.stop().await;
    let kept: Vec<_> = timeline(&site.folder(&id))
        .into_iter()
        .filter_map(|line| line.body)
        .collect();
    assert_eq!(kept.len(), 20);
    assert_eq!(kept[19], "{\"number\":20}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_on_a_broken_disk_refuses_and_recovers() {
    let site = Site::new();
    let mut server = site.open();
    let journal = site.dir.path().join("journal");
    fs::remove_dir_all(&journal).unwrap();
    let refused = server.incidents.intake().submit(site.trigger("db")).await;
    assert!(refused.unwrap_err().to_string().contains("journal"));
    assert!(server.incidents.list().is_empty());
    fs::create_dir(&journal).unwrap();
    let accepted = server.submit(site.trigger("db")).await;
    assert!(!accepted.joined, "what was refused left no trace");
    assert_eq!(server.sealed(&accepted.incident).await.triggers, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_final_even_when_it_was_interrupted() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    site.up.store(false, Ordering::SeqCst);
    assert!(server.incidents.release(&id, "admin").await.is_err());
    server.stop().await;

    site.up.store(true, Ordering::SeqCst);
    let mut server = site.open();
    assert!(server.incidents.get(&id).is_none(), "it is not shown again");
    if site.folder(&id).exists() {
        server
            .until(|c| matches!(c, Change::Released(released) if *released == id))
            .await;
    }
    assert!(!site.folder(&id).exists());
    server.stop().await;
    let server = site.open();
    assert!(
        server.incidents.list().is_empty(),
        "the journal does not bring it back"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_quota_precursors_go_and_incidents_stay() {
    let site = Site::new();
    let mut server = site.open_with(1);
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    let mut weak = site.trigger("web");
    weak.grade = Grade::Precursor;
    // Housekeeping follows the seal; then the quota is known to be used up.
    while server.incidents.problems().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(server.incidents.evidence_bytes() > 1);
    assert!(server.incidents.intake().submit(weak).await.is_err());
    assert!(server.incidents.get(&id).is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_damaged_folders_are_reported_not_fatal() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    server.stop().await;
    fs::write(site.folder(&id).join(MANIFEST_FILE), "{").unwrap();
    for name in [".hidden", "lost+found", "20260101T000000Z-000000"] {
        fs::create_dir(site.evidence().join(name)).unwrap();
    }
    let server = site.open();
    let problems = server.incidents.problems();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(server.incidents.list().is_empty());
    assert_eq!(
        fs::read(site.folder(&id).join(MANIFEST_FILE)).unwrap(),
        b"{"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_byte_of_any_file_is_caught_and_named() {
    let site = Site::new();
    let mut server = site.open();
    let id = server.submit(site.trigger("db")).await.incident;
    server.sealed(&id).await;
    server.stop().await;
    let folder = site.folder(&id);
    let (manifest, _) = Manifest::read(&folder).unwrap();
    let mut files: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.len(), 7, "{files:?}");
    files.extend(manifest.segments.iter().map(|s| s.path.clone()));
    for file in files {
        let path = folder.join(&file);
        let good = fs::read(&path).unwrap();
        // Every byte at the ends, every 61st between.
        for index in (0..good.len()).filter(|i| i % 61 == 0 || *i < 40 || i + 40 > good.len()) {
            let mut bad = good.clone();
            bad[index] ^= 0x20;
            // A segment is shared with the ring: it is replaced, not written to.
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bad).unwrap();
            let report = verify(&folder).unwrap();
            let named = report.incidents[0].problems.iter().any(|p| p.file == file);
            assert!(named, "{file} byte {index}: {report:?}");
        }
        fs::write(&path, &good).unwrap();
    }
    assert_verifies(&folder);

    fs::write(folder.join("segments/eth1/extra.pcapng"), "").unwrap();
    assert!(!verify(&folder).unwrap().is_ok());
    fs::remove_file(folder.join("segments/eth1/extra.pcapng")).unwrap();
    for file in [
        SUMS_FILE,
        CUSTODY_FILE,
        MANIFEST_FILE,
        &manifest.segments[0].path,
    ] {
        let good = fs::read(folder.join(file)).unwrap();
        fs::remove_file(folder.join(file)).unwrap();
        let report = verify(&folder).unwrap();
        assert!(
            report.incidents[0].problems.iter().any(|p| p.file == *file),
            "{report:?}"
        );
        fs::write(folder.join(file), good).unwrap();
    }
}
