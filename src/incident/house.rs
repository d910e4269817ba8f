//! Housekeeping: late joins are written down, evidence is counted and kept within its quota,
//! room is kept back, releases are repeated until the recorder confirms them, settled journal
//! files go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::custody::SELF;
use super::engine::Engine;
use super::folder::blobs;
use super::id::IncidentId;
use super::model::State;
use super::retention::{Holding, Plan, plan};
use crate::time::Timestamp;
use crate::trigger::Kind;

/// How soon a trigger that joins a sealed incident is in its timeline.
const TICK: Duration = Duration::from_secs(1);
/// Every how many ticks the rest is done.
const ROUND: u32 = 10;

/// Keeps house until the engine stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut tick = 0;
    loop {
        let work = async {
            write_late(&engine).await;
            if tick % ROUND == 0 {
                keep(&engine).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = engine.stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => tick += 1,
            () = engine.house.notified() => tick = 0,
            () = engine.stop.cancelled() => return,
        }
    }
}

/// Writes down triggers that joined incidents after their seal.
async fn write_late(engine: &Arc<Engine>) {
    let late: Vec<_> = {
        let table = engine.table();
        let sealed = table
            .items
            .iter()
            .filter(|(_, item)| item.dirty && item.incident.state == State::Sealed);
        sealed
            .map(|(id, item)| (id.clone(), Arc::clone(&item.desk), item.incident.clone()))
            .collect()
    };
    for (id, desk, incident) in late {
        let working = Arc::clone(engine);
        let name = id.clone();
        let written = engine
            .tasks
            .spawn_blocking(move || working.relieve(working.write_down(&name, &desk)))
            .await;
        match written {
            Ok(Ok(_)) => engine.changed(incident),
            Ok(Err(error)) => {
                tracing::error!(incident = %id, %error, "cannot write to the incident's folder");
            }
            Err(_) => return,
        }
    }
}

async fn keep(engine: &Arc<Engine>) {
    let releasing: Vec<IncidentId> = engine.table().releasing.keys().cloned().collect();
    for id in releasing {
        if let Err(error) = engine.let_go(&id).await {
            tracing::warn!(incident = %id, %error, "cannot release");
        }
    }
    let working = Arc::clone(engine);
    let Ok(plan) = engine
        .tasks
        .spawn_blocking(move || take_stock(&working))
        .await
    else {
        return;
    };
    engine.evidence_bytes.store(plan.bytes, Ordering::Relaxed);
    if engine.full.swap(plan.full, Ordering::Relaxed) != plan.full && plan.full {
        tracing::error!(bytes = plan.bytes, "the evidence quota is used up");
    }
    for id in &plan.release {
        tracing::info!(incident = %id, "a precursor goes: its time is over or the quota is reached");
        if let Err(error) = engine.release(id, SELF).await {
            tracing::warn!(incident = %id, %error, "cannot release");
        }
    }
    let retired = engine.journal.retire(|id| {
        let table = engine.table();
        let item = table.items.get(id);
        !table.releasing.contains_key(id)
            && item.is_none_or(|i| i.incident.state == State::Sealed && !i.dirty)
    });
    if let Err(error) = retired {
        tracing::warn!(%error, "a journal file that is no longer needed stays");
    }
}

/// Keeps room back, and counts what every incident holds. Blocks.
fn take_stock(engine: &Engine) -> Plan {
    engine.reserve.hold();
    let items: Vec<_> = {
        let table = engine.table();
        let items = table.items.iter();
        items
            .map(|(id, item)| {
                let incident = &item.incident;
                let sealed = incident.state == State::Sealed;
                let kept = incident.sealed.map(|at| Timestamp::now().since(at));
                let drill = incident.trigger.kind == Kind::Drill;
                let keep = if drill {
                    engine.keep_drills
                } else {
                    engine.keep_precursors
                };
                let expired = kept.is_some_and(|kept| kept > keep);
                let known = item.blobs.clone();
                (id.clone(), (incident.grade, drill), sealed, expired, known)
            })
            .collect()
    };
    let mut holdings = Vec::new();
    for (id, (grade, drill), sealed, expired, known) in items {
        let blobs = known.unwrap_or_else(|| {
            let found = blobs(&engine.path(&id)).unwrap_or_default();
            if sealed && let Some(item) = engine.table().items.get_mut(&id) {
                item.blobs = Some(found.clone());
            }
            found
        });
        holdings.push(Holding {
            id,
            grade,
            drill,
            sealed,
            expired,
            blobs,
        });
    }
    plan(&holdings, engine.quota_bytes)
}
