//! The hot paths: what every packet costs on its way in, and on its way out.
//!
//! `make bench`. Sizes are 64 bytes (the worst rate) and 1514 bytes (the usual one).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wirewitness::packet::filter::BpfFilter;
use wirewitness::packet::flow::sight;
use wirewitness::pcapng::encode::{self, Interface, Section, epb, epb_len};
use wirewitness::pcapng::stream::{Blocks, Next};
use wirewitness::time::Timestamp;

const SIZES: [usize; 2] = [64, 1514];
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// A TCP segment of 10.0.0.1:4660 to 10.0.0.2:443.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    let total = u16::try_from(bytes - 14).unwrap().to_be_bytes();
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14..18].copy_from_slice(&[0x45, 0, total[0], total[1]]);
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..38].copy_from_slice(&[0x12, 0x34, 0x01, 0xbb]);
    frame[46..48].copy_from_slice(&[0x50, 0x10]);
    frame
}

/// A section of a thousand packets.
fn section(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::section_header(&mut bytes, &Section::default());
    let interface = Interface {
        linktype: ETHERNET,
        snaplen: 262_144,
        name: "bench0",
        ..Interface::default()
    };
    encode::interface(&mut bytes, &interface);
    let length = u32::try_from(frame.len()).unwrap();
    for n in 0..1000 {
        let mut block = vec![0; epb_len(frame.len())];
        epb(&mut block, 0, Timestamp::from_ns(n), length, frame).unwrap();
        bytes.extend(block);
    }
    bytes
}

/// Into the slot: one block per packet.
fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for size in SIZES {
        let frame = frame(size);
        let mut slot = vec![0; epb_len(size)];
        let length = u32::try_from(size).unwrap();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let at = Timestamp::from_ns(1_800_000_000_000_000_000);
            bencher.iter(|| epb(black_box(&mut slot), 0, at, length, black_box(&frame)));
        });
    }
}

/// Out of a segment: export, index and sealing read every block.
fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode 1000");
    for size in SIZES {
        let bytes = section(&frame(size));
        group.throughput(Throughput::Elements(1000));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let mut blocks = Blocks::new(black_box(bytes.as_slice()));
                let mut count = 0;
                while let Next::Block(_) = blocks.next().unwrap() {
                    count += 1;
                }
                count
            });
        });
    }
}

/// What export and index do with each packet.
fn reading(criterion: &mut Criterion) {
    let frame = frame(1514);
    let filter = BpfFilter::compile("host 10.0.0.2 and tcp port 443", 1, 262_144).unwrap();
    criterion.bench_function("filter", |bencher| {
        bencher.iter(|| filter.matches(black_box(&frame), 1514));
    });
    criterion.bench_function("five-tuple", |bencher| {
        bencher.iter(|| sight(1, black_box(&frame), 1514));
    });
}

criterion_group!(hot_paths, encoding, decoding, reading);
criterion_main!(hot_paths);
