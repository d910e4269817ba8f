//! Probes: an ICMP echo, a TCP connection or a DNS query at an interval; a burst of losses is a
//! trigger.
//!
//! The engine is one thread for all of them; everything that decides (`state`, `stats`,
//! `path`, `cadence`, `prober`) is handed its time.

mod aim;
mod cadence;
mod config;
mod connect;
pub mod dns;
mod early;
pub mod echo;
mod engine;
mod icmp_error;
pub mod path;
mod prober;
mod record;
mod route;
mod socket;
pub mod stamp;
mod state;
mod stats;
mod track;
mod wires;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{ProbeConfig, ProbeError, ProbeKind, Target};
pub use early::BASELINES;
pub use icmp_error::IcmpErrorKind;
pub use path::{PathConfig, PathError};
pub use record::{FAILED_FIELD, PROBE_FIELD, ProbeRecord, ProbeRecords};
pub use stamp::Stamp;
pub use state::{Burst, ProbeState};
pub use stats::{Bin, Figures, Quantiles};
pub use track::{PathView, PointView, ProbeCounts, ProbeView, Probes, Said, Sample};
pub use wires::Wires as ProbeSockets;

use self::aim::{Aim, Lookup};
use self::early::Early;
use self::engine::{Engine, Request};
use self::prober::Prober;
use self::track::{Track, TrackHandle};
use super::delivery::Delivery;
use super::precursor::PrecursorConfig;
use super::status::{SourceHandle, Sources};
use super::{Intake, Kind};

/// Triggers and look-ups waiting to be taken up; further ones wait in the thread.
const REQUESTS: usize = 1024;

/// A probe ready to run.
#[derive(Debug)]
pub struct Probe {
    config: ProbeConfig,
    target: Target,
    track: TrackHandle,
}

impl Probe {
    /// Checks all probes of a configuration.
    pub fn all(configs: &[ProbeConfig]) -> Result<Vec<Self>, ProbeError> {
        let mut names = HashSet::new();
        if let Some(twice) = configs.iter().find(|config| !names.insert(&config.name)) {
            return Err(ProbeError::Duplicate(twice.name.clone()));
        }
        let probe = |config: &ProbeConfig| {
            let (name, kind) = (&config.name, config.kind);
            let track = Track::new(name, kind, &config.target, config.interval);
            Ok(Self {
                target: config.validate()?,
                config: config.clone(),
                track: TrackHandle::new(track),
            })
        };
        configs.iter().map(probe).collect()
    }

    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        let handle = sources.register(Kind::Probe, &self.config.name);
        sources.probes().enter(&handle, &self.track);
        handle
    }
}

/// Starts to probe; within a tokio runtime. Ends with `stop`, and then so do the tasks.
pub(super) fn start(
    sockets: ProbeSockets,
    probes: Vec<(SourceHandle, Probe)>,
    paths: Vec<PathConfig>,
    (precursor, baselines): (&PrecursorConfig, &Path),
    (intake, stop): (&Intake, &CancellationToken),
    tasks: &mut JoinSet<()>,
) -> io::Result<()> {
    let (requests, asked) = mpsc::channel(REQUESTS);
    let mut deliveries = Vec::with_capacity(probes.len());
    let mut targets = Vec::with_capacity(probes.len());
    for (handle, probe) in probes {
        deliveries.push(Delivery::new(intake.clone(), handle.clone(), stop.clone()));
        let early = probe.config.precursor;
        let early = early.then(|| Early::load(precursor, &probe.config, baselines));
        let question = probe.config.question().ok();
        let aim = Aim::new(probe.target, probe.config.port());
        let mut watched = Prober::new(probe.config, handle, probe.track);
        if let Some(early) = early {
            watched.watch(early);
        }
        targets.push(engine::Target {
            prober: watched,
            aim,
            question,
        });
    }
    let engine = Engine::new(sockets, targets, paths, requests)?;
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("probes".to_owned())
        .spawn(move || engine.run(&stopped))?;
    tasks.spawn(async move {
        serve(asked, &deliveries).await;
        // The thread ended before its end of the queue was closed.
        if tokio::task::spawn_blocking(move || thread.join())
            .await
            .is_err()
        {
            tracing::error!("the thread that probes failed");
        }
    });
    Ok(())
}

/// Does what the thread asks for, until it ends.
async fn serve(mut asked: mpsc::Receiver<Request>, deliveries: &[Delivery]) {
    let under_way = TaskTracker::new();
    while let Some(request) = asked.recv().await {
        match request {
            Request::Deliver(place, trigger) => {
                let Some(delivery) = deliveries.get(place).cloned() else {
                    continue;
                };
                under_way.spawn(async move {
                    // An error means that we are stopping.
                    let _delivered = delivery.deliver(*trigger).await;
                });
            }
            Request::Save(saving) => {
                under_way.spawn_blocking(move || saving.write());
            }
            Request::Resolve(lookup) => {
                tokio::spawn(resolve(lookup));
            }
        }
    }
    under_way.close();
    under_way.wait().await;
}

async fn resolve(lookup: Lookup) {
    let found = tokio::net::lookup_host((lookup.name.as_str(), 0)).await;
    let answer = found
        .map(|found| found.map(|address| address.ip()).collect())
        .map_err(|error| error.to_string());
    *lookup.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
}
