//! The little of BER (X.690) that SNMP uses (RFC 3417, section 8): definite lengths, one-byte tags.
//! Every read is bounded by the datagram; nothing is allocated but object identifiers.

use std::fmt;

/// Universal and SNMP's own tags.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const IP_ADDRESS: u8 = 0x40;
pub(super) const COUNTER32: u8 = 0x41;
pub(super) const UNSIGNED32: u8 = 0x42;
pub(super) const TIME_TICKS: u8 = 0x43;
pub(super) const COUNTER64: u8 = 0x46;

/// Sub-identifiers in an object identifier (RFC 2578, section 3.5).
const SUB_IDS_MAX: usize = 128;

/// What is wrong with bytes that should be BER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// An object identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Oid(Vec<u32>);

impl Oid {
    pub(super) fn new(ids: &[u32]) -> Self {
        Self(ids.to_vec())
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.0
    }

    /// What follows `prefix`, when this begins with it.
    pub(super) fn under(&self, prefix: &[u32]) -> Option<&[u32]> {
        self.0.strip_prefix(prefix)
    }

    /// This with `more` behind it.
    pub(super) fn join(&self, more: &[u32]) -> Self {
        Self(self.0.iter().chain(more).copied().collect())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, id) in self.0.iter().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            write!(f, "{dot}{id}")?;
        }
        Ok(())
    }
}

/// Reads from the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What is not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next tag, without reading it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// Any element: its tag and its contents.
    pub(super) fn element(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let cut = Malformed("the message is cut short");
        let (&tag, rest) = self.bytes.split_first().ok_or(cut)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag of several bytes"));
        }
        let (&first, rest) = rest.split_first().ok_or(cut)?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return Err(Malformed("a length that is indefinite or too long"));
            }
            let (digits, rest) = rest.split_at_checked(count).ok_or(cut)?;
            let length = digits
                .iter()
                .fold(0, |sum, &digit| (sum << 8) | usize::from(digit));
            (length, rest)
        };
        let (contents, rest) = rest.split_at_checked(length).ok_or(cut)?;
        self.bytes = rest;
        Ok((tag, contents))
    }

    /// The contents of an element of this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let (found, contents) = self.element()?;
        if found == tag {
            Ok(contents)
        } else {
            Err(Malformed("an element of another type than expected"))
        }
    }

    /// A constructed element.
    pub(super) fn sequence(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.expect(tag).map(Self::new)
    }

    pub(super) fn integer(&mut self) -> Result<i64, Malformed> {
        integer(self.expect(INTEGER)?)
    }

    pub(super) fn octets(&mut self) -> Result<&'a [u8], Malformed> {
        self.expect(OCTETS)
    }

    pub(super) fn oid(&mut self) -> Result<Oid, Malformed> {
        oid(self.expect(OID)?)
    }
}

/// The contents of an INTEGER.
pub(super) fn integer(contents: &[u8]) -> Result<i64, Malformed> {
    if contents.is_empty() || contents.len() > 8 {
        return Err(Malformed("an integer of no or too many bytes"));
    }
    let negative = contents.first().is_some_and(|first| first & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    let value = contents
        .iter()
        .fold(start, |sum: i64, &digit| (sum << 8) | i64::from(digit));
    Ok(value)
}

/// The contents of a counter, gauge or time: never negative, a leading zero allowed.
pub(super) fn unsigned(contents: &[u8]) -> Result<u64, Malformed> {
    if contents.is_empty() || contents.len() > 9 {
        return Err(Malformed("a number of no or too many bytes"));
    }
    Ok(contents
        .iter()
        .fold(0, |sum: u64, &digit| (sum << 8) | u64::from(digit)))
}

/// The contents of an OBJECT IDENTIFIER.
pub(super) fn oid(contents: &[u8]) -> Result<Oid, Malformed> {
    let mut ids = Vec::new();
    let mut id: u32 = 0;
    let mut open = false;
    for &byte in contents {
        if id > u32::MAX >> 7 {
            return Err(Malformed("an object identifier with too large a number"));
        }
        id = (id << 7) | u32::from(byte & 0x7f);
        open = byte & 0x80 != 0;
        if open {
            continue;
        }
        if ids.is_empty() {
            let first = (id / 40).min(2);
            ids.extend([first, id - first * 40]);
        } else {
            ids.push(id);
        }
        if ids.len() > SUB_IDS_MAX {
            return Err(Malformed("an object identifier that is too long"));
        }
        id = 0;
    }
    if open || ids.is_empty() {
        return Err(Malformed("an object identifier that is cut short"));
    }
    Ok(Oid(ids))
}

/// One element.
pub(super) fn write(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = contents.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
            let digits = digits.get(zeros..).unwrap_or_default();
            bytes.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(contents);
    bytes
}

/// A constructed element.
pub(super) fn write_all(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    write(tag, &parts.concat())
}

pub(super) fn write_integer(value: i64) -> Vec<u8> {
    let digits = value.to_be_bytes();
    // The shortest form that keeps the sign.
    let spare = digits
        .windows(2)
        .take_while(|pair| match pair {
            [0, next] => next & 0x80 == 0,
            [0xff, next] => next & 0x80 != 0,
            _ => false,
        })
        .count();
    write(INTEGER, digits.get(spare..).unwrap_or_default())
}

pub(super) fn write_oid(oid: &Oid) -> Vec<u8> {
    let (head, tail) = oid.0.split_at(oid.0.len().min(2));
    let first = head.first().copied().unwrap_or(0) * 40 + head.get(1).copied().unwrap_or(0);
    let mut contents = Vec::new();
    for id in std::iter::once(&first).chain(tail) {
        let groups =
            [28, 21, 14, 7, 0].map(|shift| u8::try_from((id >> shift) & 0x7f).unwrap_or(0));
        let zeros = groups
            .iter()
            .take(4)
            .take_while(|&&group| group == 0)
            .count();
        let used = groups.get(zeros..).unwrap_or_default();
        for (place, group) in used.iter().enumerate() {
            let more = if place + 1 < used.len() { 0x80 } else { 0 };
            contents.push(group | more);
        }
    }
    write(OID, &contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_that_lie_about_their_length_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x05, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0],
        ] {
            assert!(Reader::new(bytes).element().is_err(), "{bytes:?}");
        }
        for bytes in [
            &[][..],
            &[0x80],
            &[0x2b, 0xff],
            &[0x2b, 0x90, 0x80, 0x80, 0x80, 0],
        ] {
            assert!(oid(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i64>()) {
            prop_assert_eq!(Reader::new(&write_integer(value)).integer(), Ok(value));
        }

        #[test]
        fn identifiers_come_back(tail in proptest::collection::vec(any::<u32>(), 0..20)) {
            let oid = Oid::new(&[1, 3]).join(&tail);
            prop_assert_eq!(Reader::new(&write_oid(&oid)).oid(), Ok(oid));
        }

        #[test]
        fn contents_come_back(contents in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = write(OCTETS, &contents);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.octets(), Ok(contents.as_slice()));
            prop_assert!(reader.is_empty());
        }
    }
}
