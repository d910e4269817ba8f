//! Takes submissions: decides in memory, journals a batch with one sync, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use super::engine::Engine;
use super::journal::Entry;
use super::table::Taken;
use super::tend;
use crate::trigger::{Accepted, Refused, Submission};

/// Submissions decided on at once: what arrives during one sync shares the next.
const BATCH: usize = 1024;

type Answer = oneshot::Sender<Result<Accepted, Refused>>;

/// Takes submissions until the engine stops.
pub(super) async fn run(engine: Arc<Engine>, mut submissions: mpsc::Receiver<Submission>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            count = submissions.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = engine.stop.cancelled() => return,
        }
        take(&engine, &mut batch).await;
    }
}

async fn take(engine: &Arc<Engine>, batch: &mut Vec<Submission>) {
    let (taken, answers) = decide(engine, batch);
    let (entries, rest): (Vec<Entry>, Vec<_>) = taken
        .into_iter()
        .map(|taken| (taken.entry, (taken.id, taken.joined, taken.undo)))
        .unzip();
    if entries.is_empty() {
        return;
    }
    if let Err(why) = engine.journalise(&entries).await {
        tracing::error!(why, triggers = entries.len(), "triggers refused");
        let mut table = engine.table();
        for (_, _, undo) in rest.into_iter().rev() {
            table.undo(undo);
        }
        drop(table);
        for answer in answers {
            drop(answer.send(Err(Refused::Journal(why.clone()))));
        }
        return;
    }
    for (entry, ((id, joined, _), answer)) in entries.iter().zip(rest.into_iter().zip(answers)) {
        if let Entry::Trigger {
            number,
            window,
            trigger,
            ..
        } = entry
        {
            let opened = engine.table().record(&id, *number, *window, trigger);
            if let Some(incident) = opened {
                tracing::info!(incident = %id, subject = incident.subject, "incident opened");
                engine.changed(incident);
                tend::spawn(engine, id.clone());
            }
        }
        let accepted = Accepted {
            incident: id.into(),
            joined,
        };
        // A source that no longer waits loses nothing.
        drop(answer.send(Ok(accepted)));
    }
}

fn decide(engine: &Engine, batch: &mut Vec<Submission>) -> (Vec<Taken>, Vec<Answer>) {
    let full = engine.full.load(Ordering::Relaxed);
    let (mut all, mut answers) = (Vec::new(), Vec::new());
    let mut table = engine.table();
    for Submission { trigger, answer } in batch.drain(..) {
        if let Some(taken) = table.take(trigger, full) {
            all.push(taken);
            answers.push(answer);
        } else {
            let why = "the evidence quota is used up, new precursors are not kept";
            drop(answer.send(Err(Refused::Full(why.to_owned()))));
        }
    }
    (all, answers)
}
