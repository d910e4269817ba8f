//! Why packets are not there: rotated away, not recorded, dropped, filtered out, cut, not yet
//! written. Nothing empty leaves without its reason.

use std::fs;
use std::path::Path;

use super::manifest::ClockState;
use super::measure::Measured;
use super::model::{Completeness, Reason, Verdict};
use crate::counters::Counters;
use crate::recorder::protocol::{Gap, GapCause, InterfaceState, InterfaceStatus};
use crate::ring::window::sources_in;
use crate::time::{Timestamp, Window};

/// The recorder's list of spans it did not record, per interface folder of the ring.
const GAPS_FILE: &str = "gaps.jsonl";

/// Why packets of `window` may be missing from the live ring, for exports that find nothing.
/// `gaps` are those of the interfaces' `gaps.jsonl`.
pub fn explain(
    window: &Window,
    interfaces: &[InterfaceStatus],
    gaps: &[Gap],
    now: Timestamp,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if interfaces.is_empty() {
        reasons.push(reason("no_segments", None, "no interface is recorded"));
    }
    for interface in interfaces {
        let name = interface.name.as_str();
        let mut add = |code: &str, text: String| reasons.push(reason(code, Some(name), &text));
        match (interface.ring_from, interface.ring_to) {
            (Some(from), _) if from > window.from => {
                let whole = if window.to <= from { "all" } else { "part" };
                add(
                    "rotated",
                    format!(
                        "{name}: {whole} of the window lies before {from}, where the ring begins; \
                         earlier packets were rotated away or never recorded"
                    ),
                );
            }
            (None, _) => add(
                "no_segments",
                format!("{name}: the ring holds no packet yet"),
            ),
            _ => {}
        }
        let written = interface.ring_to.unwrap_or(Timestamp::MIN);
        if window.to > now {
            let text = format!("{name}: the window ends at {}, in the future", window.to);
            add("not_recorded_yet", text);
        } else if window.to > written && interface.ring_from.is_some() {
            add(
                "not_recorded_yet",
                format!("{name}: packets after {written} are not on disk yet"),
            );
        }
        if interface.state != InterfaceState::Running {
            let why = interface.why.as_deref().unwrap_or("no reason known");
            add(
                "gap",
                format!(
                    "{name}: not recorded since {} ({}: {why})",
                    interface.since,
                    state(interface.state)
                ),
            );
        }
        for gap in gaps.iter().filter(|gap| gap.interface == name) {
            if let Some(missing) = Window::new(gap.from, gap.to).intersect(window) {
                add("gap", gap_text(name, &missing, gap.cause));
            }
        }
        reasons.extend(filtered(name, &interface.filter));
    }
    reasons
}

/// The gaps the recorder wrote down for these interfaces, below `ring`; lines that are not whole
/// are left out.
pub fn gaps(ring: &Path, interfaces: &[InterfaceStatus]) -> Vec<Gap> {
    let names = interfaces.iter().map(|i| i.name.as_str());
    names.flat_map(|name| gaps_of(ring, name)).collect()
}

/// The gaps of one interface: those of all its capture threads. What one of them did not record is
/// missing from the interface; spans of one cause that overlap are one gap.
pub(super) fn gaps_of(ring: &Path, interface: &str) -> Vec<Gap> {
    let sources = sources_in(ring).unwrap_or_default();
    let source = sources.into_iter().find(|one| one.interface == interface);
    let dirs = source.map(|source| source.dirs).unwrap_or_default();
    let alone = dirs.len() < 2;
    let mut gaps: Vec<Gap> = dirs.iter().flat_map(|dir| read_gaps(dir)).collect();
    if alone {
        return gaps;
    }
    gaps.sort_by_key(|gap| gap.from);
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        let same = |one: &&mut Gap| one.cause == gap.cause && gap.from <= one.to;
        match merged.iter_mut().rev().find(same) {
            Some(one) => one.to = one.to.max(gap.to),
            None => merged.push(gap),
        }
    }
    merged
}

