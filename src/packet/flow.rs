//! Whose conversation a packet belongs to: five-tuple, flow key, and what TCP says.
//!
//! Headers are sliced laxly: of a snapped packet what is there is used. Packets without an IP or
//! ARP header have no flow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// LINKTYPE_ values whose headers are understood.
const EN10MB: i32 = 1;
const LINUX_SLL: i32 = 113;
const LINUX_SLL2: i32 = 276;
/// DLT_RAW on Linux, LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6.
const RAW: [i32; 4] = [12, 101, 228, 229];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What carries the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// An IP protocol by its number.
    Ip(u8),
    /// Address resolution.
    Arp,
}

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self::Ip(TCP);
    /// UDP.
    pub const UDP: Self = Self::Ip(UDP);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arp => f.write_str("arp"),
            Self::Ip(1) => f.write_str("icmp"),
            Self::Ip(2) => f.write_str("igmp"),
            Self::Ip(6) => f.write_str("tcp"),
            Self::Ip(17) => f.write_str("udp"),
            Self::Ip(47) => f.write_str("gre"),
            Self::Ip(50) => f.write_str("esp"),
            Self::Ip(51) => f.write_str("ah"),
            Self::Ip(58) => f.write_str("icmpv6"),
            Self::Ip(89) => f.write_str("ospf"),
            Self::Ip(112) => f.write_str("vrrp"),
            Self::Ip(132) => f.write_str("sctp"),
            Self::Ip(number) => write!(f, "ip-{number}"),
        }
    }
}

/// One side of a flow. The port is absent where the protocol has none, or where a fragment or a
/// cut packet does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: Option<u16>,
}

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The protocol.
    pub protocol: Protocol,
    /// The sender.
    pub src: Endpoint,
    /// The receiver.
    pub dst: Endpoint,
}

/// The same for both directions: the endpoints in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The protocol.
    pub protocol: Protocol,
    /// The lower endpoint.
    pub low: Endpoint,
    /// The higher endpoint.
    pub high: Endpoint,
}

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the lower endpoint to the higher.
    Up,
    /// From the higher endpoint to the lower.
    Down,
}

impl FiveTuple {
    /// The flow it belongs to, and its direction in it.
    pub fn key(&self) -> (FlowKey, Direction) {
        let (low, high, direction) = if self.src <= self.dst {
            (self.src, self.dst, Direction::Up)
        } else {
            (self.dst, self.src, Direction::Down)
        };
        let protocol = self.protocol;
        (
            FlowKey {
                protocol,
                low,
                high,
            },
            direction,
        )
    }
}

/// TCP flags as the header has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// ACK.
    pub const ACK: Self = Self(0x10);

    /// Whether all flags of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Letters in the order `SAFPRUEC`.
impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [
            (0x02, "S"),
            (0x10, "A"),
            (0x01, "F"),
            (0x08, "P"),
            (0x04, "R"),
            (0x20, "U"),
            (0x40, "E"),
            (0x80, "C"),
        ] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// What a TCP header says about the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment {
    /// Its flags.
    pub flags: TcpFlags,
    /// The sequence number of its first byte.
    pub seq: u32,
    /// Bytes of payload on the wire, also those that were not captured.
    pub payload_len: u32,
}

impl TcpSegment {
    /// How far it moves the sequence number: payload, and one each for SYN and FIN.
    pub fn span(&self) -> u32 {
        self.payload_len
            .saturating_add(u32::from(self.flags.has(TcpFlags::SYN)))
            .saturating_add(u32::from(self.flags.has(TcpFlags::FIN)))
    }
}

/// What a packet says about its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// From whom to whom.
    pub tuple: FiveTuple,
    /// For TCP, when its header was captured.
    pub tcp: Option<TcpSegment>,
}

