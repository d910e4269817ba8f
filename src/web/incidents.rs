//! `/api/v1/incidents`: list, one, release.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Extension, Json};
use serde::Deserialize;

use super::auth::Principal;
use super::body::{Params, given, number, word};
use super::problem::Problem;
use super::state::App;
use crate::incident::model::{Incident, State as Stage};
use crate::trigger::Grade;

/// Incidents in a list unless told.
const LIMIT_DEFAULT: usize = 1000;

/// Filters of the list; blank means any.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    state: Option<String>,
    grade: Option<String>,
    q: Option<String>,
    limit: Option<String>,
}

/// The incident of a path.
pub(super) struct Named(pub(super) Incident);

impl FromRequestParts<App> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let id = id.map(|Path(id)| id).unwrap_or_default();
        app.incidents().get(&id).map(Self).ok_or_else(|| {
            let detail = format!("there is no incident {:?}", crate::trigger::cut(&id, 80));
            Problem::not_found("no_such_incident", detail)
        })
    }
}

/// `GET /api/v1/incidents`.
pub(super) async fn list(
    State(app): State<App>,
    Params(query): Params<Query>,
) -> Result<Json<Vec<Incident>>, Problem> {
    let stage: Option<Stage> = word("state", query.state.as_deref())?;
    let grade: Option<Grade> = word("grade", query.grade.as_deref())?;
    let limit = number("limit", query.limit.as_deref())?.unwrap_or(LIMIT_DEFAULT);
    let text = given(query.q.as_deref()).map(str::to_lowercase);
    let wanted = |incident: &Incident| {
        stage.is_none_or(|stage| incident.state == stage)
            && grade.is_none_or(|grade| incident.grade == grade)
            && text.as_deref().is_none_or(|text| mentions(incident, text))
    };
    let mut found = app.incidents().list();
    found.retain(wanted);
    found.sort_by(|a, b| (b.opened, &b.id).cmp(&(a.opened, &a.id)));
    found.truncate(limit);
    Ok(Json(found))
}

/// Whether an incident says `text` (in lower case) anywhere a person would look.
fn mentions(incident: &Incident, text: &str) -> bool {
    let says = |place: &str| place.to_lowercase().contains(text);
    let trigger = &incident.trigger;
    says(&incident.id)
        || says(&incident.subject)
        || says(&trigger.source)
        || says(&trigger.text)
        || incident.rule.as_deref().is_some_and(says)
        || incident.fields.values().any(|value| says(value))
}

/// `GET /api/v1/incidents/{id}`.
pub(super) async fn one(Named(incident): Named) -> Json<Incident> {
    Json(incident)
}

/// `DELETE /api/v1/incidents/{id}`.
pub(super) async fn release(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    Named(incident): Named,
) -> Result<StatusCode, Problem> {
    if incident.state != Stage::Sealed {
        let detail = format!("{} is not sealed yet; release it then", incident.id);
        return Err(Problem::new(StatusCode::CONFLICT, "not_sealed", detail));
    }
    app.incidents()
        .release(&incident.id, &principal.name)
        .await
        .map_err(|error| Problem::internal("releasing the incident", error))?;
    Ok(StatusCode::NO_CONTENT)
}
