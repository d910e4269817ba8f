//! Rules over real lines: counted, excepted, missed; and tried out on the command line.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Setup, Site, binary, wait_for};
use crate::triggers::Running;

const RULES: &str = "[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n\
    [rules]\npacks = [\"oom\", \"bgp-ospf\"]\n\
    [[rule]]\nname = \"flap\"\nmatch = 'port (?P<port>\\S+) down'\nunless = 'planned'\nfacility = [\"local7\"]\n\
    at_least = \"3 in 10s\"\ngroup_by = \"port\"\nsubject = \"flapping {port}\"\n\
    [[rule]]\nname = \"beat\"\nmatch = 'still alive'\nabsence = \"2s\"\n";

#[test]
fn lines_are_counted_excepted_and_missed() {
    let Some(running) = Running::new("rules", RULES) else {
        return;
    };
    let space = &running.mirror.monitor;
    let log = |facility: &str, text: &str| {
        space.run(&[
            "logger",
            "--server",
            "127.0.0.1",
            "--port",
            "5514",
            "--udp",
            "--rfc3164",
            "-p",
            facility,
            text,
        ]);
    };
    // A line that stays away is missed without any line at all.
    running.expect("syslog", "beat is missing");
    for text in [
        "port ge1 down",
        "port ge2 down",
        "planned: port ge1 down",
        "port ge1 down",
    ] {
        log("local7.info", text);
    }
    log("local6.info", "port ge1 down");
    log("kern.err", "Out of memory: Killed process 4711 (java)");
    running.expect("syslog", "memory");
    let flapping = |list: &[Value]| {
        let subjects = list.iter().filter_map(|one| one["subject"].as_str());
        subjects
            .filter(|subject| subject.contains("flapping"))
            .count()
    };
    assert_eq!(
        flapping(&running.site.list()),
        0,
        "{:?}",
        running.site.list()
    );
    log("local7.info", "port ge1 down");
    running.expect("syslog", "flapping ge1");
    assert_eq!(flapping(&running.site.list()), 1);
    log("local7.info", "still alive");
    wait_for("the line to be back", || {
        let list = running.site.list();
        let beat = list.iter().find(|one| one["subject"] == "beat is missing");
        if beat.is_some_and(|one| one["resolved"].is_string()) {
            Ok(())
        } else {
            Err(format!("{beat:?}"))
        }
    });
}

/// `rule` with these arguments and these lines: what it says, and its exit code.
fn rule(arguments: &[&str], lines: &str) -> (String, Option<i32>) {
    let mut child = Command::new(binary())
        .arg("rule")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read anything.
    drop(child.stdin.take().unwrap().write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code())
}

/// `rule test` of these rules.
fn rule_test(rules: &str, more: &[&str], lines: &str) -> (String, Option<i32>) {
    let site = Site::new(&Setup::default());
    let file = site.path("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let arguments = [&["test", file.to_str().unwrap()], more].concat();
    rule(&arguments, lines)
}

#[test]
fn packs_are_listed_printed_and_tried_out_by_name() {
    let (said, code) = rule(&["packs"], "");
    assert_eq!((said.lines().count(), code), (8, Some(0)), "{said}");
    let first = "interface-down  A link of a switch, router or host goes down.";
    assert_eq!(said.lines().next(), Some(first));
    let (pack, code) = rule(&["packs", "interface-down"], "");
    assert_eq!(code, Some(0), "{pack}");
    // Its own samples, as the file has them.
    let samples = pack.lines().filter_map(|line| line.strip_prefix("#+ "));
    let samples: Vec<&str> = samples.collect();
    let lines = samples.join("\n");
    let (said, code) = rule(&["test", "interface-down"], &lines);
    let all = format!("{0} lines: {0} would fire", samples.len());
    assert!(said.contains(&all) && code == Some(0), "{said}");
    for arguments in [&["packs", "nosuch"], &["test", "nosuch"]] {
        let (said, code) = rule(arguments, "");
        assert!(
            said.contains("nosuch") && said.contains("http-5xx"),
            "{said}"
        );
        assert_eq!(code, Some(2), "{said}");
    }
}

#[test]
fn rules_are_tried_out_on_lines() {
    let lines = "<189>port ge1 down\n<190>port ge1 down\n<189>planned: port ge1 down\n\
        <189>port ge1 down $(touch x) \u{1b}[31m\n<3>kernel: Out of memory: Killed process 1 (x)\n<30>nothing\n";
    let (said, code) = rule_test(RULES, &[], lines);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "1  held    flap: 1 of 3 in 10s for \"ge1\"",
        "3  passed  flap: unless matches too",
        "4  fires   flap: subject \"flapping ge1\"",
        "5  fires   oom: subject \"localhost memory\"",
        "6 lines: 2 would fire, 2 held back",
        "never matched: beat, bgp-down, ospf-down",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (said, _) = rule_test(RULES, &["--json"], lines);
    let told: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told[3]["trigger"]["subject"], "flapping ge1");
    assert!(!said.contains('\u{1b}'));
    for (rules, words) in [
        (
            "[[rule]]\nname = \"r\"\nmatch = '('",
            "match is not a regular expression",
        ),
        ("[rules]\npacks = [\"nosuch\"]", "interface-down"),
        (
            "[[rule]]\nname = \"r\"\nmatch = 'x'\nat_least = \"3\"",
            "3 in 10s",
        ),
    ] {
        let (said, code) = rule_test(rules, &[], "");
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains(words) && said.contains("rules.toml"),
            "{said}"
        );
    }
}

