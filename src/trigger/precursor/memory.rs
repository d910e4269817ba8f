//! What is known of one target, as it is kept across restarts: JSON of a bounded size.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

use super::baseline::Baseline;
use super::days::Days;
use super::hops::KnownHops;
use super::icmp::KnownErrors;
use super::seasonal::Seasonal;

/// The version of the text. Another version is refused; the target then learns anew.
pub const VERSION: u32 = 1;
/// A longer text is refused unread; what is written is below half of it.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// What a detector knows of its target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    /// Blocks seen, for the warm-up.
    pub(super) blocks: u64,
    /// The end of the last block seen.
    pub(super) last: Timestamp,
    /// The logarithm of a block's median round trip.
    pub(super) level: Baseline,
    /// The logarithm of the spread of a block's round trips.
    pub(super) spread: Baseline,
    /// The rate of loss, 0 to 1.
    pub(super) loss: Seasonal,
    pub(super) hops: KnownHops,
    pub(super) errors: KnownErrors,
    /// The last days; not in what was saved before it was learned.
    #[serde(default)]
    pub(super) days: LastDays,
}

/// What the last days showed of each figure.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct LastDays {
    /// Smoothed, as in [`Memory::level`].
    pub(super) level: Days,
    /// Smoothed, as in [`Memory::spread`].
    pub(super) spread: Days,
    pub(super) loss: Days,
}

impl LastDays {
    fn is_sound(&self) -> bool {
        [&self.level, &self.spread, &self.loss]
            .into_iter()
            .all(Days::is_sound)
    }
}

/// Why a saved memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It is longer than any that is written.
    #[error("{0} bytes, at most {TEXT_BYTES_MAX} are read")]
    Long(usize),
    /// It is no JSON, or not of this shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("version {0}, this program reads {VERSION}")]
    Version(u32),
    /// A number in it is out of its range.
    #[error("a number is out of its range")]
    Unsound,
}

impl Memory {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            version: VERSION,
            blocks: 0,
            last: Timestamp::MIN,
            level: Baseline::new(0.05),
            spread: Baseline::new(0.4),
            loss: Seasonal::new(0.0),
            hops: KnownHops::default(),
            errors: KnownErrors::default(),
            days: LastDays::default(),
        }
    }

    /// As text, for a file.
    pub fn save(&self) -> Result<String, MemoryError> {
        Ok(serde_json::to_string(self)?)
    }

    /// From the text of [`Memory::save`].
    pub fn load(text: &str) -> Result<Self, MemoryError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(MemoryError::Long(text.len()));
        }
        let memory: Self = serde_json::from_str(text)?;
        if memory.version != VERSION {
            return Err(MemoryError::Version(memory.version));
        }
        let sound = memory.level.is_sound()
            && memory.spread.is_sound()
            && memory.loss.is_sound()
            && memory.hops.is_sound()
            && memory.errors.is_sound()
            && memory.days.is_sound();
        if sound {
            Ok(memory)
        } else {
            Err(MemoryError::Unsound)
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_and_refuses_damage() {
        let memory = Memory::new();
        let text = memory.save().unwrap();
        assert!(text.len() < TEXT_BYTES_MAX / 2);
        assert_eq!(Memory::load(&text).unwrap(), memory);
        let older = format!("{}}}", text.split(",\"days\"").next().unwrap());
        assert!(older.len() < text.len());
        assert_eq!(
            Memory::load(&older).unwrap(),
            memory,
            "of an earlier program"
        );
        let refused = |text: &str| Memory::load(text).unwrap_err().to_string();
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        assert_eq!(refused(&newer), "version 2, this program reads 1");
        let shorter = text.replacen("{\"offset\":0.0,\"seen\":0.0},", "", 1);
        assert_eq!(refused(&shorter), "a number is out of its range");
        let shorter = text.replacen(
            "{\"number\":0,\"seen\":0,\"mean\":0.0,\"highest\":0.0},",
            "",
            1,
        );
        assert_eq!(refused(&shorter), "a number is out of its range");
        assert!(Memory::load(&text[..text.len() / 2]).is_err());
        assert!(Memory::load(&" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
        assert!(Memory::load("").is_err());
    }
}
