//! Files that are whole after a power cut: written, synced, renamed, and their directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, IoError};
use crate::recorder::sync::{self, Site};

/// The name under which a file is written before it takes its own.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Replaces `path` with `content`: after a crash it holds the old content or the new, whole.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32, site: Site) -> Result<(), IoError> {
    put(path, content, mode, site)?;
    sync_parent(path, site)
}

/// The same, but until somebody syncs its directory, a crash may leave the old content.
pub(super) fn put(path: &Path, content: &[u8], mode: u32, site: Site) -> Result<(), IoError> {
    let tmp = temporary(path);
    write_synced(&tmp, content, mode, site)?;
    fs::rename(&tmp, path).at("rename", &tmp)
}

/// Writes a file anew and syncs it; its name is not yet durable.
pub(super) fn write_synced(
    path: &Path,
    content: &[u8],
    mode: u32,
    site: Site,
) -> Result<(), IoError> {
    let file = write(path, content, mode)?;
    sync::whole(&file, site).at("fsync", path)
}

/// Writes a file anew.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<File, IoError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(IoError::new("remove", path, error));
        }
        _ => {}
    }
    // create_new never follows a link somebody else put there.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .at("create", path)?;
    file.write_all(content).at("write", path)?;
    Ok(file)
}

/// Renames and makes the new name durable.
pub(super) fn rename(from: &Path, to: &Path, site: Site) -> Result<(), IoError> {
    fs::rename(from, to).at("rename", from)?;
    sync_parent(to, site)
}

/// Makes the names in `path`'s directory durable.
pub(super) fn sync_parent(path: &Path, site: Site) -> Result<(), IoError> {
    sync::folder(path.parent().unwrap_or(Path::new(".")), site)
}
