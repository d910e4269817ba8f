//! Bad input: a clear error that names what, where and what to do; nothing else is lost.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};

use crate::support::{
    Lab, Mirror, Process, Recorder, Sender, Server, Setup, Site, Tally, binary, wait_for,
};

/// Exit code of a usage or configuration error.
const USAGE: Option<i32> = Some(2);

/// Runs `record` on a configuration that cannot work and returns what it said.
fn refused(site: &Site, lab: Option<&Mirror>, arguments: &[&str]) -> String {
    let mut command = match lab {
        Some(mirror) => mirror.monitor.command("timeout"),
        None => Command::new("timeout"),
    };
    let output = command
        .arg("20")
        .arg(binary())
        .args(site.arguments(arguments))
        .output()
        .unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), USAGE, "{arguments:?} said: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
    let site = Site::new(&Setup::default());
    fs::write(
        site.config(),
        "[capture]\ninterfaces = [\"eth0\"]\nsnaplenn = 100\n",
    )
    .unwrap();
    for command in ["check-config", "record", "serve"] {
        let said = refused(&site, None, &[command]);
        assert_says(&said, &["wirewitness.toml", "snaplenn", "snaplen", "3"]);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_place() {
    let site = Site::new(&Setup::default());
    for (text, words) in [
        ("[ring]\nsize = \"lots\"\n", ["lots", "2"]),
        ("[window]\nbefore = \"yesterday\"\n", ["yesterday", "2"]),
        ("[capture\n", ["wirewitness.toml", "1"]),
        (
            "[[rule]]\nname = \"x\"\nmatch = '('\nsubject = \"s\"\n",
            ["x", "("],
        ),
    ] {
        fs::write(site.config(), text).unwrap();
        assert_says(&refused(&site, None, &["check-config"]), &words);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_refused() {
    let output = Command::new(binary())
        .args(["--config", "/nowhere/wirewitness.toml", "check-config"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), USAGE);
    assert_says(&said(&output), &["/nowhere/wirewitness.toml"]);
}

#[test]
fn a_good_configuration_passes_the_check() {
    let site = Site::new(&Setup::default());
    let output = site.client(&["check-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_capture_filter_that_does_not_compile_is_refused_with_libpcaps_words() {
    let Some(mirror) = Mirror::new("bad capture filter") else {
        return;
    };
    let site = Site::new(&Setup {
        filter: "hots 10.0.0.1",
        ..Setup::default()
    });
    let said = refused(&site, Some(&mirror), &["record"]);
    assert_says(&said, &["hots 10.0.0.1", "syntax error"]);
}

#[test]
fn a_ring_larger_than_the_disk_is_refused_with_both_sizes() {
    let Some(mirror) = Mirror::new("ring too large") else {
        return;
    };
    let site = Site::new(&Setup {
        ring_size: "900TiB",
        ..Setup::default()
    });
    let said = refused(&site, Some(&mirror), &["record"]);
    assert_says(&said, &["900", "var/ring"]);
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let Some(mirror) = Mirror::new("not writable") else {
        return;
    };
    let site = Site::new(&Setup::default());
    // A file stands where the folder should be: not even root can write there.
    fs::write(site.path("var/ring"), "in the way").unwrap();
    let said = refused(&site, Some(&mirror), &["record"]);
    assert_says(&said, &["var/ring"]);
}

#[test]
fn a_port_in_use_is_named() {
    let Some(mut lab) = Lab::new("port in use") else {
        return;
    };
    let space = lab.space("port");
    let site = Site::new(&Setup::default());
    let _taken = space.enter(|| TcpListener::bind("127.0.0.1:8642").unwrap());
    let output = space
        .command("timeout")
        .arg("20")
        .arg(binary())
        .args(site.arguments(&["serve"]))
        .output()
        .unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert_says(&said(&output), &["127.0.0.1:8642", "in use"]);
}

#[test]
fn no_permission_to_capture_says_which_capability_and_how_to_give_it() {
    let Some(mirror) = Mirror::new("no permission") else {
        return;
    };
    let site = Site::new(&Setup::default());
    for folder in ["var", "run"] {
        std::os::unix::fs::chown(site.path(folder), Some(65_534), Some(65_534)).unwrap();
    }
    let mut command = mirror.monitor.command("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ])
        .args(["timeout", "20"])
        .arg(binary())
        .args(site.arguments(&["record"]));
    let output = command.output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    assert_says(&said(&output), &["CAP_NET_RAW", "setcap cap_net_raw"]);
}

#[test]
fn an_unknown_interface_is_reported_while_the_others_record() {
    let Some(mirror) = Mirror::new("unknown interface") else {
        return;
    };
    let site = Site::new(&Setup {
        interfaces: &["mon0", "nosuch7"],
        ..Setup::default()
    });
    let mut recorder = Recorder::launch(&site, &mirror.monitor, &[]);
    recorder.wait_state(Some("mon0"), "running");
    recorder.wait_state(Some("nosuch7"), "absent");
    let why = recorder.interface("nosuch7")["why"].to_string();
    assert!(!why.is_empty(), "{why}");
    assert!(
        recorder.process.said().contains("nosuch7"),
        "{}",
        recorder.process.said()
    );
}

#[test]
fn foreign_and_torn_files_in_the_ring_are_kept_aside_and_counted() {
    let Some(mirror) = Mirror::new("foreign files") else {
        return;
    };
    let site = Site::new(&Setup::default());
    {
        let mut recorder = Recorder::start(&site, &mirror.monitor);
        let mut sender = Sender::new(&mirror.sender, 0, 100);
        sender.send(500, 10_000);
        recorder.account("mon0", 500);
    }
    let ring = site.ring("mon0");
    let foreign = [
        ("notes.txt", &b"not a capture"[..]),
        (
            "seg-00000000000000009999-1.pcapng",
            b"\x0a\x0d\x0d\x0agarbage that is no section at all",
        ),
        ("seg-00000000000000009998-2.pcapng", b""),
    ];
    for (name, bytes) in foreign {
        fs::write(ring.join(name), bytes).unwrap();
    }
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    for _ in 0..500 {
        sender.skip();
    }
    sender.send(500, 10_000);
    recorder.account("mon0", 500);
    let foreign_files = recorder.interface("mon0")["foreign_files"]
        .as_u64()
        .unwrap();
    assert!(foreign_files >= 2, "{foreign_files} were reported");

    // Every packet is still there, once; the foreign bytes still exist somewhere.
    let mut tally = Tally::default();
    for file in crate::support::pcapng_files(&ring) {
        if fs::read(&file)
            .unwrap()
            .starts_with(b"\x0a\x0d\x0d\x0agarbage")
        {
            continue;
        }
        if fs::metadata(&file).unwrap().len() > 0 {
            tally.add(&file);
        }
    }
    tally.assert_each_once(1000);
    let kept = Command::new("grep")
        .args(["-r", "-l", "garbage that is no section"])
        .arg(site.path("var/ring"))
        .output()
        .unwrap();
    assert!(kept.status.success(), "foreign bytes must not be deleted");
}

const HOOK: &str = "[[webhook]]\nname = \"test\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n\
    [[webhook]]\nname = \"alerts\"\nkind = \"alertmanager\"\ntoken = \"secret-of-the-test\"\n\
    [[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n\
    [[syslog]]\nlisten = \"tcp://127.0.0.1:5514\"\n\
    [[rule]]\nname = \"marker\"\nmatch = 'MARKER (?P<what>\\w+)'\nsubject = \"{what}\"\n";

#[test]
fn malformed_requests_get_their_reason_and_nothing_breaks() {
    let Some(mirror) = Mirror::new("malformed requests") else {
        return;
    };
    let site = Site::new(&Setup {
        more: HOOK,
        ..Setup::default()
    });
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let mut server = Server::start(&site, &mirror.monitor);
    let huge = site.path("huge");
    fs::write(&huge, vec![b'x'; 2 << 20]).unwrap();
    let huge = format!("@{}", huge.display());
    let bearer = "Authorization: Bearer secret-of-the-test";
    let json = "Content-Type: application/json";
    for (path, curl, status, code) in [
        ("/hooks/test", vec!["--json", "{not json"], 400, "bad_body"),
        ("/hooks/test", vec!["--json", "[1,2]"], 400, "bad_body"),
        ("/hooks/test", vec!["--json", "{}"], 400, "bad_body"),
        (
            "/hooks/test",
            vec!["--json", "{\"subject\": \"s\", \"at\": \"noon\"}"],
            400,
            "bad_body",
        ),
        (
            "/hooks/alerts",
            vec!["--json", "{\"version\": \"4\"}"],
            400,
            "bad_body",
        ),
        (
            "/hooks/test",
            vec!["-H", json, "--data-binary", &huge],
            413,
            "too_large",
        ),
        (
            "/hooks/test",
            vec!["-H", "Content-Type: text/plain", "-d", "{}"],
            415,
            "not_json",
        ),
        (
            "/hooks/nosuch",
            vec!["--json", "{\"subject\": \"s\"}"],
            404,
            "no_such_hook",
        ),
        (
            "/hooks/..%2f..%2fetc",
            vec!["--json", "{\"subject\": \"s\"}"],
            404,
            "no_such_hook",
        ),
        (
            "/api/v1/incidents",
            vec!["--json", "{\"filter\": \"hots 1\"}"],
            400,
            "bad_filter",
        ),
        ("/api/v1/incidents/nosuch", vec![], 404, "no_such_incident"),
        (
            "/api/v1/incidents/..%2f..%2fetc/pcap",
            vec![],
            404,
            "no_such_incident",
        ),
        (
            "/api/v1/ring/pcap?from=-1m&to=now&filter=hots%201",
            vec![],
            400,
            "bad_filter",
        ),
    ] {
        let answer = site.http(path, &[&["-H", bearer], &curl[..]].concat());
        let problem = answer.json();
        assert_eq!(answer.status, status, "{path} {curl:?}: {problem}");
        assert_eq!(problem["code"], code, "{path} {curl:?}");
        assert!(
            answer
                .head
                .to_ascii_lowercase()
                .contains("application/problem+json")
        );
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let filter = site.http("/api/v1/ring/pcap?from=-1m&to=now&filter=hots%201", &[]);
    assert!(
        filter.json()["detail"]
            .as_str()
            .unwrap()
            .contains("syntax error"),
        "{filter:?}"
    );
    let wrong = [
        "-H",
        "Authorization: Bearer wrong",
        "--json",
        "{\"subject\": \"s\"}",
    ];
    assert_eq!(site.http("/hooks/test", &wrong).status, 401);
    assert_eq!(site.list().len(), 0, "none of these froze anything");
    server.process.alive();
}

#[test]
fn hostile_log_lines_are_bounded_and_the_next_one_still_counts() {
    let Some(mirror) = Mirror::new("hostile syslog") else {
        return;
    };
    let site = Site::new(&Setup {
        more: HOOK,
        ..Setup::default()
    });
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let mut server = Server::start(&site, &mirror.monitor);
    mirror.monitor.enter(|| {
        use std::io::Write as _;
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for bytes in [
            &b""[..],
            b"<",
            b"<999999>",
            b"\0\xff\xfe<34>1 - - -",
            &vec![b'A'; 60_000],
        ] {
            udp.send_to(bytes, "127.0.0.1:5514").unwrap();
        }
        let mut endless = TcpStream::connect("127.0.0.1:5514").unwrap();
        // The listener may cut the connection at its bound: both ends of it are right.
        let block = vec![b'B'; 64 << 10];
        for _ in 0..80 {
            if endless.write_all(&block).is_err() {
                break;
            }
        }
        let mut lying = TcpStream::connect("127.0.0.1:5514").unwrap();
        let _sent = lying.write_all(b"99999999999999999999 <34>1 - - - - - - x");
        let mut good = TcpStream::connect("127.0.0.1:5514").unwrap();
        good.write_all(b"<34>Oct 11 22:14:15 host app: MARKER found\n")
            .unwrap();
    });
    let incident = site.sealed_where("of the good line", |one| one["subject"] == "found");
    assert_eq!(incident["trigger"]["kind"], "syslog");
    assert_eq!(site.list().len(), 1);
    server.process.alive();
}

#[test]
fn a_corrupt_index_is_rebuilt() {
    let Some(mirror) = Mirror::new("corrupt index") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut recorder = Recorder::start(&site, &mirror.monitor);
    let mut sender = Sender::new(&mirror.sender, 0, 100);
    sender.send(100, 10_000);
    recorder.account("mon0", 100);
    let id = {
        let _server = Server::start(&site, &mirror.monitor);
        let id = site
            .ask(&["freeze", "--before", "30s", "--after", "0s"])
            .trim()
            .to_owned();
        site.sealed(&id);
        indexed_flows(&site, &id);
        id
    };
    let index = site.path("var/index.sqlite");
    fs::write(&index, vec![0x5a; 8192]).unwrap();
    for side in ["-wal", "-shm"] {
        drop(fs::remove_file(
            site.path(&format!("var/index.sqlite{side}")),
        ));
    }
    let server: Process = Server::start(&site, &mirror.monitor).process;
    assert_eq!(site.sealed(&id)["packets"], 100);
    assert_eq!(indexed_flows(&site, &id), 1);
    assert!(
        server.said().contains("index"),
        "it says so: {}",
        server.said()
    );
}

/// Waits until an incident's flows are indexed and returns how many there are.
fn indexed_flows(site: &Site, id: &str) -> u64 {
    wait_for("the flows to be indexed", || {
        let answer = site
            .http(&format!("/api/v1/incidents/{id}/flows"), &[])
            .json();
        match (answer["indexed"].as_bool(), answer["total"].as_u64()) {
            (Some(true), Some(total)) => Ok(total),
            _ => Err(answer.to_string()),
        }
    })
}
