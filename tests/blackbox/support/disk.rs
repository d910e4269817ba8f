//! Disks that lose power and disks that fail: file systems on loop devices, and under them, where
//! asked for, an image served over FUSE that logs every write and obeys orders to fail.
//!
//! A mounted file system is pinned by every copy of its mount namespace, and `ip netns exec` makes
//! one; so everything here happens on a thread with mounts of its own ([`with_own_mounts`]), which
//! no other test's child can copy.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite,
    Request, WriteFlags,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{run, wait_for};

/// Runs `work` on a thread with mounts of its own, which go when it ends.
pub(crate) fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            own_mounts();
            work()
        });
        thread.join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[expect(unsafe_code, reason = "unshare(2)")]
fn own_mounts() {
    // SAFETY: descriptors stay shared; mounts and the working directory, which nothing here uses,
    // become this thread's and its children's own.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    run(Command::new("mount").args(["--make-rprivate", "/"]));
}

/// A file system that survives a power cut by a journal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// What a disk writes whole or not at all, in bytes. XFS takes a block of metadata whose first
    /// 512 bytes made it for whole (recovery goes by the sequence number in them), so that it asks
    /// for disks that write 4 KiB at once; torn at 512 it refused to mount in 2 of 206 states.
    pub(crate) fn atom(self) -> usize {
        match self {
            Self::Ext4 => 512,
            Self::Xfs => 4096,
        }
    }

    /// Makes one in a new file of `bytes`.
    pub(crate) fn make(self, image: &Path, bytes: u64) {
        File::create(image).unwrap().set_len(bytes).unwrap();
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext4 => command.args(["-q", "-F", "-E", "lazy_itable_init=0"]),
            Self::Xfs => command.args(["-q", "-f"]),
        };
        run(command.arg(image));
    }
}

/// Does what an administrator does where the kernel refuses ext4 for its superblock, which is two
/// sectors and may be torn between them: e2fsck takes one of its copies. False where that is not it.
pub(crate) fn mend_superblock(image: &Path, refusal: &str) -> bool {
    let last = refusal.lines().last().unwrap_or_default();
    if !last.contains("invalid superblock checksum") {
        return false;
    }
    let mut command = Command::new("e2fsck");
    let output = command.args(["-f", "-y"]).arg(image).output().unwrap();
    // 1: errors were corrected.
    matches!(output.status.code(), Some(0 | 1))
}

/// A file system mounted from a file.
pub(crate) struct Disk {
    image: PathBuf,
    at: PathBuf,
    device: Option<String>,
}

