//! Frames of syslog over TCP (RFC 6587): octet counting (`11 <11>message`) or one message a line.
//!
//! A connection is of one kind, told by its first byte: a digit counts octets, anything else
//! (`<` of a PRI) is a line.

use tokio_util::bytes::{Buf, BytesMut};

/// The longest message kept, in bytes; the rest is cut.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// The most digits of an octet count; what claims more is no syslog.
const COUNT_DIGITS_MAX: usize = 7;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes without framing.
    pub bytes: Vec<u8>,
    /// Whether it was longer than [`FRAME_BYTES_MAX`].
    pub cut: bool,
}

/// Why a connection cannot be read on: the next message's start is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// No count where one must be.
    #[error("the octet count is not a number of at most {COUNT_DIGITS_MAX} digits and a space")]
    BadCount,
    /// The connection ended within a message.
    #[error("the connection ended within a message")]
    Torn,
}

/// Takes frames out of a stream of bytes, whatever the pieces it comes in.
#[derive(Debug, Default)]
pub struct Framer {
    method: Option<Method>,
    /// The frame under way; never longer than [`FRAME_BYTES_MAX`].
    partial: Vec<u8>,
    cut: bool,
    /// Octets of the counted frame under way that are still to come; `None` before its count.
    wanted: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Counting,
    Lines,
}

