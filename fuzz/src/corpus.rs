//! Writes the seeds of `fuzz/corpus`: always the same files, from the program's own encoders.
//! `make fuzz-corpus` runs it.

use std::fs;
use std::path::Path;

use wirewitness_fuzz::counters::Counters;
use wirewitness_fuzz::pcapng::encode::{
    Interface, Section, epb, epb_len, interface, section_header,
};
use wirewitness_fuzz::pcapng::isb::{Detail, SAMPLE_LEN, Sample};
use wirewitness_fuzz::recorder::protocol::{Gap, GapCause, Request};
use wirewitness_fuzz::recorder::slots::{Slot, Slots};
use wirewitness_fuzz::time::{Timestamp, Window};

/// A TCP SYN over Ethernet and IPv4.
const SYN: [u8; 54] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0,
    1, 10, 0, 0, 2, 0x1F, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xFF, 0xFF, 0, 0, 0, 0,
];

fn at(ns: u64) -> Timestamp {
    Timestamp::from_ns(ns)
}

fn main() {
    let root = std::env::args().nth(1).expect("where to: fuzz/corpus");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&root).join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    let (open, sealed) = (segment(false), segment(true));
    put("pcapng", "open", &open);
    put("pcapng", "sealed", &sealed);
    put("pcapng", "torn", &open[..open.len() - 9]);
    put("pcapng", "big-endian", &big_endian());
    put("pcapng", "zeros", &[&open[..], &[0; 64]].concat());

    let piece = |kind: u8, number: u8, bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[kind, number, len[0], len[1]], bytes].concat()
    };
    put(
        "recover",
        "sealed-and-open",
        &[piece(0, 1, &sealed), piece(0, 2, &open)].concat(),
    );
    put("recover", "torn", &piece(0, 2, &open[..open.len() - 9]));
    put(
        "recover",
        "open-before-sealed",
        &[piece(0, 1, &open), piece(0, 2, &sealed)].concat(),
    );
    put(
        "recover",
        "slot",
        &[piece(0, 2, &open[..200]), piece(4, 2, &open)].concat(),
    );
    put(
        "recover",
        "two-slots",
        &[piece(4, 1, &sealed), piece(4, 2, &open)].concat(),
    );
    put(
        "recover",
        "foreign",
        &[piece(2, 2, &open), piece(3, 1, b"mine"), piece(0, 3, b"")].concat(),
    );
    put(
        "recover",
        "last-number",
        &[piece(0, 255, &open), piece(4, 255, &open)].concat(),
    );
    put(
        "recover",
        "counters-at-their-end",
        &piece(0, 1, &full_counters()),
    );
    put(
        "recover",
        "slot-counters-at-their-end",
        &piece(4, 1, &full_counters()),
    );

    for (name, text) in [
        (
            "segment",
            "seg-00000000000000000812-1763892131000000001.pcapng",
        ),
        ("vlan", "eth0.100"),
        ("escaped", "%2Ehidden%C3%A9"),
        ("words", "AAAAAAAABBBBBBBB"),
    ] {
        put("names", name, text.as_bytes());
    }

    let window = Window {
        from: at(1),
        to: at(2),
    };
    let id = "20261123T100211Z-5f3a9c".to_owned();
    for (name, request) in [
        ("status", Request::Status),
        ("flush", Request::Flush),
        (
            "pin",
            Request::Pin {
                id: id.clone(),
                window,
            },
        ),
        ("release", Request::Release { id: id.clone() }),
        ("check", Request::Check { id }),
    ] {
        put("control", name, &serde_json::to_vec(&request).unwrap());
    }
    put(
        "control",
        "reply",
        br#"{"reply":"pinned","complete":true,"segments":[{"interface":"e","name":"s"}]}"#,
    );

    put("slot_file", "as-left", &slot_file(&open));
    put(
        "slot_file",
        "record",
        &[
            &[1_u8][..],
            &record(2, 1, 1000, u64::try_from(open.len()).unwrap()),
            &open,
        ]
        .concat(),
    );
    put(
        "slot_file",
        "beyond",
        &[
            &[2_u8][..],
            &record(1, u64::MAX, u64::MAX, u64::MAX),
            &record(1, 1, 1, 4096),
            &open,
        ]
        .concat(),
    );

    let gap = Gap {
        interface: "eth0".into(),
        from: at(1),
        to: at(2),
        cause: GapCause::RecorderDown,
    };
    let line = serde_json::to_string(&gap).unwrap();
    put("gaps", "two", format!("{line}\n{line}\n").as_bytes());
    put(
        "gaps",
        "torn",
        format!("{line}\n{}", &line[..20]).as_bytes(),
    );
    put(
        "gaps",
        "not-utf8",
        &[line.as_bytes(), b"\n\xFF\xFE\n"].concat(),
    );

    let sample_at = open.len();
    put("isb", "sample", &sealed[sample_at..]);
    put("isb", "words", &[0x41; 80]);

    put("flow", "syn", &[&[0, 0][..], &SYN].concat());
    put("flow", "cut", &[&[0, 4][..], &SYN[..40]].concat());
    put("flow", "raw", &[&[1, 0][..], &SYN[14..]].concat());
    put(
        "flow",
        "vlan",
        &[&[0, 0][..], &SYN[..12], &[0x81, 0, 0, 5], &SYN[12..]].concat(),
    );
    let six = [
        &[0x60, 0, 0, 0, 0, 16, 44, 64][..],
        &[0; 31],
        &[1, 6, 0, 0, 1],
        &[0; 12],
    ]
    .concat();
    put("flow", "ipv6-fragment", &[&[1, 0][..], &six].concat());

    put("chain", "one", CHAIN.as_bytes());
    put("chain", "torn", &CHAIN.as_bytes()[..CHAIN.len() - 3]);

    let stamp = stamp_of_ours().encode();
    put("probe", "reply", &[&[0; 8][..], &stamp].concat());
    put(
        "probe",
        "reply-v6",
        &[&[129, 0, 0, 0, 0, 0, 0, 0][..], &stamp].concat(),
    );
    let quoted = [&[0x45][..], &[0; 19], &[8, 0, 0, 0, 0, 0, 0, 0], &stamp].concat();
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    put("probe", "unreachable", &error);
    put(
        "probe",
        "unreachable-raw",
        &[&[0x45][..], &[0; 19], &error].concat(),
    );
    let response = b"\xbe\xef\x81\x80\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x1c\0\x01";
    put("probe", "dns", response);
    for (name, message) in [("inform", INFORM), ("version1", TRAP_V1)] {
        put("trap", name, &hex::decode(message).unwrap());
    }

    for (kind, name, body) in BODIES {
        put("webhook", name, &[&[*kind, 0], body.as_bytes()].concat());
    }
    put(
        "webhook",
        "icinga-form",
        b"\x03\x01type=PROBLEM&host=h&state=CRITICAL&output=a%20b&time=1795428131",
    );
    put(
        "webhook",
        "cloudevent-binary",
        b"\x09\x0b2026-11-23T10:02:11Z\nanything",
    );
    put(
        "webhook",
        "signature",
        b"\x0c\x08v1,c2VjcmV0LW9mLXRoZS10ZXN0\n{\"subject\": \"s\"}",
    );
    for (name, message) in MESSAGES {
        put("message", name, message);
    }
    put(
        "rules",
        "captures",
        b"ERROR.* peer=(?P<peer>\\S+)\0{peer} of {host}\0host {peer}\0\0ERROR x peer=192.0.2.1",
    );
    put(
        "rules",
        "unless",
        b"(?i)down\0\0\0admin(istratively)?\0Gi0/1 down",
    );
    put("rules", "large", b"(a{100}){100}\0s\0\0\0aaa");
    put("logfile", "grows", b"\x00one\r\n\ntwo\nthree\0\0\n");
    put(
        "logfile",
        "turns",
        &[&[3][..], &b"a line of a log\n".repeat(20)].concat(),
    );
    for (name, message) in [("inform-v2c", INFORM), ("trap-v1", TRAP_V1)] {
        put("ber", name, &hex::decode(message).unwrap());
    }
    put("syslog", "counted", b"\x0311 <11>message<11>next");
    put("syslog", "lines", b"\x02<11>message\n<13>next\0<14>third\n");
}

