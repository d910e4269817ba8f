//! What is made known of a target: a burst of losses and early signs become triggers.

use std::net::SocketAddr;

use super::{Engine, Request};
use crate::time::Timestamp;
use crate::trigger::precursor::{Edge, Sign};
use crate::trigger::probe::config::ProbeKind;
use crate::trigger::probe::path::{Health, where_loss_begins};
use crate::trigger::probe::prober::Prober;
use crate::trigger::probe::record::ProbeRecords;
use crate::trigger::probe::state::Burst;
use crate::trigger::{Grade, Kind, Trigger};

impl Engine {
    /// Early signs and a burst, if there is one, become triggers.
    pub(super) fn told(&mut self, place: usize, burst: Option<Burst>) {
        self.tell_early(place);
        let Some(burst) = burst else { return };
        if let Some(trigger) = self.trigger(place, burst) {
            let request = Request::Deliver(place, Box::new(trigger));
            self.outbox.push_back(request);
        }
    }

    fn tell_early(&mut self, place: usize) {
        let Some(target) = self.targets.get_mut(place) else {
            return;
        };
        let Some(early) = target.prober.early() else {
            return;
        };
        let (signs, saving) = (early.take(), early.save_if_due());
        self.outbox.extend(saving.map(Request::Save));
        for sign in signs {
            tracing::info!(probe = target.prober.handle.name(), "{}", sign.text);
            if sign.edge == Edge::Raised
                && let Some(trigger) = early_trigger(&target.prober, &sign)
            {
                let request = Request::Deliver(place, Box::new(trigger));
                self.outbox.push_back(request);
            }
        }
    }

    fn trigger(&self, place: usize, burst: Burst) -> Option<Trigger> {
        let prober = &self.targets.get(place)?.prober;
        let config = &prober.config;
        let failed = prober.failed().last()?;
        let (target, why) = (failed.to.ip(), prober.why(burst.first));
        let mut text = format!(
            "{} of the last {} probes to {target} lost (first at {}): {why}",
            burst.lost, burst.of, burst.first
        );
        let where_lost = self.loss_on_path(&config.name);
        if let Some((path, _, words)) = &where_lost {
            text = format!("{text}; path {path}: {words}");
        }
        let received = Timestamp::now();
        let subject = prober.subject();
        let (kind, name) = (Kind::Probe, &config.name);
        let mut trigger = Trigger::new(kind, name, &subject, &text, burst.first, received);
        trigger.suggested_filter = Some(filter(config.kind, failed.to));
        let mut field = |name: &str, value: String| {
            trigger.fields.insert(name.to_owned(), value);
        };
        field("peer", target.to_string());
        field("target", config.target.clone());
        if let Some((path, at, words)) = where_lost {
            field("path", path);
            field("loss_begins_at", at);
            field("loss_begins", words);
        }
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let records = ProbeRecords::fields(self.instance, number, failed.to, prober.failed());
        for (name, value) in records {
            field(name, value);
        }
        Some(trigger)
    }

    /// Where loss begins on the first path of which this probe is a point: the path, the point,
    /// and words.
    fn loss_on_path(&self, probe: &str) -> Option<(String, String, String)> {
        let path = self
            .paths
            .iter()
            .find(|path| path.points.iter().any(|p| p == probe))?;
        let health = |point: &String| {
            let found = self
                .targets
                .iter()
                .find(|one| one.prober.config.name == *point);
            match found.map(|one| &one.prober.state) {
                Some(state) if state.is_losing() => Health::Loses,
                Some(state) if state.knows() => Health::Answers,
                _ => Health::Unknown,
            }
        };
        let healths: Vec<Health> = path.points.iter().map(health).collect();
        let map = where_loss_begins(&healths);
        let at = path.points.get(map.begins?)?;
        Some((path.name.clone(), at.clone(), map.text(&path.points)?))
    }
}

/// The precursor that an early sign asks for.
fn early_trigger(prober: &Prober, sign: &Sign) -> Option<Trigger> {
    let (config, to) = (&prober.config, prober.towards()?);
    let text = format!("early sign from {}: {}", to.ip(), sign.text);
    let received = Timestamp::now();
    let (kind, name, subject) = (Kind::Probe, &config.name, prober.subject());
    let mut trigger = Trigger::new(kind, name, &subject, &text, sign.since, received);
    trigger.grade = Grade::Precursor;
    trigger.suggested_filter = Some(filter(config.kind, to));
    let fields = [
        ("peer", to.ip().to_string()),
        ("target", config.target.clone()),
        ("sign", sign.kind.name().to_owned()),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    trigger.fields.extend(fields);
    Some(trigger)
}

/// What shows the probes of a target in a capture, pcap-filter(7).
fn filter(kind: ProbeKind, to: SocketAddr) -> String {
    let (host, port) = (to.ip(), to.port());
    match kind {
        ProbeKind::Icmp if host.is_ipv4() => format!("icmp and host {host}"),
        ProbeKind::Icmp => format!("icmp6 and host {host}"),
        ProbeKind::Tcp => format!("tcp port {port} and host {host}"),
        ProbeKind::Dns => format!("udp port {port} and host {host}"),
    }
}
