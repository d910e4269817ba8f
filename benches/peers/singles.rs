//! Frames handed to the kernel one by one, of any sizes; 64 a call.

use std::io::IoSlice;

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::Socket;

use crate::Fallible;
use crate::frames::{Frames, Mix};
use crate::send::{open, turn_on};

/// Frames handed to the kernel at once.
const BATCH: usize = 64;
/// The longest frame.
const FRAME_BYTES: usize = 1514;

/// Their sender.
pub(crate) struct Singles {
    socket: Socket,
    frames: Frames,
    buffers: Vec<[u8; FRAME_BYTES]>,
}

impl Singles {
    /// Of these sizes.
    pub(crate) fn new(mix: Mix) -> Fallible<Self> {
        let socket = open()?;
        turn_on(&socket, libc::PACKET_QDISC_BYPASS)?;
        Ok(Self {
            socket,
            frames: Frames::new(mix),
            buffers: vec![[0x5a; FRAME_BYTES]; BATCH],
        })
    }

    /// Sends up to `count` frames from number `first` on; how many the kernel took.
    pub(crate) fn send(&mut self, first: u64, count: u64) -> Fallible<u64> {
        let count = usize::try_from(count).unwrap_or(BATCH).min(BATCH);
        let mut slices = Vec::with_capacity(count);
        for (buffer, number) in self.buffers.iter_mut().take(count).zip(first..) {
            let length = self.frames.write(number, buffer);
            let frame = length.and_then(|length| buffer.get(..length));
            slices.push([IoSlice::new(frame.ok_or("a frame longer than its buffer")?)]);
        }
        let mut none: Vec<_> = slices
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = slices
            .iter()
            .zip(&mut none)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
            Ok(taken) => Ok(u64::try_from(taken)?),
            // The cable is full; the frame goes out with the next call.
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
