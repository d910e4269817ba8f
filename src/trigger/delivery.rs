//! Handing triggers in, and holding on to them while the journal cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::maintenance::Effect;
use super::status::{Count, SourceHandle, SourceState};
use super::{Grade, Intake, Kind, Refused, Resolution, Trigger, cut};
use crate::time::Timestamp;

/// How long to wait before a refused trigger is offered again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often it is asked whether the maintenance that silenced a probe's fault is over.
const LOOK: Duration = Duration::from_secs(1);

/// The server is stopping before a trigger became durable: whoever sent it must not be told
/// that it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopping;

/// Why a trigger is not kept, although the journal works.
enum NotKept {
    /// There is no room; the text says why.
    Full(String),
    /// A maintenance window silences it; its name.
    Silenced(String),
}

/// Where a source delivers its triggers.
#[derive(Debug, Clone)]
pub struct Delivery {
    intake: Intake,
    handle: SourceHandle,
    stop: CancellationToken,
    /// Whether the last trigger found no room.
    full: Arc<AtomicBool>,
}

impl Delivery {
    /// A delivery for the source behind `handle`, given up when `stop` is cancelled.
    pub fn new(intake: Intake, handle: SourceHandle, stop: CancellationToken) -> Self {
        Self {
            intake,
            handle,
            stop,
            full: Arc::default(),
        }
    }

    /// The source's entry in the registry.
    pub fn handle(&self) -> &SourceHandle {
        &self.handle
    }

    /// Cancelled when the source must end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns once the trigger is durable. While the journal cannot be written it is offered
    /// again each second: the source stands still meanwhile, which is the back-pressure wanted.
    /// A precursor for which there is no room is counted as refused and let go, or a full quota
    /// would stop the source and with it the faults that still have room.
    pub async fn deliver(&self, trigger: Trigger) -> Result<(), Stopping> {
        match self.insist(|| self.intake.submit(trigger.clone())).await? {
            Ok(_) => {
                self.handle.triggered();
                if trigger.kind == Kind::Probe {
                    self.handle.observe(trigger.received.since(trigger.at));
                }
                if self.full.swap(false, Ordering::Relaxed) {
                    self.handle.set(SourceState::Ok, "");
                }
            }
            Err(NotKept::Silenced(window)) => self.silenced(trigger, &window),
            Err(NotKept::Full(why)) => {
                self.full.store(true, Ordering::Relaxed);
                self.handle.count(Count::Refused);
                if self.handle.set(SourceState::Failing, &why) {
                    tracing::warn!(source = self.handle.name(), "trigger not kept: {why}");
                }
            }
        }
        Ok(())
    }

    /// Returns once it is durable that an event is over, or that no incident cares. Insists as
    /// [`Delivery::deliver`] does.
    pub async fn resolve(&self, resolution: Resolution) -> Result<(), Stopping> {
        let resolved = self.insist(|| self.intake.resolve(resolution.clone()));
        if let Ok(Some(_)) = resolved.await? {
            self.handle.count(Count::Resolved);
        }
        Ok(())
    }

    /// Notes a trigger that a maintenance window silences. A probe tells a fault once: one that
    /// outlasts the maintenance is told at its end.
    fn silenced(&self, trigger: Trigger, window: &str) {
        self.handle.count(Count::Silenced);
        let (source, subject) = (self.handle.name(), trigger.subject.as_str());
        if self.handle.get(Count::Silenced) == 1 {
            tracing::info!(source, subject, window, "silenced by maintenance");
        } else {
            tracing::debug!(source, subject, window, "silenced by maintenance");
        }
        if trigger.kind == Kind::Probe && trigger.grade == Grade::Incident {
            let delivery = self.clone();
            let window = window.to_owned();
            tokio::spawn(async move {
                tokio::select! {
                    () = delivery.tell_afterwards(trigger, &window) => {}
                    () = delivery.stop.cancelled() => {}
                }
            });
        }
    }

    /// Waits until nothing silences the trigger, and hands it in if the source still fails.
    async fn tell_afterwards(&self, mut trigger: Trigger, window: &str) {
        let text = format!(
            "{}; since {}, silenced by {window}",
            trigger.text, trigger.at
        );
        cut(&text, super::TEXT_BYTES_MAX).clone_into(&mut trigger.text);
        loop {
            tokio::time::sleep(LOOK).await;
            if self.handle.status().state != SourceState::Failing {
                return;
            }
            trigger.at = Timestamp::now();
            trigger.received = trigger.at;
            let over = self.intake.maintenance().covering(&trigger);
            if over.is_some_and(|(_, effect)| effect == Effect::Silence) {
                continue;
            }
            if let Ok(Ok(_)) = self.insist(|| self.intake.submit(trigger.clone())).await {
                self.handle.triggered();
            }
            return;
        }
    }

