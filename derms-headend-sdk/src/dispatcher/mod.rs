//! Orders: checked, split, committed, sent, followed, and told truthfully.

mod cancel;
mod check;
mod delivery;
mod follow;
mod guard;
mod known;
mod preview;
mod rebalance;
mod resync;
mod schedule;
mod share;
mod stopped;
mod timers;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    AgentId, AssetId, CloseReason, Dispatch, DispatchId, DispatchStatus, Fleet, NewDispatch, Page,
    Traceparent,
};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tracing::Instrument as _;

pub use check::DispatchError;
pub(crate) use guard::PowerBounds;
pub(crate) use resync::SETTLE;
pub(crate) use share::Present;

use crate::auth::Principal;
use crate::config::{Clock, Config};
use crate::events::Events;
use crate::idempotency::idempotency;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::store::{
    Advance, Commit, DispatchQuery, Idempotency, NewOrder, Order, SessionEnd, Store, StoreError,
};
use crate::trace::Traces;
use guard::{Guard, asked};
use known::Known;
use timers::{Timer, Timers};
use trace::root;

/// Changes that a slow listener may lag behind before it must read the store again.
const CHANGES: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Dispatcher {
    fleet: Arc<Fleet>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    present: Present,
    clock: Clock,
    events: Arc<Events>,
    config: Arc<Config>,
    limits: Arc<Limits>,
    changes: broadcast::Sender<Arc<Dispatch>>,
    timers: Timers,
    /// Orders whose sending in this session may have been recorded, though the store said that it
    /// failed, and which were not written. Forgotten with the session.
    unsure: Mutex<HashMap<DispatchId, (AgentId, u64)>>,
    known: Mutex<Known>,
    looked: Mutex<rebalance::Looked>,
    guard: Guard,
    traces: Mutex<Traces>,
}

/// The answer to an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Submitted {
    /// The order as it stands.
    pub dispatch: Dispatch,
    /// The same idempotency key and order came before: nothing was done.
    pub repeated: bool,
}

