//! Probes: an ICMP echo at an interval; a burst of losses is a trigger.

mod config;
mod echo;
mod pinger;
mod route;
mod state;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

pub use config::{ProbeConfig, ProbeError, Target};
pub(in crate::trigger) use pinger::Pinger;
pub use pinger::ProbeSockets;
pub use state::{Burst, Outcome, ProbeState};

use super::delivery::Delivery;
use super::status::{Count, SourceHandle, SourceState, Sources};
use super::{Kind, Trigger};
use crate::time::Timestamp;

/// A name that does not resolve, or whose address does not answer, is asked for again this often.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// A probe ready to run.
#[derive(Debug)]
pub struct Probe {
    config: ProbeConfig,
    target: Target,
}

impl Probe {
    /// Checks all probes of a configuration.
    pub fn all(configs: &[ProbeConfig]) -> Result<Vec<Self>, ProbeError> {
        let mut names = HashSet::new();
        if let Some(twice) = configs.iter().find(|config| !names.insert(&config.name)) {
            return Err(ProbeError::Duplicate(twice.name.clone()));
        }
        let probe = |config: &ProbeConfig| {
            Ok(Self {
                target: config.validate()?,
                config: config.clone(),
            })
        };
        configs.iter().map(probe).collect()
    }

    /// Enters it in the registry.
    pub fn register(&self, sources: &Sources) -> SourceHandle {
        sources.register(Kind::Probe, &self.config.name)
    }

    /// Probes until the delivery's token is cancelled.
    pub(super) async fn run(self, pinger: Pinger, delivery: Delivery) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let stop = delivery.stop().clone();
        let mut prober = Prober {
            state: ProbeState::new(self.config.lost, self.config.of),
            aim: Aim::new(self.target, pinger.clone()),
            config: self.config,
            pinger,
            delivery,
            underway: FuturesOrdered::new(),
            seq: 0,
            deliveries: TaskTracker::new(),
        };
        loop {
            tokio::select! {
                _ = ticks.tick() => prober.send(),
                Some(outcome) = prober.underway.next() => prober.record(&outcome),
                () = stop.cancelled() => break,
            }
        }
        prober.deliveries.close();
        prober.deliveries.wait().await;
        prober.delivery.handle().set(SourceState::Stopped, "");
    }
}

/// What became of a probe sent.
struct Probed {
    sent: Timestamp,
    target: IpAddr,
    result: Result<Duration, String>,
}

struct Prober {
    config: ProbeConfig,
    state: ProbeState,
    aim: Aim,
    pinger: Pinger,
    delivery: Delivery,
    /// In the order of sending, whatever the order of the answers.
    underway: FuturesOrdered<Pin<Box<dyn Future<Output = Probed> + Send>>>,
    seq: u16,
    /// Triggers on their way; probing goes on meanwhile.
    deliveries: TaskTracker,
}

impl Prober {
    fn send(&mut self) {
        let aimed = self.aim.now();
        let (target, fault) = match aimed {
            Ok(target) => (target, None),
            Err(Missing {
                last: Some(last),
                why,
            }) => (last, Some(why)),
            Err(Missing { last: None, why }) => {
                // It never worked: most likely a mistake in the configuration, not a fault.
                self.report(SourceState::Failing, why);
                return;
            }
        };
        self.seq = self.seq.wrapping_add(1);
        let (seq, timeout) = (self.seq, self.config.timeout);
        let (pinger, handle) = (self.pinger.clone(), self.delivery.handle().clone());
        let sent = Timestamp::now();
        self.underway.push_back(Box::pin(async move {
            let result = match fault {
                Some(why) => Err(why),
                None => pinger.ping(target, seq, timeout, &handle).await,
            };
            Probed {
                sent,
                target: target.ip(),
                result,
            }
        }));
    }

    fn record(&mut self, probed: &Probed) {
        let handle = self.delivery.handle();
        if probed.result.is_ok() {
            handle.count(Count::Received);
        } else {
            handle.count(Count::Lost);
            self.aim.doubt();
        }
        let burst = self.state.record(Outcome {
            sent: probed.sent,
            replied: probed.result.is_ok(),
        });
        self.describe(probed);
        if let Some(burst) = burst {
            let trigger = self.trigger(burst, probed);
            let delivery = self.delivery.clone();
            self.deliveries.spawn(async move {
                // An error means that we are stopping.
                let _delivered = delivery.deliver(trigger).await;
            });
        }
    }

