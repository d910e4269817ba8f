//! Every kind of trigger, fired by the real thing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Lab, Mirror, Process, Recorder, Sender, Server, Setup, Site, Space, Tally, run, wait_for,
};

/// Numbered packets that flow until the test is done: what incidents must hold.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    fn start(mirror: &Mirror) -> Self {
        let mut sender = Sender::new(&mirror.sender, 0, 120);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            sender.send_while(1000, |_| !stopped.load(Ordering::Relaxed));
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// An installation that records steady traffic.
pub(crate) struct Running {
    pub(crate) site: Site,
    pub(crate) server: Server,
    pub(crate) recorder: Recorder,
    _traffic: Traffic,
    pub(crate) mirror: Mirror,
}

impl Running {
    pub(crate) fn new(test: &str, more: &str) -> Option<Self> {
        let mirror = Mirror::new(test)?;
        let site = Site::new(&Setup {
            more,
            before: "5s",
            after: "1s",
            ..Setup::default()
        });
        let recorder = Recorder::start(&site, &mirror.monitor);
        let traffic = Traffic::start(&mirror);
        let server = Server::start(&site, &mirror.monitor);
        // Something must lie before the trigger.
        wait_for("traffic to be on disk", || {
            let packets = Tally::of_folder(&site.ring("mon0")).distinct();
            if packets > 500 {
                Ok(())
            } else {
                Err(format!("{packets} packets are"))
            }
        });
        Some(Self {
            site,
            server,
            recorder,
            _traffic: traffic,
            mirror,
        })
    }

    /// Waits for the sealed incident of this subject and kind, and checks that it holds packets
    /// from before its trigger and from after it, none missing in between.
    pub(crate) fn expect(&self, kind: &str, subject: &str) -> Value {
        let incident = self.site.sealed_where(&format!("of {subject:?}"), |one| {
            one["subject"]
                .as_str()
                .is_some_and(|text| text.contains(subject))
        });
        assert_eq!(incident["trigger"]["kind"], kind, "{incident}");
        let id = incident["id"].as_str().unwrap();
        let at = incident["trigger"]["at"].as_str().unwrap();
        let at: wirewitness::time::Timestamp = at.parse().unwrap();
        let file = self.site.path(&format!("{id}.pcapng"));
        self.site.ask(&["export", id, "-o", file.to_str().unwrap()]);
        let tally = Tally::of_file(&file);
        let (first, last) = (tally.first_ns.unwrap(), tally.last_ns.unwrap());
        assert!(
            first < at.as_ns(),
            "nothing from before the trigger: {incident}"
        );
        assert!(
            last > at.as_ns(),
            "nothing from after the trigger: {incident}"
        );
        let lowest = usize::try_from(tally.lowest().unwrap()).unwrap();
        let highest = lowest as u64 + tally.distinct() - 1;
        let holes: Vec<_> = tally.missing(highest + 1).split_off(lowest);
        assert_eq!((tally.doubled(), holes), (vec![], vec![]), "{incident}");
        incident
    }
}

const SYSLOG: &str = "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n\
    [[syslog]]\nlisten = \"tcp://127.0.0.1:5515\"\n\
    [[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{peer}\"\n";

