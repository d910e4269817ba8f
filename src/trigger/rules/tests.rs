//! Rules against lines.

use proptest::prelude::*;

use super::*;

fn rule(name: &str, pattern: &str, subject: &str) -> RuleConfig {
    RuleConfig {
        subject: subject.to_owned(),
        ..RuleConfig::new(name, pattern)
    }
}

fn line(bytes: &[u8]) -> Line<'_> {
    Line {
        kind: Kind::Syslog,
        source: "udp://127.0.0.1:5514",
        file: None,
        bytes,
        host: "router1",
        severity: None,
        facility: None,
    }
}

#[test]
fn conditions_counts_and_exceptions() {
    let text = r#"
        name = "flap"
        match = 'link (?P<port>\S+) down'
        unless = 'maintenance'
        host = "router?"
        facility = ["local7"]
        at_least = "3 in 10s"
        group_by = "port"
        subject = "{host} {port}"
    "#;
    let rules = Rules::new(&[toml::from_str(text).unwrap(), rule("rest", "link", "rest")]).unwrap();
    let at = |second: u64| Timestamp::from_ns((1_000_000 + second) * 1_000_000_000);
    let judge = |bytes: &[u8], second, host| {
        let mut line = line(bytes);
        line.facility = Some(Facility::of_pri(23 << 3));
        line.host = host;
        let (mut verdicts, passed) = rules.judge(&line, at(second), at(second));
        assert!(verdicts.len() < 2, "the first decides");
        (verdicts.pop().unwrap(), passed)
    };
    let held = |count| {
        Verdict::Held(
            "flap".to_owned(),
            format!("{count} of 3 in 10s for \"ge1\""),
        )
    };
    assert_eq!(judge(b"link ge1 down", 0, "router1").0, held(1));
    assert_eq!(judge(b"link ge1 down", 1, "router1").0, held(2));
    assert!(matches!(
        judge(b"link ge2 down", 1, "router1").0,
        Verdict::Held(..)
    ));
    let Verdict::Fires(fired) = judge(b"link ge1 down", 2, "router1").0 else {
        panic!("three in ten seconds");
    };
    assert_eq!(
        (fired.subject.as_str(), fired.rule.as_deref()),
        ("router1 ge1", Some("flap"))
    );
    let (verdict, passed) = judge(b"link ge1 down for maintenance", 3, "router1");
    assert!(matches!(verdict, Verdict::Fires(one) if one.subject == "rest"));
    assert_eq!(passed.len(), 1);
    let (verdict, _) = judge(b"link ge1 down", 3, "router12");
    assert!(
        matches!(verdict, Verdict::Fires(one) if one.subject == "rest"),
        "another host"
    );
}

#[test]
fn a_line_that_stays_away() {
    let text = "name = \"backup\"\nmatch = 'backup finished'\nabsence = \"90s\"";
    let rules = Rules::new(&[toml::from_str(text).unwrap()]).unwrap();
    let start = Timestamp::now();
    let at = |second| start.plus(Duration::from_secs(second));
    assert!(rules.watch_for_absence());
    let beat = line(b"backup finished");
    assert_eq!(rules.judge(&beat, at(10), at(10)).0, []);
    assert_eq!(rules.absences(at(100)), []);
    let Some(Absence::Begun(trigger)) = rules.absences(at(101)).pop() else {
        panic!("it is missing");
    };
    assert_eq!(
        (trigger.subject.as_str(), trigger.at),
        ("backup is missing", at(10))
    );
    rules.judge(&beat, at(150), at(150));
    let Some(Absence::Over(over)) = rules.absences(at(151)).pop() else {
        panic!("it is back");
    };
    assert_eq!(over.subject, trigger.subject);
}

