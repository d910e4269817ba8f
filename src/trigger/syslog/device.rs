//! Headers of RFC 3164 as devices really write them: Cisco, Juniper, FortiGate, Meraki and BSD,
//! with and without year, zone, fraction and host name.

use chrono::{
    DateTime, Datelike, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone,
    Utc,
};

use super::zone::Zone;
use crate::time::Timestamp;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// Words of a key=value header that are looked through.
const PAIRS_MAX: usize = 64;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// The time, unless the device says itself that its clock was never set.
    pub(super) at: Option<Timestamp>,
    /// The host name.
    pub(super) host: Option<&'a str>,
}

/// The header of `text`, which follows the PRI; `None` when it is in none of these dialects.
pub(super) fn header(text: &str, received: Timestamp, zone: Zone) -> Option<Header<'_>> {
    fortigate(text, zone)
        .or_else(|| epoch(text))
        .or_else(|| bsd(text, received, zone))
}

/// FortiGate: no header, but pairs: `date=2026-11-23 time=10:02:11 devname="fw1" tz="+0900"`.
fn fortigate<'a>(text: &'a str, zone: Zone) -> Option<Header<'a>> {
    if !text.starts_with("date=") && !text.starts_with("logver=") {
        return None;
    }
    let pairs = text.split(' ').take(PAIRS_MAX);
    let value = |key: &str| {
        let of_key =
            |pair: &'a str| Some(pair.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"'));
        pairs.clone().find_map(of_key)
    };
    let date = NaiveDate::parse_from_str(value("date")?, "%Y-%m-%d").ok()?;
    let time = NaiveTime::parse_from_str(value("time")?, "%H:%M:%S").ok()?;
    let local = date.and_time(time);
    let own = value("tz").and_then(offset);
    let stamp = || match own {
        Some(offset) => earlier(&offset.from_local_datetime(&local), None),
        None => earlier(&zone.at(local), None),
    };
    Some(Header {
        at: value("eventtime").and_then(unix).or_else(stamp),
        host: value("devname").filter(|name| !name.is_empty()),
    })
}

/// `+0900`, `-03:30`.
fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits
        .split_once(':')
        .or_else(|| digits.split_at_checked(2))?;
    let hours: i32 = number(hours, 2)?;
    let minutes: i32 = number(minutes, 2)?;
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

/// Seconds since 1970 with or without a fraction, or FortiOS's nanoseconds.
fn unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = number(whole, 19)?;
    match whole.len() {
        9..=11 => {
            let ns = seconds.checked_mul(1_000_000_000)?;
            Some(Timestamp::from_ns(
                ns.checked_add(u64::from(nanoseconds(fraction)?))?,
            ))
        }
        16 => Some(Timestamp::from_ns(seconds.checked_mul(1000)?)),
        19 => Some(Timestamp::from_ns(seconds)),
        _ => None,
    }
}

/// Meraki and others: `1 1795428131.003 host text`, the version not always there.
fn epoch(text: &str) -> Option<Header<'_>> {
    let text = text.strip_prefix("1 ").unwrap_or(text);
    let (stamp, rest) = text.split_once(' ')?;
    Some(Header {
        at: Some(unix(stamp)?),
        host: rest.split(' ').next().and_then(host_name),
    })
}

/// `Nov 23 10:02:11 host`, and around it what Cisco and Juniper add:
/// `000123: router1: .Nov 23 2026 10:02:11.123 JST: %LINK-3-UPDOWN: text`.
fn bsd(text: &str, received: Timestamp, zone: Zone) -> Option<Header<'_>> {
    let (before, text) = prefix(text);
    let unset = text.starts_with('*');
    let mut words = Words(text.strip_prefix(['*', '.']).unwrap_or(text));
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = u32::try_from(month).ok()? + 1;
    let day: u32 = number(words.next()?, 2)?;
    let mut year = words.year();
    let word = words.next()?;
    let time = clock(word.trim_end_matches(':'))?;
    let mut done = word.ends_with(':');
    if !done && year.is_none() {
        year = words.year();
    }
    let mut own = None;
    // A zone is told from a host name by the colon that ends the time.
    if !done && let Some(name) = words.peek().and_then(|word| word.strip_suffix(':')) {
        let zone_like = name.len() <= 5 && name.bytes().all(|byte| byte.is_ascii_uppercase());
        if zone_like && words.after_next().starts_with('%') {
            own = abbreviation(name);
            words.next();
            done = true;
        }
    }
    let host = match before {
        Some(host) => Some(host),
        None if done => None,
        None => words.next().and_then(host_name),
    };
    let date = |year| Some(NaiveDate::from_ymd_opt(year, month, day)?.and_time(time));
    let stamp = |local: NaiveDateTime| match own {
        Some(offset) => earlier(&offset.from_local_datetime(&local), Some(received)),
        None => earlier(&zone.at(local), Some(received)),
    };
    let at = match year {
        Some(year) => date(year).and_then(stamp),
        None => nearest(received, |year| date(year).and_then(stamp)),
    };
    // A day that is none: this was no header.
    at?;
    Some(Header {
        at: at.filter(|_| !unset),
        host,
    })
}

