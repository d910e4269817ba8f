//! The recorders: how each is started, how it says that it records, how it is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::Signal;
use tempfile::TempDir;
use wirewitness::recorder::client::Client;
use wirewitness::recorder::protocol::InterfaceState;

use crate::lab::{self, Lab, MONITOR};
use crate::process::Process;
use crate::{Fallible, stop};

/// How long a start or a drain may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Where memory is mapped from.
const MEMORY: &str = "/dev/shm";

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Recorder {
    /// Ours, always a ring
    Wirewitness,
    /// Ours with two capture threads
    WirewitnessTwo,
    /// Ours with segments of 64 MiB
    WirewitnessLarge,
    /// One file
    Dumpcap,
    /// One file
    Tcpdump,
    /// One file
    Netsniff,
    /// A ring of 64 MB files
    DumpcapRing,
    /// A ring of 64 MB files
    TcpdumpRing,
    /// A file per second
    NetsniffRing,
    /// The floor: libpcap and a copy, no disk
    Bare,
    /// Below the floor: libpcap and a look at every line of the cache, no copy
    BareRead,
}

impl Recorder {
    /// All, in the order of tables.
    pub(crate) const ALL: [Self; 11] = [
        Self::BareRead,
        Self::Bare,
        Self::Wirewitness,
        Self::WirewitnessTwo,
        Self::WirewitnessLarge,
        Self::Dumpcap,
        Self::Tcpdump,
        Self::Netsniff,
        Self::DumpcapRing,
        Self::TcpdumpRing,
        Self::NetsniffRing,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wirewitness => "wirewitness",
            Self::WirewitnessTwo => "wirewitness, 2 threads",
            Self::WirewitnessLarge => "wirewitness, 64 MiB segments",
            Self::Dumpcap => "dumpcap",
            Self::Tcpdump => "tcpdump",
            Self::Netsniff => "netsniff-ng",
            Self::DumpcapRing => "dumpcap, ring",
            Self::TcpdumpRing => "tcpdump, ring",
            Self::NetsniffRing => "netsniff-ng, ring",
            Self::Bare => "bare libpcap",
            Self::BareRead => "bare libpcap, reads only",
        }
    }

    /// Its colour in charts.
    pub(crate) fn colour(self) -> &'static str {
        match self {
            Self::Wirewitness => "#d9602b",
            Self::WirewitnessTwo => "#e89b78",
            Self::WirewitnessLarge => "#a8481c",
            Self::Dumpcap | Self::DumpcapRing => "#3f83c4",
            Self::Tcpdump | Self::TcpdumpRing => "#4f9e6a",
            Self::Netsniff | Self::NetsniffRing => "#9a6fc0",
            Self::Bare | Self::BareRead => "#8b929c",
        }
    }

    /// Whether it is the program that all of this is about.
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Wirewitness | Self::WirewitnessTwo | Self::WirewitnessLarge
        )
    }

    /// Whether it keeps nothing.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Bare | Self::BareRead)
    }

    /// `[ring] segment` of ours.
    fn segment(self) -> &'static str {
        if self == Self::WirewitnessLarge {
            "64MiB"
        } else {
            "16MiB"
        }
    }

    /// `[capture] threads` of ours.
    fn threads(self) -> u32 {
        if self == Self::WirewitnessTwo { 2 } else { 1 }
    }

    /// Whether it is the ring form of a peer.
    pub(crate) fn is_ring(self) -> bool {
        matches!(
            self,
            Self::DumpcapRing | Self::TcpdumpRing | Self::NetsniffRing
        )
    }

    /// How it is called, for the reader of the tables.
    pub(crate) fn call(self) -> &'static str {
        match self {
            Self::Wirewitness => {
                "wirewitness record: capture.buffer 256MiB, ring.memory 1GiB, ring.segment 16MiB, ring.sync 1s"
            }
            Self::WirewitnessTwo => "the same with capture.threads 2, on one processor",
            Self::WirewitnessLarge => "the same with capture.threads 1 and ring.segment 64MiB",
            Self::Dumpcap => "dumpcap -q -i mon0 -B 256 -w FILE",
            Self::Tcpdump => "tcpdump -n -i mon0 -B 262144 -Z root -w FILE",
            Self::Netsniff => "netsniff-ng -i mon0 -o FILE -S 256MiB -s -A",
            Self::DumpcapRing => {
                "dumpcap -q -i mon0 -B 256 -b filesize:65536 -b files:1000 -w FILE"
            }
            Self::TcpdumpRing => "tcpdump -n -i mon0 -B 262144 -Z root -C 64 -W 1000 -w FILE",
            Self::NetsniffRing => "netsniff-ng -i mon0 -o FOLDER --interval 1s -S 256MiB -s -A",
            Self::Bare => "pcap_dispatch and a copy into 1 GiB of mapped memory in /dev/shm",
            Self::BareRead => "pcap_dispatch and a byte of every 64 read",
        }
    }

    fn command(self, lab: &Lab, at: &Site) -> Fallible<Command> {
        let program = match self {
            Self::Wirewitness | Self::WirewitnessTwo | Self::WirewitnessLarge => {
                let mut command = lab.recorder(binary());
                command.arg("--config").arg(at.config()).arg("record");
                return Ok(command);
            }
            Self::Bare | Self::BareRead => {
                let mut command = lab.recorder(std::env::current_exe()?);
                command.args(["bare", MONITOR]);
                if self == Self::Bare {
                    command.arg(at.memory.path().join("ring"));
                }
                return Ok(command);
            }
            Self::Dumpcap | Self::DumpcapRing => "dumpcap",
            Self::Tcpdump | Self::TcpdumpRing => "tcpdump",
            Self::Netsniff | Self::NetsniffRing => "netsniff-ng",
        };
        let mut command = lab.recorder(program);
        for word in self.call().split(' ').skip(1) {
            match word {
                "FILE" => command.arg(at.file()),
                "FOLDER" => command.arg(at.out()),
                word => command.arg(word),
            };
        }
        Ok(command)
    }

    /// What it says once its output file is open and its socket bound.
    fn motto(self) -> &'static str {
        match self {
            Self::Wirewitness | Self::WirewitnessTwo | Self::WirewitnessLarge => "",
            Self::Dumpcap | Self::DumpcapRing => "File: ",
            Self::Tcpdump | Self::TcpdumpRing => "listening on ",
            Self::Netsniff | Self::NetsniffRing => "Running!",
            Self::Bare | Self::BareRead => "ready",
        }
    }
}

