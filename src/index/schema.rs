//! The database file: opening, migrating, moving a useless one aside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::IndexError;
use crate::error::IoContext;
use crate::time::Timestamp;

/// Says in the file's header whose it is: "wwIX".
const APPLICATION_ID: i64 = 0x7777_4958;
/// A larger file is not checked page by page when it is opened.
const CHECK_BYTES_MAX: u64 = 256 << 20;
/// How long a connection waits for another's transaction.
const BUSY: Duration = Duration::from_secs(10);

/// What leads from each version (`user_version`) to the next. Entries are never changed, only
/// added.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE incident (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        indexed_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE flow (
        incident INTEGER NOT NULL REFERENCES incident (number) ON DELETE CASCADE,
        interface TEXT NOT NULL,
        protocol TEXT NOT NULL,
        src TEXT NOT NULL,
        src_port INTEGER,
        dst TEXT NOT NULL,
        dst_port INTEGER,
        first_ns INTEGER NOT NULL,
        last_ns INTEGER NOT NULL,
        packets_to INTEGER NOT NULL,
        packets_back INTEGER NOT NULL,
        bytes_to INTEGER NOT NULL,
        bytes_back INTEGER NOT NULL,
        tcp_flags TEXT NOT NULL,
        syn_unanswered INTEGER NOT NULL,
        rst INTEGER NOT NULL,
        retransmissions INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX flow_incident ON flow (incident);
    CREATE TABLE timeline (
        incident INTEGER NOT NULL REFERENCES incident (number) ON DELETE CASCADE,
        from_ns INTEGER NOT NULL,
        to_ns INTEGER NOT NULL,
        buckets INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (incident, from_ns, to_ns, buckets)
    ) STRICT, WITHOUT ROWID;
"];

/// Opens the writing connection; also says where an unusable file was moved to.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<PathBuf>), IndexError> {
    match prepare(path) {
        Ok(connection) => return Ok((connection, None)),
        Err(error) if !is_useless(&error) => return Err(failed(path, error)),
        Err(error) => {
            tracing::warn!(%error, "index: {} is damaged or foreign", path.display());
        }
    }
    let aside = move_aside(path)?;
    let connection = prepare(path).map_err(|source| failed(path, source))?;
    Ok((connection, Some(aside)))
}

/// Opens a connection that only reads.
pub(super) fn read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn prepare(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let (owner, version): (i64, i64) = (number("application_id")?, number("user_version")?);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let empty = owner == 0 && version == 0 && tables == 0;
    if !empty && (owner != APPLICATION_ID || version > known) {
        return Err(useless("it is not an index of this version"));
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CHECK_BYTES_MAX) {
        let check: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if check != "ok" {
            return Err(useless(&check));
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A cache: a power cut may cost the last transaction, never the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        let version = i64::try_from(at + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(connection)
}

fn useless(reason: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
    rusqlite::Error::SqliteFailure(code, Some(reason.to_owned()))
}

/// Whether the file itself is the trouble, not the way to it.
fn is_useless(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
}

/// Renames the file to `….corrupt-<ns>`; its write-ahead log is of no use without it.
fn move_aside(path: &Path) -> Result<PathBuf, IndexError> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(&format!(".corrupt-{}", Timestamp::now().as_ns()));
    fs::rename(path, &aside).at("move aside", path)?;
    for log in [with("-wal"), with("-shm")] {
        match fs::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(crate::error::IoError::new("remove", &log, error).into());
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn failed(path: &Path, source: rusqlite::Error) -> IndexError {
    IndexError::Sqlite {
        op: "open",
        path: path.to_owned(),
        source,
    }
}
