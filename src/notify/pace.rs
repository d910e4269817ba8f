//! How fast a target is told, and how long it is left alone after it failed: pure, the time and
//! the dice are arguments.

use std::time::Duration;

/// Messages in a row before they are spread out.
const BURST: u32 = 10;
/// One more message is allowed each time this has passed: ten a minute.
const EACH: Duration = Duration::from_secs(6);
/// The wait after the first failure; doubled after each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_mins(5);
/// The longest wait that a receiver may ask for.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing, for so long.
    Not(Duration),
    /// The oldest piece of news.
    One,
    /// Everything that waits, summed up in one message.
    All,
}

/// A bucket that holds up to [`BURST`] messages and gets one more every [`EACH`].
#[derive(Debug)]
pub(super) struct Pace {
    held: u32,
    /// Since when the next one is on its way.
    since: Duration,
}

impl Pace {
    /// A full bucket.
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            held: BURST,
            since: now,
        }
    }

    /// What may be sent of `waiting` pieces of news. `now` is the time since any fixed moment.
    pub(super) fn take(&mut self, now: Duration, waiting: usize) -> Allowed {
        let passed = now.saturating_sub(self.since);
        let more = u32::try_from(passed.as_secs() / EACH.as_secs()).unwrap_or(u32::MAX);
        if self.held.saturating_add(more) >= BURST {
            (self.held, self.since) = (BURST, now);
        } else {
            self.held += more;
            self.since += EACH * more;
        }
        if self.held == 0 {
            return Allowed::Not((self.since + EACH).saturating_sub(now));
        }
        let held = self.held;
        self.held -= 1;
        if usize::try_from(held).is_ok_and(|held| waiting > held) {
            Allowed::All
        } else {
            Allowed::One
        }
    }
}

/// How long to wait after `failures` failures in a row. `dice` from 0 to 255 spreads it from half
/// to all of the wait, so that many do not come back at once; the receiver may ask for longer.
pub(super) fn wait(failures: u32, asked: Option<Duration>, dice: u8) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let whole = doubled.min(LONGEST);
    let spread = whole / 2 + whole / 2 * u32::from(dice) / 255;
    spread.max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_messages_and_then_a_sum() {
        let mut pace = Pace::new(Duration::ZERO);
        // One by one while the bucket lasts.
        for _ in 0..10 {
            assert_eq!(pace.take(Duration::ZERO, 1), Allowed::One);
        }
        assert_eq!(pace.take(Duration::ZERO, 1), Allowed::Not(EACH));
        assert_eq!(
            pace.take(Duration::from_secs(5), 900),
            Allowed::Not(Duration::from_secs(1))
        );
        assert_eq!(pace.take(EACH, 900), Allowed::All);
        assert_eq!(pace.take(EACH, 900), Allowed::Not(EACH));
        // More than there is room for at once.
        let mut full = Pace::new(Duration::ZERO);
        assert_eq!(full.take(Duration::ZERO, 11), Allowed::All);
        assert_eq!(full.take(Duration::ZERO, 9), Allowed::One);
    }

    #[test]
    fn a_storm_of_an_hour_is_ten_messages_a_minute() {
        let mut pace = Pace::new(Duration::ZERO);
        let sent = (0..3600).filter(|&s| pace.take(Duration::from_secs(s), 50) == Allowed::All);
        assert_eq!(sent.count(), 10 + 3599 / 6);
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_are_spread() {
        let seconds = |failures, dice| wait(failures, None, dice).as_secs();
        assert_eq!(
            [seconds(1, 255), seconds(2, 255), seconds(5, 255)],
            [1, 2, 16]
        );
        assert_eq!([seconds(5, 0), seconds(9, 255)], [8, 256]);
        assert_eq!([seconds(10, 255), seconds(u32::MAX, 255)], [300, 300]);
        let asked = |seconds| wait(1, Some(Duration::from_secs(seconds)), 255).as_secs();
        assert_eq!([asked(0), asked(90), asked(1_000_000)], [1, 90, 3600]);
    }
}
