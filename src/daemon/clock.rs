//! The clock as the server shows and seals it: what the kernel says, and who keeps it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Discipline;
use crate::incident::manifest::ClockState;

/// How often chrony is asked, and how long it may take.
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Asks chronyd for its state as one line of comma-separated values, without name resolution.
const CHRONYC: (&str, [&str; 3]) = ("chronyc", ["-c", "-n", "tracking"]);
/// The longest answer of chrony's that is taken.
const ANSWER_MAX: usize = 1024;

/// What chrony said last. One per process: the clock is one per machine.
static CHRONY: Mutex<Option<String>> = Mutex::new(None);

/// The clock, now.
pub fn read() -> ClockState {
    let chrony = CHRONY.lock().ok().and_then(|chrony| chrony.clone());
    state(Discipline::read(), chrony)
}

/// The clock, now, with chrony asked first. Blocks for as long as chrony takes.
pub fn read_now() -> ClockState {
    let ask = super::block_on(ask());
    state(Discipline::read(), ask.ok().flatten())
}

fn state(kernel: Option<Discipline>, chrony: Option<String>) -> ClockState {
    let Some(kernel) = kernel else {
        return ClockState {
            synchronised: false,
            offset_bound_ns: None,
            source: "unknown".into(),
        };
    };
    let source = match chrony {
        _ if !kernel.synchronised => "none".to_owned(),
        Some(chrony) => chrony,
        None => source().to_owned(),
    };
    ClockState {
        synchronised: kernel.synchronised,
        offset_bound_ns: Some(kernel.max_error_ns),
        source,
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

/// Asks chrony now and then, until stopped.
pub async fn follow(stop: CancellationToken) {
    loop {
        let said = ask().await;
        if let Ok(mut chrony) = CHRONY.lock() {
            *chrony = said;
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What chrony says keeps the clock; `None` where it does not answer in time.
async fn ask() -> Option<String> {
    let (program, arguments) = CHRONYC;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let asked = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(ASK_LIMIT, asked).await.ok()?.ok()?;
    let text = answer.stdout.get(..answer.stdout.len().min(ANSWER_MAX))?;
    tracked(std::str::from_utf8(text).ok()?)
}

/// `chrony 192.0.2.1 stratum 3`, from the answer of `chronyc -c tracking`: reference id, reference,
/// stratum, and more that we do not need.
fn tracked(answer: &str) -> Option<String> {
    let mut fields = answer.lines().next()?.split(',');
    let (_id, reference, stratum) = (fields.next()?, fields.next()?, fields.next()?);
    let stratum: u8 = stratum.parse().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:-_%".contains(c);
    (stratum > 0 && !reference.is_empty() && reference.len() <= 64 && reference.chars().all(plain))
        .then(|| format!("chrony {reference} stratum {stratum}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chronys_answer_is_read_and_nothing_else_is() {
        let answer = "C0000201,192.0.2.1,3,1763892131.123456789,0.000001234,-0.000000567,\
                      0.000012345,-12.345,0.001,0.010,0.001234567,0.000123456,64.2,Normal\n";
        assert_eq!(
            tracked(answer).as_deref(),
            Some("chrony 192.0.2.1 stratum 3")
        );
        let reference = "50505300,PPS0,1,1763892131.1,0,0,0,0,0,0,0,0,16.0,Normal\n";
        assert_eq!(tracked(reference).as_deref(), Some("chrony PPS0 stratum 1"));
        for other in [
            "",
            "506 Cannot talk to daemon\n",
            "00000000,,0,0.0,0,0,0,0,0,0,0,0,0,Not synchronised\n",
            "C0000201,a\x1b[31m,3,0\n",
        ] {
            assert_eq!(tracked(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_clock_that_is_not_synchronised_has_no_source() {
        let chrony = || Some("chrony 192.0.2.1 stratum 3".to_owned());
        let kernel = |synchronised| {
            Some(Discipline {
                synchronised,
                max_error_ns: 5,
                ..Discipline::default()
            })
        };
        assert_eq!(state(kernel(false), chrony()).source, "none");
        let kept = state(kernel(true), chrony());
        assert_eq!(
            (kept.source, kept.offset_bound_ns),
            (chrony().unwrap(), Some(5))
        );
        assert_eq!(state(None, chrony()).source, "unknown");
    }
}
