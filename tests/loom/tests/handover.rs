//! The writer and a keeper, in every order of their steps (up to three preemptions; four with
//! `WW_LONG=1`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handover_model::bounded;
use handover_model::pcapng::isb::{SAMPLE_LEN, seals};
use handover_model::recorder::events::Event;
use handover_model::recorder::slots::{BLOCK_BYTES, Slot, Slots};
use handover_model::recorder::writer::{SlotWriter, WriterParts};
use handover_model::time::Timestamp;
use handover_model::{Receiver, Sender};

/// A block of this many bytes carries a packet of [`DATA`].
const BLOCK: usize = 64;
const DATA: usize = 32;

fn at(ns: u64) -> Timestamp {
    Timestamp::from_ns(ns)
}

/// Runs a model through its orders.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let long = std::env::var_os("WW_LONG").is_some_and(|value| value == "1");
    builder.preemption_bound = Some(if long { 4 } else { 3 });
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    eprintln!("{name}: {orders} orders");
    assert!(orders > 100, "the model does not branch");
}

struct Rig {
    writer: SlotWriter,
    events: Receiver<Event>,
    free: Sender<Slot>,
    slots: Arc<Slots>,
}

/// Slots of two blocks, with a header so long that `packets` of 64 bytes fit.
fn rig(count: usize, packets: usize) -> Rig {
    let slots = Slots::new(count, 2 * BLOCK_BYTES);
    let (give, free) = bounded(count);
    for slot in slots.slots() {
        give.try_send(slot).unwrap();
    }
    let (send, events) = bounded(1);
    let mut writer = SlotWriter::new(WriterParts {
        interface: "t".into(),
        free,
        events: send,
        next_number: 5,
        patient: false,
        sync: Duration::from_secs(1),
        start: at(1),
    });
    let room = (2 * BLOCK_BYTES - BLOCK_BYTES - SAMPLE_LEN) / BLOCK * BLOCK;
    writer.set_header(vec![0x77; room - packets * BLOCK], at(1));
    Rig {
        writer,
        events,
        free: give,
        slots,
    }
}

/// The numbers of the packets in `bytes`, which must be whole blocks behind a header of 0x77 and
/// hold what was put into them.
fn packets(bytes: &[u8]) -> Vec<u8> {
    let header = bytes
        .iter()
        .position(|&byte| byte != 0x77)
        .unwrap_or(bytes.len());
    let mut rest = &bytes[header..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let word = |at: usize| {
            usize::try_from(u32::from_le_bytes(rest[at..at + 4].try_into().unwrap())).unwrap()
        };
        let (kind, len) = (word(0), word(4));
        assert!(
            len >= 12 && len <= rest.len(),
            "a block of {len} bytes was handed over"
        );
        assert_eq!(word(len - 4), len, "a block was handed over before its end");
        if kind == 6 {
            let data = &rest[28..28 + DATA];
            assert!(
                data.iter().all(|&byte| byte == data[0]),
                "half a packet: {data:?}"
            );
            found.push(data[0]);
        }
        rest = &rest[len..];
    }
    found
}

/// What the keeper of the program does with each event, with a vector for a file; returns the
/// segments in order.
fn keep(events: &Receiver<Event>, free: &Sender<Slot>) -> Vec<Vec<u8>> {
    let mut active = None;
    let mut segments = Vec::new();
    while let Ok(event) = events.recv() {
        match event {
            Event::Opened(read) => active = Some((read, Vec::new())),
            Event::Progress { upto, .. } => {
                let (read, file) = active.as_mut().unwrap();
                append(file, read.bytes(), upto);
            }
            Event::Sealed { fill, .. } => {
                let (read, mut file) = active.take().unwrap();
                append(&mut file, read.bytes(), fill.len());
                assert!(
                    seals(last_block(&file)),
                    "a whole segment ends in its sample"
                );
                assert_eq!(read.number(), 5 + u64::try_from(segments.len()).unwrap());
                segments.push(file);
                free.try_send(Slot::rejoin(fill, read)).unwrap();
            }
            Event::Remark(_) => {}
        }
    }
    segments
}

fn append(file: &mut Vec<u8>, bytes: &[u8], upto: usize) {
    assert!(
        upto <= bytes.len(),
        "{upto} of {} bytes may be written",
        bytes.len()
    );
    assert!(upto.is_multiple_of(BLOCK_BYTES));
    // More may be committed than was announced, but never half a block.
    packets(bytes);
    file.extend_from_slice(&bytes[file.len()..upto]);
}

fn last_block(file: &[u8]) -> &[u8] {
    let tail = file[file.len() - 4..].try_into().unwrap();
    let len = usize::try_from(u32::from_le_bytes(tail)).unwrap();
    &file[file.len() - len..]
}

#[test]
fn the_keeper_sees_whole_blocks_and_each_packet_once_in_order() {
    explore("keeper", || {
        // Two packets fill a slot; the slot comes back, or does not, before it is needed again.
        let Rig {
            mut writer,
            events,
            free,
            ..
        } = rig(1, 2);
        let keeper = loom::thread::spawn(move || keep(&events, &free));
        let mut written = Vec::new();
        for number in 0..4_u8 {
            let before = writer.counters().written;
            writer.packet(at(10 + u64::from(number)), 32, &[number; DATA]);
            if writer.counters().written > before {
                written.push(number);
            }
            if number == 0 {
                writer.flush(at(11), Vec::new());
            }
        }
        let counters = *writer.counters();
        assert_eq!(counters.written + counters.dropped_ring, 4);
        writer.seal(at(20), Vec::new());
        drop(writer);
        let segments = keeper.join().unwrap();
        let kept: Vec<u8> = segments
            .iter()
            .flat_map(|segment| packets(segment))
            .collect();
        assert_eq!(kept, written);
    });
}

#[test]
fn two_slots_change_hands_in_order() {
    explore("two slots", || {
        let Rig {
            mut writer,
            events,
            free,
            ..
        } = rig(2, 1);
        let keeper = loom::thread::spawn(move || keep(&events, &free));
        let mut written = Vec::new();
        for number in 0..4_u8 {
            let before = writer.counters().written;
            writer.packet(at(10 + u64::from(number)), 32, &[number; DATA]);
            if writer.counters().written > before {
                written.push(number);
            }
        }
        writer.seal(at(20), Vec::new());
        drop(writer);
        let segments = keeper.join().unwrap();
        let kept: Vec<u8> = segments
            .iter()
            .flat_map(|segment| packets(segment))
            .collect();
        assert_eq!(kept, written);
        assert!(kept.len() >= 2, "two slots were free");
    });
}

#[test]
fn a_successor_finds_whole_blocks_whenever_it_looks() {
    explore("successor", || {
        // The keeper writes nothing: the disk stands still, and then the process is killed.
        let Rig {
            mut writer, slots, ..
        } = rig(2, 2);
        let successor = loom::thread::spawn(move || {
            for leftover in slots.leftovers() {
                let first = leftover.number - 5;
                assert!(first < 2, "segment {}", leftover.number);
                assert_eq!(leftover.first, at(10 + 2 * first));
                let numbers = packets(leftover.bytes);
                let expected = 2 * u8::try_from(first).unwrap()..;
                assert!(
                    numbers.iter().copied().eq(expected.take(numbers.len())),
                    "{numbers:?}"
                );
            }
        });
        for number in 0..3_u8 {
            writer.packet(at(10 + u64::from(number)), 32, &[number; DATA]);
        }
        successor.join().unwrap();
    });
}
