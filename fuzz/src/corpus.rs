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
    let (mut fill, read) = slots.pop().unwrap().begin(2, at(1000));
    fill.tail()[..held.len()].copy_from_slice(held);
    fill.commit(held.len());
    let bytes = [&[0][..], &fs::read(&path).unwrap()].concat();
    drop(Slot::rejoin(fill, read));
    bytes
}

/// linkDown of Gi0/3, as net-snmp writes it: an inform of version 2c, a trap of version 1.
const INFORM: &str = "306802010104067075626c6963a65b0201070201000201003050300e06082b06010201010300430227103017060a2b06010603010104010006092b0601060301010503300f060a2b0601020102020108030201023014060b2b060102011f010101010304054769302f33";
const TRAP_V1: &str = "304f02010004067075626c6963a44206082b06010401bf08034004c000024d0201020201004301013027300f060a2b0601020102020108030201023014060b2b060102011f010101010304054769302f33";
