//! Start-up of one interface: its folder, its recovery, its slots and its two threads.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest, Sha256};

use crate::error::{IoContext, IoError};
use crate::recorder::capture::{Capturer, Command};
use crate::recorder::gaps::GapLog;
use crate::recorder::keeper::Keeper;
use crate::recorder::open::CaptureOptions;
use crate::recorder::protocol::{Gap, GapCause};
use crate::recorder::recovery::{Recovered, recover};
use crate::recorder::service::{RecorderConfig, StartError};
use crate::recorder::shared::Shared;
use crate::recorder::slots::Slots;
use crate::recorder::store::Store;
use crate::recorder::watch;
use crate::recorder::writer::{SlotWriter, WriterParts, channel_capacity};
use crate::ring::catalog::Catalog;
use crate::ring::names::folder_name;
use crate::time::{Timestamp, Window};

#[derive(Debug)]
pub(super) struct Port {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) commands: Sender<Command>,
    pub(super) free: Receiver<crate::recorder::slots::Slot>,
    pub(super) slots: u64,
    pub(super) slot_path: PathBuf,
    pub(super) foreign: u64,
}

impl Port {
    pub(super) fn start(
        name: &str,
        config: &RecorderConfig,
        stopped: &Receiver<()>,
    ) -> Result<(Self, [JoinHandle<()>; 2]), StartError> {
        let ring = &config.ring.path;
        let folder = ring.join(folder_name(name));
        make_root(&folder, config.group, 0o2750)?;
        let slot_path = slot_path(config, name)?;
        let now = Timestamp::now();
        let (recovered, gaps) = with_room(&folder, || {
            let recovered = recover_port(&folder, &slot_path, name)?;
            let gaps = open_gaps(&folder, name, &recovered, now)?;
            Ok((recovered, gaps))
        })?;
        let segment = config.ring.segment.as_u64();
        let size = config.ring.size.as_u64();
        let store = Arc::new(Store::new(
            ring,
            name,
            &config.incidents,
            size,
            &recovered.catalog,
        ));
        let shared = Arc::new(Shared::new(name).at("make an eventfd for", &folder)?);
        if let Some(until) = recovered.until {
            shared.set_durable(until);
        }
        watch::look(&shared);

        let count = usize::try_from(config.ring.memory.as_u64() / segment)
            .unwrap_or(2)
            .max(2);
        let slot_bytes = usize::try_from(segment).unwrap_or(usize::MAX);
        let slots = Slots::create(&slot_path, count, slot_bytes)?.into_slots();
        let (give, free) = bounded(count);
        for slot in slots {
            drop(give.send(slot));
        }
        let (send, events) = bounded(channel_capacity(count));
        let (commands, asked) = bounded(1024);
        let next_number = store.newest().map_or(0, |newest| newest + 1);
        let writer = SlotWriter::new(WriterParts {
            interface: name.to_owned(),
            free: free.clone(),
            events: send,
            next_number,
            patient: config.replay.is_some(),
            start: now,
        });
        let keeper = Keeper {
            store: Arc::clone(&store),
            shared: Arc::clone(&shared),
            events,
            free: give,
            gaps: Mutex::new(gaps),
            segment_bytes: segment,
            stopping: stopped.clone(),
        };
        let capturer = Capturer {
            options: CaptureOptions::new(&config.capture, &config.ring, config.replay.clone()),
            shared: Arc::clone(&shared),
            commands: asked,
            writer,
            blind_since: None,
        };
        let threads = [
            spawn("capture", move || capturer.run()).at("start a thread for", &folder)?,
            spawn("keeper", move || keeper.run()).at("start a thread for", &folder)?,
        ];
        let port = Self {
            shared,
            store,
            commands,
            free,
            slots: u64::try_from(count).unwrap_or(0),
            slot_path,
            foreign: recovered.foreign,
        };
        Ok((port, threads))
    }

    /// Gives the slots' memory back, if everything in them is on disk; otherwise the next start
    /// finds it there.
    pub(super) fn leave(&self) {
        if u64::try_from(self.free.len()).ok() != Some(self.slots) {
            tracing::warn!(slots = %self.slot_path.display(), "not everything is on disk; the next start brings it in");
            return;
        }
        let removed = fs::remove_file(&self.slot_path);
        // Other interfaces may have theirs beside it: then the folder stays.
        if removed.is_ok()
            && let Some(folder) = self.slot_path.parent()
        {
            drop(fs::remove_dir(folder));
        }
    }

