//! One run of one recorder.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::count::Tally;
use crate::disturb::Beside;
use crate::lab::{Lab, MONITOR};
use crate::process::Process;
use crate::send::{Load, send};
use crate::tools::{OwnCount, Recorder, Running, Site};
use crate::{Fallible, stop};

/// What one run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Packets that reached the recorder's interface.
    pub(crate) arrived: u64,
    /// Different ones of them found in its files.
    pub(crate) stored: u64,
    /// Copies beyond the first in its files.
    pub(crate) doubled: u64,
    /// What it counted itself, of those that can be asked.
    pub(crate) own: Option<OwnCount>,
    /// Seconds of sending.
    pub(crate) seconds: f64,
    /// Seconds until all was written after that.
    pub(crate) drain: f64,
    /// Seconds of processor time of the recorder: all, outside the kernel, within it.
    pub(crate) cpu: (f64, f64, f64),
    /// Most memory in bytes.
    pub(crate) memory: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// How often its recording was read meanwhile.
    pub(crate) reads: Option<u64>,
}

impl Outcome {
    /// Packets lost.
    pub(crate) fn lost(&self) -> u64 {
        self.arrived.saturating_sub(self.stored)
    }

    /// The same in percent.
    pub(crate) fn loss(&self) -> f64 {
        100.0 * self.lost() as f64 / (self.arrived as f64).max(1.0)
    }

    /// Packets per second that were offered.
    pub(crate) fn offered(&self) -> f64 {
        self.arrived as f64 / self.seconds.max(0.001)
    }

    /// Packets per second that reached the files, the time to empty the buffers included.
    pub(crate) fn sustained(&self) -> f64 {
        self.stored as f64 / (self.seconds + self.drain).max(0.001)
    }

    /// `seconds` per million packets stored.
    pub(crate) fn per_million(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.stored as f64).max(1.0)
    }
}

/// Starts `recorder`, sends it `load`, lets it write everything, stops it and counts.
pub(crate) fn run(
    lab: &Lab,
    dir: &Path,
    recorder: Recorder,
    load: Load,
    beside: Beside,
) -> Fallible<Outcome> {
    stop::check()?;
    let site = Site::new(dir)?;
    let mut running = Running::start(recorder, lab, &site)?;
    let disturbance = beside.start(recorder, lab, &site)?;
    let received = received(&running.process)?;
    let before = running.process.cpu()?;
    let sent = send(lab, load)?;
    stop::check()?;
    let arrived = settle(&running.process, received, sent.packets)?;
    let drain = running.drain(arrived)?;
    let cpu = running.process.cpu()?.since(before);
    let memory = running.process.peak_memory()?;
    let reads = disturbance.stop();
    let counted = match recorder {
        one if one.is_ours() => Some(running.own_count()?),
        _ => None,
    };
    let at_end = running.stop()?;
    let mut tally = Tally::default();
    tally.add_folder(&site.out())?;
    if tally.torn > 0 || tally.others > 0 {
        let (name, torn, others) = (recorder.name(), tally.torn, tally.others);
        eprintln!("  {name}: {torn} files end in a packet, {others} foreign packets");
    }
    let stored = at_end.map_or_else(|| tally.distinct(), |own| own.stored);
    drop(running);
    drop(site);
    // What was deleted must not be written any more; what was written is on disk.
    rustix::fs::syncfs(File::open(dir)?)?;
    Ok(Outcome {
        arrived,
        stored,
        doubled: tally.doubled(),
        own: at_end.or(counted),
        seconds: sent.time.as_secs_f64(),
        drain: drain.as_secs_f64(),
        cpu,
        memory,
        bytes: tally.bytes,
        reads,
    })
}

/// Packets that the recorders' interface has received.
fn received(beside: &Process) -> Fallible<u64> {
    let table = beside.proc("net/dev")?;
    let line = table.lines().find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim() == MONITOR).then_some(counts)
    });
    let packets = line.and_then(|counts| counts.split_whitespace().nth(1));
    Ok(packets.ok_or("the interface is gone")?.parse()?)
}

/// Waits until everything sent has arrived, or nothing more does (a full cable drops): how much.
fn settle(beside: &Process, before: u64, sent: u64) -> Fallible<u64> {
    let mut last = (0, std::time::Instant::now());
    stop::wait_for("the cable to be empty", Duration::from_secs(10), || {
        let arrived = received(beside)?.saturating_sub(before);
        if arrived != last.0 {
            last = (arrived, std::time::Instant::now());
        }
        Ok(arrived >= sent || last.1.elapsed() > Duration::from_millis(300))
    })?;
    if last.0 != sent {
        eprintln!(
            "  the cable itself lost {} of {sent}",
            sent.abs_diff(last.0)
        );
    }
    Ok(last.0)
}