/// The gaps of one capture thread's folder.
fn read_gaps(folder: &Path) -> Vec<Gap> {
    let text = fs::read_to_string(folder.join(GAPS_FILE)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The verdict over everything measured.
pub(super) fn judge(
    window: &Window,
    measured: &[Measured],
    gaps: &[Gap],
    clock: &ClockState,
) -> Completeness {
    let mut reasons = Vec::new();
    let mut missing = Vec::new();
    if measured.is_empty() {
        reasons.push(reason(
            "no_segments",
            None,
            "no segment of any interface covers the window",
        ));
    }
    for interface in measured {
        let name = interface.share.name.as_str();
        let recorded: Vec<Gap> = gaps
            .iter()
            .filter(|gap| gap.interface == name)
            .filter_map(|gap| clip(gap, window))
            .collect();
        reasons.extend(recorded.iter().map(|gap| {
            let span = Window::new(gap.from, gap.to);
            reason("gap", Some(name), &gap_text(name, &span, gap.cause))
        }));
        for hole in &interface.holes {
            let explained = |gap: &Gap| Window::new(gap.from, gap.to).overlaps(hole);
            if !recorded.iter().any(explained) {
                let (why, gap) = hole_reason(interface, hole, window);
                reasons.push(why);
                missing.extend(gap);
            }
        }
        missing.extend(recorded);
        reasons.extend(dropped(name, &interface.share.counters));
        reasons.extend(other(interface));
    }
    missing.sort_by_key(|gap| gap.from);
    let verdict = if reasons.is_empty() {
        Verdict::Complete
    } else {
        Verdict::Incomplete
    };
    // Nothing is missing because of the clock, but an analyst must know.
    reasons.extend(clock_reason(clock));
    Completeness {
        verdict,
        reasons,
        gaps: missing,
    }
}

/// Why a hole nobody recorded a gap for is there.
fn hole_reason(interface: &Measured, hole: &Window, window: &Window) -> (Reason, Option<Gap>) {
    let name = interface.share.name.as_str();
    if interface.share.covered.is_none() {
        let text = format!("{name}: no segment covers the window {window}");
        return (reason("no_segments", Some(name), &text), None);
    }
    if hole.from == window.from && !interface.begins_run {
        let text = format!(
            "{name}: packets of {hole} were rotated away before the trigger came, the ring did \
             not reach back that far"
        );
        return (reason("rotated", Some(name), &text), None);
    }
    let text = if hole.from == window.from {
        format!("{name}: recording began at {}", hole.to)
    } else if hole.to == window.to {
        format!("{name}: recording ended at {}", hole.from)
    } else {
        format!("{name}: {hole} was not recorded")
    };
    let gap = Gap {
        interface: name.to_owned(),
        from: hole.from,
        to: hole.to,
        cause: GapCause::RecorderDown,
    };
    (reason("gap", Some(name), &text), Some(gap))
}

fn dropped(name: &str, counters: &Counters) -> Vec<Reason> {
    let causes = [
        (
            counters.dropped_kernel,
            "dropped_kernel",
            "the kernel had no buffer for them",
        ),
        (
            counters.dropped_ring,
            "dropped_ring",
            "the disk was too slow for too long",
        ),
        (
            counters.dropped_iface,
            "dropped_iface",
            "the interface dropped them before the kernel saw them",
        ),
    ];
    let lost = causes.iter().filter(|(count, ..)| *count > 0);
    lost.map(|(count, code, why)| {
        let text = format!("{name}: {count} packets are missing: {why}");
        reason(code, Some(name), &text)
    })
    .collect()
}

fn other(interface: &Measured) -> Vec<Reason> {
    let name = interface.share.name.as_str();
    let mut reasons = Vec::new();
    if interface.unproven {
        let text = format!(
            "{name}: whether packets were dropped in the first second cannot be told: the counters \
             before it were rotated away"
        );
        reasons.push(reason("unproven", Some(name), &text));
    }
    if interface.ended_blind {
        let text = format!(
            "{name}: whether packets were dropped in the recorder's last moment cannot be told: it \
             was killed before it could ask the kernel"
        );
        reasons.push(reason("unproven", Some(name), &text));
    }
    for filter in &interface.filters {
        let refused = interface.share.counters.filtered;
        reasons.extend(filtered(name, filter).map(|mut reason| {
            if refused > 0 {
                reason.text = format!("{}; it refused about {refused} others", reason.text);
            }
            reason
        }));
    }
    if interface.cut_packets > 0 {
        let text = format!(
            "{name}: of {} packets only the beginning was kept (snaplen)",
            interface.cut_packets
        );
        reasons.push(reason("snaplen", Some(name), &text));
    }
    for (segment, what) in &interface.damage {
        let text = format!("{name}: {segment} is damaged: {what}");
        reasons.push(reason("damaged", Some(name), &text));
    }
    reasons
}

fn filtered(name: &str, filter: &str) -> Option<Reason> {
    (!filter.is_empty()).then(|| {
        let text =
            format!("{name}: only packets that match the capture filter {filter:?} are recorded");
        reason("filtered", Some(name), &text)
    })
}

fn clock_reason(clock: &ClockState) -> Option<Reason> {
    (!clock.synchronised).then(|| {
        let text = "the clock was not synchronised when the incident was sealed: times are those \
                    of this machine alone";
        reason("clock", None, text)
    })
}

fn clip(gap: &Gap, window: &Window) -> Option<Gap> {
    let inside = Window::new(gap.from, gap.to).intersect(window)?;
    Some(Gap {
        from: inside.from,
        to: inside.to,
        ..gap.clone()
    })
}

fn gap_text(name: &str, span: &Window, cause: GapCause) -> String {
    let why = match cause {
        GapCause::RecorderDown => "the recorder was not running",
        GapCause::InterfaceDown => "the interface was down or absent",
        GapCause::RingFull => "the disk was too slow or full",
        GapCause::DiskFailed => "the disk lost what it had taken",
    };
    format!("{name}: {span} was not recorded: {why}")
}

fn state(state: InterfaceState) -> &'static str {
    match state {
        InterfaceState::Running => "running",
        InterfaceState::Down => "down",
        InterfaceState::Absent => "absent",
        InterfaceState::Failed => "failed",
        InterfaceState::Finished => "finished",
    }
}

pub(super) fn reason(code: &str, interface: Option<&str>, text: &str) -> Reason {
    Reason {
        code: code.to_owned(),
        interface: interface.map(str::to_owned),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::model::InterfaceShare;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns(second * 1_000_000_000)
    }

    fn window(from: u64, to: u64) -> Window {
        Window::new(at(from), at(to))
    }

    fn measured() -> Measured {
        Measured {
            share: InterfaceShare {
                name: "eth1".to_owned(),
                packets: 3,
                bytes: 300,
                covered: Some(window(100, 200)),
                counters: Counters::default(),
                segments: 1,
            },
            holes: Vec::new(),
            begins_run: false,
            unproven: false,
            ended_blind: false,
            cut_packets: 0,
            filters: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn synchronised() -> ClockState {
        ClockState {
            synchronised: true,
            ..ClockState::default()
        }
    }

    fn codes(completeness: &Completeness) -> Vec<&str> {
        completeness
            .reasons
            .iter()
            .map(|r| r.code.as_str())
            .collect()
    }

    #[test]
    fn complete_only_when_nothing_speaks_against_it() {
        let judged = judge(&window(100, 200), &[measured()], &[], &synchronised());
        assert_eq!(judged.verdict, Verdict::Complete);
        assert!(judged.reasons.is_empty());
        let judged = judge(
            &window(100, 200),
            &[measured()],
            &[],
            &ClockState::default(),
        );
        assert_eq!(
            (judged.verdict, codes(&judged)),
            (Verdict::Complete, vec!["clock"])
        );
        let judged = judge(&window(100, 200), &[], &[], &synchronised());
        assert_eq!(
            (judged.verdict, codes(&judged)),
            (Verdict::Incomplete, vec!["no_segments"])
        );
    }

    #[test]
    fn each_cause_of_loss_is_named() {
        let mut lossy = measured();
        lossy.share.counters = Counters {
            dropped_kernel: 1,
            dropped_ring: 2,
            dropped_iface: 3,
            ..Counters::default()
        };
        lossy.unproven = true;
        lossy.cut_packets = 4;
        lossy.filters.push("tcp".to_owned());
        let judged = judge(&window(100, 200), &[lossy], &[], &synchronised());
        assert_eq!(judged.verdict, Verdict::Incomplete);
        let expected = [
            "dropped_kernel",
            "dropped_ring",
            "dropped_iface",
            "unproven",
            "filtered",
            "snaplen",
        ];
        assert_eq!(codes(&judged), expected);
    }

    #[test]
    fn a_hole_is_explained_by_its_gap_or_by_where_it_lies() {
        let gap = Gap {
            interface: "eth1".to_owned(),
            from: at(149),
            to: at(161),
            cause: GapCause::InterfaceDown,
        };
        let mut holed = measured();
        holed.holes = vec![window(150, 160)];
        let judged = judge(&window(100, 155), &[holed.clone()], &[gap], &synchronised());
        assert_eq!(codes(&judged), ["gap"]);
        assert_eq!(judged.gaps[0].to, at(155), "clipped to the window");

        holed.holes = vec![window(100, 120), window(150, 160), window(190, 200)];
        let judged = judge(&window(100, 200), &[holed.clone()], &[], &synchronised());
        assert_eq!(codes(&judged), ["rotated", "gap", "gap"]);
        holed.begins_run = true;
        let judged = judge(&window(100, 200), &[holed], &[], &synchronised());
        assert_eq!(codes(&judged), ["gap", "gap", "gap"]);
    }

    #[test]
    fn a_gap_of_one_thread_is_a_gap_of_the_interface_and_told_once() {
        let ring = tempfile::tempdir().unwrap();
        let gap = |from, to, cause| Gap {
            interface: "eth1".to_owned(),
            from: at(from),
            to: at(to),
            cause,
        };
        let write = |folder: &str, gaps: &[Gap]| {
            let dir = ring.path().join(folder);
            fs::create_dir(&dir).unwrap();
            let lines = gaps
                .iter()
                .map(|g| serde_json::to_string(g).unwrap() + "\n");
            fs::write(dir.join(GAPS_FILE), lines.collect::<String>()).unwrap();
        };
        let (down, full) = (GapCause::InterfaceDown, GapCause::RingFull);
        write("eth1", &[gap(10, 20, down)]);
        write("eth1+1", &[gap(11, 21, down), gap(12, 13, full)]);
        write("eth10", &[gap(1, 2, down)]);
        let found = gaps_of(ring.path(), "eth1");
        assert_eq!(found, [gap(10, 21, down), gap(12, 13, full)]);
    }

    #[test]
    fn an_export_that_finds_nothing_learns_why() {
        let mut status = InterfaceStatus {
            ring_from: Some(at(100)),
            ring_to: Some(at(200)),
            ..InterfaceStatus::running("eth1")
        };
        let codes = |status: &InterfaceStatus, from, to| -> Vec<String> {
            explain(
                &window(from, to),
                std::slice::from_ref(status),
                &[],
                at(210),
            )
            .into_iter()
            .map(|r| r.code)
            .collect()
        };
        assert!(codes(&status, 110, 120).is_empty());
        assert_eq!(codes(&status, 10, 20), ["rotated"]);
        assert_eq!(codes(&status, 190, 205), ["not_recorded_yet"]);
        assert_eq!(codes(&status, 190, 300), ["not_recorded_yet"]);
        status.state = InterfaceState::Down;
        status.filter = "tcp".to_owned();
        assert_eq!(codes(&status, 110, 120), ["gap", "filtered"]);
    }
}
