//! strace on one thread of a process: to count its calls, or to hold them back.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Process, wait_for};

/// The process's thread of this name.
pub(crate) fn thread_named(pid: u32, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let task = tasks
        .flatten()
        .find(|task| fs::read_to_string(task.path().join("comm")).unwrap().trim() == name)
        .unwrap();
    task.file_name().to_string_lossy().into_owned()
}

/// strace on a thread, once it watches it; its log goes to `folder`/strace.log.
pub(crate) fn watch(folder: &Path, thread: &str, options: &[&str]) -> Process {
    let mut strace = Process::start(
        Command::new("strace")
            .args(["-p", thread, "-o"])
            .arg(folder.join("strace.log"))
            .args(options),
        &folder.join("strace.said"),
    );
    wait_for("strace to watch the thread", || {
        strace.alive();
        let said = strace.said();
        said.contains("attached").then_some(()).ok_or(said)
    });
    strace
}
