//! Asks the kernel where the buffer of a packet socket is mapped (proc(5), `maps`) and how it is
//! divided (`NETLINK_SOCK_DIAG`, linux/packet_diag.h).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP
const DUMP: u16 = 0x301;
/// PACKET_SHOW_INFO | PACKET_SHOW_RING_CFG
const SHOW: u32 = 1 | 4;
/// Attributes of an answer.
const INFO: u16 = 0;
const RX_RING: u16 = 2;
/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// `struct packet_diag_msg`.
const MESSAGE_LEN: usize = 16;

/// A buffer of TPACKET_V3 in our memory: `blocks` times `block_bytes` from `address` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) address: usize,
    pub(super) block_bytes: usize,
    pub(super) blocks: usize,
}

/// The layout of a socket's receive buffer; an error when it has none of version 3, or when it is
/// not mapped as a whole.
pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Layout> {
    let inode = u32::try_from(rustix::fs::fstat(socket)?.st_ino).map_err(io::Error::other)?;
    let (block_bytes, blocks) = division(inode)?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let (address, len) = mapped(&maps, inode).ok_or_else(nothing)?;
    let whole = block_bytes.checked_mul(blocks) == Some(len);
    if !whole || len == 0 || !block_bytes.is_multiple_of(4096) {
        return Err(io::Error::other("it is not mapped as it is divided"));
    }
    Ok(Layout {
        address,
        block_bytes,
        blocks,
    })
}

/// Where a socket is mapped, and how many bytes of it.
fn mapped(maps: &str, inode: u32) -> Option<(usize, usize)> {
    let file = format!("socket:[{inode}]");
    let line = maps.lines().find(|line| line.ends_with(&file))?;
    let (from, rest) = line.split_once('-')?;
    let (to, _) = rest.split_once(' ')?;
    let from = usize::from_str_radix(from, 16).ok()?;
    let to = usize::from_str_radix(to, 16).ok()?;
    Some((from, to.checked_sub(from)?))
}

/// Bytes per block, and how many blocks.
fn division(inode: u32) -> io::Result<(usize, usize)> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&kernel, &request(), SendFlags::empty())?;
    let mut answer = vec![0; 65536];
    loop {
        let (len, _) = rustix::net::recv(&kernel, answer.as_mut_slice(), RecvFlags::empty())?;
        match search(answer.get(..len).unwrap_or_default(), inode) {
            Some(found) => return found,
            None if len == 0 => return Err(nothing()),
            None => {}
        }
    }
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the kernel does not list it")
}

/// All packet sockets of this network namespace.
fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    let body_len = 20;
    let len = u32::try_from(HEADER_LEN).unwrap_or(0) + body_len;
    bytes.extend(len.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    let family = u8::try_from(libc::AF_PACKET).unwrap_or(0);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(SHOW.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Looks for a socket in one answer; `None` when more are to come.
fn search(mut rest: &[u8], inode: u32) -> Option<io::Result<(usize, usize)>> {
    while let Some(len) = number(rest, 0) {
        let len = usize::try_from(len).ok().filter(|len| *len >= HEADER_LEN)?;
        let message = rest.get(..len)?;
        match half(message, 4)? {
            NLMSG_DONE => return Some(Err(nothing())),
            NLMSG_ERROR => {
                let code = number(message, HEADER_LEN)?.cast_signed();
                return Some(Err(io::Error::from_raw_os_error(code.saturating_neg())));
            }
            _ if number(message, HEADER_LEN + 4)? == inode => {
                return Some(parse(message.get(HEADER_LEN + MESSAGE_LEN..)?).ok_or_else(other));
            }
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn other() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "no buffer of TPACKET_V3")
}

fn parse(mut attributes: &[u8]) -> Option<(usize, usize)> {
    const VERSION_3: u32 = 2;
    let (mut version, mut ring) = (None, None);
    while let (Some(len), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        let len = usize::from(len);
        let body = attributes.get(4..len)?;
        match kind {
            // pdi_index, pdi_version
            INFO => version = number(body, 4),
            // pdr_block_size, pdr_block_nr
            RX_RING => ring = Some((number(body, 0)?, number(body, 4)?)),
            _ => {}
        }
        let Some(rest) = attributes.get(len.next_multiple_of(4)..) else {
            break;
        };
        attributes = rest;
    }
    let (block_bytes, blocks) = ring.filter(|_| version == Some(VERSION_3))?;
    let size = |number| usize::try_from(number).ok();
    Some((size(block_bytes)?, size(blocks)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*two))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, body: &[u32]) -> Vec<u8> {
        let len = u16::try_from(4 + 4 * body.len()).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    fn answer(inode: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let len = u32::try_from(HEADER_LEN + MESSAGE_LEN + body.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([17, 0, 0, 0]);
        bytes.extend(inode.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_socket_is_found_among_others() {
        let ring = attribute(RX_RING, &[262_144, 256, 262_144, 256, 10, 0, 0]);
        let version = |version| attribute(INFO, &[3, version, 0, 0, 0]);
        let mut bytes = answer(5, &[version(2), ring.clone()]);
        bytes.extend(answer(6, &[version(1), ring.clone()]));
        bytes.extend(answer(7, &[attribute(9, &[1]), version(2), ring]));
        let found = search(&bytes, 7).unwrap().unwrap();
        assert_eq!(found, (262_144, 256));
        let old = search(&bytes, 6).unwrap().unwrap_err();
        assert_eq!(old.kind(), io::ErrorKind::Unsupported);
        assert!(search(&bytes, 8).is_none(), "more may come");
    }

    #[test]
    fn the_mapping_is_found_by_the_sockets_number() {
        let maps = "7f00-7f10 rw-s 00000000 00:08 12     socket:[12]\n\
                    a000-a800 rw-s 00000000 00:08 123    socket:[123]\n";
        assert_eq!(mapped(maps, 123), Some((0xa000, 0x800)));
        assert_eq!(mapped(maps, 23), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = search(&bytes, 7);
            let _ = parse(&bytes);
        }
    }
}
