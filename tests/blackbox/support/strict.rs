//! A file system that keeps what POSIX promises and no more: the content of a file after fsync(2) of
//! that file, the names in a folder after fsync(2) of that folder. ext4 and XFS keep more than that,
//! so that a sync that is missing goes unnoticed on them, and on the next file system does not.
//!
//! It lives in memory, is mounted over FUSE and remembers every change in order; `states.rs` makes of
//! that what a power cut could have left.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use wirewitness::time::Timestamp;

const BLOCK: u64 = 4096;
/// What statfs(2) says of its size.
const BLOCKS: u64 = (4 << 30) / BLOCK;
/// In such a folder what is new belongs to its group.
const SETGID: u16 = 0o2000;
const TTL: Duration = Duration::from_secs(1);

/// A change, or what makes changes last.
#[derive(Debug)]
pub(crate) enum Change {
    Write {
        ino: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Resize {
        ino: u64,
        len: usize,
    },
    /// Of a new file or folder, or of one more link.
    Named {
        folder: u64,
        name: OsString,
        ino: u64,
    },
    Unnamed {
        folder: u64,
        name: OsString,
    },
    /// From, to.
    Renamed {
        ino: u64,
        from: (u64, OsString),
        to: (u64, OsString),
    },
    /// The content of a file, or the names in a folder.
    Synced {
        ino: u64,
    },
    /// Put there by the test, after something was acknowledged.
    Mark(String),
}

impl Change {
    /// Whether it is of the names in a folder.
    pub(crate) fn is_name(&self) -> bool {
        matches!(
            self,
            Self::Named { .. } | Self::Unnamed { .. } | Self::Renamed { .. }
        )
    }
}

/// Everything that happened, in order, and what kind of file each number is, with its mode and
/// owner.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) changes: Vec<(Timestamp, Change)>,
    pub(crate) kinds: HashMap<u64, (FileType, u16, (u32, u32))>,
}

/// The root's number.
pub(crate) const ROOT: u64 = 1;

#[derive(Debug)]
struct Node {
    kind: FileType,
    mode: u16,
    owner: (u32, u32),
    links: u32,
    content: Vec<u8>,
    /// Each with a number that says where readdir(3) goes on, whatever came or went meanwhile.
    names: BTreeMap<OsString, (u64, u64)>,
    modified: SystemTime,
}

impl Node {
    fn new(kind: FileType, mode: u32) -> Self {
        Self {
            kind,
            mode: u16::try_from(mode & 0o7777).unwrap(),
            owner: (0, 0),
            links: 0,
            content: Vec::new(),
            names: BTreeMap::new(),
            modified: SystemTime::now(),
        }
    }
}

#[derive(Debug)]
struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    changes: Vec<(Timestamp, Change)>,
}

/// The file system, mounted as long as this lives.
pub(crate) struct Strict {
    tree: Arc<Mutex<Tree>>,
    session: BackgroundSession,
}

impl Strict {
    /// Mounts an empty one at `folder`.
    pub(crate) fn mount(folder: &Path) -> Self {
        let mut nodes = HashMap::new();
        nodes.insert(ROOT, Node::new(FileType::Directory, 0o755));
        let tree = Arc::new(Mutex::new(Tree {
            nodes,
            next: ROOT + 1,
            changes: Vec::new(),
        }));
        let served = Served(Arc::clone(&tree));
        let mut config = Config::default();
        // The server runs as a user of its own.
        config.acl = SessionACL::All;
        config.mount_options = vec![MountOption::DefaultPermissions];
        let session = fuser::spawn_mount(served, folder, &config).unwrap();
        Self { tree, session }
    }

    /// Notes that something was acknowledged by now.
    pub(crate) fn marker(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let tree = Arc::clone(&self.tree);
        move |text: &str| lock(&tree).log(Change::Mark(text.to_owned()))
    }

