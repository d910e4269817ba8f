//! What the machine's clock was worth: the kernel's own account of it, and every step and slew.
//!
//! Frequency and slewing act on CLOCK_REALTIME and CLOCK_BOOTTIME alike; setting the clock moves
//! the former alone. So their difference changes when the clock is *set*, and at no other time. The
//! difference to CLOCK_MONOTONIC_RAW, which nothing steers, changes by steps and slews.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Readings whose brackets are narrower than this are taken at once.
const NARROW_NS: u64 = 1_000;
/// How often a reading that was interrupted is tried again.
const TRIES: usize = 4;
/// A change below this is not called a step: far above what rounding makes, far below what a
/// program that sets the clock would bother with.
const SLACK_NS: u64 = 10_000;

/// The clock at one moment, as a line of accounting has it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// What the kernel says; absent where adjtimex(2) is refused.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Discipline>,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME: changes when the clock is set.
    pub boottime_offset_ns: i64,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC_RAW: changes by steps and slews.
    pub raw_offset_ns: i64,
    /// By how much the clock was set since the moment before, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ns: Option<i64>,
}

/// The kernel's state of the clock (adjtimex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Discipline {
    /// Whether the kernel calls it synchronised.
    pub synchronised: bool,
    /// What is still to be slewed.
    pub offset_ns: i64,
    /// The bound of its error (`maxerror`).
    pub max_error_ns: u64,
    /// Its estimated error (`esterror`).
    pub est_error_ns: u64,
    /// How much faster than its oscillator it runs at this moment, slewing by tick included.
    pub frequency_ppm: f64,
}

/// Asks the kernel, and changes nothing.
#[expect(unsafe_code, reason = "adjtimex, which no safe crate offers")]
fn adjtimex() -> Option<(libc::c_int, libc::timex)> {
    // SAFETY: `timex` is a plain C struct of integers, for which zero is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: modes is 0, so the kernel only writes into the struct, which outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some((state, timex))
}

impl Discipline {
    /// Now; `None` where the kernel does not say.
    pub fn read() -> Option<Self> {
        adjtimex().map(|(state, timex)| Self::of(state, &timex))
    }

    fn of(state: libc::c_int, timex: &libc::timex) -> Self {
        /// Microseconds of a tick that neither gains nor loses, and what one more makes.
        const TICK_US: i64 = 10_000;
        const PPM_PER_TICK_US: f64 = 100.0;
        let unit = if timex.status & libc::STA_NANO == 0 {
            1000
        } else {
            1
        };
        let micros = |us: libc::c_long| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
        let ppm = timex.freq as f64 / 65_536.0 + (timex.tick - TICK_US) as f64 * PPM_PER_TICK_US;
        Self {
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            offset_ns: timex.offset.saturating_mul(unit),
            max_error_ns: micros(timex.maxerror),
            est_error_ns: micros(timex.esterror),
            frequency_ppm: (ppm * 1000.0).round() / 1000.0,
        }
    }
}

/// The clocks read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_REALTIME.
    pub at: Timestamp,
    /// CLOCK_REALTIME less CLOCK_BOOTTIME.
    pub boottime_offset_ns: i64,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC_RAW.
    pub raw_offset_ns: i64,
    /// How far the first difference may be off, because the clocks cannot be read at once.
    pub uncertainty_ns: u64,
}

impl Moment {
    /// Now. A reading that was interrupted is repeated, and says how far it may be off.
    pub fn now() -> Self {
        let mut best = Self::read();
        for _ in 1..TRIES {
            if best.uncertainty_ns <= NARROW_NS {
                break;
            }
            let again = Self::read();
            if again.uncertainty_ns < best.uncertainty_ns {
                best = again;
            }
        }
        best
    }

    fn read() -> Self {
        let before = ns(ClockId::Boottime);
        let real = ns(ClockId::Realtime);
        let raw = ns(ClockId::MonotonicRaw);
        let after = ns(ClockId::Boottime);
        let width = after.saturating_sub(before);
        Self {
            at: Timestamp::from_ns(u64::try_from(real).unwrap_or(0)),
            boottime_offset_ns: real - (before + width / 2),
            raw_offset_ns: real - raw,
            uncertainty_ns: u64::try_from(width / 2 + 1).unwrap_or(1),
        }
    }
}

fn ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

/// The clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The last moment seen before, on the clock as it was then.
    pub from: Timestamp,
    /// The first moment seen after, on the clock as it is now.
    pub to: Timestamp,
    /// By how much; negative when it was set back.
    pub step_ns: i64,
}

/// Tells steps from slews and from readings that were interrupted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    last: Option<Moment>,
}

impl Steps {
    /// The step between the moment observed before and `now`, if there was one.
    pub fn observe(&mut self, now: &Moment) -> Option<Step> {
        let last = self.last.replace(*now)?;
        let step_ns = now
            .boottime_offset_ns
            .saturating_sub(last.boottime_offset_ns);
        let doubt = SLACK_NS
            .saturating_add(last.uncertainty_ns)
            .saturating_add(now.uncertainty_ns);
        (step_ns.unsigned_abs() > doubt).then_some(Step {
            from: last.at,
            to: now.at,
            step_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: i64 = 1_763_892_131_000_000_000;

    fn moment(offset: i64, error: i64) -> Moment {
        Moment {
            at: Timestamp::from_ns(EPOCH.unsigned_abs()),
            boottime_offset_ns: EPOCH + offset + error,
            raw_offset_ns: EPOCH,
            uncertainty_ns: error.unsigned_abs() + 1,
        }
    }

    proptest! {
        /// However the readings are interrupted, a clock that nobody sets has no step, and each
        /// step of one that is set is found with its size.
        #[test]
        fn every_step_is_found_and_none_is_invented(
            readings in prop::collection::vec(
                (-2_000_000_i64..2_000_000, prop_oneof![
                    Just(0_i64),
                    4_100_000_i64..3_600_000_000_000,
                    -3_600_000_000_000_i64..-4_100_000,
                ]),
                1..50,
            )
        ) {
            let mut steps = Steps::default();
            prop_assert_eq!(steps.observe(&moment(0, 0)), None);
            let (mut offset, mut before) = (0, 0);
            for (error, set) in readings {
                offset += set;
                let found = steps.observe(&moment(offset, error));
                let doubt = error.abs() + before + 10_002;
                match found {
                    None => prop_assert!(set.abs() <= 2 * doubt, "{} was not found", set),
                    Some(step) => {
                        prop_assert!(set != 0, "{:?} was invented", step);
                        prop_assert!((step.step_ns - set).abs() <= doubt);
                    }
                }
                before = error.abs();
            }
        }
    }

    #[test]
    fn the_clock_of_this_machine_is_read_without_a_step() {
        let mut steps = Steps::default();
        for _ in 0..1000 {
            assert_eq!(steps.observe(&Moment::now()), None);
        }
        let now = Moment::now();
        assert!(now.at.as_ns() > EPOCH.unsigned_abs() && now.boottime_offset_ns > 0);
    }

    #[test]
    fn a_line_reads_back_with_and_without_the_kernel() {
        for kernel in [
            None,
            Some(Discipline {
                max_error_ns: 7,
                ..Discipline::default()
            }),
        ] {
            let clock = Clock {
                kernel,
                boottime_offset_ns: EPOCH,
                raw_offset_ns: -3,
                step_ns: kernel.map(|_| -5),
            };
            let text = serde_json::to_string(&clock).unwrap();
            assert_eq!(
                serde_json::from_str::<Clock>(&text).unwrap(),
                clock,
                "{text}"
            );
        }
    }
}
