//! The number of hops replies come over, seen by the hop limit left in them.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

use super::hysteresis::Hysteresis;
use super::sign::Edge;

/// Hop limits remembered.
const KNOWN_MAX: usize = 8;
/// So many replies in a row make a change.
const IN_A_ROW: u32 = 5;
/// A hop limit with so many replies is usual.
const USUAL: u32 = 300;
/// Counts are halved when one reaches this, so that what was long ago fades.
const COUNT_MAX: u32 = 1_000_000;
/// Usual replies until a change is over.
const CALM: u32 = 30;

/// What is known of a target's hop limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHops {
    /// Hop limit and how many replies had it.
    counts: Vec<(u8, u32)>,
}

impl KnownHops {
    /// Whether it is of the size it can have, for what was read from a file.
    pub fn is_sound(&self) -> bool {
        self.counts.len() <= KNOWN_MAX && self.counts.iter().all(|(_, count)| *count <= COUNT_MAX)
    }

    fn learn(&mut self, ttl: u8) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == ttl) {
            *count += 1;
            if *count >= COUNT_MAX {
                self.counts.iter_mut().for_each(|(_, count)| *count /= 2);
            }
            return;
        }
        if self.counts.len() >= KNOWN_MAX {
            let rarest = (0..).zip(&self.counts).min_by_key(|(_, (_, count))| *count);
            if let Some((place, _)) = rarest {
                self.counts.swap_remove(place);
            }
        }
        self.counts.push((ttl, 1));
    }

    fn is_usual(&self, ttl: u8) -> bool {
        self.counts
            .iter()
            .any(|(known, count)| *known == ttl && *count >= USUAL)
    }

    fn most_usual(&self) -> Option<u8> {
        let usual = self.counts.iter().filter(|(_, count)| *count >= USUAL);
        usual.max_by_key(|(_, count)| *count).map(|(ttl, _)| *ttl)
    }
}

/// Watches the hop limit of replies.
#[derive(Debug, Clone)]
pub struct Hops {
    row: u32,
    last: Option<u8>,
    since: Timestamp,
    sign: Hysteresis,
}

impl Hops {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self {
            row: 0,
            last: None,
            since: Timestamp::MIN,
            sign: Hysteresis::new(CALM),
        }
    }

    /// Takes in the hop limit of a reply; whether a sign begins or ends, since when, and its text.
    pub fn add(
        &mut self,
        known: &mut KnownHops,
        sent: Timestamp,
        ttl: u8,
        ready: bool,
    ) -> Option<(Edge, Timestamp, String)> {
        if self.last != Some(ttl) {
            (self.last, self.row, self.since) = (Some(ttl), 0, sent);
        }
        self.row = self.row.saturating_add(1);
        let usual = known.most_usual();
        let strange = usual.is_some() && !known.is_usual(ttl) && self.row >= IN_A_ROW;
        known.learn(ttl);
        let alarm = (strange && ready).then_some(self.since);
        let (edge, since) = self.sign.step(sent, alarm, !strange)?;
        let text = match (edge, usual) {
            (Edge::Raised, Some(usual)) => {
                let hops = i16::from(usual) - i16::from(ttl);
                let (count, way) = (hops.abs(), if hops > 0 { "longer" } else { "shorter" });
                format!("replies have TTL {ttl}, usual {usual}: the way back is {count} hops {way}")
            }
            _ => format!("TTL {ttl} of replies is usual"),
        };
        Some((edge, since, text))
    }
}

impl Default for Hops {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_way_is_told_once_and_becomes_usual() {
        let (mut known, mut hops) = (KnownHops::default(), Hops::new());
        let ttls = (0..1000).map(|_| 59).chain((0..1000).map(|_| 57));
        let told: Vec<(u64, String)> = (0..)
            .zip(ttls)
            .filter_map(|(at, ttl)| {
                let sign = hops.add(&mut known, Timestamp::from_ns(at), ttl, true)?;
                Some((at, sign.2))
            })
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].0, 1004);
        assert!(
            told[0]
                .1
                .contains("usual 59: the way back is 2 hops longer")
        );
        assert!(told[1].0 > 1300);
    }

    #[test]
    fn two_usual_ways_are_no_news() {
        let (mut known, mut hops) = (KnownHops::default(), Hops::new());
        for at in 0..5000_u64 {
            let ttl = if at / 20 % 2 == 0 { 59 } else { 58 };
            let sign = hops.add(&mut known, Timestamp::from_ns(at), ttl, at > 1000);
            assert_eq!(sign, None, "{at}");
        }
        for ttl in 0..=255 {
            known.learn(ttl);
        }
        assert!(known.is_sound() && known.is_usual(59));
    }
}
