//! The goals of early signs on a small, seeded run of the simulator of `benches/precursor`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "shared with the benchmark"
)]

#[path = "../benches/precursor/faults.rs"]
mod faults;
#[path = "../benches/precursor/links.rs"]
#[expect(dead_code, reason = "the benchmark prints their names")]
mod links;
#[path = "../benches/precursor/rivals.rs"]
mod rivals;
#[path = "../benches/precursor/score.rs"]
#[expect(dead_code, reason = "the benchmark prints more")]
mod score;

use links::Kind;
use rivals::Watcher;
use score::{Ours, Score};
use wirewitness::trigger::precursor::Sensitivity;

const SEED: u64 = 7;
/// Seconds from probe to probe.
const INTERVAL: f64 = 3.0;

/// The detector as it is set by default.
fn ours() -> Vec<(&'static str, Box<dyn Watcher>)> {
    vec![("ours", Box::new(Ours::new(Sensitivity::Medium, INTERVAL)))]
}

fn scored(kind: Kind, targets: u64, weeks: u32) -> Score {
    let mut all = Score::default();
    for target in 0..targets {
        let seed = SEED ^ (target << 8) ^ kind as u64;
        for score in score::play(kind, seed, weeks, INTERVAL, ours()) {
            all.add(&score);
        }
    }
    all
}

#[test]
fn slow_degradation_is_seen_before_it_fails() {
    let score = scored(Kind::Degrading, 6, 2);
    assert!(score.faults == 12, "{score:?}");
    assert!(score.before * 10 >= score.faults * 9, "{score:?}");
    assert!(score::median(&score.leads) >= Some(300.0), "{score:?}");
}

#[test]
fn false_signs_are_rare() {
    let mut all = Score::default();
    for kind in Kind::ALL {
        let score = scored(kind, 1, 2);
        assert!(score.false_per_week() <= 2.0, "{kind:?}: {score:?}");
        assert!(score.false_in_first() <= 2.0, "{kind:?}: {score:?}");
        all.add(&score);
    }
    assert!(all.false_per_week() < 1.0, "{all:?}");
    assert!(all.false_in_first() < 1.0, "{all:?}");
}

#[test]
fn a_cut_is_a_fault_within_two_intervals() {
    let cuts: Vec<Option<f64>> = (0..5).flat_map(|seed| faults::cuts(seed, 3, 1.0)).collect();
    assert_eq!(cuts.len(), 20);
    for cut in &cuts {
        assert!(cut.is_some_and(|intervals| intervals < 2.5), "{cuts:?}");
    }
}
