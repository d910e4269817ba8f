//! When to look at files again: inotify on their directories, and a second's poll beside it for
//! file systems and events that inotify does not tell of.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

/// The longest time between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Room for the events of one read.
const EVENT_BYTES: usize = 16 << 10;
/// Events taken together.
const EVENTS_MAX: usize = 1000;

/// Waits for the next moment to look.
pub(super) struct Waker {
    directory: PathBuf,
    name: Option<OsString>,
    events: Option<EventStream<Vec<u8>>>,
}

impl Waker {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
            name: path.file_name().map(ToOwned::to_owned),
            events: None,
        }
    }

    /// Returns when something happened to the file or a second has passed.
    pub(super) async fn wait(&mut self) {
        if self.events.is_none() {
            // No directory yet, or no watches left: polling does it, and the next round tries
            // again.
            self.events = watch(&self.directory).ok();
            if self.events.is_some() {
                // Something may have happened before the watch: look once more at once.
                return;
            }
        }
        let polled = tokio::time::timeout(POLL, self.event()).await;
        if matches!(polled, Ok(Err(_))) {
            self.events = None;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for an event that concerns the file.
    async fn event(&mut self) -> io::Result<()> {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        while let Some(event) = events.next().await {
            let event = event?;
            if event.mask.contains(EventMask::IGNORED) {
                break;
            }
            // No name: the directory itself, or events were lost.
            if event.name.is_none() || event.name == self.name {
                return Ok(());
            }
        }
        Err(io::Error::other("the directory is gone"))
    }
}

fn mask() -> WatchMask {
    WatchMask::MODIFY
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
}

fn watch(directory: &Path) -> io::Result<EventStream<Vec<u8>>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(directory, mask())?;
    inotify.into_event_stream(vec![0; EVENT_BYTES])
}

/// What is worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    /// Nothing in particular: time has passed.
    Anything,
    /// Files may have come or gone.
    Folders,
    /// These were written to.
    Files(BTreeSet<PathBuf>),
}

/// Waits for the next moment to look at the files of several folders.
#[derive(Default)]
pub(super) struct FoldersWaker {
    events: Option<EventStream<Vec<u8>>>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// A folder has just been watched: something may have happened before.
    fresh: bool,
}

impl FoldersWaker {
    /// Watches these folders too. Where the kernel has no watches left, polling does it.
    pub(super) fn watch(&mut self, folders: &[PathBuf]) {
        if self.events.is_none() {
            let made = Inotify::init();
            let stream = made.and_then(|made| made.into_event_stream(vec![0; EVENT_BYTES]));
            self.events = stream.ok();
        }
        let Some(events) = &self.events else { return };
        for folder in folders {
            if self.folders.values().any(|watched| watched == folder) {
                continue;
            }
            if let Ok(watch) = events.watches().add(folder, mask()) {
                self.folders.insert(watch, folder.clone());
                self.fresh = true;
            }
        }
    }

    /// Returns when something happened or a second has passed.
    pub(super) async fn wait(&mut self) -> Touched {
        if std::mem::take(&mut self.fresh) {
            return Touched::Folders;
        }
        let Some(events) = &mut self.events else {
            tokio::time::sleep(POLL).await;
            return Touched::Anything;
        };
        let Ok(first) = tokio::time::timeout(POLL, events.next()).await else {
            return Touched::Anything;
        };
        let mut all: Vec<Option<io::Result<Event<OsString>>>> = vec![first];
        while all.len() < EVENTS_MAX
            && let Some(next) = events.next().now_or_never()
        {
            all.push(next);
        }
        let mut files = BTreeSet::new();
        let mut moved = false;
        for event in all {
            let Some(Ok(event)) = event else {
                (self.events, self.folders) = (None, HashMap::new());
                return Touched::Folders;
            };
            if event.mask.contains(EventMask::IGNORED) {
                self.folders.remove(&event.wd);
            }
            let folder = self.folders.get(&event.wd);
            match (event.mask.contains(EventMask::MODIFY), folder, event.name) {
                (true, Some(folder), Some(name)) => {
                    files.insert(folder.join(name));
                }
                _ => moved = true,
            }
        }
        if moved {
            Touched::Folders
        } else {
            Touched::Files(files)
        }
    }
}
