//! From a trigger to sealed evidence.
//!
//! A trigger is journalled ([`engine`] answers only then), opens or joins an incident, and the
//! recorder is asked to link its window; at the window's end what is linked is read back, hashed,
//! explained, signed and sealed. [`verify`](verify()) checks a sealed folder with nothing but the
//! folder; [`explain`](explain()) says why packets are not there.

mod accept;
mod accounting;
mod chain;
pub mod config;
pub mod custody;
mod decide;
pub(crate) mod durable;
pub mod engine;
pub mod explain;
mod folder;
mod house;
pub mod id;
mod journal;
pub mod manifest;
mod measure;
mod members;
pub mod model;
mod readback;
mod reserve;
mod retention;
mod scan;
mod seal;
pub mod sshsig;
mod table;
mod tend;
#[cfg(test)]
mod tests;
pub mod verify;

pub use config::{EvidenceConfig, WindowConfig};
pub use engine::{Change, Incidents, NoteError, OpenError, ReleaseError, Setup};
pub use explain::explain;
pub use manifest::ClockState;
pub use verify::{VerifyError, VerifyReport, verify};
