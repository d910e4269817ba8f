//! A burst of incidents and the clients that watch it.

use std::collections::BTreeSet;

use axum::body::Body;
use http_body_util::BodyExt;

use super::*;
use crate::incident::model::Incident;
use crate::trigger::{Kind, Trigger};
use crate::web::Role;
use crate::web::tests::{Site, get_as};

/// Longer than anything here takes; a test that hangs must fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens `count` incidents of subjects of their own.
async fn burst(app: &App, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for number in 0..count {
        let subject = format!("host-{number}");
        let now = Timestamp::now();
        let trigger = Trigger::new(Kind::Syslog, "line", &subject, "down", now, now);
        let accepted = app.incidents().intake().submit(trigger).await.unwrap();
        ids.insert(accepted.incident);
    }
    assert_eq!(ids.len(), count);
    ids
}

#[tokio::test]
async fn a_burst_reaches_a_client_that_reads_whole() {
    let site = Site::new();
    let token = site.token(Role::Viewer);
    let request = get_as("/api/v1/events", &token);
    let answer = tower::ServiceExt::oneshot(site.router(), request).await;
    let mut body: Body = answer.unwrap().into_body();
    let mut missing = burst(&site.app, 300).await;
    let all_arrive = async {
        let mut text = String::new();
        while !missing.is_empty() {
            let frame = body.frame().await.expect("the stream ended").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                if let Some((_, data)) = event.split_once("event: incident\ndata: ") {
                    let incident: Incident = serde_json::from_str(data.trim()).unwrap();
                    missing.remove(&incident.id);
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, all_arrive).await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let site = Site::new();
    let token = site.token(Role::Viewer);
    let (waiting, mut unread) = mpsc::channel(WAITING_MAX);
    let watch = Watch {
        changes: site.app.incidents().subscribe(),
        drills: site.app.drills().subscribe(),
        peer: None,
        headers: get_as("/", &token).headers().clone(),
        app: site.app.clone(),
        waiting,
        patience: Duration::from_millis(300),
    };
    let running = tokio::spawn(watch.run());
    burst(&site.app, 2 * WAITING_MAX).await;
    tokio::time::timeout(PATIENCE, running)
        .await
        .unwrap()
        .unwrap();
    let mut held = 0;
    while unread.recv().await.is_some() {
        held += 1;
    }
    assert_eq!(held, WAITING_MAX, "it was dropped because it was full");
}

fn told(pending: &mut Pending) -> Vec<(String, Option<u64>)> {
    pending.begin_round();
    std::iter::from_fn(|| pending.next())
        .map(|news| match news {
            News::Incident(incident) => (incident.id.clone(), Some(incident.triggers)),
            News::Released(id) => (id, None),
        })
        .collect()
}

#[tokio::test]
async fn only_the_latest_of_each_is_told() {
    let site = Site::new();
    burst(&site.app, 3).await;
    let there = site.app.incidents().list();
    let ids: Vec<String> = there.iter().map(|incident| incident.id.clone()).collect();
    let with = |place: usize, triggers| {
        let incident = Incident {
            triggers,
            ..there[place].clone()
        };
        Change::Incident(Box::new(incident))
    };
    let mut pending = Pending::new(there.clone());
    assert!(!pending.can_begin_round());
    for triggers in 1..=10_000 {
        pending.take(with(0, triggers));
    }
    pending.take(with(1, 7));
    pending.take(Change::Released(ids[1].clone()));
    let mut expected = vec![(ids[0].clone(), Some(10_000)), (ids[1].clone(), None)];
    expected.sort();
    assert_eq!(told(&mut pending), expected);
    assert!(!pending.can_begin_round());
    // What was missed: the third was released, the first changed.
    pending.refill(vec![there[0].clone()]);
    let mut expected = vec![
        (ids[0].clone(), Some(there[0].triggers)),
        (ids[2].clone(), None),
    ];
    expected.sort();
    assert_eq!(told(&mut pending), expected);
}
