//! Where a live capture's packets come from: the kernel's buffer, walked by ourselves where that is
//! enough, by libpcap elsewhere.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use pcap::{Active, Capture, Linktype};

use crate::recorder::blocks::Blocks;
use crate::recorder::capture::{BATCH, take};
use crate::recorder::open::{BLOCK_TIMEOUT, CaptureOptions, descriptor, is_loopback};
use crate::recorder::socket;
use crate::recorder::writer::SlotWriter;

/// An open capture.
pub(super) struct Source {
    packets: Packets,
    name: String,
    index: u32,
    /// Whether the socket had something to say since packets were looked for.
    signalled: bool,
    /// When the interface was found to be down, until packets come again.
    down: Option<Instant>,
}

/// Who goes from packet to packet.
enum Packets {
    Walked(Blocks),
    Libpcap(Capture<Active>),
}

impl Source {
    /// Of the interface `name` with this index. Nobody else reads the packets of `capture` any more.
    pub(super) fn new(
        capture: Capture<Active>,
        name: &str,
        index: u32,
        options: &CaptureOptions,
    ) -> Self {
        Self {
            packets: walk(capture, name, options),
            name: name.to_owned(),
            index,
            signalled: false,
            down: None,
        }
    }

    fn capture(&self) -> &Capture<Active> {
        match &self.packets {
            Packets::Walked(blocks) => blocks.capture(),
            Packets::Libpcap(capture) => capture,
        }
    }

    /// The DLT_ value of its packets.
    pub(super) fn linktype(&self) -> i32 {
        self.capture().get_datalink().0
    }

    /// Its socket.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        descriptor(self.capture())
    }

    /// Says whether the socket spoke up.
    pub(super) fn signalled(&mut self, signalled: bool) {
        self.signalled = signalled;
    }

    /// Takes packets out of the buffer; how many, 0 when there are none now. The error says why
    /// there will be no more.
    #[inline]
    pub(super) fn take(&mut self, writer: &mut SlotWriter) -> Result<usize, String> {
        let taken = match &mut self.packets {
            Packets::Walked(blocks) => walked(blocks, writer),
            Packets::Libpcap(capture) => {
                let taken = capture.dispatch(Some(BATCH), |packet| take(writer, &packet));
                writer.publish();
                return taken.map_err(|error| format!("libpcap: {error}"));
            }
        };
        if taken == 0 && std::mem::take(&mut self.signalled) {
            self.hear_errors()?;
        }
        if let Some(since) = self.down {
            self.check_name()?;
            // What is younger than the last block of before came over a link that is up.
            if taken > 0 && since.elapsed() > 3 * BLOCK_TIMEOUT {
                self.down = None;
            }
        }
        Ok(taken)
    }

    /// The socket spoke up, and it was not for a packet.
    fn hear_errors(&mut self) -> Result<(), String> {
        match socket::take_error(self.socket()) {
            // It may come up again.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                self.down = Some(Instant::now());
            }
            Err(error) => return Err(format!("packet socket: {error}")),
            Ok(()) => {}
        }
        Ok(())
    }

    /// An interface that lost its name while it was down is another one, as libpcap sees it too.
    fn check_name(&self) -> Result<(), String> {
        if socket::interface_index(&self.name) == Some(self.index) {
            return Ok(());
        }
        Err("the interface went down, and its name is gone".to_owned())
    }
}

/// Takes the blocks that are ready, up to the one in which a batch is full; how many packets. The kernel
/// has a block back when its packets would survive us.
#[inline]
fn walked(blocks: &mut Blocks, writer: &mut SlotWriter) -> usize {
    let mut taken = 0;
    while taken < BATCH {
        let Some(count) = blocks.take(|at, wire, data| writer.packet(at, wire, data)) else {
            break;
        };
        writer.publish();
        blocks.give_back();
        taken += count;
    }
    taken
}

/// The buffer, where there is nothing in it but what is to be recorded, as it is: Ethernet, no filter
/// that libpcap might have to apply itself, no loopback, of which it leaves packets out.
fn walk(capture: Capture<Active>, name: &str, options: &CaptureOptions) -> Packets {
    let plain = capture.get_datalink() == Linktype::ETHERNET
        && options.filter.is_empty()
        && !is_loopback(name);
    if !plain {
        return Packets::Libpcap(capture);
    }
    match Blocks::new(capture, options.snaplen) {
        Ok(blocks) => Packets::Walked(blocks),
        Err((capture, error)) => {
            tracing::info!(interface = name, %error, "libpcap walks the kernel's buffer");
            Packets::Libpcap(capture)
        }
    }
}
