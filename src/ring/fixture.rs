//! Segments for tests, written as the recorder writes them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::counters::Counters;
use crate::pcapng::encode;
use crate::pcapng::isb::{Detail, SAMPLE_LEN, Sample};
use crate::ring::names::{SegmentName, folder_name, member_folder};
use crate::ring::window::Source;
use crate::time::Timestamp;

/// A segment being made.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) interface: &'static str,
    pub(crate) linktype: u16,
    pub(crate) snaplen: u32,
    pub(crate) number: u64,
    /// Time, length on the wire, captured bytes.
    pub(crate) packets: Vec<(u64, u32, Vec<u8>)>,
    /// The final sample's time and the counters it has; none for an unsealed segment.
    pub(crate) sample: Option<(u64, Counters)>,
}

impl Segment {
    pub(crate) fn new(interface: &'static str, number: u64) -> Self {
        Self {
            interface,
            linktype: 1,
            snaplen: 262_144,
            number,
            packets: Vec::new(),
            sample: None,
        }
    }

    /// Adds a packet that was captured whole.
    pub(crate) fn packet(mut self, ns: u64, data: &[u8]) -> Self {
        let orig_len = u32::try_from(data.len()).unwrap();
        self.packets.push((ns, orig_len, data.to_vec()));
        self
    }

    /// Adds a packet of which `data` was captured.
    pub(crate) fn snapped(mut self, ns: u64, orig_len: u32, data: &[u8]) -> Self {
        self.packets.push((ns, orig_len, data.to_vec()));
        self
    }

    /// Seals it at `ns` with `received` and `dropped_kernel`.
    pub(crate) fn sealed(mut self, ns: u64, received: u64, dropped_kernel: u64) -> Self {
        let counters = Counters {
            received,
            written: received - dropped_kernel,
            dropped_kernel,
            ..Counters::default()
        };
        self.sample = Some((ns, counters));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode::section_header(&mut out, &encode::Section::default());
        let interface = encode::Interface {
            linktype: self.linktype,
            snaplen: self.snaplen,
            name: self.interface,
            filter: "not port 22",
            ..Default::default()
        };
        encode::interface(&mut out, &interface);
        for (ns, orig_len, data) in &self.packets {
            let start = out.len();
            out.resize(start + encode::epb_len(data.len()), 0);
            let at = Timestamp::from_ns(*ns);
            encode::epb(&mut out[start..], 0, at, *orig_len, data).unwrap();
        }
        if let Some((ns, counters)) = self.sample {
            let sample = Sample {
                at: Timestamp::from_ns(ns),
                start: Timestamp::from_ns(1),
                counters,
                detail: Detail::default(),
                last: true,
            };
            sample.encode(&mut out, 0, SAMPLE_LEN);
        }
        out
    }

    /// Writes it into `root/<interface>/`.
    pub(crate) fn write(&self, root: &Path) -> PathBuf {
        self.write_for(root, 0)
    }

    /// Writes it into the folder of capture thread `member`.
    pub(crate) fn write_for(&self, root: &Path, member: u32) -> PathBuf {
        let dir = root.join(member_folder(self.interface, member));
        fs::create_dir_all(&dir).unwrap();
        let first = self.packets.first().map_or(0, |packet| packet.0);
        let name = SegmentName {
            number: self.number,
            first: Timestamp::from_ns(first),
        };
        let path = dir.join(name.to_string());
        fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// The source of an interface below `root`.
pub(crate) fn source(root: &Path, interface: &str) -> Source {
    Source {
        interface: interface.to_owned(),
        dirs: vec![root.join(folder_name(interface))],
    }
}
