//! Ends limits that have run out, and stores what has changed, as often as it takes.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::Stop;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Limits;
use crate::dispatcher::Dispatcher;
use crate::store::StoreError;

/// How late a limit may be marked as expired, and a change stored.
const EVERY: Duration = Duration::from_secs(1);

/// Between two writes others have the store to themselves.
const BREATH: Duration = Duration::from_millis(100);

/// Runs until `stop`, and stores once more then.
pub(crate) async fn keep(
    limits: Arc<Limits>,
    dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = limits.due.notified() => {}
            () = stop.cancelled() => {
                if let Err(error) = limits.save().await {
                    tracing::error!(error = %error.in_full(), "limits or stops are not stored");
                }
                return;
            }
        }
        limits.book.lock().expire(limits.clock.now());
        let saved = match limits.save().await {
            Ok(()) => dispatcher.cancel_stopped().await,
            Err(error) => Err(error),
        };
        match saved {
            Ok(()) if failing => {
                tracing::warn!("limits and stops are stored again");
                failing = false;
            }
            Ok(()) => {}
            Err(error) if failing => {
                tracing::debug!(error = %error.in_full(), "can't store limits or stops");
            }
            Err(error) => {
                tracing::error!(error = %error.in_full(), "can't store limits or stops; trying again, they hold all the same");
                failing = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BREATH) => {}
            () = stop.cancelled() => {}
        }
    }
}

impl Limits {
    /// Stores what has changed since.
    pub(super) async fn save(&self) -> Result<(), StoreError> {
        self.save_limits().await?;
        self.save_stops().await
    }

    async fn save_limits(&self) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let limits: Vec<_> = self.book.lock().unsaved_limits.values().cloned().collect();
        if limits.is_empty() {
            return Ok(());
        }
        self.store.put_limits(&limits).await?;
        // What has changed meanwhile is stored the next time.
        let mut book = self.book.lock();
        for limit in &limits {
            if book.unsaved_limits.get(&limit.id) == Some(limit) {
                book.unsaved_limits.remove(&limit.id);
            }
        }
        Ok(())
    }

    async fn put_each(&self, stops: &[Stop]) -> Result<(), StoreError> {
        let (keyed, others): (Vec<Stop>, Vec<Stop>) = {
            let book = self.book.lock();
            let stops = stops.iter().cloned();
            stops.partition(|stop| book.key_of_stop(stop.id).is_some())
        };
        if !others.is_empty() {
            self.store.put_stops(&others).await?;
        }
        for stop in &keyed {
            self.put_stop(stop).await?;
        }
        Ok(())
    }

    async fn save_stops(&self) -> Result<(), StoreError> {
        let _writing = self.writing_stops.lock().await;
        let stops: Vec<_> = {
            let mut book = self.book.lock();
            let ids = std::mem::take(&mut book.unsaved_stops);
            ids.iter()
                .filter_map(|id| book.stop(*id).map(|holding| holding.stop.clone()))
                .collect()
        };
        if stops.is_empty() {
            return Ok(());
        }
        let stored = self.put_each(&stops).await;
        let mut book = self.book.lock();
        for stop in &stops {
            match stored {
                Ok(()) => book.stop_stored(stop.id, true),
                Err(_) => {
                    book.unsaved_stops.insert(stop.id);
                }
            }
        }
        stored
    }
}