/// The sequence number and the host name that Cisco puts before the time, each with a colon; the
/// host name and the rest.
fn prefix(text: &str) -> (Option<&str>, &str) {
    let mut rest = text;
    let mut host = None;
    for _ in 0..3 {
        let Some((word, after)) = rest.split_once(": ") else {
            break;
        };
        if word.contains(' ') || word.starts_with(['*', '.', '%']) {
            break;
        }
        if !word.bytes().all(|byte| byte.is_ascii_digit()) {
            host = host_name(word);
        }
        rest = after.trim_start();
    }
    (host, rest)
}

/// Words between spaces, however many.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(' ');
        let end = text.find(' ').unwrap_or(text.len());
        let (word, rest) = text.split_at_checked(end)?;
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn peek(&self) -> Option<&'a str> {
        Words(self.0).next()
    }

    /// What stands behind the next word.
    fn after_next(&self) -> &'a str {
        let mut ahead = Words(self.0);
        ahead.next();
        ahead.0.trim_start_matches(' ')
    }

    /// Takes the next word if it is a year.
    fn year(&mut self) -> Option<i32> {
        let word = self.peek().filter(|word| word.len() == 4)?;
        let year = number(word, 4).filter(|year| (1970..2200).contains(year))?;
        self.next();
        Some(year)
    }
}

/// A word that can be a host name: no program name (`sshd[12]:`, `su:`), no message code (`%LINK`).
fn host_name(word: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let plain = !word.is_empty() && word.len() <= 255 && word != "-" && word.bytes().all(fits);
    (plain && !word.ends_with(':')).then_some(word)
}

/// `10:02:11`, `10:02:11.123456`.
fn clock(text: &str) -> Option<NaiveTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let mut part = || number::<u32>(parts.next()?, 2);
    let (hour, minute, second) = (part()?, part()?, part()?);
    NaiveTime::from_hms_nano_opt(hour, minute, second, nanoseconds(fraction)?)
}

/// The digits behind the point, at most nine.
fn nanoseconds(fraction: &str) -> Option<u32> {
    if fraction.is_empty() {
        return Some(0);
    }
    let value: u32 = number(fraction, 9)?;
    let missing = u32::try_from(9 - fraction.len()).ok()?;
    value.checked_mul(10_u32.checked_pow(missing)?)
}

/// Plain digits, at least one and at most `digits`.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let plain = !text.is_empty() && text.len() <= digits;
    let plain = plain && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// The few abbreviations that mean one zone in all the world; others are the source's own zone.
pub(in crate::trigger) fn abbreviation(name: &str) -> Option<FixedOffset> {
    match name {
        "UTC" | "GMT" | "Z" => FixedOffset::east_opt(0),
        "JST" | "KST" => FixedOffset::east_opt(9 * 3600),
        "CET" => FixedOffset::east_opt(3600),
        "CEST" => FixedOffset::east_opt(2 * 3600),
        _ => None,
    }
}

/// The instant of a local time. Of two (clocks went back) the later one that is not ahead of
/// `received`; none in the hour that is left out.
pub(in crate::trigger) fn earlier<Z: TimeZone>(
    local: &LocalResult<DateTime<Z>>,
    received: Option<Timestamp>,
) -> Option<Timestamp> {
    let instant = |at: &DateTime<Z>| {
        let ns = at
            .timestamp_nanos_opt()
            .and_then(|ns| u64::try_from(ns).ok());
        ns.map(Timestamp::from_ns)
    };
    match local {
        LocalResult::None => None,
        LocalResult::Single(at) => instant(at),
        LocalResult::Ambiguous(first, second) => {
            let second = instant(second).filter(|at| received.is_some_and(|now| *at <= now));
            second.or_else(|| instant(first))
        }
    }
}

/// Of the years around `received`, the one that brings the time nearest to it.
fn nearest(received: Timestamp, at: impl Fn(i32) -> Option<Timestamp>) -> Option<Timestamp> {
    let ns = i64::try_from(received.as_ns()).ok()?;
    let year = Utc.timestamp_nanos(ns).year();
    let found = [year, year - 1, year + 1].into_iter().filter_map(at);
    found.min_by_key(|at| at.as_ns().abs_diff(received.as_ns()))
}
