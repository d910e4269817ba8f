//! The sockets of all probes: one per family and use, with the kernel's timestamps of sending and
//! receiving, the hop limit of what comes, and the errors that routers send back.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::echo::Family;
use super::icmp_error::IcmpErrorKind;
use crate::recorder::socket::set_number;
use crate::time::Timestamp;

/// Wanted for answers that come while the thread does something else.
const RECEIVE_BYTES: usize = 4 << 20;
/// Room for control messages: timestamps, hop limit, an error with its address.
const CONTROL_BYTES: usize = 512;
/// A send fails with the error that an earlier packet met: it is tried so often.
const SEND_TRIES: usize = 3;
/// Where the kernel's error comes from (linux/errqueue.h).
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;
const ORIGIN_TIMESTAMPING: u8 = 4;
/// `ICMP_FILTER` of raw sockets (linux/icmp.h): a bit set keeps a type away.
const ICMP_FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;
/// Reply, unreachable, redirect, time exceeded, parameter problem.
const WANTED_TYPES: [u32; 5] = [0, 3, 5, 11, 12];

/// A socket for echoes or queries.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    pub(super) family: Family,
    /// It hands out IPv4 headers and hears what others get.
    pub(super) raw: bool,
}

/// By which way a packet leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
    /// The number of the interface.
    pub(super) interface: Option<u32>,
    pub(super) ttl: Option<u8>,
    pub(super) tos: Option<u8>,
}

/// Something that came out of a socket.
#[derive(Debug)]
pub(super) struct Arrival {
    /// How much of the buffer it filled.
    pub(super) bytes: usize,
    pub(super) from: Option<SocketAddr>,
    /// When, by the kernel.
    pub(super) at: Option<Timestamp>,
    pub(super) ttl: Option<u8>,
    pub(super) note: Note,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// A packet.
    Packet,
    /// Our own packet once more: it left at this time.
    Left,
    /// Our own packet once more, with what was said about it and by whom.
    Said(IcmpErrorKind, Option<IpAddr>),
    /// Nothing that concerns us.
    Other,
}

