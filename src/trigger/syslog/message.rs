//! What a syslog message says about itself: severity, host and time, in either RFC's dialect.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use syslog_loose::{Protocol, Variant};

use super::device;
use super::zone::Zone;
use crate::time::Timestamp;
use crate::trigger::cut;
use crate::trigger::rules::{Facility, Severity};
use crate::trigger::text::{FIELD_BYTES_MAX, inert};

/// The header is looked for in this many bytes at the front.
const HEADER_BYTES_MAX: usize = 8192;
/// The parameters of structured data that are kept.
const PARAMETERS_MAX: usize = 32;

/// A message taken apart as far as triggers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Everything after the `<PRI>`, as received.
    pub line: &'a [u8],
    /// The severity of the PRI, when there is one.
    pub severity: Option<Severity>,
    /// The facility of the PRI, when there is one.
    pub facility: Option<Facility>,
    /// The host name of the header.
    pub host: Option<String>,
    /// The timestamp of the header.
    pub at: Option<Timestamp>,
    /// The structured data of RFC 5424 by `ID.PARAMETER`.
    pub data: BTreeMap<String, String>,
}

impl<'a> Message<'a> {
    /// Takes a message apart; whatever is not understood is simply absent. A timestamp without a
    /// zone is this machine's.
    pub fn parse(frame: &'a [u8], received: Timestamp) -> Self {
        Self::parse_in(frame, received, Zone::Local)
    }

    /// Everything after the `<PRI>`, without a look at the rest of the header.
    pub fn line_of(frame: &[u8]) -> &[u8] {
        split_pri(frame).map_or(frame, |(_, line)| line)
    }

    /// As [`Message::parse`], for a sender whose clock hangs in `zone`.
    pub fn parse_in(frame: &'a [u8], received: Timestamp, zone: Zone) -> Self {
        let (pri, line) = match split_pri(frame) {
            Some((pri, line)) => (Some(pri), line),
            None => (None, frame),
        };
        let head = line.get(..HEADER_BYTES_MAX).unwrap_or(line);
        let text = String::from_utf8_lossy(head);
        let mut message = Self {
            line,
            severity: pri.map(Severity::of_pri),
            facility: pri.map(Facility::of_pri),
            host: None,
            at: None,
            data: BTreeMap::new(),
        };
        match device::header(&text, received, zone) {
            Some(header) => {
                message.at = header.at;
                message.host = header.host.map(|host| inert(host.as_bytes()));
            }
            None => message.read_standard(frame),
        }
        message
    }

    /// RFC 5424, and RFC 3339 times in front of an RFC 3164 message: both with a zone.
    fn read_standard(&mut self, frame: &[u8]) {
        let head = frame.get(..HEADER_BYTES_MAX).unwrap_or(frame);
        let text = String::from_utf8_lossy(head);
        // The other header, without a year, has been looked for: what looks like one is none.
        let header =
            syslog_loose::parse_message_with_year_tz(&text, |_| 1970, Some(Utc), Variant::Either);
        let instant = |at: DateTime<_>| at.timestamp_nanos_opt();
        let at = header.timestamp.and_then(instant);
        self.at = at
            .and_then(|ns| u64::try_from(ns).ok())
            .filter(|ns| *ns > YEAR_1971_NS)
            .map(Timestamp::from_ns);
        let fifth = matches!(header.protocol, Protocol::RFC5424(_));
        // Without a header, a "host" is a word of the message.
        self.host = header
            .hostname
            .filter(|host| (fifth || self.at.is_some()) && !host.is_empty() && *host != "-")
            .map(|host| inert(host.as_bytes()));
        let parameters = header.structured_data.iter().flat_map(|element| {
            element
                .params()
                .map(|(name, value)| (element.id, name, value))
        });
        for (id, name, value) in parameters.take(PARAMETERS_MAX) {
            let short = |text: &str| cut(&inert(text.as_bytes()), FIELD_BYTES_MAX).to_owned();
            self.data
                .insert(short(&format!("{id}.{name}")), short(&value));
        }
    }
}

