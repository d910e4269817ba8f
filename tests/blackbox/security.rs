//! Who may do what: files, capabilities, listening sockets, requests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{
    Http, Mirror, Process, Recorder, Sender, Server, Setup, Site, Space, binary, pcapng_files, run,
    wait_for,
};

/// The server's user and both processes' group: nobody's, which owns nothing on this machine.
const NOBODY: u32 = 65_534;
/// The recorder's user.
const RECORDER: u32 = 65_533;

/// As the server's user, packets of ring and incident can be read, and not be altered, renamed,
/// replaced or deleted.
#[test]
fn the_servers_user_cannot_touch_a_packet() {
    let Some(mirror) = Mirror::new("the server's user") else {
        return;
    };
    let (site, _recorder, _server, id) = split_users(&mirror);
    let incident = site.incidents().join(&id);
    let mut files = pcapng_files(&site.ring("mon0"));
    files.extend(pcapng_files(&incident.join("segments/mon0")));
    assert!(
        files.len() >= 2,
        "one of the ring and one of the incident: {files:?}"
    );
    let before: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();

    for file in &files {
        let name = file.display().to_string();
        let folder = file.parent().unwrap().display().to_string();
        assert!(as_nobody(&["cat", &name]), "it must be able to read {name}");
        for attempt in [
            vec!["sh", "-c", "echo x >> \"$0\"", &name],
            vec!["sh", "-c", ": > \"$0\"", &name],
            vec!["truncate", "-s", "0", &name],
            vec![
                "dd",
                "if=/dev/zero",
                &format!("of={name}"),
                "bs=1",
                "count=1",
                "conv=notrunc",
            ],
            vec!["rm", "-f", &name],
            vec!["mv", &name, "/tmp/stolen-segment"],
            vec!["mv", &name, &format!("{folder}/renamed")],
            vec!["ln", "-f", "/etc/hostname", &name],
            vec![
                "sh",
                "-c",
                "cp /etc/hostname /tmp/wwt-forged && mv -f /tmp/wwt-forged \"$0\"",
                &name,
            ],
            vec!["chmod", "u+w", &name],
            vec!["chown", "65534", &name],
            vec!["touch", "-d", "2001-01-01", &name],
            vec![
                "touch",
                &format!("{folder}/seg-00000000000000000000-0.pcapng"),
            ],
            vec!["mv", &folder, &format!("{folder}.old")],
            vec!["rm", "-rf", &folder],
        ] {
            // rm -rf of nothing that it may remove fails; so must everything here.
            assert!(
                !as_nobody(&attempt),
                "{attempt:?} succeeded as the server's user"
            );
        }
    }
    let segments = incident.join("segments").display().to_string();
    assert!(!as_nobody(&["mv", &segments, &format!("{segments}.old")]));
    assert!(!as_nobody(&[
        "mv",
        incident.to_str().unwrap(),
        &format!("{}x", incident.display())
    ]));
    for folder in ["var/ring", "var/incidents", "var"] {
        let folder = site.path(folder).display().to_string();
        assert!(
            !as_nobody(&["mv", &folder, &format!("{folder}.old")]),
            "{folder}"
        );
    }

    for (file, bytes) in files.iter().zip(before) {
        let now = fs::read(file).unwrap();
        assert!(now.starts_with(&bytes), "{} was altered", file.display());
    }
}

/// CAP_NET_RAW, to open an interface that comes back.
const NET_RAW: u64 = 1 << 13;

#[test]
fn a_recorder_started_as_root_keeps_the_one_capability_it_records_with() {
    let Some(mirror) = Mirror::new("capabilities") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let recorder = Recorder::start(&site, &mirror.monitor);
    let held = capabilities(recorder.process.id());
    assert_eq!(held.effective & !NET_RAW, 0, "{held:x?}");
    assert_eq!(held.permitted & !NET_RAW, 0, "{held:x?}");
    assert_eq!(held.bounding & !NET_RAW, 0, "{held:x?}");
    assert!(held.no_new_privileges);
}

