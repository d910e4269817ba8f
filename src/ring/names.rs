//! Names on disk: `ring/<interface>/seg-<20-digit number>-<first packet ns>.pcapng`, and
//! `ring/<interface>+<k>/` of the interface's further capture threads.

use std::fmt::{self, Write};

use crate::time::Timestamp;

const PREFIX: &str = "seg-";
const SUFFIX: &str = ".pcapng";

/// The name of a segment: its number in the ring and the time of its first packet (of its opening,
/// if it was put on disk before a packet came), or, behind a segment in which the clock was set
/// back, a time before that segment's. Orders by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Counts up by one per segment of an interface, never reused.
    pub number: u64,
    /// Time of the first packet.
    pub first: Timestamp,
}

impl SegmentName {
    /// Parses a file name; `None` when it is not exactly a name we write. The last number there is
    /// is none: nothing could follow it.
    pub fn parse(name: &str) -> Option<Self> {
        let (number, first) = name
            .strip_prefix(PREFIX)?
            .strip_suffix(SUFFIX)?
            .split_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if number.len() != 20 || !digits(number) || !digits(first) {
            return None;
        }
        let parsed = Self {
            number: number.parse().ok()?,
            first: Timestamp::from_ns(first.parse().ok()?),
        };
        (parsed.number < u64::MAX && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{:020}-{}{SUFFIX}",
            self.number,
            self.first.as_ns()
        )
    }
}

/// The folder of an interface: its name, with bytes that could mean something to a path or a shell
/// written as `%XX`. Linux interface names may hold almost any byte but `/` and white space.
pub fn folder_name(interface: &str) -> String {
    let mut folder = String::with_capacity(interface.len());
    for (i, byte) in interface.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if plain || (byte == b'.' && i > 0) {
            folder.push(char::from(byte));
        } else if write!(folder, "%{byte:02X}").is_err() {
            break;
        }
    }
    folder
}

/// Which of an interface's capture threads something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Counted from 0.
    pub index: u32,
    /// How many there are, at least 1.
    pub of: u32,
}

impl Member {
    /// The only one.
    pub const ALONE: Self = Self { index: 0, of: 1 };

    /// What a segment's header says about it: nothing for the only one.
    pub fn describe(self) -> String {
        if self.of <= 1 {
            return String::new();
        }
        format!("capture thread {} of {}", self.index + 1, self.of)
    }

    /// The reverse of [`Member::describe`]; whatever else the text says, it is of the only one.
    pub fn described(text: &str) -> Self {
        let parsed = || {
            let (index, of) = text.strip_prefix("capture thread ")?.split_once(" of ")?;
            let index = index.parse::<u32>().ok()?.checked_sub(1)?;
            let of = of.parse().ok()?;
            (index < of).then_some(Self { index, of })
        };
        parsed()
            .filter(|member| member.describe() == text)
            .unwrap_or(Self::ALONE)
    }
}

/// The folder of an interface's capture thread `index`: that of the interface for the first, with
/// `+<index>` behind it for the others. `+` occurs in no [`folder_name`].
pub fn member_folder(interface: &str, index: u32) -> String {
    let folder = folder_name(interface);
    if index == 0 {
        folder
    } else {
        format!("{folder}+{index}")
    }
}

/// The interface and the capture thread of a folder, the reverse of [`member_folder`]; `None` when
/// it is not such a folder.
pub fn parse_folder(folder: &str) -> Option<(String, u32)> {
    let (base, index) = match folder.split_once('+') {
        None => (folder, 0),
        Some((base, index)) => (base, index.parse().ok()?),
    };
    let interface = interface_name(base)?;
    (member_folder(&interface, index) == folder).then_some((interface, index))
}

/// The interface of a folder, the reverse of [`folder_name`]; `None` when it is not such a folder.
fn interface_name(folder: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let (code, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty() && folder_name(&name) == folder).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_round_trips() {
        let name = SegmentName {
            number: 812,
            first: Timestamp::from_ns(1_763_892_131_000_000_001),
        };
        let text = name.to_string();
        assert_eq!(text, "seg-00000000000000000812-1763892131000000001.pcapng");
        assert_eq!(SegmentName::parse(&text), Some(name));
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in [
            "seg-812-1.pcapng",
            "seg-00000000000000000812-01.pcapng",
            "seg-00000000000000000812-.pcapng",
            "seg-99999999999999999999-1.pcapng",
            "seg-18446744073709551615-1.pcapng",
            "seg-00000000000000000812-1.pcapng.tmp",
            "../seg-00000000000000000812-1.pcapng",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn folders_are_harmless_and_reversible() {
        for (interface, folder) in [
            ("eth0.100", "eth0.100"),
            (".hidden", "%2Ehidden"),
            ("a$(b)", "a%24%28b%29"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(folder_name(interface), folder);
            assert_eq!(interface_name(folder).as_deref(), Some(interface));
        }
        assert_eq!(interface_name("%zz"), None);
        assert_eq!(folder_name("a+1"), "a%2B1");
        assert_eq!(interface_name("a b"), None);
    }

    #[test]
    fn folders_of_further_threads_are_reversible_and_nobody_elses() {
        for (interface, index, folder) in [
            ("eth0", 0, "eth0"),
            ("eth0", 1, "eth0+1"),
            ("eth0", 15, "eth0+15"),
            ("eth0+1", 0, "eth0%2B1"),
            ("a+", 2, "a%2B+2"),
        ] {
            assert_eq!(member_folder(interface, index), folder);
            assert_eq!(parse_folder(folder), Some((interface.to_owned(), index)));
        }
        for foreign in [
            "eth0+", "eth0+0", "eth0+01", "eth0++1", "eth0+1+1", "eth0+-1", "+1", "eth0+x",
        ] {
            assert_eq!(parse_folder(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_thread_is_described_and_found_again() {
        assert_eq!(Member::ALONE.describe(), "");
        let second = Member { index: 1, of: 2 };
        assert_eq!(second.describe(), "capture thread 2 of 2");
        assert_eq!(Member::described("capture thread 2 of 2"), second);
        for other in [
            "",
            "capture thread 3 of 2",
            "capture thread 0 of 2",
            "uplink",
        ] {
            assert_eq!(Member::described(other), Member::ALONE, "{other}");
        }
    }
}
