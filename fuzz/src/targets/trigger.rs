//! What is asked of the sources of triggers: bounded, inert, and no secret kept.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;

use serde_json::{Value, json};

use super::scratch;
use crate::time::Timestamp;
use crate::trap;
use crate::trigger::logfile::{LINE_BYTES_MAX, Tail};
use crate::trigger::rules::{Line, RuleConfig, Rules, Verdict};
use crate::trigger::status::Sources;
use crate::trigger::syslog::{Charset, Message, Zone};
use crate::trigger::text::{FIELD_BYTES_MAX, inert};
use crate::trigger::webhook::{Caller, Event, Hook, HookKind, WebhookConfig};
use crate::trigger::{
    BODY_BYTES_MAX, Kind, Resolution, SUBJECT_BYTES_MAX, TEXT_BYTES_MAX, Trigger,
};

/// A moment within the years that senders may name.
const NOW: Timestamp = Timestamp::from_ns(1_795_428_131_000_000_000);
/// What no body that is kept may hold.
const PLANTED: &str = "hunter2planted";

/// What holds of every trigger, whoever sent it.
pub fn check(trigger: &Trigger) {
    assert!(trigger.subject.len() <= SUBJECT_BYTES_MAX && trigger.text.len() <= TEXT_BYTES_MAX);
    let texts = [&trigger.subject, &trigger.text];
    let fields = trigger
        .fields
        .iter()
        .flat_map(|(name, value)| [name, value]);
    for text in texts.into_iter().chain(fields).chain(&trigger.body) {
        assert_eq!(&inert(text.as_bytes()), text);
    }
    for value in trigger.fields.values() {
        assert!(value.len() <= FIELD_BYTES_MAX);
    }
    assert!(trigger.fields.len() <= 128);
    if let Some(body) = &trigger.body {
        assert!(body.len() <= BODY_BYTES_MAX && !body.contains(PLANTED));
    }
}

