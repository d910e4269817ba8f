//! Where a tail stands, kept across restarts: which file (device, inode and the hash of its
//! beginning, because inode numbers are used again) and how far it was read.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{IoContext, IoError};
use crate::time::Timestamp;

/// How much of a file's beginning tells it from another.
const HEAD_BYTES: u64 = 1024;

/// A file, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// How many bytes of the beginning are hashed: what was read, at most 1 KiB.
    pub head_bytes: u64,
    /// Their SHA-256.
    pub head_sha256: String,
}

impl Identity {
    /// The identity of a file of which the first `read` bytes are known.
    pub fn of(file: &File, read: u64) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let head_bytes = read.min(HEAD_BYTES);
        Ok(Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            head_bytes,
            head_sha256: head_hash(file, head_bytes)?.unwrap_or_default(),
        })
    }

    /// Whether `file` is this file and still begins as it did.
    pub fn matches(&self, file: &File) -> std::io::Result<bool> {
        let metadata = file.metadata()?;
        Ok(metadata.dev() == self.dev
            && metadata.ino() == self.ino
            && head_hash(file, self.head_bytes)?.as_ref() == Some(&self.head_sha256))
    }
}

/// The hash of the first `length` bytes, `None` when the file is shorter.
fn head_hash(file: &File, length: u64) -> std::io::Result<Option<String>> {
    let mut head = vec![0; usize::try_from(length.min(HEAD_BYTES)).unwrap_or(0)];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Some(hex::encode(Sha256::digest(&head)))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The configured path, for people who look into the state directory.
    pub path: PathBuf,
    /// The file it was.
    pub identity: Identity,
    /// The start of the first line not yet done with.
    pub offset: u64,
}

impl Checkpoint {
    /// There was no file: whatever comes is new.
    pub fn nothing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: Identity {
                dev: 0,
                ino: 0,
                head_bytes: 0,
                head_sha256: String::new(),
            },
            offset: 0,
        }
    }

    /// Whether there was a file.
    pub fn names_a_file(&self) -> bool {
        self.identity.ino != 0
    }
}

/// Where the files of a path with wildcards stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// The configured path.
    pub path: PathBuf,
    /// When the path was followed for the first time: what was written last before that is old.
    pub since: Timestamp,
    /// Each file that is followed.
    pub files: Vec<Checkpoint>,
}

/// What is kept of one configured path in the state directory.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
}

impl Store {
    /// The place in `state_dir` for the tail of `path`. The directory is made if need be.
    pub fn new(state_dir: &Path, path: &Path) -> Result<Self, IoError> {
        fs::create_dir_all(state_dir).at("create directory", state_dir)?;
        let key = hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        let short = key.get(..32).unwrap_or(&key);
        Ok(Self {
            file: state_dir.join(format!("{short}.json")),
        })
    }

    /// This very file.
    pub(in crate::trigger) fn at(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
        }
    }

    /// What was saved last; `None` when nothing was or when it cannot be understood.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, IoError> {
        match fs::read(&self.file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::new("read", &self.file, error)),
        }
    }

    /// Saves, so that after a crash there is the old one or the new one.
    pub fn save<T: Serialize>(&self, checkpoint: &T) -> Result<(), IoError> {
        let temporary = self.file.with_extension("new");
        let bytes = serde_json::to_vec(checkpoint).unwrap_or_default();
        let mut file = File::create(&temporary).at("create", &temporary)?;
        file.write_all(&bytes).at("write", &temporary)?;
        file.sync_data().at("fsync", &temporary)?;
        fs::rename(&temporary, &self.file).at("rename", &self.file)
    }
}
