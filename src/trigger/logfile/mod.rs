//! Log files, followed through rotation: one by its path, or all that a path with wildcards names.

mod checkpoint;
mod clock;
mod crowd;
mod lines;
mod pattern;
mod tail;
mod wake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use checkpoint::{Checkpoint, Checkpoints, Identity, Store};
pub use crowd::FILES_MAX;
pub use lines::{LINE_BYTES_MAX, Line};
pub use tail::{Step, Tail};

use super::delivery::{Delivery, Stopping};
use super::rules::{self, Rules};
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::syslog::{Charset, Message, Zone};
use super::text::inert;
use super::{Kind, Trigger};
use crate::error::IoError;
use crate::time::{Timestamp, span};
use crowd::Crowd;
use pattern::Pattern;

/// The field that names the file of a path with wildcards.
const FILE_FIELD: &str = "file";
/// Of lines that no rule is about, the time of one in so many is read.
pub(super) const LEARN_FROM: u64 = 16;
/// A checkpoint is saved at once after a trigger, otherwise at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// One `[[logfile]]`: a file to follow, or several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogfileConfig {
    /// Its absolute path. It need not exist yet. `*`, `?`, `[...]` and `**` name several.
    pub path: PathBuf,
    /// The IANA zone of timestamps that name none; this machine's without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The encoding of lines; `auto` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// How late lines usually come: one without a time of its own is filed this much earlier.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "span")]
    pub late: Duration,
    /// Whether a drill may append a line to it; otherwise it is never written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drill: bool,
}

/// Why a log file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LogfileError {
    /// The path depends on where the server was started.
    #[error("[[logfile]] path = {0:?} is not absolute; begin it with /")]
    Relative(PathBuf),
    /// The path does not end in a file's name.
    #[error("[[logfile]] path = {0:?} does not name a file")]
    NoName(PathBuf),
    /// The wildcards are not well-formed.
    #[error("[[logfile]] path = {path:?}: {why}")]
    Pattern {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No such zone.
    #[error(
        "[[logfile]] path = {path:?}: zone = {zone:?} is no IANA zone; write Asia/Tokyo or UTC"
    )]
    Zone {
        /// The path.
        path: PathBuf,
        /// The zone as configured.
        zone: String,
    },
    /// No such encoding.
    #[error(
        "[[logfile]] path = {path:?}: encoding = {encoding:?} is unknown; write auto, utf-8, shift_jis, euc-jp, iso-2022-jp or latin1"
    )]
    Encoding {
        /// The path.
        path: PathBuf,
        /// The encoding as configured.
        encoding: String,
    },
    /// The checkpoint cannot be read or its directory made.
    #[error("[[logfile]] path = {path:?}: its checkpoint: {source}")]
    Checkpoint {
        /// The path.
        path: PathBuf,
        /// What failed.
        #[source]
        source: IoError,
    },
}

/// A path ready to be followed.
#[derive(Debug)]
pub struct Logfile {
    path: PathBuf,
    name: String,
    zone: Zone,
    charset: Charset,
    late: Duration,
    store: Store,
    follows: Follows,
}

#[derive(Debug)]
enum Follows {
    One(Box<Tail>),
    Several(Box<Crowd>),
}

impl LogfileConfig {
    /// Checks the path and nothing else: the file itself may come later.
    pub fn validate(&self) -> Result<(), LogfileError> {
        if !self.path.is_absolute() {
            return Err(LogfileError::Relative(self.path.clone()));
        }
        if self.path.file_name().is_none()
            || self.path.as_os_str().as_encoded_bytes().ends_with(b"/")
        {
            return Err(LogfileError::NoName(self.path.clone()));
        }
        self.pattern()?;
        self.zone()?;
        self.charset()?;
        Ok(())
    }

    fn pattern(&self) -> Result<Option<Pattern>, LogfileError> {
        if !pattern::is_pattern(&self.path) {
            return Ok(None);
        }
        let read = Pattern::new(&self.path);
        read.map(Some).map_err(|why| LogfileError::Pattern {
            path: self.path.clone(),
            why,
        })
    }

    fn zone(&self) -> Result<Zone, LogfileError> {
        let zone = Zone::configured(self.zone.as_deref());
        zone.map_err(|zone| LogfileError::Zone {
            path: self.path.clone(),
            zone,
        })
    }

    fn charset(&self) -> Result<Charset, LogfileError> {
        let charset = Charset::configured(self.encoding.as_deref());
        charset.map_err(|encoding| LogfileError::Encoding {
            path: self.path.clone(),
            encoding,
        })
    }