fn stamp_of_ours() -> wirewitness_fuzz::probe::stamp::Stamp {
    wirewitness_fuzz::probe::stamp::Stamp {
        instance: 1,
        probe: 2,
        seq: 3,
        sent_ns: 4,
        cookie: 5,
    }
}

/// A line of a chain, as `incident::chain` writes it.
const CHAIN: &str = include_str!("chain.jsonl");

fn head() -> Vec<u8> {
    let mut bytes = Vec::new();
    section_header(
        &mut bytes,
        &Section {
            comments: &["seed".to_owned()],
            ..Section::default()
        },
    );
    let described = Interface {
        linktype: 1,
        snaplen: 65535,
        name: "t",
        filter: "tcp",
        ..Default::default()
    };
    interface(&mut bytes, &described);
    bytes
}

/// Three packets, perhaps sealed.
fn segment(sealed: bool) -> Vec<u8> {
    let mut bytes = head();
    for i in 0..3 {
        let start = bytes.len();
        bytes.resize(start + epb_len(SYN.len()), 0);
        epb(&mut bytes[start..], 0, at(1000 + i), 1514, &SYN).unwrap();
    }
    if sealed {
        end(
            &mut bytes,
            Counters {
                received: 3,
                written: 3,
                ..Counters::default()
            },
            true,
        );
    }
    bytes
}