#[test]
fn run_gives_its_recorder_one_capability_and_its_server_none() {
    let Some(mirror) = Mirror::new("capabilities under run") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut command = mirror.monitor.command(binary());
    command.args(site.arguments(&["run"]));
    let mut run = Process::start(&mut command, &site.path("run.log"));
    let roles = wait_for("both children to be ready", || {
        run.alive();
        let status: serde_json::Value =
            serde_json::from_slice(&site.client(&["--json", "status"]).stdout)
                .map_err(|error| error.to_string())?;
        let pid = |role: &str| {
            status[role]["pid"]
                .as_u64()
                .and_then(|pid| pid.try_into().ok())
        };
        pid("recorder")
            .zip(pid("server"))
            .ok_or_else(|| status.to_string())
    });
    let (recorder, server): (u32, u32) = roles;
    assert_ne!(recorder, server);
    let held = capabilities(recorder);
    assert_eq!(held.effective & !NET_RAW, 0, "{held:x?}");
    let held = capabilities(server);
    assert_eq!((held.effective, held.permitted), (0, 0), "{held:x?}");
    assert!(held.no_new_privileges);

    let (status, took) = run.stop(Signal::INT);
    assert_eq!(status.code(), Some(0));
    assert!(took.as_millis() < 2000, "it took {took:?} to stop");
    for pid in [recorder, server] {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} outlived its parent"
        );
    }
}

#[test]
fn nothing_listens_beyond_loopback() {
    let Some(mirror) = Mirror::new("listening sockets") else {
        return;
    };
    let more = "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n\
                [[syslog]]\nlisten = \"tcp://127.0.0.1:5514\"\n";
    let site = Site::new(&Setup {
        more,
        ..Setup::default()
    });
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let listening = mirror.monitor.run(&["ss", "-H", "-l", "-n", "-t", "-u"]);
    assert_eq!(listening.lines().count(), 3, "{listening}");
    for line in listening.lines() {
        let local = line.split_whitespace().nth(4).unwrap();
        assert!(
            local.starts_with("127.0.0.1:") || local.starts_with("[::1]:"),
            "{line}"
        );
    }
}