    fn describe(&self, probed: &Probed) {
        let target = probed.target;
        let failing = probed.result.is_err() || self.state.in_fault();
        let mut detail = match &probed.result {
            Ok(rtt) => format!("{target} {:.1} ms", rtt.as_secs_f64() * 1000.0),
            Err(why) => format!("{target} {why}"),
        };
        if let Some(burst) = self.state.burst() {
            detail = format!("{detail}; {} of the last {} lost", burst.lost, burst.of);
        }
        let state = if failing {
            SourceState::Failing
        } else {
            SourceState::Ok
        };
        self.report(state, detail);
    }

    fn report(&self, state: SourceState, detail: String) {
        let handle = self.delivery.handle();
        let logged = detail.clone();
        if handle.set(state, detail) {
            if state == SourceState::Failing {
                tracing::warn!(probe = handle.name(), "{logged}");
            } else {
                tracing::info!(probe = handle.name(), "{logged}");
            }
        }
    }

    fn trigger(&self, burst: Burst, probed: &Probed) -> Trigger {
        let target = probed.target;
        let name = &self.config.name;
        let subject = match &self.config.subject {
            Some(subject) => subject.clone(),
            None => format!("probe {name}"),
        };
        let mut text = format!(
            "{} of the last {} probes to {target} lost (first at {})",
            burst.lost, burst.of, burst.first
        );
        if let Err(why) = &probed.result {
            text = format!("{text}: {why}");
        }
        let received = Timestamp::now();
        let mut trigger = Trigger::new(Kind::Probe, name, &subject, &text, burst.first, received);
        let icmp = if target.is_ipv4() { "icmp" } else { "icmp6" };
        trigger.suggested_filter = Some(format!("{icmp} and host {target}"));
        trigger.fields.insert("peer".to_owned(), target.to_string());
        trigger
            .fields
            .insert("target".to_owned(), self.config.target.clone());
        trigger
    }
}

/// Where probes go now.
struct Aim {
    target: Target,
    pinger: Pinger,
    last: Option<SocketAddr>,
    resolving: Option<JoinHandle<io::Result<SocketAddr>>>,
    asked: Option<Instant>,
    why: String,
}

/// There is no address to send to.
struct Missing {
    /// The one there was before.
    last: Option<SocketAddr>,
    why: String,
}

impl Aim {
    fn new(target: Target, pinger: Pinger) -> Self {
        Self {
            target,
            pinger,
            last: None,
            resolving: None,
            asked: None,
            why: "its name is being resolved".to_owned(),
        }
    }

    /// The address to send to. Never waits: a name server that hangs must not delay a probe.
    fn now(&mut self) -> Result<SocketAddr, Missing> {
        let address = match &self.target {
            Target::Address(address) => *address,
            Target::Gateway => match route::gateway() {
                Some(address) => address,
                None => {
                    return Err(Missing {
                        last: self.last,
                        why: "this machine has no default route".to_owned(),
                    });
                }
            },
            Target::Name(name) => {
                let name = name.clone();
                self.resolved(&name)?
            }
        };
        if let Err(why) = self.pinger.can_reach(address.ip()) {
            return Err(Missing {
                last: None,
                why: format!("no ICMP socket for {}: {why}", address.ip()),
            });
        }
        self.last = Some(address);
        Ok(address)
    }

    /// The last probe was lost: the name may have another address by now.
    fn doubt(&mut self) {
        if let Target::Name(name) = &self.target {
            let name = name.clone();
            self.ask(&name);
        }
    }

    /// The name's last known address; takes in an answer that has come.
    fn resolved(&mut self, name: &str) -> Result<SocketAddr, Missing> {
        if let Some(task) = self.resolving.take_if(|task| task.is_finished()) {
            // It is finished: this does not wait.
            match futures_util::FutureExt::now_or_never(task) {
                Some(Ok(Ok(address))) => self.last = Some(address),
                Some(Ok(Err(error))) => self.why = format!("cannot resolve {name}: {error}"),
                _ => self.why = format!("cannot resolve {name}"),
            }
        }
        if self.last.is_none() {
            self.ask(name);
        }
        self.last.ok_or_else(|| Missing {
            last: None,
            why: self.why.clone(),
        })
    }

    /// Asks for the name, unless that was done just now.
    fn ask(&mut self, name: &str) {
        let recent = self
            .asked
            .is_some_and(|asked| asked.elapsed() < RESOLVE_EVERY);
        if self.resolving.is_some() || recent {
            return;
        }
        self.asked = Some(Instant::now());
        let (name, pinger) = (name.to_owned(), self.pinger.clone());
        self.resolving = Some(tokio::spawn(async move {
            tokio::net::lookup_host((name, 0))
                .await?
                .find(|address| pinger.can_reach(address.ip()).is_ok())
                .ok_or_else(|| io::Error::other("no address of a family we can probe"))
        }));
    }
}