impl Disk {
    /// Mounts `image` at the folder `at`; what is wrong when that fails.
    pub(crate) fn mount(image: &Path, at: &Path) -> Result<Self, String> {
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image));
        let device = device.trim().to_owned();
        let mounted = Command::new("mount").arg(&device).arg(at).output().unwrap();
        // From here on the device goes when nobody uses it any more.
        run(Command::new("losetup").args(["--detach", &device]));
        let mut disk = Self {
            image: image.to_owned(),
            at: at.to_owned(),
            device: Some(device.clone()),
        };
        if mounted.status.success() {
            return Ok(disk);
        }
        let name = device.trim_start_matches("/dev/").to_owned();
        disk.wait_detached();
        // The kernel says why.
        let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
        let log = run(&mut Command::new("dmesg"));
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&name)).collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        Err(format!("{said}{}", last.join("\n")))
    }

    /// Takes the power: nothing that is not on the medium yet gets there any more.
    pub(crate) fn cut(&self) {
        run(Command::new("xfs_io")
            .args(["-x", "-c", "shutdown"])
            .arg(&self.at));
    }

    /// Unmounts, once the last process that had it open is gone.
    pub(crate) fn unmount(mut self) {
        wait_for("the disk to be free", || {
            let output = Command::new("umount").arg(&self.at).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        });
        self.wait_detached();
    }

    /// A device that is still held would be handed out with its old content.
    fn wait_detached(&mut self) {
        let Some(device) = self.device.take() else {
            return;
        };
        let name = device.trim_start_matches("/dev/");
        let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
        wait_for("the loop device to be free", || {
            match fs::read_to_string(&backing) {
                Ok(file) if Path::new(file.trim()) == self.image => Err(file),
                _ => Ok(()),
            }
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.device.take().is_some() {
            // A test failed; processes that are not ended yet keep it until they are.
            drop(
                Command::new("umount")
                    .args(["--lazy".as_ref(), self.at.as_os_str()])
                    .output(),
            );
        }
    }
}

/// Something that reached the device, or was said to have.
#[derive(Debug, Clone)]
pub(crate) enum Logged {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Flush,
    /// Put there by the test, after something was acknowledged.
    Mark(String),
}

/// An image served by a process of its own.
pub(crate) struct Device {
    folder: PathBuf,
    server: Child,
}

const IMAGE: &str = "image";
const CONTROL: &str = "control";
const ENV_IMAGE: &str = "WW_TEST_DISK_IMAGE";
const ENV_LOG: &str = "WW_TEST_DISK_LOG";
const ENV_MOUNT: &str = "WW_TEST_DISK_MOUNT";

impl Device {
    /// Serves `image` in the folder `at`; what reaches it is logged to `log`.
    pub(crate) fn serve(image: &Path, at: &Path, log: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "support::disk::serves_a_disk", "--ignored"])
            .env(ENV_IMAGE, image)
            .env(ENV_MOUNT, at)
            .env(ENV_LOG, log.map_or(OsStr::new(""), Path::as_os_str))
            // It ends when this pipe is closed, so it never outlives its test.
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let device = Self {
            folder: at.to_owned(),
            server: command.spawn().unwrap(),
        };
        wait_for("the disk to be served", || {
            let found = device.image().exists();
            found.then_some(()).ok_or_else(|| "it is not".to_owned())
        });
        device
    }

    /// What a loop device is to be put on.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// Gives an order: `ok`, `eio`, `eio-packets`, `enospc-packets`, `torn-packets`, `slow MS`,
    /// `rate BYTES`, `hang MS`, `mark TEXT`.
    pub(crate) fn order(&self, order: &str) {
        let control = File::options()
            .write(true)
            .open(self.folder.join(CONTROL))
            .unwrap();
        let written = (&control).write(order.as_bytes()).unwrap();
        assert_eq!(written, order.len());
    }

    /// Ends; the log is whole then.
    pub(crate) fn end(mut self) {
        run(Command::new("umount").arg(&self.folder));
        // wait() would close the pipe, and end it before it has written the log.
        let pipe = self.server.stdin.take();
        assert!(self.server.wait().unwrap().success());
        drop(pipe);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
        drop(
            Command::new("umount")
                .args(["--lazy".as_ref(), self.folder.as_os_str()])
                .output(),
        );
    }
}

/// Reads a device's log.
pub(crate) fn read_log(path: &Path) -> Vec<Logged> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(13);
        let length = u32::from_le_bytes(head[1..5].try_into().unwrap()) as usize;
        let at = u64::from_le_bytes(head[5..13].try_into().unwrap());
        let (body, tail) = tail.split_at(length);
        found.push(match head[0] {
            b'w' => Logged::Write {
                at,
                bytes: body.to_vec(),
            },
            b'f' => Logged::Flush,
            _ => Logged::Mark(String::from_utf8(body.to_vec()).unwrap()),
        });
        rest = tail;
    }
    found
}

/// How the device behaves.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Every write fails.
    Refuse,
    /// Writes of packets fail with this, all others pass: bad blocks under the segments.
    RefusePackets(i32),
    /// Half of a write of packets gets there, then it fails.
    Torn,
    /// Every write takes this long.
    Slow(Duration),
    /// So many bytes pass in a second.
    Rate(u32),
    /// Nothing passes until then.
    Hang(Instant),
}

impl Fault {
    fn parse(order: &str) -> Self {
        let (word, number) = order.split_once(' ').unwrap_or((order, "0"));
        let number: u32 = number.parse().unwrap();
        let span = Duration::from_millis(number.into());
        match word {
            "eio" => Self::Refuse,
            "eio-packets" => Self::RefusePackets(rustix::io::Errno::IO.raw_os_error()),
            "enospc-packets" => Self::RefusePackets(rustix::io::Errno::NOSPC.raw_os_error()),
            "torn-packets" => Self::Torn,
            "slow" => Self::Slow(span),
            "rate" => Self::Rate(number),
            "hang" => Self::Hang(Instant::now() + span),
            "ok" => Self::None,
            other => panic!("{other:?} is no order"),
        }
    }
}

