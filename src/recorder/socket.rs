//! The few questions to an AF_PACKET socket that libpcap does not pass on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::recorder::writer::{CountedElsewhere, SocketCounts};

impl CountedElsewhere for OwnedFd {
    fn take_counts(&self) -> io::Result<SocketCounts> {
        take_counts(self.as_fd())
    }
}

const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Reads and resets the socket's counters (packet(7), PACKET_STATISTICS). Nobody else may: libpcap would add them up in 32 bit.
#[expect(
    unsafe_code,
    reason = "getsockopt with a struct that no safe crate offers"
)]
pub fn take_counts(socket: BorrowedFd<'_>) -> io::Result<SocketCounts> {
    let mut stats = libc::tpacket_stats_v3 {
        tp_packets: 0,
        tp_drops: 0,
        tp_freeze_q_cnt: 0,
    };
    let mut len = libc::socklen_t::try_from(size_of_val(&stats)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the kernel writes at most `len` bytes into
    // `stats`, a plain C struct of exactly that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    check(result)?;
    Ok(SocketCounts {
        received: stats.tp_packets,
        dropped: stats.tp_drops,
    })
}

/// Asks the kernel not to hand over packets this host sends: on loopback every packet would come
/// twice, and libpcap would throw half of them away after the kernel counted them.
pub fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_number(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
}

/// Makes the socket a member of a fanout group: of a new one with a number that is nobody else's,
/// or of `group`. Returns the group's number. Of a flow's packets all go to one member, chosen by
/// a hash of addresses and ports that is the same for both directions, and to another only while
/// that one's buffer has no room.
///
/// The kernel is not asked to put fragments together first (`PACKET_FANOUT_FLAG_DEFRAG`): what is
/// recorded would not be what was on the wire, and fragments that miss a companion would vanish
/// uncounted. Fragments have no ports in their hash, so those of a datagram stay together.
pub fn join_fanout(socket: BorrowedFd<'_>, group: Option<u16>) -> io::Result<u16> {
    // The kind and its flags are the upper half of the option's value.
    let kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_ROLLOVER;
    let argument = match group {
        Some(group) => kind << 16 | u32::from(group),
        None => (kind | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16,
    };
    let argument = argument.cast_signed();
    set_number(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, argument)?;
    match group {
        Some(group) => Ok(group),
        None => fanout_group(socket),
    }
}

/// The number of the fanout group that the socket is a member of.
#[expect(unsafe_code, reason = "getsockopt that no safe crate offers")]
fn fanout_group(socket: BorrowedFd<'_>) -> io::Result<u16> {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the kernel writes at most `len` bytes into
    // `value`, an int of exactly that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    check(result)?;
    // The lower half is the number, the upper one the kind.
    u16::try_from(value.cast_unsigned() & 0xffff).map_err(io::Error::other)
}

/// The reverse of [`refuse_all`]: takes the filter away.
pub fn accept_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_number(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// Sets an option whose value is one int.
#[expect(unsafe_code, reason = "setsockopt that no safe crate offers")]
pub fn set_number(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call, and the value is one int, which outlives it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    check(result)
}

/// Lets nothing more into the socket's buffer, so that its counters stop and what is in it can be
/// drained to the last packet.
#[expect(unsafe_code, reason = "setsockopt that no safe crate offers")]
pub fn refuse_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    // One instruction of classic BPF: return 0 bytes.
    let mut refuse = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut refuse,
    };
    let len = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the program's pointer is to one live
    // instruction, as its length says, and the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            len,
        )
    };
    check(result)
}

/// What went wrong with the socket since it was asked last (SO_ERROR): its interface went down or away.
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::net::sockopt::socket_error(socket)? {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The index of a network interface by name, in this network namespace.
pub fn interface_index(name: &str) -> Option<u32> {
    let socket = any_socket()?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name).ok()
}

/// The name of a network interface by index.
pub fn interface_name(index: u32) -> Option<String> {
    let socket = any_socket()?;
    rustix::net::netdevice::index_to_name(socket.as_fd(), index).ok()
}

fn any_socket() -> Option<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .ok()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
