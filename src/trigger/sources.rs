//! All sources together: what needs a privilege first, then, under tokio, the rest.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::delivery::Delivery;
use super::logfile::{Logfile, LogfileConfig, LogfileError};
use super::probe::{Pinger, Probe, ProbeConfig, ProbeError, ProbeSockets};
use super::rules::{RuleConfig, RuleError, Rules};
use super::status::{SourceHandle, Sources};
use super::syslog::{BoundSyslog, SyslogConfig, SyslogError};
use super::webhook::{Hook, HookError, WebhookConfig};

/// The trigger tables of the configuration, as they are named there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerConfig {
    /// `[[probe]]`.
    pub probe: Vec<ProbeConfig>,
    /// `[[syslog]]`.
    pub syslog: Vec<SyslogConfig>,
    /// `[[logfile]]`.
    pub logfile: Vec<LogfileConfig>,
    /// `[[webhook]]`.
    pub webhook: Vec<WebhookConfig>,
    /// `[[rule]]`.
    pub rule: Vec<RuleConfig>,
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
    /// The sockets of all probes.
    #[error("[[probe]]: {0}")]
    ProbeSockets(#[source] io::Error),
    /// A syslog listener.
    #[error(transparent)]
    Syslog(#[from] SyslogError),
    /// A log file.
    #[error(transparent)]
    Logfile(#[from] LogfileError),
    /// A webhook.
    #[error(transparent)]
    Webhook(#[from] HookError),
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
        let listens = self.syslog.iter().map(|config| config.listen.clone());
        unique("syslog", "listen", listens)?;
        for config in &self.syslog {
            config.parse()?;
        }
        let paths = self.logfile.iter();
        let paths = paths.map(|config| config.path.display().to_string());
        unique("logfile", "path", paths)?;
        for config in &self.logfile {
            config.validate()?;
        }
        Ok(())
    }

    /// Opens every socket, reads every token and checkpoint, and enters all sources in the
    /// registry: to be called before privileges are dropped. Log files keep their place in
    /// `state_dir`.
    pub fn bind(&self, state_dir: &Path, sources: &Sources) -> Result<Ready, SourcesError> {
        self.validate()?;
        let rules = Arc::new(Rules::new(&self.rule)?);
        let probes = Probe::all(&self.probe)?;
        let probe_sockets = match probes.as_slice() {
            [] => None,
            _ => Some(ProbeSockets::open().map_err(SourcesError::ProbeSockets)?),
        };
        let bound: Result<Vec<_>, _> = self.syslog.iter().map(SyslogConfig::bind).collect();
        let open = |config: &LogfileConfig| config.open(state_dir);
        let logfiles: Result<Vec<_>, _> = self.logfile.iter().map(open).collect();
        let with_handle = |probe: Probe| (probe.register(sources), probe);
        Ok(Ready {
            rules,
            probe_sockets,
            probes: probes.into_iter().map(with_handle).collect(),
            syslog: bound?
                .into_iter()
                .map(|bound| (bound.register(sources), bound))
                .collect(),
            logfiles: logfiles?
                .into_iter()
                .map(|logfile| (logfile.register(sources), logfile))
                .collect(),
            hooks: Hook::all(&self.webhook, sources)?,
        })
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
    rules: Arc<Rules>,
    probe_sockets: Option<ProbeSockets>,
    probes: Vec<(SourceHandle, Probe)>,
    /// Listening; public for the addresses.
    pub syslog: Vec<(SourceHandle, BoundSyslog)>,
    logfiles: Vec<(SourceHandle, Logfile)>,
    /// For the web layer, which calls them; [`start`] does not need them.
    pub hooks: Vec<Hook>,
}

/// Starts all sources; within a tokio runtime. They end when `stop` is cancelled, and then so do
/// the tasks returned.
pub fn start(ready: Ready, intake: &Intake, stop: &CancellationToken) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let delivery = |handle| Delivery::new(intake.clone(), handle, stop.clone());
    if let Some(sockets) = ready.probe_sockets {
        let pinger = Pinger::start(sockets, stop)?;
        for (handle, probe) in ready.probes {
            tasks.spawn(probe.run(pinger.clone(), delivery(handle)));
        }
    }
    for (handle, bound) in ready.syslog {
        tasks.spawn(bound.run(Arc::clone(&ready.rules), delivery(handle)));
    }
    for (handle, logfile) in ready.logfiles {
        tasks.spawn(logfile.run(Arc::clone(&ready.rules), delivery(handle)));
    }
    Ok(tasks)
}
