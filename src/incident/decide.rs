//! What a trigger does: open an incident or join one. Pure decisions over values.
//!
//! - A known `dedup_key` joins the incident it opened, however late, unless that was over before:
//!   senders that count links or tickets use a key again.
//! - A person asked: a manual trigger opens an incident of its own. So does a drill, which nothing
//!   joins and which promotes nothing.
//! - Same subject: joins an open incident when its window touches or it comes within the
//!   cool-down of the last trigger; joins a closed one when the packets of its instant are already
//!   in it, or it comes within the cool-down. A fault does not join a closed precursor.
//! - A window grows with what joins it, up to `longest`; a fault that lasts longer opens the next
//!   incident, so that a week of flapping is not six minutes of evidence.
//! - A resolution ends an open incident's window, and what comes later of its subject is a new
//!   fault. From the second fault within the cool-down on the subject flaps: a resolution then
//!   ends nothing, and the cool-down joins what follows, so that flapping does not open an incident each time.
//! - A fault promotes the precursors of its subject that are not older than `promote`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::config::WindowConfig;
use super::id::IncidentId;
use crate::time::{Timestamp, Window};
use crate::trigger::{Grade, Kind, Resolution, Trigger};

/// Kept after a resolution: that it works again is evidence too.
const TAIL: Duration = Duration::from_secs(2);
/// Triggers of an incident whose identities are kept; what repeats after that joins by its subject.
pub(super) const KEYS_MAX: u64 = 10_000;
/// Incidents remembered per subject as candidates to join.
const CANDIDATES_MAX: usize = 8;

/// What matters of an incident for the next trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// What is asked for so far.
    pub(super) window: Window,
    /// The latest instant of its triggers.
    pub(super) last: Timestamp,
    /// When it was last said to be over.
    pub(super) resolved: Option<Timestamp>,
    /// Whether another incident of its subject was over shortly before it began.
    pub(super) flaps: bool,
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

