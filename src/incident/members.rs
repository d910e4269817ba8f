//! The capture threads of an interface measured as one: what any of them lacks, the interface lacks.
//! Pure.
//!
//! Threads of one recorder run share its start, and every segment says how many there were. A
//! thread is expected for as long as any thread of such a run recorded; before and after, when the
//! recorder ran with fewer threads, nothing of it is missing.

use super::measure::{Facts, Measured, holes, join, spans};
use crate::time::{Timestamp, Window};

/// One thread's segments and what they alone tell.
#[derive(Debug)]
pub(super) struct Part {
    /// Which thread.
    pub(super) index: u32,
    /// Its segments, in order of number.
    pub(super) segments: Vec<Facts>,
    /// Measured against the window.
    pub(super) measured: Measured,
}

/// The interface, from its threads in their order; `None` when there are none.
pub(super) fn combine(mut parts: Vec<Part>, window: &Window) -> Option<Measured> {
    if parts.len() < 2 {
        return parts.pop().map(|part| part.measured);
    }
    let holes = missing(&parts, window);
    let mut parts = parts.into_iter();
    let mut whole = parts.next()?.measured;
    for part in parts {
        let one = part.measured;
        whole.share.packets += one.share.packets;
        whole.share.bytes += one.share.bytes;
        whole.share.segments += one.share.segments;
        whole.share.counters = whole.share.counters.plus(&one.share.counters);
        whole.share.covered = match (whole.share.covered, one.share.covered) {
            (Some(a), Some(b)) => Some(a.union(&b)),
            (a, b) => a.or(b),
        };
        // Without segments in the window a thread says nothing about what preceded it.
        whole.begins_run &= one.begins_run || part.segments.is_empty();
        whole.unproven |= one.unproven;
        whole.ended_blind |= one.ended_blind;
        whole.cut_packets += one.cut_packets;
        for filter in one.filters {
            if !whole.filters.contains(&filter) {
                whole.filters.push(filter);
            }
        }
        whole.damage.extend(one.damage);
    }
    whole.holes = holes;
    Some(whole)
}

/// The spans of the window that at least one thread should have recorded and did not.
fn missing(parts: &[Part], window: &Window) -> Vec<Window> {
    let runs: Vec<(Timestamp, u32)> = parts
        .iter()
        .flat_map(|part| &part.segments)
        .filter_map(|segment| Some((segment.run()?, segment.threads)))
        .collect();
    let most = runs.iter().map(|(_, threads)| *threads).max().unwrap_or(1);
    let recorded = |index: u32| {
        let own = parts.iter().filter(move |part| part.index == index);
        let own = own.flat_map(|part| spans(part.segments.iter()));
        join(own.collect())
    };
    // The first thread is there in every run.
    let mut missing = holes(&recorded(0), window);
    for index in 1..most {
        let with_it = |segment: &&Facts| {
            let run = segment.run();
            let mut of_run = runs.iter().filter(|(start, _)| Some(*start) == run);
            of_run.any(|(_, threads)| *threads > index)
        };
        let expected = parts
            .iter()
            .flat_map(|part| spans(part.segments.iter().filter(with_it)));
        let there = recorded(index);
        for span in join(expected.collect()) {
            if let Some(inside) = span.intersect(window) {
                missing.extend(holes(&there, &inside));
            }
        }
    }
    join(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::incident::measure::measure;
    use crate::pcapng::isb::{Detail, Sample};
    use crate::ring::names::SegmentName;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns(second * 1_000_000_000)
    }

    fn window(from: u64, to: u64) -> Window {
        Window::new(at(from), at(to))
    }

    /// The first segment of a run, with ten packets.
    fn segment(number: u64, run: u64, threads: u32, to: u64) -> Facts {
        Facts {
            name: SegmentName {
                number,
                first: at(run + 1),
            },
            samples: vec![Sample {
                at: at(to),
                start: at(run),
                counters: Counters {
                    received: 10,
                    written: 10,
                    ..Counters::default()
                },
                detail: Detail::default(),
                last: true,
            }],
            packets: 10,
            window_packets: 10,
            window_bytes: 1000,
            cut_packets: 0,
            first: None,
            last: None,
            filter: String::new(),
            threads,
            damage: None,
        }
    }

    fn part(index: u32, segments: Vec<Facts>, window: &Window) -> Part {
        Part {
            index,
            measured: measure("eth1", &segments, None, window),
            segments,
        }
    }

    #[test]
    fn two_threads_add_up_to_one_interface() {
        let all = window(100, 130);
        let first = part(0, vec![segment(3, 100, 2, 130)], &all);
        let second = part(1, vec![segment(9, 100, 2, 130)], &all);
        let whole = combine(vec![first, second], &all).unwrap();
        assert_eq!(whole.holes, []);
        assert_eq!((whole.share.packets, whole.share.segments), (20, 2));
        assert_eq!(whole.share.counters.received, 20);
        assert_eq!(whole.share.covered, Some(all));
        assert!(whole.begins_run);
    }

    #[test]
    fn what_one_thread_lacks_the_interface_lacks() {
        let all = window(100, 130);
        let first = part(0, vec![segment(3, 100, 2, 130)], &all);
        let second = part(1, vec![segment(9, 100, 2, 120)], &all);
        let whole = combine(vec![first, second], &all).unwrap();
        assert_eq!(whole.holes, [window(120, 130)]);
        let first = part(0, vec![segment(3, 100, 2, 130)], &all);
        let nothing = part(1, Vec::new(), &all);
        let whole = combine(vec![first, nothing], &all).unwrap();
        assert_eq!(whole.holes, [all], "its segments are gone");
    }

    #[test]
    fn a_thread_that_was_not_configured_is_not_missed() {
        let all = window(100, 160);
        let runs = vec![
            segment(3, 100, 2, 120),
            segment(4, 120, 1, 140),
            segment(5, 140, 2, 160),
        ];
        let first = part(0, runs, &all);
        let second = vec![segment(9, 100, 2, 120), segment(10, 140, 2, 160)];
        let second = part(1, second, &all);
        assert_eq!(combine(vec![first, second], &all).unwrap().holes, []);
    }
}
