//! Lines of a growing file, bounded in length.

/// The longest line kept, in bytes; the rest is cut.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// One line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it was longer than [`LINE_BYTES_MAX`].
    pub cut: bool,
}

/// Splits bytes into lines, whatever the pieces they come in.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    partial: Vec<u8>,
    /// How many bytes of the file the unfinished line has so far, those cut away included.
    pending: u64,
}

impl Splitter {
    /// Appends the whole lines of `bytes` to `lines`; keeps the unfinished one. Empty lines are
    /// left out.
    pub(super) fn push(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.pending += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let text = piece.strip_suffix(b"\n");
            let content = text.unwrap_or(piece);
            self.partial
                .extend_from_slice(content.get(..room).unwrap_or(content));
            if text.is_some() {
                lines.extend(self.finish());
            }
        }
    }

    /// Ends the unfinished line: its file gets no more.
    pub(super) fn finish(&mut self) -> Option<Line> {
        let pending = std::mem::take(&mut self.pending);
        let mut bytes = std::mem::take(&mut self.partial);
        // One for the line feed; a carriage return or padding makes no difference here.
        let cut = usize::try_from(pending).unwrap_or(usize::MAX) > bytes.len() + 1;
        while matches!(bytes.last(), Some(b'\r' | 0)) {
            bytes.pop();
        }
        // A copytruncate under a writer that does not append leaves a hole: NULs in front.
        let text = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
        bytes.drain(..text);
        (!bytes.is_empty()).then_some(Line { bytes, cut })
    }

    /// Bytes of the file that belong to the unfinished line.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Line>, Splitter) {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, &mut lines);
        }
        (lines, splitter)
    }

    #[test]
    fn split_at_every_byte_nothing_changes() {
        let file = b"one\r\n\ntwo\nthree";
        for at in 0..=file.len() {
            let (a, b) = file.split_at(at);
            let (lines, mut rest) = split(&[a, b]);
            let texts: Vec<&[u8]> = lines.iter().map(|line| line.bytes.as_slice()).collect();
            assert_eq!(texts, [b"one", b"two"]);
            assert_eq!(rest.pending(), 5);
            assert_eq!(rest.finish().unwrap().bytes, b"three");
        }
    }

    #[test]
    fn long_lines_are_cut_and_counted_as_such() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        let (lines, _) = split(&[&long, b"\n", &long, b"y", b"\nnext\n"]);
        let cut: Vec<bool> = lines.iter().map(|line| line.cut).collect();
        assert_eq!(cut, [false, true, false]);
        assert_eq!(lines[1].bytes.len(), LINE_BYTES_MAX);
        assert_eq!(lines[2].bytes, b"next");
    }

    #[test]
    fn a_hole_of_nuls_in_front_is_no_text() {
        let (lines, _) = split(&[&[0; 100], b"ERROR x\n", &[0; 9], b"\n"]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].bytes, b"ERROR x");
        assert!(!lines[0].cut);
    }
}