/// The end of 1970, the year that stands for none.
const YEAR_1971_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encoding::Charset;
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
            (
                "<189>45: core-sw: 000124: .Nov 23 2026 19:02:11.123 JST: %LINK-3-UPDOWN: Gi0/1, down",
                noon,
                Some(Notice),
                Some("core-sw"),
                Some("2026-11-23T10:02:11.123Z"),
            ),
            (
                "<187>123: Nov 23 10:02:11.5 UTC: %OSPF-5-ADJCHG: down",
                noon,
                Some(Err),
                None,
                Some("2026-11-23T10:02:11.5Z"),
            ),
            (
                "<187>Nov 23 2026 10:02:11: %ASA-3-105005: failover",
                noon,
                Some(Err),
                None,
                Some("2026-11-23T10:02:11Z"),
            ),
            (
                "<187>Nov 23 10:02:11.401 2026  mx1 rpd[12]: BGP down",
                noon,
                Some(Err),
                Some("mx1"),
                Some("2026-11-23T10:02:11.401Z"),
            ),
            (
                "<187>Nov 23 10:02:11 sshd[12]: no host",
                noon,
                Some(Err),
                None,
                Some("2026-11-23T10:02:11Z"),
            ),
            (
                "<187>date=2026-11-23 time=19:02:11 devname=\"fw1\" tz=\"+0900\" level=\"error\"",
                noon,
                Some(Err),
                Some("fw1"),
                Some("2026-11-23T10:02:11Z"),
            ),
            (
                "<187>date=2026-11-23 time=19:02:11 devname=\"fw1\" eventtime=1795428131000000000",
                noon,
                Some(Err),
                Some("fw1"),
                Some("2026-11-23T10:02:11Z"),
            ),
            (
                "<134>1 1795428131.003 mx84 flows src=192.0.2.1",
                noon,
                Some(Info),
                Some("mx84"),
                Some("2026-11-23T10:02:11.003Z"),
            ),
            (
                "<134>[INSPECT] PP[01][out][101000] TCP 192.0.2.1:80",
                noon,
                Some(Info),
                None,
                None,
            ),
            // Yamaha RTX: the model may stand before the message, or nothing but the message.
            (
                "<134>Nov 23 10:02:11 rtx1210 [IKE] SA[3] lost",
                noon,
                Some(Info),
                Some("rtx1210"),
                Some("2026-11-23T10:02:11Z"),
            ),
            ("<134>LAN1: link down", noon, Some(Info), None, None),
            // Juniper, structured and not.
            (
                "<165>1 2026-11-23T10:02:11.133+09:00 mx1 mib2d 1234 SNMP_TRAP_LINK_DOWN [junos@2636.1.1.1.2.18 ifIndex=\"530\" interface-name=\"xe-0/0/1\"] ifIndex 530 down",
                noon,
                Some(Notice),
                Some("mx1"),
                Some("2026-11-23T01:02:11.133Z"),
            ),
            (
                "<28>Nov 23 10:02:11  mx1 mib2d[1234]: SNMP_TRAP_LINK_DOWN: ifIndex 530",
                noon,
                Some(Severity::Warning),
                Some("mx1"),
                Some("2026-11-23T10:02:11Z"),
            ),
            // FortiGate without a zone: the source's; with version and two spaces in front.
            (
                "<187>date=2026-11-23 time=10:02:11 devname=fw1 logid=\"0100020007\" msg=\"port1 down\"",
                noon,
                Some(Err),
                Some("fw1"),
                Some("2026-11-23T10:02:11Z"),
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
            let message =
                Message::parse_in(frame.as_bytes(), at(received), Zone::named("UTC").unwrap());
            assert_eq!(message.severity, *severity, "{frame}");
            assert_eq!(message.host.as_deref(), *host, "{frame}");
            assert_eq!(message.at, time.map(at), "{frame}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_the_sources() {
        let received = at("2026-11-23T01:03:00Z");
        let zone = Zone::named("Asia/Tokyo").unwrap();
        let message = Message::parse_in(b"<11>Nov 23 10:02:11 rtx sys: x", received, zone);
        assert_eq!(message.at, Some(at("2026-11-23T01:02:11Z")));
        // An hour that clocks pass twice: the later one that has happened.
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for (received, expected) in [
            ("2026-10-25T00:40:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:40:00Z", "2026-10-25T01:30:00Z"),
        ] {
            let message = Message::parse_in(b"<11>Oct 25 02:30:00 h a: x", at(received), berlin);
            assert_eq!(message.at, Some(at(expected)));
        }
    }

    /// CP932 and EUC-JP, as a Yamaha or a Japanese FortiGate sends them.
    #[test]
    fn headers_are_read_around_japanese_text() {
        let text = "<134>Nov 23 10:02:11 rtx1210 LAN1 のリンクがダウンしました";
        for encoding in [encoding_rs::SHIFT_JIS, encoding_rs::EUC_JP] {
            let frame = Charset::Auto.decode(&encoding.encode(text).0).into_owned();
            let noon = at("2026-11-23T12:00:00Z");
            let message = Message::parse_in(&frame, noon, Zone::named("UTC").unwrap());
            assert_eq!(message.host.as_deref(), Some("rtx1210"));
            assert_eq!(message.at, Some(at("2026-11-23T10:02:11Z")));
            assert_eq!(message.line, text.as_bytes().get(5..).unwrap());
        }
    }

    #[test]
    fn structured_data_is_kept() {
        let frame =
            b"<165>1 2026-11-23T10:02:11Z h app - ID47 [ex@1 ifname=\"eth\\]0\" a=\"b\"] text";
        let data = Message::parse(frame, at("2026-11-23T12:00:00Z")).data;
        assert_eq!(data.get("ex@1.ifname").map(String::as_str), Some("eth]0"));
        assert_eq!(data.get("ex@1.a").map(String::as_str), Some("b"));
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
