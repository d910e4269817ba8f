//! The journal of systemd, followed by its own reader: `journalctl --follow --output=json`, a child
//! without a shell. Where it was left is kept, so that a restart misses nothing and repeats nothing.

mod entry;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::delivery::{Delivery, Stopping};
use super::rules::{Line, Rules};
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::text::inert;
use super::{Kind, Trigger, cut};
use crate::error::{IoContext, IoError};
use crate::time::{Timestamp, span};
use entry::Entry;

/// The reader.
const JOURNALCTL: &str = "journalctl";
/// The longest entry looked at; longer ones are counted and passed over.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Entries judged before their triggers are journalled.
const BATCH: usize = 256;
/// The place is written down this often at least, and after every trigger.
const SAVE: Duration = Duration::from_secs(5);
/// After the reader ended it is started again, doubled each time up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What is shown of what the reader complained of.
const COMPLAINT_BYTES_MAX: usize = 256;

/// One `[[journal]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// The units whose entries are read; all when empty.
    pub units: Vec<String>,
    /// The `SYSLOG_IDENTIFIER`s whose entries are read; all when empty.
    pub identifiers: Vec<String>,
    /// The journal's directory; this machine's own when not given.
    pub directory: Option<PathBuf>,
    /// How late entries usually come; each has its own time, so this only says how far the ring
    /// must reach back.
    #[serde(skip_serializing_if = "Duration::is_zero", with = "span")]
    pub late: Duration,
}

/// Why a journal cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A value that makes no sense.
    #[error("[[journal]] {0} = {1:?}: {2}")]
    Value(&'static str, String, &'static str),
    /// Its place cannot be read.
    #[error("[[journal]]: {0}")]
    Place(#[from] IoError),
}

impl JournalConfig {
    /// What it is called: `journal`, and what it is limited to.
    pub fn name(&self) -> String {
        let directory = self.directory.iter().map(|path| path.display().to_string());
        let limits = self.units.iter().chain(&self.identifiers).cloned();
        let parts: Vec<String> = directory.chain(limits).collect();
        if parts.is_empty() {
            return "journal".to_owned();
        }
        format!("journal {}", parts.join(" "))
    }

    /// The identifier under which a drill writes to this journal, or why it cannot.
    pub fn rehearsal(&self) -> Result<String, String> {
        if self.directory.is_some() {
            return Err("it is not this machine's own journal".to_owned());
        }
        if !self.units.is_empty() {
            return Err("only its units write to it; a drill is none of them".to_owned());
        }
        let usual = || "wirewitness".to_owned();
        Ok(self.identifiers.first().cloned().unwrap_or_else(usual))
    }

    /// Checks all that can be checked without starting the reader.
    pub fn validate(&self) -> Result<(), JournalError> {
        for (key, words) in [("units", &self.units), ("identifiers", &self.identifiers)] {
            let bad = |word: &&String| word.is_empty() || word.chars().any(char::is_control);
            if let Some(word) = words.iter().find(bad) {
                let why = "empty or with control characters";
                return Err(JournalError::Value(key, word.clone(), why));
            }
        }
        if let Some(path) = self.directory.as_ref().filter(|path| !path.is_absolute()) {
            let path = path.display().to_string();
            return Err(JournalError::Value("directory", path, "not absolute"));
        }
        Ok(())
    }

