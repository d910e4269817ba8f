//! Exports are read back by ourselves and by the tools an analyst has.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etherparse::PacketBuilder;

use super::*;
use crate::pcapng::decode::Block;
use crate::pcapng::isb::Sample;
use crate::pcapng::stream::{Blocks, Next};
use crate::ring::fixture::{Segment, source};

/// An instant of 2023 in whose neighbourhood the tests live.
const T: u64 = 1_700_000_000_000_000_000;

fn udp(port: u16, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(5000, port)
        .write(&mut out, &vec![7; payload])
        .unwrap();
    out
}

fn window(from: u64, to: u64) -> Window {
    Window::new(Timestamp::from_ns(T + from), Timestamp::from_ns(T + to))
}

fn request(root: &Path, window: Window) -> ExportRequest {
    ExportRequest {
        sources: sources_in(root).unwrap(),
        window,
        filter: None,
        format: Format::Pcapng,
        comments: vec!["incident: 20231114T221320Z-abcdef".to_owned()],
        cancel: Cancel::default(),
    }
}

fn export(request: ExportRequest) -> Result<(Summary, Vec<u8>), ExportError> {
    let mut out = Vec::new();
    let summary = Plan::prepare(request)?.write_to(&mut out)?;
    Ok((summary, out))
}

/// Interface name, time since `T` and length of each packet, and all samples.
fn read_back(bytes: &[u8]) -> (Vec<(String, u64, usize)>, Vec<Sample>) {
    let mut blocks = Blocks::new(bytes);
    let (mut packets, mut samples) = (Vec::new(), Vec::new());
    let mut sections = 0;
    loop {
        let (interface, at, length) = match blocks.next().unwrap() {
            Next::Block(Block::Packet(packet)) => (packet.interface, packet.at, packet.data.len()),
            Next::Block(Block::Statistics(found)) => {
                samples.push(found.sample().unwrap());
                continue;
            }
            Next::Block(Block::Section(_)) => {
                sections += 1;
                continue;
            }
            Next::Block(_) => continue,
            Next::End => break,
            Next::Torn { offset } => panic!("torn at {offset}"),
        };
        let name = blocks.interface(interface).unwrap().name.clone().unwrap();
        packets.push((name, at.as_ns() - T, length));
    }
    assert_eq!(sections, 1);
    (packets, samples)
}

/// Two interfaces of two segments each, at 10 ns steps, interleaved.
fn two_interfaces() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (interface, shift) in [("eth0", 0), ("eth1", 5)] {
        for number in 0..2 {
            let mut segment = Segment::new(interface, number);
            for i in 0..10 {
                let at = T + number * 100 + i * 10 + shift;
                segment = segment.packet(at, &udp(53 + u16::try_from(number).unwrap(), 20));
            }
            segment
                .sealed(T + number * 100 + 99, 12 * (number + 1), 2 * (number + 1))
                .write(root.path());
        }
    }
    root
}

#[test]
fn interfaces_are_merged_by_time_and_trimmed_to_the_nanosecond() {
    let root = two_interfaces();
    let (summary, bytes) = export(request(root.path(), window(35, 120))).unwrap();
    let (packets, samples) = read_back(&bytes);
    let times: Vec<u64> = packets.iter().map(|packet| packet.1).collect();
    let expected: Vec<u64> = (35..120).step_by(5).collect();
    assert_eq!(times, expected);
    assert!(
        packets
            .iter()
            .all(|(name, at, _)| (name == "eth1") == (at % 10 == 5))
    );
    assert_eq!(summary.packets, 17);
    assert_eq!(summary.first.unwrap().as_ns(), T + 35);
    assert_eq!(summary.last.unwrap().as_ns(), T + 115);
    // Both segments end with what became of 24 packets; nothing tells the first seconds apart.
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0].counters.received, 22);
    assert_eq!(samples[0].counters.dropped_kernel, 2);
    assert_eq!(summary.damaged, Vec::<String>::new());
}

