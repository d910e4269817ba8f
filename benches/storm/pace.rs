//! Events at a fixed rate: how many are due, and when each should have been.

use std::time::{Duration, Instant};

/// A rate from a moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start: Instant,
    rate: u64,
    /// How many there are in all.
    pub(crate) total: u64,
}

impl Pace {
    /// `rate` a second for `time` from now on.
    pub(crate) fn new(rate: u64, time: Duration) -> Self {
        Self {
            start: Instant::now(),
            rate,
            total: rate * time.as_secs(),
        }
    }

    /// How many are due by now.
    pub(crate) fn due(&self) -> u64 {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        (micros.saturating_mul(self.rate) / 1_000_000).min(self.total)
    }

    /// When the one of this number is due.
    pub(crate) fn at(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number.saturating_mul(1_000_000_000) / self.rate)
    }

    /// How many a second it came to.
    pub(crate) fn reached(&self) -> f64 {
        self.total as f64 / self.start.elapsed().as_secs_f64()
    }
}

/// Seconds of processor time of this thread.
pub(crate) fn own_cpu() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = schedstat.split(' ').next().unwrap_or_default();
    ran.parse::<f64>().unwrap_or(0.0) / 1e9
}
