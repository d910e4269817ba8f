//! ICMP and ICMPv6 echo (RFC 792, RFC 4443): our requests, and answers to them.
//!
//! The payload carries a [`Stamp`]: on unprivileged sockets the kernel replaces the identifier,
//! and an identifier can be guessed.

use super::icmp_error::IcmpErrorKind;
use super::stamp::{STAMP_BYTES, Stamp};

const HEADER_BYTES: usize = 8;
const IPV6_HEADER_BYTES: usize = 40;
/// What ICMPv6 redirects put before their options (RFC 4861 4.5): header and two addresses.
const REDIRECT_V6_BYTES: usize = 40;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// ICMP.
    V4,
    /// ICMPv6.
    V6,
}

/// An answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The echo reply.
    Reply(Stamp),
    /// A router or the target's stack has something to say about it.
    Error(Stamp, IcmpErrorKind),
}

impl Family {
    /// The type of an echo request.
    pub const fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    /// The type of an echo reply.
    pub const fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// The request with `payload_bytes` of payload: the stamp, then zeros. The kernel fills in
/// ICMPv6's checksum, which covers addresses.
pub fn encode(family: Family, id: u16, stamp: &Stamp, payload_bytes: usize) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    packet.extend_from_slice(&[family.request(), 0, 0, 0]);
    packet.extend_from_slice(&id.to_be_bytes());
    let seq = u16::try_from(stamp.seq & 0xffff).unwrap_or(0);
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&stamp.encode());
    packet.resize(HEADER_BYTES + payload_bytes, 0);
    sum(family, &mut packet);
    packet
}

/// The request with `more` behind the stamp.
pub fn encode_with(family: Family, id: u16, stamp: &Stamp, more: &[u8]) -> Vec<u8> {
    let mut packet = encode(family, id, stamp, STAMP_BYTES);
    packet.extend_from_slice(more);
    sum(family, &mut packet);
    packet
}

/// Puts the checksum in its place.
fn sum(family: Family, packet: &mut [u8]) {
    if let Some(field) = packet.get_mut(2..4) {
        field.fill(0);
    }
    if family == Family::V4 {
        let sum = checksum(packet).to_be_bytes();
        if let Some(field) = packet.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
}

/// What a received message says about one of our probes; `None` for everything else. `raw` tells
/// that the socket hands out IPv4 headers.
pub fn decode(family: Family, raw: bool, packet: &[u8]) -> Option<Answer> {
    let message = match family {
        Family::V4 if raw => after_ipv4(packet)?,
        _ => packet,
    };
    let (kind, code) = (*message.first()?, *message.get(1)?);
    if kind == family.reply() {
        let stamp = Stamp::parse(message.get(HEADER_BYTES..)?)?;
        return Some(Answer::Reply(stamp));
    }
    let error = IcmpErrorKind::of(family, kind, code)?;
    let request = match family {
        Family::V4 => after_ipv4(message.get(HEADER_BYTES..)?)?,
        Family::V6 if error == IcmpErrorKind::Redirect => {
            return Stamp::find(message.get(REDIRECT_V6_BYTES..)?)
                .map(|stamp| Answer::Error(stamp, error));
        }
        Family::V6 => message.get(HEADER_BYTES + IPV6_HEADER_BYTES..)?,
    };
    quoted(family, request).map(|stamp| Answer::Error(stamp, error))
}

/// The stamp of one of our requests as an error quotes it, beginning with its ICMP header.
pub fn quoted(family: Family, request: &[u8]) -> Option<Stamp> {
    let ours = *request.first()? == family.request();
    Stamp::parse(request.get(HEADER_BYTES..)?).filter(|_| ours)
}

/// What follows an IPv4 header.
fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    (first >> 4 == 4).then(|| packet.get(usize::from(first & 15) * 4..))?
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

    const STAMP: Stamp = Stamp {
        instance: 0x0123_4567_89ab_cdef,
        probe: 9,
        seq: 7,
        sent_ns: 1,
        cookie: 0xfedc,
    };

    fn request(family: Family) -> Vec<u8> {
        encode(family, 0x1234, &STAMP, 56)
    }

    fn reply(family: Family) -> Vec<u8> {
        let mut packet = request(family);
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
        let packet = request(Family::V4);
        assert_eq!(packet.len(), 64);
        assert_eq!(checksum(&packet), 0);
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0x220d
        );
    }

    #[test]
    fn what_follows_the_stamp_is_summed_up_too() {
        let packet = encode_with(Family::V4, 0x1234, &STAMP, b"mark!");
        assert!(packet.ends_with(b"mark!"));
        assert_eq!(checksum(&packet), 0);
        assert_eq!(quoted(Family::V4, &packet), Some(STAMP));
    }

    #[test]
    fn replies_are_recognised_requests_are_not() {
        let expected = Some(Answer::Reply(STAMP));
        assert_eq!(decode(Family::V4, false, &reply(Family::V4)), expected);
        let raw = ipv4(&reply(Family::V4));
        assert_eq!(decode(Family::V4, true, &raw), expected);
        assert_eq!(decode(Family::V6, true, &reply(Family::V6)), expected);
        // A raw socket on the loopback hears the request too.
        let heard = ipv4(&request(Family::V4));
        assert_eq!(decode(Family::V4, true, &heard), None);
        // Another program's ping.
        let mut foreign = reply(Family::V4);
        foreign[HEADER_BYTES] ^= 1;
        assert_eq!(decode(Family::V4, false, &foreign), None);
    }

    #[test]
    fn errors_quote_our_request() {
        let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
        error.extend(ipv4(&request(Family::V4)));
        assert_eq!(
            decode(Family::V4, true, &ipv4(&error)),
            Some(Answer::Error(STAMP, IcmpErrorKind::HostUnreachable))
        );
        let mut error = vec![2, 0, 0, 0, 0, 0, 5, 0];
        error.extend([0; IPV6_HEADER_BYTES]);
        error.extend(request(Family::V6));
        assert_eq!(
            decode(Family::V6, true, &error),
            Some(Answer::Error(STAMP, IcmpErrorKind::FragmentationNeeded))
        );
        let mut redirect = vec![137, 0];
        redirect.resize(REDIRECT_V6_BYTES + 8 + IPV6_HEADER_BYTES, 0);
        redirect.extend(request(Family::V6));
        assert_eq!(
            decode(Family::V6, true, &redirect),
            Some(Answer::Error(STAMP, IcmpErrorKind::Redirect))
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
                    length >= 56
                );
            }
        }
    }
}
