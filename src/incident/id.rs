//! The name of an incident: `20261123T100211Z-5f3a9c`.
//!
//! It sorts by time as text, and as it only ever holds letters, digits and `-` it is safe as a
//! path component, in a URL and in HTML. A text from outside becomes an [`IncidentId`] before it
//! touches a path.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The longest id taken, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// A validated incident id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(String);

/// Why a text is not an incident id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an incident id: letters, digits and '-', at most {ID_BYTES_MAX}, \
     as in 20261123T100211Z-5f3a9c"
)]
pub struct BadId {
    text: String,
}

impl IncidentId {
    /// The id of an incident opened at `at`; `random` tells apart those of one second.
    pub fn new(at: Timestamp, random: u32) -> Self {
        let ns = i64::try_from(at.as_ns()).unwrap_or(i64::MAX);
        let second = DateTime::<Utc>::from_timestamp_nanos(ns).format("%Y%m%dT%H%M%SZ");
        Self(format!("{second}-{:06x}", random & 0x00ff_ffff))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IncidentId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let first = text.as_bytes().first().copied().unwrap_or(b'-');
        if first != b'-' && text.len() <= ID_BYTES_MAX && text.bytes().all(harmless) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadId {
            text: text.chars().take(ID_BYTES_MAX).collect(),
        })
    }
}

impl TryFrom<String> for IncidentId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_second_and_sort_by_it() {
        let at = Timestamp::from_ns(1_795_428_131_000_000_000);
        let id = IncidentId::new(at, 0xff5f_3a9c);
        assert_eq!(id.as_str(), "20261123T100211Z-5f3a9c");
        let later = IncidentId::new(at.plus(std::time::Duration::from_secs(1)), 0);
        assert!(id < later);
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn nothing_that_could_leave_its_folder_is_an_id() {
        let long = "a".repeat(ID_BYTES_MAX + 1);
        for text in [
            "", ".", "..", "../x", "a/b", "a b", "a\0b", "-rf", "é", &long,
        ] {
            assert!(text.parse::<IncidentId>().is_err(), "{text:?}");
        }
    }
}
