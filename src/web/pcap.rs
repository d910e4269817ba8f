//! `GET .../pcap`: packets of an incident or of the live ring.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::auth::Principal;
use super::body::{Params, given};
use super::download::{Download, turn};
use super::incidents::Named;
use super::problem::Problem;
use super::state::App;
use crate::export::{self, Cancel, ExportError, ExportRequest, Format, Plan};
use crate::incident::NoteError;
use crate::incident::explain::{explain, gaps};
use crate::incident::manifest::SEGMENTS_DIR;
use crate::incident::model::{Incident, Reason, State as Stage};
use crate::time::{Timestamp, Window, parse_time};

/// What to give out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    format: Option<String>,
    filter: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Query {
    fn format(&self) -> Result<Format, Problem> {
        match given(self.format.as_deref()) {
            None | Some("pcapng") => Ok(Format::Pcapng),
            Some("pcap") => Ok(Format::Pcap),
            Some(other) => {
                let detail = format!("format must be pcapng or pcap, not {other:?}");
                Err(Problem::bad("bad_parameter", detail))
            }
        }
    }

    fn filter(&self) -> Option<String> {
        given(self.filter.as_deref()).map(str::to_owned)
    }

    /// The span asked for, `usual` where nothing is said.
    fn window(&self, usual: Window, now: Timestamp) -> Result<Window, Problem> {
        let time = |name: &str, text: Option<&str>, usual| match given(text) {
            None => Ok(usual),
            Some(text) => parse_time(text, now)
                .map_err(|error| Problem::bad("bad_time", format!("{name}: {error}"))),
        };
        let window = Window::new(
            time("from", self.from.as_deref(), usual.from)?,
            time("to", self.to.as_deref(), usual.to)?,
        );
        if window.is_empty() {
            let detail = format!("from must lie before to, but the span is {window}");
            return Err(Problem::bad("bad_window", detail));
        }
        Ok(window)
    }
}

/// `GET /api/v1/incidents/{id}/pcap`.
pub(super) async fn incident(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    method: Method,
    Named(incident): Named,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let provisional = incident.state != Stage::Sealed;
    let asked = query.window(incident.window, Timestamp::now())?;
    let Some(window) = asked.intersect(&incident.window) else {
        let detail = format!(
            "{asked} lies outside the incident's window {}",
            incident.window
        );
        return Err(Problem::not_found("nothing_to_give", detail));
    };
    let folder = app.incidents().folder(&incident.id);
    let folder = folder.ok_or_else(|| Problem::not_found("no_such_incident", "it was released"))?;
    let order = Order {
        folder: folder.join(SEGMENTS_DIR),
        window,
        filter: query.filter(),
        format: query.format()?,
        comments: comments(&incident, provisional),
        flush: provisional,
    };
    let detail = order.describe();
    let stem = format!("wirewitness-{}", incident.id);
    let ready = order.prepare(&app).await?;
    let ready = ready.map_err(|text| nothing(&text, &incident.completeness.reasons))?;
    if method != Method::HEAD {
        note(&app, &incident.id, &principal.name, &detail).await?;
    }
    Ok(ready.stream(stem, provisional))
}

/// `GET /api/v1/ring/pcap`.
pub(super) async fn ring(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let window = query.window(Window::new(Timestamp::MIN, now), now)?;
    let order = Order {
        folder: app.ring().to_owned(),
        window,
        filter: query.filter(),
        format: query.format()?,
        comments: vec![format!(
            "wirewitness {}: from the live ring, window {window}",
            env!("CARGO_PKG_VERSION")
        )],
        flush: true,
    };
    tracing::info!(
        user = principal.name,
        what = order.describe(),
        "ring downloaded"
    );
    let stem = format!("wirewitness-ring-{}", window.to);
    match order.prepare(&app).await? {
        Ok(ready) => Ok(ready.stream(stem, false)),
        Err(text) => Err(nothing(&text, &missing_of_ring(&app, window).await)),
    }
}

/// Notes who takes evidence away; without the note nothing is given.
pub(super) async fn note(app: &App, id: &str, who: &str, detail: &str) -> Result<(), Problem> {
    let noted = app.incidents().note(id, who, "downloaded", detail).await;
    noted.map_err(|error| match error {
        NoteError::NoSuchIncident(_) => Problem::not_found("nothing_to_give", error.to_string()),
        NoteError::Io(_) | NoteError::Stopping => {
            let detail = format!("the download cannot be put on the custody record: {error}");
            Problem::unavailable("custody", detail, 5)
        }
    })
}

