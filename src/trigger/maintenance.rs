//! Maintenance windows: times at which triggers are expected, and freeze nothing or quietly.
//!
//! The decision is one function of a window and a trigger, by the trigger's own time; the door for
//! triggers asks it of every one, whatever its source. What people ask for and drills are never
//! covered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{LocalResult, NaiveDateTime};
use regex::RegexSet;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::several::Several;
use super::syslog::Zone;
use super::text::wildcard;
use super::{Grade, Kind, Trigger};
use crate::time::{Timestamp, Window};

/// The field that names the window which made a precursor of a trigger.
pub const MAINTENANCE_FIELD: &str = "maintenance";

/// What becomes of the triggers that a window covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// They are counted and noted, and freeze nothing.
    #[default]
    Silence,
    /// They are early signs, frozen quietly: a fault afterwards promotes them.
    Precursor,
}

/// One `[[maintenance]]`: when triggers are expected, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceConfig {
    /// Its name, shown with what it covers.
    pub name: String,
    /// Hours of the week: `"sun 02:00-04:00"`.
    pub weekly: Several<String>,
    /// Once: from this moment ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// ... to this one, RFC 3339 or a local time in `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The IANA zone of these times; this machine's without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Only triggers of these sources, by name or kind; in this and all lists `*` and `?` stand for
    /// any characters and one, and an empty one means all.
    pub sources: Vec<String>,
    /// Only triggers of these probes; with `sources`, of either.
    pub probes: Vec<String>,
    /// Only triggers of these rules.
    pub rules: Vec<String>,
    /// Only triggers about these.
    pub subjects: Vec<String>,
    /// Only triggers of these hosts: their field `host`, `sender` or `instance`.
    pub hosts: Vec<String>,
    /// What becomes of them.
    pub effect: Effect,
}

/// Why a window cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceError {
    /// A window without a name.
    #[error("[[maintenance]] number {0}: name is empty")]
    Unnamed(usize),
    /// Two windows of one name.
    #[error("[[maintenance]] name = {0:?} is given twice; a window's name must be its own")]
    Duplicate(String),
    /// A value that makes no sense.
    #[error("[[maintenance]] {name}: {key}: {why}")]
    Value {
        /// The window.
        name: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// When a window is open.
#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Weekly(Schedule),
    Once(Window),
}

impl When {
    fn holds(&self, at: Timestamp) -> bool {
        match self {
            Self::Weekly(schedule) => schedule.holds(at),
            Self::Once(window) => window.contains(at),
        }
    }
}

/// A window, and what it did.
#[derive(Debug)]
struct Open {
    name: String,
    when: When,
    effect: Effect,
    sources: Names,
    probes: Names,
    rules: Names,
    subjects: Names,
    hosts: Names,
    covered: AtomicU64,
    last: Mutex<Option<Covered>>,
}

/// Names with wildcards; `None`: any.
#[derive(Debug)]
struct Names(Option<RegexSet>);

impl Names {
    fn new(texts: &[String]) -> Result<Self, String> {
        if texts.is_empty() {
            return Ok(Self(None));
        }
        let set = RegexSet::new(texts.iter().map(|text| wildcard(text)));
        set.map(|set| Self(Some(set)))
            .map_err(|error| error.to_string())
    }

    const fn is_any(&self) -> bool {
        self.0.is_none()
    }

    fn hold(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(name))
    }

    fn allow(&self, name: &str) -> bool {
        self.is_any() || self.hold(name)
    }
}

/// The last trigger that a window covered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// When it happened.
    pub at: Timestamp,
    /// Where it came from.
    pub kind: Kind,
    /// The source's name.
    pub source: String,
    /// What it was about.
    pub subject: String,
}

/// A moment's picture of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MaintenanceStatus {
    /// Its name.
    pub name: String,
    /// What becomes of what it covers.
    pub effect: Effect,
    /// Whether it is open.
    pub active: bool,
    /// Triggers covered since the start.
    pub triggers: u64,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Covered>,
}

/// All windows.
#[derive(Debug, Default)]
pub struct Maintenance {
    windows: Vec<Open>,
}

