//! From a trigger to sealed evidence.

mod chain;
pub mod config;
pub mod custody;
mod decide;
mod durable;
pub mod explain;
pub mod id;
mod journal;
pub mod manifest;
mod measure;
pub mod model;
mod readback;
mod retention;
pub mod sshsig;

pub use config::{EvidenceConfig, WindowConfig};
pub use explain::explain;
