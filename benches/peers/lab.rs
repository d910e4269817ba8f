//! Two network namespaces joined by a veth pair that behaves like a port and its mirror.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Fallible;

/// The sender's interface.
pub(crate) const TX: &str = "tx0";
/// The recorders' interface.
pub(crate) const MONITOR: &str = "mon0";
/// Namespaces of ours begin so; the number of the process that made them follows.
const PREFIX: &str = "wwp";

/// The network, gone when dropped.
pub(crate) struct Lab {
    sender: String,
    monitor: String,
    nice: i32,
}

impl Lab {
    /// Makes it; recorders will run at this nice value.
    pub(crate) fn new(nice: i32) -> Fallible<Self> {
        sweep();
        let lab = Self {
            sender: prefix() + "tx",
            monitor: prefix() + "mon",
            nice,
        };
        for space in [&lab.sender, &lab.monitor] {
            ip(&["netns", "add", space])?;
            let off = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
            let mut sysctl = vec!["netns", "exec", space, "sysctl", "-qw"];
            sysctl.extend(off.split(' '));
            ip(&sysctl)?;
            ip(&["-n", space, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "link",
            "add",
            TX,
            "netns",
            &lab.sender,
            "type",
            "veth",
            "peer",
            "name",
            MONITOR,
            "netns",
            &lab.monitor,
        ])?;
        for (space, link) in [(&lab.sender, TX), (&lab.monitor, MONITOR)] {
            let link_set = ["-n", space, "link", "set", link];
            ip(&[&link_set[..], &["txqueuelen", "10000", "arp", "off"]].concat())?;
            ethtool(space, link, "tso off gso off tx off rx off gro off")?;
            if link == TX {
                // Trains of packets are cut here, in the kernel, and not by a device that has no
                // wire; their checksums are left open, as to a card.
                ethtool(space, link, "tx-udp-segmentation off tx on sg on")?;
            } else {
                // veth takes packets in NAPI, as a network card does, only with GRO; GRO itself
                // merges no UDP.
                ethtool(space, link, "gro on")?;
            }
            ip(&[&link_set[..], &["up"]].concat())?;
        }
        Ok(lab)
    }

    /// `program`, to be run beside the recorders' interface.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.monitor]).arg(program);
        command
    }

    /// `program`, to be run there on the recorders' processor.
    pub(crate) fn recorder(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("nice");
        let nice = self.nice.to_string();
        command
            .args(["-n", &nice, "taskset", "-c", "1"])
            .arg(program);
        command
    }

    /// Runs `work` on a thread of its own in the sender's namespace.
    pub(crate) fn send<T: Send>(&self, work: impl FnOnce() -> Fallible<T> + Send) -> Fallible<T> {
        let space = File::open(Path::new("/run/netns").join(&self.sender))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in [&self.sender, &self.monitor] {
            if let Err(error) = ip(&["netns", "del", space]) {
                eprintln!("{space}: {error}");
            }
        }
    }
}

/// The beginning of the names of all that this process makes.
pub(crate) fn prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Whether the process that made something of this name is gone.
pub(crate) fn orphaned(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Removes what a killed process left.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names {
        let name = name.file_name().to_string_lossy().into_owned();
        if orphaned(&name)
            && let Err(error) = ip(&["netns", "del", &name])
        {
            eprintln!("{name}: {error}");
        }
    }
}

fn ethtool(space: &str, link: &str, features: &str) -> Fallible<()> {
    let mut all = vec!["netns", "exec", space, "ethtool", "-K", link];
    all.extend(features.split(' '));
    ip(&all)
}

/// Runs `ip`; its words when it fails.
fn ip(arguments: &[&str]) -> Fallible<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), said.trim()).into())
}
