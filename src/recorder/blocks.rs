//! The kernel's buffer of a packet socket, walked block by block.
//!
//! libpcap opens the socket, sets the buffer up and knows what every kind of link needs. For Ethernet
//! without a capture filter, which is what mirror ports carry, all that is left is to go from packet
//! to packet: here that costs half of what libpcap's callback does, and libpcap is not asked again.
//!
//! Where libpcap mapped the buffer and how it is divided, the kernel says ([`layout`]). A block is ours
//! from the moment its status says so until we give it back, as a whole (packet_mmap.rst, TPACKET_V3).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pcap::{Active, Capture};

use crate::recorder::layout;
use crate::recorder::open::descriptor;
use crate::time::Timestamp;

/// Offsets in `struct tpacket_block_desc`.
const STATUS: usize = 8;
const PACKETS: usize = 12;
const FIRST: usize = 16;
const SEQUENCE: usize = 24;

/// `struct tpacket3_hdr`.
const HEADER_LEN: usize = 48;
/// The two addresses of an Ethernet header; a VLAN tag stands behind them.
const ADDRESSES_LEN: usize = 12;
const TAG_LEN: usize = 4;
/// The kind of tag where the card does not say it: IEEE 802.1Q.
const TPID: u16 = 0x8100;

/// The buffer of a capture.
pub(super) struct Blocks {
    /// libpcap's mapping.
    base: *mut u8,
    block_bytes: usize,
    count: usize,
    /// The block that is read next.
    next: usize,
    snaplen: usize,
    /// Unmaps the buffer when it is closed.
    capture: Capture<Active>,
}

impl Blocks {
    /// Takes over a capture, of whose packets libpcap is not asked any more, or gives it back and
    /// says why. `snaplen`: bytes kept of each packet.
    pub(super) fn new(
        capture: Capture<Active>,
        snaplen: u32,
    ) -> Result<Self, (Capture<Active>, std::io::Error)> {
        let layout = match layout::of(descriptor(&capture)) {
            Ok(layout) => layout,
            Err(error) => return Err((capture, error)),
        };
        let mut blocks = Self {
            base: std::ptr::with_exposed_provenance_mut(layout.address),
            block_bytes: layout.block_bytes,
            count: layout.blocks,
            next: 0,
            snaplen: usize::try_from(snaplen).unwrap_or(usize::MAX),
            capture,
        };
        blocks.next = blocks.settled_start();
        Ok(blocks)
    }

    /// Whose buffer it is.
    pub(super) fn capture(&self) -> &Capture<Active> {
        &self.capture
    }

    /// Hands on all packets of the next block as time, length on the wire, and bytes; how many, or
    /// `None` when the block is not ready. It stays ours until [`Self::give_back`].
    #[inline]
    pub(super) fn take(&mut self, mut packet: impl FnMut(Timestamp, u32, &[u8])) -> Option<usize> {
        let snaplen = self.snaplen;
        self.is_ready(self.next, Ordering::Acquire)
            .then(|| read(self.block(self.next), snaplen, &mut packet))
    }

    /// Gives the block that was taken back to the kernel.
    #[inline]
    pub(super) fn give_back(&mut self) {
        self.word32(self.next, STATUS)
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.count;
    }

    /// Where to begin: the oldest block that is ready, or the one being filled. The kernel works on
    /// while we look, so it counts when two looks agree.
    fn settled_start(&self) -> usize {
        let mut start = self.start();
        loop {
            let again = self.start();
            if again == start {
                return start;
            }
            start = again;
        }
    }

    fn start(&self) -> usize {
        let all = 0..self.count;
        let sequence = |block: &usize| self.word64(*block, SEQUENCE).load(Ordering::Acquire);
        let ready = all
            .clone()
            .filter(|block| self.is_ready(*block, Ordering::Acquire));
        ready
            .min_by_key(sequence)
            .or_else(|| all.max_by_key(sequence))
            .unwrap_or(0)
    }

    fn is_ready(&self, block: usize, order: Ordering) -> bool {
        self.word32(block, STATUS).load(order) & libc::TP_STATUS_USER != 0
    }