    /// Whether the window is not wholly in sealed segments yet.
    pub(super) fn must_seal(&self, window: &Window) -> bool {
        let durable = self.shared.durable().unwrap_or(Timestamp::MIN);
        self.store.is_open_over(window) || durable < window.to
    }
}

/// How long gaps stay on record after their packets were rotated away: an incident that was opened
/// meanwhile still needs them.
const GAPS_KEPT: Duration = Duration::from_hours(7 * 24);

/// Opens the record of gaps, with the one that ends now.
fn open_gaps(
    folder: &Path,
    name: &str,
    recovered: &Recovered,
    now: Timestamp,
) -> Result<GapLog, IoError> {
    let oldest = recovered
        .catalog
        .segments()
        .first()
        .map_or(now, |segment| segment.name.first);
    let mut gaps = GapLog::open(folder, oldest.min(now).minus(GAPS_KEPT))?;
    if let Some(from) = recovered.until {
        let cause = GapCause::RecorderDown;
        gaps.append(&Gap {
            interface: name.to_owned(),
            from,
            to: now,
            cause,
        })?;
    }
    Ok(gaps)
}

/// Repeats `work` on a full disk, giving up the oldest segment each time: a recorder that cannot
/// start records nothing at all. The newest segment is never given up.
fn with_room<T>(folder: &Path, mut work: impl FnMut() -> Result<T, IoError>) -> Result<T, IoError> {
    loop {
        let error = match work() {
            Err(error) if error.source.kind() == std::io::ErrorKind::StorageFull => error,
            result => return result,
        };
        let catalog = Catalog::scan(folder)?;
        let [oldest, _, ..] = catalog.segments() else {
            return Err(error);
        };
        tracing::warn!(segment = %oldest.path.display(), "disk full: the oldest segment was given up");
        fs::remove_file(&oldest.path).at("give up", &oldest.path)?;
    }
}

fn recover_port(folder: &Path, slot_path: &Path, name: &str) -> Result<Recovered, IoError> {
    let mut old = Slots::open(slot_path)?;
    let leftovers = old.as_mut().map(Slots::leftovers).unwrap_or_default();
    let recovered = recover(folder, &leftovers)?;
    if recovered.replayed_bytes + recovered.cut_bytes > 0 {
        tracing::info!(
            interface = name,
            replayed_bytes = recovered.replayed_bytes,
            cut_bytes = recovered.cut_bytes,
            "recovered the ring"
        );
    }
    Ok(recovered)
}

/// A thread whose panic ends the process: a recorder that records half is worse than one that is
/// started again and recovers.
pub(super) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
                tracing::error!("recorder thread panicked; aborting so that a fresh one recovers");
                std::process::abort();
            }
        })
}

/// Makes a folder of ours, readable by the server's group, which its content inherits.
pub(super) fn make_root(path: &Path, group: Option<u32>, mode: u32) -> Result<(), IoError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .at("create", path)?;
    let metadata = fs::metadata(path).at("stat", path)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let error = std::io::Error::other("belongs to another user; the recorder must own it");
        return Err(IoError::new("use", path, error));
    }
    if let Some(group) = group.filter(|group| *group != metadata.gid()) {
        std::os::unix::fs::chown(path, None, Some(group)).at("chgrp", path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("chmod", path)
}

/// Where the slots of an interface are: in a 0700 folder of this user, named after the ring.
fn slot_path(config: &RecorderConfig, name: &str) -> Result<PathBuf, IoError> {
    let ring = fs::canonicalize(&config.ring.path).at("resolve", &config.ring.path)?;
    let digest = hex::encode(Sha256::digest(ring.as_os_str().as_encoded_bytes()));
    let short = digest.get(..16).unwrap_or(&digest);
    let uid = rustix::process::geteuid().as_raw();
    let folder = config.ring.slots.join(format!("wirewitness-{uid}-{short}"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .at("create", &folder)?;
    let metadata = fs::symlink_metadata(&folder).at("stat", &folder)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
        let error = std::io::Error::other("is not a private folder of this user; remove it");
        return Err(IoError::new("use", &folder, error));
    }
    Ok(folder.join(format!("{}.slots", folder_name(name))))
}
