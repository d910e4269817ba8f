//! The web listener within TLS, and hooks that ask for a client certificate: curl with certificates
//! that openssl made, good, foreign and expired ones.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{binary, wait_for};
use crate::syslog::Authority;
use crate::triggers::Running;

const URL: &str = "https://127.0.0.1:8642";

struct Listener {
    running: Running,
    ours: Authority,
    foreign: Authority,
    folder: tempfile::TempDir,
}

impl Listener {
    fn new(test: &str) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("wwt-tls-")
            .tempdir()
            .unwrap();
        let ours = Authority::new(&folder.path().join("ours"));
        let foreign = Authority::new(&folder.path().join("foreign"));
        for name in ["listener", "monitor", "other"] {
            ours.sign(name);
        }
        ours.sign_for("expired", "-1");
        foreign.sign("monitor");
        let config = format!(
            "certificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
             [[webhook]]\nname = \"mtls\"\nkind = \"generic\"\nclient_certificate = [\"monitor.test\", \"expired.test\"]\n\
             [[webhook]]\nname = \"both\"\nkind = \"generic\"\nclient_certificate = \"*\"\ntoken = \"secret-of-the-test\"\n\
             [[webhook]]\nname = \"token\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n",
            ours.file("listener.pem"),
            ours.file("listener.key"),
            ours.file("ca.pem"),
        );
        let running = Running::new(test, &config)?;
        Some(Self {
            running,
            ours,
            foreign,
            folder,
        })
    }

    /// Posts with curl, which believes our authority. The status and the code of the answer, or
    /// what curl said when there was none.
    fn post(&self, hook: &str, certificate: Option<(&Authority, &str)>, more: &[&str]) -> Said {
        let mut command = self.running.mirror.monitor.command("curl");
        command.args([
            "-sS",
            "--max-time",
            "10",
            "-w",
            "\n%{http_code}",
            "--cacert",
        ]);
        command.arg(self.ours.file("ca.pem"));
        if let Some((authority, name)) = certificate {
            command.args(["--cert", &authority.file(&format!("{name}.pem"))]);
            command.args(["--key", &authority.file(&format!("{name}.key"))]);
        }
        command.args(["--json", r#"{"subject": "core-1", "text": "down"}"#]);
        command.args(more).arg(format!("{URL}/hooks/{hook}"));
        let output = command.output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let (answer, status) = text.rsplit_once('\n').unwrap();
        let answer: Value = serde_json::from_str(answer).unwrap();
        let code = answer["code"].as_str().unwrap_or_default().to_owned();
        Ok((status.parse().unwrap(), code))
    }
}

type Said = Result<(u16, String), String>;

#[test]
fn hooks_open_to_the_certificates_they_name() {
    let Some(listener) = Listener::new("mutual TLS") else {
        return;
    };
    let (ours, foreign) = (&listener.ours, &listener.foreign);
    let ok = |status: u16, code: &str| Ok((status, code.to_owned()));
    assert_eq!(
        listener.post("mtls", Some((ours, "monitor")), &[]),
        ok(202, "")
    );
    assert_eq!(
        listener.post("mtls", Some((ours, "other")), &[]),
        ok(403, "bad_certificate")
    );
    assert_eq!(listener.post("mtls", None, &[]), ok(403, "bad_certificate"));
    let token = ["-H", "Authorization: Bearer secret-of-the-test"];
    assert_eq!(listener.post("token", None, &token), ok(202, ""));
    assert_eq!(
        listener.post("both", Some((ours, "other")), &token),
        ok(202, "")
    );
    assert_eq!(
        listener.post("both", Some((ours, "other")), &[]),
        ok(401, "bad_token")
    );
    assert_eq!(
        listener.post("both", None, &token),
        ok(403, "bad_certificate")
    );
    // One that is shown must be good, whatever the hook wants.
    for bad in [(foreign, "monitor"), (ours, "expired")] {
        let said = listener.post("token", Some(bad), &token).unwrap_err();
        assert!(said.contains("alert") || said.contains("reset"), "{said}");
    }
    listener.running.expect("webhook", "core-1");
    // The unix socket stays plain, and shows no certificate.
    let site = &listener.running.site;
    let body = ["--json", r#"{"subject": "x"}"#];
    let refused = site.http("/hooks/mtls", &body);
    assert_eq!(refused.json()["code"], "bad_certificate");
    assert_eq!(site.list().len(), 1);
}

#[test]
fn plain_http_is_told_and_a_slow_handshake_holds_no_place() {
    let Some(listener) = Listener::new("plain HTTP to TLS") else {
        return;
    };
    let space = &listener.running.mirror.monitor;
    let said = space.enter(|| {
        let mut slow = TcpStream::connect("127.0.0.1:8642").unwrap();
        let mut plain = TcpStream::connect("127.0.0.1:8642").unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        plain.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        plain.read_to_string(&mut said).unwrap();
        // The beginning of a handshake, and then nothing.
        slow.write_all(&[0x16, 3, 1]).unwrap();
        slow.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let start = Instant::now();
        assert!(matches!(slow.read(&mut [0]), Ok(0) | Err(_)));
        assert!(
            start.elapsed() < Duration::from_secs(50),
            "it held its place"
        );
        said
    });
    assert!(
        said.starts_with("HTTP/1.1 400 ") && said.ends_with("write https:// and not http\n"),
        "{said}"
    );
    let log = listener.running.server.process.said();
    assert!(log.contains("the client speaks plain HTTP"), "{log}");

    // A login within TLS, our own command, and a certificate that is renewed.
    let ca = listener.ours.file("ca.pem");
    let site = &listener.running.site;
    let token = site.ask(&["token", "create", "t"]);
    let ask = |ca: &str| {
        space
            .command(binary())
            .args([
                "--url",
                URL,
                "--ca",
                ca,
                "--token",
                token.trim(),
                "--json",
                "status",
            ])
            .output()
            .unwrap()
    };
    let answered = ask(&ca);
    assert!(answered.status.success(), "{answered:?}");
    let foreign = ask(&listener.foreign.file("ca.pem"));
    let said = String::from_utf8_lossy(&foreign.stderr).into_owned();
    assert!(
        !foreign.status.success() && said.contains("invalid peer certificate"),
        "{said}"
    );
    let headers = space.run(&[
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-D",
        "-",
        "--cacert",
        &ca,
        URL,
    ]);
    assert!(!headers.contains("strict-transport-security"), "{headers}");
    let resolve = "listener.test:8642:127.0.0.1";
    let named = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-D",
        "-",
        "--cacert",
        &ca,
        "--resolve",
        resolve,
    ];
    let named = space.run(&[&named[..], &["https://listener.test:8642/healthz"]].concat());
    assert!(
        named.contains("strict-transport-security: max-age="),
        "{named}"
    );
    listener.ours.sign("other");
    for (from, to) in [("other.pem", "listener.pem"), ("other.key", "listener.key")] {
        fs::copy(listener.ours.file(from), listener.ours.file(to)).unwrap();
    }
    // The server gave up root: what it is to read again its user must be able to read.
    let key = listener.ours.file("listener.key");
    for (path, mode) in [(key.as_str(), 0o644), (&listener.ours.file(""), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(listener.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    wait_for("the new certificate to be shown", || {
        let shown = space.run(&[
            "sh",
            "-c",
            "openssl s_client -connect 127.0.0.1:8642 </dev/null 2>/dev/null | grep -m1 subject",
        ]);
        if shown.contains("other.test") {
            Ok(())
        } else {
            Err(shown)
        }
    });
}

#[test]
fn half_of_tls_is_refused() {
    let site = crate::support::Site::new(&crate::support::Setup {
        more: "certificate = \"/etc/x.pem\"\n",
        ..crate::support::Setup::default()
    });
    let output = Command::new(binary())
        .args(site.arguments(&["check-config"]))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("web.key: is missing"), "{said}");
}