    #[expect(unsafe_code, reason = "memory that the kernel writes to")]
    fn word32(&self, block: usize, at: usize) -> &AtomicU32 {
        let place = self.place(block, at, size_of::<AtomicU32>());
        // SAFETY: the place lies inside the mapping, which `self.capture` keeps, and is aligned, as a
        // block begins at a page and `at` is a multiple of 4. Whoever writes to it, the kernel
        // or we, does so in one piece.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    #[expect(unsafe_code, reason = "memory that the kernel writes to")]
    fn word64(&self, block: usize, at: usize) -> &AtomicU64 {
        let place = self.place(block, at, size_of::<AtomicU64>());
        // SAFETY: as above, with `at` a multiple of 8.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    /// The bytes of a block that is ready, until it is given back.
    #[expect(unsafe_code, reason = "memory that the kernel writes to")]
    fn block(&mut self, block: usize) -> &mut [u8] {
        assert!(self.is_ready(block, Ordering::Acquire), "not ours");
        let place = self.place(block, 0, self.block_bytes);
        // SAFETY: the place lies inside the mapping, which `self.capture` keeps. The kernel has
        // handed the block over (the status was read with Acquire) and does not touch it before it
        // is given back, which takes `self`; so the slice is the only way to its bytes.
        unsafe { std::slice::from_raw_parts_mut(place, self.block_bytes) }
    }

    fn place(&self, block: usize, at: usize, len: usize) -> *mut u8 {
        let aligned = at.is_multiple_of(len.min(8));
        assert!(aligned && block < self.count && at + len <= self.block_bytes);
        self.base.wrapping_add(block * self.block_bytes + at)
    }
}

/// Hands on the packets of a block; how many. What points outside the block ends it.
#[inline]
fn read(block: &mut [u8], snaplen: usize, packet: &mut impl FnMut(Timestamp, u32, &[u8])) -> usize {
    let (Some(count), Some(first)) = (number(block, PACKETS), number(block, FIRST)) else {
        return 0;
    };
    let mut at = size(first);
    for taken in 0..size(count) {
        let Some(next) = one(block, at, snaplen, packet) else {
            return taken;
        };
        at += next;
    }
    size(count)
}

/// Hands on the packet whose header is at `at`; how far the next header is from it.
#[inline]
fn one(
    block: &mut [u8],
    at: usize,
    snaplen: usize,
    packet: &mut impl FnMut(Timestamp, u32, &[u8]),
) -> Option<usize> {
    let rest = block.get_mut(at..)?;
    let header = Header::parse(rest.first_chunk()?);
    let (mut from, mut wire) = (header.from, header.wire);
    let to = from.checked_add(header.captured)?;
    if let Some(tag) = header.tag.filter(|_| header.captured >= ADDRESSES_LEN) {
        // The card took the tag out of the packet. The kernel leaves room for it before the packet.
        let moved = from.checked_sub(TAG_LEN).filter(|to| *to >= HEADER_LEN)?;
        rest.get(from..to)?;
        rest.copy_within(from..from + ADDRESSES_LEN, moved);
        let gap = moved + ADDRESSES_LEN;
        rest.get_mut(gap..gap + TAG_LEN)?.copy_from_slice(&tag);
        from = moved;
        wire = wire.saturating_add(4);
    }
    let data = rest.get(from..to)?;
    let data = data.get(..snaplen).unwrap_or(data);
    packet(header.at, wire, data);
    Some(header.next)
}

/// What `struct tpacket3_hdr` says.
struct Header {
    at: Timestamp,
    /// Bytes from this header to the next.
    next: usize,
    /// Bytes from this header to the packet.
    from: usize,
    captured: usize,
    wire: u32,
    tag: Option<[u8; TAG_LEN]>,
}

impl Header {
    #[inline]
    fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let word = |at: usize| number(bytes, at).unwrap_or(0);
        let half = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk);
        let half = |at: usize| half(at).map_or(0, |two| u16::from_ne_bytes(*two));
        let (seconds, nanos) = (u64::from(word(4)), u64::from(word(8)));
        let (status, tci) = (word(20), word(32));
        let tagged = status & libc::TP_STATUS_VLAN_VALID != 0 || tci != 0;
        let tag = tagged.then(|| {
            let said = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if said { half(36) } else { TPID };
            let [a, b] = tpid.to_be_bytes();
            let [.., c, d] = tci.to_be_bytes();
            [a, b, c, d]
        });
        Self {
            at: Timestamp::from_ns(seconds * 1_000_000_000 + nanos),
            next: size(word(0)),
            from: usize::from(half(24)),
            captured: size(word(12)),
            wire: word(16),
            tag,
        }
    }
}

