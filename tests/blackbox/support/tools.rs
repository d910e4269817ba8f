//! Foreign programs: run them, and take what they say.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `command` to its end and returns its standard output; panics with everything it said when
/// it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// [`run`], and panics as well when it warned about anything.
pub(crate) fn run_quietly(command: &mut Command) -> String {
    let output = output(command);
    let complaints: Vec<&str> = std::str::from_utf8(&output.stderr)
        .unwrap()
        .lines()
        .filter(|line| !is_chatter(line))
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{command:?} ended with {} and said:\n{}",
        output.status,
        complaints.join("\n"),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the tools say when nothing is wrong: tcpdump names the file and link type that it reads
/// (and, before libpcap 1.11, that snapshots are 262144), tshark that it should not be root.
fn is_chatter(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("reading from file ")
        || line.starts_with("Running as user \"root\"")
}

fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} could not be started: {error}"))
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// Asks with curl over the server's unix socket; `arguments` are curl's own.
    pub(crate) fn over_socket(socket: &Path, path: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("curl");
        command.arg("--unix-socket").arg(socket);
        Self::curl(command, &format!("http://localhost{path}"), arguments)
    }

    /// Asks with the prepared curl `command` (perhaps inside a namespace).
    pub(crate) fn curl(mut command: Command, url: &str, arguments: &[&str]) -> Self {
        command
            .args(["--silent", "--show-error", "--include", "--max-time", "20"])
            .args(arguments)
            .arg(url);
        let output = output(&mut command);
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self::parse(&output.stdout)
    }

    fn parse(mut bytes: &[u8]) -> Self {
        loop {
            let end = bytes
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .expect("an HTTP head");
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            bytes = &bytes[end + 4..];
            // "100 Continue" precedes the answer.
            if status != 100 {
                return Self {
                    status,
                    head,
                    body: bytes.to_vec(),
                };
            }
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}
