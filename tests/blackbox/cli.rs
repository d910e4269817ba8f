//! The command line: exit codes, what is printed alone, and the shapes of `--json`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::{Mirror, Recorder, Sender, Server, Setup, Site, binary, wait_for};

fn code(arguments: &[&str]) -> Option<i32> {
    Command::new(binary())
        .args(arguments)
        .output()
        .unwrap()
        .status
        .code()
}

#[test]
fn usage_errors_end_with_2_and_help_with_0() {
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["nosuchcommand"]), Some(2));
    assert_eq!(code(&["freeze", "--before", "yesterday"]), Some(2));
    assert_eq!(code(&["export"]), Some(2));
    assert_eq!(code(&["completions", "bash"]), Some(0));
    assert_eq!(code(&["man"]), Some(0));
}

#[test]
fn without_a_server_a_client_command_fails_and_says_where_it_looked() {
    let site = Site::new(&Setup::default());
    let output = site.client(&["freeze"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("run/api.sock"), "{said}");
}

#[test]
fn doctor_looks_at_everything_and_says_what_is_wrong() {
    let Some(mirror) = Mirror::new("doctor") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let look = || {
        let mut command = mirror.monitor.command(binary());
        command.args(site.arguments(&["--json", "doctor"]));
        let output = command.output().unwrap();
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let texts = findings.into_iter().map(|one| {
            let text = one["text"].as_str().unwrap().to_owned();
            let check = one["check"].as_str().unwrap().to_owned();
            (check, (one["ok"] == true, text))
        });
        (output.status.code(), texts.collect::<BTreeMap<_, _>>())
    };
    let (code, idle) = look();
    assert_eq!(code, Some(1), "{idle:?}");
    for (check, ok) in [
        ("interface", true),
        ("ring", true),
        ("recorder", false),
        ("web", false),
    ] {
        assert_eq!(idle[check].0, ok, "{check}: {:?}", idle[check]);
    }
    assert!(idle["web"].1.contains("is `wirewitness serve` running?"));

    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let (_, running) = look();
    assert!(running["recorder"].0 && running["web"].0, "{running:?}");

    // Evidence on another file system cannot be linked to.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = site.incidents().display().to_string();
    let text = text.replace(&own, &elsewhere.path().display().to_string());
    std::fs::write(site.config(), text).unwrap();
    let (_, apart) = look();
    let (ok, said) = &apart["file system"];
    assert!(!ok && said.contains("two file systems"), "{said}");
}

#[test]
fn ids_and_tokens_stand_alone_on_stdout() {
    let Some(mirror) = Mirror::new("stdout") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let id = site.ask(&["freeze", "--reason", "a reason", "--after", "0s"]);
    assert_eq!(id.lines().count(), 1);
    let id = id.strip_suffix('\n').unwrap();
    assert!(
        id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
        "{id:?}"
    );
    let token = site.ask(&["token", "create", "ci", "--role", "analyst"]);
    assert_eq!(token.lines().count(), 1);
    assert!(token.trim().len() >= 32, "a token is not guessable");
    assert!(!token.trim().contains(char::is_whitespace));

    // The token works from elsewhere, and the wrong one is a failure.
    let by_token = |token: &str| {
        mirror
            .monitor
            .command(binary())
            .args([
                "--json",
                "incidents",
                "--url",
                "http://127.0.0.1:8642",
                "--token",
                token,
            ])
            .output()
            .unwrap()
    };
    assert_eq!(
        by_token(token.trim()).status.code(),
        Some(0),
        "{:?}",
        by_token(token.trim())
    );
    assert_eq!(by_token("wrong").status.code(), Some(1));
}

#[test]
fn json_has_the_documented_shape() {
    let Some(mirror) = Mirror::new("--json") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(50, 1000);
    recorder.account("mon0", 50);
    let id = site.ask(&[
        "freeze", "--before", "20s", "--after", "0s", "--reason", "why not",
    ]);
    let incident = site.sealed(id.trim());
    for key in [
        "id", "state", "grade", "subject", "trigger", "triggers", "window", "covered", "packets",
        "bytes",
    ] {
        assert!(incident.get(key).is_some(), "no {key} in {incident}");
    }
    assert_eq!(incident["grade"], "incident");
    assert_eq!(incident["triggers"], 1);
    assert_eq!(incident["packets"], 50);
    assert_eq!(incident["bytes"], 5000);
    assert_eq!(incident["trigger"]["kind"], "manual");
    assert_eq!(incident["trigger"]["text"], "why not");
    for key in ["source", "at"] {
        assert!(
            incident["trigger"].get(key).is_some(),
            "no trigger.{key} in {incident}"
        );
    }
    for span in ["window", "covered"] {
        for end in ["from", "to"] {
            let time = incident[span][end].as_str().unwrap_or_default();
            assert!(
                time.len() == 30 && time.ends_with('Z'),
                "{span}.{end} in {incident}"
            );
        }
    }

    let shown: Value =
        serde_json::from_str(&site.ask(&["--json", "incidents", "show", id.trim()])).unwrap();
    assert_eq!(shown["id"], incident["id"]);
    let missing = site.client(&["--json", "incidents", "show", "nosuch"]);
    assert_eq!(missing.status.code(), Some(1));

    // The server asks the recorder once a second.
    let status = wait_for("the status to count every packet", || {
        let status: Value = serde_json::from_str(&site.ask(&["--json", "status"])).unwrap();
        if status["interfaces"][0]["written"] == 50 {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    });
    for key in ["interfaces", "recorder", "server", "clock", "disk"] {
        assert!(status.get(key).is_some(), "no {key} in {status}");
    }
    let interface = &status["interfaces"][0];
    for key in [
        "name",
        "received",
        "written",
        "dropped_kernel",
        "dropped_ring",
        "dropped_iface",
        "ring_from",
        "ring_to",
        "state",
    ] {
        assert!(
            interface.get(key).is_some(),
            "no interfaces[0].{key} in {status}"
        );
    }
    assert_eq!(interface["received"], 50, "{status}");
}

#[test]
fn evidence_that_does_not_verify_ends_with_3() {
    let Some(mirror) = Mirror::new("verify") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(50, 1000);
    recorder.account("mon0", 50);
    let id = site.ask(&["freeze", "--before", "20s", "--after", "0s"]);
    site.sealed(id.trim());
    let folder = site.incidents().join(id.trim());
    let folder = folder.to_str().unwrap();
    assert_eq!(site.client(&["verify", folder]).status.code(), Some(0));

    // A copy with one flipped byte: the original is not ours to touch.
    let copy = site.path("copy");
    crate::support::run(Command::new("cp").args(["-r", folder]).arg(&copy));
    let segment = crate::support::pcapng_files(&copy.join("segments/mon0")).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&segment).unwrap();
    std::fs::write(&segment, bytes).unwrap();
    let output = site.client(&["verify", copy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name), "it names the file: {said}");
}

#[test]
fn the_index_is_rebuilt_on_request() {
    let Some(mirror) = Mirror::new("reindex") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(50, 1000);
    recorder.account("mon0", 50);
    let id = site.ask(&["freeze", "--before", "20s", "--after", "0s"]);
    site.sealed(id.trim());
    let flows = || {
        site.http(&format!("/api/v1/incidents/{}/flows", id.trim()), &[])
            .json()
    };
    let before = wait_for("the flows to be indexed", || {
        let flows = flows();
        if flows["indexed"] == true {
            Ok(flows)
        } else {
            Err(flows.to_string())
        }
    });
    site.ask(&["reindex"]);
    let after = wait_for("the flows to be indexed again", || {
        let flows = flows();
        if flows["indexed"] == true {
            Ok(flows)
        } else {
            Err(flows.to_string())
        }
    });
    assert_eq!(before, after);
    assert_eq!(after["total"], 1, "{after}");
}