#[test]
fn each_group_that_stays_away_is_missed_for_itself() {
    let text = "name = \"beat\"\nmatch = 'alive from (?P<peer>\\S+)'\nabsence = \"90s\"\ngroup_by = [\"peer\", \"host\"]";
    let rules = Rules::new(&[toml::from_str(text).unwrap()]).unwrap();
    let start = Timestamp::now();
    let at = |second| start.plus(Duration::from_secs(second));
    let beat = |bytes, second| {
        let line = Line {
            host: "router1",
            kind: Kind::Journal,
            ..line(bytes)
        };
        assert_eq!(rules.judge(&line, at(second), at(second)).0, []);
    };
    beat(b"alive from 192.0.2.1", 10);
    beat(b"alive from 192.0.2.2", 10);
    beat(b"alive from 192.0.2.2", 60);
    let missed = rules.absences(at(101));
    let [Absence::Begun(trigger)] = missed.as_slice() else {
        panic!("{missed:?}");
    };
    assert_eq!(trigger.subject, "beat of 192.0.2.1 router1 is missing");
    assert_eq!((trigger.kind, trigger.at), (Kind::Journal, at(10)));
    assert_eq!(trigger.fields["peer"], "192.0.2.1");
    assert_eq!(trigger.fields["host"], "router1");
    assert_eq!(trigger.suggested_filter.as_deref(), Some("host 192.0.2.1"));
    beat(b"alive from 192.0.2.1", 110);
    let Some(Absence::Over(over)) = rules.absences(at(111)).pop() else {
        panic!("it is back");
    };
    assert_eq!(over.subject, trigger.subject);
}

#[test]
fn a_rule_counts_at_its_hours_alone() {
    let text = r#"
        name = "office"
        match = 'down'
        during = "mon-fri 08:00-18:00"
        not_during = ["wed 12:00-13:00", "thu 12:00-13:00"]
        zone = "Asia/Tokyo"
    "#;
    let rules = Rules::new(&[toml::from_str(text).unwrap(), rule("rest", "down", "x")]).unwrap();
    // 2026-11-25 is a Wednesday; Tokyo is nine hours ahead.
    for (at, name, why) in [
        ("2026-11-25T01:00:00Z", "office", None),
        (
            "2026-11-25T10:00:00Z",
            "rest",
            Some("it is not during mon-fri 08:00-18:00"),
        ),
        (
            "2026-11-25T03:30:00Z",
            "rest",
            Some("it is during wed 12:00-13:00; thu 12:00-13:00"),
        ),
    ] {
        let at: Timestamp = at.parse().unwrap();
        let (verdicts, passed) = rules.judge(&line(b"link down"), at, Timestamp::MIN);
        let [Verdict::Fires(trigger)] = verdicts.as_slice() else {
            panic!("{verdicts:?}");
        };
        assert_eq!(trigger.rule.as_deref(), Some(name));
        assert_eq!(passed.first().map(|(_, why)| why.as_str()), why);
    }
}

#[test]
fn every_rule_that_matches_decides_for_itself_when_all_do() {
    let mut counted = rule("counted", "down", "b");
    counted.at_least = Some(AtLeast {
        count: 2,
        within: Duration::from_secs(10),
    });
    let configs = [
        rule("one", "link", "a"),
        counted,
        rule("three", "down", "c"),
    ];
    let now = Timestamp::from_ns(7);
    let fired = |rules: &Rules| -> Vec<String> {
        let triggers = rules.apply(&line(b"link down"), now, now);
        triggers.into_iter().map(|one| one.subject).collect()
    };
    let first = Rules::new(&configs).unwrap();
    assert_eq!(
        (fired(&first), fired(&first)),
        (vec!["a".to_owned()], vec!["a".to_owned()])
    );
    let all = Rules::new(&configs).unwrap().matching(Matching::All);
    assert_eq!(fired(&all), ["a", "c"], "the second waits for more");
    assert_eq!(fired(&all), ["a", "b", "c"]);
}