/// Packets to be found.
struct Order {
    folder: PathBuf,
    window: Window,
    filter: Option<String>,
    format: Format,
    comments: Vec<String>,
    /// Whether what the recorder still holds in memory is wanted too.
    flush: bool,
}

/// Packets found, ready to be written.
struct Ready {
    plan: Plan,
    format: Format,
    turn: OwnedSemaphorePermit,
    wanted: Wanted,
}

/// Held while somebody waits for the packets: by the handler, then by the answer's body. Both are
/// dropped when the client goes.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Order {
    fn describe(&self) -> String {
        let filter = self.filter.as_deref().unwrap_or("none");
        format!(
            "{}, window {}, filter {filter}",
            self.format.extension(),
            self.window
        )
    }

    /// Finds the packets; the inner error says why there are none.
    async fn prepare(self, app: &App) -> Result<Result<Ready, String>, Problem> {
        let turn = turn(app)?;
        let cancel = Cancel::default();
        let wanted = Wanted(cancel.clone());
        let recorder = app.recorder().clone();
        let format = self.format;
        let prepared = tokio::task::spawn_blocking(move || {
            if self.flush
                && let Err(error) = recorder.flush()
            {
                tracing::warn!(%error, "export without a flush: the last second may be missing");
            }
            let plan = Plan::prepare(ExportRequest {
                sources: export::sources_in(&self.folder)?,
                window: self.window,
                filter: self.filter,
                format,
                comments: self.comments,
                cancel,
            })?;
            // The turn goes with the thread, whoever still waits for it.
            Ok((plan, turn))
        });
        let prepared = prepared
            .await
            .map_err(|error| Problem::internal("reading the packets", error))?;
        match prepared {
            Ok((plan, turn)) => Ok(Ok(Ready {
                plan,
                format,
                turn,
                wanted,
            })),
            Err(ExportError::Nothing { text, .. }) => Ok(Err(text)),
            Err(ExportError::BadFilter(words)) => Err(Problem::bad("bad_filter", words)),
            Err(error @ ExportError::MixedLinktypes(_)) => Err(Problem::new(
                StatusCode::CONFLICT,
                "mixed_linktypes",
                error.to_string(),
            )),
            Err(error) => Err(Problem::internal("reading the packets", error)),
        }
    }
}

impl Ready {
    fn stream(self, stem: String, provisional: bool) -> Response {
        let content_type = match self.format {
            Format::Pcapng => "application/x-pcapng",
            Format::Pcap => "application/vnd.tcpdump.pcap",
        };
        let download = Download {
            stem,
            ending: self.format.extension(),
            content_type,
            provisional,
        };
        let plan = self.plan;
        download.stream_while(self.wanted, self.turn, move |mut out| {
            let summary = plan.write_to(&mut out)?;
            for damaged in summary.damaged {
                tracing::warn!(damaged, "exported around damage");
            }
            Ok::<_, ExportError>(())
        })
    }
}

/// What a file must say of itself when it is found years later.
fn comments(incident: &Incident, provisional: bool) -> Vec<String> {
    let mut comments = vec![format!(
        "wirewitness {}: incident {}, window {}{}",
        env!("CARGO_PKG_VERSION"),
        incident.id,
        incident.window,
        if provisional {
            ", provisional: not sealed yet"
        } else {
            ""
        },
    )];
    let reasons = incident.completeness.reasons.iter();
    comments.extend(reasons.map(|reason| format!("{}: {}", reason.code, reason.text)));
    comments
}

fn nothing(text: &str, reasons: &[Reason]) -> Problem {
    let mut detail = text.to_owned();
    for reason in reasons {
        detail.push_str("; ");
        detail.push_str(&reason.text);
    }
    Problem::not_found("nothing_to_give", detail)
}

/// Why the ring may hold nothing of a window.
async fn missing_of_ring(app: &App, window: Window) -> Vec<Reason> {
    let picture = app.board().picture(app).await;
    let (ring, reading) = (app.ring().to_owned(), Arc::clone(&picture));
    let gaps = tokio::task::spawn_blocking(move || gaps(&ring, &reading.interfaces));
    let gaps = gaps.await.unwrap_or_default();
    let mut reasons = explain(&window, &picture.interfaces, &gaps, Timestamp::now());
    if let Some(error) = &picture.recorder.error {
        reasons.push(Reason {
            code: "recorder_down".to_owned(),
            interface: None,
            text: error.clone(),
        });
    }
    reasons
}
