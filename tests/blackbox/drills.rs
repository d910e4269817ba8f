//! Drills of every kind of source through the real program, and what makes one fail.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wirewitness::time::Timestamp;

use crate::support::{Journald, Lab, Recorder, Server, Setup, Site, Space, wait_at_most, wait_for};
use crate::syslog::Authority;

/// `drill.every` of the test of the schedule.
const MINUTE: Duration = Duration::from_mins(1);

/// A machine that records its own loopback.
struct Bench {
    site: Site,
    server: Server,
    recorder: Recorder,
    space: Space,
    _lab: Lab,
}

impl Bench {
    fn new(test: &str, more: &str) -> Option<Self> {
        let mut lab = Lab::new(test)?;
        let space = lab.space("one");
        let site = Site::new(&Setup {
            interfaces: &["lo"],
            cooldown: "1m",
            more,
            ..Setup::default()
        });
        let recorder = Recorder::start(&site, &space);
        let server = Server::start(&site, &space);
        Some(Self {
            site,
            server,
            recorder,
            space,
            _lab: lab,
        })
    }

    /// `wirewitness --json drill SOURCE`: what it printed, and its exit code.
    fn drill(&self, source: &str) -> (Vec<Value>, i32) {
        let output = self.site.client(&["--json", "drill", source]);
        let printed = serde_json::from_slice(&output.stdout);
        let printed = printed.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (printed, output.status.code().unwrap())
    }

    /// One drill that must fail at `step`.
    fn fails(&self, source: &str, step: &str) -> Value {
        let (drills, code) = self.drill(source);
        assert_eq!(code, 1, "{drills:?}");
        let [drill] = &drills[..] else {
            panic!("{drills:?}")
        };
        assert_eq!(
            (&drill["outcome"], &drill["failed_at"]),
            (&json!("failed"), &json!(step)),
            "{drill}"
        );
        drill.clone()
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.site.http("/metrics", &[]).body).unwrap()
    }

    fn history(&self) -> Vec<Value> {
        let board = self.site.http("/api/v1/drills", &[]).json();
        board["drills"].as_array().unwrap().clone()
    }

    /// When the next is due by the schedule.
    fn next(&self) -> Timestamp {
        wait_for("the schedule", || {
            let board = self.site.http("/api/v1/drills", &[]).json();
            let next = board.get("next").filter(|next| next.is_string());
            next.map(time).ok_or_else(|| board.to_string())
        })
    }

    /// Waits until so many drills were begun, the last of them by the schedule at `due` or later, and
    /// passed.
    fn passes_by_schedule(&self, count: usize, due: Timestamp) {
        let drill = wait_for("the drill to pass", || {
            let history = self.history();
            let newest = history.first().filter(|_| history.len() == count);
            let passed = newest.filter(|drill| drill["outcome"] == "passed").cloned();
            passed.ok_or_else(|| json!(history).to_string())
        });
        assert_eq!(drill["asked_by"], "schedule", "{drill}");
        assert_eq!(drill["source"], "manual", "{drill}");
        assert!(time(&drill["started"]) >= due, "{drill}");
    }
}

