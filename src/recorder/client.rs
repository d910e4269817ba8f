//! The server's end of the control socket: blocking calls, one JSON line each way.
//!
//! Every verb is idempotent, so a call whose kept connection turns out to be dead is repeated
//! once on a new one; anything else is the caller's to repeat.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::recorder::protocol::{PinReport, RecorderStatus, Reply, Request};
use crate::time::Window;

/// How long a connection may take to be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a reply may take: a flush waits for the disk.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest reply read, so that a confused peer cannot fill our memory.
const REPLY_BYTES_MAX: u64 = 64 << 20;
/// The longest path a unix socket address holds (`sun_path` less its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Idle connections kept for the next calls.
const IDLE_MAX: usize = 4;

/// Why a call to the recorder gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers.
    #[error(
        "the recorder does not answer on {}: {source}; is `wirewitness record` running?",
        path.display()
    )]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The recorder answered that it could not do it.
    #[error("the recorder refused: {0}")]
    Failed(String),
    /// The answer makes no sense; recorder and server are probably of different versions.
    #[error(
        "the recorder on {} answered something unexpected: {what}; \
         are recorder and server of one version?",
        path.display()
    )]
    Protocol {
        /// The control socket.
        path: PathBuf,
        /// What was wrong with it.
        what: String,
    },
}

/// A client of the recorder. Clones share their idle connections; calls of several threads run
/// beside each other.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    idle: Arc<Mutex<Vec<BufReader<UnixStream>>>>,
}

impl Client {
    /// A client of the recorder that listens on `path`. Connects when first used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            idle: Arc::default(),
        }
    }

    /// The control socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends one request and waits for its reply. [`Reply::Failed`] becomes an error.
    pub fn call(&self, request: &Request) -> Result<Reply, ControlError> {
        let kept = self.idle().pop();
        let answer = match kept {
            Some(mut connection) => match exchange(&mut connection, request) {
                Ok(line) => Ok((connection, line)),
                Err(_) => self.call_anew(request),
            },
            None => self.call_anew(request),
        };
        let (connection, line) = answer.map_err(|source| ControlError::Unreachable {
            path: self.path.clone(),
            source,
        })?;
        let reply = serde_json::from_slice(&line).map_err(|error| ControlError::Protocol {
            path: self.path.clone(),
            what: error.to_string(),
        })?;
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        match reply {
            Reply::Failed { message } => Err(ControlError::Failed(message)),
            reply => Ok(reply),
        }
    }

    /// Counters, ring span, states.
    pub fn status(&self) -> Result<RecorderStatus, ControlError> {
        match self.call(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => Err(self.unexpected("status", &other)),
        }
    }

    /// Puts everything received before now on disk.
    pub fn flush(&self) -> Result<(), ControlError> {
        match self.call(&Request::Flush)? {
            Reply::Flushed => Ok(()),
            other => Err(self.unexpected("flush", &other)),
        }
    }

    /// Links what covers `window` into incident `id`, now and as it is written.
    pub fn pin(&self, id: &str, window: Window) -> Result<PinReport, ControlError> {
        let id = id.to_owned();
        match self.call(&Request::Pin { id, window })? {
            Reply::Pinned(report) => Ok(report),
            other => Err(self.unexpected("pin", &other)),
        }
    }

    /// Removes incident `id`, leaving a tombstone.
    pub fn release(&self, id: &str) -> Result<(), ControlError> {
        match self.call(&Request::Release { id: id.to_owned() })? {
            Reply::Released => Ok(()),
            other => Err(self.unexpected("release", &other)),
        }
    }

    /// What is linked for incident `id`.
    pub fn check(&self, id: &str) -> Result<PinReport, ControlError> {
        match self.call(&Request::Check { id: id.to_owned() })? {
            Reply::Pinned(report) => Ok(report),
            other => Err(self.unexpected("check", &other)),
        }
    }

    fn call_anew(&self, request: &Request) -> io::Result<(BufReader<UnixStream>, Vec<u8>)> {
        let mut connection = BufReader::new(connect(&self.path)?);
        let line = exchange(&mut connection, request)?;
        Ok((connection, line))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<BufReader<UnixStream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unexpected(&self, verb: &str, reply: &Reply) -> ControlError {
        let kind = match reply {
            Reply::Status(_) => "status",
            Reply::Flushed => "flushed",
            Reply::Pinned(_) => "pinned",
            Reply::Released => "released",
            Reply::Failed { .. } => "failed",
        };
        ControlError::Protocol {
            path: self.path.clone(),
            what: format!("`{kind}` to `{verb}`"),
        }
    }
}

/// Connects to a unix socket whose path may be longer than a socket address holds: then by way
/// of its directory's descriptor.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        socket.connect_timeout(&SockAddr::unix(path)?, CONNECT_TIMEOUT)?;
    } else {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = File::open(parent)?;
        let short = Path::new("/proc/self/fd")
            .join(directory.as_raw_fd().to_string())
            .join(name);
        socket.connect_timeout(&SockAddr::unix(short)?, CONNECT_TIMEOUT)?;
    }
    let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    Ok(stream)
}

/// Writes the request's line and reads the reply's.
fn exchange(connection: &mut BufReader<UnixStream>, request: &Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    connection.get_mut().write_all(&line)?;
    line.clear();
    connection
        .by_ref()
        .take(REPLY_BYTES_MAX)
        .read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection ended before the reply did",
        ));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers `replies` lines on each accepted connection, then hangs up.
    fn answer(listener: UnixListener, connections: usize, replies: usize) {
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = BufReader::new(stream.unwrap());
                for _ in 0..replies {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    assert_eq!(line, "{\"verb\":\"flush\"}\n");
                    stream
                        .get_mut()
                        .write_all(b"{\"reply\":\"flushed\"}\n")
                        .unwrap();
                }
            }
        });
    }

    #[test]
    fn a_connection_is_kept_and_replaced_when_it_died() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        answer(UnixListener::bind(&path).unwrap(), 2, 2);
        let client = Client::new(&path);
        for _ in 0..3 {
            client.flush().unwrap();
        }
    }

    #[test]
    fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let handle = File::open(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/control.sock", handle.as_raw_fd());
        answer(UnixListener::bind(short).unwrap(), 1, 1);
        Client::new(deep.join("control.sock")).flush().unwrap();
    }

    #[test]
    fn nobody_there_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let error = Client::new(&path).flush().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.contains("is `wirewitness record` running?"),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_and_nonsense_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            for reply in [
                "{\"reply\":\"failed\",\"message\":\"no room\"}\n",
                "{\"reply\":\"released\"}\n",
                "what?\n",
            ] {
                stream.read_line(&mut String::new()).unwrap();
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
            }
        });
        let client = Client::new(&path);
        assert!(matches!(client.flush(), Err(ControlError::Failed(text)) if text == "no room"));
        assert!(matches!(client.flush(), Err(ControlError::Protocol { .. })));
        assert!(matches!(client.flush(), Err(ControlError::Protocol { .. })));
    }
}
