//! The time that programs put at the head of a line of their own log, where it is none of syslog's:
//! that of Python and Java, of nginx, Apache, BIND and Tomcat, and of every access log.

use chrono::{FixedOffset, Month, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Weekday};

use crate::time::Timestamp;
use crate::trigger::syslog::{Zone, abbreviation, earlier};

/// The time is looked for in this many bytes at the front.
const HEAD_BYTES_MAX: usize = 256;
/// The zone furthest from UTC, in hours; a number beyond is no zone.
const OFFSET_HOURS_MAX: u32 = 14;

/// The time of a line, in `zone` where it names none.
pub(super) fn time(line: &[u8], received: Timestamp, zone: Zone) -> Option<Timestamp> {
    let line = line.trim_ascii_start();
    let head = line.get(..HEAD_BYTES_MAX).unwrap_or(line);
    let stamp = leading(head).or_else(|| bracketed(head))?;
    stamp.instant(received, zone)
}

/// A time as it is written.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    local: NaiveDateTime,
    offset: Option<FixedOffset>,
}

impl Stamp {
    fn instant(self, received: Timestamp, zone: Zone) -> Option<Timestamp> {
        let found = match self.offset {
            Some(offset) => offset.from_local_datetime(&self.local),
            None => zone.at(self.local),
        };
        earlier(&found, Some(received))
    }
}

/// A time that the line begins with, also within brackets.
fn leading(head: &[u8]) -> Option<Stamp> {
    let head = head.strip_prefix(b"[").unwrap_or(head);
    let at = || Cursor(head);
    at().year_first()
        .or_else(|| at().day_first(b'-', b' '))
        .or_else(|| at().weekday_first())
}

/// `[23/Nov/2026:10:02:11 +0000]`, behind the client in the lines of web servers and proxies.
fn bracketed(head: &[u8]) -> Option<Stamp> {
    let quoted = head.iter().position(|byte| *byte == b'"');
    let before = quoted.and_then(|end| head.get(..end)).unwrap_or(head);
    let opening = |byte: &u8| *byte == b'[';
    // The name of a user stands before the time and is the client's to choose: the brackets next
    // to the request are the server's.
    let nearest = before.rsplit(opening).next();
    nearest
        .filter(|_| before.ends_with(b"] "))
        .and_then(in_brackets)
        .or_else(|| before.split(opening).skip(1).find_map(in_brackets))
}

/// The time that ends with a bracket.
fn in_brackets(text: &[u8]) -> Option<Stamp> {
    let mut at = Cursor(text);
    let stamp = at.day_first(b'/', b':')?;
    at.one_of(b"]")?;
    Some(stamp)
}

