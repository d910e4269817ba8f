//! From a trigger to sealed evidence.

mod chain;
pub mod config;
mod decide;
mod durable;
pub mod id;
mod journal;
pub mod model;
mod readback;
pub mod sshsig;

pub use config::{EvidenceConfig, WindowConfig};
