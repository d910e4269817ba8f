//! A ring, a double of the recorder that answers for it, and the engine beside them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::incident::engine::{Change, Incidents, Setup};
use crate::incident::manifest::ClockState;
use crate::incident::model::{Incident, State};
use crate::incident::{EvidenceConfig, WindowConfig};
use crate::pcapng::encode::{self, Interface, Section};
use crate::pcapng::isb::{Detail, SAMPLE_LEN, Sample};
use crate::recorder::client::Client;
use crate::recorder::protocol::{InterfaceStatus, PinReport, RecorderStatus, Reply, Request};
use crate::ring::catalog::Catalog;
use crate::ring::names::SegmentName;
use crate::time::Timestamp;
use crate::trigger::{Accepted, Kind, Trigger};

const LIMIT: Duration = Duration::from_secs(20);

/// A ring with one interface, and who answers for it.
pub(super) struct Site {
    pub(super) dir: tempfile::TempDir,
    /// The recorder answers at all.
    pub(super) up: Arc<AtomicBool>,
    /// It says that windows are complete.
    pub(super) completes: Arc<AtomicBool>,
    /// The clock was synchronised.
    pub(super) now: Timestamp,
}

impl Site {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let site = Self {
            dir,
            up: Arc::new(AtomicBool::new(true)),
            completes: Arc::new(AtomicBool::new(true)),
            now,
        };
        fs::create_dir_all(site.ring().join("eth1")).unwrap();
        fs::create_dir_all(site.evidence()).unwrap();
        let start = now.minus(Duration::from_secs(30));
        for number in 0..6_u64 {
            site.segment(number, start);
        }
        site.serve();
        site
    }

    pub(super) fn ring(&self) -> PathBuf {
        self.dir.path().join("ring")
    }

    pub(super) fn evidence(&self) -> PathBuf {
        self.dir.path().join("incidents")
    }

    /// Segment `number` holds ten packets, one a second from `start + 10 * number` on, and its
    /// accounting; the last reaches half a minute into the future.
    pub(super) fn segment(&self, number: u64, start: Timestamp) {
        let at = |packet: u64| start.plus(Duration::from_secs(10 * number + packet));
        let mut bytes = Vec::new();
        encode::section_header(&mut bytes, &Section::default());
        let interface = Interface {
            linktype: 1,
            snaplen: 262_144,
            name: "eth1",
            ..Interface::default()
        };
        encode::interface(&mut bytes, &interface);
        for packet in 0..10 {
            let written = 10 * number + packet + 1;
            let mut block = vec![0; encode::epb_len(60)];
            encode::epb(&mut block, 0, at(packet), 60, &[7; 60]).unwrap();
            bytes.extend_from_slice(&block);
            let sample = Sample {
                at: at(packet).plus(Duration::from_millis(if packet == 9 { 1000 } else { 500 })),
                start,
                counters: Counters {
                    received: written,
                    written,
                    written_bytes: 60 * written,
                    ..Counters::default()
                },
                detail: Detail::default(),
                last: packet == 9,
            };
            sample.encode(&mut bytes, 0, SAMPLE_LEN);
        }
        let name = SegmentName {
            number,
            first: at(0),
        };
        fs::write(self.ring().join("eth1").join(name.to_string()), bytes).unwrap();
    }

    /// A segment the recorder is still writing to, opened just behind the trigger's window; its
    /// link comes with every pin.
    pub(super) fn active(&self) -> PathBuf {
        let name = SegmentName {
            number: 9,
            first: self.now.plus(Duration::from_nanos(5)),
        };
        let path = self.ring().join("eth1").join(name.to_string());
        let mut bytes = Vec::new();
        encode::section_header(&mut bytes, &Section::default());
        encode::interface(&mut bytes, &Interface::default());
        fs::write(&path, bytes).unwrap();
        path
    }

    fn serve(&self) {
        let listener = UnixListener::bind(self.ring().join("control.sock")).unwrap();
        let recorder = Recorder {
            ring: self.ring(),
            evidence: self.evidence(),
            up: Arc::clone(&self.up),
            completes: Arc::clone(&self.completes),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let recorder = recorder.clone();
                std::thread::spawn(move || recorder.answer(stream.unwrap()));
            }
        });
    }

    pub(super) fn open(&self) -> Server {
        self.open_with(200 << 30)
    }

    pub(super) fn open_with(&self, quota_bytes: u64) -> Server {
        let setup = Setup {
            evidence: EvidenceConfig {
                path: self.evidence(),
                quota: bytesize::ByteSize(quota_bytes),
                ..EvidenceConfig::default()
            },
            window: WindowConfig::default(),
            keep_drills: Duration::from_hours(48),
            state_dir: self.dir.path().to_owned(),
            ring: self.ring(),
            recorder: Client::new(self.ring().join("control.sock")),
            maintenance: Arc::default(),
            clock: Arc::new(|| ClockState {
                synchronised: true,
                offset_bound_ns: Some(1000),
                source: "ntp".to_owned(),
            }),
        };
        let stop = CancellationToken::new();
        let (incidents, done) = Incidents::open(setup, stop.clone()).unwrap();
        let changes = incidents.subscribe();
        Server {
            incidents,
            stop,
            done,
            changes,
        }
    }

    /// A trigger whose window ended a moment ago.
    pub(super) fn trigger(&self, subject: &str) -> Trigger {
        let mut trigger = Trigger::new(
            Kind::Syslog,
            "listener",
            subject,
            "it broke",
            self.now,
            self.now,
        );
        trigger.before = Some(Duration::from_secs(15));
        trigger.after = Some(Duration::ZERO);
        trigger
    }

    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.evidence().join(id)
    }
}

