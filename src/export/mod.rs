//! A window of one or more interfaces as one file: trimmed to the nanosecond, filtered, merged by
//! time, streamed in constant memory.
//!
//! [`Plan::prepare`] does everything that can fail for a reason a person should read: it compiles
//! the filter, holds the segments open and finds the first packet, so that an answer that has
//! begun is not empty. [`Plan::write_to`] then streams. Packets are copied as they lie.

mod bundle;
mod stream;
mod write;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::IoError;
use crate::packet::filter::{BpfFilter, FilterError};
pub use crate::ring::window::{Source, sources_in};
use crate::time::{Timestamp, Window};

pub use bundle::bundle;
use stream::Stream;
use write::{Interface, Pcap, PcapNg, Sink};

/// The link type a filter is checked against when there is no segment to tell.
const ETHERNET: u16 = 1;

/// The kind of file that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One section, an interface each, comments that say what it is, counters at the end.
    #[default]
    Pcapng,
    /// The classic format with nanoseconds; no place for names, comments and counters.
    Pcap,
}

impl Format {
    /// The end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pcapng => "pcapng",
            Self::Pcap => "pcap",
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The folders to read, by interface.
    pub sources: Vec<Source>,
    /// The span of time.
    pub window: Window,
    /// A pcap-filter(7) expression; none or an empty one lets everything through.
    pub filter: Option<String>,
    /// The kind of file.
    pub format: Format,
    /// Comments for the file's head: the incident, its completeness. Window, coverage and filter
    /// are added.
    pub comments: Vec<String>,
    /// Set when nobody wants it any more.
    pub cancel: Cancel,
}

/// Ends an export from outside: a rare filter reads long before there is anything to write, and
/// would not notice that its receiver is gone. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the export at its next packet.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), ExportError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(ExportError::Cancelled);
        }
        Ok(())
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The filter is none, in libpcap's own words.
    #[error("{0}")]
    BadFilter(String),
    /// No packet to give; the text says why.
    #[error("{text}")]
    Nothing {
        /// What of the window is recorded.
        covered: Option<Window>,
        /// Packets in the window before the filter.
        packets_in_window: u64,
        /// The reason, for people.
        text: String,
    },
    /// A classic pcap holds one link type.
    #[error(
        "the interfaces have different link types ({0}), which a classic pcap cannot hold: \
         ask for pcapng, or for one interface"
    )]
    MixedLinktypes(String),
    /// It was cancelled.
    #[error("nobody waits for the export any more")]
    Cancelled,
    /// A folder or segment could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The receiver went away or its disk is full.
    #[error("write the export: {0}")]
    Write(#[source] io::Error),
}

impl From<FilterError> for ExportError {
    fn from(error: FilterError) -> Self {
        Self::BadFilter(error.to_string())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Captured bytes of those packets.
    pub bytes: u64,
    /// The first packet.
    pub first: Option<Timestamp>,
    /// The last packet.
    pub last: Option<Timestamp>,
    /// Segments that could not be read to their end, and why.
    pub damaged: Vec<String>,
}

/// An export that has a first packet and only needs to be written.
#[derive(Debug)]
pub struct Plan {
    streams: Vec<Stream>,
    window: Window,
    covered: Window,
    filter: String,
    format: Format,
    comments: Vec<String>,
}

impl Plan {
    /// Finds out whether there is something to give, and holds on to it.
    pub fn prepare(request: ExportRequest) -> Result<Self, ExportError> {
        let filter = request.filter.unwrap_or_default().trim().to_owned();
        let mut streams = Vec::with_capacity(request.sources.len());
        for source in &request.sources {
            streams.push(Stream::open(
                source,
                request.window,
                &filter,
                &request.cancel,
            )?);
        }
        if streams.iter().all(|stream| stream.formats().is_empty()) {
            // A wrong filter is told even when there is nothing it could be applied to.
            BpfFilter::compile(&filter, i32::from(ETHERNET), write::SNAPLEN_MAX)?;
        }
        if request.format == Format::Pcap {
            single_linktype(&streams)?;
        }
        for stream in &mut streams {
            stream.advance()?;
        }
        let covered = streams
            .iter()
            .filter_map(Stream::covered)
            .reduce(|a, b| a.union(&b));
        if streams.iter().all(|stream| stream.head().is_none()) {
            return Err(nothing(&streams, request.window, covered, &filter));
        }
        Ok(Self {
            streams,
            window: request.window,
            covered: covered.unwrap_or(request.window),
            filter,
            format: request.format,
            comments: request.comments,
        })
    }

    /// What of the window is recorded.
    pub fn covered(&self) -> Window {
        self.covered
    }

    /// Writes the file. `out` is written to in large pieces.
    pub fn write_to(mut self, out: &mut impl Write) -> Result<Summary, ExportError> {
        let mut summary = Summary::default();
        match self.format {
            Format::Pcapng => {
                let interfaces = self.interfaces();
                let comments = self.head_comments();
                let mut sink = PcapNg::begin(out, &comments, &interfaces);
                self.packets(&mut sink, &mut summary)?;
                let mut first = 0;
                for stream in &self.streams {
                    if stream.formats().is_empty() {
                        continue;
                    }
                    sink.counters(first, self.covered, stream.counters());
                    first += stream.formats().len();
                }
                sink.finish().map_err(ExportError::Write)?;
            }
            Format::Pcap => {
                let linktype = single_linktype(&self.streams)?;
                let mut sink = Pcap::begin(out, linktype, self.snaplen());
                self.packets(&mut sink, &mut summary)?;
                sink.finish().map_err(ExportError::Write)?;
            }
        }
        for stream in &self.streams {
            summary.damaged.extend(stream.damaged());
        }
        Ok(summary)
    }

