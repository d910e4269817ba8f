//! What a trigger does: open an incident or join one. Pure decisions over values.
//!
//! - A known `dedup_key` joins the incident it opened, however late.
//! - A person asked: a manual trigger opens an incident of its own.
//! - Same subject: joins an open incident when its window touches or it comes within the
//!   cool-down of the last trigger; joins a closed one when the packets of its instant are already
//!   in it, or it comes within the cool-down. A fault does not join a closed precursor.
//! - A window grows with what joins it, up to `longest`; a fault that lasts longer opens the next
//!   incident, so that a week of flapping is not six minutes of evidence.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::config::WindowConfig;
use super::id::IncidentId;
use crate::time::{Timestamp, Window};
use crate::trigger::{Grade, Kind, Trigger};

/// Incidents remembered per subject as candidates to join.
const CANDIDATES_MAX: usize = 8;

/// What matters of an incident for the next trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// What is asked for so far.
    pub(super) window: Window,
    /// The latest instant of its triggers.
    pub(super) last: Timestamp,
    /// Whether it still collects.
    pub(super) open: bool,
    /// Its weight.
    pub(super) grade: Grade,
    /// How many triggers it has.
    pub(super) triggers: u64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It opens an incident with this window.
    Open(Window),
    /// It joins this incident, whose window becomes this.
    Join(IncidentId, Window),
}

/// The instant a trigger stands for: its own clock, but never the future.
pub(super) fn instant(trigger: &Trigger) -> Timestamp {
    trigger.at.min(trigger.received)
}

/// The window a trigger asks for. Spans sent by machines are bounded by `longest`.
pub(super) fn window(trigger: &Trigger, config: &WindowConfig) -> Window {
    let bounded = |asked: Option<Duration>, usual| match asked {
        Some(span) if trigger.kind == Kind::Manual => span,
        Some(span) => span.min(config.longest),
        None => usual,
    };
    Window::around(
        instant(trigger),
        bounded(trigger.before, config.before),
        bounded(trigger.after, config.after),
    )
}

/// The window of `life` after a trigger that asks for `asked` joined it.
fn extended(life: &Life, asked: &Window, config: &WindowConfig) -> Window {
    if !life.open {
        return life.window;
    }
    let to = asked.to.min(life.window.from.plus(config.longest));
    let to = to.max(life.window.to);
    let from = asked.from.max(to.minus(config.longest));
    Window::new(from.min(life.window.from), to)
}

/// Whether a trigger of the same subject at `at`, asking for `asked`, belongs to `life`.
fn joins(life: &Life, at: Timestamp, asked: &Window, grade: Grade, config: &WindowConfig) -> bool {
    let cools = life.last.plus(config.cooldown);
    let lasted = life.window.from.plus(config.longest).max(life.window.to);
    if at >= lasted {
        return false;
    }
    if life.open {
        let reach = Window::new(life.window.from.minus(config.cooldown), cools);
        return life.window.overlaps(asked) || reach.contains(at) || at == cools;
    }
    if life.grade == Grade::Precursor && grade == Grade::Incident {
        return false;
    }
    life.window.from <= at && (at < life.window.to || at <= cools)
}

