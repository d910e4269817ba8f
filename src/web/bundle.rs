//! `GET /api/v1/incidents/{id}/bundle`: the incident's folder as a tar.

use axum::Extension;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;

use super::auth::Principal;
use super::download::{Download, turn};
use super::incidents::Named;
use super::pcap::note;
use super::problem::Problem;
use super::state::App;
use crate::export;
use crate::incident::model::State as Stage;

/// `GET /api/v1/incidents/{id}/bundle`. The download is noted first, so the custody record in the
/// tar already tells of it.
pub(super) async fn bundle(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    method: Method,
    Named(incident): Named,
) -> Result<Response, Problem> {
    let folder = app.incidents().folder(&incident.id);
    let folder = folder.filter(|folder| folder.is_dir()).ok_or_else(|| {
        Problem::not_found("nothing_to_give", "nothing of this incident is frozen yet")
    })?;
    let turn = turn(&app)?;
    if method != Method::HEAD {
        note(&app, &incident.id, &principal.name, "bundle").await?;
    }
    let id = incident.id;
    let download = Download {
        stem: format!("wirewitness-{id}"),
        ending: "tar",
        content_type: "application/x-tar",
        provisional: incident.state != Stage::Sealed,
    };
    Ok(download.stream(turn, move |mut out| export::bundle(&folder, &id, &mut out)))
}
