//! From a trigger to sealed evidence.

mod chain;
pub mod config;
pub mod custody;
mod decide;
mod durable;
pub mod explain;
mod folder;
pub mod id;
mod journal;
pub mod manifest;
mod measure;
pub mod model;
mod readback;
mod retention;
mod seal;
pub mod sshsig;
pub mod verify;

pub use config::{EvidenceConfig, WindowConfig};
pub use explain::explain;
pub use verify::{VerifyError, VerifyReport, verify};
