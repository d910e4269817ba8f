//! Maintenance windows: what is expected freezes nothing, whatever its source, and is on record.

use serde_json::Value;

use crate::support::wait_for;
use crate::triggers::Running;

const MAINTENANCE: &str = "[[webhook]]\nname = \"any\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n\
    [[probe]]\nname = \"edge\"\ntarget = \"127.0.0.1\"\nkind = \"tcp\"\nport = 9\ninterval = \"200ms\"\ntimeout = \"200ms\"\n\
    [[maintenance]]\nname = \"works\"\nweekly = \"daily\"\nprobes = [\"edge\"]\n\
    [[maintenance]]\nname = \"doors\"\nfrom = \"2020-01-01 00:00\"\nto = \"2100-01-01 00:00\"\nsubjects = [\"door *\"]\n\
    [[maintenance]]\nname = \"weak\"\nweekly = [\"mon-fri\", \"sat,sun\"]\nsubjects = [\"window *\"]\neffect = \"precursor\"\n";

#[test]
fn a_window_silences_a_webhook_and_a_probe_and_no_person() {
    let Some(running) = Running::new("maintenance", MAINTENANCE) else {
        return;
    };
    let space = &running.mirror.monitor;
    let post = |subject: &str| -> Value {
        let body = format!("{{\"subject\": {subject:?}, \"text\": \"opened\"}}");
        let answer = space.run(&[
            "curl",
            "-s",
            "--fail",
            "--max-time",
            "10",
            "-w",
            "%{http_code}",
            "-H",
            "Authorization: Bearer secret-of-the-test",
            "--json",
            &body,
            "http://127.0.0.1:8642/hooks/any",
        ]);
        let (body, code) = answer.trim().split_at(answer.trim().len() - 3);
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["code"] = code.into();
        body
    };
    let silenced = post("door 7");
    assert_eq!(silenced["code"], "200");
    assert_eq!(silenced["incident"], Value::Null);
    assert_eq!(silenced["silenced_by"][0], "doors");
    let status =
        || -> Value { serde_json::from_str(&running.site.ask(&["--json", "status"])).unwrap() };
    let silenced_of = |status: &Value, source: &str| {
        let sources = status["server"]["sources"].as_array().unwrap();
        let found = sources.iter().find(|one| one["name"] == source).unwrap();
        found["counters"]["silenced"].as_u64().unwrap_or(0)
    };
    // Nobody listens there: the probe fails, and is expected to.
    let now = wait_for("the probe's fault to be silenced", || {
        let now = status();
        match silenced_of(&now, "edge") {
            0 => Err(now["server"]["sources"].to_string()),
            _ => Ok(now),
        }
    });
    assert_eq!(silenced_of(&now, "any"), 1);
    let windows = now["server"]["maintenance"].as_array().unwrap();
    assert_eq!(windows[1]["last"]["subject"], "door 7");
    let shown = running.site.ask(&["status"]);
    assert!(shown.contains("maintenance works: open, "), "{shown}");
    assert_eq!(running.site.list().len(), 0, "{:?}", running.site.list());

    let weak = post("window 3");
    assert_eq!(weak["code"], "202");
    let weak = running.site.sealed(weak["incident"].as_str().unwrap());
    assert_eq!(weak["grade"], "precursor");
    assert_eq!(weak["fields"]["maintenance"], "weak");
    let id = running
        .site
        .ask(&["freeze", "--reason", "door 8", "--after", "1s"]);
    let frozen = running.site.sealed(id.trim());
    assert_eq!(
        (&frozen["subject"], &frozen["grade"]),
        (&"door 8".into(), &"incident".into())
    );
}
