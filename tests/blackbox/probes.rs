//! Probes over real links: what leaves, what comes back, and what the packets say about it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use wirewitness::trigger::probe::Stamp;

use crate::support::{Lab, Recorder, Server, Setup, Site, Space, wait_for};

/// Two namespaces joined by a cable that is recorded and one that is not: 10.97.0.0/24 and fd97::
/// over `edge0`, 10.98.0.0/24 over `dark0`.
struct Ends {
    near: Space,
    far: Space,
    _lab: Lab,
}

impl Ends {
    fn new(test: &str) -> Option<Self> {
        let mut lab = Lab::new(test)?;
        let (near, far) = (lab.space("near"), lab.space("far"));
        Lab::cable((&near, "edge0"), (&far, "edge1"));
        Lab::cable((&near, "dark0"), (&far, "dark1"));
        for (space, cable, dark, own) in [(&near, "edge0", "dark0", 1), (&far, "edge1", "dark1", 2)]
        {
            space.sysctl(&format!("net.ipv6.conf.{cable}.disable_ipv6"), "0");
            space.ip(&["addr", "add", &format!("10.97.0.{own}/24"), "dev", cable]);
            space.ip(&["addr", "add", &format!("10.98.0.{own}/24"), "dev", dark]);
            let v6 = format!("fd97::{own}/64");
            space.ip(&["-6", "addr", "add", &v6, "dev", cable, "nodad"]);
        }
        far.ip(&["addr", "add", "10.97.0.3/24", "dev", "edge1"]);
        for target in ["10.97.0.2", "10.97.0.3", "10.98.0.2", "fd97::2"] {
            wait_for(&format!("{target} to answer"), || {
                let ping = near.command("ping").args(["-c1", "-W1", target]).output();
                let ping = ping.unwrap();
                let said = String::from_utf8_lossy(&ping.stdout).into_owned();
                if ping.status.success() {
                    Ok(())
                } else {
                    Err(said)
                }
            });
        }
        Some(Self {
            near,
            far,
            _lab: lab,
        })
    }

    fn run(&self, more: &str) -> Running {
        self.run_with(more, |_| {})
    }

    /// With `prepare` done before the server starts.
    fn run_with(&self, more: &str, prepare: impl FnOnce(&Site)) -> Running {
        let site = Site::new(&Setup {
            interfaces: &["edge0"],
            more,
            before: "5s",
            after: "1s",
            ..Setup::default()
        });
        let recorder = Recorder::start(&site, &self.near);
        prepare(&site);
        let server = Server::start(&site, &self.near);
        Running {
            site,
            _server: server,
            _recorder: recorder,
        }
    }
}

struct Running {
    site: Site,
    _server: Server,
    _recorder: Recorder,
}

impl Running {
    fn probe(&self, name: &str) -> Value {
        self.site
            .http(&format!("/api/v1/probes/{name}"), &[])
            .json()
    }

    /// Waits until a probe's view is as wanted.
    fn until(&self, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{name}: {what}"), || {
            let view = self.probe(name);
            if fits(&view) {
                Ok(view)
            } else {
                Err(view.to_string())
            }
        })
    }

    fn answered(&self, name: &str) {
        self.until(name, "replies", |view| {
            view["counts"]["received"].as_u64() >= Some(3) && view["state"] == "ok"
        });
    }

    /// The sealed incident of a probe.
    fn incident(&self, name: &str) -> Value {
        self.site.sealed_where(&format!("of {name}"), |one| {
            one["trigger"]["source"] == name
        })
    }

    /// What the packets of its incident say about its failed probes.
    fn verdicts(&self, name: &str) -> (Vec<String>, Value) {
        let id = self.incident(name)["id"].as_str().unwrap().to_owned();
        let found = self
            .site
            .http(&format!("/api/v1/incidents/{id}/probes"), &[])
            .json();
        let findings = found["findings"].as_array().unwrap();
        let verdict = |one: &Value| one["verdict"].as_str().unwrap().to_owned();
        (findings.iter().map(verdict).collect(), found.clone())
    }
}

