//! What waits for the store in memory, bounded: its makers wait for nothing and fail with nothing.
//!
//! What finds no room is counted, and told in an item of its own when there is room again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ingest::Writing;
use crate::store::{Store, StoreError};

/// Items in one call.
const PORTION: usize = 256;
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Items on their way to the store, oldest first.
pub(crate) struct Backlog<T> {
    waiting: Mutex<Waiting<T>>,
    something: Notify,
}

struct Waiting<T> {
    items: VecDeque<T>,
    /// Since the last that was kept.
    lost: u64,
    /// Since the start.
    lost_in_all: u64,
}

/// Whoever has a backlog.
pub(crate) trait Source: Send + Sync + 'static {
    type Item: Clone + Send + Sync;

    /// What the items are, for people.
    const NAME: &'static str;

    fn backlog(&self) -> &Backlog<Self::Item>;

    /// Writes a part of it; an item that is there already must be left as it is.
    fn write<'a>(store: &'a dyn Store, items: &'a [Self::Item]) -> Writing<'a, ()>;

    /// The item that tells how many before it found no room.
    fn lost(&self, lost: u64) -> Self::Item;
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                lost: 0,
                lost_in_all: 0,
            }),
            something: Notify::new(),
        }
    }
}

impl<T> fmt::Debug for Backlog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.lock();
        f.debug_struct("Backlog")
            .field("items", &waiting.items.len())
            .field("lost", &waiting.lost)
            .finish()
    }
}

impl<T> Backlog<T> {
    /// Keeps an item if fewer than `most` wait; `what` they are, for people.
    pub(crate) fn put(&self, item: T, most: usize, what: &str) {
        let mut waiting = self.waiting.lock();
        if waiting.items.len() >= most {
            if waiting.lost == 0 {
                tracing::error!(
                    "the store takes no {what} and no more can wait: they are in this log alone"
                );
            }
            waiting.lost += 1;
            waiting.lost_in_all += 1;
            return;
        }
        waiting.items.push_back(item);
        drop(waiting);
        self.something.notify_one();
    }

    /// How many items wait, and how many found no room since the start.
    pub(crate) fn levels(&self) -> (usize, u64) {
        let waiting = self.waiting.lock();
        (waiting.items.len(), waiting.lost_in_all)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.waiting.lock().items.iter().cloned().collect()
    }
}

/// Takes items to the store until `stop`, and then until what waits is stored or the store says no.
pub(crate) async fn run<S: Source>(source: Arc<S>, store: Arc<dyn Store>, stop: CancellationToken) {
    let backlog = source.backlog();
    let what = S::NAME;
    let mut failing = false;
    loop {
        let stopping = stop.is_cancelled();
        match write(&*source, &*store).await {
            Ok(true) => failing = false,
            Ok(false) if stopping => return,
            Ok(false) => {
                failing = false;
                tokio::select! {
                    () = backlog.something.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) if stopping => {
                let waiting = backlog.waiting.lock().items.len();
                tracing::error!(error = %error.in_full(), waiting, "{what} are in this log alone");
                return;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %error.in_full(), "can't store {what}; they wait");
                }
                failing = true;
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}

/// Stores a part of what waits; `false` if nothing does.
async fn write<S: Source>(source: &S, store: &dyn Store) -> Result<bool, StoreError> {
    let backlog = source.backlog();
    let portion: Vec<S::Item> = {
        let waiting = backlog.waiting.lock();
        waiting.items.iter().take(PORTION).cloned().collect()
    };
    if portion.is_empty() {
        return Ok(false);
    }
    // They stay here until they are stored.
    S::write(store, &portion).await?;
    let mut waiting = backlog.waiting.lock();
    waiting.items.drain(..portion.len());
    let lost = std::mem::take(&mut waiting.lost);
    drop(waiting);
    if lost > 0 {
        let item = source.lost(lost);
        backlog.waiting.lock().items.push_back(item);
    }
    Ok(true)
}
