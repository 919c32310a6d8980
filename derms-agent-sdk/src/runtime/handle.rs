//! Watching an agent, changing what it serves, and stopping it.

use std::sync::Arc;

use derms_proto::{Asset, AssetId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::changes::{Change, What};
use crate::{AgentCounters, AgentEvent, AgentSnapshot, ChangeError, DerAdapter};

/// Events that a slow watcher can be behind before it misses some.
const EVENTS: usize = 256;

/// The agent's end of what its handles see.
#[derive(Debug)]
pub(super) struct Publisher {
    events: broadcast::Sender<AgentEvent>,
    snapshot: watch::Sender<AgentSnapshot>,
    counters: watch::Sender<AgentCounters>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(EVENTS),
            snapshot: watch::Sender::new(AgentSnapshot::default()),
            counters: watch::Sender::new(AgentCounters::default()),
        }
    }

    pub(super) fn event(&self, event: AgentEvent) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }

    pub(super) fn snapshot(&self, snapshot: AgentSnapshot, counters: AgentCounters) {
        self.snapshot.send_replace(snapshot);
        self.counters.send_replace(counters);
    }
}

/// A handle to a running agent: cheap to clone, harmless to drop.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    events: broadcast::WeakSender<AgentEvent>,
    snapshot: watch::Receiver<AgentSnapshot>,
    counters: watch::Receiver<AgentCounters>,
    changes: mpsc::Sender<Change>,
    shutdown: CancellationToken,
}

impl AgentHandle {
    pub(super) fn new(
        publisher: &Publisher,
        changes: mpsc::Sender<Change>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            events: publisher.events.downgrade(),
            snapshot: publisher.snapshot.subscribe(),
            counters: publisher.counters.subscribe(),
            changes,
            shutdown,
        }
    }

    /// The events from now on.
    #[must_use]
    pub fn subscribe(&self) -> AgentEvents {
        AgentEvents {
            events: self.events.upgrade().map(|events| events.subscribe()),
        }
    }

    /// How the agent stands; at most a second old. After the end: how it stood at the end.
    #[must_use]
    pub fn status(&self) -> AgentSnapshot {
        self.snapshot.borrow().clone()
    }

    /// What the agent has counted; at most a second old. After the end: what it had counted then.
    #[must_use]
    pub fn counters(&self) -> AgentCounters {
        self.counters.borrow().clone()
    }

    /// Serves one more asset from now on, on the session that is there. Ready when its device is
    /// read and the headend is asked for it; [`AgentSnapshot`] tells whether it was granted. Before
    /// [`AgentRuntime::run`](crate::AgentRuntime::run) it waits for that.
    ///
    /// An asset that is served already has changed: what is in force ends, its device goes to the
    /// default through the old adapter, then the new one takes over. Revisions and outcomes stay.
    ///
    /// Once it has begun, the change goes on if this call is dropped.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add(&self, asset: Asset, adapter: impl DerAdapter) -> Result<(), ChangeError> {
        if let Some(problem) = asset.problem() {
            return Err(ChangeError::InvalidAsset {
                asset_id: asset.id,
                name: asset.name,
                problem,
            });
        }
        self.change(What::Add(Box::new(asset), Arc::new(adapter)))
            .await
    }

    /// Serves an asset no more. What is in force ends as `failed` (`interrupted`), its device is
    /// sent to its default, the headend is told; ready when that is done, or after 15 s with a
    /// device that does not obey. Its revisions stay remembered, in the
    /// [`state_dir`](crate::AgentBuilder::state_dir) too, should it be added again.
    ///
    /// Once it has begun, the change goes on if this call is dropped.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove(&self, asset_id: AssetId) -> Result<(), ChangeError> {
        self.change(What::Remove(asset_id)).await
    }

    async fn change(&self, what: What) -> Result<(), ChangeError> {
        let (answer, done) = oneshot::channel();
        let sent = self.changes.send(Change { what, answer }).await;
        sent.map_err(|_| ChangeError::Stopped)?;
        done.await.map_err(|_| ChangeError::Stopped)?
    }

    /// Shuts the agent down; see [`AgentRuntime::run`](crate::AgentRuntime::run). Calling it again
    /// changes nothing.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }
}

/// The events of an agent, in order.
#[derive(Debug)]
pub struct AgentEvents {
    events: Option<broadcast::Receiver<AgentEvent>>,
}

impl AgentEvents {
    /// The next event; `None` after the last. A watcher that is more than 256 events behind
    /// gets [`AgentEvent::Missed`]. Cancel safe.
    pub async fn next(&mut self) -> Option<AgentEvent> {
        match self.events.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(AgentEvent::Missed { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
