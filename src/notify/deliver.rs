//! The task of one target: takes what waits, in order, and comes back until it is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::{self, Allowed, Pace};
use super::send::Failure;
use super::store::{Batch, Store};
use super::target::Target;

/// Delivers until stopped. What is under way then is repeated by the next run.
pub(super) async fn run(target: Arc<Target>, store: Arc<Store>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = deliver(&target, &store) => {}
    }
}

async fn deliver(target: &Target, store: &Store) {
    let begun = Instant::now();
    let mut pace = Pace::new(Duration::ZERO);
    loop {
        let waiting = store.waiting(target);
        if waiting == 0 {
            target.more().await;
            continue;
        }
        let allowed = if target.sums_up() {
            pace.take(begun.elapsed(), waiting)
        } else {
            Allowed::One
        };
        let count = match allowed {
            Allowed::One => 1,
            Allowed::All => waiting,
            Allowed::Not(wait) => {
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        match store.batch(target, count) {
            Some(batch) => until_taken(target, store, &batch).await,
            // It waits, but is not on disk yet; we are woken then.
            None => target.more().await,
        }
    }
}

/// Tries until the receiver has it or never will.
async fn until_taken(target: &Target, store: &Store, batch: &Batch) {
    let mut failures = 0;
    loop {
        let sent = target.send(&batch.events).await;
        target.note(&sent, batch.events.len());
        match sent {
            Ok(()) => break,
            Err(failure @ Failure::Never { .. }) => {
                tracing::error!(
                    target = target.name(), to = target.to(), %failure,
                    "notification refused for good; it is not repeated"
                );
                break;
            }
            Err(failure) => {
                if failures == 0 {
                    tracing::warn!(target = target.name(), to = target.to(), %failure, "notification not delivered; it is repeated");
                }
                failures += 1;
                tokio::time::sleep(pace::wait(failures, failure.after(), dice())).await;
            }
        }
    }
    store.done(target, batch).await;
}

fn dice() -> u8 {
    let mut byte = [0];
    // Without randomness they are merely not spread.
    if getrandom::fill(&mut byte).is_err() {
        return u8::MAX;
    }
    let [byte] = byte;
    byte
}
