//! Counts numbered packets in pcap and pcapng files, without libpcap: who wrote them may use it.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use crate::frames;

/// How often each number was found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    found: Vec<u8>,
    /// Packets without a number of ours.
    pub(crate) others: u64,
    /// Bytes of the capture files.
    pub(crate) bytes: u64,
    /// Files that end in the middle of a packet.
    pub(crate) torn: u64,
}

impl Tally {
    /// Adds every capture file below `folder`; other files are passed over.
    pub(crate) fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.add_folder(&entry.path())?;
            } else if kind.is_file() {
                self.add_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; 4];
        if reader.read_exact(&mut magic).is_err() {
            return Ok(());
        }
        let read = match u32::from_le_bytes(magic) {
            // Little-endian pcap in micro- or nanoseconds.
            0xa1b2_c3d4 | 0xa1b2_3c4d => self.add_pcap(&mut reader),
            0x0a0d_0d0a => self.add_pcapng(&mut reader),
            _ => return Ok(()),
        };
        self.bytes += length;
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.torn += 1,
            other => other?,
        }
        Ok(())
    }

    fn add_pcap(&mut self, reader: &mut BufReader<File>) -> io::Result<()> {
        skip(reader, 20)?;
        let mut record = [0; 16];
        while begin(reader, &mut record)? {
            let captured = word(&record, 8)?;
            if captured == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.add_packet(reader, captured, 0)?;
        }
        Ok(())
    }

    fn add_pcapng(&mut self, reader: &mut BufReader<File>) -> io::Result<()> {
        // The section's type is read already.
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        skip(reader, i64::from(u32::from_le_bytes(length)) - 8)?;
        let mut head = [0; 8];
        while begin(reader, &mut head)? {
            let (kind, length) = (word(&head, 0)?, word(&head, 4)?);
            if kind == 6 {
                let mut fixed = [0; 20];
                reader.read_exact(&mut fixed)?;
                let captured = word(&fixed, 12)?;
                let after = i64::from(length) - 28 - i64::from(captured);
                self.add_packet(reader, captured, after)?;
            } else {
                skip(reader, i64::from(length) - 8)?;
            }
        }
        Ok(())
    }

    /// One packet, then `after` more bytes.
    fn add_packet(
        &mut self,
        reader: &mut BufReader<File>,
        captured: u32,
        after: i64,
    ) -> io::Result<()> {
        let mut front = [0; frames::NUMBERED];
        let wanted = front.len().min(usize::try_from(captured).unwrap_or(0));
        let front = front.get_mut(..wanted).unwrap_or_default();
        reader.read_exact(front)?;
        let rest = i64::from(captured) - i64::try_from(wanted).unwrap_or(0);
        // The last byte is read, so that a file that ends before it is noticed.
        match rest + after {
            0 => {}
            rest => {
                skip(reader, rest - 1)?;
                reader.read_exact(&mut [0])?;
            }
        }
        match frames::number(front) {
            Some(number) => self.count(number),
            None => self.others += 1,
        }
        Ok(())
    }

    /// Adds one number.
    pub(crate) fn count(&mut self, number: u64) {
        // A number no run can reach is a damaged packet, not a reason to fill the memory.
        let Some(at) = usize::try_from(number).ok().filter(|&at| at < 1 << 28) else {
            self.others += 1;
            return;
        };
        if at >= self.found.len() {
            self.found.resize(at + 1, 0);
        }
        if let Some(times) = self.found.get_mut(at) {
            *times = times.saturating_add(1);
        }
    }

    /// Different numbers found.
    pub(crate) fn distinct(&self) -> u64 {
        self.found.iter().map(|&times| u64::from(times > 0)).sum()
    }

    /// Copies beyond the first.
    pub(crate) fn doubled(&self) -> u64 {
        self.found
            .iter()
            .map(|&times| u64::from(times.saturating_sub(1)))
            .sum()
    }
}

/// Fills `head`; false at the end of the file, an error in the middle of it.
fn begin(reader: &mut impl Read, head: &mut [u8]) -> io::Result<bool> {
    let (first, rest) = head
        .split_at_mut_checked(1)
        .ok_or(ErrorKind::InvalidInput)?;
    if reader.read(first)? == 0 {
        return Ok(false);
    }
    reader.read_exact(rest)?;
    Ok(true)
}

fn skip(reader: &mut BufReader<File>, bytes: i64) -> io::Result<()> {
    if bytes < 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    reader.seek_relative(bytes)
}

fn word(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_le_bytes)
        .ok_or_else(|| ErrorKind::InvalidInput.into())
}
