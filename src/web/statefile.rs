//! A small JSON file that several processes change: locked while it is changed, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{IoContext, IoError};

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file is not what we write. It is left as it is: overwriting it could lose accounts.
    #[error("{} is damaged: {why}; restore it from a backup or move it away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: serde_json::Error,
    },
}

/// Tells one version of a file from another.
pub(super) type Stamp = Option<(u64, u64, i64, i64)>;

/// A JSON file in the state directory.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(super) fn new(state_dir: &Path, name: &str) -> Self {
        Self {
            path: state_dir.join(name),
        }
    }

    /// Inode, size and time of the present version; `None` when there is no file.
    pub(super) fn stamp(&self) -> Stamp {
        let meta = fs::metadata(&self.path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    }

    /// What the file holds; the default when there is none.
    pub(super) fn read<T: DeserializeOwned + Default>(&self) -> Result<T, FileError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|why| FileError::Damaged {
                path: self.path.clone(),
                why,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(IoError::new("read", &self.path, error).into()),
        }
    }

    /// Changes what the file holds while no other process does.
    pub(super) fn change<T, R, E>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Serialize + DeserializeOwned + Default,
        E: From<FileError>,
    {
        let _lock = self.lock().map_err(FileError::from)?;
        let mut held = self.read::<T>()?;
        let result = change(&mut held)?;
        self.replace(&held)?;
        Ok(result)
    }

    /// The lock lies in a file of its own, because the file itself is replaced.
    fn lock(&self) -> Result<File, IoError> {
        let path = self.path.with_extension("lock");
        let file = open_private(&path).at("open", &path)?;
        self.give_to_server(&file)?;
        file.lock().at("lock", &path)?;
        Ok(file)
    }

    fn replace<T: Serialize>(&self, held: &T) -> Result<(), FileError> {
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(IoError::new("remove", &new, error).into());
            }
            _ => {}
        }
        let text = serde_json::to_vec_pretty(held).map_err(|why| FileError::Damaged {
            path: self.path.clone(),
            why,
        })?;
        let mut file = open_private(&new).at("create", &new)?;
        self.give_to_server(&file)?;
        file.write_all(&text).at("write", &new)?;
        file.sync_all().at("fsync", &new)?;
        fs::rename(&new, &self.path).at("rename", &self.path)?;
        let directory = self.directory();
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .at("fsync", directory)?;
        Ok(())
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Root changes accounts on the command line; the server, which may be another user, must
    /// still be able to read them. It is the one that keeps the journal here, or, before there is
    /// one, the owner of the directory.
    fn give_to_server(&self, file: &File) -> Result<(), IoError> {
        let directory = self.directory();
        let owner = fs::metadata(directory.join("journal"))
            .or_else(|_| fs::metadata(directory))
            .at("stat", directory)?;
        let mine = file.metadata().at("stat", &self.path)?;
        if rustix::process::geteuid().is_root() && mine.uid() != owner.uid() {
            std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
                .at("chown", &self.path)?;
        }
        Ok(())
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}
