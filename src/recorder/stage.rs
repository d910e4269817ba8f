//! Where packets become blocks: a few lines of the cache between the kernel's buffer and a slot.
//!
//! A slot is memory that was last touched when it went to the disk. A plain store to it fetches a line
//! only to overwrite it, and a store past the cache ([`streamed`]) wants whole lines, of which two
//! packets share one at every seam. So headers, small packets and the two ends of large ones are put
//! together here, and leave as whole lines; the middle of a large packet goes from the kernel's buffer to
//! the slot directly. docs/PERFORMANCE.md has what that gives.

use crate::pcapng::copy::{LINE, streamed};
use crate::pcapng::encode::{epb, epb_head, epb_len};
use crate::recorder::slots::SlotFill;
use crate::time::Timestamp;

/// Packets of fewer bytes are put together here as a whole.
const LARGE: usize = 256;
/// With so many bytes the whole lines go to the slot.
const FULL: usize = 1024;
/// The block of a small packet may lie behind what is almost enough to go, and a line is always moved
/// as a whole.
const CAPACITY: usize = FULL + epb_len(LARGE) + LINE;

/// Bytes of a line to be copied as a whole, so that nothing depends on the length.
type Line = [u8; LINE];

/// The end of a slot that is being put together.
#[derive(Debug)]
pub(super) struct Stage {
    buffer: Box<Aligned>,
    /// Bytes at the front that are in the slot already: it ends amid a line.
    there: usize,
    /// Bytes held, with those.
    held: usize,
}

#[derive(Debug)]
#[repr(align(64))]
struct Aligned([u8; CAPACITY]);

impl Stage {
    /// Empty, before the first byte of a slot.
    pub(super) fn new() -> Self {
        Self {
            buffer: Box::new(Aligned([0; CAPACITY])),
            there: 0,
            held: 0,
        }
    }

    /// Begins a new slot.
    pub(super) fn reset(&mut self) {
        (self.there, self.held) = (0, 0);
    }

