//! The time of events: late ones, ones whose clock is wrong, and whether their packets are there.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Server, wait_for};
use crate::triggers::Running;

const SOURCES: &str = "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\nzone = \"UTC\"\n\
    [[webhook]]\nname = \"slow\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\nlate = \"2s\"\n\
    [[rule]]\nname = \"errors\"\nmatch = 'ERROR.* peer=(?P<peer>\\S+)'\nsubject = \"{peer}\"\n";

fn source(running: &Running, name: &str) -> Value {
    let status: Value = serde_json::from_str(&running.site.ask(&["--json", "status"])).unwrap();
    let sources = status["server"]["sources"].as_array().unwrap();
    let found = sources.iter().find(|one| one["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name}: {status}"))
        .clone()
}

#[test]
fn lateness_is_learned_and_wrong_clocks_are_marked() {
    let Some(mut running) = Running::new("lateness", SOURCES) else {
        return;
    };
    // A sender whose messages are half a minute old, as its own clock says.
    let send_times = |running: &Running, times: u32, seconds: i64, text: &str| {
        let command = format!(
            "at=$(date -u -d '{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)
             for ((n = 0; n < {times}; n++)); do
                 printf '<11>1 %s core1 app - - - {text}' \"$at\" >/dev/udp/127.0.0.1/5514
             done"
        );
        running.mirror.monitor.run(&["bash", "-c", &command]);
    };
    let send = |running: &Running, seconds, text: &str| send_times(running, 1, seconds, text);
    // Of lines that concern no rule one in 16 is learned from, and 20 are needed.
    send_times(&running, 20 * 16, -30, "nothing to see");
    send(&running, 0, "ERROR in time peer=192.0.2.1");
    running.expect("syslog", "192.0.2.1");
    let syslog = source(&running, "udp://127.0.0.1:5514");
    let median = syslog["lateness"]["median_ns"].as_u64().unwrap();
    assert!((30..36).contains(&(median / 1_000_000_000)), "{syslog}");
    // 5 s before, and half a minute late: the recorder of a test has not run for so long twice.
    assert_eq!(syslog["lookback"]["interface"], "mon0", "{syslog}");
    assert!(syslog["lookback"]["need_ns"].as_u64().unwrap() >= 35_000_000_000);
    assert_ne!(syslog["lookback"]["verdict"], "yes", "{syslog}");

    send(&running, 7200, "ERROR from tomorrow peer=192.0.2.2");
    let future = running.expect("syslog", "192.0.2.2");
    assert_eq!(future["fields"]["clock"], "future", "{future}");
    assert_eq!(
        future["timeline"][0]["doubt"]["clock"], "future",
        "{future}"
    );
    let id = future["id"].as_str().unwrap();
    let shown = running.site.ask(&["incidents", "show", id]);
    assert!(
        shown.contains("too far ahead: filed under its arrival"),
        "{shown}"
    );

    // An alert of something that was long before the recording began.
    send(&running, -3600, "ERROR an hour ago peer=192.0.2.3");
    running
        .site
        .sealed_where("of an hour ago", |one| one["subject"] == "192.0.2.3");
    // A status is up to a tenth of a second old.
    let syslog = wait_for("it to be counted as too late", || {
        let syslog = source(&running, "udp://127.0.0.1:5514");
        match syslog["too_late"].as_u64() {
            Some(1) => Ok(syslog),
            _ => Err(syslog.to_string()),
        }
    });
    assert_eq!(syslog["counters"]["future"], 1, "{syslog}");
    let shown = running.site.ask(&["status"]);
    assert!(shown.contains("1 incident(s) came too late"), "{shown}");
    let slow = source(&running, "slow");
    assert_eq!(slow["lookback"]["need_ns"], 7_000_000_000_u64, "{slow}");

    running.server.process.stop(Signal::TERM);
    running.server = Server::start(&running.site, &running.mirror.monitor);
    let after = source(&running, "udp://127.0.0.1:5514");
    assert_eq!(
        after["lateness"], syslog["lateness"],
        "kept across a restart"
    );
    let metrics = running.site.http("/metrics", &[]).body;
    let metrics = String::from_utf8(metrics).unwrap();
    let line = "wirewitness_source_lateness_seconds{kind=\"syslog\",source=\"udp://127.0.0.1:5514\",quantile=\"0.5\"}";
    assert!(metrics.contains(line), "{metrics}");
}