    /// Copies packets, always the earliest of the interfaces' next ones.
    fn packets(&mut self, sink: &mut impl Sink, summary: &mut Summary) -> Result<(), ExportError> {
        let mut offsets = Vec::with_capacity(self.streams.len());
        let mut next = 0;
        for stream in &self.streams {
            offsets.push(next);
            next += stream.formats().len();
        }
        loop {
            let earliest = self
                .streams
                .iter_mut()
                .zip(&offsets)
                .filter_map(|(stream, offset)| Some((stream.head()?.at, stream, offset)))
                .min_by_key(|(at, ..)| *at);
            let Some((at, stream, offset)) = earliest else {
                return Ok(());
            };
            let Some(head) = stream.head() else {
                return Ok(());
            };
            let data = stream.data();
            sink.packet(offset + head.format, at, head.orig_len, data)
                .map_err(ExportError::Write)?;
            summary.packets += 1;
            summary.bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
            summary.first = Some(summary.first.map_or(at, |first| first.min(at)));
            summary.last = summary.last.max(Some(at));
            stream.advance()?;
        }
    }

    /// One snapshot length for all: tcpdump refuses a file whose interfaces differ in it.
    fn snaplen(&self) -> u32 {
        let formats = self.streams.iter().flat_map(Stream::formats);
        let largest = formats.map(|format| match format.snaplen {
            0 => write::SNAPLEN_MAX,
            some => some,
        });
        largest.max().unwrap_or(write::SNAPLEN_MAX)
    }

    fn interfaces(&self) -> Vec<Interface> {
        let snaplen = self.snaplen();
        self.streams
            .iter()
            .flat_map(|stream| {
                stream.formats().iter().map(|format| Interface {
                    linktype: format.linktype,
                    snaplen,
                    name: stream.interface().to_owned(),
                    filter: format.filter.clone(),
                })
            })
            .collect()
    }

    fn head_comments(&self) -> Vec<String> {
        let mut comments = self.comments.clone();
        comments.push(format!("window: {}", self.window));
        comments.push(format!("covered: {}", self.covered));
        if !self.filter.is_empty() {
            comments.push(format!("filter: {}", self.filter));
        }
        for stream in &self.streams {
            for damaged in stream.damaged() {
                comments.push(format!("damaged: {damaged}"));
            }
        }
        if single_linktype(&self.streams).is_err() {
            comments.push(
                "the interfaces have different link types: Wireshark and tshark read this file, \
                 tcpdump does not"
                    .to_owned(),
            );
        }
        comments
    }
}

/// The link type of all, or an error that lists them.
fn single_linktype(streams: &[Stream]) -> Result<u16, ExportError> {
    let mut found: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for stream in streams {
        for format in stream.formats() {
            found
                .entry(format.linktype)
                .or_default()
                .push(stream.interface());
        }
    }
    match found.first_key_value() {
        Some((linktype, _)) if found.len() == 1 => Ok(*linktype),
        None => Ok(ETHERNET),
        _ => Err(ExportError::MixedLinktypes(
            found
                .iter()
                .map(|(linktype, names)| format!("{}: {linktype}", names.join(", ")))
                .collect::<Vec<_>>()
                .join("; "),
        )),
    }
}

/// Says why nothing is given.
fn nothing(
    streams: &[Stream],
    window: Window,
    covered: Option<Window>,
    filter: &str,
) -> ExportError {
    let packets_in_window = streams.iter().map(Stream::seen).sum();
    let recorded = streams
        .iter()
        .filter_map(Stream::recorded)
        .reduce(|a, b| a.union(&b));
    let mut text = match (covered, recorded) {
        _ if window.is_empty() => format!("the window {window} is empty: it ends before it begins"),
        (Some(covered), _) if packets_in_window == 0 => {
            format!("no packet was captured in {covered}, what is recorded of the window")
        }
        (Some(_), _) => format!(
            "{packets_in_window} packets were captured in the window, none of them matches \
             the filter {filter:?}"
        ),
        (None, Some(recorded)) if window.to <= recorded.from => format!(
            "the window {window} lies before the recording, which begins at {}: what was \
             recorded earlier was rotated away",
            recorded.from
        ),
        (None, Some(recorded)) if window.from >= recorded.to => format!(
            "the window {window} lies behind the recording, which ends at {}",
            recorded.to
        ),
        (None, Some(recorded)) => {
            format!("nothing of the window {window} is recorded; the recording spans {recorded}")
        }
        (None, None) => "nothing is recorded here".to_owned(),
    };
    for damaged in streams.iter().flat_map(Stream::damaged) {
        text.push_str("; ");
        text.push_str(&damaged);
    }
    ExportError::Nothing {
        covered,
        packets_in_window,
        text,
    }
}

#[cfg(test)]
mod tests;
