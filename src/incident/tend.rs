//! Tends one incident from its opening until it is sealed: pins its window with the recorder,
//! writes down who joins, seals. Every step is repeated until it succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::custody::{Act, SELF};
use super::engine::{Change, Engine};
use super::explain::reason;
use super::id::IncidentId;
use super::manifest::{ChainHead, FORMAT, Manifest, RecorderFacts, VERSION};
use super::model::{Incident, Reason, State};
use super::seal::{self, Inspected};
use super::table::Desk;
use crate::error::IoError;
use crate::recorder::protocol::RecorderStatus;
use crate::time::{Timestamp, Window};

/// While collecting, the pin is repeated this often: a restarted recorder learns of it again.
const PIN_AGAIN: Duration = Duration::from_secs(5);
/// The least time between two rounds that joining triggers cause.
const ROUND: Duration = Duration::from_secs(1);
/// So many incidents at once are a crowd.
const CROWD: usize = 64;
/// The longest that what joined stays in the journal alone while a crowd is tended.
const UNWRITTEN: Duration = Duration::from_mins(1);
/// After the window's end, how soon the recorder is asked again.
const SOON: Duration = Duration::from_millis(100);
/// How far behind the end of a window the recorder looks for packets out of order, with a margin.
const SETTLE: Duration = Duration::from_millis(150);
/// Failures are retried after this, doubled each time up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Starts the task of an incident.
pub(super) fn spawn(engine: &Arc<Engine>, id: IncidentId) {
    let task = tend(Arc::clone(engine), id);
    engine.tasks.spawn(task);
}

/// How far the folder is.
#[derive(Debug)]
struct Notes {
    /// When what joined was last written down.
    written: Option<Instant>,
    /// Whether the recorder was asked for it before, if need be by a server that died since.
    pinned: bool,
}

impl Notes {
    /// Whether it is time again, with so many incidents at once.
    fn are_due(&self, incidents: usize) -> bool {
        self.written
            .is_none_or(|at| at.elapsed() >= unwritten(incidents))
    }
}

/// How a round ended.
enum Round {
    /// Nothing to do until then, or until somebody joins.
    Wait(Duration),
    /// It failed.
    Retry(Reason),
    /// Sealed, or gone.
    Done,
}

async fn tend(engine: Arc<Engine>, id: IncidentId) {
    let mut backoff = BACKOFF;
    let mut shown = 1;
    let mut notes = Notes {
        written: None,
        pinned: engine.path(&id).is_dir(),
    };
    loop {
        let Some((incident, desk, wake)) = engine.table().items.get(&id).map(|item| {
            (
                item.incident.clone(),
                Arc::clone(&item.desk),
                Arc::clone(&item.wake),
            )
        }) else {
            return;
        };
        if incident.triggers > std::mem::replace(&mut shown, incident.triggers) {
            engine.changed(incident.clone());
        }
        let round = tokio::select! {
            round = round(&engine, &id, incident, desk, &mut notes) => round,
            () = engine.stop.cancelled() => return,
        };
        let (delay, news) = match round {
            Round::Done => return,
            Round::Wait(delay) => {
                backoff = BACKOFF;
                (delay, engine.table().explain(&id, None))
            }
            Round::Retry(why) => {
                let delay = backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                (delay, engine.table().explain(&id, Some(why)))
            }
        };
        if let Some(incident) = news {
            if let Some(why) = incident.completeness.reasons.first() {
                tracing::warn!(incident = %id, "{}", why.text);
            }
            engine.changed(incident);
        }
        let joined = async {
            wake.notified().await;
            tokio::time::sleep(pause(engine.tasks.len())).await;
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = joined => {}
            () = engine.stop.cancelled() => return,
        }
    }
}

/// How long after a round triggers that join bring about the next: each second, and in a crowd of
/// incidents less often.
fn pause(incidents: usize) -> Duration {
    let crowd = u32::try_from(incidents / CROWD).unwrap_or(u32::MAX);
    ROUND.saturating_mul(crowd.max(1)).min(PIN_AGAIN)
}

/// How long the folder may lack what joined: of a few incidents no longer than a round, of a crowd up
/// to [`UNWRITTEN`], so that a storm over many subjects leaves the disk to the journal, where all of
/// it is already. The seal writes what is left.
fn unwritten(incidents: usize) -> Duration {
    let crowd = u32::try_from(incidents / CROWD).unwrap_or(u32::MAX);
    ROUND.saturating_mul(crowd.saturating_mul(4)).min(UNWRITTEN)
}

