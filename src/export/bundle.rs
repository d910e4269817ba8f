//! An incident's folder as a tar.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::error::{IoContext, IoError};
use crate::ring::reader;

/// How deep folders lie in an incident's: `segments/<interface>/`.
const DEPTH_MAX: usize = 4;

/// Writes the folder `dir` as a tar in which everything lies below `name`, in order of the names,
/// small files before folders, so that the manifest comes first. Links and special files are left
/// out; a file that grows meanwhile is taken as long as it was found.
pub fn bundle(dir: &Path, name: &str, out: &mut impl Write) -> Result<(), IoError> {
    let mut archive = tar::Builder::new(out);
    add_folder(&mut archive, dir, Path::new(name), DEPTH_MAX)?;
    archive
        .into_inner()
        .and_then(Write::flush)
        .at("write the bundle of", dir)
}

fn add_folder<W: Write>(
    archive: &mut tar::Builder<W>,
    dir: &Path,
    below: &Path,
    depth: usize,
) -> Result<(), IoError> {
    let (mut files, mut folders): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let kind = entry.file_type().at("stat", &entry.path())?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() {
            folders.push(entry.path());
        }
    }
    files.sort_unstable();
    folders.sort_unstable();
    for path in files {
        let file = match reader::open(&path) {
            // A temporary file got its final name since the listing.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        add_file(
            archive,
            file,
            &below.join(path.file_name().unwrap_or_default()),
        )
        .at("bundle", &path)?;
    }
    if depth > 0 {
        for path in folders {
            let below = below.join(path.file_name().unwrap_or_default());
            add_folder(archive, &path, &below, depth - 1)?;
        }
    }
    Ok(())
}

fn add_file<W: Write>(archive: &mut tar::Builder<W>, file: File, name: &Path) -> io::Result<()> {
    let metadata = file.metadata()?;
    let modified = metadata
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(metadata.len());
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified.as_secs());
    // A file that shrank would shift all that follows; `take` and the check keep the frame.
    let mut source = Counted {
        file: file.take(metadata.len()),
        read: 0,
    };
    archive.append_data(&mut header, name, &mut source)?;
    if source.read == metadata.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file shrank while it was read",
        ))
    }
}

struct Counted<R> {
    file: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}
