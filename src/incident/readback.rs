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
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{IoContext, IoError};

/// Alignment of offset, length and memory that every block device takes.
const ALIGN: usize = 4096;
const CHUNK: usize = 1 << 20;

/// A file's length and SHA-256 as they lie on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digested {
    /// Its length.
    pub(super) size_bytes: u64,
    /// Its SHA-256 in hex.
    pub(super) sha256: String,
    /// Whether it was read past the page cache.
    pub(super) direct: bool,
}

/// Reads a file from the medium and hashes what it hands out. Never follows a symbolic link.
pub(super) struct Reader {
    file: File,
    direct: bool,
    length: u64,
    offset: u64,
    buffer: Aligned,
    held: std::ops::Range<usize>,
    hasher: Sha256,
}

impl Reader {
    /// Opens `path`.
    pub(super) fn open(path: &Path) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let direct = rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty());
        // tmpfs and some others refuse O_DIRECT, at open or at the first read.
        let refused = |errno| errno == Errno::INVAL;
        match direct {
            Ok(file) => {
                let mut reader = Self::new(file.into(), true).at("stat", path)?;
                match reader.fill() {
                    Ok(()) => return Ok(reader),
                    Err(error) if Errno::from_io_error(&error).is_some_and(refused) => {}
                    Err(error) => return Err(IoError::new("read", path, error)),
                }
            }
            Err(errno) if refused(errno) => {}
            Err(errno) => return Err(IoError::new("open", path, errno.into())),
        }
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?);
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).at("fadvise", path)?;
        Self::new(file, false).at("stat", path)
    }

    fn new(file: File, direct: bool) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            direct,
            length,
            offset: 0,
            buffer: Aligned::new(),
            held: 0..0,
            hasher: Sha256::new(),
        })
    }

    /// Reads the rest and closes the account.
    pub(super) fn finish(mut self) -> io::Result<Digested> {
        while !self.held.is_empty() || self.offset < self.length {
            self.held = 0..0;
            self.fill()?;
        }
        Ok(Digested {
            size_bytes: self.offset,
            sha256: hex::encode(self.hasher.finalize()),
            direct: self.direct,
        })
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.offset >= self.length {
            self.held = 0..0;
            return Ok(());
        }
        let chunk = self.buffer.chunk();
        let read = self.file.read_at(chunk, self.offset)?;
        // Sealed files never change; one that shrank under us cannot be certified.
        let expected = (self.length - self.offset).min(CHUNK as u64);
        if (read as u64) < expected {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "{read} of {expected} bytes at {} could be read",
                    self.offset
                ),
            ));
        }
        let read = usize::try_from(expected).unwrap_or(CHUNK);
        self.hasher.update(chunk.get(..read).unwrap_or_default());
        self.offset += expected;
        self.held = 0..read;
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            self.fill()?;
        }
        let chunk = self.buffer.chunk();
        let held = chunk.get(self.held.clone()).unwrap_or_default();
        let count = held.len().min(out.len());
        let (Some(from), Some(to)) = (held.get(..count), out.get_mut(..count)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.held.start += count;
        Ok(count)
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
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            std::fs::write(&path, &content).unwrap();
            let mut reader = Reader::open(&path).unwrap();
            let mut head = vec![0; length / 3];
            reader.read_exact(&mut head).unwrap();
            assert_eq!(head, content[..length / 3]);
            let digested = reader.finish().unwrap();
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
        let digested = Reader::open(&path).unwrap().finish().unwrap();
        assert_eq!(digested.sha256, hex::encode(Sha256::digest(b"abc")));
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        assert!(Reader::open(&link).is_err());
    }
}
