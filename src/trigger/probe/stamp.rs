//! The mark that each of our echo requests carries, so that the very same probe is found in a
//! capture: docs/FORMAT.md has its bytes.

/// How every stamp begins.
pub const MAGIC: &[u8; 11] = b"wirewitness";
/// The layout described here.
const VERSION: u8 = 1;
/// Bytes of a stamp; what follows in the payload is padding.
pub const STAMP_BYTES: usize = 48;
/// A stamp is looked for in so many bytes: behind link, network and transport headers and those
/// that an error message quotes.
const SEARCHED_BYTES: usize = 320;

/// Which probe a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The running server, a random number of each start.
    pub instance: u64,
    /// The probe's place in the configuration, from 0.
    pub probe: u32,
    /// Its packets, from 0 at each start.
    pub seq: u64,
    /// When it was handed to the kernel: nanoseconds since 1970-01-01T00:00:00Z.
    pub sent_ns: u64,
    /// A keyed hash of the rest, so that nobody off the path can invent replies.
    pub cookie: u64,
}

impl Stamp {
    /// Magic, version, then the fields, most significant byte first.
    pub fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let fields = MAGIC
            .iter()
            .copied()
            .chain([VERSION])
            .chain(self.probe.to_be_bytes())
            .chain(self.instance.to_be_bytes())
            .chain(self.seq.to_be_bytes())
            .chain(self.sent_ns.to_be_bytes())
            .chain(self.cookie.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    /// The stamp at the beginning of a payload.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(MAGIC)?;
        let (&version, rest) = rest.split_first()?;
        if version != VERSION {
            return None;
        }
        let (probe, rest) = rest.split_first_chunk()?;
        let (instance, rest) = rest.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (sent_ns, rest) = rest.split_first_chunk()?;
        Some(Self {
            probe: u32::from_be_bytes(*probe),
            instance: u64::from_be_bytes(*instance),
            seq: u64::from_be_bytes(*seq),
            sent_ns: u64::from_be_bytes(*sent_ns),
            cookie: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// The first stamp anywhere near the beginning of a packet, whatever headers come before.
    pub fn find(packet: &[u8]) -> Option<Self> {
        let end = packet.len().min(SEARCHED_BYTES);
        let at = packet
            .get(..end)?
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)?;
        Self::parse(packet.get(at..)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_stamped_is_found(
            (instance, probe, seq) in any::<(u64, u32, u64)>(),
            (sent_ns, cookie) in any::<(u64, u64)>(),
            headers in proptest::collection::vec(0..0x20u8, 0..80),
            cut in 0..STAMP_BYTES,
        ) {
            let stamp = Stamp { instance, probe, seq, sent_ns, cookie };
            let mut packet = headers;
            packet.extend_from_slice(&stamp.encode());
            prop_assert_eq!(Stamp::find(&packet), Some(stamp));
            prop_assert_eq!(Stamp::find(&packet[..packet.len() - 1 - cut.min(47)]), None);
        }
    }

    #[test]
    fn another_version_is_not_ours() {
        let stamp = Stamp {
            instance: 1,
            probe: 2,
            seq: 3,
            sent_ns: 4,
            cookie: 5,
        };
        let mut bytes = stamp.encode();
        assert_eq!(bytes[..12], *b"wirewitness\x01");
        bytes[11] = 2;
        assert_eq!(Stamp::parse(&bytes), None);
    }
}
