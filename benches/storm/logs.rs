//! Log lines by UDP, TCP or a file, one in a thousand of them about a fault.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::pace::{Pace, own_cpu};
use crate::site::{LOG, SYSLOG, Site, Told};
use crate::{Fallible, stop};

/// One line in so many matches a rule.
const FAULT_EVERY: u64 = 1000;
/// Lines handed over at once.
const BATCH: u64 = 64;
/// How long it takes until all that arrived is counted.
const SETTLE: Duration = Duration::from_secs(20);

/// What to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    pub(crate) rate: u64,
    pub(crate) time: Duration,
}

/// By which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Udp,
    Tcp,
    File,
}

enum Way {
    Udp(UdpSocket),
    Stream(Box<dyn Write>),
}

/// Writes the lines, waits until they are counted, and compares.
pub(crate) fn storm(site: &Site, lines: Lines, by: By) -> Fallible<Told> {
    let mut way = match by {
        By::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(SYSLOG)?;
            Way::Udp(socket)
        }
        By::Tcp => Way::Stream(Box::new(TcpStream::connect(SYSLOG)?)),
        By::File => Way::Stream(Box::new(File::options().append(true).open(site.path(LOG))?)),
    };
    let now = chrono::Utc::now()
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string();
    let before = own_cpu();
    let pace = Pace::new(lines.rate, lines.time);
    let mut sent = 0;
    while sent < pace.total {
        stop::check()?;
        let count = (pace.due() - sent).min(BATCH);
        if count == 0 {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        let batch: Vec<String> = (sent..sent + count)
            .map(|number| line(&now, number))
            .collect();
        match &mut way {
            Way::Udp(socket) => datagrams(socket, &batch)?,
            Way::Stream(stream) => stream.write_all((batch.join("\n") + "\n").as_bytes())?,
        }
        sent += count;
    }
    let (rate, cpu) = (pace.reached(), own_cpu() - before);
    let socket = match way {
        Way::Udp(socket) => Some(socket),
        Way::Stream(_) => None,
    };
    let name = match by {
        By::Udp => format!("udp://{SYSLOG}"),
        By::Tcp => format!("tcp://{SYSLOG}"),
        By::File => site.path(LOG).display().to_string(),
    };
    let faults = pace.total / FAULT_EVERY;
    let mut seen = site.source(&name)?;
    let mut total = pace.total;
    stop::wait_for("the lines to be counted", SETTLE, || {
        seen = site.source(&name)?;
        let whole = seen.received + seen.dropped >= total && seen.triggers >= seen.matched;
        // The kernel tells what it dropped with the next datagram.
        if let (false, Some(socket)) = (whole, &socket) {
            socket.send(b"<134>and one more")?;
            total += 1;
        }
        Ok(whole)
    })
    .unwrap_or_else(|error| eprintln!("{error}"));
    let (incidents, triggers) = site.incidents()?;
    Ok(Told {
        what: format!("{} lines by {by:?}, {faults} of faults", pace.total),
        rate,
        answered: format!("{} received, {} dropped", seen.received, seen.dropped),
        exact: seen.received + seen.dropped == total
            && seen.matched == triggers
            && (seen.dropped > 0 || triggers == faults),
        incidents,
        triggers,
        latency: None,
        cpu,
    })
}

fn line(now: &str, number: u64) -> String {
    let text = if number % FAULT_EVERY == FAULT_EVERY - 1 {
        "ERROR upstream timed out peer=192.0.2.50"
    } else {
        "GET /api/v2/items?page=7 200 from 198.51.100.23"
    };
    format!("<134>1 {now} web-3 nginx 4711 - - {text} in 12 ms request={number:08}")
}

fn datagrams(socket: &UdpSocket, batch: &[String]) -> Fallible<()> {
    let slices: Vec<_> = batch
        .iter()
        .map(|line| [IoSlice::new(line.as_bytes())])
        .collect();
    let mut sent = 0;
    while sent < slices.len() {
        let rest = slices.get(sent..).unwrap_or_default();
        let mut none: Vec<_> = rest
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = rest
            .iter()
            .zip(&mut none)
            .map(|(slice, control)| MMsgHdr::new(slice, control))
            .collect();
        match sendmmsg(socket, &mut messages, SendFlags::empty()) {
            Ok(taken) => sent += taken,
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
