//! What the kernel knows of its clock (adjtimex(2)).

use std::path::Path;

use crate::incident::manifest::ClockState;

/// The clock, now.
pub fn read() -> ClockState {
    let Some((synchronised, offset_bound_ns)) = kernel() else {
        return ClockState {
            synchronised: false,
            offset_bound_ns: None,
            source: "unknown".into(),
        };
    };
    let source = if synchronised { source() } else { "none" };
    ClockState {
        synchronised,
        offset_bound_ns: Some(offset_bound_ns),
        source: source.to_owned(),
    }
}

/// Who keeps it, as far as its traces tell.
fn source() -> &'static str {
    if Path::new("/run/chrony/chronyd.pid").exists() {
        "chrony"
    } else if Path::new("/run/systemd/timesync/synchronized").exists() {
        "systemd-timesyncd"
    } else {
        "ntp"
    }
}

#[expect(unsafe_code, reason = "adjtimex, which no safe crate offers")]
fn kernel() -> Option<(bool, u64)> {
    // SAFETY: `timex` is a plain C struct of integers, for which zero is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: modes is 0, so the kernel only writes into the struct, which outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return None;
    }
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    // maxerror is in microseconds.
    let bound = u64::try_from(timex.maxerror).ok()?.saturating_mul(1000);
    Some((synchronised, bound))
}
