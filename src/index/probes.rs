//! The probes of an incident in its own packets: did they leave, did an answer pass the tap?
//!
//! A function of what the trigger says about its probes and of the packets; nothing is kept.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::IndexError;
use crate::packet::flow::{FiveTuple, Protocol, TcpFlags, sight};
use crate::ring::merge::MergedReader;
use crate::ring::window::sources_in;
use crate::time::{Timestamp, Window};
use crate::trigger::probe::echo::Family;
use crate::trigger::probe::stamp::MAGIC;
use crate::trigger::probe::{IcmpErrorKind, ProbeRecord, ProbeRecords, Stamp};

/// Packets this much earlier than the first probe are looked at: clocks of capture and sender are
/// the same, their stamps are not.
const BEFORE: Duration = Duration::from_secs(1);
/// Answers are looked for so long after the last probe.
const AFTER: Duration = Duration::from_secs(90);
/// ICMP and UDP headers, and from the quoted ICMP header back to that of the error which quotes it.
const ICMP_BYTES: usize = 8;
const QUOTED_V4_BYTES: usize = 28;
const QUOTED_V6_BYTES: usize = 48;

/// What the packets say about one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeVerdict {
    /// This host did not send it.
    NotSent,
    /// It passed the tap, no answer did.
    LeftNoReply,
    /// It passed the tap, and a router's or the target's refusal of it did.
    LeftRefused,
    /// It passed the tap and so did its reply, which came to us too late or not at all.
    ReplyPassed,
    /// Its reply passed the tap, it did not: only one direction is mirrored.
    OnlyReply,
    /// Neither passed the tap, though others of the same probe did.
    NotSeen,
    /// No packet of this probe passed the tap: it does not leave by a recorded link.
    NeverSeen,
}

/// A probe of the incident, and what the packets say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeFinding {
    /// Its number.
    pub seq: u64,
    /// When it was handed to the kernel.
    pub sent: Timestamp,
    /// What the packets say.
    pub verdict: ProbeVerdict,
    /// When it passed the tap.
    pub left: Option<Timestamp>,
    /// When its reply passed the tap.
    pub reply: Option<Timestamp>,
    /// When a refusal passed the tap, and what it says.
    pub refused: Option<(Timestamp, IcmpErrorKind)>,
    /// The interface on which it was seen first.
    pub interface: Option<String>,
    /// All that in a sentence.
    pub text: String,
}

/// What a packet is to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The probe itself.
    Request,
    /// Its reply.
    Reply,
    /// An error that quotes it.
    Error(IcmpErrorKind),
}

/// A packet of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSighting {
    /// When it was captured.
    pub at: Timestamp,
    /// Where.
    pub interface: String,
    /// The probe's place among those that failed; `None` for one that did not fail.
    pub place: Option<usize>,
    /// What it is.
    pub seen: Seen,
}

/// What a packet is to the probes of `records`, if anything: its place among them and its part.
pub fn recognise(
    linktype: i32,
    data: &[u8],
    orig_len: u32,
    at: Timestamp,
    records: &ProbeRecords,
) -> Option<(Option<usize>, Seen)> {
    let sighting = sight(linktype, data, orig_len)?;
    let tuple = sighting.tuple;
    if records.to.port() == 0 {
        return echo(data, &tuple, records);
    }
    if matches!(tuple.protocol, Protocol::Ip(1 | 58)) {
        return quoted_ports(data, at, records);
    }
    let (ours, seen) = if is(&tuple.dst, records.to) {
        (tuple.src, Seen::Request)
    } else if is(&tuple.src, records.to) {
        (tuple.dst, Seen::Reply)
    } else {
        return None;
    };
    // Of a connection only its beginning is the probe: SYN, and what answers it.
    if let Some(tcp) = sighting.tcp {
        let syn = tcp.flags.has(TcpFlags::SYN);
        let answer = syn || tcp.flags.has(TcpFlags::RST);
        if !(seen == Seen::Request && syn || seen == Seen::Reply && answer) {
            return None;
        }
    }
    let id = match tuple.protocol {
        Protocol::UDP => dns_id(data, &tuple)?,
        _ => 0,
    };
    let key = Some((ours.port?, id));
    // Ports and ids come again: of several with the same key, the one sent last before the packet.
    let fits = |record: &ProbeRecord| record.key == key && record.sent <= at.plus(BEFORE);
    Some((records.failed.iter().rposition(fits), seen))
}