/// The program under test: built by cargo for this very run, or `WIREWITNESS_BIN`.
pub(crate) fn binary() -> std::ffi::OsString {
    std::env::var_os("WIREWITNESS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_wirewitness").into())
}

/// Removes what a killed process left in `dir` and in memory.
pub(crate) fn sweep(dir: &Path) -> Fallible<()> {
    for folder in [dir, Path::new(MEMORY)] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if lab::orphaned(&entry.file_name().to_string_lossy()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
    }
    Ok(())
}

/// The files of one run, gone when dropped.
pub(crate) struct Site {
    folder: TempDir,
    /// Memory of ours and of the floor.
    memory: TempDir,
}

impl Site {
    /// A fresh folder below `dir`.
    pub(crate) fn new(dir: &Path) -> Fallible<Self> {
        let site = Self {
            folder: tempfile::Builder::new()
                .prefix(&lab::prefix())
                .tempdir_in(dir)?,
            memory: tempfile::Builder::new()
                .prefix(&lab::prefix())
                .tempdir_in(MEMORY)?,
        };
        for folder in ["out", "run", "incidents"] {
            fs::create_dir(site.path(folder))?;
        }
        Ok(site)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where recordings go.
    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// The recording of who writes one file.
    pub(crate) fn file(&self) -> PathBuf {
        self.out().join("capture")
    }

    /// Our configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("wirewitness.toml")
    }

    /// Our server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/api.sock")
    }

    fn configure(&self, recorder: Recorder) -> Fallible<()> {
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let (ring, slots) = (quoted(&self.out()), quoted(self.memory.path()));
        let (evidence, socket) = (quoted(&self.path("incidents")), quoted(&self.socket()));
        let (threads, segment) = (recorder.threads(), recorder.segment());
        let text = format!(
            "[capture]\ninterfaces = [{MONITOR:?}]\nbuffer = \"256MiB\"\nthreads = {threads}\n\
             [ring]\npath = {ring}\nsize = \"16GiB\"\nsegment = {segment:?}\nmemory = \"1GiB\"\n\
             sync = \"1s\"\nslots = {slots}\n\
             [evidence]\npath = {evidence}\nquota = \"1GiB\"\n\
             [web]\nlisten = \"127.0.0.1:8642\"\nsocket = {socket}\n"
        );
        Ok(fs::write(self.config(), text)?)
    }
}

