//! Opening the listeners: before privileges are dropped, with errors that name address and key.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WebConfig;
use super::keys::Keys;
use crate::error::{IoContext, IoError};
use crate::tls::TlsError;

/// Why the web server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The TCP address.
    #[error("[web] listen: cannot listen on {address}: {source}")]
    Tcp {
        /// As configured.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Certificate, key or authorities.
    #[error("[web] {0}")]
    Tls(#[from] TlsError),
    /// One of the keys of TLS without the others.
    #[error("[web] {0} is missing; TLS needs certificate and key, each a PEM file")]
    Missing(&'static str),
    /// The unix socket.
    #[error("[web] socket: {0}")]
    Unix(#[from] IoError),
    /// Somebody answers on the socket.
    #[error("[web] socket: a server already answers on {}; stop it or name another socket", .0.display())]
    Taken(PathBuf),
    /// Something that is not a socket lies there.
    #[error("[web] socket: {} is there and is not a socket; move it away", .0.display())]
    NotASocket(PathBuf),
}

/// Listeners that are open but not served yet.
#[derive(Debug)]
pub struct Bound {
    pub(super) tcp: TcpListener,
    pub(super) tls: Option<Arc<Keys>>,
    pub(super) unix: Option<(UnixListener, SocketFile)>,
}

impl Bound {
    /// The TCP address, with the port the kernel chose if 0 was configured.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Certificate and key, when it speaks TLS.
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.tls.clone()
    }
}

/// The name of our unix socket; removed when we stop, unless somebody replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "socket not removed");
        }
    }
}

/// Opens the listeners of `[web]`.
pub fn bind(config: &WebConfig) -> Result<Bound, BindError> {
    let address = config.listen;
    let tcp = TcpListener::bind(address)
        .and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp))
        .map_err(|source| BindError::Tcp { address, source })?;
    let tls = match config.tls().map_err(BindError::Missing)? {
        Some(files) => Some(Arc::new(Keys::read(files)?)),
        None => None,
    };
    if tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "[web] listen is not a loopback address: passwords cross the network in clear; \
             give certificate and key, or put a TLS proxy in front"
        );
    }
    let unix = if config.socket.as_os_str().is_empty() {
        None
    } else {
        Some(bind_unix(&config.socket)?)
    };
    Ok(Bound { tcp, tls, unix })
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("create", parent)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).at("bind", path)?;
    listener.set_nonblocking(true).at("set up", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).at("chmod", path)?;
    let inode = fs::symlink_metadata(path).at("stat", path)?.ino();
    let path = path.to_owned();
    Ok((listener, SocketFile { path, inode }))
}

/// Removes the socket of a server that was killed.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(IoError::new("stat", path, error).into()),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::Taken(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Ok(fs::remove_file(path).at("remove", path)?)
        }
        Err(error) => Err(IoError::new("connect", path, error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> WebConfig {
        WebConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            socket: dir.join("run/api.sock"),
            ..WebConfig::default()
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let first = bind(&config).unwrap();
        let mode = fs::metadata(&config.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&config), Err(BindError::Taken(_))));
        drop(first);
        assert!(!config.socket.exists());
        // A killed server leaves its socket behind.
        drop(UnixListener::bind(&config.socket).unwrap());
        assert!(config.socket.exists());
        bind(&config).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        fs::create_dir_all(config.socket.parent().unwrap()).unwrap();
        fs::write(&config.socket, "precious").unwrap();
        assert!(matches!(bind(&config), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(&config.socket).unwrap(), b"precious");
    }

    #[test]
    fn a_taken_address_is_named_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let first = bind(&config).unwrap();
        config.listen = first.address().unwrap();
        config.socket = PathBuf::new();
        let error = bind(&config).unwrap_err().to_string();
        assert!(error.starts_with("[web] listen"), "{error}");
        assert!(error.contains(&config.listen.to_string()), "{error}");
    }
}
