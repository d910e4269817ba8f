//! The trigger sources against what really sends: rsyslogd, logrotate, Alertmanager, a link in
//! network namespaces. What needs root is skipped loudly without it, and is an error where `CI` is set.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wirewitness::time::Timestamp;
use wirewitness::trigger::logfile::LogfileConfig;
use wirewitness::trigger::rules::RuleConfig;
use wirewitness::trigger::sources::{Ready, TriggerConfig, start};
use wirewitness::trigger::status::{SourceState, SourceStatus, Sources};
use wirewitness::trigger::syslog::SyslogConfig;
use wirewitness::trigger::webhook::{Caller, Event, Hook, WebhookConfig};
use wirewitness::trigger::{Accepted, Intake, Submission, Trigger, TriggerAnswer};

/// Far longer than anything here takes: reaching it is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Running sources with the other end of their intake.
struct Running {
    sources: Sources,
    submissions: mpsc::Receiver<Submission>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Where the listeners listen.
    addresses: Vec<SocketAddr>,
}

impl Running {
    fn bind(config: &TriggerConfig, state_dir: &Path) -> (Ready, Sources) {
        let sources = Sources::default();
        (config.bind(state_dir, &sources).unwrap(), sources)
    }

    fn start(config: &TriggerConfig, state_dir: &Path) -> Self {
        let (ready, sources) = Self::bind(config, state_dir);
        Self::start_bound(ready, sources)
    }

    fn start_bound(ready: Ready, sources: Sources) -> Self {
        let (intake, submissions) = Intake::new(1024);
        let stop = CancellationToken::new();
        let listening = ready.syslog.iter();
        let addresses = listening
            .map(|(_, bound)| bound.local_addr().unwrap())
            .collect();
        let tasks = start(ready, &intake, &stop).unwrap();
        Self {
            sources,
            submissions,
            stop,
            tasks,
            addresses,
        }
    }

    /// The next trigger, not answered yet.
    async fn submission(&mut self) -> (Trigger, TriggerAnswer) {
        let next = tokio::time::timeout(PATIENCE, self.submissions.recv()).await;
        match next.expect("a trigger in time").expect("the sources run") {
            Submission::Trigger(trigger, answer) => (*trigger, answer),
            Submission::Resolution(resolution, _) => panic!("not a trigger: {resolution:?}"),
        }
    }

    /// The next trigger, journalled.
    async fn trigger(&mut self) -> Trigger {
        let (trigger, answer) = self.submission().await;
        accept(answer);
        trigger
    }

    fn status(&self, name: &str) -> SourceStatus {
        let all = self.sources.status();
        all.into_iter().find(|status| status.name == name).unwrap()
    }

    /// Waits until a source shows what is wanted.
    async fn until(&self, name: &str, wanted: impl Fn(&SourceStatus) -> bool) {
        let looking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            while !wanted(&self.status(name)) {
                looks.tick().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, looking).await.is_ok();
        assert!(came, "never came to be: {:?}", self.status(name));
    }

    /// Stops; whatever was submitted meanwhile is a trigger too many.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        assert!(self.submissions.try_recv().is_err(), "a trigger too many");
        let stopped = |status: &SourceStatus| status.state == SourceState::Stopped;
        assert!(self.sources.status().iter().all(stopped));
    }
}

fn accept(answer: tokio::sync::oneshot::Sender<Result<Accepted, wirewitness::trigger::Refused>>) {
    let accepted = Accepted {
        incident: "20261123T100211Z-5f3a9c".to_owned(),
        joined: false,
    };
    answer.send(Ok(accepted)).unwrap();
}

fn errors() -> RuleConfig {
    toml::from_str(
        r#"
        name = "errors"
        match = 'ERROR.* peer=(?P<peer>\S+)'
        subject = "{peer}"
        "#,
    )
    .unwrap()
}