/// What an ICMP error says that quotes a connection or query of ours.
fn quoted_ports(
    data: &[u8],
    at: Timestamp,
    records: &ProbeRecords,
) -> Option<(Option<usize>, Seen)> {
    let quoted = |(place, record): (usize, &ProbeRecord)| {
        let (port, id) = record.key.filter(|_| record.sent <= at.plus(BEFORE))?;
        let [a, b] = port.to_be_bytes();
        let [c, d] = records.to.port().to_be_bytes();
        let header = data.windows(4).position(|window| window == [a, b, c, d])?;
        let quoted_id = data.get(header + ICMP_BYTES..)?.first_chunk()?;
        // A connection has its port for itself, queries share one.
        if id != 0 && u16::from_be_bytes(*quoted_id) != id {
            return None;
        }
        let (family, bytes) = family_of(records);
        let outer = header.checked_sub(bytes)?;
        let kind = IcmpErrorKind::of(family, *data.get(outer)?, *data.get(outer + 1)?)?;
        Some((Some(place), Seen::Error(kind)))
    };
    records.failed.iter().enumerate().rev().find_map(quoted)
}

/// The family of the probes, and the bytes from an error's header to that of what it quotes.
fn family_of(records: &ProbeRecords) -> (Family, usize) {
    if records.to.is_ipv4() {
        (Family::V4, QUOTED_V4_BYTES)
    } else {
        (Family::V6, QUOTED_V6_BYTES)
    }
}

fn is(endpoint: &crate::packet::flow::Endpoint, address: SocketAddr) -> bool {
    endpoint.addr == address.ip() && endpoint.port == Some(address.port())
}

fn echo(data: &[u8], tuple: &FiveTuple, records: &ProbeRecords) -> Option<(Option<usize>, Seen)> {
    let stamp = Stamp::find(data)?;
    if (stamp.instance, stamp.probe) != (records.instance, records.probe) {
        return None;
    }
    let place = records
        .failed
        .iter()
        .position(|record| record.seq == stamp.seq);
    let header = data
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)?;
    let header = header.checked_sub(ICMP_BYTES)?;
    let (family, quoted) = family_of(records);
    let kind = *data.get(header)?;
    let seen = if kind == family.reply() {
        Seen::Reply
    } else if kind == family.request() && tuple.dst.addr == records.to.ip() {
        Seen::Request
    } else {
        let outer = header.checked_sub(quoted)?;
        let (kind, code) = (*data.get(outer)?, *data.get(outer + 1)?);
        Seen::Error(IcmpErrorKind::of(family, kind, code)?)
    };
    Some((place, seen))
}

/// The id behind the UDP header, which begins with the two ports.
fn dns_id(data: &[u8], tuple: &FiveTuple) -> Option<u16> {
    let [a, b] = tuple.src.port?.to_be_bytes();
    let [c, d] = tuple.dst.port?.to_be_bytes();
    let ports = [a, b, c, d];
    let header = data
        .windows(ports.len())
        .position(|window| window == ports)?;
    let id = data.get(header + ICMP_BYTES..)?.first_chunk()?;
    Some(u16::from_be_bytes(*id))
}

/// Says of each probe what became of it, by the packets.
pub fn explain(records: &ProbeRecords, sightings: &[ProbeSighting]) -> Vec<ProbeFinding> {
    let any = !sightings.is_empty();
    let finding = |(place, record): (usize, &ProbeRecord)| {
        let mine = sightings.iter().filter(|one| one.place == Some(place));
        let first = |wanted: fn(&Seen) -> bool| {
            let found = mine.clone().filter(|one| wanted(&one.seen));
            found.min_by_key(|one| one.at)
        };
        let left = first(|seen| *seen == Seen::Request);
        let reply = first(|seen| *seen == Seen::Reply);
        let refused = mine.clone().find_map(|one| match one.seen {
            Seen::Error(kind) if kind.is_fatal() => Some((one.at, kind)),
            _ => None,
        });
        let verdict = match (record.left_host, left, reply) {
            (false, None, None) => ProbeVerdict::NotSent,
            (_, Some(_), Some(_)) => ProbeVerdict::ReplyPassed,
            (_, Some(_), None) if refused.is_some() => ProbeVerdict::LeftRefused,
            (_, Some(_), None) => ProbeVerdict::LeftNoReply,
            (_, None, Some(_)) => ProbeVerdict::OnlyReply,
            (true, None, None) if any => ProbeVerdict::NotSeen,
            (true, None, None) => ProbeVerdict::NeverSeen,
        };
        let interface = left.or(reply).map(|one| one.interface.clone());
        let mut finding = ProbeFinding {
            seq: record.seq,
            sent: record.sent,
            verdict,
            left: left.map(|one| one.at),
            reply: reply.map(|one| one.at),
            refused,
            interface,
            text: String::new(),
        };
        finding.text = sentence(&finding);
        finding
    };
    records.failed.iter().enumerate().map(finding).collect()
}

