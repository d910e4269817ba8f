//! Who the processes run as and what they may do.
//!
//! The recorder keeps CAP_NET_RAW, because it opens interfaces again when they come back, and
//! nothing else. The server keeps nothing: what needs a right (sockets, files) is opened first.
//! All of this happens before any thread starts, because the kernel holds it per thread.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{Gid, Uid, getegid, geteuid};

use crate::error::{IoContext, IoError};
use crate::recorder::sync::make_folders;

/// A user by number, from the system's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
}

/// Who the server is when this process is root: `name`, or `nobody` if there is no such user.
pub fn server_user(name: &str) -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = find_user(&users, name).or_else(|| find_user(&users, "nobody"))?;
    (user.uid != 0).then_some(user)
}

fn find_user(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [user, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        (user == name).then_some(User {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

/// Groups that let the server read what administrators may read: log files and the journal.
fn log_groups() -> Vec<u32> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let ["adm" | "systemd-journal", _, gid, ..] = fields[..] else {
                return None;
            };
            gid.parse().ok()
        })
        .collect()
}

/// The first of `folders` that `user` could not reach or of `files` that it could not read.
pub fn unreachable_for(user: User, folders: &[PathBuf], files: &[PathBuf]) -> Option<PathBuf> {
    let groups: Vec<u32> = log_groups().into_iter().chain([user.gid]).collect();
    let access = Access { user, groups };
    let closed = |path: &&PathBuf| !access.reaches(path);
    let unreadable = |path: &&PathBuf| !access.reaches(path) || !access.may(path, READ);
    folders
        .iter()
        .find(closed)
        .or_else(|| files.iter().find(unreadable))
        .cloned()
}

const READ: u32 = 4;
const ENTER: u32 = 1;

/// What a user may do by the mode of files.
struct Access {
    user: User,
    groups: Vec<u32>,
}

impl Access {
    /// Whether every folder above `path` may be entered.
    fn reaches(&self, path: &Path) -> bool {
        let Ok(absolute) = std::path::absolute(path) else {
            return false;
        };
        absolute
            .ancestors()
            .skip(1)
            .all(|folder| self.may(folder, ENTER))
    }

    /// Whether the mode of `path` grants `what` (a bit of one octal digit). What is not there yet
    /// is made by us, or by someone who is asked then.
    fn may(&self, path: &Path, what: u32) -> bool {
        match fs::metadata(path) {
            Ok(metadata) => {
                let shift = if metadata.uid() == self.user.uid {
                    6
                } else if self.groups.contains(&metadata.gid()) {
                    3
                } else {
                    0
                };
                metadata.permissions().mode() & (what << shift) != 0
            }
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

/// What the server keeps in its state directory, by the beginning of its names. Nothing else there
/// is ever given away.
const SERVER_FILES: [&str; 13] = [
    "journal",
    "baselines",
    "tails",
    "lateness.",
    "drills.",
    "snmp-engine.",
    "accounts.",
    "sessions.",
    "links.",
    "notify.",
    "index.sqlite",
    "signing-key",
    "api.sock",
];

/// Folders that are not ours to share, however they are configured.
const SYSTEM: [&str; 10] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr",
];

/// Whether the server's user may be given a place in `state`: a folder of root's below a top-level
/// one, and none of the system's.
pub fn may_share(state: &Path) -> bool {
    let Ok(absolute) = std::path::absolute(state).and_then(|path| match fs::canonicalize(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(path),
        canonical => canonical,
    }) else {
        return false;
    };
    absolute.components().count() > 2 && !SYSTEM.iter().any(|system| absolute.starts_with(system))
}

/// Lets `user` keep its files in `state`: the folder becomes writable for its group, and sticky,
/// so that it cannot rename what others keep there. Files the server kept as another user become
/// its own.
pub fn give_state(state: &Path, user: User) -> Result<(), IoError> {
    make_folders(state, 0o777)?;
    let metadata = fs::metadata(state).at("stat", state)?;
    let shared = metadata.permissions().mode() & 0o1000 != 0 && metadata.gid() == user.gid;
    if !shared && metadata.uid() == 0 {
        std::os::unix::fs::chown(state, None, Some(user.gid)).at("chgrp", state)?;
        let mode = (metadata.permissions().mode() & 0o7777) | 0o1070;
        fs::set_permissions(state, fs::Permissions::from_mode(mode)).at("chmod", state)?;
    }
    give_server_files(state, user)
}

/// Gives files that root wrote into `state` (accounts, index) to the server that keeps its journal
/// there.
pub fn hand_to_server(state: &Path) -> Result<(), IoError> {
    let Ok(journal) = fs::metadata(state.join("journal")) else {
        return Ok(());
    };
    if !geteuid().is_root() || journal.uid() == 0 {
        return Ok(());
    }
    give_server_files(
        state,
        User {
            uid: journal.uid(),
            gid: journal.gid(),
        },
    )
}

fn give_server_files(state: &Path, user: User) -> Result<(), IoError> {
    for entry in fs::read_dir(state).at("list", state)?.flatten() {
        let name = entry.file_name();
        let ours = |prefix: &&str| name.to_str().is_some_and(|name| name.starts_with(*prefix));
        if SERVER_FILES.iter().any(ours) {
            give(&entry.path(), user)?;
        }
    }
    Ok(())
}

/// Gives a file or a folder of files to `user`. Symbolic links are not followed.
fn give(path: &Path, user: User) -> Result<(), IoError> {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).at("chown", path)?;
    let metadata = fs::symlink_metadata(path).at("stat", path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).at("list", path)?.flatten() {
            give(&entry.path(), user)?;
        }
    }
    Ok(())
}

/// Becomes `user`, with the groups that may read logs.
pub fn become_user(user: User) -> std::io::Result<()> {
    let groups: Vec<Gid> = log_groups()
        .into_iter()
        .chain([user.gid])
        .map(Gid::from_raw)
        .collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Joins the server's group, so that a recorder that is root can hand files to it without any
/// capability.
pub fn join_group(gid: u32) -> std::io::Result<()> {
    Ok(rustix::thread::set_thread_groups(&[
        getegid(),
        Gid::from_raw(gid),
    ])?)
}

/// Keeps only those of `keep` that this process has, and lets nothing it starts gain any.
pub fn keep_only(keep: &[Capability]) -> Result<(), caps::errors::CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    // Under a service manager that arranged all this, even asking may be forbidden.
    let ambient = caps::read(None, CapSet::Ambient)?;
    if held.iter().all(|cap| keep.contains(cap)) && ambient.is_empty() {
        forbid_new_privileges();
        return Ok(());
    }
    let wanted: CapsHashSet = keep
        .iter()
        .copied()
        .filter(|cap| held.contains(cap))
        .collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !wanted.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &wanted)?;
    caps::set(None, CapSet::Permitted, &wanted)?;
    forbid_new_privileges();
    Ok(())
}