fn listening(listen: &[&str]) -> TriggerConfig {
    let syslog = listen.iter().map(|listen| SyslogConfig {
        listen: (*listen).to_owned(),
        ..SyslogConfig::default()
    });
    TriggerConfig {
        syslog: syslog.collect(),
        rule: vec![errors()],
        ..TriggerConfig::default()
    }
}

/// Whether a test that needs root can run.
fn root_or_skip(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "{test} needs root"
    );
    if !root {
        eprintln!("SKIPPED: {test} needs root");
    }
    root
}

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn rsyslogd_forwards_over_udp_and_both_framings_of_tcp() {
    let dir = TempDir::new().unwrap();
    let listen = [
        "udp://127.0.0.1:0",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.2:0",
    ];
    let mut running = Running::start(&listening(&listen), dir.path());
    let log = dir.path().join("log");
    let forward = |address: SocketAddr, how: &str| {
        format!(
            "action(type=\"omfwd\" target=\"{}\" port=\"{}\" {how})\n",
            address.ip(),
            address.port()
        )
    };
    let config = format!(
        "global(workDirectory=\"{dir}\")\n\
         module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{log}\")\n{}{}{}",
        forward(
            running.addresses[0],
            "protocol=\"udp\" template=\"RSYSLOG_ForwardFormat\""
        ),
        forward(
            running.addresses[1],
            "protocol=\"tcp\" TCP_Framing=\"octet-counted\" \
             template=\"RSYSLOG_SyslogProtocol23Format\""
        ),
        forward(
            running.addresses[2],
            "protocol=\"tcp\" TCP_Framing=\"traditional\""
        ),
        dir = dir.path().display(),
        log = log.display(),
    );
    let file = dir.path().join("rsyslog.conf");
    std::fs::write(&file, config).unwrap();
    let child = Command::new("rsyslogd")
        .arg("-n")
        .arg("-f")
        .arg(&file)
        .arg("-i")
        .arg(dir.path().join("pid"))
        .spawn()
        .expect("rsyslogd is installed");
    let _rsyslogd = Program(child);
    let sender = UnixDatagram::unbound().unwrap();
    tokio::time::timeout(PATIENCE, async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while sender.send_to(b"<14>test: ready", &log).is_err() {
            looks.tick().await;
        }
    })
    .await
    .expect("rsyslogd listens");

    let before = Timestamp::now().minus(Duration::from_secs(2));
    let message = b"<11>bgpd[7]: ERROR session\x1b[31m down peer=192.0.2.1";
    sender.send_to(message, &log).unwrap();
    let mut seen = Vec::new();
    for _ in listen {
        let trigger = running.trigger().await;
        assert_eq!(trigger.subject, "192.0.2.1");
        assert_eq!(trigger.suggested_filter.as_deref(), Some("host 192.0.2.1"));
        assert!(trigger.text.contains("ERROR session"), "{}", trigger.text);
        assert!(!trigger.text.contains('\u{1b}'));
        assert!(
            trigger.at >= before && trigger.at <= Timestamp::now(),
            "{}",
            trigger.at
        );
        assert_eq!(trigger.fields["sender"], "127.0.0.1");
        seen.push(trigger.source);
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.2:0",
            "udp://127.0.0.1:0"
        ]
    );
    for source in listen {
        running.until(source, |status| status.triggers == 1).await;
        assert_eq!(running.status(source).counters.get("malformed"), None);
    }
    running.end().await;
}

#[tokio::test]
async fn a_tcp_sender_is_read_no_further_than_what_is_journalled() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start(&listening(&["tcp://127.0.0.1:0"]), dir.path());
    let mut stream = TcpStream::connect(running.addresses[0]).await.unwrap();
    stream
        .write_all(b"<11>ERROR peer=192.0.2.1\n")
        .await
        .unwrap();
    let held = running.submission().await;
    // Not answered: the sender fills the kernel's buffers and then stands still.
    let filler = vec![b'x'; 64 << 10];
    let mut written = 0;
    while let Ok(write) =
        tokio::time::timeout(Duration::from_millis(500), stream.write(&filler)).await
    {
        written += write.unwrap();
        assert!(written < 256 << 20, "it is read on");
    }
    assert_eq!(running.status("tcp://127.0.0.1:0").counters["received"], 1);
    accept(held.1);
    // The filler was one long line; after it the next message is found.
    stream
        .write_all(b"\n<11>ERROR peer=192.0.2.2\n")
        .await
        .unwrap();
    assert_eq!(running.trigger().await.subject, "192.0.2.2");
    let counters = running.status("tcp://127.0.0.1:0").counters;
    assert_eq!((counters["received"], counters["oversized"]), (3, 1));
    running.end().await;
}

