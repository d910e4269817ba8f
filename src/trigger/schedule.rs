//! Hours of the week, as people write them: `mon-fri 08:00-18:00`. Pure: the time is passed in.
//!
//! Hours are those of a clock on the wall: on the day clocks change, 02:00-04:00 is one or three
//! hours long.

use std::fmt;

use chrono::{Datelike, NaiveDateTime, Timelike};

use super::several::Several;
use super::syslog::Zone;
use crate::time::Timestamp;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Seconds of a day.
const DAY: u32 = 24 * 3600;

/// Spans of the week, and the zone of its clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    spans: Vec<Span>,
    zone: Zone,
    text: String,
}

/// Spans of one day, on some days.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    /// Seconds of the day; an end that is not after its beginning is on the next day.
    hours: Vec<(u32, u32)>,
}

impl Schedule {
    /// Reads spans such as `mon-fri 08:00-18:00`, `sat,sun`, `22:00-06:00`; the error names the one
    /// that is wrong.
    pub fn new(texts: &[String], zone: Zone) -> Result<Self, String> {
        let spans: Result<_, _> = texts.iter().map(|text| span(text)).collect();
        Ok(Self {
            spans: spans?,
            zone,
            text: texts.join("; "),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether the instant lies in one of the spans.
    pub fn holds(&self, at: Timestamp) -> bool {
        let wall = self.zone.wall(at);
        self.spans.iter().any(|span| span.holds(wall))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Span {
    fn holds(&self, wall: NaiveDateTime) -> bool {
        let today = wall.weekday().num_days_from_monday() as usize;
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        let second = wall.num_seconds_from_midnight();
        self.hours.iter().any(|&(from, to)| {
            if from < to {
                on(today) && (from..to).contains(&second)
            } else {
                (on(today) && second >= from) || (on(today + 6) && second < to)
            }
        })
    }
}

fn span(text: &str) -> Result<Span, String> {
    let wrong = || {
        format!("{text:?} are no hours of the week: write \"mon-fri 08:00-18:00\" or \"sat,sun\"")
    };
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split_whitespace().peekable();
    let mut days = [true; 7];
    if let Some(word) = words.next_if(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
        && word != "daily"
    {
        days = [false; 7];
        for part in word.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first).ok_or_else(wrong)?, day(last).ok_or_else(wrong)?);
            let count = (last + 7 - first) % 7;
            for (place, on) in days.iter_mut().enumerate() {
                *on |= (place + 7 - first) % 7 <= count;
            }
        }
    } else if lower.trim().is_empty() {
        return Err(wrong());
    }
    let hours = match words.next() {
        None => vec![(0, DAY)],
        Some(word) => {
            let all: Option<Vec<_>> = word.split(',').map(hours).collect();
            all.ok_or_else(wrong)?
        }
    };
    if words.next().is_some() {
        return Err(wrong());
    }
    Ok(Span { days, hours })
}

fn day(name: &str) -> Option<usize> {
    DAYS.iter().position(|day| *day == name)
}

fn hours(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (second_of_day(from)?, second_of_day(to)?);
    (from != to && from < DAY).then_some((from, to))
}

/// `08:00` as seconds; `24:00` is the end of the day.
fn second_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() <= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits(hour) && minute.len() == 2 && digits(minute);
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    let second = hour * 3600 + minute * 60;
    (plain && minute < 60 && second <= DAY).then_some(second)
}

/// When something counts: within some hours, outside of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hours {
    during: Schedule,
    not_during: Schedule,
}

impl Hours {
    /// Reads both keys. The error names key and value.
    pub fn new(
        during: &Several<String>,
        not_during: &Several<String>,
        zone: Zone,
    ) -> Result<Self, (&'static str, String)> {
        let read = |key, texts: &Several<String>| {
            Schedule::new(texts.as_slice(), zone).map_err(|why| (key, why))
        };
        Ok(Self {
            during: read("during", during)?,
            not_during: read("not_during", not_during)?,
        })
    }

    /// Why the instant does not count; `None` when it does.
    pub fn refuse(&self, at: Timestamp) -> Option<String> {
        if !self.during.is_empty() && !self.during.holds(at) {
            return Some(format!("it is not during {}", self.during));
        }
        let outside = self.not_during.holds(at);
        outside.then(|| format!("it is during {}", self.not_during))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::new(&[text.to_owned()], Zone::named(zone).unwrap()).unwrap()
    }

