//! Messages that are not UTF-8.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, Encoding, SHIFT_JIS, UTF_8, WINDOWS_1252};

/// The encoding of a source's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8 where it is valid; else EUC-JP, Shift_JIS (CP932) and Latin-1 (windows-1252), the
    /// first in which every byte has a meaning. EUC-JP stands first because much of it would also
    /// be half-width katakana of Shift_JIS, and hardly anything the other way round.
    #[default]
    Auto,
    /// Always this one.
    Fixed(&'static Encoding),
}

impl Charset {
    /// The encoding of a name: `auto`, or a label of the WHATWG standard (`shift_jis`, `euc-jp`).
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            label => Encoding::for_label(label.as_bytes()).map(Self::Fixed),
        }
    }

    /// The encoding of a configuration's key; the error is the name that is none.
    pub(in crate::trigger) fn configured(name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name else {
            return Ok(Self::Auto);
        };
        Self::named(name).ok_or_else(|| name.to_owned())
    }

    /// The message in UTF-8; bytes without a meaning become U+FFFD, except in `auto` and `utf-8`,
    /// where what is valid already is not touched.
    pub fn decode(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let encoding = match self {
            Self::Auto if is_utf8(bytes) => return Cow::Borrowed(bytes),
            Self::Auto => guess(bytes),
            Self::Fixed(encoding) if encoding == UTF_8 => return Cow::Borrowed(bytes),
            Self::Fixed(encoding) => encoding,
        };
        match encoding.decode_without_bom_handling(bytes).0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// Whether the bytes are UTF-8, apart from a last character that was cut.
fn is_utf8(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // Nothing but the cut character is no evidence: Latin-1 may end in an accent.
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            error.error_len().is_none() && !valid.is_ascii()
        }
    }
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let whole = |encoding: &&'static Encoding| {
        let decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes);
        decoded.is_some()
    };
    [EUC_JP, SHIFT_JIS]
        .into_iter()
        .find(whole)
        .unwrap_or(WINDOWS_1252)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn auto(bytes: &[u8]) -> String {
        String::from_utf8_lossy(&Charset::Auto.decode(bytes)).into_owned()
    }

    #[test]
    fn japanese_and_latin_are_told_apart() {
        let text = "<11>インターフェース eth0 が停止しました";
        assert_eq!(auto(text.as_bytes()), text);
        assert_eq!(auto(&EUC_JP.encode(text).0), text);
        assert_eq!(auto(&SHIFT_JIS.encode(text).0), text);
        assert_eq!(
            auto(b"<11>Verbindung f\xfcr Port 1"),
            "<11>Verbindung für Port 1"
        );
        assert_eq!(auto(b"plain"), "plain");
        let cut = text.as_bytes().split_last().unwrap().1;
        assert!(
            auto(cut).starts_with("<11>インターフェース"),
            "a cut end is still UTF-8"
        );
    }

    #[test]
    fn a_named_encoding_is_not_guessed() {
        let latin = Charset::named("latin1").unwrap();
        assert_eq!(
            latin.decode(b"caf\xe9 \xe9t\xe9").as_ref(),
            "café été".as_bytes()
        );
        let japanese = Charset::named("shift_jis").unwrap();
        assert_eq!(japanese.decode(b"\xb1").as_ref(), "ｱ".as_bytes());
        assert_eq!(
            Charset::named("utf-8").unwrap().decode(b"a\xff").as_ref(),
            b"a\xff"
        );
        assert_eq!(Charset::named("klingon"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = Charset::Auto.decode(&bytes);
            prop_assert!(std::str::from_utf8(&text).is_ok() || text.as_ref() == bytes.as_slice());
        }
    }
}
