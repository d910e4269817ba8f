//! One segment on its way to disk: written in whole blocks past the page cache, visible under its
//! name from its first block on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{IoContext, IoError};
use crate::recorder::slots::BLOCK_BYTES;
use crate::recorder::sync::{self, Site};
use crate::ring::names::SegmentName;

/// A segment file that grows.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    folder: PathBuf,
    path: PathBuf,
    name: SegmentName,
    visible: bool,
    direct: bool,
    reserved: u64,
    len: u64,
}

impl SegmentFile {
    /// Creates the file hidden, with room for `reserve` bytes.
    pub fn create(folder: &Path, name: SegmentName, reserve: u64) -> Result<Self, IoError> {
        let path = folder.join(format!(".{name}.new"));
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(IoError::new("replace", &path, error));
        }
        let (file, direct) = open_new(&path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, reserve) {
            // A file system that cannot reserve says so when it is full.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => {
                drop(fs::remove_file(&path));
                return Err(IoError::new("reserve room for", &path, error.into()));
            }
        }
        Ok(Self {
            file,
            folder: folder.to_owned(),
            path,
            name,
            visible: false,
            direct,
            reserved: reserve,
            len: 0,
        })
    }

    /// Bytes on disk.
    pub fn written(&self) -> u64 {
        self.len
    }

    /// Its name in the ring.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// Whether it stands in the ring under its name.
    pub fn is_visible(&self) -> bool {
        self.visible
    }

    /// Appends whole blocks and makes them durable.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        let mut rest = bytes;
        let mut at = self.len;
        while !rest.is_empty() {
            let written = match rustix::io::pwrite(&self.file, rest, at) {
                Err(Errno::INTR) => continue,
                Err(Errno::INVAL) if self.direct => {
                    self.give_up_direct()?;
                    continue;
                }
                // Whole blocks only: the tail of a short write is written again.
                Ok(n) if n < rest.len() && self.direct => n - n % BLOCK_BYTES,
                result => result.at("write", &self.path)?,
            };
            if written == 0 {
                return Err(IoError::new("write", &self.path, Errno::NOSPC.into()));
            }
            rest = rest.get(written..).unwrap_or_default();
            at += u64::try_from(written).unwrap_or(0);
        }
        sync::data(&self.file, Site::SegmentData).at("fdatasync", &self.path)?;
        self.len = at;
        Ok(())
    }

    /// Gives it its name in the ring, durably.
    pub fn publish(&mut self) -> Result<(), IoError> {
        let path = self.folder.join(self.name.to_string());
        fs::rename(&self.path, &path).at("rename", &self.path)?;
        self.path = path;
        self.visible = true;
        sync_folder(&self.folder)
    }

    /// Gives back the room it did not need.
    pub fn finish(&mut self) -> Result<(), IoError> {
        if self.len == self.reserved {
            return Ok(());
        }
        rustix::fs::ftruncate(&self.file, self.len).at("cut", &self.path)?;
        sync::whole(&self.file, Site::SegmentEnd).at("fsync", &self.path)
    }

    fn give_up_direct(&mut self) -> Result<(), IoError> {
        tracing::info!(path = %self.path.display(), "O_DIRECT is refused here; writing through the page cache");
        let flags = rustix::fs::fcntl_getfl(&self.file).at("fcntl", &self.path)?;
        rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT).at("fcntl", &self.path)?;
        self.direct = false;
        Ok(())
    }
}

/// fsyncs a folder of the ring, so that names in it survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<(), IoError> {
    sync::folder(folder, Site::RingFolder)
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
    fn a_segment_is_visible_only_with_its_first_blocks_and_keeps_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let name = SegmentName {
            number: 1,
            first: Timestamp::from_ns(5),
        };
        let slot = Slots::create(&dir.path().join("slots"), 1, 65536)
            .unwrap()
            .into_slots()
            .pop();
        let (mut writer, read) = slot.unwrap().begin(1, Timestamp::from_ns(5));
        writer.tail()[..8192].fill(7);
        writer.commit(8192);

        let mut file = SegmentFile::create(dir.path(), name, 1 << 20).unwrap();
        assert!(!dir.path().join(name.to_string()).exists());
        file.append(&read.bytes()[..4096]).unwrap();
        file.publish().unwrap();
        file.append(&read.bytes()[4096..]).unwrap();
        file.finish().unwrap();
        let path = dir.path().join(name.to_string());
        assert_eq!(fs::read(&path).unwrap(), [7; 8192]);
        let allocated = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
        assert!(allocated <= 16384, "{allocated} bytes are still reserved");
    }
}