    /// Reads its place, which is kept in `state_dir`.
    pub fn open(&self, state_dir: &Path) -> Result<Journal, JournalError> {
        self.validate()?;
        let name = self.name();
        let mut digits = hex::encode(Sha256::digest(&name));
        digits.truncate(32);
        let file = state_dir.join(format!("journal-{digits}.json"));
        let place = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            bytes => serde_json::from_slice(&bytes.at("read", &file)?).ok(),
        };
        Ok(Journal {
            config: self.clone(),
            name,
            file,
            place,
        })
    }

    /// The reader's arguments, from `place` on or from now on.
    fn arguments(&self, place: Option<&Place>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--follow",
            "--output=json",
            "--all",
            "--no-pager",
            "--quiet",
        ]
        .map(OsString::from)
        .to_vec();
        let mut option =
            |name: &str, value: &str| arguments.push(format!("--{name}={value}").into());
        match place {
            Some(place) => {
                option("after-cursor", &place.cursor);
                // Otherwise the reader begins with the last ten lines.
                option("lines", "all");
            }
            None => option("lines", "0"),
        }
        self.units.iter().for_each(|unit| option("unit", unit));
        self.identifiers
            .iter()
            .for_each(|word| option("identifier", word));
        if let Some(directory) = &self.directory {
            let mut word = OsString::from("--directory=");
            word.push(directory);
            arguments.push(word);
        }
        arguments
    }
}

/// Whether the reader is installed.
pub fn is_available() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(JOURNALCTL).is_file())
}

/// Where a journal was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    journal: String,
    cursor: String,
}

/// A journal to follow.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    name: String,
    file: PathBuf,
    place: Option<Place>,
}

impl Journal {
    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        let handle = sources.register(Kind::Journal, &self.name);
        handle.declare(self.config.late);
        handle
    }

    /// Follows until the delivery's token is cancelled.
    pub async fn run(mut self, rules: Arc<Rules>, delivery: Delivery) {
        let handle = delivery.handle().clone();
        let stop = delivery.stop().clone();
        let mut again = AGAIN.0;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let why = match self.follow(&rules, &delivery).await {
                Ok(why) => why,
                Err(Stopping) => break,
            };
            if handle.set(SourceState::Failing, &why) {
                tracing::warn!(source = handle.name(), "{why}");
            }
            // Who ran for a while is not failing over and over.
            again = if began.elapsed() > AGAIN.1 {
                AGAIN.0
            } else {
                again
            };
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                () = stop.cancelled() => break,
            }
            again = (again * 2).min(AGAIN.1);
        }
        handle.set(SourceState::Stopped, "");
    }

    /// Runs the reader once; returns why it ended.
    async fn follow(&mut self, rules: &Rules, delivery: &Delivery) -> Result<String, Stopping> {
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(format!(
                    "{JOURNALCTL} is not installed: there is no systemd here"
                ));
            }
            Err(error) => return Ok(format!("{JOURNALCTL} cannot be started: {error}")),
        };
        let Some(output) = child.stdout.take() else {
            return Ok(format!("{JOURNALCTL} has no output"));
        };
        delivery.handle().set(SourceState::Ok, "following");
        let lines = LinesCodec::new_with_max_length(ENTRY_BYTES_MAX);
        let mut entries = FramedRead::new(output, lines).ready_chunks(BATCH);
        let mut saved = Instant::now();
        loop {
            let batch = tokio::select! {
                batch = entries.next() => batch,
                () = delivery.stop().cancelled() => return Err(Stopping),
            };
            let Some(batch) = batch else { break };
            let ended = batch
                .iter()
                .any(|line| matches!(line, Err(LinesCodecError::Io(_))));
            let found = self.take(batch, rules, delivery).await?;
            if found || saved.elapsed() > SAVE {
                self.save(delivery.handle());
                saved = Instant::now();
            }
            if ended {
                break;
            }
        }
        self.save(delivery.handle());
        Ok(complaint(child).await)
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(JOURNALCTL)
            .args(self.config.arguments(self.place.as_ref()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    /// Judges a batch and waits until its triggers are durable; whether there were any.
    async fn take(
        &mut self,
        batch: Vec<Result<String, LinesCodecError>>,
        rules: &Rules,
        delivery: &Delivery,
    ) -> Result<bool, Stopping> {
        let handle = delivery.handle();
        let received = Timestamp::now();
        let mut triggers = Vec::new();
        let mut cursor = None;
        for line in batch {
            handle.count(Count::Received);
            let Ok(line) = line else {
                handle.count(Count::Oversized);
                continue;
            };
            let Some(entry) = Entry::parse(&line) else {
                handle.count(Count::Malformed);
                continue;
            };
            let drill = handle.drill(&entry.line, received);
            let found = match drill {
                Some(drill) => vec![drill],
                None => self.judge(&entry, rules, received, handle),
            };
            handle.count_by(Count::Matched, u64::from(!found.is_empty()));
            triggers.extend(found);
            cursor = entry.cursor.or(cursor);
        }
        let found = !triggers.is_empty();
        delivery.deliver_all(triggers).await?;
        if let Some(cursor) = cursor {
            self.place = Some(Place {
                journal: self.name.clone(),
                cursor,
            });
        }
        Ok(found)
    }

    fn judge(
        &self,
        entry: &Entry,
        rules: &Rules,
        received: Timestamp,
        handle: &SourceHandle,
    ) -> Vec<Trigger> {
        let line = Line {
            kind: Kind::Journal,
            source: &self.name,
            file: None,
            bytes: &entry.line,
            host: entry.host.as_deref().unwrap_or("localhost"),
            severity: entry.severity,
            facility: entry.facility,
        };
        let time = handle.event_time(entry.at, received);
        if time.refused {
            handle.count(Count::Refused);
            return Vec::new();
        }
        let mut triggers = rules.apply(&line, time.at, received);
        for trigger in &mut triggers {
            if let Some(unit) = &entry.unit {
                let unit = inert(unit.as_bytes());
                trigger.fields.entry("unit".to_owned()).or_insert(unit);
            }
            time.mark(trigger);
        }
        triggers
    }

    /// Writes the place down; a failure costs lines that are read twice, and joins hide that.
    fn save(&self, handle: &SourceHandle) {
        let Some(place) = &self.place else { return };
        let new = self.file.with_extension("json.new");
        let written = serde_json::to_vec(place)
            .map_err(io::Error::other)
            .and_then(|bytes| {
                if let Some(folder) = self.file.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&new, bytes)?;
                fs::rename(&new, &self.file)
            });
        if let Err(error) = written {
            tracing::warn!(source = handle.name(), %error, "the place in the journal is not kept");
        }
    }
}