    fn holds(text: &str, at: &str) -> bool {
        schedule(text, "UTC").holds(at.parse().unwrap())
    }

    #[test]
    fn days_and_hours() {
        // 2026-11-23 is a Monday.
        for (text, at, expected) in [
            ("mon-fri 08:00-18:00", "2026-11-23T08:00:00Z", true),
            ("mon-fri 08:00-18:00", "2026-11-23T07:59:59Z", false),
            ("mon-fri 08:00-18:00", "2026-11-23T17:59:59Z", true),
            ("mon-fri 08:00-18:00", "2026-11-23T18:00:00Z", false),
            ("mon-fri 08:00-18:00", "2026-11-28T12:00:00Z", false),
            ("Sat,Sun", "2026-11-28T00:00:00Z", true),
            ("sat,sun", "2026-11-30T00:00:00Z", false),
            ("fri-mon", "2026-11-23T12:00:00Z", true),
            ("fri-mon", "2026-11-24T12:00:00Z", false),
            ("daily 12:00-13:00", "2026-11-25T12:30:00Z", true),
            ("22:00-06:00", "2026-11-25T23:00:00Z", true),
            ("22:00-06:00", "2026-11-25T05:59:59Z", true),
            ("22:00-06:00", "2026-11-25T06:00:00Z", false),
            ("sun 22:00-06:00", "2026-11-23T05:00:00Z", true),
            ("mon 22:00-06:00", "2026-11-23T05:00:00Z", false),
            ("mon 08:00-12:00,13:00-24:00", "2026-11-23T12:30:00Z", false),
            ("mon 08:00-12:00,13:00-24:00", "2026-11-23T23:59:59Z", true),
        ] {
            assert_eq!(holds(text, at), expected, "{text} at {at}");
        }
    }

    #[test]
    fn hours_are_those_of_the_wall_when_clocks_change() {
        // Berlin, 2026-10-25: 02:00 to 03:00 is there twice; 2026-03-29: not at all.
        let night = schedule("sun 02:00-03:00", "Europe/Berlin");
        for (at, expected) in [
            ("2026-10-24T23:59:59Z", false),
            ("2026-10-25T00:00:00Z", true),
            ("2026-10-25T01:59:59Z", true),
            ("2026-10-25T02:00:00Z", false),
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", false),
        ] {
            assert_eq!(night.holds(at.parse().unwrap()), expected, "{at}");
        }
        // Office hours stay at the clock's eight, an hour earlier by the sun.
        let office = schedule("mon-fri 08:00-18:00", "Europe/Berlin");
        assert!(office.holds("2026-10-23T06:00:00Z".parse().unwrap()));
        assert!(!office.holds("2026-10-26T06:00:00Z".parse().unwrap()));
        assert!(office.holds("2026-10-26T07:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for text in [
            "",
            "mon-xyz",
            "8-18",
            "08:00",
            "08:00-08:00",
            "25:00-26:00",
            "24:00-25:00",
            "mon 08:60-09:00",
            "mon 08:00-18:00 utc",
            "08:00-18:00 mon",
            "+1:00-02:00",
        ] {
            let error = Schedule::new(&[text.to_owned()], Zone::Local).unwrap_err();
            assert!(error.starts_with(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn hours_say_why_they_refuse() {
        let during = Several::One("mon-fri 08:00-18:00".to_owned());
        let lunch = Several::One("12:00-13:00".to_owned());
        let hours = Hours::new(&during, &lunch, Zone::named("UTC").unwrap()).unwrap();
        let refuse = |at: &str| hours.refuse(at.parse().unwrap());
        assert_eq!(refuse("2026-11-23T10:00:00Z"), None);
        assert_eq!(
            refuse("2026-11-22T10:00:00Z").as_deref(),
            Some("it is not during mon-fri 08:00-18:00")
        );
        assert_eq!(
            refuse("2026-11-23T12:10:00Z").as_deref(),
            Some("it is during 12:00-13:00")
        );
        assert_eq!(Hours::default().refuse(Timestamp::MIN), None);
    }
}
