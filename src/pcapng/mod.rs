//! pcapng (draft-ietf-opsawg-pcapng): blocks in, bytes out and back. No I/O here.
//!
//! [`encode`] writes the four blocks we use (SHB, IDB, EPB, ISB), always little-endian; [`decode`]
//! reads everybody's, from slices, and [`stream`] from anything that can be read; [`copy`] is how a packet's bytes get
//! into a block that nobody reads soon. [`isb`] is our profile of the Interface Statistics Block: counters by cause, the mark of a sealed segment
//! and the padding that keeps a segment's length a multiple of the disk's block size.

pub mod copy;
pub mod decode;
pub mod encode;
pub mod isb;
pub mod stream;

/// Section Header Block.
pub const BLOCK_SHB: u32 = 0x0A0D_0D0A;
/// Interface Description Block.
pub const BLOCK_IDB: u32 = 1;
/// Simple Packet Block.
pub const BLOCK_SPB: u32 = 3;
/// Interface Statistics Block.
pub const BLOCK_ISB: u32 = 5;
/// Enhanced Packet Block.
pub const BLOCK_EPB: u32 = 6;

/// End of options.
pub const OPT_END: u16 = 0;
/// A comment, UTF-8.
pub const OPT_COMMENT: u16 = 1;
/// A custom option with binary data that tools may copy.
pub const OPT_CUSTOM_BINARY: u16 = 2989;

/// The Private Enterprise Number in our custom options. 32473 is IANA's number for documentation
/// (RFC 5612); a number of our own is to be requested by the project's owner.
pub const PEN: u32 = 32473;