/// Reads the headers of a packet of a link type; `None` when it has no IP or ARP header that is
/// understood.
pub fn sight(linktype: i32, data: &[u8], orig_len: u32) -> Option<Sighting> {
    let sliced = match linktype {
        EN10MB => LaxSlicedPacket::from_ethernet(data).ok()?,
        LINUX_SLL => {
            LaxSlicedPacket::from_ether_type(ether_type(data.get(14..)?)?, data.get(16..)?)
        }
        LINUX_SLL2 => LaxSlicedPacket::from_ether_type(ether_type(data)?, data.get(20..)?),
        raw if RAW.contains(&raw) => LaxSlicedPacket::from_ip(data).ok()?,
        _ => return None,
    };
    let missing = orig_len.saturating_sub(u32::try_from(data.len()).unwrap_or(u32::MAX));
    sighting(&sliced, missing)
}

fn ether_type(bytes: &[u8]) -> Option<EtherType> {
    bytes
        .first_chunk()
        .map(|raw| EtherType(u16::from_be_bytes(*raw)))
}

/// `missing` bytes of the packet were not captured.
fn sighting(sliced: &LaxSlicedPacket<'_>, missing: u32) -> Option<Sighting> {
    let (src, dst, payload, later_fragment): (IpAddr, IpAddr, _, _) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let later = header.fragments_offset().value() != 0;
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ip.payload(),
                later,
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            // Without its transport header a fragment is a later one (or cut just as short).
            let later = ip.is_payload_fragmented() && sliced.transport.is_none();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ip.payload(),
                later,
            )
        }
        LaxNetSlice::Arp(arp) => return arp_sighting(arp),
    };
    let number = payload.ip_number.0;
    let (ports, tcp) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let captured = u32::try_from(tcp.payload().len()).unwrap_or(u32::MAX);
            // Only a payload that was cut lacks bytes; else what is missing is padding.
            let lacking = if payload.incomplete { missing } else { 0 };
            let segment = TcpSegment {
                flags: TcpFlags(tcp.header_slice().get(13).copied().unwrap_or(0)),
                seq: tcp.sequence_number(),
                payload_len: captured.saturating_add(lacking),
            };
            (
                Some((tcp.source_port(), tcp.destination_port())),
                Some(segment),
            )
        }
        Some(TransportSlice::Udp(udp)) => (Some((udp.source_port(), udp.destination_port())), None),
        None if matches!(number, TCP | UDP) && !later_fragment => (ports(payload.payload), None),
        _ => (None, None),
    };
    let end = |addr, port| Endpoint { addr, port };
    Some(Sighting {
        tuple: FiveTuple {
            protocol: Protocol::Ip(number),
            src: end(src, ports.map(|ports| ports.0)),
            dst: end(dst, ports.map(|ports| ports.1)),
        },
        tcp,
    })
}

