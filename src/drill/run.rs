//! One drill, from its mark to the evidence that is read back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::record::{Done, Drill, Outcome, Step};
use super::{Drills, Shared, canary, send};
use crate::incident::manifest::SEGMENTS_DIR;
use crate::incident::model::{Incident, State};
use crate::incident::{Change, verify};
use crate::time::{Timestamp, Window};
use crate::trigger::Kind;
use crate::trigger::drill::{Issued, MARK_FIELD};

/// How often the incident is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The clocks of sender and capture are one, their stamps are not.
const MARGIN: Duration = Duration::from_secs(1);

/// Why a drill did not get on: the step that was not reached, and the reason.
type Fault = (Step, String);

/// Runs a drill to its end, and says how it ended.
pub(super) async fn run(drills: Drills, place: usize, drill: Drill) {
    let shared = Arc::clone(&drills.shared);
    let Ok(_room) = shared.room.acquire().await else {
        return;
    };
    let mut running = Running {
        began: Instant::now(),
        drills,
        drill,
    };
    running.drill.started = Timestamp::now();
    running.save().await;
    let stop = running.drills.shared.stop.clone();
    let ended = tokio::select! {
        ended = running.through(place) => ended,
        () = stop.cancelled() => {
            // The history says so at the next start.
            return;
        }
    };
    running.end(ended).await;
}

struct Running {
    drills: Drills,
    drill: Drill,
    began: Instant,
}

/// What a drill sent, and when.
struct Sent {
    issued: Issued,
    at: Timestamp,
    /// Whether a datagram went to where the configuration says.
    canary: bool,
    /// The sending, which must not be broken off: a hook that loses its caller forgets its call.
    sending: Option<JoinHandle<Result<String, String>>>,
}

impl Running {
    async fn through(&mut self, place: usize) -> Result<(), Fault> {
        let shared = Arc::clone(&self.drills.shared);
        let config = &shared.config;
        let target = shared.targets.get(place);
        let target = target.ok_or((Step::Sent, "there is no such source".to_owned()))?;
        let window = (config.before, config.after);
        let issued = shared.marks.issue(target.kind, &target.name, window);
        let issued = issued.map_err(|error| (Step::Sent, format!("no random number: {error}")))?;
        let mut changes = shared.incidents.subscribe();
        let mut sent = Sent {
            issued,
            at: Timestamp::now(),
            canary: false,
            sending: None,
        };
        let patience = config.within + config.after;
        let deadline = self.began + patience;
        self.send_canary(&mut sent).await?;
        self.heard(place, &mut sent, deadline).await?;
        let id = self.journalled(&mut sent, &mut changes, deadline).await?;
        self.frozen(&id, deadline).await?;
        let sealed = self.sealed(&id, deadline).await?;
        let folder = shared.incidents.folder(&id);
        let gone = || {
            (
                Step::Verified,
                format!("incident {id} is gone: at the quota drills go first"),
            )
        };
        let folder = folder.ok_or_else(gone)?;
        self.verified(&folder, deadline).await?;
        self.sighted(&folder, &sealed, &sent, deadline).await
    }

    async fn send_canary(&mut self, sent: &mut Sent) -> Result<(), Fault> {
        let Some(to) = self.drills.shared.config.canary else {
            return Ok(());
        };
        let words = canary_words(&sent.issued.mark);
        let done = send::canary(to, &words).await;
        sent.canary = true;
        done.map_err(|why| (Step::Sent, format!("drill.canary: {why}")))
    }

