//! The few questions to an AF_PACKET socket that libpcap does not pass on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Packets the kernel counted since the last call (packet(7), PACKET_STATISTICS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketCounts {
    /// Packets that passed the filter, drops included.
    pub received: u32,
    /// Packets for which the buffer had no room.
    pub dropped: u32,
}

const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// Reads and resets the socket's counters. Nobody else may: libpcap would add them up in 32 bit.
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
#[expect(unsafe_code, reason = "setsockopt that no safe crate offers")]
pub fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call, and the option is one int, which outlives it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
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

fn any_socket() -> Option<std::os::fd::OwnedFd> {
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
