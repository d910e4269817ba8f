//! An installation in a folder of its own, and its processes.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DEADLINE, Http, Journald, Process, Space, wait_for};

/// What a test configures; the rest is the same for all.
pub(crate) struct Setup<'a> {
    pub(crate) interfaces: &'a [&'a str],
    pub(crate) filter: &'a str,
    pub(crate) snaplen: u32,
    pub(crate) buffer: &'a str,
    /// Capture threads per interface; left out when 1.
    pub(crate) threads: u32,
    pub(crate) ring_size: &'a str,
    pub(crate) segment: &'a str,
    pub(crate) memory: &'a str,
    pub(crate) sync: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    pub(crate) cooldown: &'a str,
    /// Appended: sources, hooks, rules.
    pub(crate) more: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            interfaces: &["mon0"],
            filter: "",
            snaplen: 262_144,
            buffer: "64MiB",
            threads: 1,
            ring_size: "256MiB",
            segment: "4MiB",
            memory: "64MiB",
            sync: "1s",
            before: "10s",
            after: "1s",
            cooldown: "1s",
            more: "",
        }
    }
}

/// The files of one installation.
pub(crate) struct Site {
    folder: TempDir,
    /// The slots' tmpfs: a recorder that is killed leaves them behind.
    slots: TempDir,
}

impl Site {
    /// A folder with a configuration file.
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("wwt-").tempdir().unwrap();
        let slots = tempfile::Builder::new()
            .prefix("wwt-")
            .tempdir_in("/dev/shm")
            .unwrap();
        // Other users' processes are part of some tests.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(slots.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let site = Self { folder, slots };
        fs::create_dir(site.path("var")).unwrap();
        fs::create_dir(site.path("run")).unwrap();
        site.configure(setup);
        site
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, setup: &Setup<'_>) {
        let mut text = String::new();
        let quoted = |path: PathBuf| format!("\"{}\"", path.display());
        let (ring, incidents) = (quoted(self.path("var/ring")), quoted(self.incidents()));
        let threads = match setup.threads {
            1 => String::new(),
            threads => format!("threads = {threads}\n"),
        };
        let (socket, slots) = (quoted(self.socket()), quoted(self.slots.path().to_owned()));
        write!(
            text,
            "[capture]
interfaces = {:?}
filter = {:?}
snaplen = {}
buffer = {:?}
{threads}\
             [ring]
path = {ring}
size = {:?}
segment = {:?}
memory = {:?}
sync = {:?}
slots = {slots}
\
             [evidence]\npath = {incidents}\nquota = \"1GiB\"\n\
             [window]\nbefore = {:?}\nafter = {:?}\ncooldown = {:?}\n\
             [web]\nlisten = \"127.0.0.1:8642\"\nsocket = {socket}\n{}",
            setup.interfaces,
            setup.filter,
            setup.snaplen,
            setup.buffer,
            setup.ring_size,
            setup.segment,
            setup.memory,
            setup.sync,
            setup.before,
            setup.after,
            setup.cooldown,
            setup.more,
        )
        .unwrap();
        fs::write(self.config(), text).unwrap();
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("wirewitness.toml")
    }

    /// What the recorder wrote beside its slots about segments in doubt.
    pub(crate) fn doubts(&self, interface: &str) -> Option<String> {
        let mut folders = fs::read_dir(self.slots.path()).unwrap();
        let folder = folders.next()?.unwrap().path();
        fs::read_to_string(folder.join(format!("{interface}.doubts"))).ok()
    }

    /// Takes the slots away, as a power cut takes what lies in memory.
    pub(crate) fn forget_memory(&self) {
        for entry in fs::read_dir(self.slots.path()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    /// The ring of one interface.
    pub(crate) fn ring(&self, interface: &str) -> PathBuf {
        self.path("var/ring").join(interface)
    }

    /// The ring of one interface, a folder per capture thread it ever had.
    pub(crate) fn rings(&self, interface: &str) -> Vec<PathBuf> {
        let root = self.path("var/ring");
        let further = (1..).map(|k| root.join(format!("{interface}+{k}")));
        std::iter::once(root.join(interface))
            .chain(further.take_while(|folder| folder.exists()))
            .collect()
    }

    /// The incidents' folder.
    pub(crate) fn incidents(&self) -> PathBuf {
        self.path("var/incidents")
    }

    /// The server's unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/api.sock")
    }

    /// The program with this installation's configuration.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<OsString> {
        let mut all = vec!["--config".into(), self.config().into_os_string()];
        all.extend(more.iter().map(OsString::from));
        all
    }

    /// Runs a command of ours on this machine to its end.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(self.arguments(arguments))
            .output()
            .unwrap()
    }

    /// Runs a client command that must succeed and returns what it printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(
            output.status.success(),
            "{arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// All incidents, newest first.
    pub(crate) fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ask(&["--json", "incidents"])).unwrap()
    }

    /// Waits until an incident is sealed and returns it.
    pub(crate) fn sealed(&self, id: &str) -> Value {
        wait_for(&format!("incident {id} to be sealed"), || {
            let list = self.list();
            match list.into_iter().find(|incident| incident["id"] == id) {
                Some(incident) if incident["state"] == "sealed" => Ok(incident),
                Some(incident) => Err(format!("it is {}", incident["state"])),
                None => Err("it is not in the list".to_owned()),
            }
        })
    }

    /// Waits until an incident that fits is sealed and returns it.
    pub(crate) fn sealed_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("a sealed incident {what}"), || {
            let list = self.list();
            let found = list
                .iter()
                .find(|incident| fits(incident) && incident["state"] == "sealed");
            found
                .cloned()
                .ok_or_else(|| format!("there are only {}", json!(list)))
        })
    }

    /// Asks the server over its unix socket.
    pub(crate) fn http(&self, path: &str, curl: &[&str]) -> Http {
        Http::over_socket(&self.socket(), path, curl)
    }
}

