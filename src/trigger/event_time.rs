//! When an event happened: the sender's own clock where it can be believed, else the arrival less
//! what its source is usually late.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Trigger;
use crate::time::Timestamp;

/// The trigger field that says how a time was wrong: `future` or `past`.
pub const CLOCK_FIELD: &str = "clock";
/// The trigger field with the time that was claimed.
pub const CLAIMED_FIELD: &str = "claimed";

/// What becomes of an event whose time cannot be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beyond {
    /// It is filed under its arrival, and marked.
    #[default]
    Arrival,
    /// It is counted and asks for nothing.
    Refuse,
}

/// How far a claimed time may be from the arrival, and what if it is further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Later than the arrival.
    pub ahead: Duration,
    /// Earlier than the arrival.
    pub behind: Duration,
    /// What becomes of what is further.
    pub beyond: Beyond,
}

impl Default for Limits {
    /// A minute ahead. A day behind: few rings look back further, and a clock at its factory date
    /// is far likelier.
    fn default() -> Self {
        Self {
            ahead: Duration::from_mins(1),
            behind: Duration::from_hours(24),
            beyond: Beyond::Arrival,
        }
    }
}

/// How a claimed time is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// It is too far ahead of the arrival.
    Future,
    /// It is too far behind it.
    Past,
}

impl Clock {
    const fn name(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::Past => "past",
        }
    }
}

/// A time that was claimed and is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// How it is wrong.
    pub clock: Clock,
    /// What was claimed.
    pub claimed: Timestamp,
}

/// The time an event is filed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTime {
    /// The time to use.
    pub at: Timestamp,
    /// Set when the claimed time is not believed and the arrival stands in for it.
    pub doubt: Option<Doubt>,
    /// Whether it is the event's own time.
    pub own: bool,
    /// Whether such an event asks for nothing.
    pub refused: bool,
}

impl EventTime {
    /// Files a trigger under this time, and marks it where the claimed one is not believed.
    pub fn mark(&self, trigger: &mut Trigger) {
        trigger.at = self.at;
        trigger.own_time = self.own;
        trigger.doubt = self.doubt;
        if let Some(doubt) = self.doubt {
            let mut field = |name: &str, value: String| {
                trigger.fields.insert(name.to_owned(), value);
            };
            field(CLOCK_FIELD, doubt.clock.name().to_owned());
            field(CLAIMED_FIELD, doubt.claimed.to_rfc3339());
        }
    }
}

impl Limits {
    /// Decides between the claimed time and the arrival; without a claim, it happened `late`
    /// before.
    pub fn judge(
        &self,
        claimed: Option<Timestamp>,
        late: Duration,
        received: Timestamp,
    ) -> EventTime {
        let clock = claimed.and_then(|at| {
            if at.since(received) > self.ahead {
                Some(Clock::Future)
            } else {
                (received.since(at) > self.behind).then_some(Clock::Past)
            }
        });
        let doubt = claimed.zip(clock);
        let doubt = doubt.map(|(claimed, clock)| Doubt { clock, claimed });
        let at = match claimed {
            None => received.minus(late.min(self.behind)),
            Some(_) if doubt.is_some() => received,
            // A clock a little ahead: what was received has happened.
            Some(at) => at.min(received),
        };
        EventTime {
            at,
            doubt,
            own: claimed.is_some() && doubt.is_none(),
            refused: doubt.is_some() && self.beyond == Beyond::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Kind;

    #[test]
    fn only_a_plausible_clock_is_believed() {
        let received = Timestamp::from_ns(1_800_000_000_000_000_000);
        let minute = Duration::from_mins(1);
        let day = Duration::from_hours(24);
        let ns = Duration::from_nanos(1);
        let late = Duration::from_secs(90);
        let future = Some(Clock::Future);
        let past = Some(Clock::Past);
        let table = [
            (None, received.minus(late), None),
            (Some(received), received, None),
            (Some(received.minus(minute)), received.minus(minute), None),
            (Some(received.plus(minute)), received, None),
            (Some(received.plus(minute + ns)), received, future),
            (Some(received.minus(day)), received.minus(day), None),
            (Some(received.minus(day + ns)), received, past),
            (Some(Timestamp::MIN), received, past),
            (Some(Timestamp::MAX), received, future),
        ];
        for (claimed, at, clock) in table {
            let time = Limits::default().judge(claimed, late, received);
            assert_eq!(time.at, at);
            assert_eq!(time.doubt.map(|doubt| doubt.clock), clock);
            assert_eq!(time.doubt.map(|doubt| doubt.claimed), clock.and(claimed));
            assert_eq!(time.own, claimed.is_some() && clock.is_none());
            assert!(!time.refused);
        }
    }

    #[test]
    fn the_rule_decides_on_what_is_not_believed() {
        let limits = Limits {
            ahead: Duration::ZERO,
            behind: Duration::from_secs(10),
            beyond: Beyond::Refuse,
        };
        let received = Timestamp::from_ns(1_800_000_000_000_000_000);
        let judge = |claimed| limits.judge(Some(claimed), Duration::ZERO, received);
        assert!(!judge(received).refused);
        assert!(judge(received.plus(Duration::from_nanos(1))).refused);
        assert!(!judge(received.minus(Duration::from_secs(10))).refused);
        assert!(judge(received.minus(Duration::from_secs(11))).refused);
        let unknown = limits.judge(None, Duration::from_hours(1), received);
        assert_eq!(unknown.at, received.minus(Duration::from_secs(10)));
        assert!(!unknown.refused, "it claims nothing");
    }

    #[test]
    fn a_doubted_time_is_marked() {
        let received: Timestamp = "2026-11-23T10:02:11Z".parse().unwrap();
        let claimed = Timestamp::MIN;
        let time = Limits::default().judge(Some(claimed), Duration::ZERO, received);
        let mut trigger = Trigger::new(Kind::Syslog, "x", "s", "t", claimed, received);
        time.mark(&mut trigger);
        assert_eq!(trigger.at, received);
        assert_eq!(trigger.fields[CLOCK_FIELD], "past");
        assert_eq!(trigger.fields[CLAIMED_FIELD], claimed.to_rfc3339());
        let json = serde_json::to_value(&trigger).unwrap();
        assert_eq!(json["doubt"]["clock"], "past");
    }
}