impl Wire {
    /// A socket for echoes: unprivileged where `net.ipv4.ping_group_range` allows, else raw, which
    /// takes `CAP_NET_RAW`. With `df` its packets must not be fragmented.
    pub(super) fn icmp(family: Family, df: bool) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
        };
        let wire = Self {
            socket,
            family,
            raw,
        };
        if raw && family == Family::V4 {
            let wanted = WANTED_TYPES
                .iter()
                .fold(0_u32, |bits, kind| bits | 1 << kind);
            let filter = (!wanted).cast_signed();
            set_number(wire.as_fd(), SOL_RAW, ICMP_FILTER, filter)?;
        }
        // "Probe" sets DF and leaves out what the kernel remembers of the path for ten minutes: a path
        // that recovers is seen at once.
        let (level, option, never, always) = match family {
            Family::V4 => (
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DONT,
                libc::IP_PMTUDISC_PROBE,
            ),
            Family::V6 => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DONT,
                libc::IPV6_PMTUDISC_PROBE,
            ),
        };
        set_number(wire.as_fd(), level, option, if df { always } else { never })?;
        // A raw socket hears errors as packets, with all that they quote.
        wire.prepare(!raw)?;
        Ok(wire)
    }

    /// A socket for queries.
    pub(super) fn udp(family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let wire = Self {
            socket: Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
            family,
            raw: false,
        };
        // Any port: the first send would choose one as well, but then it is not known before.
        let any: SocketAddr = match family {
            Family::V4 => ([0; 4], 0).into(),
            Family::V6 => ([0_u16; 8], 0).into(),
        };
        if family == Family::V6 {
            wire.socket.set_only_v6(true)?;
        }
        wire.socket.bind(&any.into())?;
        wire.prepare(true)?;
        Ok(wire)
    }

    fn prepare(&self, errors: bool) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let fd = &self.socket;
        if setsockopt(fd, sockopt::RcvBufForce, &RECEIVE_BYTES).is_err() {
            self.socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        }
        let stamps = TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
        setsockopt(fd, sockopt::Timestamping, &stamps)?;
        match self.family {
            Family::V4 => {
                setsockopt(fd, sockopt::Ipv4RecvTtl, &true)?;
                setsockopt(fd, sockopt::Ipv4RecvErr, &errors)?;
            }
            Family::V6 => {
                setsockopt(fd, sockopt::Ipv6RecvHopLimit, &true)?;
                setsockopt(fd, sockopt::Ipv6RecvErr, &errors)?;
            }
        }
        Ok(())
    }

    /// Our own port; 0 for an echo socket.
    pub(super) fn port(&self) -> u16 {
        let address = self.socket.local_addr().ok();
        let address = address.and_then(|address| address.as_socket());
        address.map_or(0, |address| address.port())
    }

    /// Sends a packet; an error means that it did not leave.
    pub(super) fn send(&self, packet: &[u8], way: &Way) -> io::Result<()> {
        let index = way.interface.unwrap_or(0);
        let (source4, source6) = match way.from {
            Some(IpAddr::V4(from)) => (from.to_bits().to_be(), [0; 16]),
            Some(IpAddr::V6(from)) => (0, from.octets()),
            None => (0, [0; 16]),
        };
        let info4 = libc::in_pktinfo {
            ipi_ifindex: libc::c_int::try_from(index).unwrap_or(0),
            ipi_spec_dst: libc::in_addr { s_addr: source4 },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let info6 = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: source6 },
            ipi6_ifindex: index,
        };
        let ttl = way.ttl.map(libc::c_int::from);
        let class = way.tos.map(i32::from);
        let mut control = Vec::with_capacity(3);
        let routed = way.from.is_some() || way.interface.is_some();
        match self.family {
            Family::V4 => {
                if routed {
                    control.push(ControlMessage::Ipv4PacketInfo(&info4));
                }
                control.extend(ttl.as_ref().map(ControlMessage::Ipv4Ttl));
                control.extend(way.tos.as_ref().map(ControlMessage::Ipv4Tos));
            }
            Family::V6 => {
                if routed {
                    control.push(ControlMessage::Ipv6PacketInfo(&info6));
                }
                control.extend(ttl.as_ref().map(ControlMessage::Ipv6HopLimit));
                control.extend(class.as_ref().map(ControlMessage::Ipv6TClass));
            }
        }
        let to = SockaddrStorage::from(way.to);
        let parts = [IoSlice::new(packet)];
        let mut tries = SEND_TRIES;
        loop {
            tries -= 1;
            let sent = sendmsg(
                self.socket.as_raw_fd(),
                &parts,
                &control,
                MsgFlags::MSG_DONTWAIT,
                Some(&to),
            );
            match sent {
                Ok(_) => return Ok(()),
                Err(_) if tries > 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next thing that came; of the error queue when `errors`. `None` when there is nothing.
    pub(super) fn receive(&self, buffer: &mut [u8], errors: bool) -> Option<Arrival> {
        let mut flags = MsgFlags::MSG_DONTWAIT;
        flags.set(MsgFlags::MSG_ERRQUEUE, errors);
        let mut control = [0_u8; CONTROL_BYTES];
        // An error that waits is reported once and then gone: what is behind it comes next.
        for _ in 0..SEND_TRIES {
            let mut parts = [IoSliceMut::new(&mut *buffer)];
            let fd = self.socket.as_raw_fd();
            match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags) {
                Ok(message) => {
                    let mut arrival = Arrival {
                        bytes: message.bytes,
                        from: message.address.as_ref().and_then(address),
                        at: None,
                        ttl: None,
                        note: if errors { Note::Other } else { Note::Packet },
                    };
                    for control in message.cmsgs().into_iter().flatten() {
                        arrival.take(&control);
                    }
                    return Some(arrival);
                }
                Err(nix::errno::Errno::EAGAIN) => return None,
                Err(_) => {}
            }
        }
        None
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Arrival {
    fn take(&mut self, control: &ControlMessageOwned) {
        match control {
            ControlMessageOwned::ScmTimestampsns(stamps) => self.at = timestamp(stamps.system),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                self.ttl = u8::try_from(*ttl).ok();
            }
            ControlMessageOwned::Ipv4RecvErr(error, by) => {
                let by = by.map(|by| IpAddr::from(u32::from_be(by.sin_addr.s_addr).to_be_bytes()));
                self.say(error, by);
            }
            ControlMessageOwned::Ipv6RecvErr(error, by) => {
                let by = by.map(|by| IpAddr::from(by.sin6_addr.s6_addr));
                self.say(error, by);
            }
            _ => {}
        }
    }

    fn say(&mut self, error: &libc::sock_extended_err, by: Option<IpAddr>) {
        let said = |family| IcmpErrorKind::of(family, error.ee_type, error.ee_code);
        self.note = match error.ee_origin {
            ORIGIN_TIMESTAMPING => Note::Left,
            ORIGIN_ICMP => said(Family::V4).map_or(Note::Other, |kind| Note::Said(kind, by)),
            ORIGIN_ICMP6 => said(Family::V6).map_or(Note::Other, |kind| Note::Said(kind, by)),
            _ => Note::Other,
        };
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().into(), v6.port()))
}

