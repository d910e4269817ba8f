//! Opens interfaces and savefiles, always in the same way.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use pcap::{Active, Capture, Offline, Precision};

use crate::pcapng::encode::{Interface, Section, interface, section_header};
use crate::recorder::config::{CaptureConfig, RingConfig};
use crate::recorder::socket;

/// How long the kernel holds back a block that is not full, so that a quiet link costs few wakes.
pub const BLOCK_TIMEOUT: Duration = Duration::from_millis(10);

/// Where packets come from and what is kept of them.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// pcap-filter(7).
    pub filter: String,
    /// Bytes kept of each packet.
    pub snaplen: u32,
    /// Bytes of the kernel's buffer.
    pub buffer_bytes: u64,
    /// Promiscuous mode.
    pub promiscuous: bool,
    /// How often to put packets on disk.
    pub sync: Duration,
    /// Read this savefile instead of the interface.
    pub replay: Option<Replay>,
}

/// A savefile to be played through the same path.
#[derive(Debug, Clone)]
pub struct Replay {
    /// pcap or pcapng.
    pub file: PathBuf,
    /// Keep the time between packets instead of reading as fast as possible.
    pub pace: bool,
}

impl CaptureOptions {
    /// As configured.
    pub fn new(capture: &CaptureConfig, ring: &RingConfig, replay: Option<Replay>) -> Self {
        Self {
            filter: capture.filter.clone(),
            snaplen: capture.snaplen,
            buffer_bytes: capture.buffer.as_u64(),
            promiscuous: capture.promiscuous,
            sync: ring.sync,
            replay,
        }
    }

    /// The same with the least effect on the machine: to see whether an interface opens.
    #[must_use]
    pub fn for_a_look(self) -> Self {
        Self {
            buffer_bytes: 1 << 20,
            promiscuous: false,
            ..self
        }
    }
}

/// Opens an interface as every capture is opened. The error is a sentence for people.
pub fn open_live(name: &str, options: &CaptureOptions) -> Result<Capture<Active>, String> {
    let describe = |error: pcap::Error| describe_open_error(name, &error.to_string());
    let buffer = i32::try_from(options.buffer_bytes).unwrap_or(i32::MAX);
    let timeout = i32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(10);
    let mut capture = Capture::from_device(name)
        .map_err(describe)?
        .snaplen(i32::try_from(options.snaplen).unwrap_or(262_144))
        .buffer_size(buffer)
        .promisc(options.promiscuous)
        .timeout(timeout)
        .precision(Precision::Nano)
        .open()
        .map_err(describe)?
        .setnonblock()
        .map_err(describe)?;
    if is_loopback(name) {
        let fd = capture.as_raw_fd();
        ignore_outgoing(fd).map_err(|error| format!("{name}: PACKET_IGNORE_OUTGOING: {error}"))?;
    }
    if !options.filter.is_empty() {
        capture
            .filter(&options.filter, true)
            .map_err(|error| format!("capture.filter {:?}: {error}", options.filter))?;
    }
    Ok(capture)
}

#[expect(unsafe_code, reason = "libpcap hands out its descriptor as a number")]
fn ignore_outgoing(fd: std::os::fd::RawFd) -> std::io::Result<()> {
    // SAFETY: the caller holds the capture that owns the descriptor for the whole call.
    socket::ignore_outgoing(unsafe { BorrowedFd::borrow_raw(fd) })
}

pub(super) fn is_loopback(name: &str) -> bool {
    // ARPHRD_LOOPBACK is 772.
    std::fs::read_to_string(format!("/sys/class/net/{name}/type")).is_ok_and(|t| t.trim() == "772")
}

/// libpcap's words, and what to do when they mean a missing capability.
fn describe_open_error(name: &str, error: &str) -> String {
    let denied = ["permission", "Permission", "not permitted"]
        .iter()
        .any(|word| error.contains(word));
    if !denied {
        return format!("{name}: {error}");
    }
    let binary = std::env::current_exe().unwrap_or_else(|_| "wirewitness".into());
    format!(
        "{name}: no permission to capture ({error}); the recorder needs CAP_NET_RAW: run it as root, \
         through its systemd unit, or once: sudo setcap cap_net_raw+ep {}",
        binary.display()
    )
}

/// Opens a savefile with its timestamps in nanoseconds. The error is a sentence for people.
pub fn open_savefile(replay: &Replay, filter: &str) -> Result<Capture<Offline>, String> {
    let describe = |error: pcap::Error| format!("{}: {error}", replay.file.display());
    let mut capture =
        Capture::from_file_with_precision(&replay.file, Precision::Nano).map_err(describe)?;
    if !filter.is_empty() {
        capture
            .filter(filter, true)
            .map_err(|e| format!("capture.filter {filter:?}: {e}"))?;
    }
    Ok(capture)
}

/// SHB and IDB of every segment of an interface.
pub fn segment_header(name: &str, linktype: i32, options: &CaptureOptions) -> Vec<u8> {
    let uname = rustix::system::uname();
    let os = format!(
        "{} {}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy()
    );
    let application = concat!("wirewitness ", env!("CARGO_PKG_VERSION"));
    let mut header = Vec::new();
    let hardware = uname.machine().to_string_lossy();
    section_header(
        &mut header,
        &Section {
            hardware: &hardware,
            os: &os,
            application,
            comments: &[],
        },
    );
    interface(
        &mut header,
        &Interface {
            linktype: linktype_of(linktype),
            snaplen: options.snaplen,
            name,
            description: "",
            filter: &options.filter,
            os: &os,
        },
    );
    header
}

/// The LINKTYPE_ value of a DLT_ value: the same number for all that Linux has, but raw IP, whose
/// DLT_ number differs between systems.
fn linktype_of(dlt: i32) -> u16 {
    const DLT_RAW: i32 = 12;
    const LINKTYPE_RAW: u16 = 101;
    if dlt == DLT_RAW {
        LINKTYPE_RAW
    } else {
        u16::try_from(dlt).unwrap_or(0)
    }
}
