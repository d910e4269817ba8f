//! The capture thread allocates nothing: an allocator that counts, by thread, says so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[expect(
    dead_code,
    unused_imports,
    reason = "the rig of the black-box tests, of which this needs the mirror port"
)]
#[path = "blackbox/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use crossbeam_channel::bounded;
use support::{Mirror, Sender, record, rounds, wait_for};
use wirewitness::recorder::config::{CaptureConfig, RingConfig};
use wirewitness::recorder::events::Event;
use wirewitness::recorder::protocol::{Reply, Request};
use wirewitness::recorder::service::{Recorder, RecorderConfig};
use wirewitness::recorder::slots::{Slot, Slots};
use wirewitness::recorder::writer::{SlotWriter, WriterParts};
use wirewitness::time::Timestamp;

/// Counts what the watched thread asks for.
struct Counting;

/// The thread that is watched, by the kernel's number; 0 for none. Tests that set it take turns
/// ([`WATCHING`]).
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static WATCHING: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn count() {
        let watched = WATCHED.load(Ordering::Relaxed);
        if watched != 0 && rustix::thread::gettid().as_raw_nonzero().get() == watched {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is one")]
// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Allocations of the thread `tid` during `work`.
fn allocations(tid: i32, work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    WATCHED.store(tid, Ordering::Relaxed);
    work();
    WATCHED.store(0, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn own_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[test]
fn the_counter_counts() {
    let _turn = WATCHING.lock().unwrap();
    let count = allocations(own_tid(), || {
        let mut words = vec![1_u8];
        words.reserve(100_000);
        drop(std::hint::black_box(words));
    });
    assert_eq!(count, 2);
}

/// Packets, syncs and segments one after the other, with a keeper that gives slots back.
#[test]
fn writing_packets_samples_and_segments_allocates_nothing() {
    let _turn = WATCHING.lock().unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (give, free) = bounded(4);
    // A channel makes its list of who waits when somebody does for the first time.
    assert!(free.recv_timeout(Duration::from_millis(1)).is_err());
    for slot in Slots::create(&dir.path().join("s"), 4, 1 << 20)
        .unwrap()
        .into_slots()
    {
        give.send(slot).unwrap();
    }
    let (events, keeper) = bounded::<Event>(1024);
    let keeper = std::thread::spawn(move || {
        let (mut open, mut segments) = (None, 0_u64);
        for event in keeper {
            match event {
                Event::Opened(read) => open = Some(read),
                Event::Sealed { fill, .. } => {
                    segments += 1;
                    // The writer may have gone.
                    drop(give.send(Slot::rejoin(fill, open.take().unwrap())));
                }
                _ => {}
            }
        }
        segments
    });
    let mut writer = SlotWriter::new(WriterParts {
        interface: "t".into(),
        free,
        events,
        next_number: 0,
        patient: true,
        sync: Duration::from_secs(1),
        start: Timestamp::from_ns(1),
    });
    writer.set_header(vec![0; 256], Timestamp::from_ns(1));
    let packets = rounds(1_000_000, 50_000_000);
    let mut write = |from: u64, to: u64| {
        for number in from..to {
            let at = Timestamp::from_ns(1000 + number);
            writer.packet(at, 1514, &[7; 200]);
            if number % 5000 == 0 {
                writer.flush(at, Vec::new());
            }
        }
    };
    write(0, 20_000);
    let count = allocations(own_tid(), || write(20_000, packets));
    let written = writer.counters().written;
    drop(writer);
    let segments = keeper.join().unwrap();
    assert_eq!(written, packets);
    assert!(segments > packets / 10_000, "{segments} segments");
    record(
        "allocations of the writer",
        &format!("{packets} packets into {segments} slots, a sync every 5000 packets"),
        packets,
        &format!("{count} allocations"),
    );
    assert_eq!(count, 0);
}

/// The thread of this process that the kernel knows as `name`.
fn thread_named(name: &str) -> i32 {
    wait_for("the capture thread", || {
        fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .find(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
            })
            .and_then(|task| task.file_name().to_string_lossy().parse().ok())
            .ok_or_else(|| "there is none".to_owned())
    })
}

/// The capture thread itself, on a live interface, with everything that it does per second.
#[test]
fn a_live_capture_allocates_nothing_per_packet() {
    let _turn = WATCHING.lock().unwrap();
    let Some(mirror) = Mirror::alone("no allocation") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let slots = tempfile::tempdir_in("/dev/shm").unwrap();
    let config = RecorderConfig {
        capture: CaptureConfig {
            interfaces: vec!["mon0".into()],
            buffer: ByteSize::mib(64),
            ..CaptureConfig::default()
        },
        ring: RingConfig {
            path: dir.path().join("ring"),
            size: ByteSize::mib(256),
            segment: ByteSize::mib(4),
            memory: ByteSize::mib(64),
            slots: slots.path().to_owned(),
            ..RingConfig::default()
        },
        incidents: dir.path().join("incidents"),
        replay: None,
        group: None,
    };
    let recorder = mirror
        .monitor
        .enter(move || Recorder::start(&config))
        .unwrap();
    let received = || match recorder.handle(&Request::Status) {
        Reply::Status(status) => status.interfaces[0].counters.received,
        other => panic!("{other:?}"),
    };
    let mut sender = Sender::new(&mirror.sender, 0, 200);
    // Once each: a packet, a sync, a segment.
    wait_for("the interface to be recorded", || {
        sender.send_one();
        (received() > 0)
            .then_some(())
            .ok_or_else(|| "nothing came".to_owned())
    });
    sender.send(50_000, 50_000);
    let capture = thread_named("capture");
    let (before, packets) = (received(), rounds(200_000, 6_000_000));
    let count = allocations(capture, || {
        sender.send(packets, 50_000);
        wait_for("every packet to be received", || {
            let now = received() - before;
            (now >= packets)
                .then_some(())
                .ok_or_else(|| format!("{now} of {packets}"))
        });
    });
    recorder.stop();
    record(
        "allocations of the capture thread",
        &format!(
            "{packets} packets at 50,000/s from a veth pair, sync each second, segments of 4 MiB"
        ),
        packets,
        &format!("{count} allocations"),
    );
    // A few a second would do no harm; one a packet would.
    assert!(
        count < packets / 10_000,
        "{count} allocations for {packets} packets"
    );
}
