//! Over real sockets: the accept loop, the unix socket's user, events, the stop.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::cli::client::{Client as HttpClient, ClientError};
use crate::web::{bind, serve};

/// Longer than anything here takes; a test that hangs must fail.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a thread with its own runtime, so that blocking clients can talk to it.
struct Running {
    dir: TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (path, stopped) = (dir.path().to_owned(), stop.clone());
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (parts, engine) = parts(&path, &stopped);
                let bound = bind(&parts.config).unwrap();
                ready.send(bound.address().unwrap()).unwrap();
                let app = App::new(parts, stopped.clone()).unwrap();
                serve(bound, app, stopped).await.unwrap();
                engine.await.unwrap();
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let address = started.recv().unwrap();
        Self {
            dir,
            address,
            stop,
            thread: Some(thread),
        }
    }

    fn local(&self) -> HttpClient {
        HttpClient::local(&self.dir.path().join("api.sock"), None).unwrap()
    }

    fn events(&self, token: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        BufReader::new(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn next_event(stream: &mut impl BufRead, name: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended");
        if line.trim() == format!("event: {name}") {
            line.clear();
            stream.read_line(&mut line).unwrap();
            return serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        }
    }
}

#[test]
fn on_the_socket_our_own_user_is_admin() {
    let server = Running::start();
    let session: Value = server.local().get("/api/v1/session", &[]).unwrap();
    assert_eq!(session["role"], "admin");
}

#[test]
fn over_tcp_a_token_is_needed_and_enough() {
    let server = Running::start();
    let url = format!("http://{}", server.address);
    let stranger = HttpClient::remote(&url, None, None).unwrap();
    let refused = stranger.get::<Value>("/api/v1/session", &[]).unwrap_err();
    let ClientError::Refused { status, code, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!((*status, code.as_str()), (401, "not_logged_in"));
    let accounts = Accounts::open(server.dir.path()).unwrap();
    let token = accounts.create_token("script", Role::Viewer).unwrap();
    let known = HttpClient::remote(&url, None, Some(token)).unwrap();
    let session: Value = known.get("/api/v1/session", &[]).unwrap();
    assert_eq!(session["user"], "script");
}

#[test]
fn a_freeze_shows_up_in_the_events_at_once() {
    let server = Running::start();
    let accounts = Accounts::open(server.dir.path()).unwrap();
    let token = accounts.create_token("screen", Role::Viewer).unwrap();
    let mut events = server.events(&token);
    let status = next_event(&mut events, "status");
    assert_eq!(status["server"]["incidents"], 0);
    let frozen: Value = server
        .local()
        .post("/api/v1/incidents", &json!({"reason": "a\nb<script>"}))
        .unwrap();
    let incident = next_event(&mut events, "incident");
    assert_eq!(incident["id"], frozen["incident"]);
    // A removed token ends the stream within a tick or two.
    accounts.remove("screen").unwrap();
    let removed = Instant::now();
    let mut line = String::new();
    while events.read_line(&mut line).unwrap() > 0 {
        assert!(removed.elapsed() < PATIENCE / 2, "the stream goes on");
        line.clear();
    }
}

#[test]
fn the_stop_ends_open_streams_within_a_second() {
    let mut server = Running::start();
    let accounts = Accounts::open(server.dir.path()).unwrap();
    let token = accounts.create_token("screen", Role::Viewer).unwrap();
    let mut events = server.events(&token);
    next_event(&mut events, "status");
    let idle = TcpStream::connect(server.address).unwrap();
    let half = {
        let mut half = TcpStream::connect(server.address).unwrap();
        half.write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
        half
    };
    let stopping = Instant::now();
    server.stop.cancel();
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).unwrap();
    server.thread.take().unwrap().join().unwrap();
    let took = stopping.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!server.dir.path().join("api.sock").exists());
    drop((idle, half));
}

#[test]
fn one_address_does_not_crowd_out_another() {
    let server = Running::start();
    let connect = |from: [u8; 4]| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&server.address.into()).unwrap();
        TcpStream::from(socket)
    };
    let mut held: Vec<_> = (0..129).map(|_| connect([127, 0, 0, 2])).collect();
    let mut refused = held.pop().unwrap();
    refused.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap(), 0, "it was not closed");
    let mut other = connect([127, 0, 0, 3]);
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let session: Value = server.local().get("/api/v1/session", &[]).unwrap();
    assert_eq!(session["role"], "admin");
}

#[test]
fn bytes_that_are_no_http_do_no_harm() {
    let server = Running::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /hooks/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
          Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &vec![b'A'; 100_000],
    ] {
        let mut stream = UnixStream::connect(server.dir.path().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may hang up before it has all of it.
        if stream.write_all(bytes).is_ok() {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{answer:?}");
    }
    let session: Value = server.local().get("/api/v1/session", &[]).unwrap();
    assert_eq!(session["role"], "admin");
}
