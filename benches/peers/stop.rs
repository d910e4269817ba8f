//! Ctrl-C: everything that waits asks here, so that what was made is taken down on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Fallible;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Listens for SIGINT and SIGTERM from now on.
pub(crate) fn listen() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (interrupt, terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let (mut interrupt, mut terminate) = (interrupt, terminate);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("stopping");
            STOPPED.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

/// Whether to stop.
pub(crate) fn asked() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// An error once asked to stop.
pub(crate) fn check() -> Fallible<()> {
    if asked() {
        return Err("interrupted".into());
    }
    Ok(())
}

/// Asks `done` again and again until it says so.
pub(crate) fn wait_for(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> Fallible<bool>,
) -> Fallible<()> {
    let since = Instant::now();
    while !done()? {
        check()?;
        if since.elapsed() > limit {
            return Err(format!("waited {} s for {what}", limit.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