fn probe(name: &str, target: &str, more: &str) -> String {
    format!(
        "[[probe]]\nname = \"{name}\"\ntarget = \"{target}\"\ninterval = \"200ms\"\n\
         timeout = \"200ms\"\n{more}\n"
    )
}

/// What `tool` does at the far end with echo requests to `target`.
fn at_far(ends: &Ends, tool: &str, target: &str, to: &[&str]) {
    let icmp = if tool == "iptables" { "icmp" } else { "icmpv6" };
    let kind = format!("--{icmp}-type");
    let mut line = vec![
        tool,
        "-A",
        "INPUT",
        "-p",
        icmp,
        &kind,
        "echo-request",
        "-d",
        target,
        "-j",
    ];
    line.extend(to);
    ends.far.run(&line);
}

/// A probe that gets no answer is found leaving in the incident's own packets; one that leaves by
/// another link is not; and the path says where loss begins.
#[test]
fn a_failed_probe_is_found_in_the_packets_of_its_incident() {
    let Some(ends) = Ends::new("the probe in the evidence") else {
        return;
    };
    let config = [
        probe("edge", "10.97.0.2", ""),
        probe("far", "10.97.0.3", ""),
        probe("dark", "10.98.0.2", ""),
        probe("six", "fd97::2", "size = 200\ntos = 16\nttl = 9"),
        "[[path]]\nname = \"osaka\"\npoints = [\"edge\", \"far\"]\n".to_owned(),
    ];
    let running = ends.run(&config.concat());
    for name in ["edge", "far", "dark", "six"] {
        running.answered(name);
    }
    assert_eq!(
        running.site.list().len(),
        0,
        "paths that answer are no trigger"
    );
    let view = running.probe("edge");
    let rtt = view["windows"][0]["rtt"]["p50"].as_f64().unwrap();
    assert!(rtt > 0.0 && rtt < 0.2, "{view}");
    assert_eq!(view["ttl"], 64, "{view}");
    assert_eq!(view["history"].as_array().unwrap().len(), 120);

    at_far(&ends, "iptables", "10.97.0.3", &["DROP"]);
    at_far(&ends, "iptables", "10.98.0.2", &["DROP"]);
    let incident = running.incident("far");
    let text = incident["trigger"]["text"].as_str().unwrap();
    assert!(
        text.ends_with("path osaka: loss begins between edge and far"),
        "{text}"
    );
    assert_eq!(incident["fields"]["loss_begins_at"], "far");
    let (verdicts, found) = running.verdicts("far");
    assert!(verdicts.len() >= 3, "{found}");
    assert!(verdicts.iter().all(|one| one == "left_no_reply"), "{found}");
    let first = &found["findings"][0];
    assert_eq!(first["interface"], "edge0");
    // Handed to the kernel, then seen: in this order, and at once.
    let time = |key: &str| -> wirewitness::time::Timestamp {
        first[key].as_str().unwrap().parse().unwrap()
    };
    assert!(time("left") >= time("sent"), "{first}");
    assert!(
        time("left").since(time("sent")) < Duration::from_millis(100),
        "{first}"
    );

    let (verdicts, found) = running.verdicts("dark");
    assert!(verdicts.iter().all(|one| one == "never_seen"), "{found}");

    // Refused in words, IPv6.
    at_far(
        &ends,
        "ip6tables",
        "fd97::2",
        &["REJECT", "--reject-with", "icmp6-addr-unreachable"],
    );
    let incident = running.incident("six");
    let text = incident["trigger"]["text"].as_str().unwrap();
    assert!(text.contains("host unreachable, says fd97::2"), "{text}");
    let (verdicts, found) = running.verdicts("six");
    assert!(verdicts.iter().any(|one| one == "left_refused"), "{found}");
    let paths = running.site.http("/api/v1/probes", &[]).json()["paths"].clone();
    assert_eq!(paths[0]["loss_begins"], 1, "{paths}");
    let view = running.probe("six");
    assert_eq!(view["errors"][0]["by"], "fd97::2", "{view}");
}

