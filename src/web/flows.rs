//! `GET /api/v1/incidents/{id}/flows`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::body::{Params, given, number, word};
use super::incidents::Named;
use super::problem::Problem;
use super::state::App;
use crate::index::{FlowPage, FlowQuery};

/// Which flows; blank means the usual.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    q: Option<String>,
    sort: Option<String>,
    order: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
}

impl Query {
    fn read(&self) -> Result<FlowQuery, Problem> {
        let usual = FlowQuery::default();
        let count = |name, text: &Option<String>| {
            let number = number(name, text.as_deref())?;
            Ok(number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
        };
        Ok(FlowQuery {
            q: given(self.q.as_deref()).unwrap_or_default().to_owned(),
            sort: word("sort", self.sort.as_deref())?.unwrap_or_default(),
            order: word("order", self.order.as_deref())?.unwrap_or_default(),
            limit: count("limit", &self.limit)?.unwrap_or(usual.limit),
            offset: count("offset", &self.offset)?.unwrap_or(usual.offset),
        })
    }
}

/// `GET /api/v1/incidents/{id}/flows`.
pub(super) async fn flows(
    State(app): State<App>,
    Named(incident): Named,
    Params(query): Params<Query>,
) -> Result<Json<FlowPage>, Problem> {
    let query = query.read()?;
    let index = app.index().clone();
    let page = tokio::task::spawn_blocking(move || index.flows(&incident.id, &query));
    page.await
        .map_err(|error| Problem::internal("searching the flows", error))?
        .map(Json)
        .map_err(|error| Problem::internal("searching the flows", error))
}
