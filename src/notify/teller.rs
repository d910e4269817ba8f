//! Watches the incidents and puts what is news of them into the store.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::incidents::{Ledger, assume, news};
use super::store::{Kept, Store};
use crate::incident::model::Incident;
use crate::incident::{Change, Incidents};
use crate::time::Timestamp;

/// Changes taken at once, so that a storm is written down once and not each time.
const AT_ONCE: usize = 1024;

/// Tells of incidents until stopped.
pub(super) async fn run(incidents: Incidents, store: Arc<Store>, stop: CancellationToken) {
    // Subscribed before the list is read: what changes in between is seen twice and told once.
    let mut changes = incidents.subscribe();
    all(&incidents, &store).await;
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        let mut seen = Vec::new();
        let mut missed = false;
        let mut next = match change {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => {
                missed = true;
                None
            }
            Err(RecvError::Closed) => return,
        };
        while let Some(change) = next.take() {
            seen.push(change);
            if seen.len() < AT_ONCE {
                match changes.try_recv() {
                    Ok(change) => next = Some(change),
                    Err(TryRecvError::Lagged(_)) => missed = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => {}
                }
            }
        }
        if missed {
            all(&incidents, &store).await;
        } else {
            some(seen, &store).await;
        }
    }
}

/// Looks at every incident. At the very first time what is there already is taken as told.
async fn all(incidents: &Incidents, store: &Store) {
    let mut list = incidents.list();
    list.sort_by(|a, b| a.id.cmp(&b.id));
    let now = Timestamp::now();
    store
        .tell(|kept| {
            let Some(told) = &mut kept.told else {
                let told = kept.told.insert(Ledger::default());
                for incident in &list {
                    assume(told, incident);
                }
                return Vec::new();
            };
            let there: HashSet<&str> = list.iter().map(|incident| incident.id.as_str()).collect();
            told.retain(|id, _| there.contains(id.as_str()));
            list.iter()
                .flat_map(|incident| news(told, incident, now))
                .collect()
        })
        .await;
}

async fn some(changes: Vec<Change>, store: &Store) {
    let now = Timestamp::now();
    store
        .tell(|kept: &mut Kept| {
            let told = kept.told.get_or_insert_default();
            let mut events = Vec::new();
            for change in changes {
                let incident: Box<Incident> = match change {
                    Change::Incident(incident) | Change::Sealed(incident) => incident,
                    Change::Released(id) => {
                        told.remove(&id);
                        continue;
                    }
                };
                events.extend(news(told, &incident, now));
            }
            events
        })
        .await;
}