    /// The files that the path names now; a path without wildcards as it is.
    pub fn files(&self) -> Vec<PathBuf> {
        match self.pattern() {
            Ok(Some(pattern)) => {
                let found = pattern.find().files.into_iter();
                found.take(FILES_MAX).map(|(path, _)| path).collect()
            }
            _ => vec![self.path.clone()],
        }
    }

    /// Reads the checkpoint of the last run from `state_dir`.
    pub fn open(&self, state_dir: &Path) -> Result<Logfile, LogfileError> {
        self.validate()?;
        let error = |source| LogfileError::Checkpoint {
            path: self.path.clone(),
            source,
        };
        let store = Store::new(state_dir, &self.path).map_err(error)?;
        let follows = if let Some(pattern) = self.pattern()? {
            let resume = store.load().map_err(error)?;
            let crowd = Crowd::new(&self.path, pattern, resume, Timestamp::now());
            Follows::Several(Box::new(crowd))
        } else {
            let resume = store.load().map_err(error)?;
            Follows::One(Box::new(Tail::new(&self.path, resume)))
        };
        Ok(Logfile {
            name: self.path.display().to_string(),
            path: self.path.clone(),
            zone: self.zone()?,
            charset: self.charset()?,
            late: self.late,
            store,
            follows,
        })
    }
}

impl Logfile {
    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        let handle = sources.register(Kind::Logfile, &self.name);
        handle.declare(self.late);
        handle
    }

    /// Follows the path until the delivery's token is cancelled.
    pub async fn run(self, rules: Arc<Rules>, delivery: Delivery) {
        let handle = delivery.handle().clone();
        let mut follower = Follower {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            name: self.name,
            zone: self.zone,
            charset: self.charset,
            store: self.store,
            rules,
            delivery,
            saved_at: None,
        };
        let ended = match self.follows {
            Follows::One(tail) => follow_one(&mut follower, &self.path, *tail).await,
            Follows::Several(crowd) => follow_several(&mut follower, *crowd).await,
        };
        match ended {
            Ok(()) | Err(End::Stopping) => handle.set(SourceState::Stopped, ""),
            Err(End::Failed(why)) => handle.set(SourceState::Failing, format!("ended: {why}")),
        };
    }
}

/// The time that a line names, in `zone` where it names none. Many logs begin as syslog does; the
/// others have forms of their own.
pub fn time_of(line: &[u8], received: Timestamp, zone: Zone) -> Option<Timestamp> {
    let syslog = Message::parse_in(line, received, zone).at;
    syslog.or_else(|| clock::time(line, received, zone))
}

/// Why nothing is followed any more.
enum End {
    Stopping,
    Failed(String),
}

impl From<Stopping> for End {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

/// Looks on a thread that may wait: a log on a hanging network file system must hold up nothing but
/// its own source.
async fn apart<T: Send + 'static, R: Send + 'static>(
    mut state: T,
    look: impl FnOnce(&mut T) -> R + Send + 'static,
) -> Result<(T, R), End> {
    let looked = tokio::task::spawn_blocking(move || {
        let seen = look(&mut state);
        (state, seen)
    });
    looked.await.map_err(|error| End::Failed(error.to_string()))
}

async fn follow_one(follower: &mut Follower, path: &Path, mut tail: Tail) -> Result<(), End> {
    let mut waker = wake::Waker::new(path);
    let token = follower.delivery.stop().clone();
    let mut saved = None;
    loop {
        let step;
        (tail, step) = apart(tail, Tail::step).await?;
        let more = step.more;
        follower.report(step.failing.as_deref());
        let found = follower.take(&[(None, step)]).await?;
        follower.save(tail.checkpoint(), &mut saved, found).await;
        if more {
            if token.is_cancelled() {
                return Ok(());
            }
            continue;
        }
        tokio::select! {
            () = waker.wait() => {}
            () = token.cancelled() => return Ok(()),
        }
    }
}

async fn follow_several(follower: &mut Follower, mut crowd: Crowd) -> Result<(), End> {
    let mut waker = wake::FoldersWaker::default();
    let token = follower.delivery.stop().clone();
    let mut touched = wake::Touched::Folders;
    let mut saved = None;
    loop {
        let round;
        let looking = apart(crowd, move |crowd| crowd.look(&touched, Instant::now()));
        (crowd, round) = looking.await?;
        let (state, detail) = crowd.condition();
        let handle = follower.delivery.handle();
        if handle.set(state, &detail) {
            tracing::info!(source = handle.name(), "{detail}");
        }
        let steps = round.steps.into_iter();
        let steps: Vec<(Option<PathBuf>, Step)> =
            steps.map(|(path, step)| (Some(path), step)).collect();
        let found = follower.take(&steps).await?;
        follower.save(crowd.checkpoints(), &mut saved, found).await;
        if round.more {
            if token.is_cancelled() {
                return Ok(());
            }
            touched = wake::Touched::Files(std::collections::BTreeSet::new());
            continue;
        }
        waker.watch(crowd.folders());
        touched = tokio::select! {
            touched = waker.wait() => touched,
            () = token.cancelled() => return Ok(()),
        };
    }
}

/// Turns what tails found into triggers, then remembers how far they got.
struct Follower {
    host: String,
    name: String,
    zone: Zone,
    charset: Charset,
    store: Store,
    rules: Arc<Rules>,
    delivery: Delivery,
    saved_at: Option<Instant>,
}

impl Follower {
    /// Delivers what steps found, each with its file where the path names several; whether there
    /// was anything.
    async fn take(&self, steps: &[(Option<PathBuf>, Step)]) -> Result<bool, Stopping> {
        let handle = self.delivery.handle();
        let received = Timestamp::now();
        let mut triggers = Vec::new();
        for (path, step) in steps {
            handle.count_by(Count::Rotated, step.rotated);
            let file = path.as_ref().map(|path| path.display().to_string());
            let lines = step.lines.iter();
            triggers.extend(lines.flat_map(|line| self.judge(line, file.as_deref(), received)));
        }
        let found = !triggers.is_empty();
        self.delivery.deliver_all(triggers).await?;
        Ok(found)
    }