#[test]
fn rsyslog_forwards_a_line_by_udp_and_by_tcp() {
    let Some(running) = Running::new("rsyslog", SYSLOG) else {
        return;
    };
    let folder = running.site.path("rsyslog");
    fs::create_dir(&folder).unwrap();
    let input = folder.join("input.log");
    File::create(&input).unwrap();
    let configuration = format!(
        "global(workDirectory=\"{work}\")\n\
         module(load=\"imfile\" mode=\"inotify\")\n\
         input(type=\"imfile\" File=\"{work}/input.log\" Tag=\"app:\")\n\
         if $msg contains \"udp\" then action(type=\"omfwd\" target=\"127.0.0.1\" port=\"5514\"\n\
           protocol=\"udp\")\n\
         if $msg contains \"tcp\" then action(type=\"omfwd\" target=\"127.0.0.1\" port=\"5515\"\n\
           protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\")\n",
        work = folder.display()
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
    let _rsyslog = Process::start(&mut command, &folder.join("log"));

    append(&input, "an ordinary line by udp and tcp\n");
    append(&input, "ERROR by udp: no route peer=192.0.2.10\n");
    append(&input, "ERROR by tcp: no route peer=192.0.2.20\n");
    let by_udp = running.expect("syslog", "192.0.2.10");
    assert_eq!(by_udp["rule"], "errors");
    assert_eq!(by_udp["fields"]["peer"], "192.0.2.10");
    running.expect("syslog", "192.0.2.20");
    assert_eq!(
        running.site.list().len(),
        2,
        "the ordinary line froze nothing"
    );
}

#[test]
fn alertmanager_posts_an_alert() {
    let hook = "[[webhook]]\nname = \"prometheus\"\nkind = \"alertmanager\"\ntoken = \"secret-of-the-test\"\n";
    let Some(running) = Running::new("Alertmanager", hook) else {
        return;
    };
    let folder = running.site.path("alertmanager");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("alertmanager.yml");
    fs::write(
        &file,
        "route:\n  receiver: wirewitness\n  group_by: [alertname, instance]\n  group_wait: 0s\n  group_interval: 1s\n\
         receivers:\n- name: wirewitness\n  webhook_configs:\n  - url: http://127.0.0.1:8642/hooks/prometheus\n\
         \x20   http_config:\n      authorization:\n        credentials: secret-of-the-test\n",
    )
    .unwrap();
    let space = &running.mirror.monitor;
    let mut command = space.command("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", folder.join("data").display()))
        .args([
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
        ]);
    let mut alertmanager = Process::start(&mut command, &folder.join("log"));
    let curl = |arguments: &[&str]| {
        let mut command = space.command("curl");
        command
            .args(["-s", "-f", "--max-time", "5"])
            .args(arguments);
        command.output().unwrap().status.success()
    };
    wait_for("Alertmanager to be ready", || {
        alertmanager.alive();
        if curl(&["http://127.0.0.1:9093/-/ready"]) {
            Ok(())
        } else {
            Err(alertmanager.said())
        }
    });
    let alert = r#"[{"labels": {"alertname": "ProviderDown", "instance": "edge1", "severity": "critical"},
                     "annotations": {"summary": "edge1 does not answer"}}]"#;
    assert!(curl(&[
        "--json",
        alert,
        "http://127.0.0.1:9093/api/v2/alerts"
    ]));
    let incident = running.expect("webhook", "edge1");
    assert_eq!(incident["trigger"]["source"], "prometheus", "{incident}");
    let words = incident.to_string();
    assert!(
        words.contains("ProviderDown") && words.contains("edge1 does not answer"),
        "{words}"
    );
    let over = alert.replace("[{", r#"[{"endsAt": "2026-01-01T00:00:00Z", "#);
    assert!(curl(&[
        "--json",
        &over,
        "http://127.0.0.1:9093/api/v2/alerts"
    ]));
    let id = incident["id"].as_str().unwrap();
    let ended = running
        .site
        .sealed_where("that is over", |one| one["resolved"].is_string());
    assert_eq!(
        (ended["id"].as_str(), running.site.list().len()),
        (Some(id), 1)
    );
}

