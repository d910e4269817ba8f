//! When to look at a file again: inotify on its directory, and a second's poll beside it for
//! file systems and events that inotify does not tell of.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchMask};

/// The longest time between two looks.
const POLL: Duration = Duration::from_secs(1);
/// Room for the events of one read.
const EVENT_BYTES: usize = 16 << 10;

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

fn watch(directory: &Path) -> io::Result<EventStream<Vec<u8>>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::MODIFY
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(directory, mask)?;
    inotify.into_event_stream(vec![0; EVENT_BYTES])
}
