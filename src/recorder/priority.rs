//! The priority of the threads that packets wait for.

use rustix::process::{getpriority_process, setpriority_process};

/// Ahead of ordinary programs, behind the kernel's own threads.
const NICE: i32 = -10;

/// Puts the calling thread ahead of ordinary programs, where that is allowed (CAP_SYS_NICE or
/// RLIMIT_NICE): on a busy machine the kernel's buffer overflows while the thread waits for its
/// turn. Who gave it more, or gives it nothing, is obeyed.
pub(super) fn raise() {
    // In Linux the niceness is a thread's own (setpriority(2), C library/kernel differences).
    let thread = Some(rustix::thread::gettid());
    if getpriority_process(thread).is_ok_and(|now| now <= NICE) {
        return;
    }
    if let Err(error) = setpriority_process(thread, NICE) {
        tracing::debug!(%error, "the priority stays");
    }
}

/// The same for a thread that hands packets on: where it shares a processor with the one that takes
/// them from the kernel, it waits until that one rests (SCHED_BATCH, sched(7)), instead of writing to
/// the device while packets are copied.
#[expect(unsafe_code, reason = "no crate of ours offers sched_setscheduler(2)")]
pub(super) fn raise_behind_capture() {
    raise();
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live struct that is only read.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the scheduling policy stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_is_raised() {
        let before = getpriority_process(None).unwrap();
        let there = std::thread::spawn(|| {
            raise();
            getpriority_process(Some(rustix::thread::gettid())).unwrap()
        });
        let there = there.join().unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(there <= NICE, "{there}");
        }
        let here = Some(rustix::thread::gettid());
        assert_eq!(getpriority_process(here).unwrap(), before);
    }

    #[test]
    fn who_waits_for_capture_keeps_its_priority() {
        let stat = std::thread::spawn(|| {
            raise_behind_capture();
            std::fs::read_to_string("/proc/thread-self/stat").unwrap()
        });
        let stat = stat.join().unwrap();
        // proc_pid_stat(5): nice is field 19 and policy 41; the first two end with the last ")".
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(fields[41 - 3], "3", "SCHED_BATCH");
        if rustix::process::geteuid().is_root() {
            assert_eq!(fields[19 - 3], NICE.to_string());
        }
    }
}
