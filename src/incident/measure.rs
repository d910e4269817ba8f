//! What of a window one interface's segments hold, and what their counters prove. Pure.
//!
//! Segments carry samples of the cumulative counters, one per second of traffic; all samples of
//! one recorder run share their `start`. A run's segments are contiguous: each spans from the
//! last sample of its predecessor to its own last sample.

use crate::counters::Counters;
use crate::incident::model::InterfaceShare;
use crate::pcapng::isb::Sample;
use crate::ring::names::SegmentName;
use crate::time::{Timestamp, Window};

/// What reading one segment told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its name.
    pub(super) name: SegmentName,
    /// Its counter samples in file order.
    pub(super) samples: Vec<Sample>,
    /// Packets in it.
    pub(super) packets: u64,
    /// Packets in the window.
    pub(super) window_packets: u64,
    /// Captured bytes of those.
    pub(super) window_bytes: u64,
    /// Packets in the window that are longer than what was kept of them.
    pub(super) cut_packets: u64,
    /// Its first packet.
    pub(super) first: Option<Timestamp>,
    /// Its last packet.
    pub(super) last: Option<Timestamp>,
    /// The capture filter that was in force.
    pub(super) filter: String,
    /// The capture threads that recorded the interface in this run.
    pub(super) threads: u32,
    /// What is wrong with its content.
    pub(super) damage: Option<String>,
}

impl Facts {
    pub(super) fn run(&self) -> Option<Timestamp> {
        self.samples.first().map(|sample| sample.start)
    }

    fn end(&self) -> Timestamp {
        let sampled = self.samples.last().map_or(self.name.first, |s| s.at);
        sampled.max(self.name.first)
    }

    /// Whether nothing was written in this run before this segment.
    fn begins_run(&self) -> bool {
        self.samples
            .last()
            .is_some_and(|sample| sample.counters.written <= self.packets)
    }
}

/// One interface measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    /// Its share of the incident.
    pub(super) share: InterfaceShare,
    /// The spans of the window no segment covers.
    pub(super) holes: Vec<Window>,
    /// Whether the first segment is the first of its run: before it there was nothing to rotate
    /// away.
    pub(super) begins_run: bool,
    /// Whether drops in the window's first moment cannot be told from earlier ones.
    pub(super) unproven: bool,
    /// Whether a recorder ended within the window before it could count its last drops.
    pub(super) ended_blind: bool,
    /// Packets in the window of which only the beginning was kept.
    pub(super) cut_packets: u64,
    /// The filters that were in force.
    pub(super) filters: Vec<String>,
    /// Damage by segment name.
    pub(super) damage: Vec<(SegmentName, String)>,
}

/// Measures the `segments` (in order of number) of an interface against `window`. `before` is the
/// last sample of the segment that preceded the first, if it could still be read.
pub(super) fn measure(
    interface: &str,
    segments: &[Facts],
    before: Option<Sample>,
    window: &Window,
) -> Measured {
    let spans = spans(segments.iter());
    let holes = holes(&spans, window);
    let counted = counters(segments, before, window);
    let inside: Vec<Window> = spans.iter().filter_map(|s| s.intersect(window)).collect();
    let covered = inside.first().zip(inside.last());
    let mut filters: Vec<String> = segments.iter().map(|s| s.filter.clone()).collect();
    filters.retain(|filter| !filter.is_empty());
    filters.dedup();
    Measured {
        share: InterfaceShare {
            name: interface.to_owned(),
            packets: segments.iter().map(|s| s.window_packets).sum(),
            bytes: segments.iter().map(|s| s.window_bytes).sum(),
            covered: covered.map(|(first, last)| Window::new(first.from, last.to)),
            counters: counted.total,
            segments: segments.len() as u64,
        },
        holes,
        begins_run: segments.first().is_some_and(Facts::begins_run),
        unproven: counted.unproven,
        ended_blind: counted.ended_blind,
        cut_packets: segments.iter().map(|s| s.cut_packets).sum(),
        filters,
        damage: segments
            .iter()
            .filter_map(|s| Some((s.name, s.damage.clone()?)))
            .collect(),
    }
}