    /// Unmounts; nobody may use it any more.
    pub(crate) fn end(self) -> History {
        self.session.umount_and_join().unwrap();
        let mut tree = lock(&self.tree);
        let kind = |(ino, node): (&u64, &Node)| (*ino, (node.kind, node.mode, node.owner));
        History {
            kinds: tree.nodes.iter().map(kind).collect(),
            changes: std::mem::take(&mut tree.changes),
        }
    }
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap()
}

type Done<T> = Result<T, Errno>;

impl Tree {
    fn log(&mut self, change: Change) {
        self.changes.push((Timestamp::now(), change));
    }

    fn node(&self, ino: u64) -> Done<&Node> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, ino: u64) -> Done<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    fn find(&self, folder: u64, name: &OsStr) -> Done<u64> {
        let found = self.node(folder)?.names.get(name);
        found.map(|(ino, _)| *ino).ok_or(Errno::ENOENT)
    }

    /// Puts a name in, in place of any other.
    fn put(&mut self, folder: u64, name: &OsStr, ino: u64) -> Done<()> {
        self.next += 1;
        let entry = (ino, self.next);
        let old = self.node_mut(folder)?.names.insert(name.to_owned(), entry);
        if let Some((old, _)) = old {
            self.node_mut(old)?.links -= 1;
        }
        self.node_mut(ino)?.links += 1;
        Ok(())
    }

    fn take(&mut self, folder: u64, name: &OsStr) -> Done<u64> {
        let taken = self.node_mut(folder)?.names.remove(name);
        let (ino, _) = taken.ok_or(Errno::ENOENT)?;
        self.node_mut(ino)?.links -= 1;
        Ok(ino)
    }

    fn make(
        &mut self,
        asked: &Request,
        (folder, name): (u64, &OsStr),
        kind: FileType,
        mode: u32,
    ) -> Done<FileAttr> {
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let mut node = Node::new(kind, mode);
        node.owner = (asked.uid(), asked.gid());
        let above = self.node(folder)?;
        if above.mode & SETGID != 0 {
            node.owner.1 = above.owner.1;
            if kind == FileType::Directory {
                node.mode |= SETGID;
            }
        }
        self.next += 1;
        let ino = self.next;
        self.nodes.insert(ino, node);
        self.name(folder, name, ino)
    }

    fn name(&mut self, folder: u64, name: &OsStr, ino: u64) -> Done<FileAttr> {
        self.put(folder, name, ino)?;
        let name = name.to_owned();
        self.log(Change::Named { folder, name, ino });
        self.attributes(ino)
    }

    fn unname(&mut self, folder: u64, name: &OsStr, kind: fn(FileType) -> bool) -> Done<()> {
        let node = self.node(self.find(folder, name)?)?;
        if !kind(node.kind) {
            return Err(Errno::EISDIR);
        }
        if !node.names.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.take(folder, name)?;
        let name = name.to_owned();
        self.log(Change::Unnamed { folder, name });
        Ok(())
    }

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Done<()> {
        match self.find(to.0, to.1) {
            Ok(_) if flags.contains(RenameFlags::RENAME_NOREPLACE) => return Err(Errno::EEXIST),
            Ok(there) if !self.node(there)?.names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let ino = self.take(from.0, from.1)?;
        self.put(to.0, to.1, ino)?;
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.log(Change::Renamed { ino, from, to });
        Ok(())
    }

    fn write(&mut self, ino: u64, at: usize, bytes: &[u8]) -> Done<()> {
        let node = self.node_mut(ino)?;
        overwrite(&mut node.content, at, bytes);
        node.modified = SystemTime::now();
        let bytes = bytes.to_vec();
        self.log(Change::Write { ino, at, bytes });
        Ok(())
    }

    fn resize(&mut self, ino: u64, len: usize) -> Done<()> {
        self.node_mut(ino)?.content.resize(len, 0);
        self.log(Change::Resize { ino, len });
        Ok(())
    }

    fn attributes(&self, ino: u64) -> Done<FileAttr> {
        let node = self.node(ino)?;
        let size = node.content.len() as u64;
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind: node.kind,
            perm: node.mode,
            nlink: node.links,
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: u32::try_from(BLOCK).unwrap(),
            flags: 0,
        })
    }
}