struct Served {
    image: File,
    log: Option<Mutex<BufWriter<File>>>,
    fault: Mutex<Fault>,
}

impl Served {
    fn log(&self, kind: u8, at: u64, bytes: &[u8]) {
        let Some(log) = &self.log else { return };
        let mut log = log.lock().unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        log.write_all(&[kind]).unwrap();
        log.write_all(&length.to_le_bytes()).unwrap();
        log.write_all(&at.to_le_bytes()).unwrap();
        log.write_all(bytes).unwrap();
    }

    /// Waits as ordered; how many of the bytes get through, and whether the write fails.
    fn admit(&self, bytes: &[u8]) -> (usize, Result<(), Errno>) {
        let fault = *self.fault.lock().unwrap();
        let eio = Err(Errno::EIO);
        // The pauses are what is injected.
        match fault {
            Fault::Refuse => return (0, eio),
            Fault::RefusePackets(errno) if holds_packets(bytes) => {
                return (0, Err(Errno::from_i32(errno)));
            }
            Fault::Torn if holds_packets(bytes) => return (bytes.len() / 2 / 512 * 512, eio),
            Fault::None | Fault::RefusePackets(_) | Fault::Torn => {}
            Fault::Slow(span) => std::thread::sleep(span),
            Fault::Rate(rate) => {
                let seconds = bytes.len() as f64 / f64::from(rate);
                std::thread::sleep(Duration::from_secs_f64(seconds));
            }
            Fault::Hang(until) => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
        }
        (bytes.len(), Ok(()))
    }

    fn take(&self, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (passed, verdict) = self.admit(bytes);
        let passed = &bytes[..passed];
        if !passed.is_empty() {
            self.image
                .write_all_at(passed, at)
                .map_err(|_| Errno::EIO)?;
            self.log(b'w', at, passed);
        }
        verdict
    }

    fn obey(&self, order: &str) {
        match order.strip_prefix("mark ") {
            Some(text) => self.log(b'm', 0, text.as_bytes()),
            None => *self.fault.lock().unwrap() = Fault::parse(order.trim()),
        }
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let folder = ino == INodeNo::ROOT;
        let size = match u64::from(ino) {
            2 => self.image.metadata().unwrap().len(),
            _ => 0,
        };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if folder {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: if folder { 0o755 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// Whether a write is one of numbered packets: a segment's, not the file system's own.
fn holds_packets(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4096)];
    head.windows(8).any(|eight| eight == b"WWNUMBER")
}

const TTL: Duration = Duration::from_secs(1);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = match name.to_str() {
            Some(IMAGE) => INodeNo(2),
            Some(CONTROL) => INodeNo(3),
            _ => return reply.error(Errno::ENOENT),
        };
        reply.entry(&TTL, &self.attributes(ino), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
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
        if u64::from(ino) != 2 {
            return reply.data(&[]);
        }
        let fault = *self.fault.lock().unwrap();
        if let Fault::Hang(until) = fault {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        let mut bytes = vec![0; size as usize];
        match self.image.read_at(&mut bytes, offset) {
            Ok(read) => reply.data(&bytes[..read]),
            Err(_) => reply.error(Errno::EIO),
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
        let done = if u64::from(ino) == 2 {
            self.take(offset, data)
        } else {
            self.obey(std::str::from_utf8(data).unwrap());
            Ok(())
        };
        match done {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.admit(&[]).1 {
            Ok(()) => {
                self.log(b'f', 0, &[]);
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }
}

/// Not a test: the process behind [`Device::serve`], which runs this very program.
#[test]
#[ignore = "the process that serves a disk to other tests"]
fn serves_a_disk() {
    let Some(image) = std::env::var_os(ENV_IMAGE) else {
        return;
    };
    let log = std::env::var_os(ENV_LOG).filter(|path| !path.is_empty());
    let image = File::options().read(true).write(true).open(image).unwrap();
    let served = Served {
        image,
        log: log.map(|path| Mutex::new(BufWriter::new(File::create(path).unwrap()))),
        fault: Mutex::new(Fault::None),
    };
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::abort();
    });
    let folder = std::env::var_os(ENV_MOUNT).unwrap();
    fuser::mount(served, Path::new(&folder), &Config::default()).unwrap();
}