impl Maintenance {
    /// Reads the windows of a configuration.
    pub fn new(configs: &[MaintenanceConfig]) -> Result<Self, MaintenanceError> {
        let mut windows: Vec<Open> = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            if config.name.trim().is_empty() {
                return Err(MaintenanceError::Unnamed(index + 1));
            }
            if windows.iter().any(|known| known.name == config.name) {
                return Err(MaintenanceError::Duplicate(config.name.clone()));
            }
            windows.push(config.window()?);
        }
        Ok(Self { windows })
    }

    /// Which window covers a trigger, and what becomes of it; silence goes before.
    pub fn covering(&self, trigger: &Trigger) -> Option<(&str, Effect)> {
        let window = self.window_over(trigger)?;
        Some((&window.name, window.effect))
    }

    fn window_over(&self, trigger: &Trigger) -> Option<&Open> {
        let covers = |window: &&Open| window.covers(trigger);
        let over = self.windows.iter().filter(covers);
        over.min_by_key(|window| window.effect == Effect::Precursor)
    }

    /// Counts a trigger that is covered. The error is the name of the window that silences it; with
    /// another effect it comes back changed.
    pub fn admit(&self, mut trigger: Trigger) -> Result<Trigger, String> {
        let Some(window) = self.window_over(&trigger) else {
            return Ok(trigger);
        };
        window.note(&trigger);
        match window.effect {
            Effect::Silence => Err(window.name.clone()),
            Effect::Precursor => {
                trigger.grade = Grade::Precursor;
                let name = window.name.clone();
                trigger.fields.insert(MAINTENANCE_FIELD.to_owned(), name);
                Ok(trigger)
            }
        }
    }

    /// A picture of this moment.
    pub fn status(&self, now: Timestamp) -> Vec<MaintenanceStatus> {
        let status = |window: &Open| MaintenanceStatus {
            name: window.name.clone(),
            effect: window.effect,
            active: window.when.holds(now),
            triggers: window.covered.load(Ordering::Relaxed),
            last: window.last().clone(),
        };
        self.windows.iter().map(status).collect()
    }
}

impl Open {
    fn covers(&self, trigger: &Trigger) -> bool {
        if matches!(trigger.kind, Kind::Manual | Kind::Drill) || !self.when.holds(trigger.at) {
            return false;
        }
        let source = if self.sources.is_any() && self.probes.is_any() {
            true
        } else {
            self.sources.hold(&trigger.source)
                || self.sources.hold(&trigger.kind.to_string())
                || (trigger.kind == Kind::Probe && self.probes.hold(&trigger.source))
        };
        let rule = trigger.rule.as_deref();
        let rule = self.rules.is_any() || rule.is_some_and(|rule| self.rules.hold(rule));
        let mut hosts = ["host", "sender", "instance"]
            .into_iter()
            .filter_map(|name| trigger.fields.get(name));
        let host = self.hosts.is_any() || hosts.any(|host| self.hosts.hold(host));
        source && rule && host && self.subjects.allow(&trigger.subject)
    }

