//! Early signs on the path to one target: what its probes show before they fail.
//!
//! A [`Detector`] is told what became of each probe and answers with [`Sign`]s: round trips longer
//! or wider spread than usual *at this hour of the week*, losses in a burst or slowly more of them,
//! another number of hops, ICMP errors. No I/O, no clock, no thread; every decision depends on the
//! observations and the saved [`Memory`] alone, so that a recorded series plays back to the same
//! signs.
//!
//! How it decides: probes are put together in blocks of about ten seconds ([`block`]); of each
//! block the median round trip and its spread are compared with a baseline learned online
//! ([`baseline`], [`seasonal`]) and with what the last days showed at this time ([`days`]); a CUSUM
//! collects the evidence ([`change`], [`loss`], [`losses`]); a hysteresis makes of evidence one sign
//! with a beginning and an end ([`hysteresis`]).

pub mod baseline;
pub mod block;
pub mod change;
pub mod config;
pub mod days;
pub mod detector;
pub mod hops;
pub mod hysteresis;
pub mod icmp;
pub mod loss;
pub mod losses;
pub mod memory;
pub mod seasonal;
pub mod sign;

pub use config::{PrecursorConfig, PrecursorError, Sensitivity};
pub use detector::Detector;
pub use memory::{Memory, MemoryError};
pub use sign::{Edge, Fate, IcmpError, Observation, Sign, SignKind};
