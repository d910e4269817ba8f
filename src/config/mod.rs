//! The configuration: one TOML file, `conf.d/*.toml` beside it, and an embedded default for a
//! first look. Each layer owns its own table; here they are put together.
//!
//! Every error names the file, the line and the column, and the nearest key when one is unknown.

pub mod embedded;
mod merge;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::drill::DrillConfig;
use crate::incident::config::{EvidenceConfig, WindowConfig};
use crate::notify::{self, NotifyConfig, WatchConfig};
use crate::packet::filter::BpfFilter;
use crate::recorder::config::{CaptureConfig, RingConfig};
use crate::tls::Clients;
use crate::trigger::journal::{self, JournalConfig};
use crate::trigger::logfile::LogfileConfig;
use crate::trigger::maintenance::MaintenanceConfig;
use crate::trigger::precursor::PrecursorConfig;
use crate::trigger::probe::{PathConfig, ProbeConfig};
use crate::trigger::rules::{RuleConfig, RulesConfig};
use crate::trigger::sources::TriggerConfig;
use crate::trigger::syslog::SyslogConfig;
use crate::trigger::trap::TrapConfig;
use crate::trigger::webhook::WebhookConfig;
use crate::web::WebConfig;

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/wirewitness/wirewitness.toml";

/// LINKTYPE_ETHERNET, for checking filters before an interface is open.
const ETHERNET: i32 = 1;

