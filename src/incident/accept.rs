//! Takes submissions: decides in memory, journals a batch with one sync, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::engine::Engine;
use super::id::IncidentId;
use super::journal::Entry;
use super::table::{Settled, Taken};
use super::tend;
use crate::trigger::{Accepted, Refused, ResolutionAnswer, Submission, TriggerAnswer};

/// Submissions decided on at once: what arrives during one sync shares the next.
const BATCH: usize = 1024;

/// So many submissions at once are a crowd, of which more are on their way: they are gathered, since a
/// sync costs as much processor time as two calls.
const CROWD: usize = 8;
/// For how long. Callers that wait for their answers before they call again are slowed down by it:
/// fifty of them to some 13,000 calls a second.
const GATHER: Duration = Duration::from_millis(2);

/// Where an answer goes. A source that no longer waits for it loses nothing.
enum Answer {
    Trigger(TriggerAnswer),
    Resolution(ResolutionAnswer),
}

impl Answer {
    fn send(self, result: Result<Accepted, Refused>) {
        match self {
            Self::Trigger(answer) => drop(answer.send(result)),
            Self::Resolution(answer) => drop(answer.send(result.map(Some))),
        }
    }
}

/// Takes submissions until the engine stops.
pub(super) async fn run(engine: Arc<Engine>, mut submissions: mpsc::Receiver<Submission>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            count = submissions.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = engine.stop.cancelled() => return,
        }
        let crowd = batch.len() >= CROWD;
        take(&engine, &mut batch).await;
        if crowd {
            tokio::time::sleep(GATHER).await;
        }
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
            answer.send(Err(Refused::Journal(why.clone())));
        }
        return;
    }
    for (entry, ((id, joined, _), answer)) in entries.iter().zip(rest.into_iter().zip(answers)) {
        enact(engine, entry);
        answer.send(Ok(accepted(id, joined)));
    }
}

/// Makes a durable entry visible, and tends the incident it opened.
fn enact(engine: &Arc<Engine>, entry: &Entry) {
    let shown = engine.table().enact(entry);
    for incident in shown.changed {
        engine.changed(incident);
    }
    if let Some((id, incident)) = shown.opened {
        tracing::info!(incident = %id, subject = incident.subject, "incident opened");
        engine.changed(incident);
        tend::spawn(engine, id);
    }
}

fn accepted(id: IncidentId, joined: bool) -> Accepted {
    Accepted {
        incident: id.into(),
        joined,
    }
}

/// Decides on a batch; what needs no entry in the journal is answered at once.
fn decide(engine: &Engine, batch: &mut Vec<Submission>) -> (Vec<Taken>, Vec<Answer>) {
    let full = engine.full.load(Ordering::Relaxed);
    let (mut all, mut answers) = (Vec::new(), Vec::new());
    let mut table = engine.table();
    for submission in batch.drain(..) {
        match submission {
            Submission::Trigger(trigger, answer) => {
                if let Some(taken) = table.take(*trigger, full) {
                    all.push(taken);
                    answers.push(Answer::Trigger(answer));
                } else {
                    let why = "the evidence quota is used up, new precursors are not kept";
                    drop(answer.send(Err(Refused::Full(why.to_owned()))));
                }
            }
            Submission::Resolution(resolution, answer) => match table.settle(*resolution) {
                Settled::Nothing => drop(answer.send(Ok(None))),
                Settled::Known(id) => drop(answer.send(Ok(Some(accepted(id, true))))),
                Settled::Taken(taken) => {
                    all.push(*taken);
                    answers.push(Answer::Resolution(answer));
                }
            },
        }
    }
    (all, answers)
}