/// Counters to which nothing can be added, then one more packet.
fn full_counters() -> Vec<u8> {
    let mut bytes = head();
    let all = u64::MAX;
    let counters = Counters {
        received: all,
        written: all,
        written_bytes: all,
        dropped_kernel: all,
        dropped_ring: all,
        dropped_iface: all,
        truncated: 0,
        filtered: 0,
    };
    end(&mut bytes, counters, false);
    let start = bytes.len();
    bytes.resize(start + epb_len(SYN.len()), 0);
    epb(&mut bytes[start..], 0, at(1000), 1514, &SYN).unwrap();
    bytes
}

fn end(bytes: &mut Vec<u8>, counters: Counters, last: bool) {
    let total = (bytes.len() + SAMPLE_LEN).next_multiple_of(4096) - bytes.len();
    Sample {
        at: at(2000),
        start: at(1),
        counters,
        detail: Detail::default(),
        last,
    }
    .encode(bytes, 0, total);
}

/// One interface and a packet of another program's, in the other byte order.
fn big_endian() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [
        0x0A0D_0D0A_u32,
        28,
        0x1A2B_3C4D,
        0x0001_0000,
        u32::MAX,
        u32::MAX,
        28,
    ] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for word in [1_u32, 20, 0x0001_0000, 0, 20] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for word in [6_u32, 36, 0, 0, 1000, 4, 4, 0xDEAD_BEEF, 36] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes
}

fn record(state: u64, number: u64, first: u64, committed: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = [state, number, first, committed]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    bytes.resize(64, 0);
    bytes
}

/// A slot file as a killed recorder leaves it, behind a zero byte.
fn slot_file(held: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("slots");
    let mut slots = Slots::create(&path, 2, 4096).unwrap().into_slots();
    let (mut fill, read) = slots.pop().unwrap().begin(2, at(1000), Timestamp::MIN);
    fill.tail()[..held.len()].copy_from_slice(held);
    fill.advance(held.len());
    fill.publish();
    let bytes = [&[0][..], &fs::read(&path).unwrap()].concat();
    drop(Slot::rejoin(fill, read));
    bytes
}

/// linkDown of Gi0/3, as net-snmp writes it: an inform of version 2c, a trap of version 1.
const INFORM: &str = "306802010104067075626c6963a65b0201070201000201003050300e06082b06010201010300430227103017060a2b06010603010104010006092b0601060301010503300f060a2b0601020102020108030201023014060b2b060102011f010101010304054769302f33";
const TRAP_V1: &str = "304f02010004067075626c6963a44206082b06010401bf08034004c000024d0201020201004301013027300f060a2b0601020102020108030201023014060b2b060102011f010101010304054769302f33";