#[test]
fn every_route_needs_a_login_but_the_open_ones() {
    let Some(mirror) = Mirror::new("login") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let get = |path: &str, curl: &[&str]| tcp(&mirror.monitor, path, curl);
    for open in ["/healthz", "/"] {
        assert_eq!(get(open, &[]).status, 200, "{open}");
    }
    for closed in [
        "/metrics",
        "/api/v1/session",
        "/api/v1/status",
        "/api/v1/incidents",
        "/api/v1/incidents/x",
        "/api/v1/incidents/x/pcap",
        "/api/v1/incidents/x/bundle",
        "/api/v1/incidents/x/flows",
        "/api/v1/incidents/x/timeline",
        "/api/v1/ring/pcap",
        "/api/v1/events",
    ] {
        assert_eq!(get(closed, &[]).status, 401, "{closed}");
        let wrong = ["-H", "Authorization: Bearer wrong"];
        assert_eq!(
            get(closed, &wrong).status,
            401,
            "{closed} with a wrong token"
        );
    }
    assert_eq!(get("/api/v1/incidents", &["--json", "{}"]).status, 401);

    // Roles: a viewer sees, and takes no packets.
    let token = site.ask(&["token", "create", "reader", "--role", "viewer"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    assert_eq!(get("/api/v1/status", &["-H", &bearer]).status, 200);
    assert_eq!(
        get("/api/v1/ring/pcap?from=-1m&to=now", &["-H", &bearer]).status,
        403
    );
    assert_eq!(
        get("/api/v1/incidents", &["-H", &bearer, "--json", "{}"]).status,
        403
    );
}

#[test]
fn requests_of_other_sites_are_refused() {
    let Some(mirror) = Mirror::new("other sites") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let _recorder = Recorder::start(&site, &mirror.monitor);
    let _server = Server::start(&site, &mirror.monitor);
    let token = site.ask(&["token", "create", "writer", "--role", "analyst"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let freeze = ["-H", &bearer, "--json", "{}"];
    let evil = tcp(
        &mirror.monitor,
        "/api/v1/incidents",
        &[&freeze[..], &["-H", "Origin: http://evil.example"]].concat(),
    );
    assert_eq!(
        (evil.status, &evil.json()["code"]),
        (403, &"cross_origin".into())
    );
    let rebound = tcp(
        &mirror.monitor,
        "/api/v1/status",
        &["-H", &bearer, "-H", "Host: evil.example"],
    );
    assert_eq!(
        (rebound.status, &rebound.json()["code"]),
        (421, &"wrong_host".into())
    );
    let own = tcp(
        &mirror.monitor,
        "/api/v1/incidents",
        &[&freeze[..], &["-H", "Origin: http://127.0.0.1:8642"]].concat(),
    );
    assert_eq!(own.status, 202, "{}", own.head);

    let page = tcp(&mirror.monitor, "/", &[]);
    let head = page.head.to_ascii_lowercase();
    let policy = head
        .lines()
        .find(|line| line.starts_with("content-security-policy:"));
    let policy = policy.expect("a content security policy");
    assert!(
        !policy.contains("unsafe-inline") || !policy.contains("script-src"),
        "{policy}"
    );
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// A recorder and a server as two unprivileged users of one group, with one sealed incident.
fn split_users(mirror: &Mirror) -> (Site, Recorder, Server, String) {
    let site = Site::new(&Setup::default());
    // What the package's tmpfiles do: a sticky folder of the recorder, open to the group.
    let (var, run) = (site.path("var"), site.path("run"));
    chown(&var, Some(RECORDER), Some(NOBODY)).unwrap();
    fs::set_permissions(&var, fs::Permissions::from_mode(0o1770)).unwrap();
    chown(&run, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut recorder = Recorder::start_as(&site, &mirror.monitor, RECORDER, NOBODY);
    let server = Server::start_as(&site, &mirror.monitor, NOBODY, NOBODY);
    let mut sender = Sender::new(&mirror.sender, 0, 300);
    sender.send(100, 1000);
    recorder.account("mon0", 100);
    let id = site.ask(&["freeze", "--before", "30s", "--after", "0s"]);
    let id = id.trim().to_owned();
    let incident = site.sealed(&id);
    assert_eq!(incident["packets"], 100, "{incident}");
    assert_eq!(owner(&format!("/proc/{}", server.process.id())), NOBODY);
    (site, recorder, server, id)
}

fn owner(path: &str) -> u32 {
    fs::metadata(path).unwrap().uid()
}

/// Whether a command succeeds as nobody, without capabilities.
fn as_nobody(line: &[&str]) -> bool {
    let status = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ])
        .args(["--bounding-set=-all"])
        .args(line)
        .output()
        .unwrap();
    status.status.success()
}

/// What a process may do beyond its user.
#[derive(Debug)]
struct Held {
    effective: u64,
    permitted: u64,
    bounding: u64,
    no_new_privileges: bool,
}

fn capabilities(pid: u32) -> Held {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    Held {
        effective: field("CapEff:"),
        permitted: field("CapPrm:"),
        bounding: field("CapBnd:"),
        no_new_privileges: field("NoNewPrivs:") == 1,
    }
}

/// Asks over TCP from inside a namespace.
fn tcp(space: &Space, path: &str, curl: &[&str]) -> Http {
    Http::curl(
        space.command("curl"),
        &format!("http://127.0.0.1:8642{path}"),
        curl,
    )
}

/// The units of the package say what the tests above show.
#[test]
fn the_systemd_units_give_away_as_little_as_possible() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let record = read("wirewitness-record.service");
    assert!(record.contains("\nCapabilityBoundingSet=CAP_NET_RAW\n"));
    assert!(record.contains("\nAmbientCapabilities=CAP_NET_RAW\n"));
    let serve = read("wirewitness-serve.service");
    assert!(serve.contains("\nCapabilityBoundingSet=\n"));
    if Path::new("/usr/bin/systemd-analyze").exists() {
        for unit in ["wirewitness-record.service", "wirewitness-serve.service"] {
            let report = run(Command::new("systemd-analyze")
                // Of it, 0.4 is for adjtimex: reading the clock counts as setting it there.
                .args(["security", "--offline=true", "--no-pager", "--threshold=21"])
                .arg(root.join(unit)));
            let level = report
                .lines()
                .find(|line| line.contains("Overall exposure level"));
            assert!(level.is_some(), "{report}");
        }
    }
}
