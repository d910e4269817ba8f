//! Many datagrams by one system call, and how many the kernel had no room for.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};

use super::framing::FRAME_BYTES_MAX;
use crate::recorder::socket::set_number;

/// Datagrams taken at once.
const BATCH: usize = 64;

/// A datagram.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) bytes: Vec<u8>,
    pub(super) peer: IpAddr,
}

/// Asks for `bytes` of receive buffer, beyond `net.core.rmem_max` where we may, and to be told
/// what found no room in it. Less room is no error.
pub(super) fn prepare(socket: &socket2::Socket, bytes: usize) -> io::Result<()> {
    let wanted = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    if set_number(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        wanted,
    )
    .is_err()
    {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(setsockopt(socket, sockopt::RxqOvfl, &1)?)
}

/// Receives in batches.
#[derive(Debug)]
pub(super) struct Receiver {
    buffers: Vec<Vec<u8>>,
    /// The kernel's count of datagrams without room, as last told; it goes round.
    dropped: u32,
    news: u32,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            buffers: vec![vec![0; FRAME_BYTES_MAX]; BATCH],
            dropped: 0,
            news: 0,
        }
    }
}

impl Receiver {
    /// What is there, without waiting.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<Vec<Arrived>> {
        let space = cmsg_space!(u32);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(space));
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None)?;
        let mut found = Vec::with_capacity(BATCH);
        let mut dropped = self.dropped;
        for message in messages {
            for control in message.cmsgs()? {
                if let ControlMessageOwned::RxqOvfl(count) = control {
                    dropped = count;
                }
            }
            found.push((message.bytes, message.address.as_ref().and_then(address)));
        }
        self.news = self.news.wrapping_add(dropped.wrapping_sub(self.dropped));
        self.dropped = dropped;
        let datagrams = found.into_iter().zip(&self.buffers);
        Ok(datagrams
            .filter_map(|((length, peer), buffer)| {
                let bytes = buffer.get(..length)?.to_vec();
                Some(Arrived { bytes, peer: peer? })
            })
            .collect())
    }

    /// How many datagrams the kernel dropped since this was last asked.
    pub(super) fn dropped(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.news))
    }
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| from.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        prepare(&socket2::SockRef::from(&listener), 4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(listener.local_addr().unwrap()).unwrap();
        for number in 0..1000_u32 {
            sender.send(&number.to_be_bytes()).unwrap();
        }
        let mut taker = Receiver::default();
        let mut received = 0;
        while let Ok(datagrams) = taker.receive(&listener) {
            assert!(datagrams.iter().all(|one| one.bytes.len() == 4));
            received += datagrams.len() as u64;
        }
        assert!(received < 1000);
        // The kernel tells with the next one.
        sender.send(b"last").unwrap();
        let last = taker.receive(&listener).unwrap();
        assert_eq!((last.len(), last[0].bytes.as_slice()), (1, &b"last"[..]));
        assert_eq!(last[0].peer, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(received + taker.dropped(), 1000);
        assert_eq!(taker.dropped(), 0);
    }
}