async fn round(
    engine: &Arc<Engine>,
    id: &IncidentId,
    incident: Incident,
    desk: Desk,
    notes: &mut Notes,
) -> Round {
    match incident.state {
        State::Collecting => collect(engine, id, incident, desk, notes).await,
        State::Sealing => match seal(engine, id, incident.window, desk).await {
            Ok(Outcome::NotYet) => Round::Wait(SETTLE),
            Ok(Outcome::Sealed(sealed)) => {
                let sealed = *sealed;
                tracing::info!(incident = %id, packets = sealed.packets, "incident sealed");
                engine.changed(sealed.clone());
                engine.announce(Change::Sealed(Box::new(sealed)));
                engine.house.notify_one();
                Round::Done
            }
            Ok(Outcome::Gone) => Round::Done,
            Err(text) => Round::Retry(reason("seal_failed", None, &text)),
        },
        State::Sealed => Round::Done,
    }
}

async fn collect(
    engine: &Arc<Engine>,
    id: &IncidentId,
    incident: Incident,
    desk: Desk,
    notes: &mut Notes,
) -> Round {
    let window = incident.window;
    // In a flood, pins that are repeated must not keep new incidents from theirs: the ring rotates.
    let queue = if notes.pinned {
        &engine.calls
    } else {
        &engine.first_calls
    };
    let Ok(_room) = queue.acquire().await else {
        return Round::Done;
    };
    let over = Timestamp::now() >= window.to;
    let due = notes.are_due(engine.tasks.len());
    let working = Arc::clone(engine);
    let name = id.clone();
    let worked = engine.tasks.spawn_blocking(move || {
        let pinned = working.relieve(working.recorder.pin(name.as_str(), window));
        // What joined is written down even while the recorder is away, once there is a folder.
        let written = due.then(|| working.relieve(working.write_down(&name, &desk)));
        (pinned, written)
    });
    let Ok((pinned, written)) = worked.await else {
        return Round::Wait(BACKOFF);
    };
    match written {
        Some(Ok(true)) => notes.written = Some(Instant::now()),
        Some(Err(error)) => {
            tracing::error!(incident = %id, %error, "cannot write to the incident's folder");
        }
        Some(Ok(false)) | None => {}
    }
    notes.pinned |= pinned.is_ok();
    match pinned {
        Err(error) => Round::Retry(reason("recorder_unreachable", None, &error.to_string())),
        Ok(report) if report.complete && over => {
            let mut table = engine.table();
            if table.close(id, &window) {
                let incident = table.items.get(id).map(|item| item.incident.clone());
                drop(table);
                if let Some(incident) = incident {
                    engine.changed(incident);
                }
                return Round::Wait(Duration::ZERO);
            }
            Round::Wait(ROUND)
        }
        Ok(_) if over => Round::Wait(SOON),
        Ok(_) => {
            if incident.triggers > 1 {
                let now = engine
                    .table()
                    .items
                    .get(id)
                    .map(|item| item.incident.clone());
                if let Some(now) = now {
                    engine.changed(now);
                }
            }
            let left = window.to.since(Timestamp::now());
            Round::Wait((left + Duration::from_millis(10)).min(PIN_AGAIN))
        }
    }
}

/// What came of a seal.
enum Outcome {
    /// It is done.
    Sealed(Box<Incident>),
    /// The recorder still writes to a linked segment.
    NotYet,
    /// There is no such incident any more.
    Gone,
}

async fn seal(
    engine: &Arc<Engine>,
    id: &IncidentId,
    window: Window,
    desk: Desk,
) -> Result<Outcome, String> {
    let Ok(_turn) = engine.seals.acquire().await else {
        return Ok(Outcome::Gone);
    };
    let working = Arc::clone(engine);
    let name = id.clone();
    let worked = engine
        .tasks
        .spawn_blocking(move || working.relieve(seal_now(&working, &name, &window, &desk)));
    match worked.await {
        Ok(sealed) => sealed.map_err(|error| format!("sealing failed: {error}")),
        Err(error) => Err(format!("sealing failed: {error}")),
    }
}