    /// Offers something until it is durable. The inner error says why it is not kept.
    async fn insist<T, F>(&self, offer: impl Fn() -> F) -> Result<Result<T, NotKept>, Stopping>
    where
        F: Future<Output = Result<T, Refused>>,
    {
        let mut refused = false;
        loop {
            let answer = tokio::select! {
                answer = offer() => answer,
                () = self.stop.cancelled() => return Err(Stopping),
            };
            match answer {
                Ok(accepted) => {
                    if refused {
                        self.handle.set(SourceState::Ok, "");
                    }
                    return Ok(Ok(accepted));
                }
                Err(Refused::Stopping) => return Err(Stopping),
                Err(Refused::Full(why)) => return Ok(Err(NotKept::Full(why))),
                Err(Refused::Silenced(window)) => return Ok(Err(NotKept::Silenced(window))),
                Err(Refused::Journal(why)) => {
                    refused = true;
                    self.handle.count(Count::Refused);
                    let detail = format!("triggers cannot be journalled: {why}");
                    if self.handle.set(SourceState::Failing, detail) {
                        tracing::error!(
                            source = self.handle.name(),
                            "trigger not journalled, offering it again each second: {why}"
                        );
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = self.stop.cancelled() => return Err(Stopping),
            }
        }
    }

    /// Delivers all of them, side by side so that the journal can put many on disk with one
    /// fsync; in order where the journal keeps it.
    pub async fn deliver_all(&self, triggers: Vec<Trigger>) -> Result<(), Stopping> {
        join_all(triggers.into_iter().map(|trigger| self.deliver(trigger)))
            .await
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::maintenance::{Maintenance, MaintenanceConfig};
    use crate::trigger::status::Sources;
    use crate::trigger::{Accepted, Kind, Submission, TriggerAnswer};

    fn trigger(submission: Option<Submission>) -> (Box<Trigger>, TriggerAnswer) {
        match submission {
            Some(Submission::Trigger(trigger, answer)) => (trigger, answer),
            other => panic!("no trigger: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_refused_trigger_is_offered_until_it_is_durable() {
        let (intake, mut submissions) = Intake::new(4);
        let handle = Sources::default().register(Kind::Syslog, "x");
        let delivery = Delivery::new(intake, handle.clone(), CancellationToken::new());
        let now = Timestamp::from_ns(1);
        let event = Trigger::new(Kind::Syslog, "x", "s", "t", now, now);
        let task = tokio::spawn(async move { delivery.deliver(event).await });
        let (_, answer) = trigger(submissions.recv().await);
        answer
            .send(Err(Refused::Journal("disk full".to_owned())))
            .unwrap();
        let (second, answer) = trigger(submissions.recv().await);
        assert_eq!(second.subject, "s");
        answer
            .send(Ok(Accepted {
                incident: "i".to_owned(),
                joined: false,
            }))
            .unwrap();
        assert_eq!(task.await.unwrap(), Ok(()));
        assert_eq!(handle.status().triggers, 1);
        assert_eq!(handle.get(Count::Refused), 1);
    }

    #[tokio::test]
    async fn a_probe_that_still_fails_after_the_maintenance_is_told_then() {
        let (intake, mut submissions) = Intake::new(4);
        let from = Timestamp::now().minus(Duration::from_hours(1));
        let to = Timestamp::now().plus(Duration::from_millis(50));
        let config = MaintenanceConfig {
            name: "m".to_owned(),
            from: Some(from.to_string()),
            to: Some(to.to_string()),
            ..MaintenanceConfig::default()
        };
        let maintenance = Arc::new(Maintenance::new(&[config]).unwrap());
        let intake = intake.under(Arc::clone(&maintenance));
        let handle = Sources::default().register(Kind::Probe, "edge");
        let delivery = Delivery::new(intake, handle.clone(), CancellationToken::new());
        let now = Timestamp::now();
        let fault = Trigger::new(Kind::Probe, "edge", "probe edge", "lost", now, now);
        handle.set(SourceState::Failing, "3 of 5 lost");
        delivery.deliver(fault).await.unwrap();
        assert_eq!(handle.get(Count::Silenced), 1);
        assert_eq!(handle.status().triggers, 0);
        let (told, _answer) = trigger(submissions.recv().await);
        assert!(told.at >= to, "{} {to}", told.at);
        assert!(told.text.contains("silenced by m"), "{}", told.text);
    }

    #[tokio::test]
    async fn a_precursor_without_room_does_not_hold_up_what_follows() {
        let (intake, mut submissions) = Intake::new(4);
        let handle = Sources::default().register(Kind::Probe, "x");
        let delivery = Delivery::new(intake, handle.clone(), CancellationToken::new());
        let now = Timestamp::from_ns(1);
        let weak = Trigger::new(Kind::Probe, "x", "weak", "t", now, now);
        let fault = Trigger::new(Kind::Probe, "x", "fault", "t", now, now);
        let task = tokio::spawn(async move {
            delivery.deliver(weak).await?;
            delivery.deliver(fault).await
        });
        let (_, answer) = trigger(submissions.recv().await);
        let full = Refused::Full("the quota is used up".to_owned());
        answer.send(Err(full)).unwrap();
        let (second, answer) = trigger(submissions.recv().await);
        assert_eq!(second.subject, "fault");
        assert_eq!(handle.status().detail, "the quota is used up");
        let accepted = Accepted {
            incident: "i".to_owned(),
            joined: false,
        };
        answer.send(Ok(accepted)).unwrap();
        assert_eq!(task.await.unwrap(), Ok(()));
        assert_eq!(handle.status().triggers, 1);
        assert_eq!(handle.get(Count::Refused), 1);
        assert_eq!(handle.status().state, SourceState::Ok);
    }
}
