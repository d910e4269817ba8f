//! What incidents hold, for searching: flows and timelines in SQLite.
//!
//! A cache. The incident folders are the truth; whatever is lost or damaged here is made again by
//! [`Index::rebuild`]. There is one writing connection; readers open their own.

pub mod probes;
mod query;
mod schema;
mod table;
pub mod timeline;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::error::IoError;
use crate::ring::merge::MergedReader;
use crate::ring::window::sources_in;
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

/// The writing connection and the file it writes to.
#[derive(Debug)]
struct Writer {
    connection: Connection,
    file: Option<FileId>,
}

/// Device and inode.
type FileId = (u64, u64);

/// The file that lies at `path` now.
fn file_at(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Writer {
    fn open(path: &Path) -> Result<(Self, Option<PathBuf>), IndexError> {
        let (connection, moved_aside) = schema::open(path)?;
        let file = file_at(path);
        Ok((Self { connection, file }, moved_aside))
    }

    /// Whether what it writes is what readers find at `path`.
    fn is_at(&self, path: &Path) -> bool {
        self.file.is_some() && self.file == file_at(path)
    }
}

/// The flow index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    writer: Mutex<Option<Writer>>,
    moved_aside: Option<PathBuf>,
}

impl Index {
    /// Opens or creates the index. A file that is damaged, foreign or of a newer version is moved
    /// aside and replaced by an empty index: see [`Index::moved_aside`].
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let (writer, moved_aside) = Writer::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(writer)),
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
            let mut reader = MergedReader::open(&source, window)?;
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
        self.write("write to", |writer| replace(writer, id, &tables))?;
        Ok(summary)
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
        self.write("write to", |writer| {
            writer.execute("DELETE FROM incident WHERE id = ?1", [id])
        })?;
        Ok(())
    }

    /// Forgets everything and indexes the incidents given (id, segments folder, window).
    /// `progress` is told of each.
    pub fn rebuild(
        &self,
        incidents: impl IntoIterator<Item = (String, PathBuf, Window)>,
        mut progress: impl FnMut(&str, &Result<IndexedSummary, IndexError>),
    ) -> Result<Rebuilt, IndexError> {
        self.write("empty", |writer| writer.execute("DELETE FROM incident", []))?;
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
    /// of any other the answer is provisional. Without the database it is counted every time.
    pub fn timeline(
        &self,
        id: &str,
        segments_dir: &Path,
        window: Window,
        buckets: usize,
        sealed: bool,
    ) -> Result<timeline::Timeline, IndexError> {
        let buckets = timeline::clamp(buckets);
        if sealed && let Some(kept) = self.kept_timeline(id, window, buckets) {
            return Ok(kept);
        }
        let sources = sources_in(segments_dir)?;
        let mut counted = timeline::histogram(&sources, window, buckets)?;
        counted.provisional = !sealed;
        if sealed {
            let stored = self.write("write to", |writer| {
                timeline::store(writer, id, window, buckets, &counted)
            });
            if let Err(error) = stored {
                tracing::warn!(%error, "index: the timeline of {id} cannot be kept");
            }
        }
        Ok(counted)
    }

    fn kept_timeline(
        &self,
        id: &str,
        window: Window,
        buckets: usize,
    ) -> Option<timeline::Timeline> {
        let kept = self.reader().and_then(|reader| {
            timeline::load(&reader, id, window, buckets)
                .map_err(|source| self.failed("query", source))
        });
        kept.unwrap_or_else(|error| {
            tracing::warn!(%error, "index: the timeline of {id} is counted anew");
            None
        })
    }

    /// Writes to the file that lies at the path: when another took its place, or it was deleted,
    /// what the held connection wrote would be seen by nobody.
    fn write<T>(
        &self,
        op: &'static str,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        // A thread that panicked with it left no transaction open: they roll back when dropped.
        let mut held = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The old connection is closed before the new one opens: the two might share a log whose
        // locks the closing would drop.
        let current = held.take().filter(|writer| writer.is_at(&self.path));
        let current = match current {
            Some(writer) => writer,
            None => self.reopen()?,
        };
        let writer = held.insert(current);
        act(&mut writer.connection).map_err(|source| self.failed(op, source))
    }

    fn reopen(&self) -> Result<Writer, IndexError> {
        tracing::warn!(
            "index: {} was replaced or deleted, it is opened again",
            self.path.display()
        );
        let (writer, moved_aside) = Writer::open(&self.path)?;
        if let Some(aside) = moved_aside {
            tracing::warn!(
                "index: what lay there is now {}; `wirewitness reindex` fills the new one",
                aside.display()
            );
        }
        Ok(writer)
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

fn replace(
    writer: &mut Connection,
    id: &str,
    tables: &[(String, FlowTable)],
) -> rusqlite::Result<()> {
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

#[cfg(test)]
mod tests;
