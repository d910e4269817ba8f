//! When an event happened: the sender's own clock where it can be believed, else the arrival.

use std::time::Duration;

use crate::time::Timestamp;

/// A claimed time later than the arrival by more than this is nonsense.
pub const AHEAD_MAX: Duration = Duration::from_mins(1);
/// A claimed time earlier than the arrival by more than this is nonsense: no ring looks back
/// further, and a clock at its factory date is far likelier.
pub const BEHIND_MAX: Duration = Duration::from_hours(24);
/// The trigger field that records a replaced time.
pub const CLOCK_FIELD: &str = "clock";

/// The time an event is filed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTime {
    /// The time to use.
    pub at: Timestamp,
    /// `future` or `past` when the claimed time was nonsense and the arrival stands in for it:
    /// the value of the trigger's [`CLOCK_FIELD`].
    pub clock: Option<&'static str>,
}

/// Decides between the claimed time and the arrival.
pub fn event_time(claimed: Option<Timestamp>, received: Timestamp) -> EventTime {
    let (at, clock) = match claimed {
        Some(at) if at.since(received) > AHEAD_MAX => (received, Some("future")),
        // A clock a little ahead: what was received has happened.
        Some(at) if at > received => (received, None),
        Some(at) if received.since(at) > BEHIND_MAX => (received, Some("past")),
        Some(at) => (at, None),
        None => (received, None),
    };
    EventTime { at, clock }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plausible_clock_is_believed() {
        let received = Timestamp::from_ns(1_800_000_000_000_000_000);
        let minute = Duration::from_mins(1);
        let day = Duration::from_hours(24);
        let ns = Duration::from_nanos(1);
        let table = [
            (None, received, None),
            (Some(received), received, None),
            (Some(received.minus(minute)), received.minus(minute), None),
            (Some(received.plus(minute)), received, None),
            (Some(received.plus(minute + ns)), received, Some("future")),
            (Some(received.minus(day)), received.minus(day), None),
            (Some(received.minus(day + ns)), received, Some("past")),
            (Some(Timestamp::MIN), received, Some("past")),
            (Some(Timestamp::MAX), received, Some("future")),
        ];
        for (claimed, at, clock) in table {
            assert_eq!(event_time(claimed, received), EventTime { at, clock });
        }
    }
}
