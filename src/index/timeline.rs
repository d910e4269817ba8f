//! Packets and bytes over time, counted straight from segments.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::query::stored;
use crate::error::IoError;
use crate::ring::merge::MergedReader;
use crate::ring::window::Source;
use crate::time::{Timestamp, Window};

/// The fewest and the most buckets that are counted into.
const BUCKETS: (usize, usize) = (10, 1000);

/// A histogram (docs/API.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The first bucket's beginning.
    pub from: Timestamp,
    /// The end of the span; the last bucket may reach beyond it.
    pub to: Timestamp,
    /// A bucket's length.
    pub bucket_ns: u64,
    /// The interfaces.
    pub interfaces: Vec<Bars>,
    /// Whether more may come: the incident is not sealed.
    pub provisional: bool,
}

/// One interface's counts per bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bars {
    /// The interface.
    pub name: String,
    /// Packets per bucket.
    pub packets: Vec<u64>,
    /// Captured bytes per bucket.
    pub bytes: Vec<u64>,
}

/// A number of buckets within what is served.
pub fn clamp(buckets: usize) -> usize {
    buckets.clamp(BUCKETS.0, BUCKETS.1)
}

/// Counts the packets of the window into `buckets` buckets (10 to 1000) of equal whole
/// nanoseconds.
pub fn histogram(sources: &[Source], window: Window, buckets: usize) -> Result<Timeline, IoError> {
    let span = window.to.as_ns().saturating_sub(window.from.as_ns());
    let wanted = u64::try_from(clamp(buckets)).unwrap_or(1);
    let bucket_ns = span.div_ceil(wanted).max(1);
    let buckets = usize::try_from(span.div_ceil(bucket_ns)).unwrap_or(0);
    let mut interfaces = Vec::with_capacity(sources.len());
    for source in sources {
        let mut bars = Bars {
            name: source.interface.clone(),
            packets: vec![0; buckets],
            bytes: vec![0; buckets],
        };
        let mut reader = MergedReader::open(source, window)?;
        while let Some(found) = reader.advance() {
            let bucket = (found.at.as_ns() - window.from.as_ns()) / bucket_ns;
            let bucket = usize::try_from(bucket).unwrap_or(usize::MAX);
            if let (Some(packets), Some(bytes)) =
                (bars.packets.get_mut(bucket), bars.bytes.get_mut(bucket))
            {
                *packets += 1;
                *bytes += u64::try_from(found.captured).unwrap_or(u64::MAX);
            }
        }
        interfaces.push(bars);
    }
    Ok(Timeline {
        from: window.from,
        to: window.to,
        bucket_ns,
        interfaces,
        provisional: false,
    })
}

fn number(buckets: usize) -> i64 {
    i64::try_from(buckets).unwrap_or(i64::MAX)
}

/// The kept histogram of a sealed incident; one that cannot be parsed is as good as none.
pub(super) fn load(
    reader: &Connection,
    id: &str,
    window: Window,
    buckets: usize,
) -> rusqlite::Result<Option<Timeline>> {
    let body: Option<String> = reader
        .query_row(
            "SELECT body FROM timeline JOIN incident ON incident = number
             WHERE id = ?1 AND from_ns = ?2 AND to_ns = ?3 AND buckets = ?4",
            params![
                id,
                stored(window.from.as_ns()),
                stored(window.to.as_ns()),
                number(buckets)
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
}

/// Keeps the histogram of an incident that is indexed; of any other nothing is kept.
pub(super) fn store(
    writer: &Connection,
    id: &str,
    window: Window,
    buckets: usize,
    timeline: &Timeline,
) -> rusqlite::Result<()> {
    let Ok(body) = serde_json::to_string(timeline) else {
        return Ok(());
    };
    writer.execute(
        "INSERT OR REPLACE INTO timeline SELECT number, ?2, ?3, ?4, ?5 FROM incident WHERE id = ?1",
        params![
            id,
            stored(window.from.as_ns()),
            stored(window.to.as_ns()),
            number(buckets),
            body
        ],
    )?;
    Ok(())
}
