//! One sign at a time: raised once, ended when it has been calm for long enough, and not raised
//! again at once.

use std::time::Duration;

use crate::time::Timestamp;

use super::sign::Edge;

/// After its end a sign of the same kind is the same story for so long, and not told again.
const QUIET: Duration = Duration::from_mins(30);

/// Whether a sign stands.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    calm_needed: u32,
    calm: u32,
    since: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl Hysteresis {
    /// A sign ends after `calm_needed` calm steps in a row.
    pub const fn new(calm_needed: u32) -> Self {
        Self {
            calm_needed,
            calm: 0,
            since: None,
            ended: None,
        }
    }

    /// When what the standing sign speaks of began.
    pub const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Takes a step at `at`. `alarm` is the beginning of what alarms, if anything does; `calm`
    /// whether all is as usual again (between the two nothing changes).
    pub fn step(
        &mut self,
        at: Timestamp,
        alarm: Option<Timestamp>,
        calm: bool,
    ) -> Option<(Edge, Timestamp)> {
        let Some(since) = self.since else {
            let alarm = alarm?;
            if self.ended.is_some_and(|ended| at < ended.plus(QUIET)) {
                // Still the story that was told.
                self.ended = Some(at);
                return None;
            }
            self.since = Some(alarm);
            self.calm = 0;
            return Some((Edge::Raised, alarm));
        };
        self.calm = if calm { self.calm + 1 } else { 0 };
        if self.calm < self.calm_needed {
            return None;
        }
        self.end(at);
        Some((Edge::Cleared, since))
    }

    /// Ends the standing sign without waiting.
    pub fn end(&mut self, at: Timestamp) {
        if self.since.take().is_some() {
            self.ended = Some(at);
        }
        self.calm = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minute(minutes: u64) -> Timestamp {
        Timestamp::from_ns(minutes * 60_000_000_000)
    }

    #[test]
    fn a_sign_is_told_once_and_ends_when_it_is_calm() {
        let mut sign = Hysteresis::new(2);
        assert_eq!(sign.step(minute(0), None, true), None);
        let raised = sign.step(minute(1), Some(minute(0)), false);
        assert_eq!(raised, Some((Edge::Raised, minute(0))));
        assert_eq!(sign.step(minute(2), Some(minute(0)), false), None);
        assert_eq!(sign.step(minute(3), None, true), None);
        assert_eq!(sign.step(minute(4), None, false), None, "not calm again");
        assert_eq!(sign.step(minute(5), None, true), None);
        let cleared = sign.step(minute(6), None, true);
        assert_eq!(cleared, Some((Edge::Cleared, minute(0))));
        assert_eq!(sign.since(), None);
    }

    #[test]
    fn what_comes_back_soon_is_the_same_story() {
        let mut sign = Hysteresis::new(1);
        assert!(sign.step(minute(0), Some(minute(0)), false).is_some());
        assert!(sign.step(minute(1), None, true).is_some());
        assert_eq!(sign.step(minute(20), Some(minute(20)), false), None);
        assert_eq!(sign.step(minute(45), Some(minute(45)), false), None);
        assert!(sign.step(minute(80), Some(minute(80)), false).is_some());
    }
}
