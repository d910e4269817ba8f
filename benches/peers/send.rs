//! Sends numbered frames from processor 0, paced or as fast as it goes.

use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::{Frames, Mix};
use crate::lab::{Lab, TX};
use crate::{Fallible, stop};

/// Frames handed to the kernel at once.
const BATCH: usize = 64;
/// The longest frame.
const FRAME_BYTES: usize = 1514;
/// How far ahead of the pace before it sleeps.
const NAP: Duration = Duration::from_micros(50);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Sizes.
    pub(crate) mix: Mix,
    /// Packets per second; `None`: as many as it goes.
    pub(crate) rate: Option<u64>,
    /// For how long.
    pub(crate) time: Duration,
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Packets, numbered from 0.
    pub(crate) packets: u64,
    /// In this time.
    pub(crate) time: Duration,
}

/// Sends it. The receiving end's kernel work happens on the same processor.
pub(crate) fn send(lab: &Lab, load: Load) -> Fallible<Sent> {
    lab.send(move || {
        let mut processors = rustix::thread::CpuSet::new();
        processors.set(0);
        rustix::thread::sched_setaffinity(None, &processors)?;
        // The network does not wait for the machine's other work.
        rustix::process::setpriority_process(None, -20)?;
        Sender::new(load)?.run()
    })
}

struct Sender {
    socket: Socket,
    frames: Frames,
    load: Load,
    buffers: Vec<[u8; FRAME_BYTES]>,
}

impl Sender {
    fn new(load: Load) -> Fallible<Self> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        bind(&socket)?;
        bypass_queue(&socket)?;
        Ok(Self {
            socket,
            frames: Frames::new(load.mix),
            load,
            buffers: vec![[0x5a; FRAME_BYTES]; BATCH],
        })
    }

    fn run(mut self) -> Fallible<Sent> {
        let start = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = start.elapsed();
            let due = match self.load.rate {
                None => u64::MAX,
                Some(rate) => packets(rate, elapsed.min(self.load.time)),
            };
            // A paced load is sent to the last packet, late if need be.
            let whole = self.load.rate.is_none() || sent >= packets_of(self.load);
            if (elapsed >= self.load.time && whole) || stop::asked() {
                return Ok(Sent {
                    packets: sent,
                    time: elapsed,
                });
            }
            let ahead = due.saturating_sub(sent);
            if ahead == 0 {
                std::thread::sleep(NAP);
                continue;
            }
            let batch = usize::try_from(ahead).unwrap_or(BATCH).min(BATCH);
            sent += self.batch(sent, batch)?;
        }
    }

    /// Sends up to `count` frames from number `first` on; how many the kernel took.
    fn batch(&mut self, first: u64, count: usize) -> Fallible<u64> {
        let mut slices = Vec::with_capacity(count);
        for (buffer, number) in self.buffers.iter_mut().take(count).zip(first..) {
            let length = self.frames.write(number, buffer);
            let frame = length.and_then(|length| buffer.get(..length));
            slices.push([IoSlice::new(frame.ok_or("a frame longer than its buffer")?)]);
        }
        let mut none: Vec<_> = slices
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = slices
            .iter()
            .zip(&mut none)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
            Ok(taken) => Ok(u64::try_from(taken)?),
            // The cable is full; the frame goes out with the next call.
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// Packets due after `elapsed`.
fn packets(rate: u64, elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(rate) / 1_000_000
}

fn packets_of(load: Load) -> u64 {
    load.rate.map_or(0, |rate| packets(rate, load.time))
}

#[expect(unsafe_code, reason = "no safe crate knows sockaddr_ll")]
fn bind(socket: &Socket) -> Fallible<()> {
    let index = wirewitness::recorder::socket::interface_index(TX).ok_or("no tx0")?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `address`, all of it.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    check(result)
}

#[expect(unsafe_code, reason = "a socket option that no safe crate offers")]
fn bypass_queue(socket: &Socket) -> Fallible<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on))?;
    // SAFETY: the descriptor is open, and the option is one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            len,
        )
    };
    check(result)
}

fn check(result: libc::c_int) -> Fallible<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().into())
    }
}
