//! `GET /api/v1/events`: server-sent events.

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
use tokio_stream::wrappers::ReceiverStream;

use super::serve::Peer;
use super::state::App;
use crate::incident::Change;
use crate::time::Timestamp;

const STATUS_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events waiting for one client; a client that falls behind by more is cut off and reconnects.
const WAITING_MAX: usize = 64;
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
        peer: peer.map(|Extension(peer)| peer),
        app,
        headers,
        waiting,
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
    waiting: mpsc::Sender<Event>,
}

impl Watch {
    /// Sends until the server stops, the client goes or lags, or its login ends.
    async fn run(mut self) {
        let stop = self.app.stop().clone();
        let mut every = tokio::time::interval(STATUS_EVERY);
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                () = self.waiting.closed() => return,
                change = self.changes.recv() => match change {
                    Ok(change) => about(&change),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                },
                _ = every.tick() => {
                    if !self.still_logged_in() {
                        return;
                    }
                    let picture = self.app.board().picture(&self.app).await;
                    Event::default().event("status").json_data(&*picture)
                }
            };
            let sent = event.is_ok_and(|event| self.waiting.try_send(event).is_ok());
            if !sent {
                return;
            }
        }
    }

    fn still_logged_in(&self) -> bool {
        let auth = self.app.auth();
        let found = auth.identify(&self.headers, self.peer, Timestamp::now());
        matches!(found, Ok(Some(_)))
    }
}

fn about(change: &Change) -> Result<Event, axum::Error> {
    match change {
        Change::Incident(incident) | Change::Sealed(incident) => {
            Event::default().event("incident").json_data(incident)
        }
        Change::Released(id) => Event::default()
            .event("released")
            .json_data(serde_json::json!({ "id": id })),
    }
}
