//! Sending a mark the way that its source's own senders go.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

use super::http;
use crate::time::Timestamp;
use crate::tls::{TlsFiles, own_name};
use crate::trigger::drill::reach;
use crate::trigger::rehearsal::Way;
use crate::trigger::syslog::{self, Transport};
use crate::trigger::webhook::Call;

/// Where journald takes entries (systemd, Native Journal Protocol).
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Our own web server.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    pub(super) web: SocketAddr,
    pub(super) tls: Option<TlsFiles>,
    pub(super) socket: PathBuf,
}

/// Sends `mark`; what came of it, in words. The error is complete.
pub(super) async fn send(way: &Way, mark: &str, doors: &Doors) -> Result<String, String> {
    let now = Timestamp::now();
    match way {
        Way::Webhook(hook) => {
            let call = hook.call(mark, now);
            http::over_tcp(reach(doors.web), doors.tls.as_ref(), &call).await
        }
        Way::Manual => manual(&doors.socket, mark).await,
        Way::Syslog(listener) => {
            let message = listener.message(mark, now);
            let sent = match &listener.transport {
                Transport::Udp => datagram(listener.address, &message).await,
                _ => connection(listener, &message).await,
            };
            sent.map(|()| format!("{} bytes to {}", message.len(), listener.address))
        }
        Way::Trap(receiver) => {
            let message = receiver.datagram(mark);
            datagram(receiver.address, &message).await?;
            Ok(format!("{} bytes to {}", message.len(), receiver.address))
        }
        // The thread that probes sends it; it fails the mark when it cannot.
        Way::Probe => Ok("asked for".to_owned()),
        Way::Logfile(path) => {
            let (file, line) = (path.clone(), format!("wirewitness: drill {mark}\n"));
            let appended = tokio::task::spawn_blocking(move || append(&file, &line)).await;
            let appended = appended.map_err(|error| error.to_string())?;
            appended.map_err(|error| format!("append to {}: {error}", path.display()))?;
            Ok("one line".to_owned())
        }
        Way::Journal(identifier) => {
            let entry =
                format!("MESSAGE=drill {mark}\nPRIORITY=6\nSYSLOG_IDENTIFIER={identifier}\n");
            let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
            let sent = socket.send_to(entry.as_bytes(), JOURNAL_SOCKET).await;
            sent.map_err(|error| format!("{JOURNAL_SOCKET}: {error}"))?;
            Ok(format!("an entry of {identifier}"))
        }
    }
}

/// Sends a datagram to where the configuration says, that is to be found among the packets.
pub(super) async fn canary(to: SocketAddr, words: &str) -> Result<(), String> {
    datagram(to, words.as_bytes()).await
}

async fn manual(socket: &Path, mark: &str) -> Result<String, String> {
    if socket.as_os_str().is_empty() {
        return Err("there is no [web] socket to ask through".to_owned());
    }
    let body = serde_json::json!({ "reason": format!("drill {mark}") });
    let json = ("content-type".to_owned(), "application/json".to_owned());
    let call = Call {
        path: "/api/v1/incidents".to_owned(),
        headers: vec![json],
        body: body.to_string().into_bytes(),
    };
    http::over_unix(socket, &call).await
}

async fn datagram(to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| format!("send to {to}: {error}");
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.send_to(bytes, to).await.map_err(text)?;
    Ok(())
}

async fn connection(listener: &syslog::Rehearsal, message: &[u8]) -> Result<(), String> {
    let to = listener.address;
    let text = |error: std::io::Error| format!("connect to {to}: {error}");
    let stream = TcpStream::connect(to).await.map_err(text)?;
    match &listener.transport {
        Transport::Tls(connector) => {
            let agreed = connector
                .connect(own_name(listener.address.ip()), stream)
                .await;
            write(agreed.map_err(text)?, message).await.map_err(text)
        }
        _ => write(stream, message).await.map_err(text),
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, message: &[u8]) -> std::io::Result<()> {
    stream.write_all(message).await?;
    stream.shutdown().await
}

/// Appends to a file that is there already: a drill makes none.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    file.write_all(line.as_bytes())
}