    /// Sends the mark and waits until its source heard it.
    async fn heard(
        &mut self,
        place: usize,
        sent: &mut Sent,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.drills.shared);
        let mark = sent.issued.mark.clone();
        let is_manual = self.drill.kind == Kind::Manual;
        let mut sending = tokio::spawn(begin(shared, place, mark.clone(), deadline));
        let mut left = false;
        loop {
            tokio::select! {
                biased;
                done = &mut sending, if !left => match done.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(detail) => {
                        left = true;
                        self.done(Step::Sent, &detail);
                    }
                    Err(why) if is_manual && why.contains("ermission denied") => {
                        left = true;
                        self.hand_in(&mark).await?;
                    }
                    Err(why) => return Err((Step::Sent, why)),
                },
                heard = &mut sent.issued.heard => {
                    if !left {
                        // It answers only when the trigger is durable.
                        self.done(Step::Sent, "");
                        sent.sending = Some(sending);
                    }
                    return match heard {
                        Ok(Ok(_)) => {
                            self.done(Step::Recognised, "");
                            Ok(())
                        }
                        Ok(Err(why)) => Err((Step::Sent, why)),
                        Err(_) => Err((Step::Recognised, "its mark was forgotten".to_owned())),
                    };
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    let step = if left { Step::Recognised } else { Step::Sent };
                    let what = if left {
                        "it was sent, but its source did not hear it"
                    } else {
                        "it could not be sent"
                    };
                    return Err((step, self.in_time(what)));
                }
            }
        }
    }

    /// A server that gave up root may not open its own socket.
    async fn hand_in(&mut self, mark: &str) -> Result<(), Fault> {
        let shared = Arc::clone(&self.drills.shared);
        let detail = "handed in here: this server's user may not open the socket that it serves";
        self.done(Step::Sent, detail);
        let name = Kind::Manual.to_string();
        let now = Timestamp::now();
        let heard = shared.marks.hear(Kind::Manual, &name, mark.as_bytes(), now);
        let trigger = heard.ok_or((Step::Recognised, "its mark was not known".to_owned()))?;
        let intake = shared.incidents.intake();
        let taken = intake.submit(trigger).await;
        taken
            .map(drop)
            .map_err(|why| (Step::Journalled, why.to_string()))
    }

    /// Waits for the incident that the mark opened.
    async fn journalled(
        &mut self,
        sent: &mut Sent,
        changes: &mut broadcast::Receiver<Change>,
        deadline: Instant,
    ) -> Result<String, Fault> {
        let incidents = self.drills.shared.incidents.clone();
        let mark = sent.issued.mark.clone();
        let ours = |one: &Incident| one.fields.get(MARK_FIELD) == Some(&mark);
        loop {
            let change = tokio::select! {
                change = tokio::time::timeout_at(deadline.into(), changes.recv()) => change,
                answer = answered(&mut sent.sending) => match answer {
                    Ok(_) => continue,
                    Err(why) => return Err((Step::Journalled, why)),
                },
            };
            let found = match change {
                Err(_) => {
                    let what = "its source heard it, but no incident was opened";
                    let full = incidents
                        .problems()
                        .into_iter()
                        .find(|one| one.contains("quota"));
                    let why = full.unwrap_or_else(|| self.in_time(what));
                    return Err((Step::Journalled, why));
                }
                Ok(Ok(Change::Incident(incident) | Change::Sealed(incident))) => {
                    ours(&incident).then(|| incident.id.clone())
                }
                Ok(Ok(Change::Released(_))) => None,
                Ok(Err(RecvError::Lagged(_))) => {
                    incidents.list().into_iter().find(ours).map(|one| one.id)
                }
                Ok(Err(RecvError::Closed)) => {
                    return Err((Step::Journalled, "the server is stopping".to_owned()));
                }
            };
            if let Some(id) = found {
                self.drill.incident = Some(id.clone());
                self.done(Step::Journalled, "");
                return Ok(id);
            }
        }
    }

    /// Waits until the recorder linked packets, or said that there are none.
    async fn frozen(&mut self, id: &str, deadline: Instant) -> Result<(), Fault> {
        let incidents = self.drills.shared.incidents.clone();
        let linked = || {
            let collected = incidents.get(id)?.state != State::Collecting;
            let folder = incidents.folder(id)?;
            (collected || is_linked(&folder.join(SEGMENTS_DIR))).then_some(())
        };
        if until(deadline, linked).await.is_none() {
            let why = self.waiting(id, "the recorder linked no packets");
            return Err((Step::Frozen, why));
        }
        self.done(Step::Frozen, "");
        Ok(())
    }

    async fn sealed(&mut self, id: &str, deadline: Instant) -> Result<Incident, Fault> {
        let incidents = self.drills.shared.incidents.clone();
        let sealed = || incidents.get(id).filter(|one| one.state == State::Sealed);
        let Some(incident) = until(deadline, sealed).await else {
            let why = self.waiting(id, "the incident was not sealed");
            return Err((Step::Sealed, why));
        };
        if incident.packets == 0 {
            let reasons = incident.completeness.reasons.iter();
            let reasons: Vec<&str> = reasons.map(|one| one.text.as_str()).collect();
            let note = format!("no packet passed in its window: {}", reasons.join("; "));
            self.drill.notes.push(note);
        }
        let detail = format!("{} packets", incident.packets);
        self.done(Step::Sealed, &detail);
        Ok(incident)
    }

    async fn verified(&mut self, folder: &Path, deadline: Instant) -> Result<(), Fault> {
        let path = folder.to_owned();
        let verifying = tokio::task::spawn_blocking(move || verify(&path));
        let verifying = tokio::time::timeout_at(deadline.into(), verifying).await;
        let wrong = |why: String| (Step::Verified, why);
        let verified =
            verifying.map_err(|_| wrong(self.in_time("the evidence was not read back")))?;
        let report = verified.map_err(|error| wrong(error.to_string()))?;
        let report = report.map_err(|error| wrong(error.to_string()))?;
        let problems = report.incidents.iter().flat_map(|one| &one.problems);
        let problems: Vec<String> = problems
            .map(|one| format!("{}: {}", one.file, one.what))
            .collect();
        if !problems.is_empty() || report.incidents.is_empty() {
            let problems = problems.join("; ");
            return Err(wrong(format!("the evidence does not verify: {problems}")));
        }
        let segments: u64 = report.incidents.iter().map(|one| one.segments).sum();
        self.done(Step::Verified, &format!("{segments} segments"));
        Ok(())
    }

    /// Looks for the marked packet: it must be there when one was sent to where the configuration
    /// says, else it is said whether the drill's own packets are.
    async fn sighted(
        &mut self,
        folder: &Path,
        incident: &Incident,
        sent: &Sent,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let mark = &sent.issued.mark;
        let words = if sent.canary {
            canary_words(mark)
        } else {
            mark.clone()
        };
        let span = Window::new(sent.at.minus(MARGIN), Timestamp::now());
        let window = incident.window.intersect(&span).unwrap_or(span);
        let segments: PathBuf = folder.join(SEGMENTS_DIR);
        let (stop, at) = (CancellationToken::new(), sent.at);
        let given_up = stop.clone();
        let looking =
            tokio::task::spawn_blocking(move || canary::find(&segments, window, &words, at, &stop));
        let looked = tokio::time::timeout_at(deadline.into(), looking).await;
        given_up.cancel();
        let wrong = |why: String| (Step::Canary, why);
        let late = |_| wrong(self.in_time("the marked packet was not found"));
        let found = looked
            .map_err(late)?
            .map_err(|error| wrong(error.to_string()))?
            .map_err(|error| wrong(error.to_string()))?;
        let Some(found) = found else {
            if sent.canary {
                let to = self.drills.shared.config.canary;
                let to = to.map(|to| to.to_string()).unwrap_or_default();
                return Err(wrong(format!(
                    "the marked datagram to {to} is not among the frozen packets: does the way there lead over a recorded interface, and does the capture filter let it pass?"
                )));
            }
            let note = "no marked packet was looked for on the wire: drill.canary names no address";
            self.drill.notes.push(note.to_owned());
            return Ok(());
        };
        let detail = found.interface.clone();
        self.drill.sighting = Some(found);
        self.done(Step::Canary, &detail);
        Ok(())
    }

    /// Why an incident does not get on.
    fn waiting(&self, id: &str, what: &str) -> String {
        let incident = self.drills.shared.incidents.get(id);
        let reasons = incident.map(|one| one.completeness.reasons);
        let reasons: Vec<String> = reasons
            .unwrap_or_default()
            .into_iter()
            .map(|reason| reason.text)
            .collect();
        let what = self.in_time(what);
        if reasons.is_empty() {
            what
        } else {
            format!("{what}: {}", reasons.join("; "))
        }
    }

    fn in_time(&self, what: &str) -> String {
        let config = &self.drills.shared.config;
        let span = humantime::format_duration(config.within + config.after);
        format!("{what} within {span}")
    }

    fn done(&mut self, step: Step, detail: &str) {
        self.drill.steps.push(Done {
            step,
            after_ns: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            detail: detail.to_owned(),
        });
        self.tell();
    }

    fn tell(&self) {
        self.drills.history().put(self.drill.clone());
        // Nobody watching is fine.
        let _watched = self.drills.shared.changes.send(self.drill.clone());
    }

    async fn end(&mut self, ended: Result<(), Fault>) {
        let drill = &mut self.drill;
        drill.ended = Some(drill.started.plus(self.began.elapsed()));
        let source = drill.source.clone();
        match ended {
            Ok(()) => {
                drill.outcome = Outcome::Passed;
                tracing::info!(source, "drill passed");
            }
            Err((step, why)) => {
                tracing::warn!(source, step = step.name(), "drill failed: {why}");
                drill.outcome = Outcome::Failed;
                drill.failed_at = Some(step);
                drill.why = Some(why);
            }
        }
        let result = if drill.outcome == Outcome::Passed {
            "passed"
        } else {
            "failed"
        };
        let kind = drill.kind;
        {
            let ended = &self.drills.shared.ended;
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            *ended.entry((kind, result)).or_default() += 1;
        }
        self.save().await;
    }

    /// Makes the drill as it stands durable. That this fails is no reason to fail the drill.
    async fn save(&mut self) {
        let (drills, drill) = (self.drills.clone(), self.drill.clone());
        let saved = tokio::task::spawn_blocking(move || drills.write(&drill)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "the history of drills cannot be written");
        }
        self.tell();
    }
}

/// Sends, however long the drill waits for it, but not for ever.
async fn begin(
    shared: Arc<Shared>,
    place: usize,
    mark: String,
    deadline: Instant,
) -> Result<String, String> {
    let target = shared.targets.get(place).ok_or("there is no such source")?;
    let way = target.way.as_ref().map_err(String::clone)?;
    let sending = send::send(way, &mark, &shared.doors);
    let sent = tokio::time::timeout_at(deadline.into(), sending).await;
    sent.map_err(|_| "no answer in time".to_owned())?
}

/// What came of a sending that is still under way; never, when there is none.
async fn answered(
    sending: &mut Option<JoinHandle<Result<String, String>>>,
) -> Result<String, String> {
    let Some(under_way) = sending else {
        return std::future::pending().await;
    };
    let done = under_way.await;
    *sending = None;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

fn canary_words(mark: &str) -> String {
    format!("canary {mark}")
}

/// What `look` finds, asked again and again; `None` when it found nothing in time.
async fn until<T>(deadline: Instant, look: impl Fn() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the recorder linked a segment of any interface.
fn is_linked(segments: &Path) -> bool {
    let list = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    list(segments).any(|interface| list(&interface.path()).next().is_some())
}
