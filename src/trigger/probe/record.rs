//! What a trigger says about the probes that failed, so that they are found in the packets of its
//! incident: two fields of text, written here and read again when the incident is explained.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::prober::Flight;
use super::stats::Fate;
use crate::time::Timestamp;

/// The field with whose probes they are: `INSTANCE/NUMBER TARGET`.
pub const PROBE_FIELD: &str = "probe_id";
/// The field with the probes: `SEQ@SENT_NS:FATE`, for TCP and DNS with `:PORT:ID`.
pub const FAILED_FIELD: &str = "probes_failed";
/// More are not read.
const READ_MAX: usize = 64;

/// The probes of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRecords {
    /// The server that sent them.
    pub instance: u64,
    /// The probe's number.
    pub probe: u32,
    /// Where they went; port 0 for echoes.
    pub to: SocketAddr,
    /// Those that failed, oldest first.
    pub failed: Vec<ProbeRecord>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRecord {
    /// Its number.
    pub seq: u64,
    /// When it was handed to the kernel.
    pub sent: Timestamp,
    /// Whether the kernel took it.
    pub left_host: bool,
    /// For TCP and DNS our port, for DNS also the id.
    pub key: Option<(u16, u16)>,
}

impl ProbeRecords {
    /// The two fields of a trigger: names and values.
    pub(super) fn fields<'a>(
        instance: u64,
        probe: u32,
        to: SocketAddr,
        failed: impl Iterator<Item = &'a Flight>,
    ) -> [(&'static str, String); 2] {
        let mut list = String::new();
        for flight in failed.filter(|flight| flight.to == to) {
            if !list.is_empty() {
                list.push(' ');
            }
            let fate = if flight.fate == Fate::Unsent {
                "unsent"
            } else {
                "lost"
            };
            // Writing to a String does not fail.
            let _infallible = write!(list, "{}@{}:{fate}", flight.seq, flight.sent.as_ns());
            if let Some((port, id)) = flight.key {
                let _infallible = write!(list, ":{port}:{id}");
            }
        }
        let id = format!("{instance:016x}/{probe} {to}");
        [(PROBE_FIELD, id), (FAILED_FIELD, list)]
    }

    /// Reads the two fields; `None` when they are not what `fields` writes.
    pub fn parse(id: &str, failed: &str) -> Option<Self> {
        let (id, to) = id.split_once(' ')?;
        let (instance, probe) = id.split_once('/')?;
        let failed = failed.split(' ').filter(|text| !text.is_empty());
        Some(Self {
            instance: u64::from_str_radix(instance, 16).ok()?,
            probe: probe.parse().ok()?,
            to: to.parse().ok()?,
            failed: failed
                .take(READ_MAX)
                .map(parse_one)
                .collect::<Option<_>>()?,
        })
    }
}

fn parse_one(text: &str) -> Option<ProbeRecord> {
    let (seq, rest) = text.split_once('@')?;
    let mut parts = rest.split(':');
    let sent = Timestamp::from_ns(parts.next()?.parse().ok()?);
    let left_host = match parts.next()? {
        "lost" => true,
        "unsent" => false,
        _ => return None,
    };
    let key = match (parts.next(), parts.next()) {
        (Some(port), Some(id)) => Some((port.parse().ok()?, id.parse().ok()?)),
        _ => None,
    };
    Some(ProbeRecord {
        seq: seq.parse().ok()?,
        sent,
        left_host,
        key,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let to: SocketAddr = "[2001:db8::1]:53".parse().unwrap();
        let flight = |seq, fate, key| Flight {
            seq,
            sent: Timestamp::from_ns(1_700_000_000_000_000_000 + seq),
            sent_instant: Instant::now(),
            left: None,
            to,
            cookie: 0,
            key,
            fate,
        };
        let flights = [
            flight(7, Fate::Lost, Some((40_000, 99))),
            flight(8, Fate::Unsent, None),
        ];
        let [(_, id), (_, failed)] = ProbeRecords::fields(0xabc, 3, to, flights.iter());
        assert_eq!(id, "0000000000000abc/3 [2001:db8::1]:53");
        assert_eq!(
            failed,
            "7@1700000000000000007:lost:40000:99 8@1700000000000000008:unsent"
        );
        let read = ProbeRecords::parse(&id, &failed).unwrap();
        assert_eq!((read.instance, read.probe, read.to), (0xabc, 3, to));
        assert_eq!(read.failed[0].key, Some((40_000, 99)));
        assert!(read.failed[0].left_host && !read.failed[1].left_host);
        assert_eq!(read.failed[1].sent, flights[1].sent);
    }

    proptest! {
        #[test]
        fn no_text_panics(id in "\\PC{0,40}", failed in "[0-9a-z@: ]{0,60}") {
            let _any = ProbeRecords::parse(&id, &failed);
        }
    }
}