#[test]
fn curl_posts_a_generic_hook() {
    let hook = "[[webhook]]\nname = \"any\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n";
    let Some(running) = Running::new("generic hook", hook) else {
        return;
    };
    let space = &running.mirror.monitor;
    let answer = space.run(&[
        "curl",
        "-s",
        "--fail",
        "--max-time",
        "10",
        "-H",
        "Authorization: Bearer secret-of-the-test",
        "--json",
        r#"{"subject": "door 7", "text": "opened <b>by hand</b>", "fields": {"host": "cam7"}}"#,
        "http://127.0.0.1:8642/hooks/any",
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let incident = running.expect("webhook", "door 7");
    assert_eq!(incident["id"], answer["incident"]);
    assert_eq!(incident["fields"]["host"], "cam7");
}

#[test]
fn a_person_freezes_from_the_command_line() {
    let Some(running) = Running::new("manual", "") else {
        return;
    };
    let arguments = [
        "freeze",
        "--before",
        "5s",
        "--after",
        "1s",
        "--reason",
        "looks odd",
    ];
    let id = running.site.ask(&arguments);
    let incident = running.site.sealed(id.trim());
    let subject = incident["subject"].as_str().unwrap().to_owned();
    assert_eq!(
        running.expect("manual", &subject)["trigger"]["text"],
        "looks odd"
    );
}

#[test]
fn a_log_file_is_followed_through_logrotate() {
    let text = "[[logfile]]\npath = \"@LOG@\"\n\
        [[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{peer}\"\n";
    let logs = tempfile::Builder::new()
        .prefix("wwt-logs-")
        .tempdir()
        .unwrap();
    let log = logs.path().join("app.log");
    append(&log, "ERROR long ago peer=192.0.2.99\n");
    let Some(running) = Running::new("logrotate", &text.replace("@LOG@", log.to_str().unwrap()))
    else {
        return;
    };
    append(&log, "an ordinary line\nERROR first peer=192.0.2.1\n");
    running.expect("logfile", "192.0.2.1");

    // Rotation by renaming: a line in the old file just before, one in the new file just after.
    append(&log, "ERROR before renaming peer=192.0.2.2\n");
    rotate(logs.path(), &log, "create");
    append(&log, "ERROR after renaming peer=192.0.2.3\n");
    running.expect("logfile", "192.0.2.2");
    running.expect("logfile", "192.0.2.3");

    // Rotation by copying and truncating.
    rotate(logs.path(), &log, "copytruncate");
    append(&log, "ERROR after truncating peer=192.0.2.4\n");
    running.expect("logfile", "192.0.2.4");

    let list = running.site.list();
    assert_eq!(
        list.len(),
        4,
        "each line once, and none from before the start: {list:?}"
    );
    assert!(
        list.iter().all(|incident| incident["triggers"] == 1),
        "{list:?}"
    );
}

#[test]
fn a_dropped_icmp_path_is_noticed_by_the_probe() {
    let probe = "[[probe]]\nname = \"edge\"\ntarget = \"10.97.0.2\"\ninterval = \"200ms\"\n\
        timeout = \"200ms\"\nlost = 3\nof = 5\n\
        [[probe]]\nname = \"edge6\"\ntarget = \"fd97::2\"\ninterval = \"200ms\"\n\
        timeout = \"200ms\"\nlost = 3\nof = 5\n";
    let Some(mirror) = Mirror::new("probe") else {
        return;
    };
    let (near, far) = (&mirror.monitor, &mirror.sender);
    for (space, cable, own) in [(near, "edge0", 1), (far, "edge1", 2)] {
        if own == 1 {
            Lab::cable((near, "edge0"), (far, "edge1"));
        }
        space.sysctl(&format!("net.ipv6.conf.{cable}.disable_ipv6"), "0");
        space.ip(&["addr", "add", &format!("10.97.0.{own}/24"), "dev", cable]);
        space.ip(&[
            "-6",
            "addr",
            "add",
            &format!("fd97::{own}/64"),
            "dev",
            cable,
            "nodad",
        ]);
    }
    wait_for("the path to carry echo requests of both kinds", || {
        for target in ["10.97.0.2", "fd97::2"] {
            let output = near
                .command("ping")
                .args(["-c1", "-W1", target])
                .output()
                .unwrap();
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stdout).into_owned());
            }
        }
        Ok(())
    });
    let site = Site::new(&Setup {
        interfaces: &["mon0", "edge0"],
        more: probe,
        before: "5s",
        after: "1s",
        ..Setup::default()
    });
    let recorder = Recorder::start(&site, near);
    let traffic = Traffic::start(&mirror);
    let server = Server::start(&site, near);
    wait_for("both probes to have had an answer", || {
        let status = site.http("/api/v1/status", &[]).json();
        let sources = status["server"]["sources"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let well = |name| {
            sources
                .iter()
                .any(|one| one["name"] == name && one["state"] == "ok")
        };
        let on_disk = Tally::of_folder(&site.ring("mon0")).distinct();
        if well("edge") && well("edge6") && on_disk > 500 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(site.list().len(), 0, "a path that answers is no trigger");
    drop_echo(far, "iptables", "icmp");
    let running = Running {
        site,
        server,
        recorder,
        _traffic: traffic,
        mirror,
    };
    let incident = running
        .site
        .sealed_where("of edge", |one| one["trigger"]["source"] == "edge");
    let subject = incident["subject"].as_str().unwrap().to_owned();
    running.expect("probe", &subject);
    assert_eq!(running.site.list().len(), 1, "the other path still answers");
    drop_echo(&running.mirror.sender, "ip6tables", "icmpv6");
    let incident = running
        .site
        .sealed_where("of edge6", |one| one["trigger"]["source"] == "edge6");
    assert_eq!(incident["trigger"]["kind"], "probe");
}

/// A storm of triggers on one subject is one incident that counts them all.
#[test]
fn ten_thousand_triggers_are_one_incident() {
    let Some(running) = Running::new("trigger storm", SYSLOG) else {
        return;
    };
    running.mirror.monitor.enter(|| {
        let mut stream = std::net::TcpStream::connect("127.0.0.1:5515").unwrap();
        let line = "<34>Oct 11 22:14:15 host app: ERROR again peer=192.0.2.50\n";
        stream.write_all(line.repeat(10_000).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    wait_for("all triggers to be counted", || {
        let list = running.site.list();
        match list.as_slice() {
            [one] if one["triggers"] == 10_000 => Ok(()),
            _ => Err(format!(
                "{} incidents, triggers {:?}",
                list.len(),
                list.first().map(|one| &one["triggers"])
            )),
        }
    });
    running.expect("syslog", "192.0.2.50");
}

/// The server stops within two seconds with listeners and clients attached.
#[test]
fn the_server_stops_in_time_while_a_client_follows_events() {
    let Some(mut running) = Running::new("clean stop", SYSLOG) else {
        return;
    };
    let mut events = std::process::Command::new("curl");
    events
        .args(["-sN", "--unix-socket"])
        .arg(running.site.socket())
        .arg("http://localhost/api/v1/events");
    let events = Process::start(&mut events, &running.site.path("events"));
    wait_for("the first event", || {
        if events.said().contains("event: status") {
            Ok(())
        } else {
            Err(events.said())
        }
    });
    let (status, took) = running.server.process.stop(rustix::process::Signal::TERM);
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

/// Adds to a log file, which is made if need be.
pub(crate) fn append(file: &Path, text: &str) {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// One forced rotation by logrotate, by renaming ("create") or by copying ("copytruncate").
fn rotate(folder: &Path, log: &Path, how: &str) {
    let configuration = folder.join(format!("{how}.conf"));
    let text = format!(
        "{} {{\n  rotate 5\n  {how}\n  su root root\n}}\n",
        log.display()
    );
    fs::write(&configuration, text).unwrap();
    run(std::process::Command::new("logrotate")
        .args(["--force", "--state"])
        .arg(folder.join("state"))
        .arg(&configuration));
}

/// Drops echo requests on their way in.
fn drop_echo(space: &Space, tool: &str, protocol: &str) {
    space.run(&[
        tool,
        "-A",
        "INPUT",
        "-p",
        protocol,
        &format!("--{protocol}-type"),
        "echo-request",
        "-j",
        "DROP",
    ]);
}