/// Writes into `content`, with zeroes up to there where it is shorter.
pub(super) fn overwrite(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

struct Served(Arc<Mutex<Tree>>);

impl Served {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.0)
    }
}

fn empty(done: Done<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn entry(done: Done<FileAttr>, reply: ReplyEntry) {
    match done {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attributes(done: Done<FileAttr>, reply: ReplyAttr) {
    match done {
        Ok(attributes) => reply.attr(&TTL, &attributes),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.tree();
        let found = tree.find(parent.0, name);
        entry(found.and_then(|ino| tree.attributes(ino)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(self.tree().attributes(ino.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let done = (|| {
            let node = tree.node_mut(ino.0)?;
            if let Some(mode) = mode {
                node.mode = u16::try_from(mode & 0o7777).unwrap();
            }
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            if let Some(size) = size {
                tree.resize(ino.0, usize::try_from(size).unwrap())?;
            }
            tree.attributes(ino.0)
        })();
        attributes(done, reply);
    }

    fn mknod(
        &self,
        asked: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFSOCK => FileType::Socket,
            libc::S_IFREG => FileType::RegularFile,
            _ => return reply.error(Errno::EPERM),
        };
        let new = self.tree().make(asked, (parent.0, name), kind, mode);
        entry(new, reply);
    }

    fn mkdir(
        &self,
        asked: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let place = (parent.0, name);
        let new = self.tree().make(asked, place, FileType::Directory, mode);
        entry(new, reply);
    }

    fn create(
        &self,
        asked: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let place = (parent.0, name);
        let new = self.tree().make(asked, place, FileType::RegularFile, mode);
        match new {
            Ok(attributes) => reply.created(
                &TTL,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        if tree.find(parent.0, name).is_ok() {
            return reply.error(Errno::EEXIST);
        }
        entry(tree.name(parent.0, name, ino.0), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let file = |kind| kind != FileType::Directory;
        empty(self.tree().unname(parent.0, name, file), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let folder = |kind| kind == FileType::Directory;
        empty(self.tree().unname(parent.0, name, folder), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.tree().rename((parent.0, name), (to.0, to_name), flags);
        empty(done, reply);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree().node(ino.0) {
            Ok(node) => {
                let from = usize::try_from(offset).unwrap().min(node.content.len());
                let to = (from + size as usize).min(node.content.len());
                reply.data(&node.content[from..to]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let at = usize::try_from(offset).unwrap();
        match self.tree().write(ino.0, at, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.tree().log(Change::Synced { ino: ino.0 });
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.tree().log(Change::Synced { ino: ino.0 });
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let tree = self.tree();
        let Ok(node) = tree.node(ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let mut left: Vec<_> = node
            .names
            .iter()
            .filter(|(_, (_, place))| *place > offset)
            .collect();
        left.sort_by_key(|(_, (_, place))| *place);
        for (name, (ino, place)) in left {
            let kind = tree.nodes[ino].kind;
            if reply.add(INodeNo(*ino), *place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let bytes: usize = {
            let tree = self.tree();
            let named = tree.nodes.values().filter(|node| node.links > 0);
            named.map(|node| node.content.len()).sum()
        };
        let free = BLOCKS.saturating_sub(bytes as u64 / BLOCK);
        let block = u32::try_from(BLOCK).unwrap();
        reply.statfs(BLOCKS, free, free, 1 << 20, 1 << 19, block, 255, block);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let end = usize::try_from(offset + length).unwrap();
        let mut tree = self.tree();
        let done = match tree.node(ino.0) {
            // There is always room.
            Ok(node) if mode & libc::FALLOC_FL_KEEP_SIZE != 0 || node.content.len() >= end => {
                Ok(())
            }
            Ok(_) => tree.resize(ino.0, end),
            Err(errno) => Err(errno),
        };
        empty(done, reply);
    }
}