#[tokio::test]
async fn a_bad_octet_count_closes_the_connection_and_no_other() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start(&listening(&["tcp://127.0.0.1:0"]), dir.path());
    let mut good = TcpStream::connect(running.addresses[0]).await.unwrap();
    let mut bad = TcpStream::connect(running.addresses[0]).await.unwrap();
    bad.write_all(b"24 <11>ERROR peer=192.0.2.1nonsense")
        .await
        .unwrap();
    assert_eq!(running.trigger().await.subject, "192.0.2.1");
    let mut rest = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut bad, &mut rest);
    let _reset_or_end = tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("it is closed");
    good.write_all(b"24 <11>ERROR peer=192.0.2.2")
        .await
        .unwrap();
    assert_eq!(running.trigger().await.subject, "192.0.2.2");
    assert_eq!(running.status("tcp://127.0.0.1:0").counters["malformed"], 1);
    running.end().await;
}

#[tokio::test]
async fn a_storm_over_udp_is_journalled_side_by_side() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start(&listening(&["udp://127.0.0.1:0"]), dir.path());
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for peer in 0..200 {
        let message = format!("<11>ERROR peer=192.0.2.{peer}");
        sender
            .send_to(message.as_bytes(), running.addresses[0])
            .await
            .unwrap();
    }
    // None is answered before all are there: one fsync each would hang here.
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(running.submission().await);
    }
    for submission in held {
        accept(submission.1);
    }
    running
        .until("udp://127.0.0.1:0", |status| status.triggers == 200)
        .await;
    running.end().await;
}

fn append(path: &Path, line: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "{line}").unwrap();
}

fn following(path: &Path) -> TriggerConfig {
    TriggerConfig {
        logfile: vec![LogfileConfig {
            path: path.to_owned(),
            ..LogfileConfig::default()
        }],
        rule: vec![errors()],
        ..TriggerConfig::default()
    }
}

/// Rotates what `config` says, at once.
fn logrotate(dir: &Path, config: &Path) {
    let status = Command::new("logrotate")
        .args(["--force", "--state"])
        .arg(dir.join("logrotate.state"))
        .arg(config)
        .status()
        .expect("logrotate is installed");
    assert!(status.success());
}

/// Follows a file through three rotations by the real logrotate and a restart of ours.
async fn through_logrotate(mode: &str) {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let path = dir.path().join("app.log");
    let name = path.display().to_string();
    append(&path, "ERROR peer=old");
    let config = dir.path().join("logrotate.conf");
    let text = format!("{name} {{\n rotate 9\n missingok\n {mode}\n}}\n");
    std::fs::write(&config, text).unwrap();
    let rotate = || logrotate(dir.path(), &config);
    let mut running = Running::start(&following(&path), &state);
    running
        .until(&name, |status| status.detail == "following")
        .await;
    for round in 0..3 {
        append(&path, &format!("ERROR peer=before-{round}"));
        assert_eq!(running.trigger().await.subject, format!("before-{round}"));
        rotate();
        append(&path, &format!("ERROR peer=after-{round}"));
        assert_eq!(running.trigger().await.subject, format!("after-{round}"));
    }
    running.until(&name, |status| status.triggers == 6).await;
    running.end().await;

    // While we were away: a line, a rotation (but for copytruncate, which takes it), a line.
    append(&path, "ERROR peer=away-1");
    if mode.starts_with("create") {
        rotate();
        append(&path, "ERROR peer=away-2");
    }
    let mut running = Running::start(&following(&path), &state);
    assert_eq!(running.trigger().await.subject, "away-1");
    if mode.starts_with("create") {
        assert_eq!(running.trigger().await.subject, "away-2");
    }
    append(&path, "ERROR peer=last");
    assert_eq!(running.trigger().await.subject, "last");
    running.end().await;
}

