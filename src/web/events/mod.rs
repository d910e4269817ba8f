//! `GET /api/v1/events`: server-sent events.

mod pending;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::serve::Peer;
use super::state::App;
use crate::drill::Drill;
use crate::incident::Change;
use crate::time::Timestamp;
use pending::{News, Pending};

const STATUS_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Changes are collected for so long: of a burst in one incident only the last is sent.
const ROUND_EVERY: Duration = Duration::from_millis(200);
/// Events handed to one client's connection before they are written.
const WAITING_MAX: usize = 16;
/// A client that takes nothing for so long is dropped.
const STALLED: Duration = Duration::from_mins(1);
/// Asks proxies not to hold events back.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let (waiting, events) = mpsc::channel(WAITING_MAX);
    let watch = Watch {
        changes: app.incidents().subscribe(),
        drills: app.drills().subscribe(),
        peer: peer.map(|Extension(peer)| peer),
        app,
        headers,
        waiting,
        patience: STALLED,
    };
    tokio::spawn(watch.run());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let sse = Sse::new(ok(ReceiverStream::new(events))).keep_alive(keep_alive);
    ([NO_BUFFERING], sse).into_response()
}

fn ok(events: ReceiverStream<Event>) -> impl Stream<Item = Result<Event, Infallible>> {
    futures_util::StreamExt::map(events, Ok)
}

/// One client that watches.
struct Watch {
    app: App,
    peer: Option<Peer>,
    headers: HeaderMap,
    changes: broadcast::Receiver<Change>,
    drills: broadcast::Receiver<Drill>,
    waiting: mpsc::Sender<Event>,
    patience: Duration,
}

impl Watch {
    /// Sends until the server stops, the client goes or stalls, or its login ends.
    async fn run(mut self) {
        let stop = self.app.stop().clone();
        let mut pending = Pending::new(self.app.incidents().list());
        // The latest of each drill; a watcher that missed some reads them all again.
        let mut drills: BTreeMap<String, Drill> = BTreeMap::new();
        let mut status_due = false;
        let mut status = tokio::time::interval(STATUS_EVERY);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = tokio::time::interval(ROUND_EVERY);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A status is due every second, so a client that reads gets on.
        let mut got_on = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.waiting.closed() => return,
                () = tokio::time::sleep_until(got_on + self.patience) => {
                    tracing::debug!("web: events: a client took nothing, it is dropped");
                    return;
                }
                change = self.changes.recv() => match change {
                    Ok(change) => pending.take(change),
                    Err(RecvError::Lagged(_)) => pending.refill(self.app.incidents().list()),
                    Err(RecvError::Closed) => return,
                },
                drill = self.drills.recv() => match drill {
                    Ok(drill) => drop(drills.insert(drill.id.clone(), drill)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = round.tick(), if pending.can_begin_round() => pending.begin_round(),
                _ = status.tick() => {
                    if !self.still_logged_in() {
                        return;
                    }
                    status_due = true;
                }
                room = self.waiting.reserve(), if status_due || !drills.is_empty() || pending.is_in_round() => {
                    let Ok(room) = room else {
                        return;
                    };
                    let event = if std::mem::take(&mut status_due) {
                        let picture = self.app.board().picture(&self.app).await;
                        Event::default().event("status").json_data(&*picture)
                    } else if let Some((_, drill)) = drills.pop_first() {
                        Event::default().event("drill").json_data(drill)
                    } else if let Some(news) = pending.next() {
                        about(&news)
                    } else {
                        continue;
                    };
                    let Ok(event) = event else {
                        return;
                    };
                    room.send(event);
                    got_on = Instant::now();
                }
            }
        }
    }

    fn still_logged_in(&self) -> bool {
        let auth = self.app.auth();
        let found = auth.identify(&self.headers, self.peer, Timestamp::now());
        matches!(found, Ok(Some(_)))
    }
}

fn about(news: &News) -> Result<Event, axum::Error> {
    match news {
        News::Incident(incident) => Event::default().event("incident").json_data(incident),
        News::Released(id) => Event::default()
            .event("released")
            .json_data(serde_json::json!({ "id": id })),
    }
}

#[cfg(test)]
mod tests;
