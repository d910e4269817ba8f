//! What sysfs says of a network interface. The files are kept open between looks: to open one costs
//! several times what reading it does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::recorder::open::is_loopback;

/// Room for what such a file holds: a number.
const NUMBER_BYTES: usize = 64;
/// IFF_UP, netdevice(7).
const UP: u64 = 1;

/// The files of one interface. They stay those of the device that had the name when they were opened.
#[derive(Debug)]
pub(super) struct Device {
    flags: Number,
    missed: Number,
    fifo: Number,
    over: Number,
    received: Number,
    /// None on loopback, where what is sent is received as well.
    sent: Number,
}

impl Device {
    /// Opens the files of the interface that has this name now.
    pub(super) fn open(name: &str) -> Self {
        let statistic = |counter: &str| Number::open(name, &format!("statistics/{counter}"));
        Self {
            flags: Number::open(name, "flags"),
            missed: statistic("rx_missed_errors"),
            fifo: statistic("rx_fifo_errors"),
            over: statistic("rx_over_errors"),
            received: statistic("rx_packets"),
            sent: if is_loopback(name) {
                Number(None)
            } else {
                statistic("tx_packets")
            },
        }
    }

    /// Whether it is up (IFF_UP). One whose flags cannot be read is taken to be up.
    pub(super) fn is_up(&self) -> bool {
        self.flags.read().is_none_or(|flags| flags & UP != 0)
    }

    /// What the driver says the card had no room for. Some drivers count an overflow under both of
    /// the latter names, so the greater counts. Not `rx_dropped`: that is of the kernel behind us as
    /// well, and holds frames that nobody but us wanted.
    pub(super) fn drops(&self) -> u64 {
        let overflow = self.fifo.count().max(self.over.count());
        self.missed.count().saturating_add(overflow)
    }

    /// Packets that passed the interface where we look: received, and sent, which on loopback are the
    /// same ones.
    pub(super) fn packets(&self) -> u64 {
        self.received.count().saturating_add(self.sent.count())
    }
}

/// A file that holds a number.
#[derive(Debug)]
struct Number(Option<File>);

impl Number {
    fn open(name: &str, file: &str) -> Self {
        Self(File::open(format!("/sys/class/net/{name}/{file}")).ok())
    }

    /// The number now; none where the file or its device is gone.
    fn read(&self) -> Option<u64> {
        let mut bytes = [0; NUMBER_BYTES];
        let len = self.0.as_ref()?.read_at(&mut bytes, 0).ok()?;
        parse(bytes.get(..len)?)
    }

    fn count(&self) -> u64 {
        self.read().unwrap_or(0)
    }
}

/// A decimal number, or one in hexadecimal with `0x` before it, and the end of the line.
fn parse(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_sysfs_writes_them() {
        assert_eq!(parse(b"18446744073709551615\n"), Some(u64::MAX));
        assert_eq!(parse(b"0x1003\n"), Some(0x1003));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"-1\n"), None);
        assert_eq!(parse(b"\xff\n"), None);
    }

    #[test]
    fn an_open_file_says_the_number_of_now() {
        let lo = Device::open("lo");
        let before = lo.packets();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .send_to(b"one more", socket.local_addr().unwrap())
            .unwrap();
        assert!(lo.is_up());
        assert!(lo.packets() > before);
    }

    #[test]
    fn an_interface_that_is_not_there_has_counted_nothing() {
        let none = Device::open("no-such-interface");
        assert_eq!((none.drops(), none.packets()), (0, 0));
        assert!(none.is_up(), "nothing says that it is down");
    }
}