/// A router on the way says what is wrong, and each of its words arrives: too many hops, too large,
/// a better way; and a path that recovers is seen at once.
#[test]
fn what_routers_say_of_probes_is_heard() {
    let Some(ends) = Ends::new("words of routers") else {
        return;
    };
    ends.near.sysctl("net.ipv4.conf.all.accept_redirects", "0");
    ends.near
        .sysctl("net.ipv4.conf.edge0.accept_redirects", "0");
    ends.near
        .ip(&["route", "add", "10.99.0.0/24", "via", "10.97.0.2"]);
    for (key, value) in [("ip_forward", "1"), ("conf.edge1.send_redirects", "1")] {
        ends.far.sysctl(&format!("net.ipv4.{key}"), value);
    }
    // Behind the router, one host that answers.
    ends.far
        .ip(&["addr", "add", "10.99.0.8/32", "dev", "dark1"]);
    let back = [
        "route",
        "add",
        "10.99.0.7/32",
        "via",
        "10.97.0.9",
        "dev",
        "edge1",
    ];
    ends.far.ip(&back);
    ends.far
        .ip(&["route", "add", "10.99.0.0/24", "dev", "dark1"]);
    let config = [
        probe("hops", "10.99.0.6", "ttl = 1"),
        probe("better", "10.99.0.7", ""),
        probe("wide", "10.99.0.8", "df = true\nsize = 1200"),
    ];
    let running = ends.run(&config.concat());
    let heard = |name: &str, kind: &str| {
        running.until(name, kind, |view| {
            let errors = view["errors"].as_array().unwrap();
            let says = |one: &Value| one["error"] == kind && one["by"] == "10.97.0.2";
            errors.iter().any(says)
        })
    };
    heard("hops", "time-exceeded");
    heard("better", "redirect");
    running.answered("wide");

    // The path gets narrow, and wide again.
    ends.far
        .ip(&["addr", "del", "10.99.0.8/32", "dev", "dark1"]);
    let narrow = [
        "route",
        "add",
        "10.99.0.8/32",
        "via",
        "10.98.0.1",
        "mtu",
        "lock",
        "600",
    ];
    ends.far.ip(&narrow);
    heard("wide", "fragmentation-needed");
    let incident = running.incident("wide");
    let text = incident["trigger"]["text"].as_str().unwrap();
    assert!(
        text.contains("fragmentation needed, says 10.97.0.2"),
        "{text}"
    );
    ends.far.ip(&["route", "del", "10.99.0.8/32"]);
    ends.far
        .ip(&["addr", "add", "10.99.0.8/32", "dev", "dark1"]);
    let view = running.until("wide", "recovery", |view| view["state"] == "ok");
    assert_eq!(view["counts"]["unsent"], 0, "{view}");
    let (verdicts, found) = running.verdicts("hops");
    assert!(verdicts.iter().any(|one| one == "left_refused"), "{found}");
}

