//! The index against segments written as the recorder writes them.

use std::fs;

use etherparse::PacketBuilder;

use super::*;
use crate::ring::fixture::Segment;

fn at(ns: u64) -> Timestamp {
    Timestamp::from_ns(ns)
}

fn tcp(back: bool, seq: u32, flags: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst, ports) = if back {
        ([192, 0, 2, 80], [10, 0, 0, 1], (443, 40_000))
    } else {
        ([10, 0, 0, 1], [192, 0, 2, 80], (40_000, 443))
    };
    let mut step = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src, dst, 64)
        .tcp(ports.0, ports.1, seq, 1000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'A' => step.ack(1),
            'R' => step.rst(),
            _ => step.psh(),
        };
    }
    let mut out = Vec::new();
    step.write(&mut out, payload).unwrap();
    out
}

fn udp(last: u8, port: u16) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6([last; 16], [0xFD; 16], 64)
        .udp(5353, port)
        .write(&mut out, b"query")
        .unwrap();
    out
}

/// An incident's segments: a TCP flow with a repeat, three UDP flows, one frame of no flow.
fn segments() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Segment::new("eth0", 0)
        .packet(100, &tcp(false, 10, "S", b""))
        .packet(110, &tcp(true, 70, "SA", b""))
        .packet(120, &tcp(false, 11, "AP", b"hello"))
        .packet(130, &tcp(false, 11, "AP", b"hello"))
        .packet(140, &tcp(true, 71, "RA", b""))
        .packet(999, &udp(9, 53))
        .write(dir.path());
    Segment::new("eth1", 0)
        .packet(105, &udp(1, 53))
        .packet(106, &udp(2, 5354))
        .packet(107, &udp(2, 5354))
        .packet(108, &[0xEE; 60])
        .write(dir.path());
    dir
}

fn window() -> Window {
    Window::new(at(100), at(200))
}

fn opened() -> (tempfile::TempDir, Index) {
    let state = tempfile::tempdir().unwrap();
    let index = Index::open(&state.path().join("index.sqlite")).unwrap();
    (state, index)
}

fn find(index: &Index, q: &str) -> FlowPage {
    let query = FlowQuery {
        q: q.to_owned(),
        ..FlowQuery::default()
    };
    index.flows("one", &query).unwrap()
}

#[test]
fn an_incident_is_indexed_once_however_often_it_is_asked_for() {
    let (_state, index) = opened();
    let dir = segments();
    assert!(!index.indexed("one"));
    assert_eq!(find(&index, ""), FlowPage::default());
    for _ in 0..2 {
        let summary = index.index_incident("one", dir.path(), window()).unwrap();
        let expected = IndexedSummary {
            flows: 3,
            packets: 9,
            other_packets: 1,
            damaged: vec![],
        };
        assert_eq!(summary, expected);
    }
    assert!(index.indexed("one"));
    let page = find(&index, "");
    assert_eq!((page.total, page.indexed), (4, true));
    let flow = &page.flows[0];
    assert_eq!(
        serde_json::to_value(flow).unwrap(),
        serde_json::json!({
            "interface": "eth0", "protocol": "tcp", "src": "10.0.0.1", "src_port": 40000,
            "dst": "192.0.2.80", "dst_port": 443,
            "first": "1970-01-01T00:00:00.000000100Z", "last": "1970-01-01T00:00:00.000000140Z",
            "packets_to": 3, "packets_back": 2, "bytes_to": 54 + 59 + 59, "bytes_back": 108,
            "tcp_flags": "SAPR", "syn_unanswered": 0, "rst": 1, "retransmissions": 1
        })
    );
    index.remove("one").unwrap();
    assert!(!index.indexed("one") && !find(&index, "").indexed);
}

#[test]
fn flows_are_found_by_address_port_and_protocol() {
    let (_state, index) = opened();
    index
        .index_incident("one", segments().path(), window())
        .unwrap();
    for (q, total) in [
        ("", 4),
        ("tcp", 1),
        ("UDP", 2),
        ("other", 1),
        ("192.0.2", 1),
        ("443", 1),
        ("53", 1),
        ("5353", 2),
        ("udp 5354", 1),
        ("tcp 5354", 0),
        ("101:101", 1),
        ("%", 0),
        ("_", 0),
        ("\\", 0),
        ("' OR 1=1 --", 0),
        ("a b c d e f g h i j k", 0),
    ] {
        assert_eq!(find(&index, q).total, total, "{q}");
    }
}

#[test]
fn flows_come_in_order_and_by_the_page() {
    let (_state, index) = opened();
    index
        .index_incident("one", segments().path(), window())
        .unwrap();
    let query = |sort, order, limit, offset| {
        let query = FlowQuery {
            q: String::new(),
            sort,
            order,
            limit,
            offset,
        };
        let page = index.flows("one", &query).unwrap();
        assert_eq!(page.total, 4);
        page.flows
            .iter()
            .map(|flow| flow.first.as_ns())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        query(FlowSort::First, SortOrder::Asc, 10, 0),
        [100, 105, 106, 108]
    );
    assert_eq!(query(FlowSort::First, SortOrder::Desc, 2, 1), [106, 105]);
    assert_eq!(query(FlowSort::Packets, SortOrder::Desc, 2, 0), [100, 106]);
    assert_eq!(query(FlowSort::Rst, SortOrder::Desc, 1, 0), [100]);
    assert_eq!(query(FlowSort::First, SortOrder::Asc, 0, 0), [100]);
}

