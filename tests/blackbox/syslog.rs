//! Syslog within TLS, from rsyslog with either of its TLS drivers and from strangers.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Process, run, wait_for};
use crate::triggers::{Running, append};

/// An authority, and what it signed: for the listener and for senders.
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Self {
        let made = Self {
            folder: folder.to_owned(),
        };
        fs::create_dir_all(folder).unwrap();
        made.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=ca.test",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        made
    }

    fn openssl(&self, arguments: &[&str]) {
        run(Command::new("openssl")
            .current_dir(&self.folder)
            .args(arguments));
    }

    /// Makes `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(&self, name: &str) {
        self.sign_for(name, "2");
    }

    /// The same, good for so many days.
    pub(crate) fn sign_for(&self, name: &str, days: &str) {
        let subject = format!("/CN={name}.test");
        let (key, csr, pem, ext) = (
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("{name}.pem"),
            format!("{name}.ext"),
        );
        fs::write(
            self.folder.join(&ext),
            format!(
                "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:{name}.test,IP:127.0.0.1\n"
            ),
        )
        .unwrap();
        self.openssl(&[
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out",
            &csr,
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            &ext,
            "-out",
            &pem,
        ]);
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// Starts an rsyslog that forwards every line of `input` within TLS.
fn rsyslog(
    running: &Running,
    name: &str,
    authority: &Authority,
    port: u16,
    framing: &str,
) -> (PathBuf, Process) {
    let folder = running.site.path(name);
    fs::create_dir(&folder).unwrap();
    let input = folder.join("input.log");
    File::create(&input).unwrap();
    let configuration = format!(
        "global(workDirectory=\"{work}\" DefaultNetstreamDriverCAFile=\"{ca}\"\n\
           DefaultNetstreamDriverCertFile=\"{certificate}\" DefaultNetstreamDriverKeyFile=\"{key}\")\n\
         module(load=\"imfile\" mode=\"inotify\")\n\
         input(type=\"imfile\" File=\"{work}/input.log\" Tag=\"app:\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\"\n\
           StreamDriver=\"{name}\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\"\n\
           StreamDriverPermittedPeers=\"listener.test\" TCP_Framing=\"{framing}\"\n\
           template=\"RSYSLOG_SyslogProtocol23Format\")\n",
        work = folder.display(),
        ca = authority.file("ca.pem"),
        certificate = authority.file("sender.pem"),
        key = authority.file("sender.key"),
    );
    let file = folder.join("rsyslog.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = running.mirror.monitor.command("rsyslogd");
    command
        .arg("-n")
        .arg("-f")
        .arg(&file)
        .arg("-i")
        .arg(folder.join("pid"));
    let process = Process::start(&mut command, &folder.join("log"));
    (input, process)
}

/// Sends a line within TLS as somebody without a certificate; gives what OpenSSL said.
fn stranger(running: &Running, port: u16, line: &str) -> String {
    let address = format!("127.0.0.1:{port}");
    let mut child = running
        .mirror
        .monitor
        .command("timeout")
        .args(["20", "openssl", "s_client", "-quiet", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may be gone before it reads: it was refused.
    let _written = child.stdin.take().unwrap().write_all(line.as_bytes());
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn source(running: &Running, port: u16) -> serde_json::Value {
    let status = running.site.http("/api/v1/status", &[]).json();
    let sources = status["server"]["sources"]
        .as_array()
        .or_else(|| status["sources"].as_array())
        .unwrap_or_else(|| panic!("no sources: {status}"));
    let name = format!("tls://127.0.0.1:{port}");
    let found = sources.iter().find(|one| one["name"] == name.as_str());
    found
        .unwrap_or_else(|| panic!("no {name}: {status}"))
        .clone()
}

#[test]
fn rsyslog_forwards_within_tls_and_a_stranger_is_refused() {
    let folder = tempfile::Builder::new()
        .prefix("wwt-tls-")
        .tempdir()
        .unwrap();
    let authority = Authority::new(folder.path());
    authority.sign("listener");
    authority.sign("sender");
    let listener = |port: u16, more: &str| {
        format!(
            "[[syslog]]\nlisten = \"tls://127.0.0.1:{port}\"\ncertificate = \"{}\"\nkey = \"{}\"\n{more}",
            authority.file("listener.pem"),
            authority.file("listener.key")
        )
    };
    let strict = format!("client_ca = \"{}\"\n", authority.file("ca.pem"));
    let rule = "[[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{peer}\"\n";
    let text = listener(6514, &strict) + &listener(6515, "") + rule;
    let Some(running) = Running::new("TLS", &text) else {
        return;
    };

    let (counted, _ossl) = rsyslog(&running, "ossl", &authority, 6514, "octet-counted");
    let (lines, _gtls) = rsyslog(&running, "gtls", &authority, 6514, "traditional");
    append(&counted, "an ordinary line\nERROR counted peer=192.0.2.1\n");
    append(&lines, "an ordinary line\nERROR by line peer=192.0.2.2\n");
    let incident = running.expect("syslog", "192.0.2.1");
    assert_eq!(incident["trigger"]["source"], "tls://127.0.0.1:6514");
    running.expect("syslog", "192.0.2.2");

    // Without a certificate: refused where one is asked for, heard where none is.
    let said = stranger(&running, 6514, "<11>ERROR a stranger peer=192.0.2.66\n");
    wait_for("the stranger to be refused", || {
        let refused = source(&running, 6514)["counters"]["refused"].as_u64();
        match refused {
            Some(count) if count > 0 => Ok(()),
            _ => Err(format!("it heard: {said}")),
        }
    });
    stranger(&running, 6515, "<11>ERROR anybody peer=192.0.2.3\n");
    running.expect("syslog", "192.0.2.3");
    assert_eq!(running.site.list().len(), 3, "the stranger froze nothing");
}
