//! How late a source's events come: learned from those that carry their own time, in bounded
//! memory, and kept across restarts.
//!
//! Delays are counted in classes that grow by a factor of 2^(1/4) from a millisecond, so a quantile
//! is right within a fifth. At 20,000 events all counts are halved: what was long ago fades, and
//! the worst with it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Kind;
use super::logfile::Store;
use super::status::SourceHandle;
use crate::error::IoError;

/// Classes; the last holds all above 41 days.
const CLASSES: usize = 128;
/// Counts are halved at so many events.
const FULL: u64 = 20_000;
/// Before so many events nothing is learned.
pub const ENOUGH: u64 = 20;
/// The file, within the server's own directory.
pub(super) const LATENESS: &str = "lateness.json";

/// The delays of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delays {
    counts: [u32; CLASSES],
    total: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            counts: [0; CLASSES],
            total: 0,
        }
    }
}

/// What is known of a source's delays; times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// What the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_ns: Option<u64>,
    /// The median of what was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ns: Option<u64>,
    /// 95 of 100 came within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ns: Option<u64>,
    /// The worst seen lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_ns: Option<u64>,
    /// Events with a time of their own that this was learned from; older ones count less.
    pub events: u64,
}

impl Lateness {
    /// How much earlier than its arrival an event may be expected to have happened: what is
    /// declared or, if that is more, what 95 of 100 take. `None` while nothing is known.
    pub fn expected(&self) -> Option<Duration> {
        let ns = self.declared_ns.max(self.p95_ns)?;
        Some(Duration::from_nanos(ns))
    }
}

impl Delays {
    /// Counts one.
    pub fn add(&mut self, delay: Duration) {
        if let Some(count) = self.counts.get_mut(class(delay)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
        if self.total >= FULL {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().map(|count| u64::from(*count)).sum();
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The delay that a share of all did not exceed, rounded up to its class.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "at most FULL, and not negative"
        )]
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Some(longest(class));
            }
        }
        None
    }

    /// What is known, beside what is declared; little is as good as nothing.
    pub fn lateness(&self, declared: Option<Duration>) -> Lateness {
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let known = |share| {
            let enough = self.total >= ENOUGH;
            enough.then(|| self.quantile(share)).flatten().map(ns)
        };
        Lateness {
            declared_ns: declared.map(ns),
            median_ns: known(0.5),
            p95_ns: known(0.95),
            worst_ns: known(1.0),
            events: self.total,
        }
    }
}

/// The class of a delay: 0 below a millisecond.
fn class(delay: Duration) -> usize {
    let mut low = 0;
    while low + 1 < CLASSES && longest(low) < delay {
        low += 1;
    }
    low
}

/// The longest delay of a class.
fn longest(class: usize) -> Duration {
    // 2^(1/4), 2^(2/4), 2^(3/4) in millionths.
    const STEPS: [u64; 4] = [1_000_000, 1_189_207, 1_414_214, 1_681_793];
    let step = STEPS.get(class % 4).copied().unwrap_or(1_000_000);
    Duration::from_nanos(step << (class / 4))
}

/// The file: what was learned of each source.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    sources: Vec<Page>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    kind: Kind,
    name: String,
    /// Class and count.
    delays: Vec<(usize, u32)>,
}

/// Gives the sources what was learned of them before. A file that cannot be read is learned anew.
pub(super) fn restore(state_dir: &Path, handles: &[SourceHandle]) -> Result<(), IoError> {
    let book: Option<Book> = Store::at(&state_dir.join(LATENESS)).load()?;
    for page in book.unwrap_or_default().sources {
        let own = |handle: &&SourceHandle| handle.kind() == page.kind && handle.name() == page.name;
        let Some(handle) = handles.iter().find(own) else {
            continue;
        };
        let mut delays = Delays::default();
        for (class, count) in page.delays {
            if let Some(place) = delays.counts.get_mut(class) {
                *place = count.min(u32::try_from(FULL).unwrap_or(u32::MAX));
            }
        }
        delays.total = delays.counts.iter().map(|count| u64::from(*count)).sum();
        handle.set_delays(delays);
    }
    Ok(())
}