fn time(value: &Value) -> Timestamp {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// Waits for a time of the clock within the next minute.
fn wait_until(due: Timestamp) {
    wait_at_most(Duration::from_secs(61), "the minute to end", || {
        let left = due.since(Timestamp::now());
        left.is_zero()
            .then_some(())
            .ok_or_else(|| format!("{left:?} to go"))
    });
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Short windows, so that a drill is over soon.
const DRILL: &str =
    "[drill]\nbefore = \"2s\"\nafter = \"200ms\"\nwithin = \"20s\"\ncanary = \"127.0.0.1:9\"\n";

/// A hook by each kind of authentication, and by each dialect of signature.
fn hooks() -> String {
    let secret = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0";
    let ways = [
        (
            "bearer",
            "generic",
            "token = \"secret-of-the-bearer\"".to_owned(),
        ),
        (
            "basic",
            "alertmanager",
            "basic = \"monitor:secret\"".to_owned(),
        ),
        (
            "both",
            "zabbix",
            "token = \"a/b c?d-of-the-path\"\nbasic = \"monitor:secret\"".to_owned(),
        ),
        (
            "grafana",
            "grafana",
            format!(
                "hmac_secret = \"{secret}\"\nhmac = \"grafana\"\nhmac_timestamp_header = \"X-Stamp\""
            ),
        ),
        (
            "pagerduty",
            "pagerduty",
            format!("hmac_secret = \"{secret}\"\nhmac = \"pagerduty\""),
        ),
        (
            "github",
            "icinga",
            format!("hmac_secret = \"{secret}\"\nhmac = \"github\""),
        ),
        (
            "standard",
            "cloudevents",
            format!("hmac_secret = \"{secret}\"\nhmac = \"standard\""),
        ),
        (
            "splunk",
            "splunk",
            format!("hmac_secret = \"{secret}\"\nhmac = \"splunk\""),
        ),
        (
            "auto",
            "kibana",
            format!("hmac_secret = [\"{secret}\", \"old\"]"),
        ),
        (
            "elsewhere",
            "generic",
            "token = \"secret-of-another\"\nallow = [\"192.0.2.0/24\"]".to_owned(),
        ),
    ];
    let hook = |(name, kind, keys): &(&str, &str, String)| {
        format!("[[webhook]]\nname = \"{name}\"\nkind = \"{kind}\"\n{keys}\n")
    };
    ways.iter().map(hook).collect()
}

#[test]
fn a_drill_of_every_source_comes_back_as_evidence() {
    let folder = tempfile::Builder::new()
        .prefix("wwt-drill-")
        .tempdir()
        .unwrap();
    let authority = Authority::new(folder.path());
    authority.sign("listener");
    let log = folder.path().join("app.log");
    fs::write(&log, "").unwrap();
    let open =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(folder.path(), 0o755).unwrap();
    open(&log, 0o666).unwrap();
    let tls = |port: u16, more: String| {
        let (pem, key) = (
            authority.file("listener.pem"),
            authority.file("listener.key"),
        );
        format!(
            "[[syslog]]\nlisten = \"tls://127.0.0.1:{port}\"\ncertificate = \"{pem}\"\nkey = \"{key}\"\n{more}"
        )
    };
    let ca = format!("client_ca = \"{}\"\n", authority.file("ca.pem"));
    let config = [
        DRILL,
        &hooks(),
        "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n[[syslog]]\nlisten = \"tcp://0.0.0.0:5515\"\n",
        &tls(6514, String::new()),
        &tls(6515, ca),
        "[[trap]]\nlisten = \"udp://127.0.0.1:10162\"\ncommunity = \"public\"\n",
        "[[trap]]\nlisten = \"udp://127.0.0.1:10163\"\n[[trap.user]]\nname = \"aes\"\nauth = \"sha\"\nauth_password = \"authpassword\"\npriv = \"aes\"\npriv_password = \"privpassword\"\n",
        "[[probe]]\nname = \"echo\"\ntarget = \"127.0.0.1\"\ninterval = \"10m\"\ntimeout = \"1s\"\n",
        "[[probe]]\nname = \"connect\"\nkind = \"tcp\"\ntarget = \"127.0.0.1\"\nport = 8642\ninterval = \"10m\"\ntimeout = \"1s\"\n",
        "[[probe]]\nname = \"dark\"\nkind = \"dns\"\ntarget = \"127.0.0.1\"\nquery = \"example.net\"\ninterval = \"10m\"\ntimeout = \"500ms\"\n",
        &format!("[[logfile]]\npath = {log:?}\ndrill = true\n[[logfile]]\npath = \"/var/log/wwt-not-there.log\"\n"),
        "[[rule]]\nname = \"everything\"\nmatch = '.'\nsubject = \"everything\"\n",
    ]
    .concat();
    let Some(bench) = Bench::new("drills", &config) else {
        return;
    };
    let (drills, code) = bench.drill("all");
    for drill in &drills {
        assert_eq!(drill["outcome"], "passed", "{drill}");
        let steps: Vec<&str> = drill["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["step"].as_str().unwrap())
            .collect();
        let all = [
            "sent",
            "recognised",
            "journalled",
            "frozen",
            "sealed",
            "verified",
            "canary",
        ];
        assert_eq!(steps, all, "{drill}");
        assert_eq!(drill["sighting"]["interface"], "lo", "{drill}");
        let after = drill["sighting"]["after_ns"].as_i64().unwrap();
        assert!((-10_000_000..5_000_000_000).contains(&after), "{drill}");
    }
    assert_eq!(
        (drills.len(), code),
        (9 + 4 + 2 + 3 + 1 + 1, 0),
        "{drills:?}"
    );

    let incidents = bench.site.list();
    assert_eq!(
        incidents.len(),
        drills.len(),
        "no rule saw a drill, none joined another"
    );
    for incident in &incidents {
        assert_eq!(incident["trigger"]["kind"], "drill", "{incident}");
        assert_eq!(
            (&incident["grade"], &incident["triggers"]),
            (&json!("precursor"), &json!(1))
        );
        let subject = format!("drill {}", incident["trigger"]["source"].as_str().unwrap());
        assert_eq!(incident["subject"], subject.as_str());
        let id = incident["id"].as_str().unwrap();
        let manifest = fs::read(bench.site.incidents().join(id).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["incident"]["trigger"]["kind"], "drill");
    }
    let probe = bench.site.http("/api/v1/probes/dark", &[]).json();
    assert!(
        probe["counts"]["lost"].as_u64().unwrap() <= 1,
        "a drill is no loss: {probe}"
    );

    // What cannot be drilled says so, and what is not there names what is.
    let refused = bench.site.client(&["drill", "elsewhere"]);
    assert!(
        said(&refused).contains("add \"127.0.0.1\" to its allow"),
        "{refused:?}"
    );
    assert_eq!(refused.status.code(), Some(1));
    let refused = bench.site.client(&["drill", "/var/log/wwt-not-there.log"]);
    assert!(said(&refused).contains("drill = true") && refused.status.code() == Some(1));
    let refused = bench.site.client(&["drill", "nobody"]);
    assert!(said(&refused).contains("there is no source \"nobody\"; there are echo, "));
    assert_eq!(refused.status.code(), Some(2));

    let page = bench.metrics();
    let passed = "wirewitness_drills_total{source_kind=\"syslog\",result=\"passed\"} 4";
    assert!(page.contains(passed), "{page}");
}

#[test]
fn a_drill_fails_in_its_time_and_says_where() {
    let config = "[drill]\nbefore = \"1s\"\nafter = \"100ms\"\nwithin = \"3s\"\n\
        [[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n[[syslog]]\nlisten = \"tcp://127.0.0.1:5515\"\n\
        [[rule]]\nname = \"errors\"\nmatch = 'ERROR'\nsubject = \"drill udp://127.0.0.1:5514\"\n";
    let Some(mut bench) = Bench::new("failing drills", config) else {
        return;
    };
    let send = |text: &str| {
        let text = text.to_owned();
        bench.space.enter(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(text.as_bytes(), "127.0.0.1:5514").unwrap();
        });
    };
    // A fault of the same subject, and a mark that nobody issued.
    let foreign = format!("<11>ERROR wirewitness-drill-{}", "0".repeat(32));
    send(&foreign);
    let fault = bench
        .site
        .sealed_where("of the fault", |one| one["trigger"]["kind"] == "syslog");
    let (drills, code) = bench.drill("udp://127.0.0.1:5514");
    assert_eq!(code, 0, "{drills:?}");
    assert_ne!(drills[0]["incident"], fault["id"], "a drill joins nothing");
    send("<11>ERROR again");
    let list = wait_for("the second fault to join the first", || {
        let list = bench.site.list();
        let joined = list
            .iter()
            .any(|one| one["id"] == fault["id"] && one["triggers"] == 2);
        if joined {
            Ok(list)
        } else {
            Err(json!(list).to_string())
        }
    });
    assert_eq!(
        list.len(),
        2,
        "neither joined nor promoted the other: {list:?}"
    );

    // A listener that nothing reaches: what is sent does not arrive, a connection is not made.
    bench.space.run(&[
        "tc", "qdisc", "add", "dev", "lo", "root", "pfifo", "limit", "0",
    ]);
    let unheard = bench.fails("udp://127.0.0.1:5514", "recognised");
    let why = "it was sent, but its source did not hear it within 3s 100ms";
    assert_eq!(unheard["why"], why);
    bench.fails("tcp://127.0.0.1:5515", "sent");
    bench
        .space
        .run(&["tc", "qdisc", "del", "dev", "lo", "root"]);

    // Without a recorder nothing is frozen.
    bench.recorder.process.stop(Signal::TERM);
    let blind = bench.fails("manual", "frozen");
    let why = blind["why"].as_str().unwrap();
    assert!(
        why.contains("linked no packets within 3s 100ms") && why.contains("control.sock"),
        "{why}"
    );
    assert_eq!(bench.history()[0]["why"], why);
    let page = bench.metrics();
    assert!(
        page.contains("wirewitness_drills_total{source_kind=\"manual\",result=\"failed\"} 1"),
        "{page}"
    );
}

#[test]
fn a_drill_that_a_kill_interrupts_is_in_the_history_and_the_next_one_passes() {
    let config = DRILL.replace("200ms", "1m");
    let Some(mut bench) = Bench::new("an interrupted drill", &config) else {
        return;
    };
    let wish = ["--json", r#"{"source": "manual"}"#];
    bench.site.http("/api/v1/drills", &wish);
    wait_for("the drill to be journalled", || {
        let history = bench.history();
        let incident = history.first().map(|one| one["incident"].clone());
        incident
            .filter(Value::is_string)
            .ok_or_else(|| json!(history).to_string())
    });
    bench.server.process.kill();
    bench.site.configure(&Setup {
        interfaces: &["lo"],
        more: DRILL,
        ..Setup::default()
    });
    bench.server = Server::start(&bench.site, &bench.space);
    let broken = bench.history()[0].clone();
    assert_eq!(broken["outcome"], "interrupted", "{broken}");
    assert_eq!(broken["why"], "the server ended in the middle of it");
    let (drills, code) = bench.drill("manual");
    assert_eq!(code, 0, "{drills:?}");
    let outcomes: Vec<Value> = bench
        .history()
        .iter()
        .map(|one| one["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["passed", "interrupted"]);
}

#[test]
fn a_drill_of_the_journal_goes_through_journald() {
    let rule = "[[rule]]\nname = \"app\"\nmatch = 'ERROR'\nsubject = \"app\"\n";
    let config = format!("{DRILL}[[journal]]\nidentifiers = [\"app\"]\n{rule}");
    let Some(mut bench) = Bench::new("a drill of the journal", &config) else {
        return;
    };
    let mut journald = Journald::start();
    bench.server.process.stop(Signal::TERM);
    bench.server = Server::start_beside(&bench.site, &bench.space, &journald);
    // The reader sees a journal that it found empty once something is in it.
    wait_for("an entry to be heard", || {
        journald.write("ERROR");
        let heard = !bench.site.list().is_empty();
        heard.then_some(()).ok_or_else(|| journald.said())
    });
    let (drills, code) = bench.drill("journal app");
    assert_eq!(code, 0, "{drills:?}");
    assert_eq!(
        drills[0]["steps"].as_array().unwrap().len(),
        7,
        "{drills:?}"
    );
    let id = drills[0]["incident"].as_str().unwrap();
    let incident = bench
        .site
        .http(&format!("/api/v1/incidents/{id}"), &[])
        .json();
    let kind = incident["trigger"]["kind"].as_str().unwrap_or_default();
    assert_eq!(
        (kind, &incident["triggers"]),
        ("drill", &json!(1)),
        "{incident}"
    );
}

/// The shortest schedule there is: at each full minute of the wall.
#[test]
fn a_drill_is_begun_by_the_schedule_and_made_up_for_after_the_server_was_away() {
    let config = format!("{DRILL}every = \"1m\"\nsources = [\"manual\"]\n");
    let Some(mut bench) = Bench::new("scheduled drills", &config) else {
        return;
    };
    let due = bench.next();
    assert_eq!(due.as_ns() % 60_000_000_000, 0, "a full minute: {due}");
    wait_until(due);
    bench.passes_by_schedule(1, due);

    bench.server.process.kill();
    let missed = due.plus(MINUTE);
    wait_until(missed);
    bench.server = Server::start(&bench.site, &bench.space);
    bench.passes_by_schedule(2, missed);
    assert!(bench.next() > missed);
}
