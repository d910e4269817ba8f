//! What else the machine has to do while it records: a large file written, the recording read.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Fallible;
use crate::lab::Lab;
use crate::process::Process;
use crate::stop;
use crate::tools::{Recorder, Site, binary};

/// Bytes of the large file.
const FILE_BYTES: u64 = 6_000_000_000;
/// Traffic before the first read, so that there is something to read.
const FIRST: Duration = Duration::from_secs(1);

/// The other work, over when dropped.
pub(crate) enum Disturbance {
    /// Nothing.
    None,
    /// The writer.
    Writer {
        /// Its process.
        _process: Process,
    },
    /// The reader.
    Reader(Reader),
}

/// What a run has beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// A large file written to the same disk.
    Writer,
    /// The recording read at full speed.
    Reader,
}

impl Beside {
    /// Begins.
    pub(crate) fn start(self, recorder: Recorder, lab: &Lab, site: &Site) -> Fallible<Disturbance> {
        match self {
            Self::Nothing => Ok(Disturbance::None),
            Self::Writer => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("write").arg(site.path("large"));
                let process = Process::start(&mut command, &site.path("large.log"))?;
                Ok(Disturbance::Writer { _process: process })
            }
            Self::Reader => Ok(Disturbance::Reader(Reader::new(recorder, lab, site)?)),
        }
    }
}

impl Disturbance {
    /// Ends; how often the recording was read to its end.
    pub(crate) fn stop(self) -> Option<u64> {
        match self {
            Self::Reader(mut reader) => reader.stop(),
            Self::None | Self::Writer { .. } => None,
        }
    }
}

/// Writes the large file through the page cache and puts it on disk, again and again, until killed.
pub(crate) fn write(path: &Path) -> Fallible<()> {
    let block = vec![0xa5; 1 << 20];
    loop {
        let mut file = File::create(path)?;
        let mut written = 0;
        while written < FILE_BYTES {
            file.write_all(&block)?;
            written += 1 << 20;
        }
        file.sync_data()?;
    }
}

/// Reads the recording from its start, again and again.
pub(crate) struct Reader {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<u64>>,
    _server: Option<Process>,
}

impl Reader {
    fn new(recorder: Recorder, lab: &Lab, site: &Site) -> Fallible<Self> {
        let mut server = None;
        let mut command = if recorder.is_ours() {
            server = Some(serve(lab, site)?);
            let mut command = lab.command(binary());
            command.arg("--config").arg(site.config());
            command.args(["export", "--from", "-1h", "--to", "now", "-o", "-"]);
            command
        } else {
            let mut command = lab.command("tcpdump");
            command.arg("-r").arg(site.file()).args(["-w", "-"]);
            command
        };
        let log = File::create(site.path("reader.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut pause = FIRST;
            let mut reads = 0;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = Duration::from_millis(1);
                let Ok(mut child) = command.spawn() else {
                    return reads;
                };
                while let Ok(None) = child.try_wait() {
                    let waited = ended.recv_timeout(Duration::from_millis(5));
                    if waited != Err(RecvTimeoutError::Timeout) {
                        drop(child.kill());
                        drop(child.wait());
                        return reads;
                    }
                }
                reads += 1;
            }
            reads
        });
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
            _server: server,
        })
    }

    fn stop(&mut self) -> Option<u64> {
        drop(self.end.take());
        self.thread.take()?.join().ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Our server, which exports come from.
fn serve(lab: &Lab, site: &Site) -> Fallible<Process> {
    let mut command = lab.command(binary());
    command.arg("--config").arg(site.config()).arg("serve");
    let mut server = Process::start(&mut command, &site.path("serve.log"))?;
    let socket = site.socket();
    stop::wait_for("our server", Duration::from_secs(20), || {
        server.alive()?;
        Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok())
    })?;
    Ok(server)
}