#[inline]
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

#[inline]
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: usize = 82;

    /// A packet's header and its bytes, `next` bytes long together.
    fn entry(next: u32, tci: Option<(u32, u16)>, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; size(next)];
        let captured = u32::try_from(data.len()).unwrap();
        let status = match tci {
            Some((_, 0)) => libc::TP_STATUS_VLAN_VALID,
            Some(_) => libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID,
            None => 0,
        };
        let (tci, tpid) = tci.unwrap_or_default();
        for (at, word) in [
            (0, next),
            (4, 7),
            (8, 5),
            (12, captured),
            (16, captured + 100),
            (20, status),
            (32, tci),
        ] {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[24..26].copy_from_slice(&u16::try_from(MAC).unwrap().to_ne_bytes());
        bytes[36..38].copy_from_slice(&tpid.to_ne_bytes());
        bytes[MAC..MAC + data.len()].copy_from_slice(data);
        bytes
    }

    fn block(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        let count = u32::try_from(entries.len()).unwrap();
        bytes[PACKETS..PACKETS + 4].copy_from_slice(&count.to_ne_bytes());
        bytes[FIRST..FIRST + 4].copy_from_slice(&48_u32.to_ne_bytes());
        bytes.extend(entries.concat());
        bytes
    }

    fn all(block: &mut [u8], snaplen: usize) -> Vec<(u64, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let taken = read(block, snaplen, &mut |at, wire, data| {
            found.push((at.as_ns(), wire, data.to_vec()));
        });
        assert_eq!(taken, found.len());
        found
    }

    #[test]
    fn packets_are_handed_on_in_order_cut_at_the_snapshot_length() {
        let (long, short) = ([1; 60], [2; 20]);
        let mut bytes = block(&[entry(160, None, &long), entry(128, None, &short)]);
        let at = 7_000_000_005;
        assert_eq!(
            all(&mut bytes, 30),
            [
                (at, 160, long[..30].to_vec()),
                (at, 120, short[..].to_vec())
            ]
        );
    }

    #[test]
    fn a_tag_that_the_card_took_out_is_put_back() {
        let data: Vec<u8> = (0..60).collect();
        let tagged = |tpid: [u8; 2]| {
            let tag = [tpid[0], tpid[1], 0x60, 0x2a];
            [&data[..12], &tag, &data[12..]].concat()
        };
        let tci = 0x602a;
        let said = entry(160, Some((tci, 0x88a8)), &data);
        let mut bytes = block(&[entry(160, Some((tci, 0)), &data), said]);
        let found = all(&mut bytes, 100);
        assert_eq!(found[0].2, tagged([0x81, 0x00]));
        assert_eq!(found[1].2, tagged([0x88, 0xa8]));
        assert_eq!(found[0].1, 164);
    }

    #[test]
    fn what_points_outside_ends_the_block() {
        for (at, lie) in [(0, u32::MAX), (12, 4000), (24, 0xffff)] {
            let mut bytes = block(&[entry(160, None, &[1; 60]), entry(160, None, &[2; 60])]);
            bytes[48 + at..48 + at + 4].copy_from_slice(&lie.to_ne_bytes());
            assert!(all(&mut bytes, 100).len() <= 1, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), count in 0_u32..5) {
            if let Some(place) = bytes.get_mut(PACKETS..PACKETS + 4) {
                place.copy_from_slice(&count.to_ne_bytes());
            }
            if let Some(place) = bytes.get_mut(FIRST..FIRST + 4) {
                place.copy_from_slice(&48_u32.to_ne_bytes());
            }
            read(&mut bytes, 100, &mut |_, _, _| {});
        }
    }
}
