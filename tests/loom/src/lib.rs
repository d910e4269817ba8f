//! The program's own hand-over (`recorder/handover.rs`, `recorder/writer.rs`) compiled over a
//! memory and a channel that loom follows: every atomic access and every channel operation is a
//! point where the other thread may go on, and a byte that is read without having been handed over
//! is a race that fails the model.

// `writer.rs` says `use crossbeam_channel::..`: here that is this crate.
extern crate self as crossbeam_channel;

mod channel;

pub use channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

#[path = "../../../src/clock.rs"]
pub mod clock;
#[path = "../../../src/counters.rs"]
pub mod counters;
#[path = "../../../src/time.rs"]
pub mod time;

#[path = "../../../src/pcapng/mod.rs"]
pub mod pcapng;

/// The files under test and what they stand on.
pub mod recorder {
    #[path = "../../../../src/recorder/events.rs"]
    pub mod events;
    #[path = "../../../../src/recorder/handover.rs"]
    pub mod handover;
    #[path = "../../../../src/recorder/ledger.rs"]
    pub mod ledger;
    #[path = "../../../../src/recorder/order.rs"]
    pub mod order;
    #[path = "../../../../src/recorder/protocol.rs"]
    pub mod protocol;
    pub mod slots;
    #[path = "../../../../src/recorder/stage.rs"]
    mod stage;
    #[path = "../../../../src/recorder/writer.rs"]
    pub mod writer;
}