    fn note(&self, trigger: &Trigger) {
        self.covered.fetch_add(1, Ordering::Relaxed);
        *self.last() = Some(Covered {
            at: trigger.at,
            kind: trigger.kind,
            source: trigger.source.clone(),
            subject: trigger.subject.clone(),
        });
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Covered>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MaintenanceConfig {
    fn window(&self) -> Result<Open, MaintenanceError> {
        let bad = |key, why: String| MaintenanceError::Value {
            name: self.name.clone(),
            key,
            why,
        };
        let names = |key, texts: &[String]| Names::new(texts).map_err(|why| bad(key, why));
        Ok(Open {
            name: self.name.clone(),
            when: self.when().map_err(|(key, why)| bad(key, why))?,
            effect: self.effect,
            sources: names("sources", &self.sources)?,
            probes: names("probes", &self.probes)?,
            rules: names("rules", &self.rules)?,
            subjects: names("subjects", &self.subjects)?,
            hosts: names("hosts", &self.hosts)?,
            covered: AtomicU64::new(0),
            last: Mutex::default(),
        })
    }

    fn when(&self) -> Result<When, (&'static str, String)> {
        let zone = Zone::configured(self.zone.as_deref()).map_err(|name| {
            let why = format!("{name:?} is no IANA zone; write Asia/Tokyo or UTC");
            ("zone", why)
        })?;
        match (&self.from, &self.to, self.weekly.is_empty()) {
            (None, None, false) => Schedule::new(self.weekly.as_slice(), zone)
                .map(When::Weekly)
                .map_err(|why| ("weekly", why)),
            (Some(from), Some(to), true) => {
                let from = moment(from, zone).map_err(|why| ("from", why))?;
                let to = moment(to, zone).map_err(|why| ("to", why))?;
                if to <= from {
                    return Err(("to", "it is not after from".to_owned()));
                }
                Ok(When::Once(Window::new(from, to)))
            }
            _ => Err((
                "weekly",
                "say when: either weekly, or from and to".to_owned(),
            )),
        }
    }
}

/// RFC 3339, or `2026-12-01 22:00` on the wall of `zone`: of an hour that is there twice the first,
/// of one that is left out none.
fn moment(text: &str, zone: Zone) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let text = text.trim().replacen('T', " ", 1);
    let formats = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
    let local = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok());
    let local = local.ok_or_else(|| {
        format!("{text:?} is no time: write \"2026-12-01 22:00\" or \"2026-12-01T22:00:00+09:00\"")
    })?;
    let instant = match zone.at(local) {
        LocalResult::None => return Err(format!("{text:?}: clocks pass over this hour")),
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at,
    };
    let ns = instant.timestamp_nanos_opt();
    let ns = ns.and_then(|ns| u64::try_from(ns).ok());
    ns.map(Timestamp::from_ns)
        .ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(text: &str) -> Result<Maintenance, MaintenanceError> {
        #[derive(Deserialize)]
        struct File {
            maintenance: Vec<MaintenanceConfig>,
        }
        let file: File = toml::from_str(text).unwrap();
        Maintenance::new(&file.maintenance)
    }

    fn trigger(kind: Kind, source: &str, subject: &str, at: &str) -> Trigger {
        let at = at.parse().unwrap();
        Trigger::new(kind, source, subject, "text", at, Timestamp::MAX)
    }

    const NIGHT: &str =
        "[[maintenance]]\nname = \"night\"\nweekly = \"sun 02:00-04:00\"\nzone = \"Asia/Tokyo\"\n";
    /// A Sunday, half past two in Tokyo.
    const IN_IT: &str = "2026-11-28T17:30:00Z";

    fn covers(more: &str, trigger: &Trigger) -> bool {
        let windows = windows(&format!("{NIGHT}{more}")).unwrap();
        windows.covering(trigger).is_some()
    }

    #[test]
    fn a_window_covers_every_source_and_never_people_or_drills() {
        let kinds = [
            Kind::Probe,
            Kind::Syslog,
            Kind::Logfile,
            Kind::Journal,
            Kind::Webhook,
            Kind::Trap,
            Kind::Symptom,
        ];
        for kind in kinds {
            assert!(covers("", &trigger(kind, "x", "s", IN_IT)), "{kind}");
            let later = trigger(kind, "x", "s", "2026-11-28T19:00:00Z");
            assert!(!covers("", &later), "{kind}");
        }
        for kind in [Kind::Manual, Kind::Drill] {
            assert!(!covers("", &trigger(kind, "x", "s", IN_IT)), "{kind}");
        }
    }