/// What is yet to be read. What is not there is not taken.
#[derive(Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// `2026-11-23 10:02:11,123`, `2026-11-23T10:02:11.123+09:00`, `2026/11/23 10:02:11`.
    fn year_first(mut self) -> Option<Stamp> {
        let year = self.number(4)?;
        let between = self.one_of(b"-/")?;
        let month = self.number(2)?;
        self.one_of(&[between])?;
        let day = self.number(2)?;
        self.one_of(b" T")?;
        self.stamp(date(year, month, day)?)
    }

    /// `23-Nov-2026 10:02:11.123`, `23/Nov/2026:10:02:11 +0000`.
    fn day_first(&mut self, between: u8, behind: u8) -> Option<Stamp> {
        let day = self.number(2)?;
        self.one_of(&[between])?;
        let month = self.month()?;
        self.one_of(&[between])?;
        let year = self.number(4)?;
        self.one_of(&[behind])?;
        self.stamp(date(year, month, day)?)
    }

    /// `Mon Nov 23 10:02:11.123456 2026`.
    fn weekday_first(mut self) -> Option<Stamp> {
        self.word(3)?.parse::<Weekday>().ok()?;
        self.one_of(b" ")?;
        let month = self.month()?;
        self.one_of(b" ")?;
        let padded = self.one_of(b" ").is_some();
        let day = self.number(if padded { 1 } else { 2 })?;
        self.one_of(b" ")?;
        let time = self.time_of_day()?;
        self.one_of(b" ")?;
        let year = self.number(4)?;
        Some(Stamp {
            local: date(year, month, day)?.and_time(time),
            offset: None,
        })
    }

    /// What follows a date: the time of day and, where there is one, the zone.
    fn stamp(&mut self, date: NaiveDate) -> Option<Stamp> {
        let time = self.time_of_day()?;
        let offset = self.zone();
        // A zone we do not know, or no time at all.
        if self.0.first().is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        Some(Stamp {
            local: date.and_time(time),
            offset,
        })
    }

    /// `10:02:11`, `10:02:11.123456`, `10:02:11,123`.
    fn time_of_day(&mut self) -> Option<NaiveTime> {
        let hour = self.number(2)?;
        self.one_of(b":")?;
        let minute = self.number(2)?;
        self.one_of(b":")?;
        let second = self.number(2)?;
        NaiveTime::from_hms_nano_opt(hour, minute, second, self.fraction())
    }

    /// The digits behind a point or a comma as nanoseconds; those beyond nine are passed over.
    fn fraction(&mut self) -> u32 {
        let [b'.' | b',', behind @ ..] = self.0 else {
            return 0;
        };
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.clone().count();
        if let Some(rest) = behind.get(length..).filter(|_| length > 0) {
            self.0 = rest;
        }
        let nine = digits.chain(std::iter::repeat(&b'0')).take(9);
        nine.fold(0, |ns, digit| ns * 10 + u32::from(digit - b'0'))
    }

    /// `Z`, `+09:00`, ` +0900`, ` UTC`: the zone, if that is what comes next.
    fn zone(&mut self) -> Option<FixedOffset> {
        let text = self.0.strip_prefix(b" ").unwrap_or(self.0);
        let part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-:".contains(byte);
        let length = text.iter().take_while(part).count();
        let (word, rest) = text.split_at_checked(length)?;
        let word = word.strip_suffix(b":").unwrap_or(word);
        let glued = text.len() == self.0.len();
        let name = std::str::from_utf8(word).ok();
        let offset = name.and_then(abbreviation);
        let offset = offset.or_else(|| numeric(word, glued))?;
        self.0 = rest;
        Some(offset)
    }

    /// A number of so many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let word = self.0.get(..digits)?;
        if !word.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.word(digits)?.parse().ok()
    }

    /// `Nov`.
    fn month(&mut self) -> Option<u32> {
        let month: Month = self.word(3)?.parse().ok()?;
        Some(month.number_from_month())
    }

    /// So many bytes, if they are text.
    fn word(&mut self, bytes: usize) -> Option<&'a str> {
        let (word, rest) = self.0.split_at_checked(bytes)?;
        let word = std::str::from_utf8(word).ok()?;
        self.0 = rest;
        Some(word)
    }

    /// The next byte, if it is one of these.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !bytes.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }
}