impl Framer {
    /// The next whole frame of `input`; `None` when more bytes are needed. Everything usable is
    /// taken out of `input`.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FramingError> {
        let method = match (self.method, input.first()) {
            (Some(method), _) => method,
            (None, None) => return Ok(None),
            (None, Some(b'0'..=b'9')) => Method::Counting,
            (None, Some(_)) => Method::Lines,
        };
        self.method = Some(method);
        match method {
            Method::Lines => Ok(self.next_line(input)),
            Method::Counting => self.next_counted(input),
        }
    }

    /// What the end of the connection makes of the rest.
    pub fn finish(mut self) -> Result<Option<Frame>, FramingError> {
        match self.method {
            Some(Method::Lines) => Ok(self.take()),
            Some(Method::Counting) if self.wanted.is_some() || !self.partial.is_empty() => {
                Err(FramingError::Torn)
            }
            _ => Ok(None),
        }
    }

    fn next_line(&mut self, input: &mut BytesMut) -> Option<Frame> {
        while !input.is_empty() {
            let end = input.iter().position(|byte| matches!(byte, b'\n' | 0));
            self.keep(input, end.unwrap_or(input.len()));
            if end.is_some() {
                input.advance(1);
                if let Some(frame) = self.take() {
                    return Some(frame);
                }
            }
        }
        None
    }

    fn next_counted(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FramingError> {
        loop {
            let Some(wanted) = self.wanted else {
                match self.count(input)? {
                    Some(count) => self.wanted = Some(count),
                    None => return Ok(None),
                }
                continue;
            };
            let here = wanted.min(input.len());
            self.keep(input, here);
            if here < wanted {
                self.wanted = Some(wanted - here);
                return Ok(None);
            }
            self.wanted = None;
            if let Some(frame) = self.take() {
                return Ok(Some(frame));
            }
        }
    }

    /// Reads digits and the space after them; they collect in `partial`.
    fn count(&mut self, input: &mut BytesMut) -> Result<Option<usize>, FramingError> {
        while let Some(&byte) = input.first() {
            input.advance(1);
            match byte {
                b'0'..=b'9' if self.partial.len() < COUNT_DIGITS_MAX => self.partial.push(byte),
                b' ' if !self.partial.is_empty() => {
                    let digits = std::mem::take(&mut self.partial);
                    let count = std::str::from_utf8(&digits)
                        .ok()
                        .and_then(|d| d.parse().ok());
                    return match count {
                        Some(count) if count > 0 => Ok(Some(count)),
                        _ => Err(FramingError::BadCount),
                    };
                }
                // Senders exist that end counted messages with a line feed they did not count.
                b'\n' | b'\r' | 0 if self.partial.is_empty() => {}
                _ => return Err(FramingError::BadCount),
            }
        }
        Ok(None)
    }

    /// Moves `length` bytes from `input` into the frame, as far as it may grow.
    fn keep(&mut self, input: &mut BytesMut, length: usize) {
        let bytes = input.split_to(length);
        let room = FRAME_BYTES_MAX - self.partial.len();
        let kept = bytes.get(..room).unwrap_or(&bytes);
        self.cut |= kept.len() < bytes.len();
        self.partial.extend_from_slice(kept);
    }

    /// The frame collected so far, unless it is empty.
    fn take(&mut self) -> Option<Frame> {
        let mut bytes = std::mem::take(&mut self.partial);
        let cut = std::mem::take(&mut self.cut);
        while matches!(bytes.last(), Some(b'\n' | b'\r' | 0)) {
            bytes.pop();
        }
        (!bytes.is_empty()).then_some(Frame { bytes, cut })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of a stream that arrives in the given pieces.
    fn frames(pieces: &[&[u8]]) -> Result<Vec<Frame>, FramingError> {
        let mut splitter = Framer::default();
        let mut frames = Vec::new();
        let mut input = BytesMut::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(frame) = splitter.next(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty(), "everything usable is taken");
        }
        frames.extend(splitter.finish()?);
        Ok(frames)
    }

    fn texts(frames: &[Frame]) -> Vec<String> {
        frames
            .iter()
            .map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned())
            .collect()
    }

    #[test]
    fn split_at_every_byte_nothing_changes() {
        for stream in [
            "<11>one\n<11>two\r\n\n<11>three",
            "7 <11>one7 <11>two9 <11>three",
            "8 <11>one\n7 <11>two\n9 <11>three\n",
            "<11>one\0<11>two\0<11>three\0",
        ] {
            for at in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(at);
                let frames = frames(&[a, b]).unwrap();
                assert_eq!(
                    texts(&frames),
                    ["<11>one", "<11>two", "<11>three"],
                    "{stream} {at}"
                );
            }
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(frames(&bytes).unwrap().len(), 3);
        }
    }

    #[test]
    fn a_counted_message_may_hold_line_feeds() {
        assert_eq!(
            texts(&frames(&[b"7 <1>a\nbc5 <1>de"]).unwrap()),
            ["<1>a\nbc", "<1>de"]
        );
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_found() {
        let mut stream = vec![b'x'; FRAME_BYTES_MAX + 1];
        stream.extend_from_slice(b"\n<1>next\n");
        let got = frames(&stream.chunks(1000).collect::<Vec<_>>()).unwrap();
        assert_eq!(got.len(), 2);
        assert!(got[0].cut && got[0].bytes.len() == FRAME_BYTES_MAX);
        assert!(!got[1].cut && got[1].bytes == b"<1>next");
        let mut counted = b"70000 ".to_vec();
        counted.extend(vec![b'y'; 70_000]);
        counted.extend_from_slice(b"4 <1>z");
        let got = frames(&counted.chunks(999).collect::<Vec<_>>()).unwrap();
        assert!(got[0].cut && !got[1].cut && got[1].bytes == b"<1>z");
    }

    #[test]
    fn a_bad_count_ends_the_connection() {
        for stream in ["0 x", "1x", "99999999 x", "5 <11>ax7 <11>one"] {
            assert_eq!(
                frames(&[stream.as_bytes()]),
                Err(FramingError::BadCount),
                "{stream}"
            );
        }
        for stream in ["7 <11>on", "7", "123 "] {
            assert_eq!(
                frames(&[stream.as_bytes()]),
                Err(FramingError::Torn),
                "{stream}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_stream_panics_or_grows(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let mut splitter = Framer::default();
            for piece in pieces {
                let mut input = BytesMut::from(piece);
                while let Ok(Some(frame)) = splitter.next(&mut input) {
                    prop_assert!(!frame.bytes.is_empty());
                }
            }
        }
    }
}
