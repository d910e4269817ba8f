//! The zone of timestamps that name none.

use chrono::{DateTime, FixedOffset, Local, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use crate::time::Timestamp;

/// Where a sender's clock hangs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Zone {
    /// This machine's zone.
    #[default]
    Local,
    /// A zone of the IANA database, compiled in.
    Named(Tz),
}

impl Zone {
    /// The zone of an IANA name (`Asia/Tokyo`); `None` when there is no such zone.
    pub fn named(name: &str) -> Option<Self> {
        name.parse().ok().map(Self::Named)
    }

    /// The zone of a configuration's key; the error is the name that is none.
    pub(in crate::trigger) fn configured(name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name else {
            return Ok(Self::Local);
        };
        Self::named(name).ok_or_else(|| name.to_owned())
    }

    /// What a clock on the wall shows.
    pub(in crate::trigger) fn wall(self, at: Timestamp) -> NaiveDateTime {
        let ns = i64::try_from(at.as_ns()).unwrap_or(i64::MAX);
        let instant = Utc.timestamp_nanos(ns);
        match self {
            Self::Local => instant.with_timezone(&Local).naive_local(),
            Self::Named(zone) => instant.with_timezone(&zone).naive_local(),
        }
    }

    /// A local time as instants.
    pub(in crate::trigger) fn at(self, local: NaiveDateTime) -> LocalResult<DateTime<FixedOffset>> {
        match self {
            Self::Local => fixed(&Local.from_local_datetime(&local)),
            Self::Named(zone) => fixed(&zone.from_local_datetime(&local)),
        }
    }
}

fn fixed<Z: TimeZone>(local: &LocalResult<DateTime<Z>>) -> LocalResult<DateTime<FixedOffset>> {
    let fix = |at: &DateTime<Z>| at.with_timezone(&at.offset().fix());
    match local {
        LocalResult::None => LocalResult::None,
        LocalResult::Single(at) => LocalResult::Single(fix(at)),
        LocalResult::Ambiguous(first, second) => LocalResult::Ambiguous(fix(first), fix(second)),
    }
}
