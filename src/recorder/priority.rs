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
}
