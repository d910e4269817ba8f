//! Points and spans of time: nanoseconds since the Unix epoch, and half-open windows of them.
//!
//! Decision logic never asks for the time; callers pass a [`Timestamp`] in.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z (leap seconds not counted).
///
/// Serialised as RFC 3339 in UTC with nanoseconds, for people; [`Timestamp::as_ns`] is for
/// arithmetic and for bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch, used as "before everything".
    pub const MIN: Self = Self(0);
    /// The last representable instant (year 2262), used as "no end". Bounded by `i64` because
    /// SQLite and chrono hold signed nanoseconds.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The instant `ns` nanoseconds after the epoch; values beyond [`Timestamp::MAX`] saturate.
    pub const fn from_ns(ns: u64) -> Self {
        if ns > Self::MAX.0 {
            Self::MAX
        } else {
            Self(ns)
        }
    }

    /// Nanoseconds since the epoch.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// The realtime clock, now.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_ns(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// `self + span`, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self::from_ns(self.0.saturating_add(ns))
    }

    /// `self - span`, saturating at the epoch.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ns))
    }

    /// The span from `earlier` to `self`, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339, UTC, nine decimals: `2026-11-23T10:02:11.000000001Z`.
    pub fn to_rfc3339(self) -> String {
        self.in_words(SecondsFormat::Nanos)
    }

    /// The same to the second, for people: `2026-11-23T10:02:11Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        self.in_words(SecondsFormat::Secs)
    }

    fn in_words(self, decimals: SecondsFormat) -> String {
        let ns = i64::try_from(self.0).unwrap_or(i64::MAX);
        DateTime::<Utc>::from_timestamp_nanos(ns).to_rfc3339_opts(decimals, true)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time: write RFC 3339 (2026-11-23T10:02:11Z), -10m or now")]
pub struct ParseTimeError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let error = || ParseTimeError {
            text: text.to_owned(),
        };
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| error())?;
        let ns = parsed.timestamp_nanos_opt().ok_or_else(error)?;
        u64::try_from(ns).map(Self::from_ns).map_err(|_| error())
    }
}

/// Parses a time as people give it to commands and URLs: RFC 3339, `now`, or a span before `now`
/// such as `-10m`. A space in place of `+` (an unescaped query string) is forgiven.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, ParseTimeError> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Some(span) = text.strip_prefix('-') {
        let span = humantime::parse_duration(span).map_err(|_| ParseTimeError {
            text: text.to_owned(),
        })?;
        return Ok(now.minus(span));
    }
    text.parse()
        .or_else(|error| text.replace(' ', "+").parse().map_err(|_| error))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A half-open span of time `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
}

impl Window {
    /// The window `[from, to)`; empty when `to <= from`.
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to }
    }

    /// The window around `at`: `before` it and `after` it.
    pub fn around(at: Timestamp, before: Duration, after: Duration) -> Self {
        Self::new(at.minus(before), at.plus(after))
    }

    /// Whether `at` lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Whether the two share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// What both share, or `None`.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both = Self::new(self.from.max(other.from), self.to.min(other.to));
        (both.from < both.to).then_some(both)
    }

    /// The smallest window that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.from.min(other.from), self.to.max(other.to))
    }

    /// Whether no instant lies inside.
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

/// Spans in configuration and API text: `5m`, `1h 30m`, `250ms` (for `#[serde(with = "span")]`).
pub mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the span as people write it.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*span))
    }

    /// Reads a span; the error says what a span looks like.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!(
                "{text:?} is not a span such as 30s, 5m or 1h30m: {error}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_to_the_nanosecond() {
        let at = Timestamp::from_ns(1_763_892_131_000_000_001);
        assert_eq!(at.to_rfc3339().parse(), Ok(at));
        assert_eq!(at.to_rfc3339_seconds().len(), "2026-11-23T10:02:11Z".len());
    }

    #[test]
    fn people_may_say_now_a_span_or_rfc3339() {
        let now = Timestamp::from_ns(1_000_000_000_000);
        assert_eq!(parse_time("now", now), Ok(now));
        assert_eq!(
            parse_time("-10m", now),
            Ok(now.minus(Duration::from_mins(10)))
        );
        assert_eq!(
            parse_time("1970-01-01T01:00:00 01:00", now),
            Ok(Timestamp::MIN)
        );
        assert!(parse_time("yesterday", now).is_err());
    }

    #[test]
    fn windows_are_half_open() {
        let at = |s| Timestamp::from_ns(s);
        let a = Window::new(at(10), at(20));
        assert!(a.contains(at(10)) && !a.contains(at(20)));
        assert!(!a.overlaps(&Window::new(at(20), at(30))));
        assert_eq!(
            a.intersect(&Window::new(at(15), at(30))),
            Some(Window::new(at(15), at(20)))
        );
    }
}
