//! pcapng.

pub mod decode;
pub mod stream;
