//! Reading evidence back from the medium, not from the page cache.
//!
//! After a failed write-back the page cache may hold what the disk does not; only a read that
//! goes past it can certify. O_DIRECT where the file system offers it, otherwise the cached pages
//! are dropped first.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::error::{IoContext, IoError};

/// Alignment of offset, length and memory that every block device takes.
const ALIGN: usize = 4096;
const CHUNK: usize = 1 << 20;

/// How a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// Past the page cache.
    Direct,
    /// Through it, after asking the kernel to drop its pages.
    Cached,
}

/// A file's length and SHA-256 as they lie on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digested {
    /// Its length.
    pub(super) size_bytes: u64,
    /// Its SHA-256 in hex.
    pub(super) sha256: String,
    /// How it was read.
    pub(super) medium: Medium,
}

/// Reads and hashes `path`. Never follows a symbolic link.
pub(super) fn digest(path: &Path) -> Result<Digested, IoError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut buffer = Aligned::new();
    let direct = rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty())
        .map(File::from)
        .map_err(io::Error::from)
        .and_then(|file| hash(&file, &mut buffer));
    match direct {
        Ok((size_bytes, sha256)) => Ok(Digested {
            size_bytes,
            sha256,
            medium: Medium::Direct,
        }),
        // tmpfs and some others refuse O_DIRECT, at open or at the first read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            let file = File::from(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?);
            file.sync_all().at("fsync", path)?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).at("fadvise", path)?;
            let (size_bytes, sha256) = hash(&file, &mut buffer).at("read", path)?;
            Ok(Digested {
                size_bytes,
                sha256,
                medium: Medium::Cached,
            })
        }
        Err(error) => Err(IoError::new("read", path, error)),
    }
}

/// Hashes `path` as any reader sees it.
pub(super) fn digest_cached(path: &Path) -> Result<(u64, String), IoError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer).at("read", path)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok((size, hex::encode(hasher.finalize())));
        };
        hasher.update(bytes);
        size += bytes.len() as u64;
    }
}

fn hash(file: &File, buffer: &mut Aligned) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut offset = 0;
    loop {
        let chunk = buffer.chunk();
        let read = file.read_at(chunk, offset)?;
        hasher.update(chunk.get(..read).unwrap_or_default());
        offset += read as u64;
        // A short read is the end: only there is the rest of a direct read not a whole block.
        if read < CHUNK {
            let length = file.metadata()?.len();
            if offset != length {
                return Err(io::Error::other(format!(
                    "{offset} of {length} bytes could be read"
                )));
            }
            return Ok((offset, hex::encode(hasher.finalize())));
        }
    }
}

/// A buffer whose chunk begins at a multiple of [`ALIGN`].
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGN];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGN;
        Self { memory, start }
    }

    fn chunk(&mut self) -> &mut [u8] {
        self.memory
            .get_mut(self.start..self.start + CHUNK)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256_whatever_the_length() {
        // On the disk under the crate, where O_DIRECT works; /tmp may be tmpfs.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for length in [0, 1, ALIGN, CHUNK - 1, CHUNK, CHUNK + ALIGN, 3 * CHUNK + 17] {
            let path = dir.path().join("file");
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let digested = digest(&path).unwrap();
            let expected = hex::encode(Sha256::digest(&content));
            assert_eq!(digested.sha256, expected, "{length}");
            assert_eq!(digested.size_bytes, length as u64);
            assert_eq!(digest_cached(&path).unwrap(), (length as u64, expected));
        }
    }

    #[test]
    fn a_file_system_without_direct_io_is_read_all_the_same() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let digested = digest(&path).unwrap();
        assert_eq!(digested.sha256, hex::encode(Sha256::digest(b"abc")));
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        assert!(digest(&link).is_err());
    }
}
