//! The control socket: `ring/control.sock`. Line by line, request and reply; whoever may open the
//! socket (owner and the server's group) may ask.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{IoContext, IoError};
use crate::recorder::protocol::{Reply, Request};
use crate::recorder::service::Recorder;

/// Its name below the ring's folder.
pub const SOCKET: &str = "control.sock";
/// The longest request line in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// A client that says nothing for so long is let go.
const SILENCE: Duration = Duration::from_mins(5);

/// Listens below `ring`. The caller holds the ring's lock, so that a socket that is there is stale.
pub fn bind(ring: &Path) -> Result<UnixListener, IoError> {
    let path = ring.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(IoError::new("replace", &path, error));
        }
        _ => {}
    }
    // A path may be longer than the 107 bytes a socket address holds.
    let folder = fs::File::open(ring).at("open", ring)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
    let listener = UnixListener::bind(short).at("listen on", &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).at("chmod", &path)?;
    Ok(listener)
}

/// Serves until the process ends, a thread per client.
pub fn serve(listener: &UnixListener, recorder: &Arc<Recorder>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let recorder = Arc::clone(recorder);
        let spawned = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                if let Err(error) = converse(&client, &recorder) {
                    tracing::debug!(%error, "control client left");
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot serve a control client");
        }
    }
}

fn converse(client: &UnixStream, recorder: &Recorder) -> std::io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(client);
    loop {
        let mut line = Vec::new();
        reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => recorder.handle(&request),
            Err(error) => Reply::Failed {
                message: format!("not a request: {error}"),
            },
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        let mut client = client;
        client.write_all(&text)?;
    }
}

/// The socket's path.
pub fn socket_path(ring: &Path) -> PathBuf {
    ring.join(SOCKET)
}