#[test]
fn a_line_is_not_missed_outside_the_hours_of_its_rule() {
    let text = "name = \"beat\"\nmatch = 'alive'\nabsence = \"90s\"\nduring = \"mon-fri 08:00-18:00\"\nzone = \"UTC\"";
    let rules = Rules::new(&[toml::from_str(text).unwrap()]).unwrap();
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    // A Friday's evening far ahead, the weekend, and Monday.
    assert_eq!(rules.absences(at("2100-01-01T19:00:00Z")), []);
    assert_eq!(rules.absences(at("2100-01-03T12:00:00Z")), []);
    assert_eq!(rules.absences(at("2100-01-04T07:59:59Z")), []);
    assert_eq!(
        rules.absences(at("2100-01-04T08:01:29Z")),
        [],
        "the wait began at eight"
    );
    let missed = rules.absences(at("2100-01-04T08:01:30Z"));
    assert!(matches!(missed.as_slice(), [Absence::Begun(_)]));
    let Some(Absence::Over(over)) = rules.absences(at("2100-01-04T18:00:00Z")).pop() else {
        panic!("its hours are over, and so is the wait");
    };
    assert!(
        over.text.contains("not waited for at this hour"),
        "{over:?}"
    );
    assert_eq!(rules.absences(at("2100-01-04T18:00:01Z")), []);
}