    /// Bytes that are not in the slot yet.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.held - self.there
    }

    /// Appends an Enhanced Packet Block; false, and nothing is changed, when `fill` has no room for it.
    #[inline]
    pub(super) fn packet(
        &mut self,
        fill: &mut SlotFill,
        at: Timestamp,
        original_len: u32,
        data: &[u8],
    ) -> bool {
        if fill.room() < self.waiting() + epb_len(data.len()) {
            return false;
        }
        if data.len() < LARGE {
            let room = self.buffer.0.get_mut(self.held..).unwrap_or_default();
            let Some(len) = epb(room, 0, at, original_len, data) else {
                return false;
            };
            self.held += len;
            return self.held < FULL || self.spill(fill);
        }
        self.large(fill, at, original_len, data).is_some()
    }

    /// The ends of the block by way of the buffer, what is between them directly.
    #[inline]
    fn large(
        &mut self,
        fill: &mut SlotFill,
        at: Timestamp,
        original_len: u32,
        data: &[u8],
    ) -> Option<()> {
        let len = epb_len(data.len());
        let head = epb_head(len, 0, at, original_len, data.len())?;
        let (first, _) = data.split_first_chunk::<LINE>()?;
        let from = self.held + head.len();
        let (ahead, lines) = self
            .buffer
            .0
            .get_mut(self.held..)?
            .split_first_chunk_mut()?;
        *ahead = head;
        *lines.first_chunk_mut()? = *first;
        self.held = from.next_multiple_of(LINE);
        let (_, data) = data.split_at_checked(self.held - from)?;
        let (middle, end) = data.split_at_checked(data.len() / LINE * LINE)?;
        if !self.spill(fill) {
            return None;
        }
        streamed(fill.tail().get_mut(..middle.len())?, middle);
        fill.advance(middle.len());
        // What is left of a line, up to three bytes to a multiple of four, and the length once more.
        let padded = end.len().next_multiple_of(4);
        let room = self.buffer.0.get_mut(..padded + 4)?;
        room.fill(0);
        room.get_mut(..end.len())?.copy_from_slice(end);
        let total = u32::try_from(len).ok()?;
        *room.last_chunk_mut()? = total.to_le_bytes();
        self.held = padded + 4;
        Some(())
    }

    /// Appends bytes, straight behind everything before them; whether there was room.
    pub(super) fn bytes(&mut self, fill: &mut SlotFill, bytes: &[u8]) -> bool {
        if !self.settle(fill) {
            return false;
        }
        let Some(room) = fill.tail().get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        fill.advance(bytes.len());
        self.continue_at(fill.len());
        true
    }

    /// Puts everything into the slot; whether there was room. The slot may be published then.
    #[inline]
    pub(super) fn settle(&mut self, fill: &mut SlotFill) -> bool {
        if !self.spill(fill) {
            return false;
        }
        let rest = self.buffer.0.get(self.there..self.held).unwrap_or_default();
        let Some(room) = fill.tail().get_mut(..rest.len()) else {
            return false;
        };
        room.copy_from_slice(rest);
        fill.advance(rest.len());
        self.there = self.held;
        true
    }

    /// The slot holds `len` bytes and nothing waits.
    fn continue_at(&mut self, len: usize) {
        self.there = len % LINE;
        self.held = self.there;
    }

    /// Puts the whole lines into the slot, and keeps the rest of the last one. What is there already is
    /// not written again: others may be reading it.
    #[inline]
    fn spill(&mut self, fill: &mut SlotFill) -> bool {
        let whole = self.held / LINE * LINE;
        let Some(lines) = self.buffer.0.get(self.there..whole) else {
            return true;
        };
        let Some(room) = fill.tail().get_mut(..lines.len()) else {
            return false;
        };
        streamed(room, lines);
        fill.advance(lines.len());
        let rest: Option<Line> = self
            .buffer
            .0
            .get(whole..)
            .and_then(<[u8]>::first_chunk)
            .copied();
        if let (Some(rest), Some(front)) = (rest, self.buffer.0.first_chunk_mut()) {
            *front = rest;
        }
        self.held -= whole;
        self.there = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recorder::slots::Slots;

    const SLOT: usize = 64 << 10;

    fn expected(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut all = Vec::new();
        for (nth, data) in (0..).zip(packets) {
            let mut block = vec![0xee; epb_len(data.len())];
            epb(&mut block, 0, Timestamp::from_ns(nth), 2000, data).unwrap();
            all.extend(block);
        }
        all
    }

    proptest! {
        // Whatever the sizes, and wherever it is published in between: the same bytes as one plain
        // block behind the other, and nothing beyond them.
        #[test]
        fn a_slot_holds_what_plain_blocks_would(
            lens in prop::collection::vec((0_usize..1600, any::<bool>()), 1..30),
            header in 0_usize..200,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let slots = Slots::create(&dir.path().join("s"), 1, SLOT).unwrap().into_slots();
            let slot = slots.into_iter().next().unwrap();
            let (mut fill, read) = slot.begin(1, Timestamp::from_ns(1), Timestamp::MIN);
            fill.tail().fill(0xaa);
            let mut stage = Stage::new();
            let header = vec![0x77; header / 4 * 4];
            prop_assert!(stage.bytes(&mut fill, &header));
            fill.publish();
            let packets: Vec<Vec<u8>> = lens
                .iter()
                .zip(1_u8..)
                .map(|((len, _), nth)| (0..*len).map(|at| nth ^ u8::try_from(at % 251).unwrap()).collect())
                .collect();
            for ((nth, data), (_, publish)) in (0..).zip(&packets).zip(&lens) {
                prop_assert!(stage.packet(&mut fill, Timestamp::from_ns(nth), 2000, data));
                if *publish {
                    prop_assert!(stage.settle(&mut fill));
                    fill.publish();
                    let so_far = &packets[..=usize::try_from(nth).unwrap()];
                    let so_far = [header.clone(), expected(so_far)].concat();
                    prop_assert_eq!(read.bytes(), so_far);
                }
            }
            prop_assert!(stage.settle(&mut fill));
            prop_assert_eq!(stage.waiting(), 0);
            fill.publish();
            let all = [header, expected(&packets)].concat();
            prop_assert_eq!(fill.len(), all.len());
            prop_assert_eq!(read.bytes(), all);
            prop_assert!(fill.tail().iter().all(|byte| *byte == 0xaa));
        }
    }
}