/// What the reader said before it ended.
async fn complaint(mut child: Child) -> String {
    let mut said = Vec::new();
    if let Some(errors) = child.stderr.take() {
        // Bounded: it has ended, or is about to.
        let reading = errors.take(64 << 10);
        let read = tokio::time::timeout(Duration::from_secs(1), read_all(reading, &mut said));
        drop(read.await);
    }
    let text = inert(said.trim_ascii());
    match cut(&text, COMPLAINT_BYTES_MAX) {
        "" => format!("{JOURNALCTL} ended; it is started again"),
        text => format!("{JOURNALCTL}: {text}"),
    }
}

async fn read_all(
    mut from: impl tokio::io::AsyncRead + Unpin,
    into: &mut Vec<u8>,
) -> io::Result<usize> {
    from.read_to_end(into).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_is_told_where_to_begin_and_what_to_read() {
        let config: JournalConfig =
            toml::from_str("units = [\"nginx.service\", \"$(x).service\"]").unwrap();
        assert_eq!(config.name(), "journal nginx.service $(x).service");
        let words = config.arguments(None);
        assert!(words.contains(&"--lines=0".into()));
        assert!(
            words.contains(&"--unit=$(x).service".into()),
            "one word, no shell"
        );
        let place = Place {
            journal: config.name(),
            cursor: "s=1;i=2".to_owned(),
        };
        let words = config.arguments(Some(&place));
        assert!(words.contains(&"--after-cursor=s=1;i=2".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("units = [\"\"]", "units"),
            ("identifiers = [\"a\\nb\"]", "identifiers"),
            ("directory = \"var/log\"", "not absolute"),
        ] {
            let config: JournalConfig = toml::from_str(text).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(
                error.contains("[[journal]]") && error.contains(words),
                "{error}"
            );
        }
    }
}