#[tokio::test]
async fn logrotate_renames() {
    through_logrotate("create").await;
}

#[tokio::test]
async fn logrotate_copies_and_truncates() {
    through_logrotate("copytruncate").await;
}

/// Follows all files of a folder through three rotations by the real logrotate, beside files that
/// come and go, and a restart of ours.
async fn a_folder_through_logrotate(mode: &str) {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let (pattern, a, b) = (logs.join("*.log"), logs.join("a.log"), logs.join("b.log"));
    let name = pattern.display().to_string();
    append(&a, "ERROR peer=old");
    let config = dir.path().join("logrotate.conf");
    let text = format!("{name} {{\n rotate 9\n missingok\n {mode}\n}}\n");
    std::fs::write(&config, text).unwrap();
    let rotate = || logrotate(dir.path(), &config);
    let mut rule = errors();
    rule.sources = vec![name.clone()];
    let follow = TriggerConfig {
        rule: vec![rule],
        ..following(&pattern)
    };
    let mut running = Running::start(&follow, &state);
    running
        .until(&name, |status| status.detail == "following 1 file")
        .await;
    append(&b, "ERROR peer=created-later");
    let trigger = running.trigger().await;
    assert_eq!(trigger.subject, "created-later");
    assert_eq!(trigger.source, name);
    assert_eq!(trigger.fields.get("file"), Some(&b.display().to_string()));
    for round in 0..3 {
        for (file, of) in [(&a, "a"), (&b, "b")] {
            append(file, &format!("ERROR peer={of}-before-{round}"));
            let subject = running.trigger().await.subject;
            assert_eq!(subject, format!("{of}-before-{round}"));
        }
        rotate();
        for (file, of) in [(&a, "a"), (&b, "b")] {
            append(file, &format!("ERROR peer={of}-after-{round}"));
            let subject = running.trigger().await.subject;
            assert_eq!(subject, format!("{of}-after-{round}"));
        }
    }
    running.until(&name, |status| status.triggers == 13).await;
    running.end().await;

    append(&a, "ERROR peer=away");
    append(&logs.join("c.log"), "ERROR peer=new-while-away");
    let mut running = Running::start(&follow, &state);
    let mut subjects = [
        running.trigger().await.subject,
        running.trigger().await.subject,
    ];
    subjects.sort();
    assert_eq!(subjects, ["away", "new-while-away"]);
    std::fs::remove_file(&b).unwrap();
    running
        .until(&name, |status| status.detail == "following 2 files")
        .await;
    running.end().await;
}

#[tokio::test]
async fn logrotate_renames_the_files_of_a_pattern() {
    a_folder_through_logrotate("create").await;
}

#[tokio::test]
async fn logrotate_copies_and_truncates_the_files_of_a_pattern() {
    a_folder_through_logrotate("copytruncate").await;
}

#[tokio::test]
async fn lines_are_read_in_the_encoding_and_the_zone_of_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "");
    let name = path.display().to_string();
    let mut config = following(&path);
    config.logfile[0].zone = Some("Asia/Tokyo".to_owned());
    config.logfile[0].encoding = Some("euc-jp".to_owned());
    let mut running = Running::start(&config, dir.path());
    running
        .until(&name, |status| status.detail == "following")
        .await;
    let at = Timestamp::now().minus(Duration::from_mins(1));
    let tokyo = chrono_tz_text(at);
    let mut line = format!("{tokyo} gw app: ERROR ").into_bytes();
    // EUC-JP of the word for "fault".
    line.extend([0xbe, 0xe3, 0xb3, 0xb2]);
    line.extend(b" peer=192.0.2.1\n");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&line).unwrap();
    let trigger = running.trigger().await;
    assert!(trigger.text.contains("障害"), "{}", trigger.text);
    assert_eq!(
        trigger.at.as_ns() / 1_000_000_000,
        at.as_ns() / 1_000_000_000
    );
    running.end().await;
}