/// Everything a decision needs to know about the incidents there are.
#[derive(Debug)]
pub(super) struct Ledger {
    config: WindowConfig,
    lives: HashMap<IncidentId, Life>,
    subjects: HashMap<String, VecDeque<IncidentId>>,
    keys: HashMap<String, IncidentId>,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(config: WindowConfig) -> Self {
        Self {
            config,
            lives: HashMap::new(),
            subjects: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// Decides on a trigger; changes nothing.
    pub(super) fn decide(&self, trigger: &Trigger) -> Decision {
        let at = instant(trigger);
        let asked = window(trigger, &self.config);
        let join = |id: &IncidentId, life: &Life| {
            Decision::Join(id.clone(), extended(life, &asked, &self.config))
        };
        if let Some(key) = &trigger.dedup_key
            && let Some(id) = self.keys.get(key)
            && let Some(life) = self.lives.get(id)
        {
            return join(id, life);
        }
        if trigger.kind == Kind::Manual {
            return Decision::Open(asked);
        }
        let candidates = self.subjects.get(&trigger.subject).into_iter().flatten();
        // The newest first: a flapping subject has its latest incident in mind.
        for id in candidates.rev() {
            if let Some(life) = self.lives.get(id)
                && joins(life, at, &asked, trigger.grade, &self.config)
            {
                return join(id, life);
            }
        }
        Decision::Open(asked)
    }

    /// Takes note that `trigger` opened or joined `id`, which now has `window`. Returns what
    /// [`Ledger::undo`] needs.
    pub(super) fn apply(&mut self, id: &IncidentId, window: Window, trigger: &Trigger) -> Undo {
        let before = self.lives.get(id).cloned();
        let life = self.lives.entry(id.clone()).or_insert_with(|| Life {
            window,
            last: Timestamp::MIN,
            open: true,
            grade: trigger.grade,
            triggers: 0,
        });
        life.window = window;
        life.last = life.last.max(instant(trigger));
        if trigger.grade == Grade::Incident {
            life.grade = Grade::Incident;
        }
        life.triggers += 1;
        if before.is_none() && trigger.kind != Kind::Manual {
            self.remember_subject(&trigger.subject, id);
        }
        let key = trigger.dedup_key.clone();
        let key = key.filter(|key| self.remember_key(key, id));
        Undo {
            id: id.clone(),
            before,
            key,
        }
    }

    /// Takes back an [`Ledger::apply`] that did not become durable; newest first.
    pub(super) fn undo(&mut self, undo: Undo) {
        if let Some(key) = undo.key {
            self.keys.remove(&key);
        }
        match undo.before {
            Some(mut life) => {
                // It may have been closed meanwhile, which stays so.
                life.open &= self.lives.get(&undo.id).is_some_and(|now| now.open);
                self.lives.insert(undo.id, life);
            }
            None => self.forget(&undo.id),
        }
    }

    /// Takes in an incident found on disk.
    pub(super) fn restore(
        &mut self,
        id: &IncidentId,
        life: Life,
        subject: Option<&str>,
        keys: impl IntoIterator<Item = String>,
    ) {
        self.lives.insert(id.clone(), life);
        if let Some(subject) = subject {
            self.remember_subject(subject, id);
        }
        for key in keys {
            self.remember_key(&key, id);
        }
    }

    /// The life of an incident.
    pub(super) fn life(&self, id: &IncidentId) -> Option<&Life> {
        self.lives.get(id)
    }

    /// A trigger of this incident happened at `at`.
    pub(super) fn touch(&mut self, id: &IncidentId, at: Timestamp) {
        if let Some(life) = self.lives.get_mut(id) {
            life.last = life.last.max(at);
        }
    }

    /// No trigger extends this incident any more.
    pub(super) fn close(&mut self, id: &IncidentId) {
        if let Some(life) = self.lives.get_mut(id) {
            life.open = false;
        }
    }

    /// The incident is gone.
    pub(super) fn forget(&mut self, id: &IncidentId) {
        self.lives.remove(id);
        self.keys.retain(|_, incident| incident != id);
        self.subjects.retain(|_, ids| {
            ids.retain(|known| known != id);
            !ids.is_empty()
        });
    }

    fn remember_subject(&mut self, subject: &str, id: &IncidentId) {
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        ids.push_back(id.clone());
        while ids.len() > CANDIDATES_MAX {
            ids.pop_front();
        }
    }

    fn remember_key(&mut self, key: &str, id: &IncidentId) -> bool {
        if self.keys.contains_key(key) {
            return false;
        }
        self.keys.insert(key.to_owned(), id.clone());
        true
    }
}

/// How to take back one [`Ledger::apply`].
#[derive(Debug)]
pub(super) struct Undo {
    id: IncidentId,
    before: Option<Life>,
    key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 1_795_428_131;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns((BASE + second) * 1_000_000_000)
    }

    fn trigger(kind: Kind, subject: &str, second: u64) -> Trigger {
        Trigger::new(kind, "source", subject, "text", at(second), at(second))
    }

    struct Bench {
        ledger: Ledger,
        next: u32,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                ledger: Ledger::new(WindowConfig::default()),
                next: 0,
            }
        }

