//! All sources together: what needs a privilege first, then, under tokio, the rest.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::journal::{Journal, JournalConfig, JournalError};
use super::lateness::{self, Delays};
use super::logfile::{Logfile, LogfileConfig, LogfileError};
use super::maintenance::{Effect, Maintenance, MaintenanceConfig, MaintenanceError};
use super::precursor::{PrecursorConfig, PrecursorError};
use super::probe::path::{self, PathConfig, PathError};
use super::probe::{self, BASELINES, Probe, ProbeConfig, ProbeError, ProbeSockets};
use super::rehearsal::{Target, Way};
use super::rules::{Absence, Matching, RuleConfig, RuleError, Rules};
use super::status::{SourceHandle, Sources};
use super::syslog::{BoundSyslog, SyslogConfig, SyslogError};
use super::trap::{BoundTraps, TrapConfig, TrapError};
use super::webhook::{self, Hook, HookError, WebhookConfig};
use super::{Intake, Kind, TEXT_BYTES_MAX, Trigger, cut};
use crate::error::{IoContext, IoError};
use crate::time::Timestamp;

/// How often rules are asked whether a line stays away.
const LOOK: Duration = Duration::from_secs(1);
/// How often what was learned of the sources' lateness is written down.
const SAVE_EVERY: Duration = Duration::from_mins(1);
/// Where log files keep their places, within the server's own directory.
const TAILS: &str = "tails";

/// The trigger tables of the configuration, as they are named there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerConfig {
    /// `[[probe]]`.
    pub probe: Vec<ProbeConfig>,
    /// `[precursor]`.
    pub precursor: PrecursorConfig,
    /// `[[path]]`.
    pub path: Vec<PathConfig>,
    /// `[[syslog]]`.
    pub syslog: Vec<SyslogConfig>,
    /// `[[logfile]]`.
    pub logfile: Vec<LogfileConfig>,
    /// `[[journal]]`.
    pub journal: Vec<JournalConfig>,
    /// `[[trap]]`.
    pub trap: Vec<TrapConfig>,
    /// `[[webhook]]`.
    pub webhook: Vec<WebhookConfig>,
    /// `[[rule]]`.
    pub rule: Vec<RuleConfig>,
    /// `[rules] match`.
    pub matching: Matching,
    /// `[[maintenance]]`.
    pub maintenance: Vec<MaintenanceConfig>,
}

