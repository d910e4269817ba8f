//! On which file system a folder is, and whether ring and evidence are well kept there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks at the folders of ring and evidence, which exist; what is to be done when they cannot stay.
pub(super) fn check(ring: &Path, evidence: &Path) -> Result<String, String> {
    let device = |path: &Path| {
        let metadata =
            fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(metadata.dev())
    };
    if device(ring)? != device(evidence)? {
        return Err(format!(
            "{} and {} are on two file systems; freezing makes hard links from one to the other: put \
             evidence.path beside ring.path",
            ring.display(),
            evidence.display()
        ));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let real = fs::canonicalize(ring).map_err(|error| format!("{}: {error}", ring.display()))?;
    match kind_at(&mounts, &real) {
        Some(kind) => judge(kind).map_err(|why| format!("{}: {why}", ring.display())),
        None => Ok("not known".to_owned()),
    }
}

/// The type of the file system that holds `path`, by the kernel's list of mounts (proc(5)).
fn kind_at<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let at = unescaped(place.split(' ').nth(4)?);
        path.starts_with(&at)
            .then(|| Some((at.components().count(), kind.split(' ').next()?)))?
    });
    // Of several at one place, the last covers the others.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// Blanks and the like are written as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let named = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let plain = |text: String, (escape, meant): (&str, &str)| text.replace(escape, meant);
    named.into_iter().fold(text.to_owned(), plain).into()
}

fn judge(kind: &str) -> Result<String, String> {
    match kind {
        "ext4" | "xfs" => Ok(kind.to_owned()),
        "tmpfs" | "ramfs" => Ok(format!("{kind}: in memory, a power cut takes it all")),
        "vfat" | "msdos" | "exfat" => Err(format!(
            "{kind} has no hard links, and freezing makes them; use ext4 or XFS"
        )),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "afs" | "fuse.sshfs"
        | "fuse.glusterfs" => Err(format!(
            "{kind} is a network's: when the network fails, nothing is recorded; use a local disk"
        )),
        other => Ok(format!("{other}; power cuts were tried on ext4 and XFS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /run rw - tmpfs tmpfs rw
31 22 0:40 / /srv/the\\040share rw - nfs4 host:/x rw
32 22 8:1 / /srv/disk rw - ext4 /dev/sda1 rw
33 22 8:2 / /srv/disk rw - xfs /dev/sdb1 rw
";

    #[test]
    fn the_deepest_and_last_mount_above_a_folder_counts() {
        for (path, kind) in [
            ("/", "ext4"),
            ("/var/lib", "ext4"),
            ("/runs", "ext4"),
            ("/run/x", "tmpfs"),
            ("/srv/the share/ring", "nfs4"),
            ("/srv/disk/ring", "xfs"),
        ] {
            assert_eq!(kind_at(MOUNTS, Path::new(path)), Some(kind), "{path}");
        }
        assert_eq!(kind_at("nonsense\n\n1 2 - x", Path::new("/")), None);
    }

    #[test]
    fn what_cannot_hold_a_ring_is_refused_with_what_to_do() {
        assert_eq!(judge("xfs").unwrap(), "xfs");
        assert!(judge("btrfs").unwrap().contains("ext4"));
        assert!(judge("nfs4").unwrap_err().contains("local disk"));
        assert!(judge("exfat").unwrap_err().contains("hard links"));
    }

    #[test]
    fn this_machine_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!check(folder.path(), folder.path()).unwrap().is_empty());
        let said = check(folder.path(), Path::new("/proc")).unwrap_err();
        assert!(said.contains("two file systems"), "{said}");
    }
}
