//! One interface's packets that match, with the next of them at hand.

use crate::counters::Counters;
use crate::packet::filter::BpfFilter;
use crate::ring::merge::MergedReader;
use crate::ring::window::{Format, Found, Source};
use crate::time::Window;

use super::{Cancel, ExportError};

#[derive(Debug)]
pub(super) struct Stream {
    interface: String,
    reader: MergedReader,
    /// One per format of the reader; empty when there is no filter.
    filters: Vec<BpfFilter>,
    head: Option<Found>,
    seen: u64,
    cancel: Cancel,
}

impl Stream {
    /// Opens the folders and compiles the filter for each of its link types.
    pub(super) fn open(
        source: &Source,
        window: Window,
        filter: &str,
        cancel: &Cancel,
    ) -> Result<Self, ExportError> {
        let reader = MergedReader::open(source, window)?;
        let mut filters = Vec::new();
        if !filter.is_empty() {
            for format in reader.formats() {
                let linktype = i32::from(format.linktype);
                filters.push(BpfFilter::compile(filter, linktype, format.snaplen)?);
            }
        }
        Ok(Self {
            interface: source.interface.clone(),
            reader,
            filters,
            head: None,
            seen: 0,
            cancel: cancel.clone(),
        })
    }

    /// Moves on to the next packet that matches.
    pub(super) fn advance(&mut self) -> Result<(), ExportError> {
        self.head = None;
        while let Some(found) = self.reader.advance() {
            self.cancel.check()?;
            self.seen += 1;
            let data = self.reader.data(&found);
            let matches = self
                .filters
                .get(found.format)
                .is_none_or(|filter| filter.matches(data, found.orig_len));
            if matches {
                self.head = Some(found);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The packet at hand.
    pub(super) fn head(&self) -> Option<Found> {
        self.head
    }

    /// The data of the packet at hand.
    pub(super) fn data(&self) -> &[u8] {
        self.head
            .as_ref()
            .map_or(&[], |head| self.reader.data(head))
    }

    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    pub(super) fn formats(&self) -> &[Format] {
        self.reader.formats()
    }

    pub(super) fn covered(&self) -> Option<Window> {
        self.reader.covered()
    }

    pub(super) fn recorded(&self) -> Option<Window> {
        self.reader.recorded()
    }

    pub(super) fn counters(&self) -> Counters {
        self.reader.counters()
    }

    /// Packets of the window so far, before the filter.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// What could not be read, by interface.
    pub(super) fn damaged(&self) -> Vec<String> {
        let named = |text: &String| format!("{}/{text}", self.interface);
        self.reader.damaged().iter().map(named).collect()
    }
}