#[test]
fn the_edges_of_the_window_are_half_open() {
    let root = two_interfaces();
    for (from, to, count) in [
        (10, 11, 1),
        (9, 10, 0),
        (10, 10, 0),
        (10, 15, 1),
        (10, 16, 2),
    ] {
        let packets = match export(request(root.path(), window(from, to))) {
            Ok((summary, _)) => summary.packets,
            Err(ExportError::Nothing { .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(packets, count, "[{from}, {to})");
    }
}

#[test]
fn a_step_of_the_clock_loses_no_packet() {
    let root = tempfile::tempdir().unwrap();
    Segment::new("eth0", 0)
        .packet(T + 500, &udp(1, 1))
        .packet(T + 600, &udp(1, 1))
        .packet(T + 50, &udp(1, 1))
        .packet(T + 70, &udp(1, 1))
        .write(root.path());
    Segment::new("eth0", 1)
        .packet(T + 60, &udp(1, 1))
        .packet(T + 900, &udp(1, 1))
        .write(root.path());
    let (summary, _) = export(request(root.path(), window(50, 80))).unwrap();
    assert_eq!(summary.packets, 3);
}

#[test]
fn a_filter_asks_for_the_length_on_the_wire() {
    let root = tempfile::tempdir().unwrap();
    Segment::new("eth0", 0)
        .snapped(T, 1400, &udp(53, 1358)[..96])
        .packet(T + 1, &udp(53, 20))
        .write(root.path());
    let mut greater = request(root.path(), window(0, 10));
    greater.filter = Some("greater 1000".to_owned());
    let (summary, bytes) = export(greater).unwrap();
    assert_eq!((summary.packets, summary.bytes), (1, 96));
    let mut blocks = Blocks::new(&bytes[..]);
    let orig_len = loop {
        if let Next::Block(Block::Packet(packet)) = blocks.next().unwrap() {
            break packet.orig_len;
        }
    };
    assert_eq!(orig_len, 1400);
}

#[test]
fn nothing_comes_with_its_reason() {
    let root = two_interfaces();
    let text = |request: ExportRequest| match export(request) {
        Err(ExportError::Nothing {
            packets_in_window,
            text,
            ..
        }) => (packets_in_window, text),
        other => panic!("{other:?}"),
    };
    let mut filtered = request(root.path(), window(0, 100));
    filtered.filter = Some("tcp".to_owned());
    let (count, reason) = text(filtered);
    assert_eq!(count, 20);
    assert!(
        reason.contains("none of them matches the filter \"tcp\""),
        "{reason}"
    );
    let early = Window::new(Timestamp::from_ns(1), Timestamp::from_ns(2));
    assert!(text(request(root.path(), early)).1.contains("rotated away"));
    let (_, reason) = text(request(root.path(), window(10_000_000_000, 20_000_000_000)));
    assert!(reason.contains("lies behind the recording"), "{reason}");
    assert!(
        text(request(root.path(), window(1, 2)))
            .1
            .contains("no packet was captured")
    );
    assert!(
        text(request(root.path(), window(2, 1)))
            .1
            .contains("ends before it begins")
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        text(request(empty.path(), window(0, 9))).1,
        "nothing is recorded here"
    );
}

#[test]
fn a_bad_filter_is_told_in_libpcaps_words() {
    let root = two_interfaces();
    let empty = tempfile::tempdir().unwrap();
    for dir in [root.path(), empty.path()] {
        let mut bad = request(dir, window(0, 100));
        bad.filter = Some("tcp prot 80".to_owned());
        let Err(ExportError::BadFilter(words)) = export(bad) else {
            panic!("taken");
        };
        assert!(words.contains("syntax error"), "{words}");
    }
}

#[test]
fn a_classic_pcap_holds_one_link_type() {
    let root = two_interfaces();
    let mut raw = Segment::new("tun0", 0).packet(T + 7, &udp(53, 20)[14..]);
    raw.linktype = 101;
    raw.snaplen = 96;
    raw.write(root.path());
    let mut pcap = request(root.path(), window(0, 100));
    pcap.format = Format::Pcap;
    let Err(ExportError::MixedLinktypes(text)) = export(pcap.clone()) else {
        panic!("taken");
    };
    assert_eq!(text, "eth0, eth1: 1; tun0: 101");
    pcap.sources.retain(|source| source.interface == "tun0");
    assert_eq!(export(pcap).unwrap().0.packets, 1);
    let mut filtered = request(root.path(), window(0, 100));
    filtered.filter = Some("udp port 53".to_owned());
    assert_eq!(export(filtered).unwrap().0.packets, 21);
}

#[test]
fn a_damaged_segment_gives_what_is_whole_and_is_named() {
    let root = two_interfaces();
    let bad = Segment::new("eth0", 2)
        .packet(T + 300, &udp(1, 9))
        .packet(T + 310, &udp(1, 9));
    let path = bad.write(root.path());
    let mut bytes = bad.bytes();
    let second = bytes.len() - crate::pcapng::encode::epb_len(udp(1, 9).len());
    bytes[second + 4] = 13;
    fs::write(&path, bytes).unwrap();
    fs::write(
        path.with_file_name("seg-00000000000000000003-1700000000000000400.pcapng"),
        b"nonsense",
    )
    .unwrap();
    let (summary, _) = export(request(root.path(), window(300, 400))).unwrap();
    assert_eq!(summary.packets, 1);
    assert_eq!(summary.damaged.len(), 2, "{:?}", summary.damaged);
    assert!(
        summary
            .damaged
            .iter()
            .any(|text| text.contains("block length 13 is impossible"))
    );
}

#[test]
fn rotation_takes_nothing_that_was_promised() {
    let root = two_interfaces();
    let plan = Plan::prepare(request(root.path(), window(0, 200))).unwrap();
    for source in sources_in(root.path()).unwrap() {
        fs::remove_dir_all(&source.dirs[0]).unwrap();
    }
    let summary = plan.write_to(&mut Vec::new()).unwrap();
    assert_eq!((summary.packets, summary.damaged.len()), (40, 0));
}

#[test]
fn a_long_window_is_held_as_it_is_read_and_what_went_is_named() {
    let root = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for number in 0..200 {
        let segment = Segment::new("eth0", number).packet(T + number, &udp(1, 1));
        paths.push(segment.write(root.path()));
    }
    let plan = Plan::prepare(request(root.path(), window(0, 200))).unwrap();
    // Within the hold: given. Beyond it: named.
    fs::remove_file(&paths[30]).unwrap();
    fs::remove_file(&paths[150]).unwrap();
    let summary = plan.write_to(&mut Vec::new()).unwrap();
    assert_eq!(summary.packets, 199);
    assert_eq!(summary.damaged.len(), 1);
    assert!(
        summary.damaged[0].contains("seg-00000000000000000150"),
        "{:?}",
        summary.damaged
    );
}

#[test]
fn tcpdump_reads_interfaces_of_different_snaplen() {
    let root = two_interfaces();
    let mut short = Segment::new("eth2", 0).packet(T + 7, &udp(53, 20));
    short.snaplen = 96;
    short.write(root.path());
    let (summary, bytes) = export(request(root.path(), window(0, 50))).unwrap();
    assert_eq!(summary.packets, 11);
    let path = root.path().join("out.pcapng");
    fs::write(&path, bytes).unwrap();
    assert_eq!(tool("tcpdump", &["-n", "-r"], &path).lines().count(), 11);
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let root = two_interfaces();
    let plan = Plan::prepare(request(root.path(), window(0, 50))).unwrap();
    assert!(matches!(
        plan.write_to(&mut Full),
        Err(ExportError::Write(_))
    ));
}

#[test]
fn links_are_no_sources() {
    let root = two_interfaces();
    std::os::unix::fs::symlink(root.path().join("eth0"), root.path().join("eth9")).unwrap();
    fs::write(root.path().join("control.sock"), b"").unwrap();
    let expected = [source(root.path(), "eth0"), source(root.path(), "eth1")];
    assert_eq!(sources_in(root.path()).unwrap(), expected);
}

/// Runs a tool on a file; it must succeed without a warning.
fn tool(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Not about the file: tcpdump names what it reads, tshark minds being root.
    let expected = |line: &str| {
        line.starts_with("reading from file")
            || line.starts_with("Running as user \"root\"")
            || line.starts_with("dropped privs to")
    };
    let warnings: Vec<&str> = said.lines().filter(|line| !expected(line)).collect();
    assert!(
        output.status.success() && warnings.is_empty(),
        "{program}: {said}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_tools_of_an_analyst_read_every_output() {
    let root = two_interfaces();
    let dir = tempfile::tempdir().unwrap();
    for (format, name) in [(Format::Pcapng, "out.pcapng"), (Format::Pcap, "out.pcap")] {
        let mut wanted = request(root.path(), window(0, 150));
        wanted.format = format;
        let (summary, bytes) = export(wanted).unwrap();
        assert_eq!(summary.packets, 30);
        let path: PathBuf = dir.path().join(name);
        fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let lines = tool("tcpdump", &["--nano", "-tt", "-n", "-r"], &path);
        assert_eq!(lines.lines().count(), 30);
        assert!(
            lines.starts_with("1700000000.000000000 IP 192.0.2.1.5000"),
            "{lines}"
        );
        let lines = tool(
            "tshark",
            &[
                "-n",
                "-T",
                "fields",
                "-e",
                "frame.time_epoch",
                "-e",
                "frame.interface_name",
                "-r",
            ],
            &path,
        );
        assert_eq!(lines.lines().count(), 30);
        if format == Format::Pcapng {
            assert_eq!(lines.lines().nth(1).unwrap(), "1700000000.000000005\teth1");
            let info = tool("capinfos", &[], &path);
            for text in [
                "incident: 20231114T221320Z-abcdef",
                "covered: [",
                "Name = eth1",
                "not port 22",
                "Time precision = nanoseconds",
            ] {
                assert!(info.contains(text), "{text} is missing in {info}");
            }
        }
        let capinfos = tool("capinfos", &["-T", "-r", "-c"], &path);
        assert!(capinfos.trim_end().ends_with("30"), "{capinfos}");
        let copy = dir.path().join("copy.pcapng");
        let status = Command::new("editcap")
            .arg(&path)
            .arg(&copy)
            .output()
            .unwrap();
        assert!(
            status.status.success() && status.stderr.is_empty(),
            "{status:?}"
        );
        tool("capinfos", &["-c"], &copy);
    }
}

#[test]
fn a_bundle_is_a_tar_that_tar_reads() {
    let root = tempfile::tempdir().unwrap();
    let incident = root.path().join("20231114T221320Z-abcdef");
    Segment::new("eth0", 0)
        .packet(T, &udp(1, 9))
        .write(&incident.join("segments"));
    fs::write(incident.join("manifest.json"), b"{}").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", incident.join("link")).unwrap();
    let path = root.path().join("bundle.tar");
    let mut out = fs::File::create(&path).unwrap();
    bundle(&incident, "20231114T221320Z-abcdef", &mut out).unwrap();
    let listing = tool("tar", &["-tf"], &path);
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(
        lines,
        [
            "20231114T221320Z-abcdef/manifest.json",
            "20231114T221320Z-abcdef/segments/eth0/seg-00000000000000000000-1700000000000000000.pcapng",
        ]
    );
}

#[test]
fn what_is_cancelled_ends_before_and_after_the_first_packet() {
    let root = two_interfaces();
    let wanted = || ExportRequest {
        filter: Some("udp port 53".to_owned()),
        ..request(root.path(), window(0, 200))
    };
    let early = wanted();
    early.cancel.cancel();
    let refused = Plan::prepare(early).unwrap_err();
    assert!(matches!(refused, ExportError::Cancelled), "{refused}");
    let late = wanted();
    let cancel = late.cancel.clone();
    let plan = Plan::prepare(late).unwrap();
    cancel.cancel();
    let broken_off = plan.write_to(&mut Vec::new()).unwrap_err();
    assert!(matches!(broken_off, ExportError::Cancelled), "{broken_off}");
}