/// The far end answers in a way of its own: a responder on a raw socket in place of the kernel.
struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Calls `answer` with the number of each echo request and with what sends its reply.
    fn start(far: &Space, mut answer: impl FnMut(u64, Reply) + Send + 'static) -> Self {
        far.sysctl("net.ipv4.icmp_echo_ignore_all", "1");
        let socket =
            far.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        // Only its type is that of UDP: packets are read from and written to addresses.
        let socket = Arc::new(UdpSocket::from(socket));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let mut message = buffer[20..length].to_vec();
                let Some(stamp) = Stamp::find(&message).filter(|_| message[0] == 8) else {
                    continue;
                };
                // A reply's type is 8 less, its checksum 8 * 256 more (RFC 1624).
                message[0] = 0;
                let sum = u32::from(u16::from_be_bytes([message[2], message[3]])) + 0x0800;
                let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                let socket = Arc::clone(&socket);
                answer(
                    stamp.seq,
                    Reply {
                        socket,
                        message,
                        to: from,
                    },
                );
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A reply that can be sent, or held.
struct Reply {
    socket: Arc<UdpSocket>,
    message: Vec<u8>,
    to: std::net::SocketAddr,
}

impl Reply {
    fn send(&self) {
        self.socket.send_to(&self.message, self.to).unwrap();
    }
}

/// Second, overtaken and late replies and another hop limit are each counted as what they are; a
/// reply that comes too late passes the tap, and the incident says so.
#[test]
fn odd_replies_are_told_apart() {
    let Some(ends) = Ends::new("odd replies") else {
        return;
    };
    let mut held: Option<Reply> = None;
    let slow = Arc::new(AtomicBool::new(false));
    let late = Arc::clone(&slow);
    let mut waiting: Vec<Reply> = Vec::new();
    let _responder = Responder::start(&ends.far, move |seq, reply| {
        if late.load(Ordering::Relaxed) {
            // Four intervals late: each goes when the fourth after it comes.
            waiting.push(reply);
            if waiting.len() > 4 {
                waiting.remove(0).send();
            }
            return;
        }
        match seq % 4 {
            0 => {
                reply
                    .socket
                    .set_ttl(if seq % 8 == 0 { 64 } else { 61 })
                    .unwrap();
                reply.send();
            }
            1 => {
                reply.send();
                reply.send();
            }
            // The next one goes first.
            2 => held = Some(reply),
            _ => {
                reply.send();
                if let Some(before) = held.take() {
                    before.send();
                }
            }
        }
    });
    let running = ends
        .run(&probe("odd", "10.97.0.2", "").replace("timeout = \"200ms\"", "timeout = \"500ms\""));
    let view = running.until("odd", "every oddity", |view| {
        let counts = &view["counts"];
        ["duplicates", "reordered", "ttl_changes"]
            .iter()
            .all(|key| counts[*key].as_u64() >= Some(3))
    });
    assert_eq!(view["counts"]["lost"], 0, "{view}");
    assert_eq!(view["counts"]["late"], 0, "{view}");
    assert_eq!(running.site.list().len(), 0, "{view}");
    slow.store(true, Ordering::Relaxed);
    let (verdicts, found) = running.verdicts("odd");
    assert!(verdicts.iter().any(|one| one == "reply_passed"), "{found}");
    running.until("odd", "late replies", |view| {
        view["counts"]["late"].as_u64() >= Some(3)
    });
}

/// Connections and queries: answered, refused, silent, and answered with an error.
#[test]
fn connections_and_queries_say_why_they_failed() {
    let Some(ends) = Ends::new("TCP and DNS probes") else {
        return;
    };
    let (listener, names) = ends.far.enter(|| {
        let listener = TcpListener::bind("10.97.0.2:7001").unwrap();
        (
            listener,
            UdpSocket::bind("[::]:5300")
                .or_else(|_| UdpSocket::bind("0.0.0.0:5300"))
                .unwrap(),
        )
    });
    let done = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&done);
    let accepting = std::thread::spawn(move || {
        let calls = listener.incoming();
        calls
            .take_while(|_| !over.load(Ordering::Relaxed))
            .for_each(drop);
    });
    // Answers what it is asked, `bad` with SERVFAIL.
    names
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = names.recv_from(&mut buffer) {
            let mut response = buffer[..length].to_vec();
            let bad = response.windows(3).any(|label| label == b"bad");
            response[2] |= 0x80;
            response[3] = 0x80 | if bad { 2 } else { 0 };
            drop(names.send_to(&response, from));
        }
    });
    ends.far.run(&[
        "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "7003", "-j", "DROP",
    ]);
    let dns = |query: &str| {
        format!("kind = \"dns\"\nport = 5300\nquery = \"{query}\"\nrecord = \"AAAA\"")
    };
    let config = [
        probe("open", "10.97.0.2", "kind = \"tcp\"\nport = 7001"),
        probe("closed", "10.97.0.2", "kind = \"tcp\"\nport = 7002"),
        probe("silent", "10.97.0.2", "kind = \"tcp\"\nport = 7003"),
        probe("good", "10.97.0.2", &dns("good.example")),
        probe("bad", "10.97.0.2", &dns("bad.example")),
        probe(
            "nobody",
            "10.97.0.2",
            &dns("x.example").replace("5300", "5301"),
        ),
        probe("away", "203.0.113.7", ""),
    ];
    let running = ends.run(&config.concat());
    running.answered("open");
    running.answered("good");
    for (name, words, verdict) in [
        (
            "closed",
            "connection refused, says 10.97.0.2",
            "reply_passed",
        ),
        ("silent", "no reply within 200ms", "left_no_reply"),
        ("bad", "the name server answers SERVFAIL", "reply_passed"),
        ("nobody", "port unreachable, says 10.97.0.2", "left_refused"),
        (
            "away",
            "our host did not send: Network is unreachable",
            "not_sent",
        ),
    ] {
        let incident = running.incident(name);
        let text = incident["trigger"]["text"].as_str().unwrap();
        assert!(text.contains(words), "{name}: {text}");
        let (verdicts, found) = running.verdicts(name);
        assert!(!verdicts.is_empty(), "{name}: {found}");
        assert!(verdicts.iter().all(|one| one == verdict), "{name}: {found}");
    }
    let away = running.probe("away");
    assert_eq!(
        away["counts"]["lost"], 0,
        "what was not sent is no loss: {away}"
    );
    let list = running.site.list();
    assert_eq!(list.len(), 5, "{list:#?}");
    done.store(true, Ordering::Relaxed);
    drop(ends.far.enter(|| TcpStream::connect("10.97.0.2:7001")));
    accepting.join().unwrap();
}

