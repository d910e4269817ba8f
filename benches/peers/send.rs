//! Sends numbered frames from processor 0, paced or as fast as it goes.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::Mix;
use crate::lab::{Lab, TX};
use crate::singles::Singles;
use crate::trains::Trains;
use crate::{Fallible, stop};

/// Packets that fall due while it sleeps: each sleep costs processor time that others need.
const PER_NAP: u64 = 20;
/// The shortest and the longest sleep, in microseconds.
const NAPS: (u64, u64) = (50, 1000);

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

/// How packets get to the cable.
enum Way {
    /// Many of one size per call, cut by the kernel.
    Trains(Trains),
    /// One by one.
    Singles(Singles),
}

impl Way {
    fn of(mix: Mix) -> Fallible<Self> {
        Ok(match mix {
            Mix::Fixed(bytes) => Self::Trains(Trains::new(bytes)?),
            Mix::Imix => Self::Singles(Singles::new(mix)?),
        })
    }

    /// Sends up to `count` packets from number `first` on; how many the kernel took.
    fn send(&mut self, first: u64, count: u64) -> Fallible<u64> {
        match self {
            Self::Trains(trains) => trains.send(first, count),
            Self::Singles(singles) => singles.send(first, count),
        }
    }
}

/// Sends it. The receiving end's kernel work happens on the same processor.
pub(crate) fn send(lab: &Lab, load: Load) -> Fallible<Sent> {
    lab.send(move || {
        let mut processors = rustix::thread::CpuSet::new();
        processors.set(0);
        rustix::thread::sched_setaffinity(None, &processors)?;
        // The network does not wait for the machine's other work.
        rustix::process::setpriority_process(None, -20)?;
        run(load, &mut Way::of(load.mix)?)
    })
}

fn run(load: Load, way: &mut Way) -> Fallible<Sent> {
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let elapsed = start.elapsed();
        let due = match load.rate {
            None => u64::MAX,
            Some(rate) => packets(rate, elapsed.min(load.time)),
        };
        // A paced load is sent to the last packet, late if need be.
        let whole = load.rate.is_none() || sent >= packets_of(load);
        if (elapsed >= load.time && whole) || stop::asked() {
            return Ok(Sent {
                packets: sent,
                time: elapsed,
            });
        }
        match due.saturating_sub(sent) {
            0 => std::thread::sleep(nap(load)),
            ahead => sent += way.send(sent, ahead)?,
        }
    }
}

/// How long to sleep ahead of the pace.
fn nap(load: Load) -> Duration {
    let rate = load.rate.unwrap_or(u64::MAX).max(1);
    Duration::from_micros((PER_NAP * 1_000_000 / rate).clamp(NAPS.0, NAPS.1))
}

/// Packets due after `elapsed`.
fn packets(rate: u64, elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(rate) / 1_000_000
}

fn packets_of(load: Load) -> u64 {
    load.rate.map_or(0, |rate| packets(rate, load.time))
}

/// A socket that sends frames to the cable, and receives none: it is of protocol 0.
#[expect(unsafe_code, reason = "no safe crate knows sockaddr_ll")]
pub(crate) fn open() -> Fallible<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
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
    check(result)?;
    Ok(socket)
}

/// Turns a packet socket's option on.
#[expect(unsafe_code, reason = "a socket option that no safe crate offers")]
pub(crate) fn turn_on(socket: &Socket, option: libc::c_int) -> Fallible<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on))?;
    // SAFETY: the descriptor is open, and the option is one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
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
