//! Indexes incidents as they are sealed, and those that were sealed while nobody looked.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::incident::model::State;
use crate::incident::{Change, Incidents};
use crate::index::Index;

/// Runs until `stop`.
pub async fn run(incidents: Incidents, index: Arc<Index>, stop: CancellationToken) {
    let mut changes = incidents.subscribe();
    catch_up(&incidents, &index, &stop).await;
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change::Sealed(incident)) => {
                index_one(&incidents, &index, &incident.id, incident.window).await;
            }
            Ok(Change::Released(id)) => {
                let index = Arc::clone(&index);
                let removed = tokio::task::spawn_blocking(move || index.remove(&id)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(%error, "a released incident is still in the index");
                }
            }
            Ok(Change::Incident(_)) => {}
            Err(RecvError::Lagged(_)) => catch_up(&incidents, &index, &stop).await,
            Err(RecvError::Closed) => return,
        }
    }
}

async fn catch_up(incidents: &Incidents, index: &Arc<Index>, stop: &CancellationToken) {
    for incident in incidents.list() {
        if stop.is_cancelled() {
            return;
        }
        if incident.state == State::Sealed && !index.indexed(&incident.id) {
            index_one(incidents, index, &incident.id, incident.window).await;
        }
    }
}

async fn index_one(
    incidents: &Incidents,
    index: &Arc<Index>,
    id: &str,
    window: crate::time::Window,
) {
    let Some(folder) = incidents.folder(id) else {
        return;
    };
    let segments = folder.join("segments");
    let (index, name) = (Arc::clone(index), id.to_owned());
    let done =
        tokio::task::spawn_blocking(move || index.index_incident(&name, &segments, window)).await;
    match done {
        Ok(Ok(_)) => tracing::info!(incident = id, "indexed"),
        Ok(Err(error)) => tracing::error!(incident = id, %error, "cannot be indexed"),
        Err(error) => tracing::error!(incident = id, %error, "the indexer failed"),
    }
}
