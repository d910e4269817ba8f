//! Networks for tests: namespaces joined by veth pairs, gone when the [`Lab`] is dropped.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Turn, privileged};

/// Numbers the labs of this process.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A set of network namespaces of one test.
pub(crate) struct Lab {
    prefix: String,
    spaces: Vec<Space>,
    _turn: Turn,
}

/// One network namespace. Its loopback is up, IPv6 is off unless asked for: a silent link carries
/// no packet that the test did not send.
#[derive(Debug, Clone)]
pub(crate) struct Space {
    name: String,
}

impl Lab {
    /// A lab that may run beside others; `None` (said loudly) without the privilege.
    pub(crate) fn new(test: &str) -> Option<Self> {
        privileged(test).then(|| Self::with_turn(Turn::shared()))
    }

    /// A lab that has the machine to itself.
    pub(crate) fn alone(test: &str) -> Option<Self> {
        privileged(test).then(|| Self::with_turn(Turn::alone()))
    }

    fn with_turn(turn: Turn) -> Self {
        sweep();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("wwt{}-{number}", std::process::id()),
            spaces: Vec::new(),
            _turn: turn,
        }
    }

    /// Adds a namespace.
    pub(crate) fn space(&mut self, role: &str) -> Space {
        let space = Space {
            name: format!("{}-{role}", self.prefix),
        };
        ip(&["netns", "add", &space.name]);
        self.spaces.push(space.clone());
        space.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        space.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        space.ip(&["link", "set", "lo", "up"]);
        space
    }

    /// Joins two namespaces by a veth pair, both ends up.
    pub(crate) fn cable((a, a_name): (&Space, &str), (b, b_name): (&Space, &str)) {
        ip(&[
            "link", "add", a_name, "netns", &a.name, "type", "veth", "peer", "name", b_name,
            "netns", &b.name,
        ]);
        a.ip(&["link", "set", a_name, "up"]);
        b.ip(&["link", "set", b_name, "up"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in &self.spaces {
            // Nothing to do about a failure while a test may already be panicking.
            drop(
                Command::new("ip")
                    .args(["netns", "del", &space.name])
                    .output(),
            );
        }
    }
}

/// A sender and a mirror port: `tx0` in [`Mirror::sender`], `mon0` in [`Mirror::monitor`]. The
/// monitor has no address, and frames are addressed to somebody else, as on a real mirror port:
/// nothing answers, nothing is forwarded.
pub(crate) struct Mirror {
    pub(crate) sender: Space,
    pub(crate) monitor: Space,
    _lab: Lab,
}

impl Mirror {
    /// A mirror port in a lab of its own.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Lab::new(test).map(Self::in_lab)
    }

    /// A mirror port, alone on the machine.
    pub(crate) fn alone(test: &str) -> Option<Self> {
        Lab::alone(test).map(Self::in_lab)
    }

    fn in_lab(mut lab: Lab) -> Self {
        let mirror = Self {
            sender: lab.space("tx"),
            monitor: lab.space("mon"),
            _lab: lab,
        };
        mirror.plug("tx0", "mon0", 0);
        mirror
    }

    /// Joins both by one more cable; cable `n` carries 10.99.n.0/24.
    pub(crate) fn plug(&self, tx: &str, mon: &str, n: u8) {
        Lab::cable((&self.sender, tx), (&self.monitor, mon));
        self.address(tx, n);
    }

    /// Gives the sender's end its address and a neighbour that is not there.
    pub(crate) fn address(&self, tx: &str, n: u8) {
        let own = format!("10.99.{n}.1/24");
        let peer = format!("10.99.{n}.2");
        self.sender.ip(&["link", "set", tx, "arp", "off"]);
        self.sender.ip(&["addr", "add", &own, "dev", tx]);
        self.sender.ip(&[
            "neigh",
            "replace",
            &peer,
            "lladdr",
            "02:00:00:00:45:56",
            "nud",
            "permanent",
            "dev",
            tx,
        ]);
    }
}

impl Space {
    /// `program`, to be run inside.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `ip` with these arguments inside.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        ip(&all);
    }

    /// Runs a tool inside and returns what it said; panics when it fails.
    pub(crate) fn run(&self, line: &[&str]) -> String {
        super::run(self.command(line[0]).args(&line[1..]))
    }

    /// Sets a kernel parameter inside.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let value = value.to_owned();
        self.enter(move || fs::write(path, value).unwrap());
    }

    /// Runs `work` on a thread inside; sockets that it opens stay inside.
    pub(crate) fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Packets that an interface inside has received, as its driver counted them.
    pub(crate) fn received(&self, interface: &str) -> u64 {
        let text = self.run(&[
            "ip",
            "-json",
            "-statistics",
            "link",
            "show",
            "dev",
            interface,
        ]);
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }
}

/// Runs `ip` and panics with its words when it fails.
fn ip(arguments: &[&str]) {
    super::run(Command::new("ip").args(arguments));
}

/// Removes namespaces whose test process was killed before it could.
fn sweep() {
    let Ok(names) = fs::read_dir("/run/netns") else {
        return;
    };
    for name in names.flatten() {
        let name = name.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("wwt")
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Command::new("ip").args(["netns", "del", &name]).output());
        }
    }
}
