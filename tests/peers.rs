//! The parts of `make bench-peers` that its figures rest on: frames, counting, medians, the search,
//! the chart.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(dead_code, reason = "the rest is used by the benchmark itself")]

use std::fs;
use std::path::Path;

use wirewitness::pcapng::encode::{self, Interface, Section, epb, epb_len};
use wirewitness::time::Timestamp;

#[path = "../benches/peers/count.rs"]
mod count;
#[path = "../benches/peers/frames.rs"]
mod frames;
#[path = "../benches/peers/search.rs"]
mod search;
#[path = "../benches/peers/stats.rs"]
mod stats;
#[path = "../benches/peers/svg.rs"]
mod svg;

use count::Tally;
use frames::{Frames, Mix};
use search::{Probe, Search};
use stats::{Spread, figure};

/// Frames of these numbers.
fn frames_of(numbers: &[u64], mix: Mix) -> Vec<Vec<u8>> {
    let frames = Frames::new(mix);
    let frame = |&number: &u64| {
        let mut buffer = [0; 1514];
        let length = frames.write(number, &mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    numbers.iter().map(frame).collect()
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
        bytes.extend([[0; 4], [0; 4], length, length].concat());
        bytes.extend(frame);
    }
    fs::write(path, bytes).unwrap();
}

fn write_pcapng(path: &Path, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    encode::section_header(&mut bytes, &Section::default());
    encode::interface(&mut bytes, &Interface::default());
    for frame in frames {
        let mut block = vec![0; epb_len(frame.len())];
        let length = u32::try_from(frame.len()).unwrap();
        epb(&mut block, 0, Timestamp::from_ns(1), length, frame).unwrap();
        bytes.extend(block);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn frames_are_valid_and_carry_their_number() {
    let all = frames_of(&(0..24).collect::<Vec<_>>(), Mix::Imix);
    let of_size = |bytes| all.iter().filter(|frame| frame.len() == bytes).count();
    assert_eq!([64, 576, 1514].map(of_size), [14, 8, 2]);
    for (number, frame) in (0..).zip(&all) {
        assert_eq!(frames::number(frame), Some(number));
        let packet = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = packet.net else {
            panic!("no IPv4 in {frame:?}");
        };
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(usize::from(ip.total_len), frame.len() - 14);
    }
    assert_eq!(frames::number(&[0; 64]), None);
}

#[test]
fn loss_and_copies_are_counted_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    let frames = frames_of(&[0, 1, 1, 3], Mix::Fixed(64));
    let more = frames_of(&[5, 4], Mix::Imix);
    write_pcap(&folder.path().join("capture"), &frames);
    fs::create_dir(folder.path().join("ring")).unwrap();
    write_pcapng(&folder.path().join("ring/seg-1.pcapng"), &more);
    fs::write(folder.path().join("log"), "not a capture").unwrap();
    let mut tally = Tally::default();
    tally.add_folder(folder.path()).unwrap();
    assert_eq!((tally.distinct(), tally.doubled()), (5, 1));
    assert_eq!((tally.torn, tally.others), (0, 0));

    let torn = folder.path().join("capture");
    let bytes = fs::read(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() - 1]).unwrap();
    let mut tally = Tally::default();
    tally.add_folder(folder.path()).unwrap();
    assert_eq!((tally.distinct(), tally.torn), (4, 1));
}

#[test]
fn medians_and_figures() {
    let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
    assert_eq!(spread.text(), "2.00 (1.00-3.00)");
    assert_eq!(Spread::of([1.0, 2.0]).unwrap().text(), "1.50 (1.00-2.00)");
    assert_eq!(Spread::of([7.0]).unwrap().text(), "7.00");
    assert_eq!(Spread::of([]), None);
    assert_eq!(figure(0.0), "0");
    assert_eq!(figure(0.000_04), "<0.001");
    assert_eq!(figure(123.4), "123");
}

/// Runs a search against a recorder that loses above `limit`, with a sender that can `most`.
fn searched(limit: u64, most: u64) -> Search {
    let mut search = Search::default();
    let mut runs = 0;
    while let Some(probe) = search.next() {
        let offered = match probe {
            Probe::FlatOut => most,
            Probe::Rate(rate) => rate,
        };
        search.note(offered, offered.min(limit), offered > limit);
        runs += 1;
        assert!(runs <= 10);
    }
    search
}

#[test]
fn the_search_finds_the_limit_or_says_that_there_is_none() {
    let found = searched(300_000, 800_000).found().unwrap();
    assert!((285_000..=300_000).contains(&found.rate), "{found:?}");
    assert!(!found.at_least && found.confirmed >= 3, "{found:?}");
    let found = searched(900_000, 800_000).found().unwrap();
    assert_eq!((found.rate, found.at_least), (800_000, true));
    assert_eq!(searched(0, 800_000).found(), None);
}

#[test]
fn the_chart_is_well_formed_and_shows_each_bar() {
    let bars = vec![Spread::of([0.05, 0.07]), None, Spread::of([0.000_1])];
    let chart = svg::Chart {
        title: "cost <b>".to_owned(),
        scale: svg::Scale::Log,
        series: ["a", "b", "c"]
            .map(|name| (name.to_owned(), "#888"))
            .to_vec(),
        groups: vec![("64".to_owned(), bars)],
    };
    let text = svg::draw(&[chart]);
    assert_eq!(text.matches("<title>").count(), 2);
    assert!(text.contains("cost &lt;b>") && text.contains("0.060"));
    assert!(text.contains("&lt;0.001") && !text.contains("<0"));
    assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
    assert!(!text.contains("NaN") && !text.contains("inf"));
}
