//! Puts a recorder together: the interfaces with their capture threads and keepers, one watcher, and
//! the verbs of the control socket.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::error::{IoContext, IoError};
use crate::recorder::capture::Command;
use crate::recorder::config::{CaptureConfig, RingConfig};
use crate::recorder::member::Member;
use crate::recorder::open::Replay;
use crate::recorder::port::{Port, make_root, spawn};
use crate::recorder::protocol::{PinReport, RecorderStatus, Reply, Request};
use crate::recorder::release::{is_incident_id, release};
use crate::recorder::shared::lock;
use crate::recorder::store::Store;
use crate::recorder::watch;
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
    /// Both closed when it stops.
    stopping: Mutex<Option<(Sender<()>, UnixStream)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    clock: Arc<watch::ClockBoard>,
    /// Holds the ring for this process.
    _lock: fs::File,
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
            let (port, started) = Port::start(name, config, &stopped)?;
            interfaces.push(port);
            threads.extend(started);
        }
        let shared: Vec<_> = interfaces.iter().map(Port::shared).collect();
        let clock = Arc::new(watch::ClockBoard::default());
        let board = Arc::clone(&clock);
        let (watching, ended) = UnixStream::pair().at("make sockets to watch", ring)?;
        let watcher = spawn("watch", move || watch::run(&shared, &board, ended.as_fd()))
            .at("start a thread in", ring)?;
        threads.push(watcher);
        Ok(Self {
            interfaces,
            incidents: config.incidents.clone(),
            started: Timestamp::now(),
            filter: config.capture.filter.clone(),
            snaplen: config.capture.snaplen,
            stopping: Mutex::new(Some((stopping, watching))),
            threads: Mutex::new(threads),
            clock,
            _lock: lock,
        })
    }

    /// Records what was received and ends, within about a second unless the disk stalls.
    pub fn stop(&self) {
        for member in self.members() {
            watch::count_drops(&member.shared);
            // A thread that is gone needs no stop.
            drop(member.commands.send(Command::Stop));
            member.shared.wake();
        }
        *lock(&self.stopping) = None;
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a recorder thread panicked");
            }
        }
        for member in self.members() {
            member.leave();
        }
    }

    /// The capture threads of all interfaces.
    fn members(&self) -> impl Iterator<Item = &Member> {
        self.interfaces.iter().flat_map(|port| &port.members)
    }

    /// Every folder, also those of capture threads that are not configured any more.
    fn stores(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.interfaces.iter().flat_map(|port| port.budget.stores())
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
                .map(|port| port.status(&self.filter, self.snaplen))
                .collect(),
            clock: Some(self.clock.status()),
        }
    }

    /// Flushes the threads for which `seal` gives an answer; sealing them if it is true.
    fn flush(&self, seal: impl Fn(&Member) -> Option<bool>) -> Result<(), String> {
        let mut waiting = Vec::new();
        for member in self.members() {
            let Some(seal) = seal(member) else { continue };
            let (done, answered) = bounded(1);
            watch::count_drops(&member.shared);
            if member.commands.send(Command::Flush { seal, done }).is_err() {
                let name = &member.shared.name;
                return Err(format!("{name}: the capture thread is gone"));
            }
            member.shared.wake();
            waiting.push((&member.shared, answered));
        }
        for (shared, answered) in waiting {
            answered.recv_timeout(FLUSH_LIMIT).map_err(|_| {
                let error = shared
                    .disk_error()
                    .unwrap_or_else(|| "no answer in time".into());
                format!("{}: not on disk: {error}", shared.name)
            })?;
        }
        Ok(())
    }

    fn pin(&self, id: &str, window: Window) -> Result<PinReport, String> {
        check_id(id)?;
        let over = window.to <= Timestamp::now();
        let pin = |last| {
            self.stores()
                .try_for_each(|store| store.pin(id, window, last))
                .map_err(|error| error.to_string())
        };
        pin(over)?;
        if over {
            self.flush(|member| member.must_seal(&window).then_some(true))?;
            pin(true)?;
        }
        self.report(id, over)
    }

    fn check(&self, id: &str) -> Result<PinReport, String> {
        check_id(id)?;
        self.report(id, false)
    }

    fn report(&self, id: &str, complete: bool) -> Result<PinReport, String> {
        let mut segments = Vec::new();
        for store in self.stores() {
            segments.extend(store.pinned(id).map_err(|error| error.to_string())?);
        }
        Ok(PinReport { complete, segments })
    }

    fn release(&self, id: &str) -> Result<(), String> {
        check_id(id)?;
        for store in self.stores() {
            store.unpin(id);
        }
        release(&self.incidents, id, Timestamp::now()).map_err(|error| error.to_string())
    }
}

fn check_id(id: &str) -> Result<(), String> {
    if is_incident_id(id) {
        Ok(())
    } else {
        Err(format!("{id:?} is not an incident id"))
    }
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
