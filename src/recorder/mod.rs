//! The process that must not fail: captures packets and writes the ring. It parses no packet.

pub mod client;
pub mod protocol;
