//! An installation in a folder of its own: recorder and server as processes, packets on the
//! recorded link, and what both say afterwards.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tempfile::TempDir;

use crate::frames::Mix;
use crate::lab::{self, Lab, MONITOR};
use crate::process::Process;
use crate::send::{Load, send};
use crate::{Fallible, stop};

/// Where the server listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:8642";
/// Where it listens for syslog, by UDP and TCP.
pub(crate) const SYSLOG: &str = "127.0.0.1:5514";
/// The log file that it follows.
pub(crate) const LOG: &str = "app.log";
/// What callers sign with.
pub(crate) const SECRET: &str = "secret-of-the-storm";
/// How long a start may take.
const START: Duration = Duration::from_secs(30);
/// How long the last packets take to be counted.
const SETTLE: Duration = Duration::from_secs(10);

/// A running installation; its folder goes with it.
pub(crate) struct Site {
    folder: TempDir,
    _slots: TempDir,
    recorder: Process,
    server: Process,
}

/// What a storm tells of itself.
pub(crate) struct Told {
    pub(crate) what: String,
    pub(crate) rate: f64,
    pub(crate) answered: String,
    /// Whether both sides count the same.
    pub(crate) exact: bool,
    pub(crate) incidents: usize,
    pub(crate) triggers: u64,
    pub(crate) latency: Option<[f64; 3]>,
    /// Seconds of processor time of the sender.
    pub(crate) cpu: f64,
}

/// A storm and what it cost.
pub(crate) struct Run {
    told: Told,
    /// Seconds of processor time of the server: in all, outside the kernel, within it.
    server: (f64, f64, f64),
    peak_bytes: u64,
    packets: u64,
    lost: u64,
}

/// What a source counted.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) received: u64,
    pub(crate) matched: u64,
    pub(crate) dropped: u64,
    pub(crate) triggers: u64,
}