/// Two thousand targets at one a second, over sockets without privilege: none lost, none missed,
/// and each is sent at its start + k seconds, however many came before.
#[test]
fn two_thousand_targets_are_probed_without_loss_or_drift() {
    const TARGETS: usize = 2000;
    const ROUNDS: u64 = 12;
    let Some(mut lab) = Lab::new("two thousand targets") else {
        return;
    };
    let space = lab.space("many");
    space.sysctl("net.ipv4.ping_group_range", "0 2147483647");
    let one = |n: usize| {
        let target = format!("127.{}.{}.{}", 1 + n / 65_536, n / 256 % 256, n % 256);
        format!("[[probe]]\nname = \"t{n}\"\ntarget = \"{target}\"\n")
    };
    let config: String = (1..=TARGETS).map(one).collect();
    let site = Site::new(&Setup {
        interfaces: &["lo"],
        more: &config,
        ..Setup::default()
    });
    let recorder = Recorder::start(&site, &space);
    let server = Server::start(&site, &space);
    let running = Running {
        site,
        _server: server,
        _recorder: recorder,
    };
    let board = wait_for("twelve rounds", || {
        let board = running.site.http("/api/v1/probes", &[]).json();
        let probes = board["probes"].as_array().cloned().unwrap_or_default();
        let least = probes
            .iter()
            .map(|one| one["counts"]["received"].as_u64().unwrap())
            .min();
        if least >= Some(ROUNDS) {
            Ok(probes)
        } else {
            Err(format!("{least:?}"))
        }
    });
    assert_eq!(board.len(), TARGETS);
    let sum = |key: &str| -> u64 {
        board
            .iter()
            .map(|one| one["counts"][key].as_u64().unwrap())
            .sum()
    };
    for key in [
        "lost",
        "late",
        "missed",
        "unsent",
        "unjudged",
        "duplicates",
        "reordered",
    ] {
        assert_eq!(sum(key), 0, "{key}");
    }
    // When each was sent stands in the packets themselves.
    let file = running.site.path("all.pcapng");
    let to = file.to_str().unwrap();
    running
        .site
        .ask(&["export", "--from", "-5m", "--to", "now", "-o", to]);
    let bytes = fs::read(&file).unwrap();
    let mut sent: BTreeMap<u32, BTreeMap<u64, u64>> = BTreeMap::new();
    let mark = b"wirewitness\x01";
    let mut at = 0;
    while let Some(next) = bytes[at..]
        .windows(mark.len())
        .position(|window| window == mark)
    {
        at += next;
        if let Some(stamp) = Stamp::parse(&bytes[at..]) {
            sent.entry(stamp.probe)
                .or_default()
                .insert(stamp.seq, stamp.sent_ns);
        }
        at += mark.len();
    }
    assert_eq!(
        sent.len(),
        TARGETS,
        "each target's probes are in the capture"
    );
    let mut drifts: Vec<i64> = Vec::new();
    let mut latest = 0;
    for (probe, times) in &sent {
        let first = times[&0];
        for (round, (seq, time)) in (0..).zip(times) {
            assert_eq!(*seq, round, "probe {probe}");
            let due = first + round * 1_000_000_000;
            latest = latest.max(time.abs_diff(due));
            if round == ROUNDS - 1 {
                drifts.push(time.cast_signed() - due.cast_signed());
            }
        }
    }
    drifts.sort_unstable();
    let median = drifts[drifts.len() / 2];
    eprintln!(
        "after {ROUNDS} rounds of {TARGETS}: median drift {median} ns, farthest from its time {latest} ns"
    );
    assert!(median.abs() < 20_000_000, "{median} ns");
}

