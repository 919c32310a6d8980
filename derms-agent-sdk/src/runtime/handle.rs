//! Watching an agent, and stopping it.

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{AgentEvent, AgentSnapshot};

/// Events that a slow watcher can be behind before it misses some.
const EVENTS: usize = 256;

/// The agent's end of what its handles see.
#[derive(Debug)]
pub(super) struct Publisher {
    events: broadcast::Sender<AgentEvent>,
    snapshot: watch::Sender<AgentSnapshot>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(EVENTS),
            snapshot: watch::Sender::new(AgentSnapshot::default()),
        }
    }

    pub(super) fn event(&self, event: AgentEvent) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }

    pub(super) fn snapshot(&self, snapshot: AgentSnapshot) {
        self.snapshot.send_replace(snapshot);
    }
}

/// A handle to a running agent: cheap to clone, harmless to drop.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    events: broadcast::WeakSender<AgentEvent>,
    snapshot: watch::Receiver<AgentSnapshot>,
    shutdown: CancellationToken,
}

impl AgentHandle {
    pub(super) fn new(publisher: &Publisher, shutdown: CancellationToken) -> Self {
        Self {
            events: publisher.events.downgrade(),
            snapshot: publisher.snapshot.subscribe(),
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
