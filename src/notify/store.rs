//! What waits for its targets and what was told, in one file that is replaced whole: a piece of
//! news is in the queue and counted as told in the same instant, so that a crash neither loses nor
//! repeats it. When the disk does not take it, telling goes on from memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::event::{Event, Trouble};
use super::incidents::Ledger;
use super::target::Target;
use crate::error::IoError;
use crate::incident::durable;
use crate::recorder::sync::Site;

/// The version of the file.
const VERSION: u32 = 1;
/// Pieces of news that may wait for one target; of more, the oldest go.
const WAITING_MAX: usize = 1000;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// The number of the next piece of news.
    next: u64,
    /// What was told of incidents; absent until they were looked at for the first time.
    pub(super) told: Option<Ledger>,
    /// Troubles that were told and are not over.
    pub(super) troubles: Vec<Trouble>,
    /// What waits, in order.
    waiting: Vec<Waiting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    number: u64,
    targets: BTreeSet<String>,
    event: Event,
}

impl Kept {
    fn empty() -> Self {
        Self {
            version: VERSION,
            next: 1,
            told: None,
            troubles: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

/// What a target sends next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Up to and with this number.
    pub(super) through: u64,
    pub(super) events: Vec<Event>,
}

/// The file, what it holds, and for whom.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    targets: Vec<Arc<Target>>,
    kept: Mutex<Kept>,
    /// The number of the first piece of news that is not on disk; deliveries end before it.
    safe: Mutex<u64>,
    writing: tokio::sync::Mutex<()>,
    failing: AtomicBool,
}

/// Forgets what was told and what waits.
pub(super) fn forget(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "notifications: cannot be removed");
    }
}

fn read(path: &Path) -> Kept {
    let unusable = |why: &dyn std::fmt::Display| {
        tracing::warn!(
            path = %path.display(), %why,
            "notifications: what was told is not known; from here on anew"
        );
        Kept::empty()
    };
    match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.version == VERSION => kept,
            Ok(kept) => unusable(&format_args!("it is of version {}", kept.version)),
            Err(error) => unusable(&error),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::empty(),
        Err(error) => unusable(&error),
    }
}

impl Store {
    /// Takes up what an earlier run left; what waits for targets that are no more is let go.
    pub(super) fn open(path: PathBuf, targets: Vec<Arc<Target>>) -> Self {
        let mut kept = read(&path);
        for waiting in &mut kept.waiting {
            waiting
                .targets
                .retain(|name| targets.iter().any(|target| target.name() == name));
        }
        kept.waiting.retain(|waiting| !waiting.targets.is_empty());
        Self {
            path,
            targets,
            safe: Mutex::new(kept.next),
            kept: Mutex::new(kept),
            writing: tokio::sync::Mutex::default(),
            failing: AtomicBool::new(false),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn safe(&self) -> MutexGuard<'_, u64> {
        self.safe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Troubles that were told and are not over.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.kept().troubles.clone()
    }

    /// Has `find` say what is news, puts it in the queues, makes both durable, and wakes targets.
    /// `find` sees what was told and may change it. Writes only if there is anything new.
    pub(super) async fn tell(&self, find: impl FnOnce(&mut Kept) -> Vec<Event> + Send) {
        let changed = {
            let mut kept = self.kept();
            let before = (kept.told.as_ref().map(Ledger::len), kept.troubles.len());
            let events = find(&mut kept);
            let after = (kept.told.as_ref().map(Ledger::len), kept.troubles.len());
            let changed = !events.is_empty() || before != after;
            for event in events {
                self.put(&mut kept, event);
            }
            changed
        };
        if changed {
            self.save().await;
            for target in &self.targets {
                target.wake();
            }
        }
    }

    fn put(&self, kept: &mut Kept, event: Event) {
        let wanting = self
            .targets
            .iter()
            .filter(|target| target.wants(&event.news));
        let wanting: Vec<&Arc<Target>> = wanting.collect();
        if wanting.is_empty() {
            return;
        }
        for target in &wanting {
            let name = target.name();
            let of_target = |waiting: &&mut Waiting| waiting.targets.contains(name);
            if kept.waiting.iter_mut().filter(of_target).count() >= WAITING_MAX
                && let Some(oldest) = kept.waiting.iter_mut().find(of_target)
            {
                oldest.targets.remove(name);
                target.counts().dropped += 1;
            }
        }
        kept.waiting.retain(|waiting| !waiting.targets.is_empty());
        let targets = wanting.iter().map(|target| target.name().to_owned());
        kept.waiting.push(Waiting {
            number: kept.next,
            targets: targets.collect(),
            event,
        });
        kept.next += 1;
    }

    /// How many pieces of news wait for a target.
    pub(super) fn waiting(&self, target: &Target) -> usize {
        let kept = self.kept();
        let of_target = |waiting: &&Waiting| waiting.targets.contains(target.name());
        kept.waiting.iter().filter(of_target).count()
    }

    /// The oldest `count` pieces of news for a target; `None` when nothing waits.
    pub(super) fn batch(&self, target: &Target, count: usize) -> Option<Batch> {
        let safe = *self.safe();
        let kept = self.kept();
        let of_target =
            |waiting: &&Waiting| waiting.number < safe && waiting.targets.contains(target.name());
        let taken = kept.waiting.iter().filter(of_target).take(count);
        let taken: Vec<&Waiting> = taken.collect();
        Some(Batch {
            through: taken.last()?.number,
            events: taken.iter().map(|waiting| waiting.event.clone()).collect(),
        })
    }

    /// A target is through with a batch, one way or the other.
    pub(super) async fn done(&self, target: &Target, batch: &Batch) {
        {
            let mut kept = self.kept();
            for waiting in &mut kept.waiting {
                if waiting.number <= batch.through {
                    waiting.targets.remove(target.name());
                }
            }
            kept.waiting.retain(|waiting| !waiting.targets.is_empty());
        }
        self.save().await;
    }

    async fn save(&self) {
        let _turn = self.writing.lock().await;
        let (next, bytes) = {
            let kept = self.kept();
            (kept.next, serde_json::to_vec(&*kept))
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = bytes.map_err(|error| IoError::new("encode", &path, error.into()))?;
            durable::replace(&path, &bytes, 0o600, Site::Notifications)
        });
        let written = match written.await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match written {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(
                    error,
                    "notifications: not on disk; a restart may repeat or lose some"
                );
            }
            Err(_) => {}
        }
        *self.safe() = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::event::samples;
    use crate::notify::target::tests::target;