/// The file of what a server that probed `target` for half a day would know.
fn known(site: &Site, name: &str, target: &str) {
    use sha2::{Digest, Sha256};
    use wirewitness::time::Timestamp;
    use wirewitness::trigger::precursor::{Detector, Fate, Memory, Observation, PrecursorConfig};
    let interval = Duration::from_millis(200);
    let config = PrecursorConfig::default();
    let mut detector = Detector::new(&config, interval, Memory::new());
    let hours = Duration::from_hours(12);
    let start = Timestamp::now().minus(hours);
    for probe in 0..u32::try_from(hours.as_millis() / interval.as_millis()).unwrap() {
        detector.observe(&Observation {
            sent: start.plus(interval * probe),
            fate: Fate::Replied {
                rtt: Duration::from_micros(u64::from(50 + probe % 20)),
                ttl: Some(64),
            },
            icmp_error: None,
        });
    }
    assert!(detector.is_ready());
    let key = hex::encode(Sha256::digest(format!("{name}\0Icmp\0{target}")));
    let folder = site.incidents().with_file_name("baselines");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{}.json", &key[..32]));
    fs::write(file, detector.memory().save().unwrap()).unwrap();
}

/// A path that begins to lose is frozen quietly; when it fails, the fault shows its first sign.
#[test]
fn an_early_sign_is_frozen_and_promoted_by_the_fault() {
    let Some(ends) = Ends::new("early signs") else {
        return;
    };
    let more = "lost = 10\nof = 10\nsubject = \"edge\"";
    let config = probe("edge", "10.97.0.2", more)
        + &probe("mute", "10.97.0.3", &format!("precursor = false\n{more}"));
    let running = ends.run_with(&config, |site| {
        known(site, "edge", "10.97.0.2");
        known(site, "mute", "10.97.0.3");
    });
    running.answered("edge");
    running.answered("mute");
    assert_eq!(running.site.list().len(), 0, "nothing is unusual");

    let every_third = [
        "-m",
        "statistic",
        "--mode",
        "nth",
        "--every",
        "3",
        "--packet",
        "0",
    ];
    for target in ["10.97.0.2", "10.97.0.3"] {
        let mut rule = vec!["iptables", "-A", "INPUT", "-p", "icmp", "-d", target];
        rule.extend(every_third);
        rule.extend(["-j", "DROP"]);
        ends.far.run(&rule);
    }
    let sign = running.incident("edge");
    assert_eq!(sign["grade"], "precursor", "{sign}");
    assert_eq!(sign["fields"]["sign"], "loss-burst", "{sign}");
    let text = sign["trigger"]["text"].as_str().unwrap();
    assert!(text.starts_with("early sign from 10.97.0.2: "), "{text}");
    assert!(
        text.ends_with("probes lost, usual 0.0 % at this hour"),
        "{text}"
    );

    at_far(&ends, "iptables", "10.97.0.2", &["DROP"]);
    let fault = running.site.sealed_where("the fault", |one| {
        one["trigger"]["source"] == "edge" && one["id"] != sign["id"]
    });
    assert_eq!(fault["grade"], "incident", "{fault}");
    assert_eq!(fault["first_sign"]["incident"], sign["id"], "{fault}");
    let list = running.site.list();
    assert!(
        list.iter().all(|one| one["trigger"]["source"] != "mute"),
        "{list:?}"
    );
}