/// The spans the segments cover, contiguous ones joined, in order of time.
pub(super) fn spans<'a>(segments: impl Iterator<Item = &'a Facts>) -> Vec<Window> {
    let mut spans: Vec<Window> = Vec::new();
    let mut previous: Option<&Facts> = None;
    for segment in segments {
        let follows = previous.filter(|p| {
            p.name.number + 1 == segment.name.number
                && p.run().is_some()
                && p.run() == segment.run()
        });
        let from = if let Some(previous) = follows {
            previous.end().min(segment.name.first)
        } else if segment.begins_run() {
            segment
                .run()
                .unwrap_or(segment.name.first)
                .min(segment.name.first)
        } else {
            segment.name.first
        };
        spans.push(Window::new(from, segment.end()));
        previous = Some(segment);
    }
    join(spans)
}

/// The same spans, in order of time, those that touch as one.
pub(super) fn join(mut spans: Vec<Window>) -> Vec<Window> {
    spans.sort_by_key(|span| span.from);
    let mut joined: Vec<Window> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

/// What of `window` lies in none of the `spans` (ordered, disjoint).
pub(super) fn holes(spans: &[Window], window: &Window) -> Vec<Window> {
    let mut holes = Vec::new();
    let mut from = window.from;
    for span in spans {
        let hole = Window::new(from, span.from.min(window.to));
        if !hole.is_empty() {
            holes.push(hole);
        }
        from = from.max(span.to);
    }
    let rest = Window::new(from, window.to);
    if !rest.is_empty() {
        holes.push(rest);
    }
    holes
}

/// The counters over the samples that enclose a window.
#[derive(Debug, Default)]
struct Counted {
    total: Counters,
    /// The first of them leaves drops open.
    unproven: bool,
    /// The last of them does.
    ended_blind: bool,
}

fn counters(segments: &[Facts], before: Option<Sample>, window: &Window) -> Counted {
    let mut counted = Counted::default();
    let mut runs: Vec<Timestamp> = segments.iter().filter_map(Facts::run).collect();
    runs.dedup();
    for run in runs {
        let of_run = segments.iter().filter(|s| s.run() == Some(run));
        let earlier = before.iter().filter(|sample| sample.start == run);
        let samples: Vec<&Sample> = earlier
            .chain(of_run.clone().flat_map(|s| &s.samples))
            .collect();
        let Some(top) = samples
            .iter()
            .find(|s| s.at >= window.to)
            .or(samples.last())
        else {
            continue;
        };
        counted.ended_blind |= top.detail.assumed;
        // A sample whose counters were read later tells of drops that may lie in the window.
        let known = samples.iter().rev().find(|s| s.counted() <= window.from);
        let base = if let Some(base) = known {
            base.counters
        } else if of_run.clone().next().is_some_and(Facts::begins_run) {
            Counters::default()
        } else {
            let first = samples.first().map(|s| s.counters).unwrap_or_default();
            let earlier = before.is_some_and(|sample| sample.start == run);
            counted.unproven |= first.dropped() > 0 && !earlier;
            first
        };
        counted.total = counted.total.plus(&top.counters.since(&base));
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns(second * 1_000_000_000)
    }

    fn sample(run: u64, second: u64, written: u64, dropped_ring: u64) -> Sample {
        Sample {
            at: at(second),
            start: at(run),
            counters: Counters {
                received: written + dropped_ring,
                written,
                dropped_ring,
                ..Counters::default()
            },
            detail: crate::pcapng::isb::Detail::default(),
            last: false,
        }
    }

    fn segment(number: u64, first: u64, packets: u64, samples: Vec<Sample>) -> Facts {
        Facts {
            name: SegmentName {
                number,
                first: at(first),
            },
            samples,
            packets,
            window_packets: packets,
            window_bytes: packets * 100,
            cut_packets: 0,
            first: None,
            last: None,
            filter: String::new(),
            threads: 1,
            damage: None,
        }
    }

    fn window(from: u64, to: u64) -> Window {
        Window::new(at(from), at(to))
    }

    #[test]
    fn segments_of_one_run_are_contiguous_from_its_start() {
        let segments = [
            segment(1, 105, 10, vec![sample(100, 110, 10, 0)]),
            segment(
                2,
                115,
                5,
                vec![sample(100, 116, 12, 0), sample(100, 130, 15, 0)],
            ),
        ];
        let measured = measure("eth1", &segments, None, &window(100, 130));
        assert_eq!(measured.holes, []);
        assert_eq!(measured.share.covered, Some(window(100, 130)));
        assert_eq!(measured.share.counters.received, 15);
        assert!(measured.begins_run && !measured.unproven);
    }

    #[test]
    fn a_restart_leaves_a_hole_and_counts_anew() {
        let segments = [
            segment(
                7,
                100,
                10,
                vec![sample(50, 100, 1000, 4), sample(50, 110, 1010, 6)],
            ),
            segment(
                8,
                121,
                5,
                vec![sample(120, 122, 2, 0), sample(120, 140, 5, 1)],
            ),
        ];
        let measured = measure("eth1", &segments, None, &window(100, 130));
        assert_eq!(measured.holes, [window(110, 120)]);
        assert_eq!(measured.share.covered, Some(window(100, 130)));
        assert_eq!(measured.share.counters.written, 10 + 5);
        assert_eq!(measured.share.counters.dropped_ring, 2 + 1);
        assert!(!measured.begins_run);
    }

    #[test]
    fn what_lies_before_and_after_is_a_hole() {
        let segments = [segment(
            7,
            100,
            10,
            vec![sample(50, 101, 995, 0), sample(50, 110, 1000, 0)],
        )];
        let measured = measure("eth1", &segments, None, &window(90, 120));
        assert_eq!(measured.holes, [window(90, 100), window(110, 120)]);
        assert_eq!(measured.share.covered, Some(window(100, 110)));
        let measured = measure("eth1", &segments, None, &window(0, 10));
        assert_eq!(measured.holes, [window(0, 10)]);
        assert_eq!(measured.share.covered, None);
        assert_eq!(
            measure("eth1", &[], None, &window(0, 10)).holes,
            [window(0, 10)]
        );
    }

    #[test]
    fn drops_that_were_counted_ahead_of_the_packets_are_not_taken_for_earlier_ones() {
        let mut lagging = sample(50, 105, 5, 7);
        let later = sample(50, 120, 20, 7);
        for (ahead_ms, dropped) in [(0, 0), (4000, 0), (6000, 7)] {
            lagging.detail.ahead_ms = ahead_ms;
            let samples = vec![sample(50, 101, 1, 0), lagging, later];
            let measured = measure(
                "eth1",
                &[segment(7, 100, 20, samples)],
                None,
                &window(110, 120),
            );
            assert_eq!(measured.share.counters.dropped_ring, dropped, "{ahead_ms}");
            assert!(!measured.ended_blind);
        }
    }

    #[test]
    fn what_a_killed_recorder_could_not_count_is_not_proven() {
        let mut last = sample(50, 110, 20, 0);
        last.detail.assumed = true;
        let segments = [segment(7, 100, 20, vec![sample(50, 105, 10, 0), last])];
        for (to, blind) in [(105, false), (107, true), (120, true)] {
            let measured = measure("eth1", &segments, None, &window(100, to));
            assert_eq!(measured.ended_blind, blind, "{to}");
        }
    }

    #[test]
    fn drops_before_the_first_sample_are_proven_by_the_segment_before_or_not_at_all() {
        let segments = [segment(
            7,
            100,
            10,
            vec![sample(50, 102, 1000, 9), sample(50, 110, 1005, 9)],
        )];
        let open = measure("eth1", &segments, None, &window(101, 110));
        assert!(open.unproven);
        let before = sample(50, 100, 995, 7);
        let proven = measure("eth1", &segments, Some(before), &window(101, 110));
        assert!(!proven.unproven);
        assert_eq!(proven.share.counters.dropped_ring, 2);
    }
}