/// The program under test: built by cargo for this very run, or `WIREWITNESS_BIN`.
pub(crate) fn binary() -> OsString {
    std::env::var_os("WIREWITNESS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_wirewitness").into())
}

/// A running `wirewitness record`.
pub(crate) struct Recorder {
    pub(crate) process: Process,
    socket: PathBuf,
}

impl Recorder {
    /// Starts one inside `space` and waits until every interface is recorded.
    pub(crate) fn start(site: &Site, space: &Space) -> Self {
        let mut recorder = Self::launch(site, space, &[]);
        recorder.wait_state(None, "running");
        recorder
    }

    /// Starts one and waits for its control socket alone.
    pub(crate) fn launch(site: &Site, space: &Space, more: &[&str]) -> Self {
        let mut command = space.command(binary());
        command.args(site.arguments(&["record"])).args(more);
        Self::ready(site, &mut command)
    }

    /// Starts one as another user that has CAP_NET_RAW and nothing else, as under systemd.
    pub(crate) fn start_as(site: &Site, space: &Space, user: u32, group: u32) -> Self {
        let mut command = space.command("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={group}")])
            .args([
                "--clear-groups",
                "--inh-caps=-all,+net_raw",
                "--ambient-caps=-all,+net_raw",
            ])
            .args(["--bounding-set=-all,+net_raw", "--no-new-privs"])
            .arg(binary())
            .args(site.arguments(&["record"]));
        let mut recorder = Self::ready(site, &mut command);
        recorder.wait_state(None, "running");
        recorder
    }

    fn ready(site: &Site, command: &mut Command) -> Self {
        let process = Process::start(command, &site.path("record.log"));
        Self::adopt(site, process)
    }

    /// Takes a process that was started as a recorder and waits for its control socket.
    pub(crate) fn adopt(site: &Site, process: Process) -> Self {
        let mut recorder = Self {
            process,
            socket: site.path("var/ring/control.sock"),
        };
        let pid = recorder.process.id();
        wait_for("the recorder's control socket", || {
            recorder.process.alive();
            // A predecessor's socket file may still lie there: only our own process counts.
            let status = call(&recorder.socket, &json!({"verb": "status"}))?;
            if status["pid"] == pid {
                Ok(())
            } else {
                Err(format!("another process answers: {status}"))
            }
        });
        recorder
    }

    /// Asks over the control socket; panics when the recorder says it failed.
    pub(crate) fn call(&self, request: &Value) -> Value {
        let reply = call(&self.socket, request).unwrap();
        assert_ne!(reply["reply"], "failed", "{request}: {reply}");
        reply
    }

    /// Puts everything received so far on disk.
    pub(crate) fn flush(&self) {
        self.call(&json!({"verb": "flush"}));
    }

    /// One interface's status.
    pub(crate) fn interface(&self, name: &str) -> Value {
        let status = self.call(&json!({"verb": "status"}));
        let all = status["interfaces"].as_array().unwrap();
        let found = all.iter().find(|interface| interface["name"] == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {status}"))
            .clone()
    }

    /// Waits until an interface (or every one) is in this state.
    pub(crate) fn wait_state(&mut self, interface: Option<&str>, state: &str) {
        wait_for(
            &format!("{} to be {state}", interface.unwrap_or("every interface")),
            || {
                self.process.alive();
                let status = self.call(&json!({"verb": "status"}));
                let all = status["interfaces"].as_array().unwrap();
                let mut wanted = all
                    .iter()
                    .filter(|one| interface.is_none_or(|name| one["name"] == name))
                    .peekable();
                if wanted.peek().is_some() && wanted.all(|one| one["state"] == state) {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            },
        );
    }

    /// Waits until `received` of an interface is `count`, flushes, and returns its status.
    pub(crate) fn account(&mut self, interface: &str, count: u64) -> Value {
        wait_for(&format!("{count} packets to be accounted for"), || {
            self.process.alive();
            let status = self.interface(interface);
            let sum = ["written", "dropped_kernel", "dropped_ring"]
                .iter()
                .map(|key| status[key].as_u64().unwrap())
                .sum::<u64>();
            if sum >= count {
                Ok(())
            } else {
                Err(format!("only {sum} are: {status}"))
            }
        });
        self.flush();
        self.interface(interface)
    }
}

/// One request and its reply on the recorder's control socket.
fn call(socket: &Path, request: &Value) -> Result<Value, String> {
    let complain = |error: std::io::Error| format!("{}: {error}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(complain)?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(format!("{request}\n").as_bytes())
        .map_err(complain)?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(complain)?;
    serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
}

/// A running `wirewitness serve`.
pub(crate) struct Server {
    pub(crate) process: Process,
}

impl Server {
    /// Starts one inside `space` and waits until it answers.
    pub(crate) fn start(site: &Site, space: &Space) -> Self {
        let mut command = space.command(binary());
        command.args(site.arguments(&["serve"]));
        Self::ready(site, &mut command)
    }

    /// Starts one to which this journal is the machine's own.
    pub(crate) fn start_beside(site: &Site, space: &Space, journald: &Journald) -> Self {
        let own = journald.own();
        let mut command = space.command(&own[0]);
        command.args(&own[1..]).arg(binary());
        command.args(site.arguments(&["serve"]));
        Self::ready(site, &mut command)
    }

    /// Starts one as another user, without capabilities.
    pub(crate) fn start_as(site: &Site, space: &Space, user: u32, group: u32) -> Self {
        let mut command = space.command("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={group}")])
            .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .arg("--no-new-privs")
            .arg(binary())
            .args(site.arguments(&["serve"]));
        Self::ready(site, &mut command)
    }

    fn ready(site: &Site, command: &mut Command) -> Self {
        let mut process = Process::start(command, &site.path("serve.log"));
        let socket = site.socket();
        wait_for("the server to answer", || {
            process.alive();
            let health = Command::new("curl")
                .args(["-s", "-o", "/dev/null", "--max-time", "5", "--unix-socket"])
                .arg(&socket)
                .arg("http://localhost/healthz")
                .output()
                .unwrap();
            if health.status.success() {
                Ok(())
            } else {
                Err(format!("curl ended with {}", health.status))
            }
        });
        Self { process }
    }
}
