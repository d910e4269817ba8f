//! Storms in short, counted on both sides: nothing is lost in silence. `make bench-storm` is the
//! long form, with figures.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::thread;

use serde_json::Value;

use crate::support::wait_for;
use crate::triggers::Running;

const CONFIG: &str = "[[webhook]]\nname = \"storm\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n\
    [[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n[[syslog]]\nlisten = \"tcp://127.0.0.1:5514\"\n\
    [[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{peer}\"\n";
const CONNECTIONS: u64 = 20;
const CALLS: u64 = 150;
const SUBJECTS: u64 = 10;
const LINES: u64 = 50_000;
const FAULT_EVERY: u64 = 100;

/// Calls on one connection, all sent ahead; how often each status was answered: 202, 401, others.
fn call(connection: u64) -> [u64; 3] {
    let mut stream = TcpStream::connect("127.0.0.1:8642").unwrap();
    let mut requests = Vec::new();
    for number in 0..CALLS {
        let body = format!(
            "{{\"subject\": \"edge-{}\"}}",
            (connection + number) % SUBJECTS
        );
        let token = if number % 10 == 9 {
            "wrong"
        } else {
            "secret-of-the-test"
        };
        let close = if number == CALLS - 1 {
            "Connection: close\r\n"
        } else {
            ""
        };
        write!(
            requests,
            "POST /hooks/storm HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{close}\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    }
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&requests).unwrap());
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    writing.join().unwrap();
    let count = |what: &str| u64::try_from(answers.matches(what).count()).unwrap();
    let all = count("HTTP/1.1 ");
    let (taken, refused) = (count("HTTP/1.1 202 "), count("HTTP/1.1 401 "));
    [taken, refused, all - taken - refused]
}

fn source(running: &Running, name: &str) -> Value {
    let status: Value = serde_json::from_str(&running.site.ask(&["--json", "status"])).unwrap();
    let sources = status["server"]["sources"].as_array().unwrap();
    sources
        .iter()
        .find(|one| one["name"] == name)
        .unwrap()
        .clone()
}

fn count(source: &Value, name: &str) -> u64 {
    source["counters"][name].as_u64().unwrap_or(0)
}

fn line(number: u64) -> String {
    let text = if number.is_multiple_of(FAULT_EVERY) {
        "ERROR x peer=192.0.2.50"
    } else {
        "GET / 200"
    };
    format!("<134>nginx: {text} request={number}\n")
}

#[test]
fn every_call_of_a_storm_is_answered_and_counted_in_an_incident() {
    let Some(running) = Running::new("storm of calls", CONFIG) else {
        return;
    };
    let [taken, refused, others] = running.mirror.monitor.enter(|| {
        let callers: Vec<_> = (0..CONNECTIONS)
            .map(|c| thread::spawn(move || call(c)))
            .collect();
        let counts = callers.into_iter().map(|caller| caller.join().unwrap());
        counts.fold([0; 3], |sum, one| {
            [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]
        })
    });
    assert_eq!(
        [taken, refused, others],
        [CONNECTIONS * CALLS * 9 / 10, CONNECTIONS * CALLS / 10, 0]
    );
    wait_for("every call to be in an incident", || {
        let list = running.site.list();
        let triggers: u64 = list
            .iter()
            .map(|one| one["triggers"].as_u64().unwrap())
            .sum();
        if triggers == taken && list.len() as u64 == SUBJECTS {
            Ok(())
        } else {
            Err(format!("{triggers} in {} incidents", list.len()))
        }
    });
    let log = running.server.process.said();
    let lines = log.lines().filter(|line| line.contains("hook")).count();
    assert!(lines < 20, "{lines} lines of log: {log}");
    assert_nothing_lost(&running);
}

#[test]
fn every_line_of_a_storm_is_counted_received_or_dropped() {
    let Some(running) = Running::new("storm of lines", CONFIG) else {
        return;
    };
    running.mirror.monitor.enter(|| {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:5514").unwrap();
        let mut tcp = TcpStream::connect("127.0.0.1:5514").unwrap();
        let streaming = thread::spawn(move || {
            let all: String = (0..LINES).map(line).collect();
            tcp.write_all(all.as_bytes()).unwrap();
        });
        for number in 0..LINES {
            udp.send(line(number).as_bytes()).unwrap();
        }
        streaming.join().unwrap();
    });
    let faults = LINES / FAULT_EVERY;
    wait_for("every line by TCP to be judged", || {
        let tcp = source(&running, "tcp://127.0.0.1:5514");
        let all = count(&tcp, "received") == LINES && tcp["triggers"] == faults;
        if all { Ok(()) } else { Err(tcp.to_string()) }
    });
    // The kernel tells what it dropped with the next datagram.
    let mut sent = LINES;
    let udp = wait_for("every line by UDP to be accounted for", || {
        let udp = source(&running, "udp://127.0.0.1:5514");
        let sum = ["received", "overflow", "dropped_kernel"].map(|name| count(&udp, name));
        if sum.iter().sum::<u64>() == sent && udp["triggers"] == udp["counters"]["matched"] {
            return Ok(udp);
        }
        running.mirror.monitor.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .send_to(b"<134>and one more", "127.0.0.1:5514")
                .unwrap();
        });
        sent += 1;
        Err(format!("{sent} sent: {udp}"))
    });
    let triggers: u64 = running
        .site
        .list()
        .iter()
        .map(|one| one["triggers"].as_u64().unwrap())
        .sum();
    assert_eq!(triggers, faults + count(&udp, "matched"));
    assert_eq!(running.site.list().len(), 1);
    assert_nothing_lost(&running);
}

/// The recorder lost no packet meanwhile.
fn assert_nothing_lost(running: &Running) {
    let status: Value = serde_json::from_str(&running.site.ask(&["--json", "status"])).unwrap();
    for cause in ["dropped_kernel", "dropped_ring", "dropped_iface"] {
        assert_eq!(status["interfaces"][0][cause], 0, "{status}");
    }
}
