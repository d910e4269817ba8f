//! The journal, written by a real journald in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::support::{Process, wait_for};
use crate::triggers::Running;

/// The group of nobody.
const NOGROUP: u32 = 65_534;
const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Runs journald with a `/run` and a journal of its own, and hands on what is written to `pipe`.
/// Its files lie in `folder`.
const SCRIPT: &str = "mount -t proc proc /proc && mount -t tmpfs tmpfs /run \
    && mkdir -p /run/systemd/journal /run/log/journal && mount --bind \"$0/var\" /run/log/journal || exit; \
    \"$1\" & until [ -S /run/systemd/journal/stdout ]; do :; done; \
    echo ready >\"$0/ready\"; \
    while read -r line; do echo \"$line\" | systemd-cat -t app -p err; done <\"$0/pipe\"";

fn journald(folder: &Path) -> Process {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            SCRIPT,
        ])
        .arg(folder)
        .arg(JOURNALD);
    Process::start(&mut command, &folder.join("log"))
}

#[test]
fn entries_of_the_journal_match_rules() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("var");
    fs::create_dir_all(&place).unwrap();
    // The server runs as nobody here: it reads what its group may, as it does in systemd-journal's.
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(folder.path(), 0o755).unwrap();
    chown(&place, None, Some(NOGROUP)).unwrap();
    open(&place, 0o2755).unwrap();
    let config = format!(
        "[[journal]]\nidentifiers = [\"app\"]\ndirectory = {place:?}\n\
         [[rule]]\nname = \"app\"\nmatch = 'ERROR peer=(?P<peer>\\S+)'\nsubject = \"{{peer}}\"\nseverity = \"err\"\n"
    );
    let Some(running) = Running::new("journal", &config) else {
        return;
    };
    let pipe = folder.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut journald = journald(folder.path());
    let mut writer = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    wait_for("journald to listen", || {
        journald.alive();
        if folder.path().join("ready").exists() {
            Ok(())
        } else {
            Err(journald.said())
        }
    });
    // The reader sees a journal that it found empty once something is in it.
    let mut number = 0;
    wait_for("an entry to be heard", || {
        number += 1;
        std::io::Write::write_all(
            &mut writer,
            format!("ERROR peer=192.0.2.{number}\n").as_bytes(),
        )
        .unwrap();
        match running.site.list().len() {
            0 => Err(format!(
                "{} {}",
                journald.said(),
                running.server.process.said()
            )),
            _ => Ok(()),
        }
    });
    let incident = running.expect("journal", "192.0.2.");
    assert!(
        incident["trigger"]["text"]
            .as_str()
            .unwrap()
            .starts_with("app["),
        "{incident}"
    );
}
