//! What incidents hold, for searching: flows and timelines in SQLite.
//!
//! A cache. The incident folders are the truth; whatever is lost or damaged here is made again by
//! [`Index::rebuild`]. There is one writing connection; readers open their own.

mod query;
mod schema;
mod table;
pub mod timeline;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::error::IoError;
use crate::ring::window::{WindowReader, sources_in};
use crate::time::{Timestamp, Window};

pub use query::{Flow, FlowPage, FlowQuery, FlowSort, SortOrder};
use table::{FLOWS_MAX, FlowTable};

/// Why the index did not answer. It can always be made again: `wirewitness reindex`.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The segments or the database file could not be reached.
    #[error(transparent)]
    Io(#[from] IoError),
    /// SQLite refused.
    #[error("{op} the index {}: {source} (`wirewitness reindex` makes it anew)", path.display())]
    Sqlite {
        /// What was tried, as a verb.
        op: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

/// What was indexed of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IndexedSummary {
    /// Flows written.
    pub flows: u64,
    /// Packets within the window.
    pub packets: u64,
    /// Packets in no flow of their own: not IP or ARP, or beyond the most flows that are kept.
    pub other_packets: u64,
    /// Segments that could not be read to their end, and why.
    pub damaged: Vec<String>,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rebuilt {
    /// Incidents indexed.
    pub incidents: u64,
    /// Incidents that could not be, and why.
    pub failed: Vec<(String, String)>,
}

/// The flow index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    moved_aside: Option<PathBuf>,
}

impl Index {
    /// Opens or creates the index. A file that is damaged, foreign or of a newer version is moved
    /// aside and replaced by an empty index: see [`Index::moved_aside`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let (writer, moved_aside) = schema::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            moved_aside,
        })
    }

    /// Where an unusable predecessor was put by [`Index::open`]; the incidents are to be indexed
    /// anew.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// Reads an incident's segments and replaces what is known of it, in one transaction.
    pub fn index_incident(
        &self,
        id: &str,
        segments_dir: &Path,
        window: Window,
    ) -> Result<IndexedSummary, IndexError> {
        let mut summary = IndexedSummary::default();
        let mut tables = Vec::new();
        let mut room = FLOWS_MAX;
        for source in sources_in(segments_dir)? {
            let mut reader = WindowReader::open(&source.dir, window)?;
            let mut table = FlowTable::new(room);
            while let Some(found) = reader.advance() {
                let linktype = reader
                    .formats()
                    .get(found.format)
                    .map_or(0, |format| i32::from(format.linktype));
                table.add(linktype, found.at, reader.data(&found), found.orig_len);
            }
            room -= table.flows().len();
            summary.flows += u64::try_from(table.flows().len()).unwrap_or(u64::MAX);
            summary.packets += table.packets();
            summary.other_packets += table.other().packets();
            let damaged = reader.damaged().into_iter();
            summary
                .damaged
                .extend(damaged.map(|text| format!("{}/{text}", source.interface)));
            tables.push((source.interface, table));
        }
        self.replace(id, &tables)
            .map_err(|source| self.failed("write to", source))?;
        Ok(summary)
    }

    fn replace(&self, id: &str, tables: &[(String, FlowTable)]) -> rusqlite::Result<()> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        transaction.execute("DELETE FROM incident WHERE id = ?1", [id])?;
        transaction.execute(
            "INSERT INTO incident (id, indexed_ns) VALUES (?1, ?2)",
            params![id, query::stored(Timestamp::now().as_ns())],
        )?;
        let incident = transaction.last_insert_rowid();
        for (interface, table) in tables {
            query::insert(&transaction, incident, interface, table)?;
        }
        transaction.commit()
    }

    /// The flows of an incident that match, in order.
    pub fn flows(&self, id: &str, query: &FlowQuery) -> Result<FlowPage, IndexError> {
        let reader = self.reader()?;
        query::page(&reader, id, query).map_err(|source| self.failed("query", source))
    }

    /// Whether the incident is indexed; `false` too when the index does not answer.
    pub fn indexed(&self, id: &str) -> bool {
        let found = self.reader().and_then(|reader| {
            reader
                .prepare("SELECT 1 FROM incident WHERE id = ?1")
                .and_then(|mut statement| statement.exists([id]))
                .map_err(|source| self.failed("query", source))
        });
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "index: cannot tell whether {id} is indexed");
            false
        })
    }

    /// Forgets an incident.
    pub fn remove(&self, id: &str) -> Result<(), IndexError> {
        self.writer()
            .execute("DELETE FROM incident WHERE id = ?1", [id])
            .map(|_| ())
            .map_err(|source| self.failed("write to", source))
    }

    /// Forgets everything and indexes the incidents given (id, segments folder, window).
    /// `progress` is told of each.
    pub fn rebuild(
        &self,
        incidents: impl IntoIterator<Item = (String, PathBuf, Window)>,
        mut progress: impl FnMut(&str, &Result<IndexedSummary, IndexError>),
    ) -> Result<Rebuilt, IndexError> {
        self.writer()
            .execute("DELETE FROM incident", [])
            .map_err(|source| self.failed("empty", source))?;
        let mut rebuilt = Rebuilt::default();
        for (id, dir, window) in incidents {
            let answer = self.index_incident(&id, &dir, window);
            progress(&id, &answer);
            match answer {
                Ok(_) => rebuilt.incidents += 1,
                Err(error) => rebuilt.failed.push((id, error.to_string())),
            }
        }
        Ok(rebuilt)
    }

    /// Packets and bytes of an incident over time. A sealed incident's is counted once and kept;
    /// of any other the answer is provisional.
    pub fn timeline(
        &self,
        id: &str,
        segments_dir: &Path,
        window: Window,
        buckets: usize,
        sealed: bool,
    ) -> Result<timeline::Timeline, IndexError> {
        let buckets = timeline::clamp(buckets);
        if sealed {
            let kept = timeline::load(&self.reader()?, id, window, buckets)
                .map_err(|source| self.failed("query", source))?;
            if let Some(kept) = kept {
                return Ok(kept);
            }
        }
        let sources = sources_in(segments_dir)?;
        let mut counted = timeline::histogram(&sources, window, buckets)?;
        counted.provisional = !sealed;
        if sealed {
            timeline::store(&self.writer(), id, window, buckets, &counted)
                .map_err(|source| self.failed("write to", source))?;
        }
        Ok(counted)
    }

    /// The writing connection. A thread that panicked with it left no transaction open: they
    /// roll back when dropped.
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Connection, IndexError> {
        schema::read(&self.path).map_err(|source| self.failed("open", source))
    }

    fn failed(&self, op: &'static str, source: rusqlite::Error) -> IndexError {
        IndexError::Sqlite {
            op,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
