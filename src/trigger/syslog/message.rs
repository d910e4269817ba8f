//! What a syslog message says about itself: severity, host and time, in either RFC's dialect.

use chrono::{DateTime, Datelike, Utc};
use syslog_loose::Variant;

use crate::time::Timestamp;
use crate::trigger::rules::Severity;
use crate::trigger::text::inert;

/// The header is looked for in this many bytes at the front.
const HEADER_BYTES_MAX: usize = 8192;

/// A message taken apart as far as triggers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Everything after the `<PRI>`, as received.
    pub line: &'a [u8],
    /// The severity of the PRI, when there is one.
    pub severity: Option<Severity>,
    /// The host name of the header.
    pub host: Option<String>,
    /// The timestamp of the header; one without a zone is taken to be local.
    pub at: Option<Timestamp>,
}

impl<'a> Message<'a> {
    /// Takes a message apart; whatever is not understood is simply absent.
    pub fn parse(frame: &'a [u8], received: Timestamp) -> Self {
        Self::parse_in(frame, received, None)
    }

    /// As [`Message::parse`] in the given zone, `None` being the local one.
    fn parse_in(frame: &'a [u8], received: Timestamp, zone: Option<Utc>) -> Self {
        let (severity, line) = match split_pri(frame) {
            Some((pri, line)) => (Some(Severity::of_pri(pri)), line),
            None => (None, frame),
        };
        let head = frame.get(..HEADER_BYTES_MAX).unwrap_or(frame);
        let text = String::from_utf8_lossy(head);
        let now = Timestamp::as_ns(received);
        let now = DateTime::from_timestamp_nanos(i64::try_from(now).unwrap_or(i64::MAX));
        let header = syslog_loose::parse_message_with_year_tz(
            &text,
            |(month, ..)| year_of(month, now),
            zone,
            Variant::Either,
        );
        let at = header
            .timestamp
            .and_then(|at| at.timestamp_nanos_opt())
            .and_then(|ns| u64::try_from(ns).ok())
            .map(Timestamp::from_ns);
        let host = header
            .hostname
            // Without a timestamp there was no header, and a "host" is a word of the message.
            .filter(|host| header.timestamp.is_some() && !host.is_empty() && *host != "-")
            .map(|host| inert(host.as_bytes()));
        Self {
            line,
            severity,
            host,
            at,
        }
    }
}

/// The PRI value at the front and what follows it.
fn split_pri(frame: &[u8]) -> Option<(u8, &[u8])> {
    let rest = frame.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let (digits, rest) = rest.split_at_checked(end)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let pri = digits.parse().ok().filter(|pri| plain && *pri <= 191)?;
    Some((pri, rest.get(1..)?))
}

/// The year of a date that gives only a month: the one that brings it nearest to `now`.
fn year_of(month: u32, now: DateTime<Utc>) -> i32 {
    if month > now.month() + 6 {
        now.year() - 1
    } else if month + 6 < now.month() {
        now.year() + 1
    } else {
        now.year()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Frame, received at, severity, host, time.
    type Row = (
        &'static str,
        &'static str,
        Option<Severity>,
        Option<&'static str>,
        Option<&'static str>,
    );

    /// Dialects as devices send them.
    #[test]
    fn dialects() {
        use Severity::{Crit, Err, Info, Notice};
        let noon = "2026-11-23T12:00:00Z";
        let newyear = "2027-01-01T00:00:01Z";
        let table: &[Row] = &[
            (
                "<34>Nov 23 10:02:11 router1 bgpd[12]: ERROR session down",
                noon,
                Some(Crit),
                Some("router1"),
                Some("2026-11-23T10:02:11Z"),
            ),
            (
                "<34>Nov  3 10:02:11 router1 bgpd: x",
                noon,
                Some(Crit),
                Some("router1"),
                Some("2026-11-03T10:02:11Z"),
            ),
            (
                "<34>Dec 31 23:59:59 router1 bgpd: x",
                newyear,
                Some(Crit),
                Some("router1"),
                Some("2026-12-31T23:59:59Z"),
            ),
            (
                "<165>1 2026-11-23T10:02:11.003Z 192.0.2.1 app - ID47 [a@1 b=\"c\"] \u{feff}text",
                noon,
                Some(Notice),
                Some("192.0.2.1"),
                Some("2026-11-23T10:02:11.003Z"),
            ),
            (
                "<11>1 2026-11-23T10:02:11.003+09:00 h app - - - x",
                noon,
                Some(Err),
                Some("h"),
                Some("2026-11-23T01:02:11.003Z"),
            ),
            (
                "<11>1 - - - - - - nothing known",
                noon,
                Some(Err),
                None,
                None,
            ),
            (
                "<14>2026-11-23T10:02:11+00:00 web1 nginx: x",
                noon,
                Some(Info),
                Some("web1"),
                Some("2026-11-23T10:02:11Z"),
            ),
            ("<11>ERROR no header at all", noon, Some(Err), None, None),
            (
                "<189>123: *Mar  1 00:01:02.123: %LINK-3-UPDOWN: Interface Gi0/1",
                noon,
                Some(Notice),
                None,
                None,
            ),
            ("no pri", noon, None, None, None),
            ("<999>bad pri", noon, None, None, None),
            ("<11", noon, None, None, None),
            ("", noon, None, None, None),
            (
                "<11>Feb 30 10:00:00 h a: no such day",
                noon,
                Some(Err),
                None,
                None,
            ),
        ];
        for (frame, received, severity, host, time) in table {
            let message = Message::parse_in(frame.as_bytes(), at(received), Some(Utc));
            assert_eq!(message.severity, *severity, "{frame}");
            assert_eq!(message.host.as_deref(), *host, "{frame}");
            assert_eq!(message.at, time.map(at), "{frame}");
        }
    }

    #[test]
    fn the_line_is_what_follows_the_pri() {
        let line = |frame| Message::parse(frame, Timestamp::MIN).line;
        assert_eq!(line(b"<11>a\xffb"), b"a\xffb");
        assert_eq!(line(b"<+1>a"), b"<+1>a");
        assert_eq!(line(b"<>a"), b"<>a");
    }

    proptest! {
        #[test]
        fn no_message_panics(
            head in "(<[0-9]{0,4}>)?(1 )?([A-Z][a-z]{2} +[0-9]{1,2} )?([0-9:.TZ+-]{0,30} )?",
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            received in any::<u64>(),
        ) {
            let frame = [head.as_bytes(), &bytes].concat();
            let message = Message::parse(&frame, Timestamp::from_ns(received));
            prop_assert!(message.line.len() <= frame.len());
        }
    }
}
