//! When the next drill is due. Pure: the time and the zone are handed in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Timestamp;

/// A time of day: `03:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Daytime {
    /// Minutes since midnight.
    minutes: u32,
}

impl FromStr for Daytime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not a time of day; write \"03:30\"");
        let (hour, minute) = text.split_once(':').ok_or_else(error)?;
        let number = |text: &str, below: u32| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u32>().ok().filter(|number| *number < below);
            number.filter(|_| digits).ok_or_else(error)
        };
        let minutes = number(hour, 24)? * 60 + number(minute, 60)?;
        Ok(Self { minutes })
    }
}

impl fmt::Display for Daytime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl Serialize for Daytime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Daytime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The first instant after `last` that is a multiple of `every` behind `at` of a fixed day, both by
/// the clock on the wall of `zone`: a daily drill stays at its hour when the clocks change.
pub fn next<Z: TimeZone>(every: Duration, at: Daytime, last: Timestamp, zone: &Z) -> Timestamp {
    let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1);
    let ns = i64::try_from(last.as_ns()).unwrap_or(i64::MAX);
    let wall = zone
        .from_utc_datetime(&DateTime::from_timestamp_nanos(ns).naive_utc())
        .naive_local();
    let begin = beginning(at);
    let passed = wall.signed_duration_since(begin).num_seconds();
    let mut due = begin + TimeDelta::seconds((passed.div_euclid(every) + 1) * every);
    // An hour that is not on the wall is passed over, one that is there twice counts once.
    for _ in 0..4 {
        let instants = || zone.from_local_datetime(&due);
        let found = [instants().earliest(), instants().latest()]
            .into_iter()
            .flatten();
        let mut found = found.filter_map(|one| u64::try_from(one.timestamp_nanos_opt()?).ok());
        if let Some(ns) = found.find(|ns| *ns > last.as_ns()) {
            return Timestamp::from_ns(ns);
        }
        due += TimeDelta::seconds(every.min(3600));
    }
    last.plus(Duration::from_secs(every.unsigned_abs()))
}

/// A Monday, so that a drill of every seven days is one of Mondays.
fn beginning(at: Daytime) -> NaiveDateTime {
    let monday = NaiveDate::default().checked_add_days(Days::new(4));
    let day = monday.unwrap_or_default().and_time(NaiveTime::MIN);
    day + TimeDelta::minutes(i64::from(at.minutes))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use chrono_tz::Europe::Berlin;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn series<Z: TimeZone>(every: Duration, at: &str, from: &str, zone: &Z) -> Vec<String> {
        let mut last = time(from);
        let mut all = Vec::new();
        for _ in 0..3 {
            last = next(every, at.parse().unwrap(), last, zone);
            all.push(last.to_rfc3339().replace(":00.000000000Z", ""));
        }
        all
    }

    #[test]
    fn every_day_at_its_hour() {
        let all = series(DAY, "03:30", "2026-11-23T03:30:00Z", &Utc);
        assert_eq!(
            all,
            ["2026-11-24T03:30", "2026-11-25T03:30", "2026-11-26T03:30"]
        );
        let all = series(DAY, "03:30", "2026-11-23T03:29:59.999Z", &Utc);
        assert_eq!(all[0], "2026-11-23T03:30");
    }

    #[test]
    fn shorter_and_longer_spans_keep_their_phase() {
        let all = series(DAY / 4, "03:30", "2026-11-23T12:00:00Z", &Utc);
        assert_eq!(
            all,
            ["2026-11-23T15:30", "2026-11-23T21:30", "2026-11-24T03:30"]
        );
        // 2026-11-23 is a Monday.
        let all = series(DAY * 7, "03:30", "2026-11-22T12:00:00Z", &Utc);
        assert_eq!(
            all,
            ["2026-11-23T03:30", "2026-11-30T03:30", "2026-12-07T03:30"]
        );
    }

    #[test]
    fn when_the_clocks_change_the_hour_stays() {
        // Forward on 2027-03-28: 02:30 is not there, and is made up for within the hour.
        let all = series(DAY, "02:30", "2027-03-27T00:00:00Z", &Berlin);
        assert_eq!(
            all,
            ["2027-03-27T01:30", "2027-03-28T01:30", "2027-03-29T00:30"]
        );
        // Back on 2026-10-25: 02:30 is there twice.
        let all = series(DAY, "02:30", "2026-10-24T00:00:00Z", &Berlin);
        assert_eq!(all[0], "2026-10-24T00:30");
        assert_eq!(all[2].split_once('T').unwrap().1, "01:30");
    }

    #[test]
    fn only_times_of_day_are() {
        assert_eq!("03:30".parse::<Daytime>().unwrap().to_string(), "03:30");
        for bad in ["", "3:30", "03:60", "24:00", "03:30:00", "-1:00", "+3:30"] {
            assert!(bad.parse::<Daytime>().is_err(), "{bad}");
        }
    }
}