#[test]
fn what_hours_hold_back_is_said_and_all_rules_may_decide() {
    let rules = "[rules]\nmatch = \"all\"\n\
        [[rule]]\nname = \"office\"\nmatch = 'down'\nduring = \"mon-fri 08:00-18:00\"\nzone = \"Asia/Tokyo\"\n\
        [[rule]]\nname = \"first\"\nmatch = 'down'\n[[rule]]\nname = \"second\"\nmatch = 'port'\n";
    // A Wednesday, ten in the morning and seven in the evening in Tokyo.
    let lines = "<11>1 2026-11-25T01:00:00Z h app - - - port ge1 down\n\
        <11>1 2026-11-25T10:00:00Z h app - - - port ge1 down\n";
    let (said, code) = rule_test(rules, &[], lines);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "1  fires   office: subject \"h\"",
        "1  fires   second: subject \"h\"",
        "2  passed  office: it is not during mon-fri 08:00-18:00",
        "2  fires   first: subject \"h\"",
        "2 lines: 5 would fire, 0 held back",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_log_is_played_back_with_what_stayed_away_and_what_maintenance_covers() {
    let rules = "[[rule]]\nname = \"down\"\nmatch = 'port down'\n\
        [[rule]]\nname = \"beat\"\nmatch = 'alive'\nabsence = \"90s\"\n\
        [[maintenance]]\nname = \"move\"\nfrom = \"2026-11-20T10:00:00Z\"\nto = \"2026-11-20T10:10:00Z\"\nrules = [\"down\"]\n";
    let lines = "<30>1 2026-11-20T10:00:00Z h app - - - alive\n\
        <30>1 2026-11-20T10:05:00Z h app - - - port down\n\
        <30>1 2026-11-20T10:06:00Z h app - - - alive\n\
        <30>1 2026-11-20T10:11:00Z h app - - - port down\n";
    let (said, code) = rule_test(rules, &[], lines);
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "2  fires   beat: subject \"beat is missing\", missed at 2026-11-20T10:01:31Z",
        "2  silent  down: subject \"h\", maintenance \"move\"",
        "4  over    beat: subject \"beat is missing\", back at 2026-11-20T10:06:01Z",
        "4  fires   down: subject \"h\"",
        "4 lines: 3 would fire, 0 held back, 1 silenced",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (said, _) = rule_test(rules, &["--json"], lines);
    let told: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let missing = told.iter().find(|one| one["verdict"] == "fires").unwrap();
    assert_eq!(missing["trigger"]["at"], "2026-11-20T10:00:00.000000000Z");
    assert!(
        told.iter()
            .any(|one| one["resolution"]["subject"] == "beat is missing")
    );
    let window = "[[maintenance]]\nname = \"w\"\nweekly = \"someday\"\n";
    let (said, code) = rule_test(window, &[], "");
    assert!(
        said.contains("weekly") && said.contains("rules.toml"),
        "{said}"
    );
    assert_eq!(code, Some(2), "{said}");
}
