//! One segment on its way to disk: written in whole blocks past the page cache, made durable by
//! somebody else than who writes, and named in the ring when its first blocks are.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{IoContext, IoError};
use crate::recorder::shared::lock;
use crate::recorder::slots::BLOCK_BYTES;
use crate::recorder::sync::{self, Site};
use crate::ring::names::SegmentName;

/// Bytes read at once of a file in doubt.
const READ_BACK: usize = 1 << 20;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many bytes.
    pub bytes: u64,
    /// Their CRC-32 as of gzip, RFC 1952.
    pub crc32: u32,
}

/// A segment file that grows. One thread appends; another may sync and name it meanwhile.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    name: SegmentName,
    /// Its path in the ring.
    path: PathBuf,
    /// Its path before that.
    hidden: PathBuf,
    direct: AtomicBool,
    reserved: u64,
    len: AtomicU64,
    revealed: Mutex<bool>,
    /// Of a file that cannot be written again: what is in it.
    content: OnceLock<Content>,
}

impl SegmentFile {
    /// Creates the file hidden, with room for `reserve` bytes.
    pub fn create(folder: &Path, name: SegmentName, reserve: u64) -> Result<Self, IoError> {
        let path = folder.join(name.to_string());
        let hidden = folder.join(format!(".{name}.new"));
        let (file, direct) = open_anew(&hidden)?;
        match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, reserve) {
            // A file system that cannot reserve says so when it is full.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => {
                drop(fs::remove_file(&hidden));
                return Err(IoError::new("reserve room for", &hidden, error.into()));
            }
        }
        Ok(Self {
            file,
            name,
            path,
            hidden,
            direct: AtomicBool::new(direct),
            reserved: reserve,
            len: AtomicU64::new(0),
            revealed: Mutex::new(false),
            content: OnceLock::new(),
        })
    }

    /// The same, but no sync of it works.
    #[cfg(test)]
    pub(super) fn unsyncable(self) -> Self {
        let (pipe, _) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        Self { file, ..self }
    }

    /// Bytes handed to the device.
    pub fn written(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Its name in the ring.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// Appends whole blocks. They are durable after [`Self::sync`].
    pub fn append(&self, bytes: &[u8]) -> Result<(), IoError> {
        let mut rest = bytes;
        let mut at = self.written();
        while !rest.is_empty() {
            let direct = self.direct.load(Ordering::Relaxed);
            let written = match rustix::io::pwrite(&self.file, rest, at) {
                Err(Errno::INTR) => continue,
                Err(Errno::INVAL) if direct => {
                    self.give_up_direct()?;
                    continue;
                }
                // Whole blocks only: the tail of a short write is written again.
                Ok(n) if n < rest.len() && direct => n - n % BLOCK_BYTES,
                result => result.at("write", &self.path)?,
            };
            if written == 0 {
                return Err(IoError::new("write", &self.path, Errno::NOSPC.into()));
            }
            rest = rest.get(written..).unwrap_or_default();
            at += u64::try_from(written).unwrap_or(0);
        }
        self.len.store(at, Ordering::Release);
        Ok(())
    }

    /// Makes durable what was appended before; how many bytes.
    pub fn sync(&self) -> Result<u64, IoError> {
        let written = self.written();
        sync::data(&self.file, Site::SegmentData).at("fdatasync", &self.path)?;
        Ok(written)
    }

    /// Gives it its name in the ring, durable after [`sync_folder`]. It may be called again, by
    /// whoever needs it.
    pub fn reveal(&self) -> Result<(), IoError> {
        let mut revealed = lock(&self.revealed);
        if !*revealed {
            fs::rename(&self.hidden, &self.path).at("rename", &self.hidden)?;
            *revealed = true;
        }
        Ok(())
    }

    /// Whether what was written went past the page cache: the device has it, and would have said no.
    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Keeps what [`Self::is_as_written`] compares with; `bytes` is all of it.
    pub fn keep_sum(&self, bytes: &[u8]) {
        self.content.get_or_init(|| Content {
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            crc32: crc32fast::hash(bytes),
        });
    }

    /// What was kept by [`Self::keep_sum`].
    pub fn content(&self) -> Option<Content> {
        self.content.get().copied()
    }

    /// Reads the file back from the device: whether it holds what its sum was made of. For a file
    /// that was in doubt, because a sync of it failed. One that was rotated away since is in none.
    pub fn is_as_written(&self) -> bool {
        match read_back(&self.path) {
            Ok(found) => Some(found) == self.content(),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::error!(%error, "a segment cannot be read back");
                false
            }
        }
    }

    /// Gives back the room it did not need. Its length is durable by [`Self::sync`]; a power cut may keep
    /// the room, for as long as the file stays.
    pub fn finish(&self) -> Result<(), IoError> {
        let len = self.written();
        if len == self.reserved {
            return Ok(());
        }
        rustix::fs::ftruncate(&self.file, len).at("cut", &self.path)
    }

    fn give_up_direct(&self) -> Result<(), IoError> {
        let path = &self.path;
        tracing::info!(path = %path.display(), "O_DIRECT is refused here; writing through the page cache");
        let flags = rustix::fs::fcntl_getfl(&self.file).at("fcntl", path)?;
        rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT).at("fcntl", path)?;
        self.direct.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// What the device has of a file, rather than what a reader brought into memory before.
