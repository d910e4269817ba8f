//! A child process: what it said, what it cost, and its end.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Fallible, stop};

/// How long a program may take to end.
const END: Duration = Duration::from_mins(2);
/// A recorder that neither computed nor waited for the disk for so long has nothing more to write.
/// tcpdump hands over a block that is not full after 1 s.
const QUIET: Duration = Duration::from_millis(1300);
/// A sleeping program may compute so much in that time.
const QUIET_NS: u64 = 4_000_000;

/// A running program, killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// Processor time since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    /// Of all threads, exactly.
    pub(crate) total_ns: u64,
    /// The kernel's estimate of the share outside it, in ticks.
    user: u64,
    /// And within it.
    system: u64,
}

impl Cpu {
    /// Seconds since `earlier`: in all, outside the kernel, within it.
    pub(crate) fn since(self, earlier: Self) -> (f64, f64, f64) {
        let total = self.total_ns.saturating_sub(earlier.total_ns) as f64 / 1e9;
        let user = self.user.saturating_sub(earlier.user) as f64;
        let system = self.system.saturating_sub(earlier.system) as f64;
        let share = if user + system > 0.0 {
            user / (user + system)
        } else {
            0.0
        };
        (total, total * share, total * (1.0 - share))
    }
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C is ours to handle; what it
    /// says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Fallible<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| file.read_to_end(&mut text));
        drop(read);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// An error with what it said when it has ended by itself.
    pub(crate) fn alive(&mut self) -> Fallible<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("it ended with {status}: {}", self.said()).into()),
        }
    }

    /// A file of its own below /proc.
    pub(crate) fn proc(&self, name: &str) -> Fallible<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}").into())
    }

    /// The processor time it has used.
    pub(crate) fn cpu(&self) -> Fallible<Cpu> {
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            let ran = schedstat.split(' ').next().unwrap_or_default();
            cpu.total_ns += ran.parse::<u64>()?;
        }
        let stat = self.proc("stat")?;
        let mut fields = after_name(&stat).skip(11);
        cpu.user = fields.next().unwrap_or_default().parse()?;
        cpu.system = fields.next().unwrap_or_default().parse()?;
        Ok(cpu)
    }

    /// The most memory it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> Fallible<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap_or_default().trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Whether no thread runs or waits for a disk.
    fn asleep(&self) -> Fallible<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            if matches!(after_name(&stat).next(), Some("R" | "D")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until it has nothing more to do; how long that took, without the wait to be sure.
    pub(crate) fn quiet(&mut self, limit: Duration) -> Fallible<Duration> {
        let start = Instant::now();
        let mut last = (start, self.cpu()?.total_ns);
        stop::wait_for("it to come to rest", limit, || {
            self.alive()?;
            let cpu = self.cpu()?.total_ns;
            if !self.asleep()? || cpu.saturating_sub(last.1) > QUIET_NS {
                last = (Instant::now(), cpu);
            }
            Ok(last.0.elapsed() >= QUIET)
        })?;
        Ok(last.0 - start)
    }

    /// Asks it to end with `signal`, or by the end of its standard input, and waits.
    pub(crate) fn stop(&mut self, signal: Option<Signal>) -> Fallible<()> {
        drop(self.child.stdin.take());
        if let Some(signal) = signal {
            let pid = Pid::from_raw(i32::try_from(self.child.id())?).ok_or("no process")?;
            kill_process(pid, signal)?;
        }
        let child = &mut self.child;
        stop::wait_for("a program to end", END, || Ok(child.try_wait()?.is_some()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The fields of /proc/PID/stat after the name, which may hold spaces.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ')
}
