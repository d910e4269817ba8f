//! Puts a recorder together: one capture thread and one keeper per interface, one watcher, and the
//! verbs of the control socket.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sha2::{Digest, Sha256};

use crate::counters::Counters;
use crate::error::{IoContext, IoError};
use crate::recorder::capture::{Capturer, Command};
use crate::recorder::config::{CaptureConfig, RingConfig};
use crate::recorder::gaps::GapLog;
use crate::recorder::keeper::Keeper;
use crate::recorder::open::{CaptureOptions, Replay};
use crate::recorder::protocol::{
    Gap, GapCause, InterfaceStatus, PinReport, RecorderStatus, Reply, Request,
};
use crate::recorder::recovery::{Recovered, recover};
use crate::recorder::release::{is_incident_id, release};
use crate::recorder::seconds::SecondsLog;
use crate::recorder::shared::{Shared, lock};
use crate::recorder::slots::Slots;
use crate::recorder::store::Store;
use crate::recorder::watch;
use crate::recorder::writer::{SlotWriter, WriterParts, channel_capacity};
use crate::ring::catalog::Catalog;
use crate::ring::names::folder_name;
use crate::time::{Timestamp, Window};

/// How long a flush may take before it is reported as failed: the disk's worst stall.
const FLUSH_LIMIT: Duration = Duration::from_secs(20);

/// What a recorder is told.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// `[capture]`.
    pub capture: CaptureConfig,
    /// `[ring]`.
    pub ring: RingConfig,
    /// Where incidents are kept.
    pub incidents: PathBuf,
    /// Play a savefile instead of listening; the interface list then names its ring.
    pub replay: Option<Replay>,
    /// Group that may read ring and incidents: the server's.
    pub group: Option<u32>,
}

/// Why a recorder does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another recorder owns the ring.
    #[error("another recorder runs on {}; stop it first, or give this one another ring.path", .0.display())]
    Busy(PathBuf),
    /// Ring and incidents must share a file system, because a freeze is a hard link.
    #[error("ring.path {} and evidence.path {} are on different file systems; a freeze is a hard link and needs one", ring.display(), incidents.display())]
    TwoFileSystems {
        /// The ring's folder.
        ring: PathBuf,
        /// The incidents' folder.
        incidents: PathBuf,
    },
    /// The rings do not fit.
    #[error("ring.size {wanted} for {interfaces} interface(s) is more than the disk under {} holds ({total}); lower ring.size", path.display())]
    TooLarge {
        /// Bytes configured, as text.
        wanted: bytesize::ByteSize,
        /// How many rings.
        interfaces: usize,
        /// Where.
        path: PathBuf,
        /// Bytes of the file system, as text.
        total: bytesize::ByteSize,
    },
    /// No interface was named.
    #[error(
        "capture.interfaces is empty: name at least one interface to record (ip -br link lists them)"
    )]
    NoInterface,
    /// Anything else.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    interfaces: Vec<Port>,
    incidents: PathBuf,
    started: Timestamp,
    filter: String,
    snaplen: u32,
    stopping: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    clock: Arc<watch::ClockBoard>,
    /// Holds the ring for this process.
    _lock: fs::File,
}

#[derive(Debug)]
struct Port {
    shared: Arc<Shared>,
    store: Arc<Store>,
    commands: Sender<Command>,
    free: Receiver<crate::recorder::slots::Slot>,
    slots: u64,
    slot_path: PathBuf,
    foreign: u64,
}

impl Recorder {
    /// Recovers the rings and begins to record.
    pub fn start(config: &RecorderConfig) -> Result<Self, StartError> {
        if config.capture.interfaces.is_empty() {
            return Err(StartError::NoInterface);
        }
        let ring = &config.ring.path;
        make_root(ring, config.group, 0o2750)?;
        make_root(&config.incidents, config.group, 0o3770)?;
        let lock = lock_ring(ring)?;
        check_one_file_system(ring, &config.incidents)?;
        check_size(config)?;
        let (stopping, stopped) = bounded(0);
        let mut interfaces = Vec::new();
        let mut threads = Vec::new();
        for name in &config.capture.interfaces {
            let (port, [capture, keeper]) = Port::start(name, config, &stopped)?;
            interfaces.push(port);
            threads.extend([capture, keeper]);
        }
        let shared: Vec<_> = interfaces
            .iter()
            .map(|port| Arc::clone(&port.shared))
            .collect();
        let clock = Arc::new(watch::ClockBoard::default());
        let board = Arc::clone(&clock);
        let watcher = spawn("watch", move || watch::run(&shared, &board, &stopped))
            .at("start a thread in", ring)?;
        threads.push(watcher);
        Ok(Self {
            interfaces,
            incidents: config.incidents.clone(),
            started: Timestamp::now(),
            filter: config.capture.filter.clone(),
            snaplen: config.capture.snaplen,
            stopping: Mutex::new(Some(stopping)),
            threads: Mutex::new(threads),
            clock,
            _lock: lock,
        })
    }