fn sentence(finding: &ProbeFinding) -> String {
    let sent = finding.sent;
    let left = match (finding.left, &finding.interface) {
        (Some(left), Some(interface)) => format!("left our edge at {left} (seen on {interface})"),
        _ => String::new(),
    };
    let reply = finding.reply.map(|at| at.to_string()).unwrap_or_default();
    match finding.verdict {
        ProbeVerdict::NotSent => format!("due at {sent}: our host did not send it"),
        ProbeVerdict::LeftNoReply => format!("sent at {sent}, {left}, no reply passed the tap"),
        ProbeVerdict::LeftRefused => {
            let refused = finding
                .refused
                .map(|(at, kind)| format!("\"{kind}\" came at {at}"));
            format!("sent at {sent}, {left}, {}", refused.unwrap_or_default())
        }
        ProbeVerdict::ReplyPassed => {
            format!(
                "sent at {sent}, {left}, its reply passed the tap at {reply} but did not come to us in time"
            )
        }
        ProbeVerdict::OnlyReply => {
            format!(
                "sent at {sent}, its reply passed the tap at {reply} but it was not seen leaving: only one direction is mirrored"
            )
        }
        ProbeVerdict::NotSeen => {
            format!(
                "sent at {sent}, not in the capture, though others of this probe are: it did not leave by the recorded link"
            )
        }
        ProbeVerdict::NeverSeen => {
            format!(
                "sent at {sent}, not in the capture, nor is any other of this probe: it leaves by a link that is not recorded"
            )
        }
    }
}