#[test]
fn a_timeline_is_counted_and_a_sealed_one_is_kept() {
    let (_state, index) = opened();
    let dir = segments();
    index.index_incident("one", dir.path(), window()).unwrap();
    let counted = index
        .timeline("one", dir.path(), window(), 10, false)
        .unwrap();
    assert!(counted.provisional);
    assert_eq!(counted.bucket_ns, 10);
    assert_eq!(
        counted.interfaces[0].packets,
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        counted.interfaces[1].packets,
        [4, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(counted.interfaces[0].bytes[2], 59);
    let sealed = index
        .timeline("one", dir.path(), window(), 10, true)
        .unwrap();
    assert!(!sealed.provisional);
    fs::remove_dir_all(dir.path().join("eth0")).unwrap();
    assert_eq!(
        index
            .timeline("one", dir.path(), window(), 10, true)
            .unwrap(),
        sealed
    );
    index.remove("one").unwrap();
    let again = index
        .timeline("one", dir.path(), window(), 10, true)
        .unwrap();
    assert_eq!(again.interfaces.len(), 1);
}

#[test]
fn buckets_cover_the_window_whatever_its_length() {
    for (length, buckets) in [
        (0, 300),
        (1, 10),
        (7, 10),
        (999, 10),
        (1001, 1000),
        (u64::MAX, 5000),
    ] {
        let to = at(1).as_ns().saturating_add(length);
        let window = Window::new(at(1), at(to));
        let timeline = timeline::histogram(&[], window, buckets).unwrap();
        let span = window.length().as_nanos();
        assert!(span.div_ceil(u128::from(timeline.bucket_ns)) <= 1000);
    }
}

#[test]
fn a_useless_file_is_moved_aside() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("index.sqlite");
    let refused = |path: &Path| {
        let index = Index::open(path).unwrap();
        let aside = index.moved_aside().expect("not moved aside").to_owned();
        assert!(aside.exists());
        index
            .index_incident("one", segments().path(), window())
            .unwrap();
        assert_eq!(find(&index, "").total, 4);
    };
    fs::write(&path, b"this is no database, it is a letter to the editor").unwrap();
    refused(&path);
    assert!(Index::open(&path).unwrap().moved_aside().is_none());
    // Of another program.
    fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE bookmark (url)")
        .unwrap();
    refused(&path);
    // Of a later version of ours.
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    refused(&path);
    // Damaged in the middle.
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 8192);
    bytes[4096..].fill(0x5A);
    fs::write(&path, bytes).unwrap();
    refused(&path);
}

#[test]
fn a_rebuild_equals_what_was_there_and_names_what_it_cannot_read() {
    let (_state, index) = opened();
    let dir = segments();
    index.index_incident("one", dir.path(), window()).unwrap();
    index.index_incident("gone", dir.path(), window()).unwrap();
    let before = find(&index, "");
    let file = dir
        .path()
        .join("eth0")
        .read_dir()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let incidents = [
        ("one".to_owned(), dir.path().to_owned(), window()),
        ("bad".to_owned(), file, window()),
    ];
    let mut told = Vec::new();
    let rebuilt = index
        .rebuild(incidents, |id, answer| {
            told.push((id.to_owned(), answer.is_ok()));
        })
        .unwrap();
    assert_eq!((rebuilt.incidents, rebuilt.failed.len()), (1, 1));
    assert_eq!(told, [("one".to_owned(), true), ("bad".to_owned(), false)]);
    let key = |page: &FlowPage| {
        let mut flows = page.flows.clone();
        flows.sort_by_key(|flow| (flow.first, flow.interface.clone()));
        flows
    };
    assert_eq!(key(&find(&index, "")), key(&before));
    assert!(!index.indexed("gone"));
}

#[test]
fn a_file_put_in_place_of_the_first_is_written_to() {
    let (state, index) = opened();
    let path = state.path().join("index.sqlite");
    let dir = segments();
    index.index_incident("one", dir.path(), window()).unwrap();
    fs::remove_file(&path).unwrap();
    let other = Index::open(&path).unwrap();
    other.index_incident("one", dir.path(), window()).unwrap();
    index.index_incident("two", dir.path(), window()).unwrap();
    for index in [&index, &other] {
        assert!(index.indexed("one") && index.indexed("two"));
    }
    other.remove("one").unwrap();
    index.remove("two").unwrap();
    assert!(!index.indexed("one") && !other.indexed("two"));
}

#[test]
fn a_file_that_is_gone_is_made_again() {
    let (state, index) = opened();
    let dir = segments();
    index.index_incident("one", dir.path(), window()).unwrap();
    for file in state.path().read_dir().unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(!index.indexed("one"));
    index.index_incident("two", dir.path(), window()).unwrap();
    assert!(index.indexed("two"));
}

#[test]
fn a_timeline_does_without_the_database() {
    let (state, index) = opened();
    let dir = segments();
    let ask = || index.timeline("one", dir.path(), window(), 10, true);
    let counted = ask().unwrap();
    let path = state.path().join("index.sqlite");
    fs::remove_file(&path).unwrap();
    // Neither readable nor to be replaced.
    fs::create_dir(&path).unwrap();
    assert_eq!(ask().unwrap(), counted);
    assert!(index.index_incident("one", dir.path(), window()).is_err());
}