    /// Records what was received and ends, within about a second unless the disk stalls.
    pub fn stop(&self) {
        for port in &self.interfaces {
            // A thread that is gone needs no stop.
            drop(port.commands.send(Command::Stop));
            port.shared.wake();
        }
        *lock(&self.stopping) = None;
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a recorder thread panicked");
            }
        }
        for port in &self.interfaces {
            port.leave();
        }
    }

    /// Carries out a request.
    pub fn handle(&self, request: &Request) -> Reply {
        let result = match request {
            Request::Status => return Reply::Status(self.status()),
            Request::Flush => self.flush(|_| Some(false)).map(|()| Reply::Flushed),
            Request::Pin { id, window } => self.pin(id, *window).map(Reply::Pinned),
            Request::Check { id } => self.check(id).map(Reply::Pinned),
            Request::Release { id } => self.release(id).map(|()| Reply::Released),
        };
        result.unwrap_or_else(|message| Reply::Failed { message })
    }

    fn status(&self) -> RecorderStatus {
        RecorderStatus {
            pid: std::process::id(),
            started: self.started,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interfaces: self
                .interfaces
                .iter()
                .map(|port| self.port_status(port))
                .collect(),
            clock: Some(self.clock.status()),
        }
    }

    fn port_status(&self, port: &Port) -> InterfaceStatus {
        let state = port.shared.state();
        let holding = port.store.holding();
        let (packets_per_second, bytes_per_second) = port.shared.rates();
        InterfaceStatus {
            name: port.shared.name.clone(),
            state: state.state,
            why: state.why,
            since: state.since,
            counters: consistent(port.shared.counters()),
            packets_per_second,
            bytes_per_second,
            longest_gap_ns: port.shared.longest_gap_ns(),
            ring_from: holding.from,
            ring_to: port.shared.durable(),
            ring_bytes: holding.bytes,
            ring_size_bytes: port.store.size_bytes(),
            ring_segments: holding.segments,
            slots_free: u64::try_from(port.free.len()).unwrap_or(0),
            slots: port.slots,
            disk_error: port.shared.disk_error(),
            accounting_error: port.shared.accounting_error(),
            filter: self.filter.clone(),
            snaplen: self.snaplen,
            foreign_files: port.foreign,
        }
    }

    /// Flushes the ports for which `seal` gives an answer; sealing them if it is true.
    fn flush(&self, seal: impl Fn(&Port) -> Option<bool>) -> Result<(), String> {
        let mut waiting = Vec::new();
        for port in &self.interfaces {
            let Some(seal) = seal(port) else { continue };
            let (done, answered) = bounded(1);
            if port.commands.send(Command::Flush { seal, done }).is_err() {
                return Err(format!("{}: the capture thread is gone", port.shared.name));
            }
            port.shared.wake();
            waiting.push((port, answered));
        }
        for (port, answered) in waiting {
            answered.recv_timeout(FLUSH_LIMIT).map_err(|_| {
                let error = port
                    .shared
                    .disk_error()
                    .unwrap_or_else(|| "no answer in time".into());
                format!("{}: not on disk: {error}", port.shared.name)
            })?;
        }
        Ok(())
    }

    fn pin(&self, id: &str, window: Window) -> Result<PinReport, String> {
        check_id(id)?;
        let over = window.to <= Timestamp::now();
        for port in &self.interfaces {
            port.store
                .pin(id, window, over)
                .map_err(|error| error.to_string())?;
        }
        if over {
            self.flush(|port| port.must_seal(&window).then_some(true))?;
            for port in &self.interfaces {
                port.store
                    .pin(id, window, true)
                    .map_err(|error| error.to_string())?;
            }
        }
        self.report(id, over)
    }

    fn check(&self, id: &str) -> Result<PinReport, String> {
        check_id(id)?;
        self.report(id, false)
    }

    fn report(&self, id: &str, complete: bool) -> Result<PinReport, String> {
        let mut segments = Vec::new();
        for port in &self.interfaces {
            segments.extend(port.store.pinned(id).map_err(|error| error.to_string())?);
        }
        Ok(PinReport { complete, segments })
    }

    fn release(&self, id: &str) -> Result<(), String> {
        check_id(id)?;
        for port in &self.interfaces {
            port.store.unpin(id);
        }
        release(&self.incidents, id, Timestamp::now()).map_err(|error| error.to_string())
    }
}

/// `received` is asked of the kernel once a second, `written` is counted as it happens.
fn consistent(mut counters: Counters) -> Counters {
    let accounted = counters.written + counters.dropped_ring + counters.dropped_kernel;
    counters.received = counters.received.max(accounted);
    counters
}

fn check_id(id: &str) -> Result<(), String> {
    if is_incident_id(id) {
        Ok(())
    } else {
        Err(format!("{id:?} is not an incident id"))
    }
}

impl Port {
    fn start(
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
            seconds: Mutex::new(SecondsLog::new(&folder)),
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
    fn leave(&self) {
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
    fn must_seal(&self, window: &Window) -> bool {
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
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
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
fn make_root(path: &Path, group: Option<u32>, mode: u32) -> Result<(), IoError> {
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

fn lock_ring(ring: &Path) -> Result<fs::File, StartError> {
    let path = ring.join(".lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .at("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Busy(ring.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(IoError::new("lock", &path, error).into()),
    }
}

fn check_one_file_system(ring: &Path, incidents: &Path) -> Result<(), StartError> {
    let device = |path: &Path| fs::metadata(path).at("stat", path).map(|m| m.dev());
    if device(ring)? == device(incidents)? {
        return Ok(());
    }
    Err(StartError::TwoFileSystems {
        ring: ring.to_owned(),
        incidents: incidents.to_owned(),
    })
}

fn check_size(config: &RecorderConfig) -> Result<(), StartError> {
    let path = &config.ring.path;
    let disk = rustix::fs::statvfs(path).at("statvfs", path)?;
    let total = disk.f_blocks.saturating_mul(disk.f_frsize);
    let interfaces = config.capture.interfaces.len();
    let wanted = config
        .ring
        .size
        .as_u64()
        .saturating_mul(u64::try_from(interfaces).unwrap_or(u64::MAX));
    if wanted <= total {
        return Ok(());
    }
    Err(StartError::TooLarge {
        wanted: config.ring.size,
        interfaces,
        path: path.clone(),
        total: bytesize::ByteSize(total),
    })
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
