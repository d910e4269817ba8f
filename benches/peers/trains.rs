//! Packets of one size handed to the kernel as one large datagram, which it cuts before the cable
//! (UDP segmentation, virtio-net's header): one processor sends three times as many packets as one by
//! one, about 10 Gbit/s.

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::Socket;

use crate::Fallible;
use crate::frames::{FLOWS, HEADERS, UDP_AT, write_number, write_train_headers};
use crate::send::{open, turn_on};

/// The most packets of a train; the kernel takes 128 at most.
const LONGEST: usize = 64;
/// Bytes of the header before the frame, as of virtio 1.2, section 5.1.6.
const VIRTIO: usize = 10;
/// The most bytes of payload: the length of all fits 16 bits.
const PAYLOAD_MAX: usize = 65_535 - HEADERS;
/// The checksum is to be filled in.
const NEEDS_CSUM: u8 = 1;
/// To be cut into datagrams.
const GSO_UDP_L4: u8 = 5;
/// Where in the UDP header the checksum is.
const CHECKSUM_AT: u16 = 6;

/// Their sender. All packets of a train are of one flow; the trains go round the flows.
pub(crate) struct Trains {
    socket: Socket,
    /// Bytes of UDP payload of a packet.
    payload: usize,
    longest: usize,
    flow: u16,
    buffer: Vec<u8>,
}

impl Trains {
    /// Of packets of so many bytes.
    pub(crate) fn new(bytes: u16) -> Fallible<Self> {
        let socket = open()?;
        turn_on(&socket, libc::PACKET_VNET_HDR)?;
        let payload = usize::from(bytes).saturating_sub(HEADERS);
        let longest = LONGEST.min(PAYLOAD_MAX / payload.max(1));
        Ok(Self {
            socket,
            payload,
            longest,
            flow: 0,
            buffer: vec![0x5a; VIRTIO + HEADERS + payload * longest],
        })
    }

    /// Sends up to `count` packets from number `first` on; how many the kernel took.
    pub(crate) fn send(&mut self, first: u64, count: u64) -> Fallible<u64> {
        let count = usize::try_from(count)
            .unwrap_or(self.longest)
            .min(self.longest);
        let bytes = self.write(first, count).ok_or("a train too long")?;
        let train = self.buffer.get(..bytes).unwrap_or_default();
        match send(&self.socket, train, SendFlags::empty()) {
            Ok(_) => {
                self.flow = (self.flow + 1) % FLOWS;
                Ok(u64::try_from(count)?)
            }
            // The cable is full; it goes out with the next call.
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a train together at the front of the buffer; how many bytes.
    fn write(&mut self, first: u64, count: usize) -> Option<usize> {
        let bytes = HEADERS + self.payload * count;
        let train = self.buffer.get_mut(..VIRTIO + bytes)?;
        let (virtio, frame) = train.split_at_mut_checked(VIRTIO)?;
        virtio.copy_from_slice(&virtio_header(self.payload, count)?);
        write_train_headers(frame, u16::try_from(bytes).ok()?, self.flow)?;
        let payloads = frame.get_mut(HEADERS..)?.chunks_exact_mut(self.payload);
        for (payload, number) in payloads.zip(first..) {
            write_number(payload, number)?;
        }
        Some(VIRTIO + bytes)
    }
}

/// What the kernel is to do with a frame of so many packets.
fn virtio_header(payload: usize, count: usize) -> Option<[u8; VIRTIO]> {
    let (kind, size) = match count {
        1 => (0, 0),
        _ => (GSO_UDP_L4, u16::try_from(payload).ok()?),
    };
    let headers = u16::try_from(HEADERS).ok()?.to_ne_bytes();
    let (size, start) = (
        size.to_ne_bytes(),
        u16::try_from(UDP_AT).ok()?.to_ne_bytes(),
    );
    let checksum = CHECKSUM_AT.to_ne_bytes();
    Some([
        NEEDS_CSUM,
        kind,
        headers[0],
        headers[1],
        size[0],
        size[1],
        start[0],
        start[1],
        checksum[0],
        checksum[1],
    ])
}
