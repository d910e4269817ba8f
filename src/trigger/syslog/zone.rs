//! The zone of timestamps that name none.

use chrono::{DateTime, FixedOffset, Local, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

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

    /// A local time as instants.
    pub(super) fn at(self, local: NaiveDateTime) -> LocalResult<DateTime<FixedOffset>> {
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
