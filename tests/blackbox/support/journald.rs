//! A real journald in a mount namespace of its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Process, wait_for};

/// The group of nobody, which the server runs as in tests.
const NOGROUP: u32 = 65_534;
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// `$0` is what stands for `/run`, where journald has its sockets and its journal.
const OWN_RUN: &str = "mount --bind \"$0\" /run || exit; exec \"$@\"";

/// Hands on what is written to the pipe, each line as an entry of `app`.
const SCRIPT: &str = "mount -t proc proc /proc || exit; \
    \"$1\" & until [ -S /run/systemd/journal/stdout ]; do :; done; touch /run/ready; \
    while read -r line; do echo \"$line\" | systemd-cat -t app -p err; done </run/pipe";

/// A running journald.
pub(crate) struct Journald {
    folder: tempfile::TempDir,
    process: Process,
    pipe: File,
}

impl Journald {
    /// Starts one and waits until it listens.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("wwt-journald-")
            .tempdir()
            .unwrap();
        let run = folder.path().join("run");
        let journal = run.join("log/journal");
        fs::create_dir_all(&journal).unwrap();
        fs::create_dir_all(run.join("systemd/journal")).unwrap();
        // nobody reads what its group may, as a user does who is in systemd-journal.
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        open(folder.path(), 0o755).unwrap();
        chown(&journal, None, Some(NOGROUP)).unwrap();
        open(&journal, 0o2755).unwrap();
        let pipe = run.join("pipe");
        super::run(Command::new("mkfifo").arg(&pipe));
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", OWN_RUN])
            .arg(&run)
            .args(["sh", "-c", SCRIPT, "journald", JOURNALD]);
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        // Open both ways, so that it neither waits for a reader nor ends when one leaves.
        let pipe = File::options().read(true).write(true).open(pipe).unwrap();
        wait_for("journald to listen", || {
            process.alive();
            let ready = run.join("ready").exists();
            ready.then_some(()).ok_or_else(|| process.said())
        });
        Self {
            folder,
            process,
            pipe,
        }
    }

    /// Where its journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.run().join("log/journal")
    }

    /// A program writes a line, of severity err, as `app`.
    pub(crate) fn write(&mut self, line: &str) {
        writeln!(self.pipe, "{line}").unwrap();
    }

    /// What went wrong, if something did.
    pub(crate) fn said(&self) -> String {
        self.process.said()
    }

    /// What starts a program, given after it, to which this is the machine's own journal.
    pub(crate) fn own(&self) -> Vec<String> {
        let run = self.run().display().to_string();
        let line = ["unshare", "--mount", "sh", "-c", OWN_RUN, &run];
        line.map(ToOwned::to_owned).to_vec()
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }
}
