//! `GET /metrics`: OpenMetrics text, made anew from the moment's picture at each scrape, so that
//! it never disagrees with the status page.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::lookback::SourcePicture;
use super::problem::Problem;
use super::state::App;
use super::status::Picture;
use crate::drill::Tally;
use crate::incident::model::{Incident, State as Stage};
use crate::notify::TargetStatus;
use crate::notify::status::TargetState;
use crate::recorder::protocol::InterfaceState;
use crate::time::Timestamp;
use crate::trigger::probe::ProbeView;
use crate::trigger::status::{SourceState, SourceStatus};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfInterface {
    interface: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    interface: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    kind: String,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLateness {
    kind: String,
    source: String,
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDoubt {
    kind: String,
    source: String,
    clock: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMaintenance {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProbe {
    probe: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Quantile {
    probe: String,
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Drilled {
    source_kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillEnd {
    source_kind: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTarget {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    target: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let picture = app.board().picture(&app).await;
    let known = app.sources().probes().clone();
    let views = tokio::task::spawn_blocking(move || known.views(Timestamp::now()));
    let views = views.await;
    let views = views.map_err(|error| Problem::internal("adding up the probes", error))?;
    let list = app.incidents().list();
    let tally = app.drills().tally();
    let page = page(&picture, &list, &app.calls().refused(), &views, &tally);
    let page = page.map_err(|error| Problem::internal("writing the metrics", error))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], page).into_response())
}

fn page(
    picture: &Picture,
    all: &[Incident],
    refused_calls: &BTreeMap<&'static str, u64>,
    views: &[ProbeView],
    tally: &Tally,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("wirewitness");
    let build = Family::<Build, Gauge>::default();
    let version = picture.version;
    build.get_or_create(&Build { version }).set(1);
    registry.register("build_info", "Version of the server", build);
    interfaces(&mut registry, picture);
    server(&mut registry, picture);
    incidents(&mut registry, all);
    notifications(&mut registry, &picture.server.notify);
    probes(&mut registry, views);
    drills(&mut registry, tally);
    let refused = Family::<Refused, Counter>::default();
    for (&reason, &count) in refused_calls {
        refused.get_or_create(&Refused { reason }).inc_by(count);
    }
    registry.register("webhooks_refused", "Calls of hooks refused", refused);
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

fn drills(registry: &mut Registry, tally: &Tally) {
    let ended = Family::<DrillEnd, Counter>::default();
    for (&(kind, result), &count) in &tally.ended {
        let source_kind = kind.to_string();
        ended
            .get_or_create(&DrillEnd {
                source_kind,
                result,
            })
            .inc_by(count);
    }
    registry.register("drills", "Drills that ended", ended);
    let last = Family::<Drilled, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let took = Family::<Drilled, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    for (kind, (at, span)) in &tally.passed {
        let of = Drilled {
            source_kind: kind.to_string(),
        };
        let since_epoch = at.since(Timestamp::MIN).as_secs_f64();
        last.get_or_create(&of).set(since_epoch);
        took.get_or_create(&of).set(span.as_secs_f64());
    }
    registry.register_with_unit(
        "drill_last_success_timestamp",
        "When the last drill passed",
        Unit::Seconds,
        last,
    );
    registry.register_with_unit(
        "drill_last_success_duration",
        "How long the last drill that passed took",
        Unit::Seconds,
        took,
    );
}

fn interfaces(registry: &mut Registry, picture: &Picture) {
    let up = Family::<OfInterface, Gauge>::default();
    let packets = Family::<OfInterface, Counter>::default();
    let written = Family::<OfInterface, Counter>::default();
    let dropped = Family::<Dropped, Counter>::default();
    let truncated = Family::<OfInterface, Counter>::default();
    let filtered = Family::<OfInterface, Counter>::default();
    let gap = Family::<OfInterface, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let oldest = Family::<OfInterface, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let ring = Family::<OfInterface, Gauge>::default();
    let slots = Family::<OfInterface, Gauge>::default();
    for of in &picture.interfaces {
        let interface = OfInterface {
            interface: of.name.clone(),
        };
        let running = of.state == InterfaceState::Running;
        up.get_or_create(&interface).set(i64::from(running));
        packets
            .get_or_create(&interface)
            .inc_by(of.counters.received);
        written
            .get_or_create(&interface)
            .inc_by(of.counters.written_bytes);
        let stages = [
            ("kernel", of.counters.dropped_kernel),
            ("ring", of.counters.dropped_ring),
            ("interface", of.counters.dropped_iface),
        ];
        for (stage, count) in stages {
            let interface = of.name.clone();
            dropped
                .get_or_create(&Dropped { interface, stage })
                .inc_by(count);
        }
        truncated
            .get_or_create(&interface)
            .inc_by(of.counters.truncated);
        filtered
            .get_or_create(&interface)
            .inc_by(of.counters.filtered);
        gap.get_or_create(&interface)
            .set(Duration::from_nanos(of.longest_gap_ns).as_secs_f64());
        if let Some(from) = of.ring_from {
            oldest.get_or_create(&interface).set(seconds(from));
        }
        ring.get_or_create(&interface).set(whole(of.ring_bytes));
        slots.get_or_create(&interface).set(whole(of.slots_free));
    }
    registry.register("capture_up", "Whether the interface is recorded", up);
    registry.register(
        "capture_packets",
        "Packets the kernel accepted for us",
        packets,
    );
    registry.register_with_unit(
        "capture_written",
        "Captured bytes in the ring",
        Unit::Bytes,
        written,
    );
    registry.register("capture_dropped_packets", "Packets lost, by where", dropped);
    registry.register(
        "capture_truncated_packets",
        "Packets cut by the snapshot length",
        truncated,
    );
    registry.register(
        "capture_filtered_packets",
        "Packets the capture filter refused, an estimate",
        filtered,
    );
    registry.register_with_unit(
        "capture_longest_gap",
        "Longest time without a packet in the last second of accounting",
        Unit::Seconds,
        gap,
    );
    registry.register_with_unit(
        "ring_oldest_packet_timestamp",
        "Time of the oldest packet in the ring",
        Unit::Seconds,
        oldest,
    );
    registry.register_with_unit(
        "ring_used",
        "Bytes of segments in the ring",
        Unit::Bytes,
        ring,
    );
    registry.register("ring_slots_free", "Memory slots free", slots);
}

fn server(registry: &mut Registry, picture: &Picture) {
    let recorder = Gauge::<i64>::default();
    recorder.set(i64::from(picture.recorder.reachable));
    registry.register("recorder_up", "Whether the recorder answers", recorder);
    let triggers = Family::<OfSource, Counter>::default();
    let up = Family::<OfSource, Gauge>::default();
    for of in picture.server.sources.iter().map(|one| &one.status) {
        let source = of_source(of);
        triggers.get_or_create(&source).inc_by(of.triggers);
        up.get_or_create(&source)
            .set(i64::from(of.state == SourceState::Ok));
    }
    maintenance(registry, picture);
    lookback(registry, &picture.server.sources);
    registry.register("triggers", "Triggers made durable", triggers);
    registry.register("source_up", "Whether the source works", up);
    let clock = Gauge::<i64>::default();
    clock.set(i64::from(picture.clock.state.synchronised));
    registry.register(
        "clock_synchronised",
        "Whether the clock is synchronised",
        clock,
    );
    if let Some(bound) = picture.clock.state.offset_bound_ns {
        let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        gauge.set(Duration::from_nanos(bound).as_secs_f64());
        registry.register_with_unit(
            "clock_max_error",
            "Bound of the clock's error",
            Unit::Seconds,
            gauge,
        );
    }
    let steps = Counter::<u64>::default();
    steps.inc_by(picture.clock.steps_total);
    registry.register("clock_steps", "How often the clock was set", steps);
    let sizes = [
        (
            "evidence",
            "Bytes of evidence",
            Some(picture.server.evidence_bytes),
        ),
        (
            "evidence_quota",
            "Quota of evidence",
            Some(picture.server.evidence_quota_bytes),
        ),
        (
            "disk_free",
            "Bytes free on the disk",
            picture.disk.free_bytes,
        ),
        ("disk_size", "Size of the disk", picture.disk.total_bytes),
    ];
    for (name, help, bytes) in sizes {
        if let Some(bytes) = bytes {
            let gauge = Gauge::<i64>::default();
            gauge.set(whole(bytes));
            registry.register_with_unit(name, help, Unit::Bytes, gauge);
        }
    }
}

fn of_source(of: &SourceStatus) -> OfSource {
    OfSource {
        kind: of.kind.to_string(),
        source: of.name.clone(),
    }
}

/// How late sources are, and whether the ring reaches back far enough for them.
fn lookback(registry: &mut Registry, sources: &[SourcePicture]) {
    type Real = Gauge<f64, std::sync::atomic::AtomicU64>;
    let late = Family::<OfLateness, Real>::default();
    let need = Family::<OfSource, Real>::default();
    let margin = Family::<OfSource, Real>::default();
    let too_late = Family::<OfSource, Gauge>::default();
    let doubted = Family::<OfDoubt, Counter>::default();
    for one in sources {
        let source = of_source(&one.status);
        let known = &one.status.lateness;
        for (quantile, ns) in [
            ("0.5", known.median_ns),
            ("0.95", known.p95_ns),
            ("1", known.worst_ns),
        ] {
            if let Some(ns) = ns {
                let (kind, source) = (source.kind.clone(), source.source.clone());
                let of = OfLateness {
                    kind,
                    source,
                    quantile,
                };
                late.get_or_create(&of)
                    .set(Duration::from_nanos(ns).as_secs_f64());
            }
        }
        if let Some(look) = &one.lookback {
            let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
            need.get_or_create(&source).set(seconds(look.need_ns));
            let more = seconds(look.span_ns) - seconds(look.need_ns);
            margin.get_or_create(&source).set(more);
        }
        too_late.get_or_create(&source).set(whole(one.too_late));
        for clock in ["future", "past"] {
            let count = one.status.counters.get(clock).copied().unwrap_or(0);
            let (kind, source) = (source.kind.clone(), source.source.clone());
            let of = OfDoubt {
                kind,
                source,
                clock,
            };
            doubted.get_or_create(&of).inc_by(count);
        }
    }
    let help = "How late events come, by quantile";
    registry.register_with_unit("source_lateness", help, Unit::Seconds, late);
    let help = "How far back packets must be there when an event comes";
    registry.register_with_unit("source_lookback_need", help, Unit::Seconds, need);
    let help = "How much further back than needed the shortest ring reaches";
    registry.register_with_unit("source_lookback_margin", help, Unit::Seconds, margin);
    let help = "Incidents whose trigger came too late for its packets";
    registry.register("source_too_late", help, too_late);
    let help = "Events whose time was not believed";
    registry.register("source_doubted_events", help, doubted);
}

fn maintenance(registry: &mut Registry, picture: &Picture) {
    let silenced = Family::<OfSource, Counter>::default();
    for of in picture.server.sources.iter().map(|one| &one.status) {
        let count = of.counters.get("silenced").copied().unwrap_or(0);
        silenced.get_or_create(&of_source(of)).inc_by(count);
    }
    let help = "Triggers that maintenance silenced";
    registry.register("triggers_silenced", help, silenced);
    let active = Family::<OfMaintenance, Gauge>::default();
    let covered = Family::<OfMaintenance, Counter>::default();
    for window in &picture.server.maintenance {
        let of = OfMaintenance {
            name: window.name.clone(),
        };
        active.get_or_create(&of).set(i64::from(window.active));
        covered.get_or_create(&of).inc_by(window.triggers);
    }
    let help = "Whether the maintenance window is open";
    registry.register("maintenance_active", help, active);
    let help = "Triggers that the maintenance window covered";
    registry.register("maintenance_triggers", help, covered);
}

/// Of the last minute, and counters since the start.
fn probes(registry: &mut Registry, views: &[ProbeView]) {
    type Real = Gauge<f64, std::sync::atomic::AtomicU64>;
    let rtt = Family::<Quantile, Real>::default();
    let loss = Family::<OfProbe, Real>::default();
    let jitter = Family::<OfProbe, Real>::default();
    let counts: [Family<OfProbe, Counter>; 8] = Default::default();
    for view in views {
        let of = OfProbe {
            probe: view.name.clone(),
        };
        if let Some(last) = view.windows.first() {
            if let Some(share) = last.loss {
                loss.get_or_create(&of).set(share);
            }
            let values = last.rtt.map(|rtt| {
                [
                    ("0", rtt.min),
                    ("0.5", rtt.p50),
                    ("0.9", rtt.p90),
                    ("0.99", rtt.p99),
                    ("1", rtt.max),
                ]
            });
            for (quantile, value) in values.into_iter().flatten() {
                let probe = view.name.clone();
                rtt.get_or_create(&Quantile { probe, quantile }).set(value);
            }
        }
        if let Some(value) = view.jitter {
            jitter.get_or_create(&of).set(value);
        }
        let counted = &view.counts;
        let values = [
            counted.sent,
            counted.lost,
            counted.unsent,
            counted.late,
            counted.duplicates,
            counted.reordered,
            counted.ttl_changes,
            view.errors.iter().map(|said| said.count).sum(),
        ];
        for (family, value) in counts.iter().zip(values) {
            family.get_or_create(&of).inc_by(value);
        }
    }
    let help = "Round trips of the last minute, by quantile";
    registry.register_with_unit("probe_rtt", help, Unit::Seconds, rtt);
    registry.register("probe_loss_ratio", "Loss of the last minute", loss);
    let help = "Smoothed jitter (RFC 3550)";
    registry.register_with_unit("probe_jitter", help, Unit::Seconds, jitter);
    let names = [
        ("probe_sent", "Probes that left"),
        ("probe_lost", "Probes without a reply in time"),
        ("probe_unsent", "Probes this host did not send"),
        ("probe_late", "Replies after the timeout"),
        ("probe_duplicates", "Second replies"),
        ("probe_reordered", "Replies out of order"),
        ("probe_ttl_changes", "Changes of the replies' hop limit"),
        ("probe_icmp_errors", "ICMP errors about probes"),
    ];
    for ((name, help), family) in names.into_iter().zip(counts) {
        registry.register(name, help, family);
    }
}

fn notifications(registry: &mut Registry, targets: &[TargetStatus]) {
    let told = Family::<Told, Counter>::default();
    let waiting = Family::<OfTarget, Gauge>::default();
    let up = Family::<OfTarget, Gauge>::default();
    for of in targets {
        let results = [
            ("sent", of.sent),
            ("failed", of.failed),
            ("dropped", of.dropped),
        ];
        for (result, count) in results {
            let target = of.name.clone();
            told.get_or_create(&Told { target, result }).inc_by(count);
        }
        let target = OfTarget {
            target: of.name.clone(),
        };
        let waits = i64::try_from(of.waiting).unwrap_or(i64::MAX);
        waiting.get_or_create(&target).set(waits);
        up.get_or_create(&target)
            .set(i64::from(of.state == TargetState::Ok));
    }
    registry.register("notifications", "Notifications, by what came of them", told);
    registry.register("notifications_waiting", "Notifications that wait", waiting);
    let help = "Whether the last notification arrived";
    registry.register("notify_up", help, up);
}

fn incidents(registry: &mut Registry, all: &[Incident]) {
    let by_state = Family::<OfState, Gauge>::default();
    let states = [
        ("collecting", Stage::Collecting),
        ("sealing", Stage::Sealing),
        ("sealed", Stage::Sealed),
    ];
    for (state, stage) in states {
        let count = all.iter().filter(|incident| incident.state == stage);
        by_state
            .get_or_create(&OfState { state })
            .set(i64::try_from(count.count()).unwrap_or(i64::MAX));
    }
    registry.register("incidents", "Incidents by state", by_state);
}

fn seconds(at: Timestamp) -> f64 {
    at.since(Timestamp::MIN).as_secs_f64()
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::incident::ClockState;
    use crate::recorder::protocol::InterfaceStatus;
    use crate::trigger::Kind;
    use crate::trigger::status::Sources;
    use crate::web::status::ClockPicture;
    use crate::web::status::{Disk, Recorder, Server};

    fn interface() -> InterfaceStatus {
        let counters = Counters {
            received: 12,
            written: 9,
            written_bytes: 540,
            dropped_kernel: 1,
            dropped_ring: 2,
            dropped_iface: 3,
            truncated: 4,
            filtered: 5,
        };
        InterfaceStatus {
            counters,
            ring_from: Some(Timestamp::from_ns(1_500_000_000)),
            ring_bytes: 4096,
            ring_size_bytes: 8192,
            slots_free: 15,
            slots: 16,
            ..InterfaceStatus::running("eth\"1\n")
        }
    }

    fn picture() -> Picture {
        let sources = Sources::default();
        sources.register(Kind::Probe, "edge").triggered();
        Picture {
            now: Timestamp::MIN,
            version: "1.2.3",
            interfaces: vec![interface()],
            recorder: Recorder {
                reachable: true,
                pid: Some(1),
                started: None,
                version: None,
                error: None,
            },
            server: Server {
                pid: 2,
                started: Timestamp::MIN,
                incidents: 0,
                collecting: 0,
                evidence_bytes: 7,
                evidence_quota_bytes: 8,
                problems: Vec::new(),
                sources: crate::web::lookback::sources(
                    sources.status(),
                    Duration::from_mins(5),
                    &[interface()],
                    &[],
                    Timestamp::from_ns(901_500_000_000),
                ),
                maintenance: Vec::new(),
                notify: vec![TargetStatus {
                    name: "ops".to_owned(),
                    kind: crate::notify::config::NotifyKind::Slack,
                    state: TargetState::Failing,
                    sent: 3,
                    failed: 1,
                    dropped: 0,
                    waiting: 2,
                    last_sent: None,
                    last_error: None,
                }],
            },
            clock: ClockPicture {
                state: ClockState {
                    offset_bound_ns: Some(1_500_000),
                    ..ClockState::default()
                },
                steps_total: 2,
                ..ClockPicture::default()
            },
            disk: Disk {
                path: "/".to_owned(),
                free_bytes: Some(1),
                total_bytes: Some(2),
            },
        }
    }

    fn views() -> Vec<ProbeView> {
        let sources = Sources::default();
        let text = "name = \"edge\"\ntarget = \"192.0.2.1\"";
        let probe = crate::trigger::probe::Probe::all(&[toml::from_str(text).unwrap()]);
        probe.unwrap()[0].register(&sources);
        sources.probes().views(Timestamp::now())
    }

    fn tally() -> Tally {
        let took = Duration::from_millis(2500);
        Tally {
            ended: BTreeMap::from([((Kind::Syslog, "passed"), 4)]),
            passed: BTreeMap::from([(Kind::Syslog, (Timestamp::from_ns(1_500_000_000), took))]),
        }
    }

    #[test]
    fn every_counter_has_its_line_and_foreign_names_stay_on_theirs() {
        let page = page(
            &picture(),
            &[],
            &BTreeMap::from([("bad_token", 3)]),
            &views(),
            &tally(),
        )
        .unwrap();
        for line in [
            r#"wirewitness_capture_packets_total{interface="eth\"1\n"} 12"#,
            r#"wirewitness_capture_dropped_packets_total{interface="eth\"1\n",stage="ring"} 2"#,
            r#"wirewitness_capture_written_bytes_total{interface="eth\"1\n"} 540"#,
            r#"wirewitness_ring_oldest_packet_timestamp_seconds{interface="eth\"1\n"} 1.5"#,
            r#"wirewitness_triggers_total{kind="probe",source="edge"} 1"#,
            r#"wirewitness_webhooks_refused_total{reason="bad_token"} 3"#,
            "wirewitness_evidence_bytes 7",
            r#"wirewitness_capture_truncated_packets_total{interface="eth\"1\n"} 4"#,
            r#"wirewitness_capture_filtered_packets_total{interface="eth\"1\n"} 5"#,
            "wirewitness_clock_max_error_seconds 0.0015",
            "wirewitness_clock_steps_total 2",
            r#"wirewitness_probe_sent_total{probe="edge"} 0"#,
            r#"wirewitness_drills_total{source_kind="syslog",result="passed"} 4"#,
            r#"wirewitness_drill_last_success_timestamp_seconds{source_kind="syslog"} 1.5"#,
            r#"wirewitness_drill_last_success_duration_seconds{source_kind="syslog"} 2.5"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn every_metric_is_documented() {
        let docs = include_str!("../../docs/API.md");
        let page = page(
            &picture(),
            &[],
            &BTreeMap::from([("bad_token", 3)]),
            &views(),
            &tally(),
        )
        .unwrap();
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        for sample in samples {
            let name = sample.split(['{', ' ']).next().unwrap();
            assert!(
                docs.contains(&format!("`{name}")),
                "{name} is not in docs/API.md"
            );
        }
    }
}
