//! Packets on their way out.

use std::fs;
use std::time::Duration;

use etherparse::PacketBuilder;
use serde_json::json;

use super::*;
use crate::ring::fixture::Segment;
use crate::ring::names::SegmentName;
use crate::time::Timestamp;

fn udp(port: u16) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(5000, port)
        .write(&mut out, b"payload")
        .unwrap();
    out
}

/// Ten packets of the last minute, every other one to port 53.
fn segment() -> Segment {
    let start = Timestamp::now().minus(Duration::from_mins(1));
    let mut segment = Segment::new("eth1", 1);
    for number in 0..10 {
        let at = start.plus(Duration::from_secs(number)).as_ns();
        let port = if number % 2 == 0 { 53 } else { 80 };
        segment = segment.packet(at, &udp(port));
    }
    segment.sealed(start.plus(Duration::from_secs(10)).as_ns(), 10, 0)
}

/// An incident that is being collected and has its first segment.
async fn frozen(site: &Site) -> String {
    let admin = site.token(Role::Admin);
    let answer = site
        .send(post_as("/api/v1/incidents", &admin, &json!({})))
        .await;
    let id = answer.json()["incident"].as_str().unwrap().to_owned();
    let segments = site.app.incidents().folder(&id).unwrap().join("segments");
    fs::create_dir_all(&segments).unwrap();
    segment().write(&segments);
    id
}

fn custody(site: &Site, id: &str) -> String {
    let folder = site.app.incidents().folder(id).unwrap();
    fs::read_to_string(folder.join("custody.jsonl")).unwrap_or_default()
}

/// Packets in a file, by libpcap's reading.
fn packets(bytes: &[u8]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcap");
    fs::write(&path, bytes).unwrap();
    let mut capture = pcap::Capture::from_file(&path).unwrap();
    let mut count = 0;
    while capture.next_packet().is_ok() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn the_ring_gives_what_is_asked_for() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    segment().write(&site.dir.path().join("ring"));
    for (query, count) in [
        ("", 10),
        ("?filter=udp%20port%2053", 5),
        ("?format=pcap&filter=udp%20port%2080", 5),
        ("?from=-10m&to=now", 10),
    ] {
        let answer = site
            .send(get_as(&format!("/api/v1/ring/pcap{query}"), &analyst))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {:?}", answer.body);
        assert_eq!(packets(&answer.body), count, "{query}");
        let disposition = answer.header("content-disposition");
        assert!(disposition.starts_with("attachment; filename=\"wirewitness-ring-"));
        assert!(!answer.headers.contains_key("x-wirewitness-provisional"));
    }
    for (target, code) in [
        ("/api/v1/ring/pcap?filter=tcp", "nothing_to_give"),
        ("/api/v1/ring/pcap?filter=prot%20udp", "bad_filter"),
    ] {
        let answer = site.send(get_as(target, &analyst)).await;
        assert_eq!(answer.code(), code, "{target}");
    }
}

#[tokio::test]
async fn what_is_not_sealed_is_labelled_and_who_took_it_is_on_record() {
    let site = Site::new();
    let id = frozen(&site).await;
    let analyst = site.token(Role::Analyst);
    let target = format!("/api/v1/incidents/{id}/pcap?filter=udp%20port%2053");
    let look = request(Method::HEAD, &target).header("authorization", format!("Bearer {analyst}"));
    let looked = site.send(look.body(Body::empty()).unwrap()).await;
    assert_eq!(looked.status, StatusCode::OK);
    assert!(!custody(&site, &id).contains("downloaded"));
    let answer = site.send(get_as(&target, &analyst)).await;
    assert_eq!(packets(&answer.body), 5);
    assert_eq!(answer.header("x-wirewitness-provisional"), "true");
    let name = format!("attachment; filename=\"wirewitness-{id}-provisional.pcapng\"");
    assert_eq!(answer.header("content-disposition"), name);
    let custody = custody(&site, &id);
    assert!(custody.contains("downloaded") && custody.contains("analyst-token"));
    assert!(custody.contains("udp port 53"), "{custody}");
    let outside = format!("/api/v1/incidents/{id}/pcap?from=-20m&to=-10m");
    let answer = site.send(get_as(&outside, &analyst)).await;
    assert_eq!(answer.code(), "nothing_to_give");
}

