//! Short and long forms of the same test: how often, with which seed, and where the figures go.

use std::fs::OpenOptions;
use std::io::Write;

/// `soak` rounds in a long run (`make soak`), otherwise `short`.
pub(crate) fn rounds(short: u64, soak: u64) -> u64 {
    if super::long() { soak } else { short }
}

/// Random numbers from a seed that is printed, and taken from `WW_SEED` to repeat a run
/// (SplitMix64: small, and good enough to choose moments).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded from `WW_SEED`, else from the clock.
    pub(crate) fn new(test: &str) -> Self {
        let seed = std::env::var("WW_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| wirewitness::time::Timestamp::now().as_ns());
        eprintln!("{test}: WW_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `from` up to, not including, `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }
}

/// The middle and the 99th percentile of `values`, in their unit.
pub(crate) fn median_and_p99(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    (at(50), at(99))
}

/// Puts a figure on record: printed, and appended as a row of the table in docs/RELIABILITY.md to
/// the file that `WW_RESULTS` names.
pub(crate) fn record(fault: &str, injected: &str, count: u64, figure: &str) {
    let row = format!("| {fault} | {injected} | {count} | {figure} |\n");
    eprint!("{row}");
    if let Some(path) = std::env::var_os("WW_RESULTS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(row.as_bytes()).unwrap();
    }
}
