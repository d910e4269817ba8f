//! All incidents in memory: what lists show, what is still to be written, what is being released.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::custody::TimelineLine;
use super::decide::{Decision, Ending, KEYS_MAX, Ledger, Life, Undo, instant};
use super::folder::{Folder, Live};
use super::id::IncidentId;
use super::journal::Entry;
use super::manifest::Manifest;
use super::model::{
    Completeness, FirstSign, Incident, Note, Reason, State, TriggerSummary, Verdict,
};
use super::retention::Blob;
use crate::time::{Timestamp, Window};
use crate::trigger::{Grade, Resolution, Trigger};

/// Triggers an incident shows in its own timeline; the rest are in `timeline.jsonl`.
const TIMELINE_MAX: usize = 100;
/// Timeline lines that may wait to be written; further triggers are counted in the last one.
const PENDING_MAX: usize = 1000;
/// Lines of triggers with one of their own each, about; then one line stands for all that came
/// between two writes, so that a storm of an hour is still a page.
const LINES_MAX: u64 = 2000;
/// Triggers of an incident whose bodies are kept: the first tell what it was.
const BODIES_MAX: u64 = 20;

/// An incident's folder, opened when it is first written to. Held while writing, never while
/// hashing.
pub(super) type Desk = Arc<Mutex<Option<Folder>>>;

/// One incident.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) incident: Incident,
    pub(super) dedup_keys: BTreeSet<String>,
    /// Triggers not yet in `timeline.jsonl`.
    pub(super) pending: Vec<TimelineLine>,
    /// Whether anything changed since it was last written.
    pub(super) dirty: bool,
    pub(super) desk: Desk,
    /// Wakes the task that tends it.
    pub(super) wake: Arc<Notify>,
    /// What it holds, once that no longer changes.
    pub(super) blobs: Option<Vec<Blob>>,
}

impl Item {
    fn new(incident: Incident, dedup_keys: BTreeSet<String>) -> Self {
        Self {
            incident,
            dedup_keys,
            pending: Vec::new(),
            dirty: true,
            desk: Desk::default(),
            wake: Arc::default(),
            blobs: None,
        }
    }

    /// Counts a trigger in, or takes a note.
    fn add(&mut self, line: TimelineLine, key: Option<String>) {
        let incident = &mut self.incident;
        if line.note.is_none() && incident.is_promoted_by(line.grade) {
            incident.first_sign = Some(FirstSign {
                at: incident.trigger.at,
                incident: incident.id.clone(),
            });
        }
        incident.triggers = incident.triggers.max(line.last_number());
        if line.grade == Grade::Incident {
            incident.grade = Grade::Incident;
        }
        if line.note == Some(Note::Resolved) {
            incident.resolved = incident.resolved.max(Some(line.received));
        }
        if incident.timeline.len() < TIMELINE_MAX {
            incident.timeline.push(line.entry());
        }
        if line.number <= KEYS_MAX {
            self.dedup_keys.extend(key);
        }
        self.dirty = true;
        let room = if line.number > LINES_MAX {
            1
        } else {
            PENDING_MAX
        };
        let full = self.pending.len() >= room;
        match self.pending.last_mut() {
            Some(last) if full && line.note.is_none() && last.note.is_none() => {
                last.count += line.count;
            }
            _ => self.pending.push(line),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) ledger: Ledger,
    pub(super) items: BTreeMap<IncidentId, Item>,
    /// Being released, and who asked.
    pub(super) releasing: BTreeMap<IncidentId, String>,
    /// Folders that must not be made again: released, or sealed and not readable.
    pub(super) untouchable: BTreeSet<IncidentId>,
    /// What people should know.
    pub(super) problems: Vec<String>,
}

/// A trigger decided on but not yet durable.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) entry: Entry,
    pub(super) id: IncidentId,
    pub(super) joined: bool,
    pub(super) undo: Undo,
}

/// What became of a resolution.
#[derive(Debug)]
pub(super) enum Settled {
    /// No incident that it concerns.
    Nothing,
    /// That the incident is over is known.
    Known(IncidentId),
    /// Decided on but not yet durable.
    Taken(Box<Taken>),
}

/// What an entry that became durable shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The incident it opened.
    pub(super) opened: Option<(IncidentId, Incident)>,
    /// Incidents it changed in a way that people should see at once.
    pub(super) changed: Vec<Incident>,
}