fn forbid_new_privileges() {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        tracing::warn!(%error, "no_new_privs cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\nbad:x:y\n";
        assert_eq!(
            find_user(users, "nobody"),
            Some(User {
                uid: 65534,
                gid: 65533
            })
        );
        assert_eq!(find_user(users, "bad"), None);
    }

    #[test]
    fn a_closed_folder_above_and_a_private_file_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let stranger = User {
            uid: 61_234,
            gid: 61_234,
        };
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let path = dir.path().join("a/b");
        chmod(dir.path(), 0o700);
        assert!(unreachable_for(stranger, std::slice::from_ref(&path), &[]).is_some());
        chmod(dir.path(), 0o755);
        assert_eq!(unreachable_for(stranger, &[path], &[]), None);
        let file = dir.path().join("log");
        fs::write(&file, "x").unwrap();
        chmod(&file, 0o600);
        assert_eq!(
            unreachable_for(stranger, &[], std::slice::from_ref(&file)),
            Some(file.clone())
        );
        chmod(&file, 0o644);
        assert_eq!(unreachable_for(stranger, &[], &[file]), None);
    }

    #[test]
    fn what_is_not_ours_is_not_given_away() {
        for path in ["/", "/srv", "/etc/wirewitness", "/usr/share/x"] {
            assert!(!may_share(Path::new(path)), "{path}");
        }
        assert!(may_share(Path::new("/var/lib/wirewitness")));
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["accounts.json", "somebody-elses"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        give_state(
            dir.path(),
            User {
                uid: 61_234,
                gid: 61_234,
            },
        )
        .unwrap();
        let uid = |name: &str| fs::metadata(dir.path().join(name)).unwrap().uid();
        assert_eq!((uid("accounts.json"), uid("somebody-elses")), (61_234, 0));
    }
}
