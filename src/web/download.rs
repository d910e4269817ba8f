//! Streaming what a thread writes: a bounded channel between a blocking writer and the client, so
//! that memory stays constant, a slow client slows the writer, and a gone client ends it.

use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;
use super::state::App;

/// Bytes written to the client at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS_WAITING: usize = 4;
/// A client that takes nothing for so long is given up: it holds a thread.
const STALLED: Duration = Duration::from_mins(1);
/// Marks what was downloaded before the incident was sealed.
const PROVISIONAL: HeaderName = HeaderName::from_static("x-wirewitness-provisional");

/// What is downloaded.
#[derive(Debug)]
pub(super) struct Download {
    /// Its file name without the ending.
    pub(super) stem: String,
    /// Its ending.
    pub(super) ending: &'static str,
    /// Its media type.
    pub(super) content_type: &'static str,
    /// Whether it may still change.
    pub(super) provisional: bool,
}

/// A turn to write a download, while there is one.
pub(super) fn turn(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(app.downloads())
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("busy", "too many downloads at once", 5))
}

impl Download {
    /// Answers with what `write` writes on a thread of its own.
    pub(super) fn stream<W, E>(self, turn: OwnedSemaphorePermit, write: W) -> Response
    where
        W: FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
        E: std::fmt::Display,
    {
        self.stream_while((), turn, write)
    }

    /// The same; `wanted` is dropped with the answer's body.
    pub(super) fn stream_while<G, W, E>(
        self,
        wanted: G,
        turn: OwnedSemaphorePermit,
        write: W,
    ) -> Response
    where
        G: Send + 'static,
        W: FnOnce(&mut dyn Write) -> Result<(), E> + Send + 'static,
        E: std::fmt::Display,
    {
        let (chunks, body) = mpsc::channel(CHUNKS_WAITING);
        let runtime = Handle::current();
        let name = self.name();
        let logged = name.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let channel = Channel {
                chunks: chunks.clone(),
                runtime: runtime.clone(),
            };
            let mut buffered = BufWriter::with_capacity(CHUNK_BYTES, channel);
            // Without this a panic would look to the client like the end of a whole file.
            let written = catch_unwind(AssertUnwindSafe(|| {
                write(&mut buffered).map_err(|error| error.to_string())?;
                buffered.flush().map_err(|error| error.to_string())
            }));
            let written = written.unwrap_or_else(|_| Err("a bug stopped the writer".to_owned()));
            // What is left in the buffer after an error must not be sent.
            let (_channel, _rest) = buffered.into_parts();
            if let Err(error) = written {
                tracing::warn!(file = logged, error, "download broken off");
                // Breaks the connection off, so that the client knows the file is not whole.
                let broken = chunks.send(Err(io::Error::other(error)));
                let sent = runtime.block_on(tokio::time::timeout(STALLED, broken));
                drop(sent);
            }
        });
        let body = ReceiverStream::new(body).map(move |chunk| {
            let _held: &G = &wanted;
            chunk
        });
        let mut response = Body::from_stream(body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Ok(disposition) = format!("attachment; filename=\"{name}\"").parse() {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        if self.provisional {
            headers.insert(PROVISIONAL, HeaderValue::from_static("true"));
        }
        response
    }

    /// A file name that means the same to every client (RFC 6266): letters, digits, `.`, `-` only.
    fn name(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let stem = self.stem.chars().map(|c| if plain(c) { c } else { '-' });
        let mut name: String = stem.collect();
        if self.provisional {
            name.push_str("-provisional");
        }
        name.push('.');
        name.push_str(self.ending);
        name
    }
}

struct Channel {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Ok(Bytes::copy_from_slice(bytes));
        let sent = tokio::time::timeout(STALLED, self.chunks.send(chunk));
        let sent = self.runtime.block_on(sent);
        match sent {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the client went away",
            )),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client took nothing for a minute",
            )),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    fn download() -> Download {
        Download {
            stem: "wirewitness-a/../b\r\n\"あ".to_owned(),
            ending: "pcapng",
            content_type: "application/x-pcapng",
            provisional: true,
        }
    }

    fn turns() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1))
    }

    #[tokio::test]
    async fn all_that_is_written_arrives_under_a_safe_name() {
        let turn = turns().try_acquire_owned().unwrap();
        let response = download().stream(turn, |out| {
            (0..10).try_for_each(|n| out.write_all(&vec![n; 100_000]))
        });
        let headers = response.headers();
        let disposition = headers.get(CONTENT_DISPOSITION).unwrap();
        assert_eq!(
            disposition,
            "attachment; filename=\"wirewitness-a----b-----provisional.pcapng\""
        );
        assert_eq!(headers.get(PROVISIONAL).unwrap(), "true");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 1_000_000);
        assert_eq!(body.last(), Some(&9));
    }

    #[tokio::test]
    async fn an_error_midway_is_no_quiet_end() {
        let turn = turns().try_acquire_owned().unwrap();
        let response = download().stream(turn, |out| {
            out.write_all(&vec![7; 2 * CHUNK_BYTES])?;
            Err(io::Error::other("the disk is gone"))
        });
        let error = response.into_body().collect().await.unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
    }

    #[tokio::test]
    async fn a_panic_midway_is_no_quiet_end_either() {
        let turn = turns().try_acquire_owned().unwrap();
        let response = download().stream(turn, |out| {
            out.write_all(&vec![7; 2 * CHUNK_BYTES])?;
            assert!(out.flush().is_err(), "planted");
            Ok::<_, io::Error>(())
        });
        assert!(response.into_body().collect().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_writer_and_frees_its_turn() {
        let turns = turns();
        let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
        let (ended, end) = std_mpsc::channel();
        let response = download().stream(turn, move |out| {
            let error = loop {
                if let Err(error) = out.write_all(&vec![1; CHUNK_BYTES]) {
                    break error;
                }
            };
            ended.send(error.kind()).map_err(|_| "nobody asks")
        });
        drop(response);
        let kind = tokio::task::spawn_blocking(move || end.recv().unwrap());
        assert_eq!(kind.await.unwrap(), io::ErrorKind::BrokenPipe);
        let _turn = turns.acquire().await.unwrap();
    }
}
