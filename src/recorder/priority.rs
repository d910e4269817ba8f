//! The priority of what packets wait for, at the processor and at the disk.

use std::io;

use libc::c_long;
use rustix::process::{getpriority_process, setpriority_process};

/// Ahead of ordinary programs, behind the kernel's own threads.
const NICE: i32 = -10;

/// ioprio_set(2): the thread or process named by its id, of which 0 is the calling thread.
const IOPRIO_WHO_PROCESS: c_long = 1;
/// The class whose requests the disk gets first, ioprio_set(2).
const IOPRIO_CLASS_RT: c_long = 1;
/// Where the class stands in the number, ioprio_set(2).
const IOPRIO_CLASS_SHIFT: c_long = 13;
/// Of 0, first, to 7. The scheduler bfq knows levels, mq-deadline does not.
const IOPRIO_LEVEL: c_long = 2;

/// Puts the calling thread, and those that it begins from now on, ahead of ordinary programs: to be
/// called before the right to do so (CAP_SYS_NICE, or for the processor RLIMIT_NICE) is given up. On a
/// busy machine the kernel's buffer overflows while the recorder waits for its turn. Who gave it more,
/// or gives it nothing, is obeyed.
pub fn raise() {
    if let Err(error) = go_first_at_the_disk() {
        tracing::debug!(%error, "the class of I/O stays");
    }
    // In Linux the niceness is a thread's own (setpriority(2), C library/kernel differences).
    let thread = Some(rustix::thread::gettid());
    if getpriority_process(thread).is_ok_and(|now| now <= NICE) {
        return;
    }
    if let Err(error) = setpriority_process(thread, NICE) {
        tracing::debug!(%error, "the priority stays");
    }
}

/// For a thread that hands packets on: where it shares a processor with the one that takes them from
/// the kernel, it waits until that one rests (SCHED_BATCH, sched(7)), instead of writing to the device
/// while packets are copied.
#[expect(unsafe_code, reason = "no crate of ours offers sched_setscheduler(2)")]
pub(super) fn wait_behind_capture() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the pointer is to a live struct that is only read.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the scheduling policy stays");
    }
}

/// Has the calling thread's writes reach the disk before those of ordinary programs, where that is
/// allowed (CAP_SYS_NICE; Linux before 5.14: CAP_SYS_ADMIN) and the disk's scheduler knows classes.
/// Behind a large file on its way out of the page cache, 16 MiB can take longer than memory lasts.
#[expect(unsafe_code, reason = "no crate of ours offers ioprio_set(2)")]
fn go_first_at_the_disk() -> io::Result<()> {
    let class = IOPRIO_CLASS_RT << IOPRIO_CLASS_SHIFT | IOPRIO_LEVEL;
    // SAFETY: the call takes three numbers and no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_begun_afterwards_goes_first_and_nothing_else() {
        let before = getpriority_process(None).unwrap();
        let (nice, policy, class) = std::thread::spawn(|| {
            raise();
            std::thread::spawn(standing).join().unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(policy, "0", "SCHED_OTHER");
        if rustix::process::geteuid().is_root() {
            assert_eq!(nice, NICE.to_string());
            assert_eq!(class, "realtime: prio 2");
        }
        let here = Some(rustix::thread::gettid());
        assert_eq!(getpriority_process(here).unwrap(), before);
    }

    #[test]
    fn who_waits_for_capture_keeps_its_priority() {
        let (before, after) = std::thread::spawn(|| {
            let before = standing();
            wait_behind_capture();
            (before, standing())
        })
        .join()
        .unwrap();
        assert_eq!(after.1, "3", "SCHED_BATCH");
        assert_eq!((before.0, before.2), (after.0, after.2));
    }

    /// Niceness, policy and class of I/O of the calling thread, as the system's tools say them.
    fn standing() -> (String, String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // proc_pid_stat(5): nice is field 19 and policy 41; the first two end with the last ")".
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let id = rustix::thread::gettid().as_raw_nonzero().to_string();
        let class = Command::new("ionice").args(["-p", &id]).output().unwrap();
        (
            fields[19 - 3].to_owned(),
            fields[41 - 3].to_owned(),
            String::from_utf8(class.stdout).unwrap().trim().to_owned(),
        )
    }
}