impl Site {
    /// Starts recorder and server beside the recorded link.
    pub(crate) fn start(lab: &Lab) -> Fallible<Self> {
        let prefix = lab::prefix();
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let slots = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in("/dev/shm")?;
        let (root, slots_path) = (folder.path().display(), slots.path().display());
        fs::write(folder.path().join(LOG), "")?;
        let config = format!(
            "[capture]\ninterfaces = [\"{MONITOR}\"]\nbuffer = \"64MiB\"\n\
             [ring]\npath = \"{root}/ring\"\nsize = \"2GiB\"\nmemory = \"256MiB\"\nslots = \"{slots_path}\"\n\
             [evidence]\npath = \"{root}/incidents\"\nquota = \"4GiB\"\n\
             [window]\nbefore = \"10s\"\nafter = \"5m\"\n\
             [web]\nlisten = \"{ADDRESS}\"\nsocket = \"{root}/api.sock\"\n\
             [[webhook]]\nname = \"storm\"\nkind = \"generic\"\nhmac_secret = \"{SECRET}\"\n\
             [[syslog]]\nlisten = \"udp://{SYSLOG}\"\n[[syslog]]\nlisten = \"tcp://{SYSLOG}\"\n\
             [[logfile]]\npath = \"{root}/{LOG}\"\n\
             [rules]\npacks = [\"interface-down\", \"spanning-tree\", \"bgp-ospf\", \"duplicate-ip\", \
             \"dhcp-exhausted\", \"disk-errors\", \"oom\"]\n\
             [[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{{peer}}\"\n"
        );
        fs::write(folder.path().join("wirewitness.toml"), config)?;
        let start = |role: &str| {
            let mut command = lab.command(binary());
            command
                .arg("--config")
                .arg(folder.path().join("wirewitness.toml"))
                .arg(role);
            Process::start(&mut command, &folder.path().join(format!("{role}.log")))
        };
        let (recorder, server) = (start("record")?, start("serve")?);
        let mut site = Self {
            folder,
            _slots: slots,
            recorder,
            server,
        };
        stop::wait_for("recorder and server to run", START, || {
            site.recorder.alive()?;
            site.server.alive()?;
            let running = site
                .interface()
                .is_ok_and(|link| link["state"] == "running");
            Ok(running
                && site
                    .status()
                    .is_ok_and(|status| status["recorder"]["reachable"] == true))
        })?;
        Ok(site)
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets `storm` rage beside the server, with `packets` a second on the recorded link.
    pub(crate) fn storm(
        &mut self,
        lab: &Lab,
        packets: u64,
        time: Duration,
        storm: impl FnOnce(&Self) -> Fallible<Told> + Send,
    ) -> Fallible<Run> {
        let before = self.server.cpu()?;
        let load = Load {
            mix: Mix::Fixed(512),
            rate: Some(packets),
            time,
        };
        let this = &*self;
        let (told, sent) = std::thread::scope(|scope| {
            let traffic = scope.spawn(|| send(lab, load));
            let raging = scope.spawn(|| {
                enter()?;
                storm(this)
            });
            let told = raging
                .join()
                .unwrap_or_else(|_| Err("the storm panicked".into()));
            let sent = traffic
                .join()
                .unwrap_or_else(|_| Err("the traffic panicked".into()));
            (told, sent)
        });
        let (told, sent) = (told?, sent?.packets);
        let mut link = self.interface()?;
        stop::wait_for("the last packet to be counted", SETTLE, || {
            link = self.interface()?;
            Ok(count(&link, "written") + lost(&link) >= sent)
        })?;
        Ok(Run {
            told,
            server: self.server.cpu()?.since(before),
            peak_bytes: self.server.peak_memory()?,
            packets: sent,
            lost: lost(&link) + sent.saturating_sub(count(&link, "written") + lost(&link)),
        })
    }

    /// How many incidents there are, and how many triggers they count.
    pub(crate) fn incidents(&self) -> Fallible<(usize, u64)> {
        let list = self.ask("incidents")?;
        let list = list.as_array().ok_or("no list")?;
        Ok((
            list.len(),
            list.iter().map(|one| count(one, "triggers")).sum(),
        ))
    }

    /// What a source says.
    pub(crate) fn source(&self, name: &str) -> Fallible<Source> {
        let status = self.status()?;
        let sources = status["server"]["sources"].as_array().ok_or("no sources")?;
        let source = sources
            .iter()
            .find(|one| one["name"] == name)
            .ok_or("no such source")?;
        let counters = &source["counters"];
        Ok(Source {
            received: count(counters, "received"),
            matched: count(counters, "matched"),
            dropped: count(counters, "overflow") + count(counters, "dropped_kernel"),
            triggers: count(source, "triggers"),
        })
    }

    fn status(&self) -> Fallible<Value> {
        self.ask("status")
    }

    fn interface(&self) -> Fallible<Value> {
        Ok(self.status()?["interfaces"][0].clone())
    }

    fn ask(&self, question: &str) -> Fallible<Value> {
        let output = Command::new(binary())
            .arg("--config")
            .arg(self.path("wirewitness.toml"))
            .args(["--json", question])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for process in [&mut self.server, &mut self.recorder] {
            if let Err(error) = process.stop(Some(Signal::TERM)) {
                eprintln!("{error}");
            }
        }
    }
}

impl Run {
    /// The table's head.
    pub(crate) const HEAD: &str = "| storm | a second | answered or counted | both sides agree | incidents | triggers in them | median, p99, longest (ms) | server CPU s | its memory | sender CPU s | packets recorded, lost |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

    /// Its row.
    pub(crate) fn row(&self) -> String {
        let told = &self.told;
        let latency = told.latency.map_or_else(
            || "-".to_owned(),
            |[median, p99, longest]| format!("{median:.1}, {p99:.1}, {longest:.1}"),
        );
        let (cpu, user, system) = self.server;
        format!(
            "| {} | {:.0} | {} | {} | {} | {} | {latency} | {cpu:.1} ({user:.1} + {system:.1} kernel) | {} MiB | {:.1} | {}, {} |",
            told.what,
            told.rate,
            told.answered,
            if told.exact { "yes" } else { "**no**" },
            told.incidents,
            told.triggers,
            self.peak_bytes >> 20,
            told.cpu,
            self.packets,
            self.lost,
        )
    }
}

/// The program: built by cargo for this very run, or `WIREWITNESS_BIN`.
fn binary() -> OsString {
    std::env::var_os("WIREWITNESS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_wirewitness").into())
}

/// Moves this thread beside the server.
fn enter() -> Fallible<()> {
    let space = File::open(Path::new("/run/netns").join(lab::prefix() + "mon"))?;
    Ok(move_into_link_name_space(
        space.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

fn lost(link: &Value) -> u64 {
    let causes = ["dropped_kernel", "dropped_ring", "dropped_iface"];
    causes.into_iter().map(|cause| count(link, cause)).sum()
}