fn timestamp(spec: TimeSpec) -> Option<Timestamp> {
    let seconds = u64::try_from(spec.tv_sec()).ok()?;
    let ns = u64::try_from(spec.tv_nsec()).ok()?;
    let ns = seconds.checked_mul(1_000_000_000)?.checked_add(ns)?;
    (ns > 0).then(|| Timestamp::from_ns(ns))
}

#[cfg(test)]
mod tests {
    use super::super::echo::{self, Answer};
    use super::super::stamp::Stamp;
    use super::*;

    /// An echo over the loopback comes back with its kernel times and its hop limit.
    #[test]
    fn the_kernel_says_when_a_probe_left_and_its_reply_came() {
        for (family, to) in [(Family::V4, "127.9.8.7"), (Family::V6, "::1")] {
            let Ok(wire) = Wire::icmp(family, false) else {
                eprintln!("skipped: no privilege for an ICMP socket");
                return;
            };
            let stamp = Stamp {
                instance: 1,
                probe: 2,
                seq: 3,
                sent_ns: 4,
                cookie: 5,
            };
            let packet = echo::encode(family, 77, &stamp, 56);
            let way = Way {
                to: SocketAddr::new(to.parse().unwrap(), 0),
                from: None,
                interface: None,
                ttl: Some(9),
                tos: Some(8),
            };
            let mut buffer = [0; 2048];
            let mut wait = |errors: bool, wanted: &dyn Fn(&Arrival, &[u8]) -> bool| loop {
                if let Some(arrival) = wire.receive(&mut buffer, errors) {
                    if wanted(&arrival, &buffer[..arrival.bytes]) {
                        return arrival;
                    }
                } else {
                    let mut fds = [rustix::event::PollFd::new(
                        &wire,
                        rustix::event::PollFlags::IN,
                    )];
                    rustix::event::poll(&mut fds, None).unwrap();
                }
            };
            // The kernel begins to stamp what arrives a moment after the first socket asked for it:
            // it leaves switching that on to a worker.
            let (before, left, reply) = loop {
                let before = Timestamp::now();
                wire.send(&packet, &way).unwrap();
                let left = wait(true, &|arrival, packet| {
                    arrival.note == Note::Left && Stamp::find(packet) == Some(stamp)
                });
                let reply = wait(false, &|_, packet| {
                    echo::decode(family, wire.raw, packet) == Some(Answer::Reply(stamp))
                });
                if reply.at.is_some() {
                    break (before, left, reply);
                }
            };
            let (left, came) = (left.at.unwrap(), reply.at.unwrap());
            assert!(before <= left && left <= came && came <= Timestamp::now());
            assert_eq!(reply.from.unwrap().ip(), way.to.ip());
            assert!(reply.ttl.is_some());
        }
    }

    #[test]
    fn an_address_of_another_host_is_no_source() {
        let Ok(wire) = Wire::icmp(Family::V4, false) else {
            eprintln!("skipped: no privilege for an ICMP socket");
            return;
        };
        let way = Way {
            to: "127.0.0.1:0".parse().unwrap(),
            from: Some("192.0.2.77".parse().unwrap()),
            interface: None,
            ttl: None,
            tos: None,
        };
        assert!(wire.send(&[8, 0, 0, 0, 0, 0, 0, 0], &way).is_err());
    }
}
