//! What the services of one headend share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    Acknowledgement, AssetId, Dispatch, DispatchId, Event, EventId, Fleet, Heartbeat, LimitId,
    NewDispatch, NewLimit, NewStop, PowerLimit, Stop, StopId, Traceparent,
};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Rates, Readiness};
use crate::audit::Audit;
use crate::auth::Principal;
use crate::config::{Clock, Config};
use crate::dispatcher::{DispatchError, Dispatcher, Submitted};
use crate::events::Events;
use crate::following::Following;
use crate::ingest::Ingest;
use crate::latest::Latest;
use crate::limits::{LimitError, Limits, StopError};
use crate::link_auth::LinkAuth;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::store::{Store, StoreError};

/// A stop is answered after this, whatever the store does about orders that wait.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) policy: Policy,
    pub(crate) auth: Arc<LinkAuth>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) ingest: Ingest,
    pub(crate) following: Arc<Following>,
    /// What happens is told here as it happens.
    pub(crate) live: Arc<Hub>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) events: Arc<Events>,
    pub(crate) rates: Rates,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    /// The newest heartbeat of each asset.
    pub(crate) heartbeats: Arc<RwLock<HashMap<AssetId, Heartbeat>>>,
    /// A turn for each registration that is at the store.
    pub(crate) registering: Semaphore,
    /// Sessions and what they started.
    pub(crate) streams: TaskTracker,
    /// Writers and timers.
    pub(crate) background: TaskTracker,
    /// The store is another headend's now; drains this one.
    pub(crate) taken_over: CancellationToken,
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
        caller: Option<Traceparent>,
    ) -> Result<Submitted, DispatchError> {
        let core = Arc::clone(self);
        self.carried_out(async move {
            core.dispatcher
                .submit(&new, principal.as_ref(), key.as_deref(), caller)
                .await
        })
        .await
    }

    /// Ends an order, even if the caller goes.
    pub(crate) async fn cancel(
        self: &Arc<Self>,
        id: DispatchId,
        principal: Option<Principal>,
    ) -> Result<Option<Dispatch>, StoreError> {
        let core = Arc::clone(self);
        self.carried_out(async move { core.dispatcher.cancel(id, principal.as_ref()).await })
            .await
    }

    /// Sets a limit, even if the caller goes.
    pub(crate) async fn set_limit(
        self: &Arc<Self>,
        new: NewLimit,
        principal: Option<Principal>,
        key: Option<String>,
        trace: Option<Traceparent>,
    ) -> Result<PowerLimit, LimitError> {
        let core = Arc::clone(self);
        self.carried_out(async move {
            let limits = &core.limits;
            // What is no new limit takes no power.
            if let Some(key) = &key
                && let Some(before) = limits.repeated(&new, principal.as_ref(), key).await?
            {
                return Ok(before);
            }
            let reserved = core.dispatcher.reserve_limit(&new, principal.as_ref())?;
            let limit = limits
                .set(&new, principal.as_ref(), key.as_deref(), trace)
                .await?;
            if let Some(reserved) = reserved {
                reserved.keep();
            }
            Ok(limit)
        })
        .await
    }

    /// Removes a limit, even if the caller goes.
    pub(crate) async fn remove_limit(
        self: &Arc<Self>,
        id: LimitId,
        principal: Option<Principal>,
    ) -> Result<PowerLimit, LimitError> {
        let core = Arc::clone(self);
        self.carried_out(async move { core.limits.remove(id, principal.as_ref()).await })
            .await
    }

    /// Stops assets, even if the caller goes, and cancels the orders that wait for them.
    pub(crate) async fn stop_assets(
        self: &Arc<Self>,
        new: NewStop,
        principal: Option<Principal>,
        key: Option<String>,
        trace: Option<Traceparent>,
    ) -> Result<Stop, StopError> {
        let core = Arc::clone(self);
        self.carried_out(async move {
            let stop = core
                .limits
                .stop(&new, principal.as_ref(), key.as_deref(), trace)
                .await?;
            // What is not cancelled by then is tried again until it is.
            let cancelled = tokio::time::timeout(CANCEL_PATIENCE, core.dispatcher.cancel_stopped());
            if !matches!(cancelled.await, Ok(Ok(()))) {
                tracing::warn!(stop_id = %stop.id, "orders that wait for stopped assets are cancelled later");
            }
            Ok(stop)
        })
        .await
    }

    /// Ends a stop, even if the caller goes.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        id: StopId,
        within: Duration,
        principal: Option<Principal>,
    ) -> Result<Stop, StopError> {
        let core = Arc::clone(self);
        self.carried_out(async move { core.limits.resume(id, within, principal.as_ref()).await })
            .await
    }

    /// Acknowledges an event, even if the caller goes.
    pub(crate) async fn acknowledge(
        self: &Arc<Self>,
        id: EventId,
        principal: Option<Principal>,
        note: Option<String>,
    ) -> Result<Option<Event>, StoreError> {
        let core = Arc::clone(self);
        self.carried_out(async move {
            let acknowledgement = Acknowledgement {
                at: core.clock.now(),
                by: principal.map(|it| it.name().to_owned()),
                note,
            };
            core.store.acknowledge(id, &acknowledgement).await
        })
        .await
    }

    async fn carried_out<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.streams.spawn(work).await.unwrap_or_else(|error| {
            // What became of it is not known: a fault, and not a store to try again.
            if error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
            Err(E::from(StoreError::Unavailable {
                context: "the task that did it ended".to_owned(),
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
