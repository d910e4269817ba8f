//! Reads blocks one after the other from any [`Read`], with a buffer that holds one block.

use std::io::{self, Read};

use super::decode::{Block, DecodeError, Decoder, Interface};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why reading stopped early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The bytes are not pcapng.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The source failed.
    #[error("read: {0}")]
    Io(#[from] io::Error),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A block.
    Block(Block<'a>),
    /// The source ends behind a whole block.
    End,
    /// The source ends inside a block, or in the zeros of space that was never written; the
    /// blocks before are whole.
    Torn {
        /// Where the unfinished block begins.
        offset: u64,
    },
}

/// The blocks of a pcapng source.
#[derive(Debug)]
pub struct Blocks<R> {
    source: R,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The bytes read and not yet consumed are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The source has no more bytes.
    drained: bool,
}

impl<R: Read> Blocks<R> {
    /// The blocks of `source`, from its beginning.
    pub fn new(source: R) -> Self {
        Self {
            source,
            decoder: Decoder::new(),
            buffer: vec![0; CHUNK_BYTES],
            start: 0,
            end: 0,
            drained: false,
        }
    }

    /// The offset of the block that comes next.
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// An interface of the current section.
    pub fn interface(&self, number: u32) -> Option<&Interface> {
        self.decoder.interface(number)
    }

    /// All interfaces of the current section so far.
    pub fn interfaces(&self) -> &[Interface] {
        self.decoder.interfaces()
    }

    /// The next block. After an error, [`Next::End`] or [`Next::Torn`] the answer stays.
    #[expect(clippy::should_implement_trait, reason = "lends from its own buffer")]
    pub fn next(&mut self) -> Result<Next<'_>, StreamError> {
        let length = loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            if unwritten(held) {
                let offset = self.decoder.offset();
                return Ok(Next::Torn { offset });
            }
            let wanted = match self.decoder.length(held)? {
                Some(length) if length <= held.len() => break length,
                // Section headers need 12 bytes to tell their length, others 8.
                None => held.len() + 4,
                Some(length) => length,
            };
            if self.drained {
                return Ok(match held {
                    [] => Next::End,
                    _ => Next::Torn {
                        offset: self.decoder.offset(),
                    },
                });
            }
            self.fill(wanted)?;
        };
        let block = self
            .buffer
            .get(self.start..self.start + length)
            .unwrap_or_default();
        let found = self.decoder.block(block)?;
        self.start += length;
        Ok(found.map_or(Next::End, Next::Block))
    }

    /// Reads until `wanted` bytes are held or the source ends. The caller has checked `wanted`
    /// against [`super::decode::BLOCK_BYTES_MAX`].
    fn fill(&mut self, wanted: usize) -> Result<(), StreamError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted && !self.drained {
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.source.read(free) {
                Ok(0) => self.drained = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Space that was allocated and not written reads as zeros; no block begins like that.
fn unwritten(held: &[u8]) -> bool {
    held.first_chunk() == Some(&[0_u8; 8])
}