/// A day of the years that logs are of.
fn date(year: u32, month: u32, day: u32) -> Option<NaiveDate> {
    let year = Some(year).filter(|year| (1970..2200).contains(year))?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

/// `+0900`, `-03:30`; hours alone only where they are `glued` to the time, for behind a space any
/// number may stand.
fn numeric(word: &[u8], glued: bool) -> Option<FixedOffset> {
    let mut at = Cursor(word);
    let sign = at.one_of(b"+-")?;
    let hours = at.number(2).filter(|hours| *hours <= OFFSET_HOURS_MAX)?;
    let minutes = if at.0.is_empty() && glued {
        0
    } else {
        at.one_of(b":");
        at.number(2).filter(|minutes| *minutes < 60)?
    };
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    let east = if sign == b'-' { -seconds } else { seconds };
    FixedOffset::east_opt(east).filter(|_| at.0.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The time of a line of a program in Tokyo.
    fn tokyo(line: &[u8]) -> Option<Timestamp> {
        let zone = Zone::named("Asia/Tokyo").unwrap();
        time(line, at("2026-11-23T12:00:00Z"), zone)
    }

    #[test]
    fn what_programs_write_is_understood() {
        for (line, expected) in [
            // Python and Java: a comma before the milliseconds.
            (
                "2026-11-23 10:02:11,123 ERROR no route",
                "2026-11-23T01:02:11.123Z",
            ),
            (
                "2026-11-23 10:02:11.123 ERROR no route",
                "2026-11-23T01:02:11.123Z",
            ),
            ("2026-11-23 10:02:11 ERROR no route", "2026-11-23T01:02:11Z"),
            ("2026-11-23 10:02:11", "2026-11-23T01:02:11Z"),
            ("  2026-11-23T10:02:11 indented", "2026-11-23T01:02:11Z"),
            (
                "[2026-11-23 10:02:11] app.ERROR: no route",
                "2026-11-23T01:02:11Z",
            ),
            (
                "[2026-11-23T10:02:11.123456+09:00] app.ERROR",
                "2026-11-23T01:02:11.123456Z",
            ),
            ("2026-11-23 10:02:11, then words", "2026-11-23T01:02:11Z"),
            (
                "2026-11-23 10:02:11.1234567891 finer than we are",
                "2026-11-23T01:02:11.123456789Z",
            ),
            ("2026-11-23 10:02:11-worker", "2026-11-23T01:02:11Z"),
            // Zones; PostgreSQL has an abbreviation, or hours alone.
            (
                "2026-11-23 10:02:11.123 UTC [71] FATAL",
                "2026-11-23T10:02:11.123Z",
            ),
            ("2026-11-23 10:02:11 JST: x", "2026-11-23T01:02:11Z"),
            ("2026-11-23 10:02:11-05 x", "2026-11-23T15:02:11Z"),
            ("2026-11-23 10:02:11,123Z x", "2026-11-23T10:02:11.123Z"),
            ("2026-11-23 10:02:11 -0330: x", "2026-11-23T13:32:11Z"),
            ("2026-11-23 10:02:11 -12 degrees", "2026-11-23T01:02:11Z"),
            ("2026-11-23 10:02:11 -9999 x", "2026-11-23T01:02:11Z"),
            ("2026-11-23 10:02:11 PDT x", "2026-11-23T01:02:11Z"),
            // nginx, Apache, BIND and Tomcat.
            (
                "2026/11/23 10:02:11 [error] 12#12: *5 upstream timed out",
                "2026-11-23T01:02:11Z",
            ),
            (
                "[Mon Nov 23 10:02:11.123456 2026] [core:error] [pid 7] x",
                "2026-11-23T01:02:11.123456Z",
            ),
            (
                "[Mon Nov 23 10:02:11 2026] [error] x",
                "2026-11-23T01:02:11Z",
            ),
            ("Tue Nov  3 10:02:11 2026 x", "2026-11-03T01:02:11Z"),
            (
                "23-Nov-2026 10:02:11.123 general: error: x",
                "2026-11-23T01:02:11.123Z",
            ),
            // Access logs, and proxies that name no zone.
            (
                "10.0.0.9 - - [23/Nov/2026:10:02:11 +0000] \"GET /cart HTTP/1.1\" 502 157",
                "2026-11-23T10:02:11Z",
            ),
            (
                "2001:db8::9 - al [ice] [23/Nov/2026:10:02:11 -0500] \"GET / HTTP/1.1\" 200 1",
                "2026-11-23T15:02:11Z",
            ),
            (
                "haproxy[1]: 10.0.0.9:5000 [23/Nov/2026:10:02:11.003] web app/s1 0/0/1/2/3 503",
                "2026-11-23T01:02:11.003Z",
            ),
            ("[23/Nov/2026:10:02:11 +0900] x", "2026-11-23T01:02:11Z"),
        ] {
            assert_eq!(tokyo(line.as_bytes()), Some(at(expected)), "{line}");
        }
    }

    /// A client that calls itself a time does not move its own lines to another.
    #[test]
    fn the_servers_brackets_go_before_the_clients() {
        for line in [
            "h - [23/Nov/2026:00:00:00 +0000] [23/Nov/2026:10:02:11 +0000] \"GET / HTTP/1.1\" 401 1",
            "h - - [23/Nov/2026:10:02:11 +0000] \"GET /[23/Nov/2026:00:00:00 +0000] \" 401 1",
            "h [23/Nov/2026:10:02:11 +0000] web {[23/Nov/2026:00:00:00 +0000]} \"GET / HTTP/1.1\"",
        ] {
            assert_eq!(
                tokyo(line.as_bytes()),
                Some(at("2026-11-23T10:02:11Z")),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_no_time_gives_none() {
        for line in [
            "",
            "[",
            "ERROR no route to host",
            "2026-11-23",
            "2026-11-23 ",
            "2026-11-23 10:02",
            "2026-11-23 10:02:1",
            "2026-11-23 10:02:115 x",
            "2026-11-23 10:02:11pm",
            "2026-11-23_10:02:11 x",
            "2026-11/23 10:02:11 x",
            "2026-02-30 10:02:11 x",
            "2026-11-23 24:02:11 x",
            "2026-11-23 10:60:11 x",
            "1969-11-23 10:02:11 x",
            "9999-11-23 10:02:11 x",
            "+026-11-23 10:02:11 x",
            "20261123 10:02:11 x",
            "[Mon Nov 23 10:02:11",
            "[Mon Nov 23 10:02:11 20",
            "[Mon Okt 23 10:02:11 2026] x",
            "[Hello] [23/Nov/2026:10:02:11",
            "h - - [23/Nov/2026:10:02:11 +0000",
            "h - - [23/Nov/2026 10:02:11 +0000] \"",
            "h - - [32/Nov/2026:10:02:11 +0000] \"",
            "h - - [23/Nov/2026:10:02:11 +00000] \"",
            "h \"quoted [23/Nov/2026:10:02:11 +0000] \"",
            "read 2026-11-23 10:02:11",
        ] {
            assert_eq!(tokyo(line.as_bytes()), None, "{line}");
        }
        assert_eq!(tokyo(b"2026-11-23 10:02:\xff\xff"), None);
        let far = format!(
            "{} [23/Nov/2026:10:02:11 +0000] ",
            "x".repeat(HEAD_BYTES_MAX)
        );
        assert_eq!(tokyo(far.as_bytes()), None);
    }

    #[test]
    fn an_hour_that_comes_twice_is_the_one_that_has_happened() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (received, expected) in [
            ("2026-10-25T00:40:00Z", Some("2026-10-25T00:30:00Z")),
            ("2026-10-25T01:40:00Z", Some("2026-10-25T01:30:00Z")),
        ] {
            let found = time(b"2026-10-25 02:30:00 x", at(received), berlin);
            assert_eq!(found, expected.map(at));
        }
        let skipped = time(b"2026-03-29 02:30:00 x", at("2026-03-29T01:00:00Z"), berlin);
        assert_eq!(skipped, None);
    }

    proptest! {
        #[test]
        fn no_line_panics(
            head in r"\[?([A-Z][a-z]{2} ){0,2}([0-9]{2,4}[-/ ]){0,3}([0-9:.,TZ +-]{0,30}\]? ?){0,2}",
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            received in any::<u64>(),
        ) {
            let received = Timestamp::from_ns(received);
            let utc = Zone::named("UTC").unwrap();
            for line in [[head.as_bytes(), &bytes].concat(), bytes] {
                if let Some(found) = time(&line, received, utc) {
                    prop_assert!(found < Timestamp::MAX);
                }
            }
        }
    }
}