/// Writes down what was learned.
pub(super) fn save(state_dir: &Path, handles: &[SourceHandle]) -> Result<(), IoError> {
    let page = |handle: &SourceHandle| {
        let counts = handle.delays().counts;
        let counts = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let delays: Vec<(usize, u32)> = counts.map(|(class, count)| (class, *count)).collect();
        (!delays.is_empty()).then(|| Page {
            kind: handle.kind(),
            name: handle.name().to_owned(),
            delays,
        })
    };
    let sources = handles.iter().filter_map(page).collect();
    Store::at(&state_dir.join(LATENESS)).save(&Book { sources })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::status::Sources;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn quantiles_are_right_within_a_class() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        for number in 1..=1000 {
            delays.add(ms(number));
        }
        for (share, exact) in [(0.5, 500.0), (0.95, 950.0), (1.0, 1000.0)] {
            let found = delays.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((exact..=exact * 1.19).contains(&found), "{share}: {found}");
        }
        let mut one = Delays::default();
        one.add(Duration::MAX);
        one.add(Duration::ZERO);
        assert_eq!(one.quantile(0.5), Some(ms(1)));
        assert!(one.quantile(1.0).unwrap() > Duration::from_hours(24 * 30));
    }

    #[test]
    fn outliers_move_the_worst_and_nothing_else_and_old_ones_fade() {
        let mut delays = Delays::default();
        for _ in 0..99 {
            delays.add(ms(900));
        }
        delays.add(Duration::from_hours(20));
        let lateness = delays.lateness(None);
        assert!(lateness.p95_ns.unwrap() < 1_100_000_000, "{lateness:?}");
        assert!(lateness.worst_ns.unwrap() >= 72_000 * 1_000_000_000);
        for _ in 0..2 * FULL {
            delays.add(ms(10));
        }
        assert!(delays.total < FULL, "bounded");
        let lateness = delays.lateness(None);
        assert!(lateness.median_ns.unwrap() < 12_000_000, "{lateness:?}");
        assert!(lateness.worst_ns.unwrap() < 2_000_000_000, "{lateness:?}");
    }

    #[test]
    fn little_is_nothing_and_what_is_declared_counts_if_it_is_more() {
        let mut delays = Delays::default();
        for _ in 1..ENOUGH {
            delays.add(ms(900));
        }
        assert_eq!(delays.lateness(None).expected(), None);
        let declared = delays.lateness(Some(Duration::from_secs(90)));
        assert_eq!(declared.expected(), Some(Duration::from_secs(90)));
        delays.add(Duration::from_hours(1));
        delays.add(Duration::from_hours(1));
        let lateness = delays.lateness(Some(ms(1)));
        assert!(lateness.expected().unwrap() >= Duration::from_hours(1));
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let handles = |sources: &Sources| {
            let syslog = sources.register(Kind::Syslog, "udp://127.0.0.1:514");
            vec![syslog, sources.register(Kind::Webhook, "am")]
        };
        let before = handles(&Sources::default());
        restore(dir.path(), &before).unwrap();
        for _ in 0..ENOUGH {
            before[0].observe(Duration::from_secs(7));
        }
        save(dir.path(), &before).unwrap();
        let after = handles(&Sources::default());
        restore(dir.path(), &after).unwrap();
        assert_eq!(after[0].delays(), before[0].delays());
        assert_eq!(after[0].status().lateness, before[0].status().lateness);
        assert_eq!(after[1].status().lateness.events, 0);
        std::fs::write(dir.path().join(LATENESS), "{broken").unwrap();
        restore(dir.path(), &handles(&Sources::default())).unwrap();
    }
}