fn holds(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

fn check_end(resolution: &Resolution) {
    assert!(resolution.subject.len() <= SUBJECT_BYTES_MAX);
    assert_eq!(inert(resolution.text.as_bytes()), resolution.text);
}

thread_local! {
    /// A hook of each kind, one that maps, and one that wants a signature.
    static HOOKS: Vec<Hook> = hooks();
    static EAR: RefCell<Option<trap::Ear>> = const { RefCell::new(None) };
}

fn hooks() -> Vec<Hook> {
    let sources = Sources::default();
    let mut configs: Vec<WebhookConfig> = HookKind::ALL
        .into_iter()
        .map(|kind| {
            let mut config = WebhookConfig::new("h", kind);
            config.token = toml::from_str::<Token>("token = \"t\"").unwrap().token;
            config
        })
        .collect();
    let more = "[[webhook]]\nname = \"map\"\nkind = \"generic\"\ntoken = \"t\"\n\
        map = { subject = \"/a/0/b\", text = \"/t\", at = \"/at\", key = \"/k\", status = \"/s\" }\n\
        [[webhook]]\nname = \"signed\"\nkind = \"generic\"\nhmac_secret = \"s\"\n";
    let more: Tables = toml::from_str(more).unwrap();
    configs.extend(more.webhook);
    let made = configs
        .iter()
        .map(|config| Hook::from_config(config, &sources));
    made.map(Result::unwrap).collect()
}

#[derive(serde::Deserialize)]
struct Token {
    token: crate::trigger::several::Several<String>,
}

#[derive(serde::Deserialize)]
struct Tables {
    webhook: Vec<WebhookConfig>,
}

/// A call of any hook: the first byte chooses it, the second what kind of body it says it is; the
/// first line of the rest is a header where one is looked at.
pub fn webhook(data: &[u8]) {
    let [kind, media, body @ ..] = data else {
        return;
    };
    // Only what is planted beneath a secret's name must be gone; anywhere else the word is a word.
    if [&b"hunter2"[..], b"planted"]
        .iter()
        .any(|part| holds(data, part))
    {
        return;
    }
    let end = body.iter().position(|byte| *byte == b'\n');
    let (head, body) = match end {
        Some(end) if media & 8 != 0 => (&body[..end], &body[end + 1..]),
        _ => (&[][..], body),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let media = match media % 4 {
        0 => "application/json",
        1 => "application/x-www-form-urlencoded",
        2 => "application/cloudevents-batch+json",
        3 if media & 4 != 0 => "multipart/form-data; boundary=x",
        _ => "text/plain; charset=utf-8",
    };
    let headers = [
        ("content-type", media),
        ("ce-specversion", "1.0"),
        ("ce-id", &head),
        ("ce-source", &head),
        ("ce-type", "t"),
        ("ce-time", &head),
        ("x-grafana-alerting-signature", &head),
        ("webhook-signature", &head),
        ("webhook-timestamp", &head),
        ("authorization", &head),
    ];
    let caller = Caller {
        headers: headers.into_iter().collect(),
        ..Caller::default()
    };
    HOOKS.with(|hooks| {
        let hook = &hooks[usize::from(*kind) % hooks.len()];
        if hook.name() == "signed" {
            assert!(hook.check(&caller, body, NOW).is_err(), "a forgery");
        }
        let _shown = hook.admit(&caller);
        events(hook, &caller, body);
        if let Ok(Value::Object(mut planted)) = serde_json::from_slice(body) {
            planted.insert("Pass-Word".to_owned(), json!({"x": PLANTED}));
            planted.insert("link".to_owned(), json!(format!("u://a:{PLANTED}@h/")));
            events(hook, &caller, Value::from(planted).to_string().as_bytes());
        }
        // The same bytes as a time, which every sender writes in its own way.
        if hook.name() != "map" {
            let at = String::from_utf8_lossy(body);
            let timed = json!({"subject": "s", "text": "t", "at": at, "time": at, "date": at});
            events(hook, &caller, timed.to_string().as_bytes());
        }
    });
}

fn events(hook: &Hook, caller: &Caller, body: &[u8]) {
    let Ok(events) = hook.accept(caller, body, NOW) else {
        return;
    };
    for event in &events {
        match event {
            Event::Trigger(trigger) => check(trigger),
            Event::Resolution(resolution) => check_end(resolution),
        }
    }
}

/// A syslog message: header dialects, zones, encodings, structured data.
pub fn message(data: &[u8]) {
    let [charset, frame @ ..] = data else { return };
    let charsets = [
        "auto",
        "utf-8",
        "shift_jis",
        "euc-jp",
        "iso-2022-jp",
        "latin1",
    ];
    let charset = Charset::named(charsets[usize::from(*charset) % charsets.len()]).unwrap();
    let frame = charset.decode(frame);
    for zone in ["UTC", "Asia/Tokyo", "America/Sao_Paulo"] {
        let zone = Zone::named(zone).unwrap();
        for received in [NOW, Timestamp::MIN, Timestamp::from_ns(u64::MAX)] {
            let message = Message::parse_in(&frame, received, zone);
            assert!(message.line.len() <= frame.len() && message.data.len() <= 32);
            if let Some(host) = &message.host {
                assert_eq!(&inert(host.as_bytes()), host);
            }
        }
    }
}

/// A user's pattern, template and line: an error, or a match that is bounded.
pub fn rules(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (pattern, subject) = (text(), text());
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let config = json!({
        "name": "r", "match": pattern, "subject": subject,
        "filter": some(text()), "unless": some(text()),
    });
    let config: RuleConfig = serde_json::from_value(config).unwrap();
    let Ok(rules) = Rules::new(&[config]) else {
        return;
    };
    let bytes = parts.next().unwrap_or(data);
    let line = Line {
        kind: Kind::Syslog,
        source: "s",
        file: None,
        bytes,
        host: "h",
        severity: None,
        facility: None,
    };
    for verdict in rules.judge(&line, NOW, NOW).0 {
        if let Verdict::Fires(trigger) = verdict {
            check(&trigger);
        }
    }
}

/// A log file that only grows, in pieces of any size: its lines are those that were written. One
/// that is cut or replaced in between still gives bounded lines.
pub fn logfile(data: &[u8]) {
    let [step, rest @ ..] = data else { return };
    let path = scratch().join("log");
    let mut file = File::create(&path).unwrap();
    let mut tail = Tail::new(&path, None);
    let mut found = Vec::new();
    let mut steps = |tail: &mut Tail| {
        loop {
            let step = tail.step();
            for line in step.lines {
                assert!(line.bytes.len() <= LINE_BYTES_MAX);
                found.push(line.bytes);
            }
            if !step.more {
                break;
            }
        }
    };
    steps(&mut tail);
    let turns = step % 4 == 3;
    for piece in rest.chunks(usize::from(*step) + 64) {
        if turns && piece.len() % 3 == 0 {
            file = File::create(path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), &path).unwrap();
        } else if turns && piece.len() % 3 == 1 {
            file.set_len(0).unwrap();
        }
        file.write_all(piece).unwrap();
        steps(&mut tail);
    }
    if !turns {
        let whole = rest.split_inclusive(|byte| *byte == b'\n');
        let whole = whole.filter_map(|line| line.strip_suffix(b"\n"));
        let whole = whole.map(|line| {
            let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | 0));
            let line = &line[..end.map_or(0, |end| end + 1)];
            &line[line.iter().position(|byte| *byte != 0).unwrap_or(0)..]
        });
        let whole: Vec<&[u8]> = whole.filter(|line| !line.is_empty()).collect();
        assert_eq!(found, whole);
    }
}

/// SNMP messages of every version, from anybody.
pub fn trap(data: &[u8]) {
    EAR.with(|ear| {
        let mut ear = ear.borrow_mut();
        let ear = ear.get_or_insert_with(|| trap::Ear::new(&scratch()));
        let _told = ear.hear(data);
    });
}

/// What SNMP messages are written in.
pub fn ber(data: &[u8]) {
    trap::elements(data, 8);
}
