//! Certificate and key of the web listener, read anew when they change.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::tls::{Clients, TlsError, TlsFiles};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The files, and what was last read from them.
pub struct Keys {
    files: TlsFiles,
    read: Mutex<Read>,
}

struct Read {
    acceptor: TlsAcceptor,
    stamp: Stamp,
}

/// When each file was last changed, and how long it is.
type Stamp = Vec<Option<(SystemTime, u64)>>;

impl std::fmt::Debug for Keys {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

impl Keys {
    /// Reads the files.
    pub(super) fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let acceptor = files.acceptor(Clients::Asked)?;
        Ok(Self {
            files,
            read: Mutex::new(Read { acceptor, stamp }),
        })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.now().acceptor.clone()
    }

    /// Reads the files anew; what is not whole, or not ours to read, changes nothing.
    pub fn renew(&self) {
        let stamp = stamp(&self.files);
        match self.files.acceptor(Clients::Asked) {
            Ok(acceptor) => {
                tracing::info!(certificate = ?self.files.certificate, "certificate and key read anew");
                *self.now() = Read { acceptor, stamp };
            }
            Err(error) => {
                tracing::warn!("[web] {error}; the certificate and key read before stay in use");
                self.now().stamp = stamp;
            }
        }
    }

    /// Reads them anew whenever they change, until `stop` is cancelled.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            let changed = stamp(&self.files) != self.now().stamp;
            if changed {
                self.renew();
            }
        }
    }

    fn now(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.paths().map(of).collect()
}