impl Dispatcher {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        present: Present,
        events: Arc<Events>,
        config: Arc<Config>,
        limits: Arc<Limits>,
    ) -> (Arc<Self>, timers::Queue) {
        let (timers, queue) = timers::channel();
        let guard = Guard::new(config.power);
        let dispatcher = Arc::new(Self {
            fleet,
            store,
            registry,
            present,
            clock: events.clock(),
            events,
            config,
            limits,
            changes: broadcast::Sender::new(CHANGES),
            timers,
            unsure: Mutex::default(),
            known: Mutex::default(),
            looked: Mutex::default(),
            guard,
            traces: Mutex::default(),
        });
        (dispatcher, queue)
    }

    /// Takes up the orders of an earlier life: those that were sent are in doubt, for the sessions
    /// that carried them ended with it; those that wait go on waiting.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        let end = SessionEnd {
            at: self.clock.now(),
            cause: CloseReason::TransportLost,
            text: "the headend ended without recording the end".to_owned(),
        };
        self.store.abandon_sessions(&end).await?;
        let assets: Vec<AssetId> = self.fleet.assets().iter().map(|asset| asset.id).collect();
        let revisions = self.store.revisions(&assets).await?;
        for (asset, revision) in assets.into_iter().zip(revisions) {
            self.knows_revision(asset, revision);
        }
        let open = self.store.open_orders(None).await?;
        let sites: BTreeSet<DispatchId> = open
            .iter()
            .filter_map(|order| order.dispatch.parent_id)
            .collect();
        for site in sites {
            if let Some(site) = self.store.dispatch(site).await? {
                self.take_up(&site).await;
            }
        }
        for order in open {
            self.note(&order);
            self.watch(&order.dispatch).await;
        }
        Ok(())
    }

    /// Store or agent has seen this revision of an asset.
    pub(crate) fn knows_revision(&self, asset: AssetId, revision: u64) {
        self.known.lock().raise(asset, revision);
    }

    /// The status of each order for one asset that is known to be open.
    pub(crate) fn open(&self) -> Vec<DispatchStatus> {
        self.known.lock().statuses().collect()
    }

    /// Every change of every order, as it happens.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<Dispatch>> {
        self.changes.subscribe()
    }

    /// Checks, splits, commits and sends an order; `caller`: what it is a part of.
    ///
    /// Once it is committed it is carried out even if the caller goes away: call this in a task of
    /// its own.
    pub(crate) async fn submit(
        &self,
        new: &NewDispatch,
        principal: Option<&Principal>,
        key: Option<&str>,
        caller: Option<Traceparent>,
    ) -> Result<Submitted, DispatchError> {
        let now = self.clock.now();
        let idempotency = key.map(|key| idempotency("", new, principal, key));
        let dispatch = match self.check(new, principal, now) {
            Ok(dispatch) => dispatch,
            // What is refused now may have been taken before: a repetition is no new order.
            Err(refusal) => return self.repeated(idempotency.as_ref(), refusal).await,
        };
        let reserved = match self.guard.reserve(principal, asked(new)) {
            Ok(reserved) => reserved,
            Err(over) => return self.repeated(idempotency.as_ref(), over.into()).await,
        };
        let assets: Vec<AssetId> = leaves(&dispatch).filter_map(|leaf| leaf.asset_id).collect();
        self.raise_unstored(&assets).await?;
        if let Some(caller) = caller {
            self.traces.lock().remember(root(&dispatch), caller);
        }
        let span = self.span(&dispatch);
        let order = NewOrder {
            dispatch,
            idempotency,
        };
        self.carry_out(order, reserved).instrument(span).await
    }

    /// Commits and sends what was checked.
    async fn carry_out(
        &self,
        order: NewOrder,
        reserved: Option<guard::Reserved<'_>>,
    ) -> Result<Submitted, DispatchError> {
        let (dispatch, superseded) = match self.store.commit(&order).await {
            Ok(Commit::New {
                dispatch,
                superseded,
            }) => (*dispatch, superseded),
            Ok(Commit::Repeated(dispatch)) => {
                // Its first answer may have been lost.
                self.take_up(&dispatch).await;
                return Ok(repeated(*dispatch));
            }
            Ok(Commit::Conflict) => return Err(DispatchError::IdempotencyConflict),
            Err(error) => {
                self.settle(&order).await;
                // With a key it may be in force by now: its power must not be there twice.
                if order.idempotency.is_some()
                    && let Some(reserved) = reserved
                {
                    reserved.keep();
                }
                return Err(error.into());
            }
        };
        if let Some(reserved) = reserved {
            reserved.keep();
        }
        self.take_up(&dispatch).await;
        let leaves: Vec<Dispatch> = leaves(&dispatch).cloned().collect();
        self.committed(&leaves, superseded).await;
        let stored = self.store.dispatch(dispatch.id).await.ok().flatten();
        Ok(Submitted {
            dispatch: stored.unwrap_or(dispatch),
            repeated: false,
        })
    }

    /// A site order that is stored.
    async fn take_up(&self, dispatch: &Dispatch) {
        if dispatch.asset_id.is_none() && !dispatch.status.is_terminal() {
            self.known.lock().site(dispatch);
            self.look_after(dispatch).await;
        }
    }

    /// Orders for assets are stored: all learn of them, and those whose assets are served go out.
    async fn committed(&self, leaves: &[Dispatch], superseded: Vec<Dispatch>) {
        for old in superseded {
            self.log_step(&old, None);
            self.moved(unsent(old)).await;
        }
        let mut served = Vec::new();
        for leaf in leaves {
            tracing::info!(
                dispatch_id = %leaf.id, asset_id = leaf.asset_id.map(tracing::field::display),
                mw = leaf.mw.mw(), revision = leaf.revision, principal = leaf.principal,
                trace_id = self.trace_id(leaf), "dispatch committed"
            );
            self.watch(leaf).await;
            self.note(&unsent(leaf.clone()));
            self.tell(leaf.clone());
            if let Some(session) = leaf.asset_id.and_then(|asset| self.registry.serving(asset)) {
                served.push((unsent(leaf.clone()), session));
            }
        }
        self.cancel_stopped_meanwhile(leaves);
        if let Err(error) = self.deliver(&served).await {
            // Committed, they wait: their sessions take them up when the store answers again.
            tracing::warn!(orders = served.len(), error = %error.in_full(), "can't record the sending; the orders wait");
            for (_, session) in &served {
                session.mailbox.starve();
            }
        }
    }

    async fn repeated(
        &self,
        idempotency: Option<&Idempotency>,
        refusal: DispatchError,
    ) -> Result<Submitted, DispatchError> {
        let found = match idempotency {
            Some(idempotency) => self.store.committed(idempotency).await?,
            None => None,
        };
        match found {
            Some(Commit::Repeated(dispatch)) => Ok(repeated(*dispatch)),
            Some(_) => Err(DispatchError::IdempotencyConflict),
            None => Err(refusal),
        }
    }

    /// A commit that failed may have been made all the same. Its caller was told that it failed:
    /// without a key to ask again with, it must not come into force later.
    async fn settle(&self, order: &NewOrder) {
        for leaf in leaves(&order.dispatch) {
            if order.idempotency.is_some() {
                self.watch(leaf).await;
            } else {
                self.timers
                    .set(Timer::Withdraw(leaf.id), Duration::ZERO)
                    .await;
            }
        }
        if order.idempotency.is_some() {
            self.look_after(&order.dispatch).await;
        }
    }

    /// Waits until each order for an asset is so far as `enough` says, or until `until`.
    ///
    /// `changes` must have been taken before the order was submitted.
    pub(crate) async fn wait(
        &self,
        id: DispatchId,
        mut changes: broadcast::Receiver<Arc<Dispatch>>,
        until: Instant,
        enough: impl Fn(DispatchStatus) -> bool,
    ) -> Result<Option<Dispatch>, StoreError> {
        loop {
            let dispatch = self.store.dispatch(id).await?;
            let all = |whole: &Dispatch| leaves(whole).all(|leaf| enough(leaf.status));
            if dispatch.as_ref().is_none_or(all) {
                return Ok(dispatch);
            }
            loop {
                match tokio::time::timeout_at(until, changes.recv()).await {
                    Err(_) => return Ok(dispatch),
                    Ok(Ok(changed)) if changed.id != id && changed.parent_id != Some(id) => {}
                    Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => break,
                    Ok(Err(broadcast::error::RecvError::Closed)) => return Ok(dispatch),
                }
            }
        }
    }

    pub(crate) async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.store.dispatch(id).await
    }

    /// An order, also an open one while the store is away.
    pub(crate) async fn newest(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        let known = self.known.lock().whole(id);
        match known {
            Some(order) => Ok(Some(order)),
            None => self.store.dispatch(id).await,
        }
    }

    pub(crate) async fn dispatches(
        &self,
        query: &DispatchQuery,
    ) -> Result<Page<Dispatch>, StoreError> {
        self.store.dispatches(query).await
    }

    /// Moves orders on and tells of those that moved.
    async fn advance(&self, steps: &[Advance]) -> Result<(), StoreError> {
        for order in self.store.advance(steps).await?.into_iter().flatten() {
            self.log_step(&order.dispatch, None);
            self.moved(order).await;
        }
        Ok(())
    }

    fn tell(&self, dispatch: Dispatch) {
        // Nobody listening is no fault.
        let _ = self.changes.send(Arc::new(dispatch));
    }
}

/// The orders for single assets: a dispatch itself, or its children.
fn leaves(dispatch: &Dispatch) -> impl Iterator<Item = &Dispatch> {
    let own = dispatch.asset_id.is_some().then_some(dispatch);
    own.into_iter().chain(&dispatch.children)
}

/// Whether the agents have said yes or no.
pub(crate) fn is_answered(status: DispatchStatus) -> bool {
    status.is_terminal() || status == DispatchStatus::Active
}

fn unsent(dispatch: Dispatch) -> Order {
    Order {
        dispatch,
        carrier: None,
        release: None,
    }
}

fn repeated(dispatch: Dispatch) -> Submitted {
    Submitted {
        dispatch,
        repeated: true,
    }
}
