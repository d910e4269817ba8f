//! Says when a network link was made, renamed, set up or down, changed or deleted (rtnetlink(7),
//! RTMGRP_LINK), in the network namespace of the thread that opened it. What was changed is not
//! read out of the messages: they may be lost, the interfaces say it themselves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// Messages thrown away at a time: somebody may make links faster than we read.
const MESSAGES_MAX: usize = 1024;

/// A socket that becomes readable when a link changes.
#[derive(Debug)]
pub struct LinkEvents(OwnedFd);

impl LinkEvents {
    /// Begins to listen. Needs no privilege; fails where the family is refused.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        let groups = u32::try_from(libc::RTMGRP_LINK).map_err(io::Error::other)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Forgets what was said so far.
    pub fn clear(&self) {
        for _ in 0..MESSAGES_MAX {
            // A message is cut off at one byte, which is all the same.
            match recv(&self.0, &mut [0_u8], RecvFlags::empty()) {
                // The kernel had no room for some: that says as much.
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