    fn store(path: &Path, names: &[&str]) -> (Store, Vec<Arc<Target>>) {
        let targets: Vec<Arc<Target>> = names.iter().map(|name| Arc::new(target(name))).collect();
        (Store::open(path.to_owned(), targets.clone()), targets)
    }

    async fn put(store: &Store, subject: &str) {
        let event = samples::opened(subject);
        store.tell(|_| vec![event]).await;
    }

    fn subjects(store: &Store, target: &Target) -> Vec<String> {
        let events = store.batch(target, 5000).map(|batch| batch.events);
        let events = events.unwrap_or_default();
        let subjects = events.iter().filter_map(|event| event.news.incident());
        subjects.map(|about| about.subject.clone()).collect()
    }

    #[tokio::test]
    async fn what_waits_outlives_the_process_for_each_target_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.json");
        let (first, targets) = store(&path, &["a", "b", "gone"]);
        put(&first, "1").await;
        put(&first, "2").await;
        let batch = first.batch(&targets[0], 1).unwrap();
        first.done(&targets[0], &batch).await;
        drop(first);

        let (second, targets) = store(&path, &["a", "b"]);
        assert_eq!(subjects(&second, &targets[0]), ["2"]);
        assert_eq!(subjects(&second, &targets[1]), ["1", "2"]);
        put(&second, "3").await;
        assert_eq!(subjects(&second, &targets[0]), ["2", "3"]);
        let batch = second.batch(&targets[1], 2).unwrap();
        second.done(&targets[1], &batch).await;
        assert_eq!(second.waiting(&targets[1]), 1);
    }

    #[tokio::test]
    async fn a_full_queue_drops_its_oldest_and_counts_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, targets) = store(&folder.path().join("notify.json"), &["a"]);
        let events = (0..WAITING_MAX + 2).map(|n| samples::opened(&n.to_string()));
        let events: Vec<Event> = events.collect();
        store.tell(|_| events).await;
        assert_eq!(store.waiting(&targets[0]), WAITING_MAX);
        assert_eq!(targets[0].counts().dropped, 2);
        assert_eq!(subjects(&store, &targets[0])[0], "2");
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_does_not_keep_news_back() {
        let (store, targets) = store(Path::new("/proc/no/notify.json"), &["a"]);
        put(&store, "1").await;
        assert_eq!(subjects(&store, &targets[0]), ["1"]);
    }

    #[tokio::test]
    async fn a_damaged_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.json");
        std::fs::write(&path, "{\"version\":1,").unwrap();
        let (store, targets) = store(&path, &["a"]);
        assert_eq!(store.waiting(&targets[0]), 0);
        assert!(store.kept().told.is_none());
    }
}
