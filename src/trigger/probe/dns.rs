//! DNS queries over UDP (RFC 1035): one question out, the verdict of its response back. A query
//! has one question and no more, so a resolver's whole library is not needed for it.

use std::fmt;

const HEADER_BYTES: usize = 12;
/// Recursion desired.
const RD: u8 = 0x01;
/// It is a response.
const QR: u8 = 0x80;
const CLASS_IN: u16 = 1;
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;

/// Record types that can be asked for.
const RECORDS: [(&str, u16); 11] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("DNSKEY", 48),
    ("HTTPS", 65),
];

/// A question, in the bytes of the wire: name, type, class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question(Vec<u8>);

/// What a name server's response says, its RCODE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rcode(pub u8);

impl Rcode {
    /// It answered the question.
    pub const NO_ERROR: Self = Self(0);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            other => return write!(f, "rcode {other}"),
        })
    }
}

impl Question {
    /// The question for a name and a record type (`A`, `AAAA`, ...); the error says what to write.
    pub fn new(name: &str, record: &str) -> Result<Self, String> {
        let kind = RECORDS.iter().find(|(known, _)| *known == record);
        let Some((_, kind)) = kind else {
            let known: Vec<&str> = RECORDS.iter().map(|(known, _)| *known).collect();
            return Err(format!("{record:?} is none of {}", known.join(", ")));
        };
        let mut bytes = Vec::with_capacity(name.len() + 6);
        for label in name.trim_end_matches('.').split('.') {
            // The root itself is the empty name.
            if label.is_empty() && name == "." {
                break;
            }
            let fits = !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.is_ascii();
            let length = u8::try_from(label.len()).ok().filter(|_| fits);
            let length = length.ok_or_else(|| {
                format!("{name:?} is no domain name: write ASCII labels of 1 to 63 characters")
            })?;
            bytes.push(length);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        if bytes.len() > NAME_BYTES_MAX {
            return Err(format!("{name:?} is longer than {NAME_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        Ok(Self(bytes))
    }

    /// The query with this id.
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER_BYTES + self.0.len());
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(&[RD, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(&self.0);
        packet
    }

    /// What the response to the query with this id says; `None` for everything else. A server that
    /// refuses may leave the question out (RFC 8906 4).
    pub fn decode(&self, id: u16, packet: &[u8]) -> Option<Rcode> {
        let (header, body) = packet.split_at_checked(HEADER_BYTES)?;
        let &[high, low, flags, more, q_high, q_low, ..] = header else {
            return None;
        };
        if u16::from_be_bytes([high, low]) != id || flags & QR == 0 {
            return None;
        }
        let rcode = Rcode(more & 0x0f);
        match u16::from_be_bytes([q_high, q_low]) {
            0 if rcode != Rcode::NO_ERROR => Some(rcode),
            1 => {
                let asked = body.get(..self.0.len())?;
                asked.eq_ignore_ascii_case(&self.0).then_some(rcode)
            }
            _ => None,
        }
    }
}

/// The id of a query or response.
pub fn id(packet: &[u8]) -> Option<u16> {
    packet.first_chunk().map(|id| u16::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The query for example.com A as `dig` sends it without extensions.
    #[test]
    fn a_query_has_the_bytes_of_the_standard() {
        let question = Question::new("example.com", "A").unwrap();
        let packet = question.encode(0xbeef);
        assert_eq!(
            packet,
            b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
        );
        assert_eq!(question, Question::new("example.com.", "A").unwrap());
        assert_eq!(Question::new(".", "NS").unwrap().0, b"\0\0\x02\0\x01");
    }

    #[test]
    fn only_the_response_to_our_question_counts() {
        let question = Question::new("example.com", "AAAA").unwrap();
        let query = question.encode(7);
        let mut response = query.clone();
        response[2] |= QR;
        response[3] = 3;
        assert_eq!(question.decode(7, &query), None, "our own query");
        assert_eq!(question.decode(7, &response), Some(Rcode(3)));
        assert_eq!(question.decode(8, &response), None);
        let other = Question::new("example.org", "AAAA").unwrap();
        assert_eq!(other.decode(7, &response), None);
        // Without its question only a refusal is believed.
        let bare = [0, 7, QR, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(question.decode(7, &bare), Some(Rcode(5)));
        assert_eq!(
            question.decode(7, &[0, 7, QR, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            None
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let long = "a".repeat(64);
        for name in ["", "a..b", "日本", long.as_str(), ".."] {
            assert!(
                Question::new(name, "A")
                    .unwrap_err()
                    .contains("domain name"),
                "{name}"
            );
        }
        assert!(Question::new("a", "B").unwrap_err().contains("AAAA"));
        assert!(
            Question::new(&"abc.".repeat(70), "A")
                .unwrap_err()
                .contains("255")
        );
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), id: u16) {
            let question = Question::new("example.com", "A").unwrap();
            let _any = question.decode(id, &bytes);
        }
    }
}
