//! ICMP errors about our probes: news unless this path has them all the time. That needs no warm-up:
//! a path without any for a while is one that does not have them.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

use super::hysteresis::Hysteresis;
use super::sign::{Edge, IcmpError};

/// The memory of the usual rate, in probes.
const MEMORY: f64 = 20_000.0;
/// More than this share of probes makes an error usual.
const USUAL: f64 = 0.01;
/// Probes without one until it is over.
const CALM: u32 = 120;

/// How often a path has which error, in the order of [`IcmpError::ALL`], as a share of probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownErrors([f64; 4]);

impl KnownErrors {
    /// Whether every number is a share, for what was read from a file.
    pub fn is_sound(&self) -> bool {
        self.0.iter().all(|share| (0.0..=1.0).contains(share))
    }
}

/// Watches the errors.
#[derive(Debug, Clone)]
pub struct Errors {
    signs: [Hysteresis; 4],
    /// Probes since the last of each.
    without: [u32; 4],
}

impl Errors {
    /// Nothing heard.
    pub const fn new() -> Self {
        Self {
            signs: [const { Hysteresis::new(CALM) }; 4],
            without: [0; 4],
        }
    }

    /// Takes in a probe and what was said about it; each sign that begins or ends, since when, and
    /// its text.
    pub fn add(
        &mut self,
        known: &mut KnownErrors,
        sent: Timestamp,
        said: Option<IcmpError>,
        ready: bool,
    ) -> Vec<(Edge, Timestamp, String)> {
        let mut told = Vec::new();
        let each = IcmpError::ALL.iter().zip(&mut self.signs).zip(&mut known.0);
        for (((error, sign), share), without) in each.zip(&mut self.without) {
            let now = said == Some(*error);
            let known = ready || *without >= CALM;
            *without = if now { 0 } else { without.saturating_add(1) };
            let alarm = (now && known && *share < USUAL).then_some(sent);
            *share += (f64::from(u8::from(now)) - *share) / MEMORY;
            if let Some((edge, since)) = sign.step(sent, alarm, !now) {
                let text = match edge {
                    Edge::Raised => format!("ICMP error about a probe: {error}"),
                    Edge::Cleared => format!("no more ICMP errors: {error}"),
                };
                told.push((edge, since, text));
            }
        }
        told
    }
}

impl Default for Errors {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_news_once_and_usual_when_it_is_usual() {
        let (mut known, mut errors) = (KnownErrors::default(), Errors::new());
        let mut told = Vec::new();
        for at in 0..400_u64 {
            let said = (100..110).contains(&at).then_some(IcmpError::Redirect);
            told.extend(errors.add(&mut known, Timestamp::from_ns(at), said, true));
        }
        let edges: Vec<Edge> = told.iter().map(|(edge, ..)| *edge).collect();
        assert_eq!(edges, [Edge::Raised, Edge::Cleared]);
        assert_eq!(told[0].2, "ICMP error about a probe: redirect");

        // Before the warm-up: news where there was none for a while.
        for (since, expected) in [(119, 0), (120, 1)] {
            let (mut known, mut errors) = (KnownErrors::default(), Errors::new());
            let told = (0..=since).flat_map(|at| {
                let said = (at == since).then_some(IcmpError::Unreachable);
                errors.add(&mut known, Timestamp::from_ns(at), said, false)
            });
            assert_eq!(told.count(), expected, "{since}");
        }

        let (mut known, mut errors) = (KnownErrors::default(), Errors::new());
        for at in 0..20_000_u64 {
            let said = (at % 10 == 0).then_some(IcmpError::Redirect);
            let ready = at > 10_000;
            let told = errors.add(&mut known, Timestamp::from_ns(at), said, ready);
            assert!(told.is_empty(), "{told:?}");
        }
        assert!(known.is_sound());
    }
}