/// Bodies by the number of their hook's kind.
const BODIES: &[(u8, &str, &str)] = &[
    (
        0,
        "alertmanager",
        r#"{"version":"4","groupKey":"g","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"A","instance":"192.0.2.1:9100"},"annotations":{"summary":"s"},"startsAt":"2026-11-23T10:02:11Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"f"}]}"#,
    ),
    (
        1,
        "grafana",
        r#"{"version":"1","state":"alerting","groupKey":"g","status":"resolved","alerts":[{"status":"resolved","labels":{"alertname":"A"},"startsAt":"2026-11-23T10:02:11Z","endsAt":"2026-11-23T10:03:11Z","fingerprint":"f","values":{"B":1}}]}"#,
    ),
    (
        2,
        "zabbix",
        r#"{"event_id":"1","event_value":"1","host":"h","name":"n","date":"2026.11.23","time":"10:02:11"}"#,
    ),
    (
        4,
        "kuma",
        r#"{"heartbeat":{"monitorID":1,"status":0,"time":"2026-11-23 10:02:11.003","msg":"m"},"monitor":{"name":"n","hostname":"192.0.2.1","basic_auth_pass":"p"},"msg":"m"}"#,
    ),
    (
        5,
        "pagerduty",
        r#"{"event":{"id":"e","event_type":"incident.triggered","occurred_at":"2026-11-23T10:02:11Z","data":{"id":"i","title":"t","service":{"summary":"s"}}}}"#,
    ),
    (
        6,
        "datadog",
        r#"{"id":"1","title":"t","event_type":"metric_alert_monitor","alert_cycle_key":"k","alert_transition":"Triggered","date":"1795428131000","hostname":"h"}"#,
    ),
    (
        7,
        "kibana",
        r#"{"rule":"r","alert_id":"a","group":"threshold met","date":"2026-11-23T10:02:11.003Z","reason":"x"}"#,
    ),
    (
        8,
        "splunk",
        r#"{"result":{"host":"h","_time":"1795428131","_raw":"x"},"sid":"scheduler_1795428131_1","search_name":"n"}"#,
    ),
    (
        9,
        "cloudevent",
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"x","time":"2026-11-23T10:02:11Z","data":{"a":[1,null,{"b":"c"}]}}"#,
    ),
    (
        10,
        "generic",
        r#"{"subject":"s","text":"t","at":"2026-11-23 10:02:11","before":"30s","after":"1m","key":"k","status":"ok","fields":{"a":1}}"#,
    ),
    (
        11,
        "mapped",
        r#"{"a":[{"b":"s"}],"t":"text","at":1795428131.5,"k":1,"s":"resolved"}"#,
    ),
];

/// Headers as devices write them, behind the number of an encoding.
const MESSAGES: &[(&str, &[u8])] = &[
    ("rfc3164", b"\0<34>Nov 23 10:02:11 router1 bgpd[12]: ERROR session down"),
    ("rfc5424", b"\0<165>1 2026-11-23T10:02:11.003Z h app - ID47 [ex@1 a=\"b\\]\"] \xef\xbb\xbftext"),
    ("cisco", b"\0<189>45: core-sw: 000124: .Nov 23 2026 19:02:11.123 JST: %LINK-3-UPDOWN: Gi0/1, down"),
    ("fortigate", b"\0<187>date=2026-11-23 time=19:02:11 devname=\"fw1\" eventtime=1795428131000000000 tz=\"+0900\""),
    ("meraki", b"\0<134>1 1795428131.003 mx84 flows src=192.0.2.1"),
    ("shift-jis", b"\x02<134>[INSPECT] \x83\x8a\x83\x93\x83N"),
    ("euc-jp", b"\x00<134>Nov 23 10:02:11 rtx \xa5\xea\xa5\xf3\xa5\xaf"),
];