/// Answers like the recorder.
#[derive(Clone)]
struct Recorder {
    ring: PathBuf,
    evidence: PathBuf,
    pub(super) up: Arc<AtomicBool>,
    pub(super) completes: Arc<AtomicBool>,
}

impl Recorder {
    fn answer(&self, stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
            if !self.up.load(Ordering::SeqCst) {
                return;
            }
            let reply = self.handle(serde_json::from_str(&line).unwrap());
            let reply = serde_json::to_string(&reply).unwrap() + "\n";
            if stream.get_mut().write_all(reply.as_bytes()).is_err() {
                return;
            }
            line.clear();
        }
    }

    fn handle(&self, request: Request) -> Reply {
        match request {
            Request::Pin { id, window } => {
                let to = self.evidence.join(id).join("segments/eth1");
                fs::create_dir_all(&to).unwrap();
                let catalog = Catalog::scan(&self.ring.join("eth1")).unwrap();
                for segment in catalog.covering(&window) {
                    drop(fs::hard_link(
                        &segment.path,
                        to.join(segment.name.to_string()),
                    ));
                }
                for segment in catalog.segments().iter().filter(|s| s.name.number == 9) {
                    drop(fs::hard_link(
                        &segment.path,
                        to.join(segment.name.to_string()),
                    ));
                    if segment.name.first < window.to {
                        end(&segment.path);
                    }
                }
                let over = window.to <= Timestamp::now();
                Reply::Pinned(PinReport {
                    complete: over && self.completes.load(Ordering::SeqCst),
                    segments: Vec::new(),
                })
            }
            Request::Release { id } => {
                drop(fs::remove_dir_all(self.evidence.join(id)));
                Reply::Released
            }
            Request::Status => Reply::Status(RecorderStatus {
                pid: 1,
                started: Timestamp::MIN,
                version: "0".to_owned(),
                interfaces: vec![InterfaceStatus::running("eth1")],
                clock: None,
            }),
            Request::Flush => Reply::Flushed,
            Request::Check { .. } => Reply::Pinned(PinReport::default()),
        }
    }
}

/// Ends a segment as the recorder does.
fn end(path: &Path) {
    let sample = Sample {
        at: Timestamp::now(),
        start: Timestamp::MIN,
        counters: Counters::default(),
        detail: Detail::default(),
        last: true,
    };
    let mut bytes = Vec::new();
    sample.encode(&mut bytes, 0, SAMPLE_LEN);
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

pub(super) struct Server {
    pub(super) incidents: Incidents,
    stop: CancellationToken,
    done: JoinHandle<()>,
    pub(super) changes: broadcast::Receiver<Change>,
}

impl Server {
    pub(super) async fn submit(&self, trigger: Trigger) -> Accepted {
        self.incidents.intake().submit(trigger).await.unwrap()
    }

    pub(super) async fn until(&mut self, mut wanted: impl FnMut(&Change) -> bool) {
        let found = tokio::time::timeout(LIMIT, async {
            while !wanted(&self.changes.recv().await.unwrap()) {}
        });
        found.await.expect("it never came");
    }

    pub(super) async fn sealed(&mut self, id: &str) -> Incident {
        if self
            .incidents
            .get(id)
            .is_none_or(|i| i.state != State::Sealed)
        {
            self.until(|change| matches!(change, Change::Sealed(i) if i.id == id))
                .await;
        }
        self.incidents.get(id).unwrap()
    }

    /// Stops at once, as it does for SIGTERM.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(1), self.done)
            .await
            .unwrap()
            .unwrap();
    }
}