/// A time as a program in Tokyo writes it: without year and zone.
fn chrono_tz_text(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_ns() / 1_000_000_000).unwrap() + 9 * 3600;
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%b %e %H:%M:%S"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn a_file_that_is_not_there_is_waited_for_and_told_of() {
    let dir = TempDir::new().unwrap();
    // Not even its directory is there.
    let path = dir.path().join("later/app.log");
    let name = path.display().to_string();
    let mut running = Running::start(&following(&path), dir.path());
    running
        .until(&name, |status| status.state == SourceState::Failing)
        .await;
    assert!(running.status(&name).detail.contains("not there"));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    append(&path, "ERROR peer=192.0.2.1");
    assert_eq!(running.trigger().await.subject, "192.0.2.1");
    running
        .until(&name, |status| status.state == SourceState::Ok)
        .await;
    std::fs::remove_file(&path).unwrap();
    running
        .until(&name, |status| status.state == SourceState::Failing)
        .await;
    append(&path, "ERROR peer=192.0.2.2");
    assert_eq!(running.trigger().await.subject, "192.0.2.2");
    running.end().await;
}

/// Two network namespaces joined by a link: we probe from one into the other.
struct Link {
    near: String,
    far: String,
}

impl Link {
    fn new(what: &str) -> Self {
        let name = |end| format!("ww-{what}-{end}-{}", std::process::id());
        let link = Self {
            near: name("near"),
            far: name("far"),
        };
        let (near, far) = (link.near.as_str(), link.far.as_str());
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        let peer = ["peer", "name", "far0", "netns", far];
        ip(&[
            &["-n", near, "link", "add", "near0", "type", "veth"],
            &peer[..],
        ]
        .concat());
        for (space, device, v4, v6) in [
            (near, "near0", "198.18.0.1/24", "fd00:18::1/64"),
            (far, "far0", "198.18.0.2/24", "fd00:18::2/64"),
        ] {
            ip(&["-n", space, "addr", "add", v4, "dev", device]);
            ip(&["-n", space, "addr", "add", v6, "dev", device, "nodad"]);
            ip(&["-n", space, "link", "set", device, "up"]);
        }
        // Behind the far end: a network that it says cannot be reached.
        ip(&[
            "-n",
            near,
            "route",
            "add",
            "198.51.100.0/24",
            "via",
            "198.18.0.2",
        ]);
        ip(&["-n", far, "route", "add", "unreachable", "198.51.100.0/24"]);
        link.far_sysctl("net.ipv4.ip_forward=1");
        link.far_sysctl("net.ipv4.icmp_ratelimit=0");
        for far_address in ["198.18.0.2", "fd00:18::2"] {
            // Returns with the first reply: the link is up.
            ip(&["netns", "exec", near, "ping", "-qc1", "-w10", far_address]);
        }
        link
    }

    fn near_sysctl(&self, setting: &str) {
        ip(&["netns", "exec", &self.near, "sysctl", "-qw", setting]);
    }

    fn far_sysctl(&self, setting: &str) {
        ip(&["netns", "exec", &self.far, "sysctl", "-qw", setting]);
    }

    /// Whether the far end answers echoes.
    fn answer(&self, yes: bool) {
        let ignore = i32::from(!yes);
        self.far_sysctl(&format!("net.ipv4.icmp_echo_ignore_all={ignore}"));
        self.far_sysctl(&format!("net.ipv6.icmp.echo_ignore_all={ignore}"));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.near]);
        ip(&["netns", "del", &self.far]);
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(
        status.expect("iproute2 is installed").success(),
        "ip {arguments:?}"
    );
}