/// The ports of a transport header that was cut behind them.
fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *payload.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn arp_sighting(arp: &etherparse::ArpPacketSlice<'_>) -> Option<Sighting> {
    let end = |bytes: &[u8]| {
        let raw: [u8; 4] = bytes.try_into().ok()?;
        Some(Endpoint {
            addr: Ipv4Addr::from(raw).into(),
            port: None,
        })
    };
    Some(Sighting {
        tuple: FiveTuple {
            protocol: Protocol::Arp,
            src: end(arp.sender_protocol_addr())?,
            dst: end(arp.target_protocol_addr())?,
        },
        tcp: None,
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    fn tcp_frame(vlan: bool, payload: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let mut out = Vec::new();
        if vlan {
            let tag = |id: u16| etherparse::VlanId::try_new(id).unwrap();
            let net = link
                .double_vlan(tag(7), tag(8))
                .ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
            net.tcp(4000, 80, 77, 1000)
                .syn()
                .write(&mut out, payload)
                .unwrap();
        } else {
            let net = link.ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
            net.tcp(4000, 80, 77, 1000)
                .syn()
                .write(&mut out, payload)
                .unwrap();
        }
        out
    }

    fn text(sighting: &Sighting) -> String {
        let port = |end: &Endpoint| end.port.map_or("-".to_owned(), |port| port.to_string());
        let FiveTuple { protocol, src, dst } = &sighting.tuple;
        format!(
            "{protocol} {} {} {} {}",
            src.addr,
            port(src),
            dst.addr,
            port(dst)
        )
    }

    #[test]
    fn tcp_is_seen_through_tags_and_snaplen() {
        for vlan in [false, true] {
            let frame = tcp_frame(vlan, &[9; 100]);
            let orig_len = u32::try_from(frame.len()).unwrap();
            for keep in [frame.len(), frame.len() - 100, frame.len() - 50] {
                let seen = sight(1, &frame[..keep], orig_len).unwrap();
                assert_eq!(text(&seen), "tcp 10.0.0.2 4000 10.0.0.1 80");
                let tcp = seen.tcp.unwrap();
                assert_eq!((tcp.seq, tcp.payload_len, tcp.span()), (77, 100, 101));
                assert_eq!(tcp.flags.to_string(), "S");
            }
            let cut = sight(1, &frame[..frame.len() - 112], orig_len).unwrap();
            assert_eq!(text(&cut), "tcp 10.0.0.2 4000 10.0.0.1 80");
            assert_eq!(cut.tcp, None);
        }
    }

    #[test]
    fn both_directions_have_one_key() {
        let seen = sight(1, &tcp_frame(false, &[]), 54).unwrap().tuple;
        let back = FiveTuple {
            src: seen.dst,
            dst: seen.src,
            ..seen
        };
        assert_eq!(seen.key().0, back.key().0);
        assert_ne!(seen.key().1, back.key().1);
    }

    #[test]
    fn ethernet_padding_is_not_payload() {
        let mut frame = tcp_frame(false, &[]);
        frame.resize(60, 0);
        assert_eq!(sight(1, &frame, 60).unwrap().tcp.unwrap().payload_len, 0);
        // Nor is padding that was cut off.
        let cut = sight(1, &frame[..54], 60).unwrap();
        assert_eq!(cut.tcp.unwrap().payload_len, 0);
    }

    #[test]
    fn other_links_and_protocols() {
        let frame = tcp_frame(false, &[]);
        let ip = &frame[14..];
        let seen = |linktype, data: &[u8]| sight(linktype, data, 60).map(|s| text(&s));
        let tcp = Some("tcp 10.0.0.2 4000 10.0.0.1 80".to_owned());
        assert_eq!(seen(101, ip), tcp);
        let mut cooked = vec![0; 14];
        cooked.extend_from_slice(&[8, 0]);
        cooked.extend_from_slice(ip);
        assert_eq!(seen(113, &cooked), tcp);
        let mut cooked = vec![8, 0];
        cooked.extend_from_slice(&[0; 18]);
        cooked.extend_from_slice(ip);
        assert_eq!(seen(276, &cooked), tcp);
        assert_eq!(seen(127, ip), None);

        let mut icmp = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv6([1; 16], [2; 16], 64)
            .icmpv6_echo_request(1, 2)
            .write(&mut icmp, b"ping")
            .unwrap();
        let expected = "icmpv6 101:101:101:101:101:101:101:101 - 202:202:202:202:202:202:202:202 -";
        assert_eq!(seen(1, &icmp).unwrap(), expected);

        let mut arp = vec![0xFF; 12];
        arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 1, 1, 1, 1, 1, 1, 10, 0, 0, 1]);
        arp.extend_from_slice(&[0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
        assert_eq!(seen(1, &arp).unwrap(), "arp 10.0.0.1 - 10.0.0.9 -");
        assert_eq!(seen(1, &[0xFF; 60]), None);
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut frame = tcp_frame(false, &[1; 40]);
        (frame[20], frame[21]) = (0, 100);
        let seen = sight(1, &frame, 94).unwrap();
        assert_eq!(text(&seen), "tcp 10.0.0.2 - 10.0.0.1 -");
        assert_eq!(seen.tcp, None);
    }

    proptest! {
        #[test]
        fn random_packets_never_panic(
            linktype in prop::sample::select(vec![0, 1, 12, 101, 113, 228, 229, 276]),
            head in prop::sample::select(vec![vec![], tcp_frame(false, b"x"), tcp_frame(true, b"x")]),
            hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            orig_len in any::<u32>(),
        ) {
            let mut data = head;
            data.extend(tail);
            for (at, byte) in hits {
                if !data.is_empty() {
                    let at = at.index(data.len());
                    data[at] = byte;
                }
            }
            let _seen = sight(linktype, &data, orig_len);
        }
    }
}
