//! What the writer tells pump and keeper, in order: bytes of segments, and remarks between them.

use crossbeam_channel::Sender;

use crate::recorder::ledger::Second;
use crate::recorder::protocol::Gap;
use crate::recorder::slots::{SlotFill, SlotRead};
use crate::time::Timestamp;

/// Answered (or dropped, on failure) when what was asked for is durable.
pub type Done = Sender<()>;

/// What the keeper is told, in order.
#[derive(Debug)]
pub enum Event {
    /// A slot was opened.
    Opened(SlotRead),
    /// The slot in use may be written up to here: whole blocks, aligned, ending in a sample.
    Progress {
        /// Bytes.
        upto: usize,
        /// The time is the sample's.
        due: Due,
    },
    /// The slot in use holds a whole segment.
    Sealed {
        /// Its writing half.
        fill: SlotFill,
        /// The time is the final sample's.
        due: Due,
    },
    /// What has no bytes.
    Remark(Remark),
}

/// What is said when everything before is durable.
#[derive(Debug)]
pub struct Due {
    /// Up to when everything is.
    pub at: Timestamp,
    /// Who waits for it.
    pub done: Vec<Done>,
    /// Whether it is to be so at once: somebody waits, or `ring.sync` is over.
    pub urgent: bool,
}

impl Due {
    /// At once.
    pub const fn now(at: Timestamp, done: Vec<Done>) -> Self {
        let urgent = true;
        Self { at, done, urgent }
    }
}

/// What is told between segments' bytes, and takes its turn among them.
#[derive(Debug)]
pub enum Remark {
    /// Nothing new to write; answer when everything before is durable.
    Nothing(Due),
    /// A span was not recorded.
    Gap(Gap),
    /// What happened since the line of accounting before.
    Second(Second),
}

impl From<Remark> for Event {
    fn from(remark: Remark) -> Self {
        Self::Remark(remark)
    }
}