#[tokio::test]
async fn lost_probes_over_a_link_become_one_trigger_each_time() {
    if root_or_skip("the probe test") {
        probe_over_a_link(Link::new("raw"), "unreachable, says 198.18.0.2").await;
    }
}

#[tokio::test]
async fn unprivileged_sockets_do_as_well() {
    if root_or_skip("the probe test over unprivileged sockets") {
        let link = Link::new("dgram");
        link.near_sysctl("net.ipv4.ping_group_range=0 0");
        probe_over_a_link(link, "unreachable, says 198.18.0.2").await;
    }
}

async fn probe_over_a_link(link: Link, beyond: &str) {
    let probe = |name: &str, target: &str| {
        let text = format!(
            "name = {name:?}\ntarget = {target:?}\ninterval = \"200ms\"\ntimeout = \"200ms\""
        );
        toml::from_str(&text).unwrap()
    };
    let config = TriggerConfig {
        probe: vec![
            probe("v4", "198.18.0.2"),
            probe("v6", "fd00:18::2"),
            probe("beyond", "198.51.100.7"),
            probe("nowhere", "203.0.113.9"),
        ],
        ..TriggerConfig::default()
    };
    let space = format!("/run/netns/{}", link.near);
    // Sockets belong to the namespace in which they were opened, whoever uses them.
    let bound = std::thread::spawn(move || {
        let space = std::fs::File::open(space).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), kind).unwrap();
        Running::bind(&config, Path::new("/nonexistent"))
    });
    let (ready, sources) = bound.join().unwrap();
    let mut running = Running::start_bound(ready, sources);

    // What cannot be reached is told at once, in the words of whoever said so.
    let mut refused = [running.trigger().await, running.trigger().await];
    refused.sort_by(|a, b| a.source.cmp(&b.source));
    assert_eq!(refused[0].source, "beyond");
    let said = &refused[0].text;
    assert!(said.contains(beyond), "{said}");
    assert!(
        refused[1].text.contains("Network is unreachable"),
        "{}",
        refused[1].text
    );

    for name in ["v4", "v6"] {
        let answered = |status: &SourceStatus| status.counters.get("received") >= Some(&6);
        running.until(name, answered).await;
        running
            .until(name, |status| status.state == SourceState::Ok)
            .await;
    }
    for outage in 1..=2 {
        let before = Timestamp::now();
        link.answer(false);
        let after = Timestamp::now();
        let mut told = [running.trigger().await, running.trigger().await];
        told.sort_by(|a, b| a.source.cmp(&b.source));
        for (trigger, filter) in told
            .iter()
            .zip(["icmp and host 198.18.0.2", "icmp6 and host fd00:18::2"])
        {
            assert_eq!(trigger.subject, format!("probe {}", trigger.source));
            assert_eq!(trigger.suggested_filter.as_deref(), Some(filter));
            assert!(
                trigger.text.starts_with("3 of the last 5 probes to "),
                "{}",
                trigger.text
            );
            // The event is the sending of the first lost probe. It is sent at most
            // an interval (and a slow machine's delay) after the far end fell silent; or just
            // before, its reply coming too late.
            assert!(
                trigger.at >= before.minus(Duration::from_millis(200)),
                "{}",
                trigger.at
            );
            assert!(
                trigger.at <= after.plus(Duration::from_secs(2)),
                "{}",
                trigger.at
            );
            let status = running.status(&trigger.source);
            assert_eq!(status.state, SourceState::Failing);
        }
        link.answer(true);
        for name in ["v4", "v6"] {
            running
                .until(name, |status| status.state == SourceState::Ok)
                .await;
            running
                .until(name, |status| status.triggers == outage)
                .await;
        }
    }
    running.end().await;
}