        fn take(&mut self, trigger: &Trigger) -> (IncidentId, Window, bool) {
            let (id, window, joined) = match self.ledger.decide(trigger) {
                Decision::Open(window) => {
                    self.next += 1;
                    (IncidentId::new(trigger.received, self.next), window, false)
                }
                Decision::Join(id, window) => (id, window, true),
            };
            self.ledger.apply(&id, window, trigger);
            (id, window, joined)
        }
    }

    #[test]
    fn one_trigger_asks_for_its_window() {
        let mut bench = Bench::new();
        let (_, window, joined) = bench.take(&trigger(Kind::Probe, "a", 1000));
        assert!(!joined);
        assert_eq!(window, Window::new(at(700), at(1060)));
    }

    #[test]
    fn the_same_subject_joins_and_extends_another_opens() {
        let mut bench = Bench::new();
        let (first, ..) = bench.take(&trigger(Kind::Probe, "a", 1000));
        let (second, window, joined) = bench.take(&trigger(Kind::Syslog, "a", 1050));
        assert!(joined);
        assert_eq!(first, second);
        assert_eq!(window, Window::new(at(700), at(1110)));
        assert!(!bench.take(&trigger(Kind::Probe, "b", 1050)).2);
    }

    #[test]
    fn the_cool_down_holds_after_sealing_and_ends() {
        let mut bench = Bench::new();
        let (id, window, _) = bench.take(&trigger(Kind::Probe, "a", 1000));
        bench.ledger.close(&id);
        let (joined, same, _) = bench.take(&trigger(Kind::Probe, "a", 1300));
        assert_eq!(
            (joined, same),
            (id.clone(), window),
            "the edge belongs to the cool-down"
        );
        let (other, _, joined) = bench.take(&trigger(Kind::Probe, "a", 1601));
        assert!(!joined);
        assert_ne!(other, id);
    }

    #[test]
    fn a_fault_that_goes_on_is_kept_hour_by_hour() {
        let mut bench = Bench::new();
        let mut incidents = Vec::new();
        for second in (0..3 * 3600).step_by(10) {
            let (id, window, joined) = bench.take(&trigger(Kind::Probe, "a", 10_000 + second));
            assert!(window.length() <= Duration::from_hours(1));
            if !joined {
                incidents.push(id);
            }
        }
        assert_eq!(incidents.len(), 4);
    }

    #[test]
    fn a_person_gets_an_incident_of_their_own() {
        let mut bench = Bench::new();
        let (first, ..) = bench.take(&trigger(Kind::Manual, "a", 1000));
        let (second, ..) = bench.take(&trigger(Kind::Manual, "a", 1000));
        assert_ne!(first, second);
        let (third, _, joined) = bench.take(&trigger(Kind::Probe, "a", 1001));
        assert!(!joined && third != first && third != second);
    }

    #[test]
    fn a_known_key_joins_however_late_even_by_hand() {
        let mut bench = Bench::new();
        let mut one = trigger(Kind::Webhook, "a", 1000);
        one.dedup_key = Some("group/1".to_owned());
        let (id, window, _) = bench.take(&one);
        bench.ledger.close(&id);
        for kind in [Kind::Webhook, Kind::Manual] {
            let mut repeat = trigger(kind, "elsewhere", 90_000);
            repeat.dedup_key.clone_from(&one.dedup_key);
            assert_eq!(bench.take(&repeat), (id.clone(), window, true));
        }
    }

    #[test]
    fn a_late_line_joins_the_sealed_incident_that_holds_its_instant() {
        let mut bench = Bench::new();
        let (id, ..) = bench.take(&trigger(Kind::Probe, "a", 1000));
        bench.ledger.close(&id);
        let mut late = trigger(Kind::Logfile, "a", 900);
        late.received = at(50_000);
        assert_eq!(bench.take(&late).0, id);
        late.at = at(500);
        assert!(
            !bench.take(&late).2,
            "its packets are not in the sealed incident"
        );
    }

    #[test]
    fn a_fault_promotes_an_open_precursor_but_not_a_sealed_one() {
        let mut bench = Bench::new();
        let mut weak = trigger(Kind::Probe, "a", 1000);
        weak.grade = Grade::Precursor;
        let (id, ..) = bench.take(&weak);
        let (same, ..) = bench.take(&trigger(Kind::Probe, "a", 1010));
        assert_eq!(id, same);
        assert_eq!(bench.ledger.life(&id).unwrap().grade, Grade::Incident);

        let mut weak = trigger(Kind::Probe, "b", 1000);
        weak.grade = Grade::Precursor;
        let (id, ..) = bench.take(&weak);
        bench.ledger.close(&id);
        assert!(!bench.take(&trigger(Kind::Probe, "b", 1010)).2);
    }

    #[test]
    fn a_clock_ahead_of_ours_does_not_keep_an_incident_open() {
        let mut ahead = trigger(Kind::Syslog, "a", 1000);
        ahead.at = at(1_000_000);
        assert_eq!(instant(&ahead), at(1000));
    }

    #[test]
    fn machines_cannot_ask_for_more_than_the_longest() {
        let mut greedy = trigger(Kind::Webhook, "a", 1_000_000);
        greedy.before = Some(Duration::from_hours(1000));
        greedy.after = Some(Duration::from_hours(1000));
        let window = window(&greedy, &WindowConfig::default());
        assert_eq!(window.length(), Duration::from_hours(2));
    }

    #[test]
    fn what_did_not_become_durable_is_taken_back() {
        let mut bench = Bench::new();
        let (id, ..) = bench.take(&trigger(Kind::Probe, "a", 1000));
        let before = bench.ledger.life(&id).cloned();
        let mut join = trigger(Kind::Probe, "a", 1010);
        join.dedup_key = Some("k".to_owned());
        let Decision::Join(_, window) = bench.ledger.decide(&join) else {
            panic!("must join");
        };
        let undo = bench.ledger.apply(&id, window, &join);
        bench.ledger.undo(undo);
        assert_eq!(bench.ledger.life(&id).cloned(), before);
        let open = trigger(Kind::Probe, "b", 1000);
        let other = IncidentId::new(at(1000), 9);
        let undo = bench.ledger.apply(&other, Window::new(at(0), at(1)), &open);
        bench.ledger.undo(undo);
        assert!(bench.ledger.life(&other).is_none());
        assert!(matches!(bench.ledger.decide(&open), Decision::Open(_)));
    }
}