/// Shorter webhook tokens are warned about.
const GOOD_TOKEN_BYTES: usize = 16;

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[capture]`
    pub capture: CaptureConfig,
    /// `[ring]`
    pub ring: RingConfig,
    /// `[evidence]`
    pub evidence: EvidenceConfig,
    /// `[window]`
    pub window: WindowConfig,
    /// `[web]`
    pub web: WebConfig,
    /// `[server]`
    pub server: ServerConfig,
    /// `[[probe]]`
    pub probe: Vec<ProbeConfig>,
    /// `[precursor]`
    pub precursor: PrecursorConfig,
    /// `[[path]]`
    pub path: Vec<PathConfig>,
    /// `[[syslog]]`
    pub syslog: Vec<SyslogConfig>,
    /// `[[logfile]]`
    pub logfile: Vec<LogfileConfig>,
    /// `[[journal]]`
    pub journal: Vec<JournalConfig>,
    /// `[[trap]]`
    pub trap: Vec<TrapConfig>,
    /// `[rules]`
    pub rules: RulesConfig,
    /// `[[webhook]]`
    pub webhook: Vec<WebhookConfig>,
    /// `[[rule]]`
    pub rule: Vec<RuleConfig>,
    /// `[[maintenance]]`
    pub maintenance: Vec<MaintenanceConfig>,
    /// `[drill]`
    pub drill: DrillConfig,
    /// `[[notify]]`
    pub notify: Vec<NotifyConfig>,
    /// `[watch]`
    pub watch: WatchConfig,
}

/// `[server]`: the process that talks to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The user the server becomes when it is started as root; `nobody` when there is no such
    /// user, and root without capabilities when that user could not read its files.
    pub user: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            user: "wirewitness".to_owned(),
        }
    }
}

/// Why there is no usable configuration. Its text is complete: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    text: String,
}

impl ConfigError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `path` (or [`DEFAULT_PATH`], or the embedded default when there is no such file) and
    /// `conf.d/*.toml` beside it, and checks everything that can be checked without side effects.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let path = match path {
            Some(path) => path,
            None if Path::new(DEFAULT_PATH).exists() => Path::new(DEFAULT_PATH),
            None => return Ok(embedded::config()),
        };
        let mut merged = merge::read(path)?;
        for part in parts(path)? {
            merge::merge(&mut merged, merge::read(&part)?);
        }
        let config: Self = merged
            .try_into()
            .map_err(|error| ConfigError::new(format!("{}: {error}", path.display())))?;
        config
            .check()
            .map_err(|text| ConfigError::new(format!("{}: {text}", path.display())))?;
        Ok(config)
    }

    /// The folder of journal, index and accounts: the parent of `evidence.path`.
    pub fn state_dir(&self) -> PathBuf {
        match self.evidence.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// The rules of the configuration, then those of the packs, which [`Config::check`] knows.
    fn all_rules(&self) -> Vec<RuleConfig> {
        let packs = self.rules.rules().unwrap_or_default();
        self.rule.iter().cloned().chain(packs).collect()
    }

    /// The trigger tables.
    pub fn triggers(&self) -> TriggerConfig {
        TriggerConfig {
            probe: self.probe.clone(),
            precursor: self.precursor.clone(),
            path: self.path.clone(),
            syslog: self.syslog.clone(),
            logfile: self.logfile.clone(),
            journal: self.journal.clone(),
            trap: self.trap.clone(),
            webhook: self.webhook.clone(),
            rule: self.all_rules(),
            matching: self.rules.matching,
            maintenance: self.maintenance.clone(),
        }
    }

    /// The recorder's control socket.
    pub fn control_socket(&self) -> PathBuf {
        crate::recorder::control::socket_path(&self.ring.path)
    }

    fn check(&self) -> Result<(), String> {
        let text = |error: &dyn fmt::Display| error.to_string();
        self.rules.rules().map_err(|error| text(&error))?;
        self.capture.check().map_err(|error| text(&error))?;
        self.ring
            .check(&self.capture)
            .map_err(|error| text(&error))?;
        if self.evidence.path.as_os_str().is_empty() {
            return Err(
                "evidence.path: is empty; name a folder on the ring's file system".to_owned(),
            );
        }
        if self.evidence.quota.as_u64() == 0 {
            return Err("evidence.quota: is 0; nothing could be kept".to_owned());
        }
        if self.window.before.is_zero() && self.window.after.is_zero() {
            return Err("window: before and after are both 0; nothing would be kept".to_owned());
        }
        if !self.capture.filter.is_empty() {
            BpfFilter::compile(&self.capture.filter, ETHERNET, self.capture.snaplen)
                .map_err(|error| format!("capture.filter {:?}: {error}", self.capture.filter))?;
        }
        if let Err(key) = self.web.tls() {
            return Err(format!(
                "web.{key}: is missing; TLS needs certificate and key, each a PEM file"
            ));
        }
        let shown = |hook: &&WebhookConfig| !hook.client_certificate.is_empty();
        if let Some(hook) = self.webhook.iter().find(shown)
            && self.web.client_ca.is_none()
        {
            return Err(format!(
                "[[webhook]] {}: client_certificate: give [web] client_ca, the authorities of such certificates",
                hook.name
            ));
        }
        let triggers = self.triggers();
        triggers.validate().map_err(|error| text(&error))?;
        notify::validate_all(&self.notify, &self.watch).map_err(|error| text(&error))?;
        self.drill.check(&triggers.names())
    }

    /// What works but is probably not meant, for `check-config` and the log.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for name in &self.capture.interfaces {
            if crate::recorder::socket::interface_index(name).is_none() {
                warnings.push(format!(
                    "capture.interfaces: there is no interface {name:?} now (there are: {}); it is recorded as soon as there is one",
                    interfaces().join(", ")
                ));
            }
        }
        if self.capture.interfaces.is_empty() {
            warnings
                .push("capture.interfaces: is empty; the recorder needs at least one".to_owned());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.capture.threads > 1
            && usize::try_from(self.capture.threads).is_ok_and(|threads| threads >= cores)
        {
            warnings.push(format!(
                "capture.threads: {} threads per interface on {cores} cores leave none for the disk, the server and the kernel's own part; {} or fewer are better",
                self.capture.threads,
                cores.saturating_sub(1).max(1)
            ));
        }
        let certificates = self.syslog.iter().map(SyslogConfig::tls);
        warnings.extend(certificates.filter_map(|tls| Some(tls.err()?.to_string())));
        if !self.journal.is_empty() && !journal::is_available() {
            warnings.push(
                "[[journal]]: journalctl is not installed: there is no journal to follow"
                    .to_owned(),
            );
        }
        for hook in &self.webhook {
            for (key, file) in hook.secret_files() {
                if let Err(error) = fs::read_to_string(file) {
                    let file = file.display();
                    warnings.push(format!("[[webhook]] {}: {key}: {file}: {error}", hook.name));
                }
            }
            for (key, secrets) in hook.given_secrets() {
                if secrets
                    .iter()
                    .any(|secret| secret.trim().len() < GOOD_TOKEN_BYTES)
                {
                    warnings.push(format!(
                        "[[webhook]] {}: {key}: fewer than {GOOD_TOKEN_BYTES} characters can be guessed; `openssl rand -hex 24` makes a good one",
                        hook.name
                    ));
                }
            }
        }
        for target in &self.notify {
            for (key, file) in target.secret_files() {
                if let Err(error) = fs::read_to_string(file) {
                    let file = file.display();
                    warnings.push(format!(
                        "[[notify]] {}: {key}_file: {file}: {error}",
                        target.name
                    ));
                }
            }
        }
        match self.web.tls() {
            Ok(Some(files)) => {
                if let Err(error) = files.acceptor(Clients::Asked) {
                    warnings.push(format!("[web] {error}"));
                }
            }
            _ if self.web.listen.ip().is_loopback() => {}
            _ => warnings.push(format!(
                "web.listen: {} is reachable from other hosts over plain HTTP; give web.certificate and web.key, or put a TLS proxy before it",
                self.web.listen
            )),
        }
        warnings
    }
}

/// The machine's interfaces.
pub fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// `conf.d/*.toml` beside `path`, in order of their names.
fn parts(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = path.with_file_name("conf.d");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(ConfigError::new(format!(
                "list {}: {error}",
                folder.display()
            )));
        }
        Ok(entries) => entries,
    };
    let mut parts: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    parts.sort_unstable();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ww.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path))
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
        let error = load("[ring]\nsize = \"1GiB\"\nsegmnet = \"16MiB\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("ww.toml:3:1"), "{error}");
        assert!(
            error.contains("segmnet") && error.contains("did you mean `segment`?"),
            "{error}"
        );
    }

    #[test]
    fn the_wrong_number_of_brackets_says_which_to_write() {
        for (text, words) in [
            (
                "\n[[drill]] # daily\nevery = \"1day\"\n",
                "ww.toml:2:1: there is only one table drill: write [drill]",
            ),
            (
                "[[capture]]\ninterfaces = [\"lo\"]\n",
                "ww.toml:1:1: there is only one table capture: write [capture]",
            ),
            (
                "[webhook]\nname = \"a\"\n",
                "ww.toml:1:1: there can be several tables webhook: write [[webhook]]",
            ),
            (
                "[[trap]]\nlisten = \"udp://127.0.0.1:162\"\n[trap.user]\nname = \"a\"\n",
                "ww.toml:3:1: there can be several tables trap.user: write [[trap.user]]",
            ),
            ("[ring]\nsize = {}\n", "ww.toml:2:8: invalid type: map"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn values_are_checked_with_their_keys() {
        for (text, words) in [
            ("[capture]\nsnaplen = 1\n", "capture.snaplen"),
            ("[capture]\nfilter = \"hots 1.2.3.4\"\n", "capture.filter"),
            ("[ring]\nmemory = \"1MiB\"\n", "ring.memory"),
            ("[capture]\nthreads = 0\n", "capture.threads"),
            ("[capture]\nthreads = 17\n", "capture.threads"),
            (
                "[capture]\nthreads = 16\n",
                "ring.memory: 256.0 MiB holds fewer than two segments of 16.0 MiB for each of 16",
            ),
            (
                "[capture]\nthreads = 2\nbuffer = \"1MiB\"\n",
                "capture.buffer",
            ),
            ("[ring]\nsync = \"5 parsecs\"\n", "parsecs"),
            ("[capture]\ninterfaces = [\"a\", \"a\"]\n", "listed twice"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?} says {error}");
        }
    }

    #[test]
    fn parts_are_added_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ww.toml");
        fs::write(
            &path,
            "[capture]\ninterfaces = [\"eth1\"]\n[ring]\nsize = \"1GiB\"\n",
        )
        .unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        let probe = |name: &str| format!("[[probe]]\nname = \"{name}\"\ntarget = \"192.0.2.1\"\n");
        fs::write(
            dir.path().join("conf.d/10-a.toml"),
            probe("a") + "[ring]\nsize = \"2GiB\"\n",
        )
        .unwrap();
        fs::write(dir.path().join("conf.d/20-b.toml"), probe("b")).unwrap();
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!(config.ring.size, bytesize::ByteSize::gib(2));
        assert_eq!(config.capture.interfaces, ["eth1"]);
        let names: Vec<&str> = config
            .probe
            .iter()
            .map(|probe| probe.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