#[test]
fn mistakes_of_the_conditions_are_named() {
    for (more, words) in [
        ("at_least = \"3\"", "3 in 10s"),
        ("at_least = \"1 in 10s\"", "2 to 1000"),
        ("facility = [\"kernel\"]", "kern, user"),
        ("absence = \"soon\"", "soon"),
    ] {
        let text = format!("name = \"r\"\nmatch = 'x'\n{more}");
        let error = toml::from_str::<RuleConfig>(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (more, words) in [
        ("group_by = \"port\"\nat_least = \"3 in 10s\"", "no capture"),
        ("group_by = \"host\"", "at_least"),
        (
            "absence = \"90s\"\nat_least = \"3 in 10s\"",
            "without at_least",
        ),
        ("unless = '('", "unless is not a regular expression"),
        ("during = 'weekdays'", "during: \"weekdays\" are no hours"),
        ("not_during = ['sat', '9-5']", "not_during: \"9-5\""),
        ("during = 'sat'\nzone = 'Tokyo'", "zone: \"Tokyo\""),
    ] {
        let config = toml::from_str(&format!("name = \"r\"\nmatch = 'x'\n{more}")).unwrap();
        let error = Rules::new(&[config]).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("[[rule]] r"),
            "{error}"
        );
    }
}

fn apply(rules: &[RuleConfig], line: &Line<'_>) -> Option<Trigger> {
    let now = Timestamp::from_ns(7);
    Rules::new(rules).unwrap().apply(line, now, now).pop()
}

#[test]
fn the_example_of_the_manual_works() {
    let rules = [rule("errors", r"ERROR.* peer=(?P<peer>\S+)", "{peer}")];
    let trigger = apply(&rules, &line(b"bgpd: ERROR session down peer=192.0.2.1")).unwrap();
    assert_eq!(trigger.subject, "192.0.2.1");
    assert_eq!(trigger.rule.as_deref(), Some("errors"));
    assert_eq!(trigger.text, "bgpd: ERROR session down peer=192.0.2.1");
    assert_eq!(trigger.suggested_filter.as_deref(), Some("host 192.0.2.1"));
    assert_eq!(trigger.fields["peer"], "192.0.2.1");
    assert_eq!(trigger.fields["host"], "router1");
    assert_eq!(
        apply(&rules, &line(b"bgpd: session up peer=192.0.2.1")),
        None
    );
}

#[test]
fn the_first_rule_in_the_file_wins() {
    let mut limited = rule("limited", "down", "a");
    limited.sources = vec!["/var/log/x".to_owned()];
    let rules = [
        limited,
        rule("second", "link", "b"),
        rule("third", "down", "c"),
    ];
    let first = apply(&rules, &line(b"link down")).unwrap();
    assert_eq!(first.rule.as_deref(), Some("second"));
    let mut of_file = line(b"link down");
    of_file.source = "/var/log/x";
    assert_eq!(apply(&rules, &of_file).unwrap().subject, "a");
}

#[test]
fn a_suggested_filter_never_carries_foreign_words() {
    let mut with_port = rule("r", r"peer=(?P<peer>\S+)( port=(?P<port>\S+))?", "{peer}");
    let evil = line(b"peer=1.2.3.4)or(tcp port=80");
    assert_eq!(
        apply(&[with_port.clone()], &evil).unwrap().suggested_filter,
        None
    );
    with_port.filter = Some("host {peer} and port {port}".to_owned());
    let rules = [with_port];
    let filter = |text: &[u8]| apply(&rules, &line(text)).unwrap().suggested_filter;
    assert_eq!(
        filter(b"peer=2001:db8::1 port=179").as_deref(),
        Some("host 2001:db8::1 and port 179")
    );
    assert_eq!(filter(b"peer=192.0.2.1 port=80;drop"), None);
    assert_eq!(filter(b"peer=192.0.2.1"), None);
    // A syslog host name is not a capture: it alone suggests nothing.
    let mut host = line(b"ERROR");
    host.host = "192.0.2.9";
    assert_eq!(
        apply(&[rule("e", "ERROR", "x")], &host)
            .unwrap()
            .suggested_filter,
        None
    );
}

#[test]
fn defaults_look_at_severity_and_at_words() {
    let mut syslog = line(b"sshd: nothing special");
    assert_eq!(apply(&[], &syslog), None);
    syslog.severity = Some(Severity::Warning);
    assert_eq!(apply(&[], &syslog), None);
    syslog.severity = Some(Severity::Err);
    assert_eq!(apply(&[], &syslog).unwrap().subject, "router1");
    let mut file = line(b"2026-11-23 FATAL: out of memory");
    file.kind = Kind::Logfile;
    file.source = "/var/log/app";
    assert_eq!(apply(&[], &file).unwrap().subject, "/var/log/app");
    file.bytes = b"NOERROR status";
    assert_eq!(apply(&[], &file), None);
}

#[test]
fn mistakes_are_named_with_rule_and_place() {
    let error = |rules: &[RuleConfig]| Rules::new(rules).unwrap_err().to_string();
    let bad = error(&[rule("r1", "a(b", "x")]);
    assert!(
        bad.contains("r1") && bad.contains("unclosed group"),
        "{bad}"
    );
    let unknown = error(&[rule("r2", "a", "{peer}")]);
    assert!(unknown.contains("r2: subject: {peer}"), "{unknown}");
    let twice = error(&[rule("r", "a", "x"), rule("r", "b", "x")]);
    assert!(twice.contains("given twice"), "{twice}");
    let huge = error(&[rule("huge", r"(\w{1000}){1000}", "x")]);
    assert!(huge.contains("size limit"), "{huge}");
}

#[test]
fn an_empty_capture_falls_back_to_the_name_of_the_rule() {
    let rules = [rule("flap", r"down(?P<peer> \d+)?", "{peer}")];
    assert_eq!(apply(&rules, &line(b"down")).unwrap().subject, "flap");
}

proptest! {
    #[test]
    fn no_line_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let rules = [rule("r", r"(?P<peer>[^ ]*) ?(?P<host>.*)", "{peer} {host} {source}")];
        if let Some(trigger) = apply(&rules, &line(&bytes)) {
            prop_assert!(!trigger.subject.is_empty());
            let escaped = trigger.text.contains(char::from(27));
            prop_assert!(!escaped);
        }
    }
}

#[test]
fn a_file_whose_name_is_an_escape_sequence_is_spelled_out() {
    let mut line = line(b"ERROR x");
    line.source = "/var/log/\u{1b}[31m.log";
    let trigger = apply(&[rule("r", "ERROR", "{source}")], &line).unwrap();
    assert_eq!(trigger.subject, "/var/log/\\x1b[31m.log");
}
