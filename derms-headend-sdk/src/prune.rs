//! Forgets what is old, now and then, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Clock;
use crate::store::{Retention, Store};

/// The first look comes soon, for a headend may be started often; then one an hour.
const FIRST: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(3600);

/// Between two portions others have the store to themselves.
const BREATH: Duration = Duration::from_millis(200);

/// Runs until `stop`.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    retention: Retention,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut wait = FIRST;
    let mut forgotten = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        match store.prune(&retention, clock.now()).await {
            Ok(pruned) => {
                forgotten += pruned.total();
                wait = if pruned.more { BREATH } else { EVERY };
            }
            Err(error) => {
                tracing::warn!(error = %error.in_full(), retry_in_s = FIRST.as_secs_f64(), "can't forget what is old");
                wait = FIRST;
            }
        }
        if wait != BREATH && forgotten > 0 {
            tracing::info!(rows = forgotten, "forgot what was older than its retention");
            forgotten = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::Timestamp;
    use tokio::time::{Instant, sleep_until};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::store::MemoryStore;
    use crate::store::conformance::kit::{end, new_agent, record};

    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_forgotten_every_hour_until_the_headend_stops() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let ended = async || {
            let agent = new_agent();
            let epoch = store
                .open_session(&record(agent, Timestamp::MIN), 0)
                .await
                .unwrap();
            store
                .close_session(agent, epoch, &end(0, ""))
                .await
                .unwrap();
        };
        let count = async || {
            store
                .sessions(&Default::default())
                .await
                .unwrap()
                .items
                .len()
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let clock = Clock::new(|| Timestamp::MAX);
        tasks.spawn(run(
            Arc::clone(&store),
            Retention::default(),
            clock,
            stop.clone(),
        ));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for due in [FIRST, FIRST + EVERY, FIRST + 2 * EVERY] {
            ended().await;
            sleep_until(start + due - second).await;
            assert_eq!(count().await, 1);
            sleep_until(start + due + second).await;
            assert_eq!(count().await, 0);
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
