//! The times senders write: RFC 3339, seconds and milliseconds since 1970, or local without a zone.

use chrono::{DateTime, FixedOffset, Local, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The zone of times that are sent without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// This machine's.
    Local,
    /// Seconds east of UTC.
    Offset(i32),
    /// A zone of the IANA database, compiled in.
    Named(Tz),
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "local" => return Ok(Self::Local),
            "utc" | "z" => return Ok(Self::Offset(0)),
            _ => {}
        }
        if let Ok(zone) = text.parse() {
            return Ok(Self::Named(zone));
        }
        let offset: Result<FixedOffset, _> = text.parse();
        let offset = offset.map(|offset| Self::Offset(offset.local_minus_utc()));
        let wrong =
            "is not a zone such as \"Asia/Tokyo\" or \"local\", or an offset such as \"+09:00\"";
        offset.map_err(|_| format!("{text:?} {wrong}"))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        match zone {
            Zone::Local => "local".to_owned(),
            Zone::Named(zone) => zone.name().to_owned(),
            Zone::Offset(0) => "UTC".to_owned(),
            Zone::Offset(seconds) => FixedOffset::east_opt(seconds)
                .map_or_else(|| "UTC".to_owned(), |offset| offset.to_string()),
        }
    }
}

/// Ways to write a local time.
const FORMATS: [&str; 6] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y.%m.%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%d.%m.%Y %H:%M:%S",
];

/// Ways to write a time and its offset: `2026-11-23 19:02:11 +0900` is Icinga's.
const OFFSET_FORMATS: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%dT%H:%M:%S%.f%z"];

/// The instant that `text` names; a time without a zone is in `zone`. `None` when it names none.
pub(super) fn instant(text: &str, zone: Zone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(at) = epoch(text) {
        return Some(at);
    }
    // `0001-01-01T00:00:00Z` stands for "no time" and is before 1970: no timestamp.
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    if let Some(at) = offset_time(text) {
        return Some(at);
    }
    let naive = FORMATS
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    let ns = match zone {
        Zone::Local => Local
            .from_local_datetime(&naive)
            .earliest()?
            .timestamp_nanos_opt(),
        Zone::Named(zone) => zone
            .from_local_datetime(&naive)
            .earliest()?
            .timestamp_nanos_opt(),
        Zone::Offset(seconds) => FixedOffset::east_opt(seconds)?
            .from_local_datetime(&naive)
            .earliest()?
            .timestamp_nanos_opt(),
    };
    Some(Timestamp::from_ns(u64::try_from(ns?).ok()?))
}

/// Times whose offset is not written as RFC 3339 has it.
fn offset_time(text: &str) -> Option<Timestamp> {
    let at = OFFSET_FORMATS
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())?;
    Some(Timestamp::from_ns(
        u64::try_from(at.timestamp_nanos_opt()?).ok()?,
    ))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by their size; with a fraction
/// they are seconds. Times before 1973 are none of them.
fn epoch(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let unit: u64 = match whole.len() {
        9..=10 => 1_000_000_000,
        12..=13 => 1_000_000,
        15..=16 => 1000,
        18..=19 => 1,
        _ => return None,
    };
    let ns = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let nine: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let rest = nine.parse::<u64>().ok()? / (1_000_000_000 / unit.max(1));
    Some(Timestamp::from_ns(ns.checked_add(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_senders_write_them() {
        let tokyo = Zone::try_from("Asia/Tokyo".to_owned()).unwrap();
        let noon = "2026-11-23T10:02:11Z";
        for (text, zone, expected) in [
            (noon, tokyo, Some(noon)),
            ("1795428131", tokyo, Some(noon)),
            ("1795428131.250", tokyo, Some("2026-11-23T10:02:11.25Z")),
            ("1795428131250", tokyo, Some("2026-11-23T10:02:11.25Z")),
            ("2026-11-23 19:02:11", tokyo, Some(noon)),
            (
                "2026-11-23 10:02:11.5",
                Zone::Offset(0),
                Some("2026-11-23T10:02:11.5Z"),
            ),
            ("2026.11.23 19:02:11", tokyo, Some(noon)),
            ("2026-11-23 10:02:11 +0000", tokyo, Some(noon)),
            ("2026-11-23T12:02:11+0200", tokyo, Some(noon)),
            (
                "2026-11-23 19:02:11.25 +09:00",
                tokyo,
                Some("2026-11-23T10:02:11.25Z"),
            ),
            ("0001-01-01T00:00:00Z", tokyo, None),
            ("12", tokyo, None),
            ("", tokyo, None),
            ("99999999999999999999", tokyo, None),
            ("yesterday", tokyo, None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(instant(text, zone), expected, "{text}");
        }
    }

    #[test]
    fn zones_are_offsets_or_local() {
        let zone = |text: &str| Zone::try_from(text.to_owned());
        assert_eq!(zone("+09:00"), Ok(Zone::Offset(32_400)));
        assert_eq!(zone("utc"), Ok(Zone::Offset(0)));
        assert_eq!(zone("local"), Ok(Zone::Local));
        assert_eq!(
            zone("Asia/Tokyo").map(String::from),
            Ok("Asia/Tokyo".to_owned())
        );
        assert!(zone("Asia/Nowhere").unwrap_err().contains("+09:00"));
        assert_eq!(String::from(Zone::Offset(32_400)), "+09:00");
    }
}
