//! What the services of one headend share.

use std::collections::HashMap;
use std::sync::Arc;

use derms_proto::{AssetId, Fleet, Heartbeat, NewDispatch};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Principal;
use crate::config::{Clock, Config};
use crate::dispatcher::{DispatchError, Dispatcher, Submitted};
use crate::following::Following;
use crate::ingest::Ingest;
use crate::latest::Latest;
use crate::registry::Registry;
use crate::store::{Store, StoreError};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) latest: Latest,
    pub(crate) registry: Arc<Registry>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) ingest: Ingest,
    pub(crate) following: Arc<Following>,
    /// The newest heartbeat of each asset.
    pub(crate) heartbeats: RwLock<HashMap<AssetId, Heartbeat>>,
    /// Sessions and what they started.
    pub(crate) streams: TaskTracker,
    /// Writers and timers.
    pub(crate) background: TaskTracker,
    /// No new sessions; those that live are told to leave.
    pub(crate) drain: CancellationToken,
    /// The end of writers and timers.
    pub(crate) stop: CancellationToken,
}

impl Core {
    /// Takes an order in a task of its own, so that it is carried out even if the caller goes.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        new: NewDispatch,
        principal: Option<Principal>,
        key: Option<String>,
    ) -> Result<Submitted, DispatchError> {
        let core = Arc::clone(self);
        let task = self.streams.spawn(async move {
            core.dispatcher
                .submit(&new, principal.as_ref(), key.as_deref())
                .await
        });
        task.await.unwrap_or_else(|error| {
            // What became of the order is not known: a fault, and not a store to try again.
            if error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
            Err(DispatchError::Store(StoreError::Unavailable {
                context: "the task that took the order ended".to_owned(),
                source: Some(error.into()),
            }))
        })
    }
}

/// A headend that nobody can reach any more ends, shut down or not.
impl Drop for Core {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