    fn report(&self, failing: Option<&str>) {
        let handle = self.delivery.handle();
        let changed = match failing {
            Some(why) => handle.set(SourceState::Failing, why),
            None => handle.set(SourceState::Ok, "following"),
        };
        match failing {
            Some(why) if changed => tracing::warn!(source = handle.name(), "{why}"),
            None if changed => tracing::info!(source = handle.name(), "followed again"),
            _ => {}
        }
    }

    fn judge(&self, line: &Line, file: Option<&str>, received: Timestamp) -> Vec<Trigger> {
        let handle = self.delivery.handle();
        handle.count(Count::Received);
        if line.cut {
            handle.count(Count::Oversized);
        }
        if let Some(drill) = handle.drill(&line.bytes, received) {
            return vec![drill];
        }
        let bytes = self.charset.decode(&line.bytes);
        // Times are read where they matter, and of some others, to learn how late lines come.
        let concern = self.rules.concern(&bytes);
        if !concern && !handle.get(Count::Received).is_multiple_of(LEARN_FROM) {
            return Vec::new();
        }
        let offered = rules::Line {
            kind: Kind::Logfile,
            source: &self.name,
            file,
            bytes: &bytes,
            host: &self.host,
            severity: None,
            facility: None,
        };
        // A line that is read late still has its time.
        let own = time_of(&bytes, received, self.zone);
        let time = handle.event_time(own, received);
        if time.refused {
            handle.count_by(Count::Refused, u64::from(concern));
            return Vec::new();
        }
        let mut triggers = self.rules.apply(&offered, time.at, received);
        handle.count_by(Count::Matched, u64::from(!triggers.is_empty()));
        for trigger in &mut triggers {
            time.mark(trigger);
            if let Some(file) = file {
                let file = inert(file.as_bytes());
                trigger.fields.entry(FILE_FIELD.to_owned()).or_insert(file);
            }
        }
        triggers
    }

    /// Saves the place if it moved. A crash before that offers the last lines again; they join the
    /// incident they opened.
    async fn save<T>(&mut self, place: Option<T>, saved: &mut Option<T>, found: bool)
    where
        T: Clone + PartialEq + Serialize + Send + 'static,
    {
        let recent = self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY);
        if place == *saved || (recent && !found) {
            return;
        }
        let Some(place) = place else { return };
        let store = self.store.clone();
        let copy = place.clone();
        let written = tokio::task::spawn_blocking(move || store.save(&copy)).await;
        match written {
            Ok(Ok(())) => *saved = Some(place),
            Ok(Err(error)) => tracing::warn!("a restart will read again: {error}"),
            Err(error) => tracing::warn!("a restart will read again: {error}"),
        }
        self.saved_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_time_as_syslog_does_or_as_programs_do() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let zone = Zone::named("Asia/Tokyo").unwrap();
        let received = at("2026-11-23T01:03:00Z");
        for line in [
            "Nov 23 10:02:11 web1 app[12]: x",
            "2026-11-23T01:02:11Z web1 app[12]: x",
            "2026-11-23 10:02:11,000 ERROR x",
            "10.0.0.9 - - [23/Nov/2026:10:02:11 +0900] \"GET / HTTP/1.1\" 502 157",
        ] {
            let found = time_of(line.as_bytes(), received, zone);
            assert_eq!(found, Some(at("2026-11-23T01:02:11Z")), "{line}");
        }
        assert_eq!(time_of(b"ERROR x", received, zone), None);
    }
}