/// The blocking part of sealing.
fn seal_now(
    engine: &Engine,
    id: &IncidentId,
    window: &Window,
    desk: &Desk,
) -> Result<Outcome, IoError> {
    let path = engine.path(id);
    let finished = engine.at_desk(id, desk, |folder| seal::publish(folder))?;
    if finished != Some(true) {
        if let Some(opened) = seal::unfinished(&path, &engine.ring)? {
            end_segment(engine, id, window, opened);
            return Ok(Outcome::NotYet);
        }
        // So that the accounting reaches the window's end, if it does not yet.
        if let Err(error) = engine.recorder.flush() {
            tracing::warn!(incident = %id, %error, "the last second may have no line of accounting");
        }
        let recorder = engine.recorder.status().ok();
        let interfaces = recorder.as_ref().map_or(&[][..], |r| &r.interfaces);
        let clock = (engine.clock)();
        let ring = &engine.ring;
        let stop = &engine.stop;
        let inspected = seal::inspect(&path, ring, window, interfaces, &clock, stop)?;
        engine.at_desk(id, desk, |folder| {
            let Some(item) = engine.table().items.get_mut(id).map(|item| {
                let pending = std::mem::take(&mut item.pending);
                (item.incident.clone(), item.dedup_keys.clone(), pending)
            }) else {
                return Ok(());
            };
            let (incident, keys, pending) = item;
            if let Err(error) = folder.add(&pending) {
                engine.put_back(id, pending);
                return Err(error);
            }
            let bytes: u64 = inspected.segments.iter().map(|s| s.size_bytes).sum();
            let frozen = format!(
                "{} segments, {bytes} bytes, read back",
                inspected.segments.len()
            );
            folder.note(Act::new(SELF, "frozen", &frozen))?;
            let manifest = Manifest {
                format: FORMAT.to_owned(),
                version: VERSION,
                software: format!("wirewitness {}", env!("CARGO_PKG_VERSION")),
                host: rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned(),
                incident: sealed_incident(incident, &inspected),
                segments: inspected.segments,
                accounting: inspected.accounting,
                clock,
                recorder: recorder.as_ref().map(facts),
                timeline: ChainHead {
                    lines: folder.timeline.lines,
                    hash: folder.timeline.hash.clone(),
                },
                custody: ChainHead {
                    lines: folder.custody.lines,
                    hash: folder.custody.hash.clone(),
                },
                dedup_keys: keys.into_iter().collect(),
                signed_by: engine.signer.public().fingerprint(),
            };
            seal::prepare(folder, &manifest, &engine.signer)?;
            seal::publish(folder).map(|_| ())
        })?;
    }
    let manifest = Manifest::read(&path).map_err(|error| {
        IoError::new(
            "read the manifest in",
            &path,
            std::io::Error::other(error.to_string()),
        )
    });
    let (manifest, _) = manifest?;
    let sealed = engine.table().sealed(id, manifest);
    Ok(sealed.map_or(Outcome::Gone, |incident| {
        Outcome::Sealed(Box::new(incident))
    }))
}

/// Has the recorder end a segment that was `opened` about when the window ended. Not before
/// [`SETTLE`] has passed, or the segment that follows it would be linked in its stead.
fn end_segment(engine: &Engine, id: &IncidentId, window: &Window, opened: Timestamp) {
    if Timestamp::now() < opened.plus(SETTLE) {
        return;
    }
    let behind = opened.plus(Duration::from_nanos(1));
    let wider = Window::new(window.from, window.to.max(behind));
    if let Err(error) = engine.recorder.pin(id.as_str(), wider) {
        tracing::warn!(incident = %id, %error, "a linked segment is still being written");
    }
}

fn sealed_incident(mut incident: Incident, inspected: &Inspected) -> Incident {
    incident.state = State::Sealed;
    incident.sealed = Some(Timestamp::now());
    incident.covered = inspected.covered();
    incident.packets = inspected.interfaces.iter().map(|share| share.packets).sum();
    incident.bytes = inspected.interfaces.iter().map(|share| share.bytes).sum();
    incident.completeness = inspected.completeness.clone();
    incident.interfaces.clone_from(&inspected.interfaces);
    incident
}

fn facts(status: &RecorderStatus) -> RecorderFacts {
    RecorderFacts {
        version: status.version.clone(),
        started: status.started,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_incidents_takes_turns() {
        let seconds = [0, 1, 127, 128, 200, 1000, usize::MAX].map(|n| pause(n).as_secs());
        assert_eq!(seconds, [1, 1, 1, 2, 3, 5, 5]);
        let seconds = [0, 1, 63, 64, 200, 1000, usize::MAX].map(|n| unwritten(n).as_secs());
        assert_eq!(seconds, [0, 0, 0, 4, 12, 60, 60]);
    }
}