#[tokio::test]
async fn a_bundle_tells_of_its_own_download() {
    let site = Site::new();
    let id = frozen(&site).await;
    let target = format!("/api/v1/incidents/{id}/bundle");
    let answer = site.send(get_as(&target, &site.token(Role::Analyst))).await;
    assert_eq!(answer.header("content-type"), "application/x-tar");
    let mut archive = tar::Archive::new(&*answer.body);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if name.ends_with("custody.jsonl") {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            assert!(text.contains("bundle"), "{text}");
        }
        names.push(name);
    }
    assert!(names.contains(&format!("{id}/custody.jsonl")), "{names:?}");
    let segments = format!("{id}/segments/eth1/");
    assert!(
        names.iter().any(|name| name.starts_with(&segments)),
        "{names:?}"
    );
}

#[tokio::test]
async fn timeline_and_flows_count_the_packets() {
    let site = Site::new();
    let id = frozen(&site).await;
    let viewer = site.token(Role::Viewer);
    let target = format!("/api/v1/incidents/{id}/timeline?buckets=20");
    let timeline = site.send(get_as(&target, &viewer)).await.json();
    let bars = timeline["interfaces"][0]["packets"].as_array().unwrap();
    assert_eq!(bars.len(), 20);
    let sum: u64 = bars.iter().map(|bar| bar.as_u64().unwrap()).sum();
    assert_eq!(sum, 10);
    assert_eq!(timeline["provisional"], true);
    let target = format!("/api/v1/incidents/{id}/flows");
    let before = site.send(get_as(&target, &viewer)).await.json();
    assert_eq!(before["indexed"], false);
    let incident = site.app.incidents().get(&id).unwrap();
    let segments = site.app.incidents().folder(&id).unwrap().join("segments");
    let index = site.app.index();
    index
        .index_incident(&id, &segments, incident.window)
        .unwrap();
    let after = site.send(get_as(&target, &viewer)).await.json();
    assert_eq!(
        (&after["indexed"], &after["total"]),
        (&json!(true), &json!(2))
    );
    let dns = site
        .send(get_as(&format!("{target}?q=53"), &viewer))
        .await
        .json();
    assert_eq!(dns["flows"][0]["packets_to"], 5);
    for wrong in ["sort=size", "order=up", "limit=many", "colour=red"] {
        let answer = site
            .send(get_as(&format!("{target}?{wrong}"), &viewer))
            .await;
        assert_eq!(answer.code(), "bad_parameter", "{wrong}");
    }
    let fine = format!("/api/v1/incidents/{id}/timeline?buckets=100000");
    assert_eq!(
        site.send(get_as(&fine, &viewer)).await.code(),
        "bad_parameter"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_ends_with_the_client_that_asked_for_it() {
    let site = Site::new();
    let analyst = site.token(Role::Analyst);
    // Many names of one segment that matches nowhere: minutes of reading.
    let ring = site.dir.path().join("ring");
    let now = Timestamp::now().minus(Duration::from_hours(1));
    let mut segment = Segment::new("eth1", 1);
    for _ in 0..20_000 {
        segment = segment.packet(now.as_ns(), &udp(80));
    }
    let first = segment.write(&ring);
    for number in 2..5_000 {
        let at = now.plus(Duration::from_millis(number));
        let name = SegmentName { number, first: at }.to_string();
        fs::hard_link(&first, first.with_file_name(name)).unwrap();
    }
    let turns = Arc::clone(site.app.downloads());
    let all = turns.available_permits();
    assert_eq!(all, 8);
    let router = site.router();
    let asked = get_as("/api/v1/ring/pcap?filter=tcp", &analyst);
    let mut asking = Box::pin(Answer::of(router, asked));
    let reading = async {
        while turns.available_permits() == all {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut asking => panic!("too early to tell: {}", answer.status),
        () = reading => {}
    }
    drop(asking);
    let freed = tokio::time::timeout(Duration::from_secs(20), turns.acquire_many(8)).await;
    assert!(freed.is_ok(), "the server reads on for nobody");
}