impl Table {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            items: BTreeMap::new(),
            releasing: BTreeMap::new(),
            untouchable: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Decides on a trigger. Nothing shows until [`Table::enact`]; [`Table::undo`] takes it back.
    /// `None`: it would open a precursor and `full` says there is no room for one.
    pub(super) fn take(&mut self, mut trigger: Trigger, full: bool) -> Option<Taken> {
        let mut promotes = Vec::new();
        let (id, window, joined) = match self.ledger.decide(&trigger) {
            Decision::Open(_) if full && trigger.grade == Grade::Precursor => return None,
            Decision::Open(window) => {
                promotes = self.ledger.promoted(&trigger);
                (self.new_id(trigger.received), window, false)
            }
            Decision::Join(id, window) => (id, window, true),
        };
        let undo = self.ledger.apply(&id, window, &trigger);
        let number = self.ledger.life(&id).map_or(1, |life| life.triggers);
        if number > BODIES_MAX {
            trigger.body = None;
        }
        let entry = Entry::Trigger {
            incident: id.clone(),
            number,
            window,
            trigger: Box::new(trigger),
            promotes,
        };
        Some(Taken {
            entry,
            id,
            joined,
            undo,
        })
    }

    /// Decides on a resolution, as [`Table::take`] does on a trigger.
    pub(super) fn settle(&mut self, resolution: Resolution) -> Settled {
        let (id, window) = match self.ledger.ending(&resolution) {
            Ending::Nothing => return Settled::Nothing,
            Ending::Known(id) => return Settled::Known(id),
            Ending::End(id, window) => (id, window),
        };
        let undo = self.ledger.end(&id, window, resolution.received);
        let entry = Entry::Resolution {
            incident: id.clone(),
            window,
            resolution: Box::new(resolution),
        };
        Settled::Taken(Box::new(Taken {
            entry,
            id,
            joined: true,
            undo,
        }))
    }

