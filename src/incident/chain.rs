//! A hash-chained, append-only file of JSON lines: `custody.jsonl` and `timeline.jsonl`.
//!
//! Each line ends in `"prev"`, the hash of the line before (64 zeros in the first), and `"hash"`,
//! the SHA-256 of the line's own bytes from `{` up to and including the last character before
//! `,"hash":"`. So the chain is checked over the bytes as they lie; no canonical form of JSON is
//! needed. The first line binds the incident's id.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::durable;
use crate::error::{IoContext, IoError};
use crate::recorder::sync::{self, Site};

/// The `prev` of a first line.
pub(super) const ORIGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_KEY: &str = ",\"hash\":\"";
const LINE_END: &str = "\"}\n";
const HASH_DIGITS: usize = 64;

/// Where a chain ends: what the next line continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Lines so far.
    pub(super) lines: u64,
    /// The hash of the last one.
    pub(super) hash: String,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            lines: 0,
            hash: ORIGIN.to_owned(),
            bytes: 0,
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Chain<T> {
    /// The lines whose chain is whole, from the first.
    pub(super) items: Vec<T>,
    /// The head after each of them would be here; this is the last.
    pub(super) head: Head,
    /// The hash of each line.
    pub(super) hashes: Vec<String>,
    /// What is wrong with the line after them, if there is one.
    pub(super) broken: Option<String>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    seq: u64,
    #[serde(flatten)]
    item: &'a T,
    prev: &'a str,
}

/// Adds lines to `path`, continuing `head`, and syncs them. On an error the file is as before.
pub(super) fn append<T: Serialize>(
    path: &Path,
    head: &mut Head,
    items: &[T],
) -> Result<(), IoError> {
    let mut next = head.clone();
    let mut bytes = Vec::new();
    for item in items {
        let line = render(&next, item).map_err(|e| IoError::new("encode", path, e.into()))?;
        next.lines += 1;
        next.bytes += line.len() as u64;
        next.hash = hash_of(&line).unwrap_or_default();
        bytes.extend_from_slice(line.as_bytes());
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .at("open", path)?;
    let written = file
        .write_all(&bytes)
        .at("write", path)
        .and_then(|()| sync::whole(&file, Site::ChainLine).at("fsync", path));
    if let Err(error) = written {
        file.set_len(head.bytes).at("truncate", path)?;
        return Err(error);
    }
    if head.lines == 0 {
        durable::sync_parent(path, Site::ChainFolder)?;
    }
    *head = next;
    Ok(())
}

fn render<T: Serialize>(head: &Head, item: &T) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(&Line {
        seq: head.lines + 1,
        item,
        prev: &head.hash,
    })?;
    line.pop();
    let hash = hex::encode(Sha256::digest(&line));
    line.push_str(HASH_KEY);
    line.push_str(&hash);
    line.push_str(LINE_END);
    Ok(line)
}

fn hash_of(line: &str) -> Option<String> {
    let end = line.strip_suffix(LINE_END)?;
    let start = end.len().checked_sub(HASH_DIGITS)?;
    end.get(start..).map(str::to_owned)
}

/// Reads a chain; a file that is not there is an empty one.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Chain<T>, IoError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(IoError::new("read", path, error)),
    };
    let mut chain = Chain {
        items: Vec::new(),
        head: Head::default(),
        hashes: Vec::new(),
        broken: None,
    };
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match check(line, &chain.head) {
            Ok((item, hash)) => {
                chain.items.push(item);
                chain.head.lines += 1;
                chain.head.bytes += line.len() as u64;
                chain.head.hash.clone_from(&hash);
                chain.hashes.push(hash);
            }
            Err(what) => {
                chain.broken = Some(format!("line {}: {what}", chain.head.lines + 1));
                break;
            }
        }
    }
    Ok(chain)
}

/// Checks one line against the head before it.
fn check<T: DeserializeOwned>(line: &[u8], head: &Head) -> Result<(T, String), String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let body = text
        .strip_suffix(LINE_END)
        .and_then(|text| text.split_at_checked(text.len().checked_sub(HASH_DIGITS)?))
        .and_then(|(text, hash)| Some((text.strip_suffix(HASH_KEY)?, hash)));
    let (body, hash) = body.ok_or("not a whole line")?;
    if hex::encode(Sha256::digest(body)) != hash {
        return Err("its hash does not match its content".to_owned());
    }
    if !body.ends_with(&format!(",\"prev\":\"{}\"", head.hash)) {
        return Err("it does not follow the line before it".to_owned());
    }
    if !body.starts_with(&format!("{{\"seq\":{},", head.lines + 1)) {
        return Err("its number does not follow".to_owned());
    }
    let item = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok((item, hash.to_owned()))
}

/// Opens a chain to continue it. A torn tail (a crash while appending: a last line without its
/// end) is cut off; a chain broken in any other way was altered and is left as it is.
pub(super) fn reopen<T: DeserializeOwned>(path: &Path) -> Result<Chain<T>, IoError> {
    let chain = read::<T>(path)?;
    let Some(what) = &chain.broken else {
        return Ok(chain);
    };
    let bytes = fs::read(path).at("read", path)?;
    let whole = usize::try_from(chain.head.bytes).unwrap_or(usize::MAX);
    if bytes.get(whole..).is_some_and(|tail| tail.contains(&b'\n')) {
        let altered = format!("it was altered: {what}");
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, altered);
        return Err(IoError::new("continue", path, error));
    }
    let file = OpenOptions::new().write(true).open(path).at("open", path)?;
    file.set_len(chain.head.bytes).at("truncate", path)?;
    sync::whole(&file, Site::ChainLine).at("fsync", path)?;
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Item {
        text: String,
    }

    fn item(text: &str) -> Item {
        Item {
            text: text.to_owned(),
        }
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("custody.jsonl");
        let mut head = Head::default();
        append(&path, &mut head, &[item("one \"quoted\" あ"), item("two")]).unwrap();
        append(&path, &mut head, &[item("three")]).unwrap();
        (dir, path)
    }

    #[test]
    fn lines_are_read_back_and_continued() {
        let (_dir, path) = written();
        let chain = read::<Item>(&path).unwrap();
        assert_eq!(chain.broken, None);
        assert_eq!(chain.items.len(), 3);
        assert_eq!(chain.head.lines, 3);
        assert_eq!(chain.head.bytes, fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn any_flipped_byte_breaks_it() {
        let (_dir, path) = written();
        let good = fs::read(&path).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(
                read::<Item>(&path).unwrap().broken.is_some(),
                "byte {index}"
            );
        }
    }

    #[test]
    fn a_removed_or_swapped_line_breaks_it() {
        let (_dir, path) = written();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        for bad in [
            vec![lines[0], lines[2]],
            vec![lines[1], lines[2]],
            vec![lines[0], lines[2], lines[1]],
        ] {
            fs::write(&path, bad.concat()).unwrap();
            assert!(read::<Item>(&path).unwrap().broken.is_some());
        }
    }

    #[test]
    fn a_torn_tail_is_cut_and_continued() {
        let (_dir, path) = written();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut chain = reopen::<Item>(&path).unwrap();
        assert_eq!(chain.items.len(), 2);
        append(&path, &mut chain.head, &[item("again")]).unwrap();
        assert_eq!(read::<Item>(&path).unwrap().broken, None);
    }

    #[test]
    fn an_altered_chain_is_neither_mended_nor_continued() {
        let (_dir, path) = written();
        let mut bad = fs::read(&path).unwrap();
        bad[10] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(reopen::<Item>(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), bad);
    }
}
