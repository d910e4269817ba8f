//! Errors of the outside world that always name the operation and the path.

use std::io;
use std::path::{Path, PathBuf};

/// An I/O error with what was tried and where.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct IoError {
    /// What was tried, as a verb: `open`, `write`, `fsync`.
    pub op: &'static str,
    /// The file, directory or socket it was tried on.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// Wraps `source` with its operation and path.
    pub fn new(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            op,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the disk is full (ENOSPC), or what of it is ours (EDQUOT).
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Adds operation and path to an [`io::Result`].
pub trait IoContext<T> {
    /// Names the operation and the path of an error.
    fn at(self, op: &'static str, path: &Path) -> Result<T, IoError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, IoError> {
        self.map_err(|source| IoError::new(op, path, source))
    }
}

impl<T> IoContext<T> for Result<T, rustix::io::Errno> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, IoError> {
        self.map_err(|errno| IoError::new(op, path, errno.into()))
    }
}