/// Takes one HTTP request with a body, answers 200 and returns header and body.
async fn one_request(listener: &tokio::net::TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    loop {
        tokio::io::AsyncReadExt::read_buf(&mut stream, &mut request)
            .await
            .unwrap();
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let (header, body) = request.split_at(end + 4);
        let header = String::from_utf8(header.to_vec()).unwrap();
        let length = header
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            let body = body.to_vec();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            return (header, body);
        }
    }
}

#[tokio::test]
async fn the_real_alertmanager_opens_a_hook() {
    let dir = TempDir::new().unwrap();
    let ours = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Alertmanager cannot say which free port it took: take one and let it go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = free.local_addr().unwrap();
    drop(free);
    let file = dir.path().join("alertmanager.yml");
    let config = format!(
        "route:\n  receiver: ww\n  group_by: [instance, alertname]\n  group_wait: 0s\n  \
         group_interval: 1s\nreceivers:\n- name: ww\n  webhook_configs:\n  \
         - url: http://{}/hooks/prometheus\n    send_resolved: true\n    http_config:\n      \
         authorization:\n        credentials: s3cret-token\n",
        ours.local_addr().unwrap()
    );
    std::fs::write(&file, config).unwrap();
    let child = Command::new("prometheus-alertmanager")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", dir.path().display()))
        .arg(format!("--web.listen-address={theirs}"))
        .arg("--cluster.listen-address=")
        .arg("--log.level=error")
        .spawn()
        .expect("prometheus-alertmanager is installed");
    let _alertmanager = Program(child);
    let started = Timestamp::now();
    let alert = |ends: &str| {
        format!(
            "[{{\"labels\": {{\"alertname\": \"TargetDown\", \"instance\": \"192.0.2.7:9100\"}}, \
             \"annotations\": {{\"summary\": \"edge is down\"}}, {ends}\
             \"startsAt\": \"{started}\"}}]"
        )
    };
    let post = |body: String| {
        let url = format!("http://{theirs}/api/v2/alerts");
        // It tries again until Alertmanager listens.
        let curl = Command::new("curl")
            .args([
                "-sS",
                "--fail",
                "--retry",
                "50",
                "--retry-connrefused",
                "--retry-delay",
                "1",
            ])
            .args(["-H", "Content-Type: application/json", "-d", &body, &url])
            .status();
        assert!(curl.expect("curl is installed").success());
    };
    let sources = Sources::default();
    let hook: WebhookConfig =
        toml::from_str("name = \"prometheus\"\nkind = \"alertmanager\"\ntoken = \"s3cret-token\"")
            .unwrap();
    let hook = Hook::from_config(&hook, &sources).unwrap();

    post(alert(""));
    let request = tokio::time::timeout(PATIENCE, one_request(&ours)).await;
    let (header, body) = request.expect("a notification");
    let headers = header.lines().filter_map(|line| line.split_once(": "));
    let caller = Caller {
        headers: headers.collect(),
        ..Caller::default()
    };
    assert_eq!(hook.admit(&caller), Ok(()), "{header}");
    let events = hook.accept(&caller, &body, Timestamp::now()).unwrap();
    let [Event::Trigger(trigger)] = events.as_slice() else {
        panic!("{}", String::from_utf8_lossy(&body));
    };
    assert_eq!(
        trigger.subject,
        "alertname=TargetDown,instance=192.0.2.7:9100"
    );
    assert_eq!(trigger.text, "edge is down");
    assert_eq!(trigger.suggested_filter.as_deref(), Some("host 192.0.2.7"));
    // Alertmanager rounds to the millisecond.
    let off = started.since(trigger.at);
    assert!(off < Duration::from_millis(1), "{}", trigger.at);

    let now = Timestamp::now();
    post(alert(&format!("\"endsAt\": \"{now}\", ")));
    let request = tokio::time::timeout(PATIENCE, one_request(&ours)).await;
    let (_, body) = request.expect("the end of it");
    let events = hook.accept(&caller, &body, Timestamp::now()).unwrap();
    let [Event::Resolution(over)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (&over.subject, &over.dedup_key),
        (&trigger.subject, &trigger.dedup_key)
    );
}
