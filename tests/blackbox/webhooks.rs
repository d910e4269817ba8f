//! Hooks as real senders call them: signed by openssl, posted by curl, notified by Icinga.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wirewitness::time::Timestamp;

use crate::support::{Process, Space, wait_for};
use crate::triggers::Running;

/// A secret of Standard Webhooks: base64 of "secret-of-the-test".
const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0";
/// The key that it stands for, as hexadecimal digits.
const STANDARD_KEY: &str = "7365637265742d6f662d7468652d74657374";

/// HMAC-SHA256 by openssl, which knows nothing of us. `key` is `key:TEXT` or `hexkey:DIGITS`.
fn signed(key: &str, message: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-binary", "-macopt", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl
        .stdin
        .take()
        .unwrap()
        .write_all(message.as_bytes())
        .unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn base64(bytes: &[u8]) -> String {
    let mut tool = Command::new("base64")
        .arg("-w0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(tool.wait_with_output().unwrap().stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Posts with curl; returns the status and the answer.
fn post(space: &Space, path: &str, headers: &[String], body: &str) -> (u16, Value) {
    let mut command = space.command("curl");
    command.args(["-s", "--max-time", "10", "-w", "\n%{http_code}"]);
    for header in headers {
        command.arg("-H").arg(header);
    }
    command
        .args(["--json", body])
        .arg(format!("http://127.0.0.1:8642{path}"));
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (answer, status) = output.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(answer).unwrap(),
    )
}

#[test]
fn what_is_new_in_a_group_of_alerts_is_frozen_beside_what_is_repeated() {
    let hook =
        "[[webhook]]\nname = \"am\"\nkind = \"alertmanager\"\ntoken = \"secret-of-the-test\"\n";
    let Some(running) = Running::new("a group of alerts", hook) else {
        return;
    };
    let now = Timestamp::now();
    let ago = |seconds| now.minus(Duration::from_secs(seconds)).to_rfc3339();
    let alert = |instance: &str, since: &str| {
        json!({"status": "firing", "labels": {"alertname": "Down", "instance": instance},
               "annotations": {"summary": format!("{instance} is down")}, "startsAt": since,
               "endsAt": "0001-01-01T00:00:00Z", "fingerprint": instance})
    };
    let tell = |alerts: Value| {
        let body = json!({"version": "4", "groupKey": "{}:{alertname=\"Down\"}", "status": "firing",
                          "groupLabels": {"alertname": "Down"}, "alerts": alerts});
        let headers = ["Authorization: Bearer secret-of-the-test".to_owned()];
        let space = &running.mirror.monitor;
        let (status, answer) = post(space, "/hooks/am", &headers, &body.to_string());
        assert_eq!(status, 202, "{answer}");
        answer["incident"].as_str().unwrap().to_owned()
    };
    let old = alert("a", &ago(120));
    let first = tell(json!([old]));
    running.site.sealed(&first);
    assert_eq!(tell(json!([old])), first, "a repeat");
    let new = alert("b", &ago(1));
    let second = tell(json!([old, new]));
    assert_ne!(second, first);
    let incident = running.site.sealed(&second);
    assert_eq!(incident["trigger"]["text"], "b is down", "{incident}");
    assert_eq!(running.site.list().len(), 2);
}

#[test]
fn every_signature_that_openssl_makes_opens_its_hook() {
    let hooks = format!(
        "[[webhook]]\nname = \"signed\"\nkind = \"generic\"\nhmac_secret = [\"rotated away\", \"{SECRET}\"]\n\
         [[webhook]]\nname = \"stamped\"\nkind = \"generic\"\nhmac_secret = \"{SECRET}\"\nhmac_timestamp_header = \"X-Stamp\"\n\
         [[webhook]]\nname = \"path\"\nkind = \"generic\"\ntoken = \"secret-of-the-path\"\n\
         [[webhook]]\nname = \"basic\"\nkind = \"generic\"\nbasic = \"monitor:secret\"\nallow = [\"127.0.0.0/8\"]\n\
         [[webhook]]\nname = \"elsewhere\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\nallow = [\"192.0.2.0/24\"]\n"
    );
    let Some(running) = Running::new("signatures", &hooks) else {
        return;
    };
    let space = &running.mirror.monitor;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let body = r#"{"subject": "signed", "text": "by openssl"}"#;
    let plain = signed(&format!("key:{SECRET}"), body);
    let standard = |stamp: u64| {
        let message = format!("msg_1.{stamp}.{body}");
        let signature = base64(&signed(&format!("hexkey:{STANDARD_KEY}"), &message));
        vec![
            "webhook-id: msg_1".to_owned(),
            format!("webhook-timestamp: {stamp}"),
            format!("webhook-signature: v1,AAAA v1,{signature}"),
        ]
    };
    let dialects = [
        vec![format!("X-Grafana-Alerting-Signature: {}", hex(&plain))],
        vec![format!("X-PagerDuty-Signature: v1=00,v1={}", hex(&plain))],
        vec![format!("X-Hub-Signature-256: sha256={}", hex(&plain))],
        vec![format!("X-SFX-Signature: {}", base64(&plain))],
        standard(now),
    ];
    let mut incidents = Vec::new();
    for headers in &dialects {
        let (status, answer) = post(space, "/hooks/signed", headers, body);
        assert_eq!(status, 202, "{headers:?}: {answer}");
        incidents.push(answer["incident"].clone());
        let (status, answer) = post(
            space,
            "/hooks/signed",
            headers,
            &body.replace("by", "not by"),
        );
        assert_eq!(
            (status, answer["code"].as_str()),
            (401, Some("bad_signature")),
            "{headers:?}"
        );
    }
    incidents.dedup();
    assert_eq!(incidents.len(), 1, "one subject");
    let (status, answer) = post(space, "/hooks/signed", &standard(now - 3600), body);
    assert_eq!(
        (status, answer["code"].as_str()),
        (401, Some("stale_signature"))
    );
    // Grafana with a header for the time, which it signs before the body.
    let stamped = |stamp: u64, signed_stamp: u64| {
        let signature = signed(&format!("key:{SECRET}"), &format!("{signed_stamp}:{body}"));
        let headers = [
            format!("X-Stamp: {stamp}"),
            format!("X-Grafana-Alerting-Signature: {}", hex(&signature)),
        ];
        post(space, "/hooks/stamped", &headers, body).0
    };
    assert_eq!(stamped(now, now), 202);
    assert_eq!(stamped(now, now - 1), 401);
    assert_eq!(stamped(now - 3600, now - 3600), 401);
    let (status, answer) = post(space, "/hooks/signed", &[], body);
    assert_eq!(
        (status, answer["code"].as_str()),
        (401, Some("bad_signature"))
    );

    assert_eq!(
        post(space, "/hooks/path/secret-of-the-path", &[], body).0,
        202
    );
    assert_eq!(
        post(
            space,
            "/hooks/path?access_token=secret-of-the-path",
            &[],
            body
        )
        .0,
        202
    );
    assert_eq!(
        post(space, "/hooks/path/secret-of-the-pat", &[], body).0,
        401
    );
    let pair = |text: &str| vec![format!("Authorization: Basic {}", base64(text.as_bytes()))];
    assert_eq!(
        post(space, "/hooks/basic", &pair("monitor:secret"), body).0,
        202
    );
    assert_eq!(
        post(space, "/hooks/basic", &pair("monitor:sesame"), body).0,
        401
    );
    let token = ["Authorization: Bearer secret-of-the-test".to_owned()];
    let (status, answer) = post(space, "/hooks/elsewhere", &token, body);
    assert_eq!(
        (status, answer["code"].as_str()),
        (403, Some("bad_address"))
    );
    let log = running.server.process.said();
    assert!(!log.contains("secret-of"), "a token is in the log: {log}");
    running.expect("webhook", "signed");
}

const ICINGA: &str = r#"
object CheckCommand "state" { command = [ "/bin/sh", "-c", "test ! -e @W@/down && echo 'PING OK' && exit 0; echo 'PING CRITICAL - <b>100%</b> & \"$$(touch @W@/x)\"'; exit 2" ] }
object Host "core-1" {
  address = "192.0.2.9"
  check_command = "state"
  enable_active_checks = false
  enable_notifications = false
}
object Service "ping4" {
  host_name = "core-1"
  check_command = "state"
  check_interval = 1
  retry_interval = 1
  max_check_attempts = 1
}
object CheckerComponent "checker" { }
object NotificationComponent "notification" { }
object FileLogger "main" { severity = "warning"; path = "@W@/warnings.log" }
"#;

fn icinga(space: &Space, folder: &Path) -> Process {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("share/icinga");
    fs::create_dir_all(folder.join("scripts")).unwrap();
    let script = folder.join("scripts/wirewitness-notify");
    fs::copy(shipped.join("wirewitness-notify"), script).unwrap();
    fs::write(folder.join("token"), "secret-of-the-test\n").unwrap();
    fs::write(folder.join("down"), "").unwrap();
    let work = folder.display().to_string();
    let ours = fs::read_to_string(shipped.join("wirewitness.conf")).unwrap();
    let ours = ours
        .replace("/etc/icinga2/wirewitness-token", &format!("{work}/token"))
        .replace("ConfigDir", &format!("\"{work}\""));
    let whole = format!("{}\n{ours}", ICINGA.replace("@W@", &work));
    let file = folder.join("icinga2.conf");
    fs::write(&file, whole).unwrap();
    // It forks: in a process namespace of its own nothing of it is left behind.
    let mut command = space.command("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "icinga2"])
        .args(["daemon", "-c"])
        .arg(&file);
    for (name, place) in [
        ("DataDir", "data"),
        ("LogDir", "log"),
        ("CacheDir", "cache"),
        ("InitRunDir", "run"),
        ("SpoolDir", "spool"),
    ] {
        fs::create_dir_all(folder.join(place)).unwrap();
        command.arg(format!("-D{name}={work}/{place}"));
    }
    command.args(["-DRunAsUser=root", "-DRunAsGroup=root"]);
    Process::start(&mut command, &folder.join("icinga.log"))
}

#[test]
fn icinga_notifies_with_the_shipped_command() {
    let hook =
        "[[webhook]]\nname = \"icinga\"\nkind = \"icinga\"\ntoken = \"secret-of-the-test\"\n";
    let Some(running) = Running::new("Icinga", hook) else {
        return;
    };
    let folder = running.site.path("icinga");
    fs::create_dir(&folder).unwrap();
    let mut icinga = icinga(&running.mirror.monitor, &folder);
    wait_for("Icinga to notify", || {
        icinga.alive();
        match running.site.list().len() {
            0 => Err(icinga.said()),
            _ => Ok(()),
        }
    });
    let incident = running.expect("webhook", "core-1 ping4");
    let text = incident["trigger"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("PROBLEM CRITICAL: PING CRITICAL - <b>100%</b>"),
        "{text}"
    );
    assert!(text.contains("$(touch"), "{text}");
    assert!(!folder.join("x").exists(), "a shell saw the output");
    assert_eq!(incident["suggested_filter"], "host 192.0.2.9");
    fs::remove_file(folder.join("down")).unwrap();
    running
        .site
        .sealed_where("that is over", |one| one["resolved"].is_string());
    assert_eq!(running.site.list().len(), 1, "{:?}", running.site.list());
}
