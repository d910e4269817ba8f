//! ICMP and ICMPv6 echo (RFC 792, RFC 4443): our requests, and answers to them.
//!
//! The payload carries a mark, so that our probes are found in a capture, and a random cookie:
//! on unprivileged sockets the kernel replaces the identifier, and an identifier can be guessed.

/// Marks our probes in a capture.
const MARK: &[u8; 16] = b"wirewitness-echo";
/// The payload's length, that of the classic ping.
const PAYLOAD_BYTES: usize = 56;
const HEADER_BYTES: usize = 8;
const IPV6_HEADER_BYTES: usize = 40;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

/// What identifies one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) id: u16,
    pub(super) seq: u16,
    pub(super) cookie: u64,
}

/// An answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The echo reply.
    Reply(Echo),
    /// A router or the target's stack says that it cannot be delivered.
    Undelivered(Echo, &'static str),
}

impl Family {
    const fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    const fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }

    /// What an error message of this type and code says.
    const fn error(self, kind: u8, code: u8) -> Option<&'static str> {
        Some(match (self, kind, code) {
            (Self::V4, 3, 0) => "network unreachable",
            (Self::V4, 3, 1) | (Self::V6, 1, 3) => "host unreachable",
            (Self::V4, 3, 9 | 10 | 13) | (Self::V6, 1, 1) => "administratively prohibited",
            (Self::V6, 1, 0) => "no route to destination",
            (Self::V4, 3, _) | (Self::V6, 1, _) => "destination unreachable",
            (Self::V4, 11, _) | (Self::V6, 3, _) => "time to live exceeded (a routing loop?)",
            _ => return None,
        })
    }
}

/// The request. The kernel fills in ICMPv6's checksum, which covers addresses.
pub(super) fn encode(family: Family, echo: Echo) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_BYTES + PAYLOAD_BYTES);
    packet.extend_from_slice(&[family.request(), 0, 0, 0]);
    packet.extend_from_slice(&echo.id.to_be_bytes());
    packet.extend_from_slice(&echo.seq.to_be_bytes());
    packet.extend_from_slice(MARK);
    packet.extend_from_slice(&echo.cookie.to_be_bytes());
    packet.resize(HEADER_BYTES + PAYLOAD_BYTES, 0);
    if family == Family::V4 {
        let sum = checksum(&packet).to_be_bytes();
        if let Some(field) = packet.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
    packet
}

/// What a received message says about one of our probes; `None` for everything else. `raw` tells
/// that the socket hands out IPv4 headers.
pub(super) fn decode(family: Family, raw: bool, packet: &[u8]) -> Option<Answer> {
    let message = match family {
        Family::V4 if raw => after_ipv4(packet)?,
        _ => packet,
    };
    let (kind, code) = (*message.first()?, *message.get(1)?);
    if kind == family.reply() {
        return echo(message).map(Answer::Reply);
    }
    let why = family.error(kind, code)?;
    let quoted = message.get(HEADER_BYTES..)?;
    let request = match family {
        Family::V4 => after_ipv4(quoted)?,
        Family::V6 => quoted.get(IPV6_HEADER_BYTES..)?,
    };
    let ours = *request.first()? == family.request();
    let echo = echo(request).filter(|_| ours)?;
    Some(Answer::Undelivered(echo, why))
}

/// What follows an IPv4 header.
fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    (first >> 4 == 4).then(|| packet.get(usize::from(first & 15) * 4..))?
}

/// The echo's own fields, if it carries our mark.
fn echo(message: &[u8]) -> Option<Echo> {
    let (header, payload) = message.split_at_checked(HEADER_BYTES)?;
    let cookie = payload.strip_prefix(MARK)?.first_chunk()?;
    let (id, seq) = header.get(4..)?.split_first_chunk()?;
    Some(Echo {
        id: u16::from_be_bytes(*id),
        seq: u16::from_be_bytes(*seq.first_chunk()?),
        cookie: u64::from_be_bytes(*cookie),
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECHO: Echo = Echo {
        id: 0x1234,
        seq: 7,
        cookie: 0x0123_4567_89ab_cdef,
    };

    fn reply(family: Family) -> Vec<u8> {
        let mut packet = encode(family, ECHO);
        packet[0] = family.reply();
        packet
    }

    fn ipv4(message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45];
        packet.resize(20, 0);
        packet.extend_from_slice(message);
        packet
    }

    #[test]
    fn a_request_has_a_right_checksum() {
        let packet = encode(Family::V4, ECHO);
        assert_eq!(packet.len(), 64);
        assert_eq!(checksum(&packet), 0);
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0x220d
        );
    }

    #[test]
    fn replies_are_recognised_requests_are_not() {
        let expected = Some(Answer::Reply(ECHO));
        assert_eq!(decode(Family::V4, false, &reply(Family::V4)), expected);
        assert_eq!(
            decode(Family::V4, true, &ipv4(&reply(Family::V4))),
            expected
        );
        assert_eq!(decode(Family::V6, true, &reply(Family::V6)), expected);
        // A raw socket on the loopback hears the request too.
        assert_eq!(
            decode(Family::V4, true, &ipv4(&encode(Family::V4, ECHO))),
            None
        );
        // Another program's ping.
        let mut foreign = reply(Family::V4);
        foreign[HEADER_BYTES] ^= 1;
        assert_eq!(decode(Family::V4, false, &foreign), None);
    }

    #[test]
    fn errors_quote_our_request() {
        let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
        error.extend(ipv4(&encode(Family::V4, ECHO)));
        assert_eq!(
            decode(Family::V4, true, &ipv4(&error)),
            Some(Answer::Undelivered(ECHO, "host unreachable"))
        );
        let mut error = vec![1, 0, 0, 0, 0, 0, 0, 0];
        error.extend([0; IPV6_HEADER_BYTES]);
        error.extend(encode(Family::V6, ECHO));
        assert_eq!(
            decode(Family::V6, true, &error),
            Some(Answer::Undelivered(ECHO, "no route to destination"))
        );
    }

    proptest! {
        #[test]
        fn no_packet_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            length in 0..64usize,
            raw: bool,
        ) {
            for family in [Family::V4, Family::V6] {
                let _random = decode(family, raw, &bytes);
                prop_assert_eq!(
                    decode(family, false, &reply(family)[..length]).is_some(),
                    length >= 32
                );
            }
        }
    }
}