/// What a resolution does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// No incident that it concerns.
    Nothing,
    /// This incident was over already.
    Known(IncidentId),
    /// It ends this incident, whose window becomes this.
    End(IncidentId, Window),
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
    let cooling = (life.resolved.is_none() || life.flaps) && at <= cools;
    life.window.from <= at && (at < life.window.to || cooling)
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
            && life.resolved.is_none_or(|over| at <= over)
        {
            return join(id, life);
        }
        if trigger.kind.stands_alone() {
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

    /// The sealed precursors that a trigger which opens an incident promotes, oldest first.
    pub(super) fn promoted(&self, trigger: &Trigger) -> Vec<IncidentId> {
        if trigger.grade != Grade::Incident || trigger.kind.stands_alone() {
            return Vec::new();
        }
        let since = instant(trigger).minus(self.config.promote);
        let candidates = self.subjects.get(&trigger.subject).into_iter().flatten();
        candidates
            .filter(|id| {
                self.lives.get(*id).is_some_and(|life| {
                    life.grade == Grade::Precursor && !life.open && life.last >= since
                })
            })
            .cloned()
            .collect()
    }

    /// A fault showed that this precursor was its sign.
    pub(super) fn promote(&mut self, id: &IncidentId) {
        if let Some(life) = self.lives.get_mut(id) {
            life.grade = Grade::Incident;
        }
    }

    /// Decides on a resolution; changes nothing.
    pub(super) fn ending(&self, resolution: &Resolution) -> Ending {
        let Some((id, life)) = self.concerned(resolution) else {
            return Ending::Nothing;
        };
        if life.resolved.is_some_and(|resolved| resolved >= life.last) {
            return Ending::Known(id.clone());
        }
        let mut window = life.window;
        if life.open && !life.flaps {
            let over = resolution.received.max(life.last).plus(TAIL);
            window = Window::new(window.from, window.to.min(over));
        }
        Ending::End(id.clone(), window)
    }

    /// The incident that a resolution is about: by its key, or the latest of its subject.
    fn concerned(&self, resolution: &Resolution) -> Option<(&IncidentId, &Life)> {
        let keyed = resolution.dedup_key.as_ref();
        let keyed = keyed.and_then(|key| self.keys.get(key));
        let latest = || self.subjects.get(&resolution.subject)?.back();
        let id = keyed.or_else(latest)?;
        Some((id, self.lives.get(id)?))
    }

    /// Whether an incident of the subject was over shortly before `at`.
    fn flaps(&self, subject: &str, at: Timestamp) -> bool {
        let others = self.subjects.get(subject).into_iter().flatten();
        others
            .filter_map(|other| self.lives.get(other))
            .any(|other| other.resolved.is_some() && other.last.plus(self.config.cooldown) >= at)
    }

    /// Takes note that `id` is over and now has `window`. Returns what [`Ledger::undo`] needs.
    pub(super) fn end(&mut self, id: &IncidentId, window: Window, at: Timestamp) -> Undo {
        let before = self.lives.get(id).cloned();
        if let Some(life) = self.lives.get_mut(id) {
            life.window = window;
            life.resolved = life.resolved.max(Some(at));
        }
        Undo {
            id: id.clone(),
            before,
            key: None,
        }
    }

    /// Takes note that `trigger` opened or joined `id`, which now has `window`. Returns what
    /// [`Ledger::undo`] needs.
    pub(super) fn apply(&mut self, id: &IncidentId, window: Window, trigger: &Trigger) -> Undo {
        let before = self.lives.get(id).cloned();
        let flaps = before.is_none() && self.flaps(&trigger.subject, instant(trigger));
        let life = self.lives.entry(id.clone()).or_insert_with(|| Life {
            window,
            last: Timestamp::MIN,
            resolved: None,
            flaps,
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
        let keyed = life.triggers <= KEYS_MAX;
        if before.is_none() && !trigger.kind.stands_alone() {
            self.remember_subject(&trigger.subject, id);
        }
        let key = trigger.dedup_key.as_ref().filter(|_| keyed);
        let key = key.and_then(|key| self.remember_key(key, id));
        Undo {
            id: id.clone(),
            before,
            key,
        }
    }

    /// Takes back an [`Ledger::apply`] that did not become durable; newest first.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.key {
            Some((key, Some(earlier))) => drop(self.keys.insert(key, earlier)),
            Some((key, None)) => drop(self.keys.remove(&key)),
            None => {}
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

    /// The newest incident of a key is the one that its repeats mean. Returns the key and what it
    /// named before when that changed.
    fn remember_key(&mut self, key: &str, id: &IncidentId) -> Option<Renamed> {
        if self.keys.get(key).is_some_and(|known| known >= id) {
            return None;
        }
        let earlier = self.keys.insert(key.to_owned(), id.clone());
        Some((key.to_owned(), earlier))
    }
}

/// A key and the incident it named before.
type Renamed = (String, Option<IncidentId>);

/// How to take back one [`Ledger::apply`].
#[derive(Debug)]
pub(super) struct Undo {
    id: IncidentId,
    before: Option<Life>,
    key: Option<Renamed>,
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
    fn a_drill_joins_nothing_and_promotes_nothing() {
        let mut bench = Bench::new();
        let mut weak = trigger(Kind::Probe, "drill a", 1000);
        weak.grade = Grade::Precursor;
        let (precursor, ..) = bench.take(&weak);
        let mut rehearsal = trigger(Kind::Drill, "drill a", 1001);
        rehearsal.before = Some(Duration::from_secs(10));
        rehearsal.after = Some(Duration::from_secs(2));
        let (first, window, joined) = bench.take(&rehearsal);
        assert_eq!((joined, window), (false, Window::new(at(991), at(1003))));
        let (second, _, joined) = bench.take(&rehearsal);
        assert!(!joined && first != second);
        bench.ledger.close(&precursor);
        assert_eq!(bench.ledger.promoted(&rehearsal), []);
        let (_, _, joined) = bench.take(&trigger(Kind::Syslog, "drill a", 1002));
        assert!(!joined, "neither the sealed precursor nor a drill");
        let over = Resolution::new(Kind::Syslog, "s", "drill b", "ok", at(1003), at(1003));
        bench.take(&trigger(Kind::Drill, "drill b", 1002));
        assert_eq!(bench.ledger.ending(&over), Ending::Nothing);
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
    fn a_key_that_is_used_again_after_its_end_is_another_fault() {
        let mut bench = Bench::new();
        let keyed = |second| {
            let mut keyed = trigger(Kind::Webhook, "a", second);
            keyed.dedup_key = Some("5".to_owned());
            keyed
        };
        let (first, ..) = bench.take(&keyed(1000));
        end(&mut bench, &over("a", 1020));
        bench.ledger.close(&first);
        let mut repeat = keyed(1000);
        repeat.received = at(1100);
        assert_eq!(bench.take(&repeat).0, first, "it was sent once more");
        let again = keyed(90_000);
        let Decision::Open(window) = bench.ledger.decide(&again) else {
            panic!("it is not in the incident of the day before");
        };
        let second = IncidentId::new(at(90_000), 2);
        let undo = bench.ledger.apply(&second, window, &again);
        bench.ledger.undo(undo);
        assert_eq!(
            bench.take(&repeat).0,
            first,
            "the key names the first again"
        );
        bench.ledger.apply(&second, window, &again);
        assert_eq!(bench.take(&keyed(90_001)).0, second);
        assert_eq!(bench.take(&keyed(100_000)).0, second, "however late");
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

    fn over(subject: &str, second: u64) -> Resolution {
        Resolution::new(
            Kind::Webhook,
            "source",
            subject,
            "over",
            at(second),
            at(second),
        )
    }

    fn end(bench: &mut Bench, resolution: &Resolution) -> (IncidentId, Window) {
        match bench.ledger.ending(resolution) {
            Ending::End(id, window) => {
                bench.ledger.end(&id, window, resolution.received);
                (id, window)
            }
            other => panic!("must end: {other:?}"),
        }
    }

    #[test]
    fn a_resolution_ends_the_window_and_what_follows_is_another_fault() {
        let mut bench = Bench::new();
        let (id, ..) = bench.take(&trigger(Kind::Webhook, "a", 1000));
        let (ended, window) = end(&mut bench, &over("a", 1020));
        assert_eq!(ended, id);
        assert_eq!(window, Window::new(at(700), at(1022)));
        assert_eq!(
            bench.ledger.ending(&over("a", 1021)),
            Ending::Known(id.clone())
        );
        bench.ledger.close(&id);
        let (late, ..) = bench.take(&trigger(Kind::Syslog, "a", 1010));
        assert_eq!(late, id, "its packets are in it");
        let (next, _, joined) = bench.take(&trigger(Kind::Webhook, "a", 1030));
        assert!(!joined && next != id);
    }

    #[test]
    fn a_resolution_never_lengthens_a_window_and_never_opens_one() {
        let mut bench = Bench::new();
        assert_eq!(bench.ledger.ending(&over("a", 1000)), Ending::Nothing);
        let (_, window, _) = bench.take(&trigger(Kind::Webhook, "a", 1000));
        assert_eq!(end(&mut bench, &over("a", 2000)).1, window);
    }

    #[test]
    fn a_trigger_that_joins_after_a_resolution_extends_the_window_again() {
        let mut bench = Bench::new();
        let (id, ..) = bench.take(&trigger(Kind::Webhook, "a", 1000));
        end(&mut bench, &over("a", 1010));
        let again = bench.take(&trigger(Kind::Webhook, "a", 1011));
        assert_eq!(again, (id, Window::new(at(700), at(1071)), true));
        assert!(matches!(
            bench.ledger.ending(&over("a", 1015)),
            Ending::End(..)
        ));
    }

    #[test]
    fn a_key_decides_before_the_subject() {
        let mut bench = Bench::new();
        let mut keyed = trigger(Kind::Webhook, "a", 1000);
        keyed.dedup_key = Some("k".to_owned());
        let (id, ..) = bench.take(&keyed);
        bench.take(&trigger(Kind::Webhook, "b", 1001));
        let mut resolution = over("b", 1010);
        resolution.dedup_key = Some("k".to_owned());
        assert_eq!(end(&mut bench, &resolution).0, id);
    }

    #[test]
    fn a_flapping_subject_opens_two_incidents_not_one_each_time() {
        let mut bench = Bench::new();
        let mut incidents = std::collections::BTreeMap::new();
        for flap in 0..50 {
            let (id, ..) = bench.take(&trigger(Kind::Webhook, "a", 1000 + 60 * flap));
            let (_, window) = end(&mut bench, &over("a", 1030 + 60 * flap));
            incidents.insert(id.clone(), window);
            if window.to <= at(1060 + 60 * flap) {
                bench.ledger.close(&id);
            }
        }
        assert_eq!(incidents.len(), 2, "{incidents:?}");
    }

    #[test]
    fn a_resolution_that_did_not_become_durable_is_taken_back() {
        let mut bench = Bench::new();
        let (id, window, _) = bench.take(&trigger(Kind::Webhook, "a", 1000));
        let before = bench.ledger.life(&id).cloned();
        let shorter = Window::new(window.from, at(1002));
        let undo = bench.ledger.end(&id, shorter, at(1000));
        bench.ledger.undo(undo);
        assert_eq!(bench.ledger.life(&id).cloned(), before);
    }

    #[test]
    fn a_fault_promotes_the_sealed_signs_of_the_last_half_hour() {
        let mut bench = Bench::new();
        let mut signs = Vec::new();
        for second in [1000, 2000, 3000] {
            let mut weak = trigger(Kind::Probe, "a", second);
            weak.grade = Grade::Precursor;
            let (id, ..) = bench.take(&weak);
            bench.ledger.close(&id);
            signs.push(id);
        }
        let fault = trigger(Kind::Probe, "a", 3500);
        assert_eq!(bench.ledger.promoted(&fault), signs[1..]);
        bench.ledger.promote(&signs[1]);
        assert_eq!(bench.ledger.promoted(&fault), signs[2..]);
        assert!(
            bench
                .ledger
                .promoted(&trigger(Kind::Manual, "a", 3500))
                .is_empty()
        );
    }
}