/// Finds the probes of `records` in an incident's packets and says what became of each.
pub fn find(
    segments_dir: &Path,
    window: Window,
    records: &ProbeRecords,
) -> Result<Vec<ProbeFinding>, IndexError> {
    let (Some(first), Some(last)) = (records.failed.first(), records.failed.last()) else {
        return Ok(Vec::new());
    };
    let from = window.from.max(first.sent.minus(BEFORE));
    let to = window.to.min(last.sent.plus(AFTER));
    let mut sightings = Vec::new();
    for source in sources_in(segments_dir)? {
        let mut reader = MergedReader::open(&source, Window::new(from, to))?;
        while let Some(found) = reader.advance() {
            let linktype = reader
                .formats()
                .get(found.format)
                .map_or(0, |format| i32::from(format.linktype));
            let data = reader.data(&found);
            let seen = recognise(linktype, data, found.orig_len, found.at, records);
            if let Some((place, seen)) = seen {
                // Of those that did not fail one is enough to know that they pass here.
                if place.is_some() || sightings.is_empty() {
                    sightings.push(ProbeSighting {
                        at: found.at,
                        interface: source.interface.clone(),
                        place,
                        seen,
                    });
                }
            }
        }
    }
    Ok(explain(records, &sightings))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    /// LINKTYPE_RAW
    const RAW: i32 = 101;
    const OURS: [u8; 4] = [192, 0, 2, 1];
    const THEIRS: [u8; 4] = [198, 51, 100, 7];

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ns(1_700_000_000_000_000_000 + ms * 1_000_000)
    }

    fn records(port: u16, failed: &[(u64, Option<(u16, u16)>)]) -> ProbeRecords {
        let record = |&(seq, key): &(u64, Option<(u16, u16)>)| ProbeRecord {
            seq,
            sent: at(seq * 1000),
            left_host: true,
            key,
        };
        ProbeRecords {
            instance: 7,
            probe: 1,
            to: SocketAddr::new(THEIRS.into(), port),
            failed: failed.iter().map(record).collect(),
        }
    }

    fn icmp(kind: u8, seq: u64) -> Vec<u8> {
        let stamp = Stamp {
            instance: 7,
            probe: 1,
            seq,
            sent_ns: 1,
            cookie: 2,
        };
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(stamp.encode());
        message
    }

    fn ip(from: [u8; 4], to: [u8; 4], message: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
            etherparse::Ipv4Header::new(
                u16::try_from(message.len()).unwrap(),
                64,
                etherparse::IpNumber::ICMP,
                from,
                to,
            )
            .unwrap(),
            etherparse::Ipv4Extensions::default(),
        ));
        builder
            .write(&mut packet, etherparse::IpNumber::ICMP, message)
            .unwrap();
        packet
    }

    fn see(packet: &[u8], records: &ProbeRecords) -> Option<(Option<usize>, Seen)> {
        recognise(RAW, packet, 0, at(100_000), records)
    }

    #[test]
    fn an_echo_its_reply_and_a_refusal_are_recognised() {
        let records = records(0, &[(3, None), (4, None)]);
        let request = ip(OURS, THEIRS, &icmp(8, 4));
        assert_eq!(see(&request, &records), Some((Some(1), Seen::Request)));
        let reply = ip(THEIRS, OURS, &icmp(0, 3));
        assert_eq!(see(&reply, &records), Some((Some(0), Seen::Reply)));
        let other = ip(OURS, THEIRS, &icmp(8, 9));
        assert_eq!(see(&other, &records), Some((None, Seen::Request)));
        let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
        error.extend(&request);
        let error = ip([203, 0, 113, 9], OURS, &error);
        let said = Seen::Error(IcmpErrorKind::HostUnreachable);
        assert_eq!(see(&error, &records), Some((Some(1), said)));
        let stranger = ProbeRecords {
            instance: 8,
            ..records
        };
        assert_eq!(see(&request, &stranger), None);
    }

    #[test]
    fn connections_and_queries_are_recognised_by_port_and_id() {
        let tcp = records(443, &[(3, Some((40_000, 0)))]);
        let mut syn = Vec::new();
        PacketBuilder::ipv4(OURS, THEIRS, 64)
            .tcp(40_000, 443, 1, 9)
            .syn()
            .write(&mut syn, &[])
            .unwrap();
        assert_eq!(see(&syn, &tcp), Some((Some(0), Seen::Request)));
        let mut data = Vec::new();
        PacketBuilder::ipv4(OURS, THEIRS, 64)
            .tcp(40_000, 443, 1, 9)
            .ack(1)
            .write(&mut data, b"x")
            .unwrap();
        assert_eq!(see(&data, &tcp), None);
        let mut rst = Vec::new();
        PacketBuilder::ipv4(THEIRS, OURS, 64)
            .tcp(443, 40_000, 1, 9)
            .rst()
            .write(&mut rst, &[])
            .unwrap();
        assert_eq!(see(&rst, &tcp), Some((Some(0), Seen::Reply)));

        let dns = records(
            53,
            &[(3, Some((40_001, 0xbeef))), (4, Some((40_001, 0xcafe)))],
        );
        let mut query = Vec::new();
        PacketBuilder::ipv4(OURS, THEIRS, 64)
            .udp(40_001, 53)
            .write(&mut query, b"\xca\xfe\x01\0")
            .unwrap();
        assert_eq!(see(&query, &dns), Some((Some(1), Seen::Request)));
        let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
        error.extend(&query);
        let error = ip(THEIRS, OURS, &error);
        let said = Seen::Error(IcmpErrorKind::PortUnreachable);
        assert_eq!(see(&error, &dns), Some((Some(1), said)));
    }

    #[test]
    fn every_case_has_its_sentence() {
        let mut records = records(
            0,
            &[
                (0, None),
                (1, None),
                (2, None),
                (3, None),
                (4, None),
                (5, None),
            ],
        );
        records.failed[5].left_host = false;
        let sighting = |ms, place, seen| ProbeSighting {
            at: at(ms),
            interface: "eth1".to_owned(),
            place: Some(place),
            seen,
        };
        let sightings = [
            sighting(123, 0, Seen::Request),
            sighting(1001, 1, Seen::Request),
            sighting(2950, 1, Seen::Reply),
            sighting(2001, 2, Seen::Request),
            sighting(2040, 2, Seen::Error(IcmpErrorKind::HostUnreachable)),
            sighting(3040, 3, Seen::Reply),
        ];
        let findings = explain(&records, &sightings);
        let verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(
            verdicts,
            [
                ProbeVerdict::LeftNoReply,
                ProbeVerdict::ReplyPassed,
                ProbeVerdict::LeftRefused,
                ProbeVerdict::OnlyReply,
                ProbeVerdict::NotSeen,
                ProbeVerdict::NotSent,
            ]
        );
        assert!(
            findings[0].text.contains("left our edge at 2023-11-14T22:13:20.123000000Z (seen on eth1), no reply passed the tap"),
            "{}",
            findings[0].text
        );
        assert!(
            findings[2].text.contains("\"host unreachable\" came at"),
            "{}",
            findings[2].text
        );
        let alone = explain(&records, &[]);
        assert_eq!(alone[0].verdict, ProbeVerdict::NeverSeen);
        assert_eq!(alone[5].verdict, ProbeVerdict::NotSent);
    }
}