pub fn read_back(path: &Path) -> Result<Content, IoError> {
    let mut file = File::open(path).at("open", path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).at("fadvise", path)?;
    let (mut sum, mut bytes) = (crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; READ_BACK];
    loop {
        match file.read(&mut piece) {
            Ok(0) => {
                let crc32 = sum.finalize();
                return Ok(Content { bytes, crc32 });
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => {
                let read = read.at("read", path)?;
                sum.update(piece.get(..read).unwrap_or_default());
                bytes += u64::try_from(read).unwrap_or(0);
            }
        }
    }
}

/// fsyncs a folder of the ring, so that names in it survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<(), IoError> {
    sync::folder(folder, Site::RingFolder)
}

/// Creates the file, in place of one that an attempt before left.
fn open_anew(path: &Path) -> Result<(File, bool), IoError> {
    match open_new(path) {
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).at("replace", path)?;
            open_new(path)
        }
        opened => opened,
    }
}

/// Readable by the group of the folder (the server), written by us alone.
fn open_new(path: &Path) -> Result<(File, bool), IoError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o640);
    let (file, direct) = match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
        // Some file systems create the file before they refuse the flag.
        Err(Errno::INVAL) => {
            drop(fs::remove_file(path));
            (rustix::fs::open(path, flags, mode), false)
        }
        result => (result, true),
    };
    Ok((File::from(file.at("create", path)?), direct))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::slots::Slots;
    use crate::time::Timestamp;

    #[test]
    fn a_segment_is_hidden_until_it_is_revealed_and_keeps_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let name = SegmentName {
            number: 1,
            first: Timestamp::from_ns(5),
        };
        let slot = Slots::create(&dir.path().join("slots"), 1, 65536)
            .unwrap()
            .into_slots()
            .pop();
        let (mut writer, read) = slot
            .unwrap()
            .begin(1, Timestamp::from_ns(5), Timestamp::MIN);
        writer.tail()[..8192].fill(7);
        writer.advance(8192);
        writer.publish();

        let file = SegmentFile::create(dir.path(), name, 1 << 20).unwrap();
        file.append(&read.bytes()[..4096]).unwrap();
        assert_eq!(file.sync().unwrap(), 4096);
        assert!(!dir.path().join(name.to_string()).exists());
        file.reveal().unwrap();
        file.append(&read.bytes()[4096..]).unwrap();
        file.finish().unwrap();
        let path = dir.path().join(name.to_string());
        assert_eq!(fs::read(&path).unwrap(), [7; 8192]);
        let allocated = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
        assert!(allocated <= 16384, "{allocated} bytes are still reserved");
    }
}
