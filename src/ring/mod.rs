//! The ring on disk: one folder per interface (and one for each further capture thread it has), one
//! pcapng file per segment, oldest deleted first.
//!
//! The directory listing is the catalog; nothing else says what the ring holds.

pub mod accounting;
pub mod catalog;
pub mod merge;
pub mod names;
pub mod reader;
pub mod window;

#[cfg(test)]
pub(crate) mod fixture;