/// A recorder that records.
pub(crate) struct Running {
    recorder: Recorder,
    /// Its process.
    pub(crate) process: Process,
    client: Client,
}

/// What a recorder counted itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OwnCount {
    /// Packets it took.
    pub(crate) stored: u64,
    /// Packets that the kernel's buffer had no room for.
    pub(crate) dropped_kernel: u64,
    /// Packets that it had no memory for itself.
    pub(crate) dropped_ring: u64,
}

impl OwnCount {
    /// Where it lost packets, and whether that is not what is missing from the files.
    pub(crate) fn text(&self, lost: u64) -> String {
        let (kernel, ring) = (self.dropped_kernel, self.dropped_ring);
        let mut text = String::new();
        if kernel + ring > 0 {
            text = format!(", dropped: kernel {kernel}, ring {ring}");
        }
        if kernel + ring != lost {
            text += ", WHICH IS NOT WHAT WAS LOST";
        }
        text
    }
}

impl Running {
    /// Starts it and waits until its socket is bound and it came to rest.
    pub(crate) fn start(recorder: Recorder, lab: &Lab, site: &Site) -> Fallible<Self> {
        if recorder.is_ours() {
            site.configure(recorder)?;
        }
        let mut command = recorder.command(lab, site)?;
        let process = Process::start(&mut command, &site.path("log"))?;
        let mut running = Self {
            recorder,
            process,
            client: Client::new(site.out().join("control.sock")),
        };
        stop::wait_for(recorder.call(), LIMIT, || running.ready())?;
        Ok(running)
    }

    fn ready(&mut self) -> Fallible<bool> {
        self.process.alive()?;
        if self.recorder.is_ours() {
            let running = |status: wirewitness::recorder::protocol::RecorderStatus| {
                let mut all = status.interfaces.iter();
                all.all(|one| one.state == InterfaceState::Running)
            };
            return Ok(self.client.status().is_ok_and(running));
        }
        let said = self.process.said().contains(self.recorder.motto());
        Ok(said && bound(&self.process.proc("net/packet")?))
    }

    /// Waits until all of `arrived` packets are on disk or counted as lost; how long it took.
    pub(crate) fn drain(&mut self, arrived: u64) -> Fallible<Duration> {
        if !self.recorder.is_ours() {
            return self.process.quiet(LIMIT);
        }
        let since = std::time::Instant::now();
        stop::wait_for("our recorder to account for all", LIMIT, || {
            self.process.alive()?;
            let own = self.own_count()?;
            Ok(own.stored + own.dropped_kernel + own.dropped_ring >= arrived)
        })?;
        self.client.flush()?;
        Ok(since.elapsed())
    }

    /// What it counted itself, of those that can be asked while they run.
    pub(crate) fn own_count(&self) -> Fallible<OwnCount> {
        let mut own = OwnCount::default();
        for interface in self.client.status()?.interfaces {
            let counters = interface.counters;
            own.stored += counters.written;
            own.dropped_kernel += counters.dropped_kernel;
            own.dropped_ring += counters.dropped_ring;
        }
        Ok(own)
    }

    /// Stops it in order. The floor says then what it counted.
    pub(crate) fn stop(&mut self) -> Fallible<Option<OwnCount>> {
        if !self.recorder.is_bare() {
            self.process.stop(Some(Signal::INT))?;
            return Ok(None);
        }
        self.process.stop(None)?;
        let said = self.process.said();
        let mut last = said.lines().last().unwrap_or_default().split(' ');
        let mut next = || last.next().unwrap_or_default().parse::<u64>();
        Ok(Some(OwnCount {
            stored: next()?,
            dropped_kernel: next()?,
            dropped_ring: 0,
        }))
    }
}

/// Whether a packet socket takes every protocol of some interface.
fn bound(packet: &str) -> bool {
    packet.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let (protocol, interface, running) = (fields.next(), fields.next(), fields.next());
        protocol == Some("0003") && interface != Some("0") && running == Some("1")
    })
}
