//! The marked packet: looked for in the frozen packets of a drill.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::record::Sighting;
use crate::error::IoError;
use crate::ring::merge::MergedReader;
use crate::ring::window::sources_in;
use crate::time::{Timestamp, Window};

/// The mark stands near the beginning of its packet.
const SEARCHED_BYTES: usize = 4096;
/// How often it is looked whether to give up.
const LOOK_EVERY: u64 = 4096;

/// The packet that holds `words` in the window of an incident's segments, captured first; sent at
/// `sent`. Blocks, until `stop` at the latest.
pub(super) fn find(
    segments: &Path,
    window: Window,
    words: &str,
    sent: Timestamp,
    stop: &CancellationToken,
) -> Result<Option<Sighting>, IoError> {
    let mut first: Option<Sighting> = None;
    let mut looked = 0_u64;
    for source in sources_in(segments)? {
        let mut reader = MergedReader::open(&source, window)?;
        while let Some(found) = reader.advance() {
            looked += 1;
            if looked.is_multiple_of(LOOK_EVERY) && stop.is_cancelled() {
                return Ok(first);
            }
            let data = reader.data(&found);
            let data = data.get(..SEARCHED_BYTES).unwrap_or(data);
            if !holds(data, words.as_bytes()) {
                continue;
            }
            if first.as_ref().is_none_or(|first| found.at < first.at) {
                first = Some(Sighting {
                    at: found.at,
                    interface: source.interface.clone(),
                    after_ns: signed(found.at, sent),
                });
            }
            break;
        }
    }
    Ok(first)
}

fn signed(at: Timestamp, from: Timestamp) -> i64 {
    let ns = i128::from(at.as_ns()) - i128::from(from.as_ns());
    i64::try_from(ns).unwrap_or(i64::MAX)
}

fn holds(data: &[u8], words: &[u8]) -> bool {
    let Some((&first, _)) = words.split_first() else {
        return false;
    };
    let mut rest = data;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        let Some(from) = rest.get(at..) else {
            return false;
        };
        if from.starts_with(words) {
            return true;
        }
        rest = from.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_they_are() {
        assert!(holds(b"xxwirwire-1", b"wire-1"));
        assert!(holds(b"wire-1", b"wire-1"));
        for not in [&b""[..], b"wire-", b"wire-2", b"xwire"] {
            assert!(!holds(not, b"wire-1"));
        }
    }
}