/// Why the sources cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Early signs.
    #[error(transparent)]
    Precursor(#[from] PrecursorError),
    /// Where what is usual of probes and of lateness is kept.
    #[error(transparent)]
    Baselines(#[from] IoError),
    /// A path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The sockets of all probes.
    #[error("[[probe]]: {0}")]
    ProbeSockets(#[source] io::Error),
    /// A syslog listener.
    #[error(transparent)]
    Syslog(#[from] SyslogError),
    /// A journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A receiver of traps.
    #[error(transparent)]
    Trap(#[from] TrapError),
    /// A log file.
    #[error(transparent)]
    Logfile(#[from] LogfileError),
    /// A webhook.
    #[error(transparent)]
    Webhook(#[from] HookError),
    /// A maintenance window.
    #[error(transparent)]
    Maintenance(#[from] MaintenanceError),
    /// A maintenance window names something that is not there.
    #[error("[[maintenance]] {window}: {key} names {value:?}; there are {known}")]
    CoversNothing {
        /// The window.
        window: String,
        /// The key.
        key: &'static str,
        /// What it names.
        value: String,
        /// What it could name.
        known: String,
    },
    /// A rule names a source that is not there.
    #[error("[[rule]] {rule}: sources names {source_name:?}; there are {known}")]
    NoSuchSource {
        /// The rule.
        rule: String,
        /// What it names.
        source_name: String,
        /// What it could name.
        known: String,
    },
    /// The same address or path twice.
    #[error("[[{table}]] {key} = {value:?} is given twice")]
    Duplicate {
        /// The table.
        table: &'static str,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
}

impl TriggerConfig {
    /// Checks everything that can be checked without opening a socket or a file (`check-config`).
    pub fn validate(&self) -> Result<(), SourcesError> {
        Rules::new(&self.rule)?;
        Probe::all(&self.probe)?;
        self.precursor.validate()?;
        let names: Vec<&str> = self.probe.iter().map(|probe| probe.name.as_str()).collect();
        path::validate(&self.path, &names)?;
        let listens = self.syslog.iter().map(|config| config.listen.clone());
        unique("syslog", "listen", listens)?;
        for config in &self.syslog {
            config.parse()?;
        }
        self.journal.iter().try_for_each(JournalConfig::validate)?;
        unique(
            "journal",
            "units",
            self.journal.iter().map(JournalConfig::name),
        )?;
        let listens = self.trap.iter().map(|config| config.listen.clone());
        unique("trap", "listen", listens)?;
        self.trap.iter().try_for_each(TrapConfig::validate)?;
        let paths = self.logfile.iter();
        let paths = paths.map(|config| config.path.display().to_string());
        unique("logfile", "path", paths)?;
        for config in &self.logfile {
            config.validate()?;
        }
        webhook::validate_all(&self.webhook)?;
        Maintenance::new(&self.maintenance)?;
        self.check_maintenance()?;
        self.check_rule_sources()
    }

    /// A window for a source or rule that is not there would silence nothing, and nobody would
    /// know. Names with wildcards may come true later.
    fn check_maintenance(&self) -> Result<(), SourcesError> {
        let kinds = [
            Kind::Probe,
            Kind::Syslog,
            Kind::Logfile,
            Kind::Journal,
            Kind::Webhook,
            Kind::Trap,
        ];
        let kinds = kinds.iter().map(Kind::to_string);
        let probes: Vec<String> = self.probe.iter().map(|probe| probe.name.clone()).collect();
        let traps = self.trap.iter().map(|config| config.listen.clone());
        let hooks = self.webhook.iter().map(|config| config.name.clone());
        let sources: Vec<String> = kinds
            .chain(self.line_sources())
            .chain(traps)
            .chain(hooks)
            .chain(probes.iter().cloned())
            .collect();
        let defaults = RuleConfig::defaults();
        let rules = if self.rule.is_empty() {
            &defaults
        } else {
            &self.rule
        };
        let rules: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        for window in &self.maintenance {
            for (key, names, known) in [
                ("sources", &window.sources, &sources),
                ("probes", &window.probes, &probes),
                ("rules", &window.rules, &rules),
            ] {
                let unknown = |name: &&String| !name.contains(['*', '?']) && !known.contains(name);
                if let Some(value) = names.iter().find(unknown) {
                    return Err(SourcesError::CoversNothing {
                        window: window.name.clone(),
                        key,
                        value: value.clone(),
                        known: known.join(", "),
                    });
                }
            }
        }
        Ok(())
    }

    /// The names of the sources of lines.
    fn line_sources(&self) -> impl Iterator<Item = String> + '_ {
        let listens = self.syslog.iter().map(|config| config.listen.clone());
        let paths = self.logfile.iter();
        let paths = paths.map(|config| config.path.display().to_string());
        let journals = self.journal.iter().map(JournalConfig::name);
        listens.chain(paths).chain(journals)
    }

    /// The names of all sources: what a drill can be asked for.
    pub fn names(&self) -> Vec<String> {
        let probes = self.probe.iter().map(|one| one.name.clone());
        let syslog = self.syslog.iter().map(|one| one.listen.clone());
        let traps = self.trap.iter().map(|one| one.listen.clone());
        let hooks = self.webhook.iter().map(|one| one.name.clone());
        let files = self
            .logfile
            .iter()
            .map(|one| one.path.display().to_string());
        let journals = self.journal.iter().map(JournalConfig::name);
        let manual = std::iter::once(Kind::Manual.to_string());
        let all = probes.chain(syslog).chain(traps).chain(hooks);
        all.chain(files).chain(journals).chain(manual).collect()
    }

    /// What a drill of each source sends, or why there is no drill of it.
    fn drills(&self, syslog: &[BoundSyslog], traps: &[BoundTraps]) -> Vec<Target> {
        let target = |kind, name: &str, way| Target {
            kind,
            name: name.to_owned(),
            way,
        };
        let hooks = self.webhook.iter().map(|hook| {
            let way = webhook::Rehearsal::new(hook).map_err(|error| error.to_string());
            let way = way.map(|way| Way::Webhook(Box::new(way)));
            target(Kind::Webhook, &hook.name, way)
        });
        let syslog = self.syslog.iter().zip(syslog).map(|(config, bound)| {
            let way = bound.rehearsal(config);
            let way = way.map(|way| Way::Syslog(Box::new(way)));
            target(Kind::Syslog, &config.listen, way)
        });
        let traps = self.trap.iter().zip(traps).map(|(config, bound)| {
            let way = bound.rehearsal().map_err(|error| error.to_string());
            let way = way.map(|way| Way::Trap(Box::new(way)));
            target(Kind::Trap, &config.listen, way)
        });
        let probes = self.probe.iter();
        let probes = probes.map(|probe| target(Kind::Probe, &probe.name, Ok(Way::Probe)));
        let files = self.logfile.iter().map(|file| {
            let why = "a drill writes into no file of others; drill = true in its [[logfile]] allows one line";
            let name = file.path.display().to_string();
            let way = if !file.drill {
                Err(why.to_owned())
            } else if name.contains(['*', '?', '[']) {
                Err("its path names several files; name one in a [[logfile]] of its own".to_owned())
            } else {
                Ok(Way::Logfile(file.path.clone()))
            };
            target(Kind::Logfile, &name, way)
        });
        let journals = self.journal.iter().map(|journal| {
            let way = journal.rehearsal().map(Way::Journal);
            target(Kind::Journal, &journal.name(), way)
        });
        let manual = target(Kind::Manual, &Kind::Manual.to_string(), Ok(Way::Manual));
        let all = probes.chain(syslog).chain(traps).chain(hooks);
        all.chain(files).chain(journals).chain([manual]).collect()
    }

    /// A rule limited to a source that is not there would silently never match.
    fn check_rule_sources(&self) -> Result<(), SourcesError> {
        let kinds = [Kind::Syslog, Kind::Logfile, Kind::Journal].map(|kind| kind.to_string());
        let known: Vec<String> = kinds.into_iter().chain(self.line_sources()).collect();
        for rule in &self.rule {
            let unknown = rule.sources.iter().find(|source| !known.contains(source));
            if let Some(source) = unknown {
                return Err(SourcesError::NoSuchSource {
                    rule: rule.name.clone(),
                    source_name: source.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(())
    }

    /// Opens every socket, reads every token and checkpoint, and enters all sources in the
    /// registry: to be called before privileges are dropped. `state_dir` is the server's own.
    pub fn bind(&self, state_dir: &Path, sources: &Sources) -> Result<Ready, SourcesError> {
        self.validate()?;
        let rules = Arc::new(Rules::new(&self.rule)?.matching(self.matching));
        let probes = Probe::all(&self.probe)?;
        let probe_sockets = match probes.as_slice() {
            [] => None,
            _ => Some(ProbeSockets::open(&self.probe).map_err(SourcesError::ProbeSockets)?),
        };
        let bound: Result<Vec<_>, _> = self.syslog.iter().map(SyslogConfig::bind).collect();
        let baselines = state_dir.join(BASELINES);
        if self.probe.iter().any(|probe| probe.precursor) {
            std::fs::create_dir_all(&baselines).at("create directory", &baselines)?;
        }
        let tails = state_dir.join(TAILS);
        let journals: Result<Vec<_>, _> = self.journal.iter().map(|one| one.open(&tails)).collect();
        let traps: Result<Vec<_>, _> = self.trap.iter().map(|one| one.bind(state_dir)).collect();
        let open = |config: &LogfileConfig| config.open(&tails);
        let logfiles: Result<Vec<_>, _> = self.logfile.iter().map(open).collect();
        sources.probes().set_paths(&self.path);
        let with_handle = |probe: Probe| (probe.register(sources), probe);
        let (syslog, traps) = (bound?, traps?);
        let drills = self.drills(&syslog, &traps);
        let ready = Ready {
            sources: sources.clone(),
            state_dir: state_dir.to_owned(),
            rules,
            probe_sockets,
            probes: probes.into_iter().map(with_handle).collect(),
            paths: self.path.clone(),
            precursor: self.precursor.clone(),
            baselines,
            drills,
            syslog: syslog
                .into_iter()
                .map(|bound| (bound.register(sources), bound))
                .collect(),
            journals: journals?
                .into_iter()
                .map(|journal| (journal.register(sources), journal))
                .collect(),
            traps: traps
                .into_iter()
                .map(|bound| (bound.register(sources), bound))
                .collect(),
            logfiles: logfiles?
                .into_iter()
                .map(|logfile| (logfile.register(sources), logfile))
                .collect(),
            hooks: Hook::all(&self.webhook, sources)?,
        };
        lateness::restore(state_dir, &sources.handles())?;
        Ok(ready)
    }
}

fn unique(
    table: &'static str,
    key: &'static str,
    values: impl Iterator<Item = String>,
) -> Result<(), SourcesError> {
    let mut seen = HashSet::new();
    for value in values {
        if !seen.insert(value.clone()) {
            return Err(SourcesError::Duplicate { table, key, value });
        }
    }
    Ok(())
}

/// Sources with everything open that they need.
#[derive(Debug)]
pub struct Ready {
    sources: Sources,
    state_dir: PathBuf,
    rules: Arc<Rules>,
    probe_sockets: Option<ProbeSockets>,
    probes: Vec<(SourceHandle, Probe)>,
    paths: Vec<PathConfig>,
    precursor: PrecursorConfig,
    baselines: PathBuf,
    /// Listening; public for the addresses.
    pub syslog: Vec<(SourceHandle, BoundSyslog)>,
    /// What a drill of each source sends.
    pub drills: Vec<Target>,
    journals: Vec<(SourceHandle, Journal)>,
    traps: Vec<(SourceHandle, BoundTraps)>,
    logfiles: Vec<(SourceHandle, Logfile)>,
    /// For the web layer, which calls them; [`start`] does not need them.
    pub hooks: Vec<Hook>,
}

/// Starts all sources; within a tokio runtime. They end when `stop` is cancelled, and then so do
/// the tasks returned.
pub fn start(ready: Ready, intake: &Intake, stop: &CancellationToken) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    tasks.spawn(remember(ready.sources, ready.state_dir, stop.clone()));
    let delivery = |handle| Delivery::new(intake.clone(), handle, stop.clone());
    if let Some(sockets) = ready.probe_sockets {
        let to = (intake, stop);
        let early = (&ready.precursor, ready.baselines.as_path());
        probe::start(sockets, ready.probes, ready.paths, early, to, &mut tasks)?;
    }
    if ready.rules.watch_for_absence() {
        tasks.spawn(watch(
            Arc::clone(&ready.rules),
            intake.clone(),
            stop.clone(),
        ));
    }
    for (handle, bound) in ready.syslog {
        tasks.spawn(bound.run(Arc::clone(&ready.rules), delivery(handle)));
    }
    for (handle, journal) in ready.journals {
        tasks.spawn(journal.run(Arc::clone(&ready.rules), delivery(handle)));
    }
    for (handle, bound) in ready.traps {
        tasks.spawn(bound.run(delivery(handle)));
    }
    for (handle, logfile) in ready.logfiles {
        tasks.spawn(logfile.run(Arc::clone(&ready.rules), delivery(handle)));
    }
    Ok(tasks)
}

/// Writes down how late sources are, every now and then and at the end.
async fn remember(sources: Sources, state_dir: PathBuf, stop: CancellationToken) {
    let mut last = Vec::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(SAVE_EVERY) => {}
            () = stop.cancelled() => {}
        }
        let handles = sources.handles();
        let now: Vec<_> = handles.iter().map(SourceHandle::delays).collect();
        if now == last || now.iter().all(Delays::is_empty) {
            continue;
        }
        let folder = state_dir.clone();
        let saved = tokio::task::spawn_blocking(move || lateness::save(&folder, &handles)).await;
        match saved {
            Ok(Ok(())) => last = now,
            Ok(Err(error)) => tracing::warn!("how late sources are is not kept: {error}"),
            Err(error) => tracing::warn!("how late sources are is not kept: {error}"),
        }
    }
}

/// Looks every second whether lines stay away that should come.
async fn watch(rules: Arc<Rules>, intake: Intake, stop: CancellationToken) {
    let handle = Sources::default().register(Kind::Syslog, "absence");
    let delivery = Delivery::new(intake.clone(), handle, stop.clone());
    let muted = |trigger: &Trigger| {
        let over = intake.maintenance().covering(trigger);
        over.is_some_and(|(_, effect)| effect == Effect::Silence)
    };
    let mut waiting = Vec::new();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        for news in rules.absences(Timestamp::now()) {
            let told = match news {
                Absence::Begun(trigger) => {
                    if muted(&trigger) {
                        waiting.push((*trigger).clone());
                    }
                    delivery.deliver(*trigger).await
                }
                Absence::Over(resolution) => {
                    waiting.retain(|trigger: &Trigger| trigger.subject != resolution.subject);
                    delivery.resolve(*resolution).await
                }
            };
            if told.is_err() {
                return;
            }
        }
        for trigger in outlasting(&mut waiting, Timestamp::now(), muted) {
            if delivery.deliver(trigger).await.is_err() {
                return;
            }
        }
    }
}

/// What was silenced, still is so, and nothing silences any more: it is told once, now.
fn outlasting(
    silenced: &mut Vec<Trigger>,
    now: Timestamp,
    muted: impl Fn(&Trigger) -> bool,
) -> Vec<Trigger> {
    let (mut told, mut rest) = (Vec::new(), Vec::new());
    for trigger in silenced.drain(..) {
        let mut later = trigger.clone();
        (later.at, later.received) = (now, now);
        if muted(&later) {
            rest.push(trigger);
            continue;
        }
        let text = format!("{}; since {}, silenced until now", later.text, trigger.at);
        cut(&text, TEXT_BYTES_MAX).clone_into(&mut later.text);
        told.push(later);
    }
    *silenced = rest;
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlasts_a_maintenance_is_told_once_at_its_end() {
        let at = |second: u64| Timestamp::from_ns(second * 1_000_000_000);
        let begun = |subject: &str| {
            Trigger::new(Kind::Syslog, "absence", subject, "no line", at(10), at(10))
        };
        let mut silenced = vec![begun("backup is missing"), begun("heartbeat is missing")];
        let until_20 =
            |trigger: &Trigger| trigger.subject == "heartbeat is missing" || trigger.at < at(20);
        assert_eq!(outlasting(&mut silenced, at(15), until_20), []);
        let told = outlasting(&mut silenced, at(20), until_20);
        let [told] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!((&*told.subject, told.at), ("backup is missing", at(20)));
        assert!(told.text.starts_with("no line; since "), "{}", told.text);
        assert_eq!(outlasting(&mut silenced, at(30), until_20), []);
        assert_eq!(silenced, [begun("heartbeat is missing")]);
    }

    fn check(text: &str) -> String {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct File {
            probe: Vec<ProbeConfig>,
            precursor: PrecursorConfig,
            path: Vec<PathConfig>,
            syslog: Vec<SyslogConfig>,
            logfile: Vec<LogfileConfig>,
            journal: Vec<JournalConfig>,
            trap: Vec<TrapConfig>,
            webhook: Vec<WebhookConfig>,
            rule: Vec<RuleConfig>,
            maintenance: Vec<MaintenanceConfig>,
        }
        let file: File = toml::from_str(text).unwrap();
        let config = TriggerConfig {
            probe: file.probe,
            precursor: file.precursor,
            path: file.path,
            syslog: file.syslog,
            logfile: file.logfile,
            journal: file.journal,
            trap: file.trap,
            webhook: file.webhook,
            rule: file.rule,
            maintenance: file.maintenance,
            ..TriggerConfig::default()
        };
        match config.validate() {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_configuration_of_the_manual_is_taken() {
        let text = r#"
            [[probe]]
            name = "provider-edge"
            target = "203.0.113.1"
            interval = "1s"
            timeout = "1s"
            lost = 3
            of = 5
            precursor = false
            [precursor]
            sensitivity = "high"
            warm_up = "1day"
            [[syslog]]
            listen = "udp://127.0.0.1:5514"
            [[logfile]]
            path = "/var/log/app/error.log"
            [[webhook]]
            name = "prometheus"
            kind = "alertmanager"
            token_file = "/etc/wirewitness/hook-token"
            [[rule]]
            name = "errors"
            match = 'ERROR.* peer=(?P<peer>\S+)'
            subject = "{peer}"
            sources = ["syslog", "/var/log/app/error.log"]
            severity = "err"
            grade = "precursor"
        "#;
        assert_eq!(check(text), "");
    }

    #[test]
    fn every_mistake_names_table_and_key() {
        let probe = "[[probe]]\nname = \"p\"\ntarget = \"192.0.2.1\"\n";
        let syslog = "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n";
        let logfile = "[[logfile]]\npath = \"/var/log/x\"\n";
        let hook = "[[webhook]]\nname = \"h\"\nkind = \"generic\"\ntoken = \"12345678\"\n";
        let rule = "[[rule]]\nname = \"r\"\nmatch = \"x\"\nsources = [\"syslgo\"]\n";
        for (text, expected) in [
            (probe.repeat(2), "[[probe]] name = \"p\" is given twice"),
            (
                syslog.repeat(2),
                "[[syslog]] listen = \"udp://127.0.0.1:5514\" is given twice",
            ),
            (
                logfile.repeat(2),
                "[[logfile]] path = \"/var/log/x\" is given twice",
            ),
            (
                "[precursor]\nwarm_up = \"1m\"\n".to_owned(),
                "precursor.warm_up: use a span from 10m",
            ),
            (hook.repeat(2), "[[webhook]] name = \"h\" is given twice"),
            (
                hook.replace("token", "#"),
                "[[webhook]] h: give token, basic or hmac_secret",
            ),
            (
                rule.to_owned(),
                "[[rule]] r: sources names \"syslgo\"; there are syslog, logfile, journal",
            ),
            (
                "[[maintenance]]\nname = \"m\"\nweekly = \"sun\"\nprobes = [\"edge\"]\n".to_owned(),
                "[[maintenance]] m: probes names \"edge\"",
            ),
            (
                "[[maintenance]]\nname = \"m\"\nweekly = \"sun\"\nrules = [\"errors\"]\n"
                    .to_owned(),
                "[[maintenance]] m: rules names \"errors\"; there are syslog-error, logfile-error",
            ),
            (
                logfile.replace("/var", "var"),
                "[[logfile]] path = \"var/log/x\" is not absolute",
            ),
        ] {
            assert!(check(&text).starts_with(expected), "{}", check(&text));
        }
    }
}