    #[test]
    fn a_window_covers_what_it_names() {
        let mut line = trigger(Kind::Syslog, "udp://0.0.0.0:514", "router1 Gi0/1", IN_IT);
        line.rule = Some("link".to_owned());
        line.fields.insert("host".to_owned(), "router1".to_owned());
        let probe = trigger(Kind::Probe, "edge", "probe edge", IN_IT);
        for (more, of_line, of_probe) in [
            ("sources = [\"syslog\"]", true, false),
            ("sources = [\"udp://*\"]", true, false),
            ("sources = [\"webhook\"]", false, false),
            ("probes = [\"edge\"]", false, true),
            ("probes = [\"e???\"]\nsources = [\"syslog\"]", true, true),
            ("rules = [\"link\"]", true, false),
            ("subjects = [\"router1 *\"]", true, false),
            ("subjects = [\"*\"]\nhosts = [\"router?\"]", true, false),
            ("hosts = [\"router2\", \"router\"]", false, false),
            ("rules = [\"link\"]\nsources = [\"webhook\"]", false, false),
        ] {
            assert_eq!(covers(more, &line), of_line, "{more}");
            assert_eq!(covers(more, &probe), of_probe, "{more}");
        }
    }

    #[test]
    fn what_is_covered_is_counted_and_silenced_or_demoted() {
        let text = format!(
            "{NIGHT}[[maintenance]]\nname = \"move\"\nfrom = \"2026-11-29 02:00\"\nto = \"2026-11-29T03:00:00+09:00\"\nzone = \"Asia/Tokyo\"\neffect = \"precursor\"\nsubjects = [\"s\"]\n"
        );
        let all = windows(&text).unwrap();
        let silenced = all.admit(trigger(Kind::Webhook, "am", "s", IN_IT));
        assert_eq!(silenced, Err("night".to_owned()), "silence goes before");
        let demoted = windows(text.strip_prefix(NIGHT).unwrap()).unwrap();
        let weak = demoted
            .admit(trigger(Kind::Webhook, "am", "s", IN_IT))
            .unwrap();
        assert_eq!(weak.grade, Grade::Precursor);
        assert_eq!(weak.fields[MAINTENANCE_FIELD], "move");
        let after = trigger(Kind::Webhook, "am", "s", "2026-11-28T18:00:00Z");
        assert_eq!(demoted.admit(after.clone()), Ok(after));
        let status = all.status(IN_IT.parse().unwrap());
        assert_eq!((status[0].active, status[0].triggers), (true, 1));
        assert_eq!(status[0].last.as_ref().unwrap().subject, "s");
        assert_eq!((status[1].active, status[1].triggers), (true, 0));
    }

    #[test]
    fn a_window_on_the_wall_of_a_zone_that_changes_its_clocks() {
        let text = |from: &str, to: &str| {
            format!(
                "[[maintenance]]\nname = \"m\"\nfrom = {from:?}\nto = {to:?}\nzone = \"Europe/Berlin\"\n"
            )
        };
        // From the first half past two to half past three: two hours.
        let all = windows(&text("2026-10-25 02:30", "2026-10-25 03:30")).unwrap();
        let at = |at: &str| all.covering(&trigger(Kind::Probe, "p", "s", at)).is_some();
        assert!(!at("2026-10-25T00:29:59Z") && at("2026-10-25T00:30:00Z"));
        assert!(at("2026-10-25T02:29:59Z") && !at("2026-10-25T02:30:00Z"));
        let error = windows(&text("2026-03-29 02:30", "2026-03-29 03:30")).unwrap_err();
        assert!(error.to_string().contains("pass over"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("weekly = \"sunday\"", "m: weekly: \"sunday\""),
            ("", "m: weekly: say when"),
            ("from = \"2026-12-01 22:00\"", "say when"),
            (
                "weekly = \"sun\"\nfrom = \"2026-12-01 22:00\"\nto = \"2026-12-02 22:00\"",
                "say when",
            ),
            (
                "from = \"tomorrow\"\nto = \"2026-12-02 22:00\"",
                "m: from: \"tomorrow\" is no time",
            ),
            (
                "from = \"2026-12-03 22:00\"\nto = \"2026-12-02 22:00\"",
                "m: to: it is not after from",
            ),
            ("weekly = \"sun\"\nzone = \"Tokyo\"", "m: zone: \"Tokyo\""),
        ] {
            let error = windows(&format!("[[maintenance]]\nname = \"m\"\n{text}\n"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let twice = windows(&NIGHT.repeat(2)).unwrap_err().to_string();
        assert!(twice.contains("\"night\" is given twice"), "{twice}");
    }
}
