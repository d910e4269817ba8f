//! The floor: libpcap's dispatch and one copy into mapped memory, nothing else. Nothing reaches a
//! disk, nobody can read it. And what lies below it: the same without the copy, for what it costs to
//! bring a packet to the processor at all.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use pcap::{Active, Capture, Packet, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Fallible;

/// Bytes of the memory that is written round and round.
const RING_BYTES: u64 = 1 << 30;
/// Bytes written before each packet, as in a pcap file.
const HEADER: usize = 16;
/// How long the kernel holds back a block that is not full.
const BLOCK_TIMEOUT_MS: i32 = 10;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Records `interface` into `file` until standard input ends, then prints how many packets it took and
/// how many the kernel had to drop. Without a file it only looks at them.
pub(crate) fn run(interface: &str, file: Option<&Path>) -> Fallible<()> {
    let mut sink = Sink {
        ring: file.map(Ring::new).transpose()?,
        packets: 0,
    };
    let mut capture = Capture::from_device(interface)?
        .snaplen(262_144)
        .buffer_size(256 << 20)
        .promisc(true)
        .timeout(BLOCK_TIMEOUT_MS)
        .precision(Precision::Nano)
        .open()?
        .setnonblock()?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    while dispatch(&mut capture, &mut sink)? > 0 || !ended(&capture)? {}
    let since = Instant::now();
    let patience = Duration::from_millis(100);
    while dispatch(&mut capture, &mut sink)? > 0 || since.elapsed() < patience {}
    writeln!(out, "{} {}", sink.packets, capture.stats()?.dropped)?;
    Ok(())
}

fn dispatch(capture: &mut Capture<Active>, sink: &mut Sink) -> Fallible<usize> {
    Ok(capture.dispatch(Some(4096), |packet| sink.take(&packet))?)
}

/// Sleeps until there is a packet; true when standard input ended instead.
#[expect(unsafe_code, reason = "libpcap hands out its descriptor as a number")]
fn ended(capture: &Capture<Active>) -> Fallible<bool> {
    // SAFETY: the descriptor belongs to `capture`, which is borrowed for longer than the result.
    let packets = unsafe { BorrowedFd::borrow_raw(capture.as_raw_fd()) };
    let stdin = std::io::stdin();
    let mut fds = [
        PollFd::from_borrowed_fd(packets, PollFlags::IN),
        PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
    ];
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    poll(&mut fds, Some(&patience))?;
    let [_, stdin] = &fds;
    Ok(!stdin.revents().is_empty())
}

/// Where packets go.
struct Sink {
    ring: Option<Ring>,
    packets: u64,
}

impl Sink {
    #[inline]
    fn take(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        match &mut self.ring {
            Some(ring) => ring.take(packet),
            None => look(packet.data),
        }
    }
}

/// Brings every line of a packet to the processor.
#[inline]
fn look(data: &[u8]) {
    let lines = data.chunks(LINE).filter_map(<[u8]>::first);
    black_box(lines.fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
}

struct Ring {
    memory: MmapMut,
    at: usize,
}

impl Ring {
    #[expect(
        unsafe_code,
        reason = "mapping a file is unsafe wherever it is offered"
    )]
    fn new(file: &Path) -> Fallible<Self> {
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(file)?;
        file.set_len(RING_BYTES)?;
        // SAFETY: the file was made by this call, so nobody else writes or truncates it.
        let mut memory = unsafe { MmapMut::map_mut(&file)? };
        // Every page is there before the first packet.
        memory.fill(0);
        Ok(Self { memory, at: 0 })
    }

    #[inline]
    fn take(&mut self, packet: &Packet<'_>) {
        let length = HEADER + packet.data.len();
        if self.at + length > self.memory.len() {
            self.at = 0;
        }
        let Some(place) = self.memory.get_mut(self.at..self.at + length) else {
            return;
        };
        if let Some((head, data)) = place.split_at_mut_checked(HEADER) {
            let [seconds, nanos, captured, original] = head.as_chunks_mut::<4>().0 else {
                return;
            };
            let low = |value: i64| {
                u32::try_from(value & 0xffff_ffff)
                    .unwrap_or(0)
                    .to_le_bytes()
            };
            *seconds = low(packet.header.ts.tv_sec);
            *nanos = low(packet.header.ts.tv_usec);
            *captured = packet.header.caplen.to_le_bytes();
            *original = packet.header.len.to_le_bytes();
            data.copy_from_slice(packet.data);
        }
        self.at += length;
    }
}
