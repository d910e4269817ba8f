//! Foreign bytes made harmless to read: no control characters, no invalid UTF-8, no tricks with
//! the direction of writing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The longest value of a trigger field kept, in bytes.
pub const FIELD_BYTES_MAX: usize = 256;

/// The bytes as text that a terminal, a log and a page can show as it is: invalid UTF-8 becomes
/// U+FFFD, a tab becomes a space, every other control or direction-changing character is spelled
/// out (`\x1b`, `\u{202e}`).
pub fn inert(bytes: &[u8]) -> String {
    let lossy = String::from_utf8_lossy(bytes);
    if !lossy.chars().any(is_active) {
        return lossy.into_owned();
    }
    let mut text = String::with_capacity(lossy.len() + 16);
    for character in lossy.chars() {
        match character {
            '\t' => text.push(' '),
            active if is_active(active) => {
                let code = u32::from(active);
                // Writing to a String cannot fail.
                let _written = if code < 0x100 {
                    write!(text, "\\x{code:02x}")
                } else {
                    write!(text, "\\u{{{code:x}}}")
                };
            }
            harmless => text.push(harmless),
        }
    }
    text
}

/// Whether a character does something rather than show something.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}')
}

/// A regular expression for all of a text, in which `*` and `?` stand for any characters and one.
pub fn wildcard(text: &str) -> String {
    let any = regex::escape(text).replace(r"\*", ".*").replace(r"\?", ".");
    format!("(?s)^{any}$")
}

/// The IP address a word of a log line or an `instance` label names: `192.0.2.1`,
/// `192.0.2.1:9100`, `2001:db8::1`, `[2001:db8::1]:443`, with trailing punctuation forgiven.
pub fn address_of(word: &str) -> Option<IpAddr> {
    let word = word.trim_matches(|c: char| c.is_whitespace() || ",;.()<>\"'".contains(c));
    let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
    bare.unwrap_or(word)
        .parse()
        .ok()
        .or_else(|| word.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_active_is_left() {
        assert_eq!(inert(b"plain \xe3\x81\x82"), "plain あ");
        assert_eq!(
            inert(b"\x1b[31mred\x00\t\xff"),
            "\\x1b[31mred\\x00 \u{fffd}"
        );
        assert_eq!(inert("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\x9b");
    }

    #[test]
    fn addresses_are_found_in_words() {
        for (word, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:9100", Some("192.0.2.1")),
            ("192.0.2.1,", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("router1", None),
            ("1 or host 2", None),
            ("", None),
        ] {
            assert_eq!(
                address_of(word).map(|a| a.to_string()).as_deref(),
                address,
                "{word}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_become_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = inert(&bytes);
            prop_assert!(!text.chars().any(is_active));
            let _address = address_of(&text);
        }
    }
}