    fn new_id(&self, at: Timestamp) -> IncidentId {
        loop {
            // Without random numbers the count still tells incidents of one second apart.
            let fallback = u32::try_from(self.items.len()).unwrap_or(0);
            let id = IncidentId::new(at, getrandom::u32().unwrap_or(fallback));
            if self.ledger.life(&id).is_none() && !self.untouchable.contains(&id) {
                return id;
            }
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        self.ledger.undo(undo);
    }

    /// Makes a durable entry visible.
    pub(super) fn enact(&mut self, entry: &Entry) -> Shown {
        match entry {
            Entry::Trigger {
                incident,
                number,
                window,
                trigger,
                promotes,
            } => {
                let first = self.promote(promotes, incident, trigger);
                let opened = self.record(incident, *number, *window, trigger, first.as_ref());
                Shown {
                    opened: opened.map(|opened| (incident.clone(), opened)),
                    changed: self.shown(promotes),
                }
            }
            Entry::Resolution {
                incident,
                window,
                resolution,
            } => {
                self.resolve(incident, *window, resolution);
                Shown {
                    opened: None,
                    changed: self.shown(std::slice::from_ref(incident)),
                }
            }
            Entry::Release { incident, who, .. } => {
                self.releasing.insert(incident.clone(), who.clone());
                Shown::default()
            }
        }
    }

    fn shown(&self, ids: &[IncidentId]) -> Vec<Incident> {
        let items = ids.iter().filter_map(|id| self.items.get(id));
        items.map(|item| item.incident.clone()).collect()
    }

    /// Keeps precursors as incidents are kept. Returns the first sign among them.
    fn promote(
        &mut self,
        precursors: &[IncidentId],
        fault: &IncidentId,
        trigger: &Trigger,
    ) -> Option<FirstSign> {
        let mut first = None;
        for id in precursors {
            self.ledger.promote(id);
            let Some(item) = self.items.get_mut(id) else {
                continue;
            };
            if item.incident.grade == Grade::Precursor {
                let triggers = item.incident.triggers;
                item.add(
                    TimelineLine::promoted(triggers, fault.as_str(), trigger),
                    None,
                );
            }
            first.get_or_insert_with(|| FirstSign {
                at: item.incident.trigger.at,
                incident: item.incident.id.clone(),
            });
        }
        first
    }

    /// Returns the incident when it is new.
    fn record(
        &mut self,
        id: &IncidentId,
        number: u64,
        window: Window,
        trigger: &Trigger,
        first_sign: Option<&FirstSign>,
    ) -> Option<Incident> {
        let line = TimelineLine::new(number, trigger);
        let key = trigger.dedup_key.clone();
        if let Some(item) = self.items.get_mut(id) {
            if item.incident.state == State::Collecting {
                item.incident.window = item.incident.window.union(&window);
            }
            item.add(line, key);
            item.wake.notify_one();
            return None;
        }
        let mut item = Item::new(opened(id, window, trigger), BTreeSet::new());
        item.incident.first_sign = first_sign.cloned();
        item.add(line, key);
        let incident = item.incident.clone();
        self.items.insert(id.clone(), item);
        Some(incident)
    }

    fn resolve(&mut self, id: &IncidentId, window: Window, resolution: &Resolution) {
        let Some(item) = self.items.get_mut(id) else {
            return;
        };
        if item.incident.state == State::Collecting {
            item.incident.window = window;
        }
        let incident = &item.incident;
        let line = TimelineLine::resolved(incident.triggers, incident.grade, resolution);
        item.add(line, None);
        item.wake.notify_one();
    }

    /// Takes in an incident that is not sealed, as its folder has it.
    pub(super) fn restore_live(&mut self, id: &IncidentId, saved: Live) {
        let mut incident = saved.incident;
        // It is pinned once more: that is idempotent, and the recorder says when it is complete.
        incident.state = State::Collecting;
        let life = Life {
            window: incident.window,
            last: last(&incident),
            resolved: incident.resolved,
            flaps: false,
            open: true,
            grade: incident.grade,
            triggers: incident.triggers,
        };
        let subject = (!incident.trigger.kind.stands_alone()).then_some(incident.subject.as_str());
        self.ledger
            .restore(id, life, subject, saved.dedup_keys.iter().cloned());
        self.items
            .insert(id.clone(), Item::new(incident, saved.dedup_keys));
    }

    /// Takes in a sealed incident and the triggers that joined it later.
    pub(super) fn restore_sealed(
        &mut self,
        id: &IncidentId,
        manifest: Manifest,
        timeline: Vec<TimelineLine>,
    ) {
        let sealed_with = manifest.incident.triggers;
        let triggers = timeline.iter().filter(|line| line.note.is_none());
        let instants = triggers.map(|line| line.at.min(line.received)).max();
        let keys: BTreeSet<String> = manifest.dedup_keys.into_iter().collect();
        let mut item = Item::new(manifest.incident, keys);
        for line in timeline {
            let shown = item.incident.timeline.contains(&line.entry());
            if line.number > sealed_with || (line.note.is_some() && !shown) {
                let key = line.dedup_key.clone();
                item.add(line, key);
            }
        }
        item.pending.clear();
        item.dirty = false;
        let incident = &item.incident;
        let life = Life {
            window: incident.window,
            last: instants.unwrap_or_default().max(last(incident)),
            resolved: incident.resolved,
            flaps: false,
            open: false,
            grade: incident.grade,
            triggers: incident.triggers,
        };
        let subject = (!incident.trigger.kind.stands_alone()).then_some(incident.subject.as_str());
        self.ledger
            .restore(id, life, subject, item.dedup_keys.iter().cloned());
        self.items.insert(id.clone(), item);
    }

    /// Takes in an entry of the journal; what is known already changes nothing.
    pub(super) fn replay(&mut self, entry: &Entry) {
        match entry {
            Entry::Trigger {
                incident: id,
                number,
                window,
                trigger,
                promotes,
            } => {
                let known = self.items.get(id).map_or(0, |item| item.incident.triggers);
                if *number > known && !self.untouchable.contains(id) {
                    self.ledger.apply(id, *window, trigger);
                    self.enact(entry);
                } else {
                    self.ledger.touch(id, instant(trigger));
                    self.promote(promotes, id, trigger);
                }
            }
            Entry::Resolution {
                incident: id,
                window,
                resolution,
            } => {
                let item = self.items.get(id);
                let new = item.is_some_and(|i| i.incident.resolved < Some(resolution.received));
                if new {
                    let sealed = self.ledger.life(id).filter(|life| !life.open);
                    let window = sealed.map_or(*window, |life| life.window);
                    self.ledger.end(id, window, resolution.received);
                    self.enact(entry);
                }
            }
            Entry::Release { .. } => drop(self.enact(entry)),
        }
    }

    /// No trigger extends the incident any more; `false` when its window is another by now.
    pub(super) fn close(&mut self, id: &IncidentId, window: &Window) -> bool {
        let same = self
            .ledger
            .life(id)
            .is_some_and(|life| life.window == *window);
        if let Some(item) = self.items.get_mut(id)
            && same
        {
            self.ledger.close(id);
            item.incident.state = State::Sealing;
            item.dirty = true;
        }
        same
    }

    /// The incident is sealed as `manifest` says.
    pub(super) fn sealed(&mut self, id: &IncidentId, manifest: Manifest) -> Option<Incident> {
        self.ledger.close(id);
        let item = self.items.get_mut(id)?;
        let live = &mut item.incident;
        let mut incident = manifest.incident;
        incident.triggers = live.triggers.max(incident.triggers);
        incident.grade = live.grade;
        incident.resolved = live.resolved;
        incident.first_sign = live.first_sign.take();
        incident.timeline = std::mem::take(&mut live.timeline);
        item.incident = incident;
        item.dirty = !item.pending.is_empty();
        Some(item.incident.clone())
    }

    /// Says why an incident does not get on, or that it does. Returns it when that is new.
    pub(super) fn explain(&mut self, id: &IncidentId, why: Option<Reason>) -> Option<Incident> {
        let item = self.items.get_mut(id)?;
        let reasons: Vec<Reason> = why.into_iter().collect();
        if item.incident.completeness.reasons == reasons {
            return None;
        }
        item.incident.completeness.reasons = reasons;
        item.dirty = true;
        Some(item.incident.clone())
    }

    /// The incident is gone.
    pub(super) fn forget(&mut self, id: &IncidentId) {
        self.items.remove(id);
        self.releasing.remove(id);
        self.ledger.forget(id);
        self.untouchable.insert(id.clone());
    }
}

/// The latest instant among the triggers an incident shows.
fn last(incident: &Incident) -> Timestamp {
    let triggers = incident.timeline.iter().filter(|e| e.note.is_none());
    let instants = triggers.map(|e| e.at.min(e.received));
    instants.max().unwrap_or(incident.trigger.at)
}

fn opened(id: &IncidentId, window: Window, trigger: &Trigger) -> Incident {
    Incident {
        id: id.as_str().to_owned(),
        state: State::Collecting,
        grade: trigger.grade,
        subject: trigger.subject.clone(),
        trigger: TriggerSummary {
            kind: trigger.kind,
            source: trigger.source.clone(),
            at: trigger.at,
            text: trigger.text.clone(),
        },
        triggers: 0,
        window,
        covered: None,
        packets: 0,
        bytes: 0,
        opened: trigger.received,
        sealed: None,
        resolved: None,
        first_sign: None,
        rule: trigger.rule.clone(),
        fields: trigger.fields.clone(),
        suggested_filter: trigger.suggested_filter.clone(),
        completeness: Completeness {
            verdict: Verdict::Pending,
            reasons: Vec::new(),
            gaps: Vec::new(),
        },
        interfaces: Vec::new(),
        timeline: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::config::WindowConfig;
    use crate::trigger::Kind;

    #[test]
    fn a_storm_is_counted_whole_in_few_lines_and_keys() {
        const STORM: u64 = 25_000;
        let mut table = Table::new(Ledger::new(WindowConfig::default()));
        let mut written: Vec<TimelineLine> = Vec::new();
        for number in 0..STORM {
            let at = Timestamp::from_ns(1_000_000_000_000 + number);
            let mut trigger = Trigger::new(Kind::Webhook, "h", "s", "t", at, at);
            trigger.dedup_key = Some(format!("key {number}"));
            let taken = table.take(trigger, false).unwrap();
            table.enact(&taken.entry);
            if number % 1000 == 999 {
                let item = table.items.values_mut().next().unwrap();
                written.append(&mut item.pending);
            }
        }
        let item = table.items.values().next().unwrap();
        assert_eq!((table.items.len(), item.incident.triggers), (1, STORM));
        assert!(written.len() < 2100, "{}", written.len());
        assert_eq!(written.iter().map(|line| line.count).sum::<u64>(), STORM);
        assert_eq!(written.last().map(TimelineLine::last_number), Some(STORM));
        assert_eq!(item.dedup_keys.len() as u64, KEYS_MAX);
    }
}
