//! What rules remember between lines: how often lately. Pure; bounded whatever the lines say.

use std::collections::{HashMap, VecDeque};

use super::config::AtLeast;
use crate::time::Timestamp;

/// Groups counted before the older half is forgotten.
const GROUPS_MAX: usize = 4096;

/// The lines of a rule lately, by group.
#[derive(Debug, Default)]
pub(super) struct Counts {
    recent: HashMap<String, VecDeque<Timestamp>>,
    /// What was in `recent` when it was full.
    older: HashMap<String, VecDeque<Timestamp>>,
}

impl Counts {
    /// Counts a line at `at`. `Ok`: there are enough, and counting begins anew; `Err`: how many
    /// there are.
    pub(super) fn add(&mut self, group: &str, at: Timestamp, wanted: AtLeast) -> Result<(), usize> {
        if !self.recent.contains_key(group) {
            if self.recent.len() >= GROUPS_MAX {
                self.older = std::mem::take(&mut self.recent);
            }
            let known = self.older.remove(group).unwrap_or_default();
            self.recent.insert(group.to_owned(), known);
        }
        let Some(times) = self.recent.get_mut(group) else {
            return Err(0);
        };
        times.push_back(at);
        let newest = times.iter().copied().max().unwrap_or(at);
        let since = newest.minus(wanted.within);
        times.retain(|time| *time >= since);
        while times.len() > wanted.count {
            times.pop_front();
        }
        if times.len() < wanted.count {
            return Err(times.len());
        }
        times.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ns((1_000_000 + second) * 1_000_000_000)
    }

    const THREE: AtLeast = AtLeast {
        count: 3,
        within: Duration::from_secs(10),
    };

    #[test]
    fn so_many_within_a_span_and_then_anew() {
        let mut counts = Counts::default();
        let add = |counts: &mut Counts, second| counts.add("a", at(second), THREE);
        assert_eq!(add(&mut counts, 0), Err(1));
        assert_eq!(add(&mut counts, 11), Err(1), "the first is too old");
        assert_eq!(counts.add("b", at(12), THREE), Err(1), "groups are apart");
        assert_eq!(add(&mut counts, 12), Err(2));
        assert_eq!(add(&mut counts, 21), Ok(()));
        assert_eq!(add(&mut counts, 21), Err(1));
        assert_eq!(add(&mut counts, 15), Err(2), "a late line counts");
    }

    #[test]
    fn hostile_groups_take_no_memory_and_known_ones_are_kept() {
        let mut counts = Counts::default();
        for number in 0..50_000_u64 {
            let _few = counts.add(&number.to_string(), at(0), THREE);
            if number.is_multiple_of(1000) && number < 2000 {
                let _few = counts.add("kept", at(0), THREE);
            }
        }
        assert!(counts.recent.len() + counts.older.len() <= 2 * GROUPS_MAX);
    }
}
