//! What is measured, in which order, and how long that takes.

use std::time::Duration;

use clap::ValueEnum;

use crate::disturb::Beside;
use crate::frames::Mix;
use crate::send::Load;
use crate::tools::Recorder;

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Scenario {
    /// 1514 bytes as fast as the sender can, to disk
    Flat,
    /// Paced: what a packet costs
    Cost,
    /// 400,000/s of 1514 bytes while a large file is written to the same disk
    Writer,
    /// The same while the recording is read at full speed
    Export,
    /// The highest rate without loss
    Search,
}

/// A paced load of the scenarios with other work beside: 4.8 Gbit/s.
pub(crate) const BUSY_RATE: u64 = 400_000;

impl Scenario {
    /// All, in order.
    pub(crate) const ALL: [Self; 5] = [
        Self::Flat,
        Self::Cost,
        Self::Writer,
        Self::Export,
        Self::Search,
    ];

    /// Its title in the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Flat => "Flat out, 1514 bytes, to disk",
            Self::Cost => "Cost per packet, paced",
            Self::Writer => "400,000/s of 1514 bytes beside a large write to the same disk",
            Self::Export => "400,000/s of 1514 bytes while the recording is read",
            Self::Search => "Highest rate without loss",
        }
    }

    /// What is beside the recorder.
    pub(crate) fn beside(self) -> Beside {
        match self {
            Self::Writer => Beside::Writer,
            Self::Export => Beside::Reader,
            Self::Flat | Self::Cost | Self::Search => Beside::Nothing,
        }
    }

    /// Whether it makes sense for a recorder.
    pub(crate) fn suits(self, recorder: Recorder) -> bool {
        match self {
            Self::Flat => !recorder.is_bare(),
            Self::Cost => !recorder.is_ring(),
            Self::Writer | Self::Export | Self::Search => {
                !recorder.is_ring()
                    && !recorder.is_bare()
                    && !matches!(
                        recorder,
                        Recorder::WirewitnessTwo | Recorder::WirewitnessLarge
                    )
            }
        }
    }

    /// The sizes it is run with, of those wanted.
    pub(crate) fn mixes(self, wanted: &[Mix]) -> Vec<Mix> {
        match self {
            Self::Cost | Self::Search => wanted.to_vec(),
            Self::Flat | Self::Writer | Self::Export => vec![Mix::Fixed(1514)],
        }
    }

    /// What is sent; `time` is the length of a plain run.
    pub(crate) fn load(self, mix: Mix, time: Duration) -> Load {
        let (rate, time) = match self {
            Self::Flat | Self::Search => (None, time),
            Self::Cost => (Some(cost_rate(mix)), time),
            Self::Writer | Self::Export => (Some(BUSY_RATE), time * 2),
        };
        Load { mix, rate, time }
    }

    /// About how long one run takes.
    pub(crate) fn estimate(self, time: Duration) -> Duration {
        let (times, more_ms) = match self {
            Self::Flat => (1, 3000),
            Self::Cost | Self::Search => (1, 2300),
            Self::Writer => (2, 6000),
            Self::Export => (2, 3000),
        };
        time * times + Duration::from_millis(more_ms)
    }
}

/// Packets per second: of small packets what every recorder sustains on two slow cores, of large ones
/// 4.8 Gbit/s, so that it is the disk's pace that is compared and not a page cache that is still empty.
fn cost_rate(mix: Mix) -> u64 {
    match mix.mean_bytes() {
        0..=200 => 300_000,
        201..=800 => 250_000,
        _ => BUSY_RATE,
    }
}
