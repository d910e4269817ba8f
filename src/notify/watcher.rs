//! Looks at the product's own state now and then, and puts troubles into the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::event::{Event, News, Trouble};
use super::look::look;
use super::store::Store;
use super::watch::{Turn, Watch};
use crate::time::Timestamp;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);

/// Tells of troubles until stopped.
pub(super) async fn run(parts: Parts, store: Arc<Store>, stop: CancellationToken) {
    let mut watch = Watch::resume(parts.watch.clone(), store.troubles());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let sight = tokio::select! {
            () = stop.cancelled() => return,
            sight = look(&parts) => sight,
        };
        let now = Timestamp::now();
        let turns = watch.step(&sight, now);
        if turns.is_empty() {
            continue;
        }
        let troubles = watch.troubles();
        store
            .tell(|kept| {
                kept.troubles = troubles;
                let turns = turns.into_iter().enumerate();
                turns.map(|(at, turn)| event(turn, at, now)).collect()
            })
            .await;
    }
}

/// The event of a turn; `at` tells the turns of one moment apart.
fn event(turn: Turn, at: usize, now: Timestamp) -> Event {
    let name = |word: &str, trouble: &Trouble| {
        let code = serde_json::to_value(trouble.code).unwrap_or_default();
        let code = code.as_str().unwrap_or_default();
        format!("{code}-{}-{at}.{word}", now.as_ns())
    };
    let (id, news) = match turn {
        Turn::Begun(trouble) => (name("begun", &trouble), News::Trouble { trouble }),
        Turn::Over(trouble) => (name("over", &trouble), News::Recovered { trouble }),
    };
    Event { id, at: now, news }
}
