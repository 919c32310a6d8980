//! Orders: checked, split, committed, sent, followed, and told truthfully.

mod check;
mod timers;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{FollowUp, HeadendMessage, Register, Report, SetpointOrder, Severity};
use derms_proto::{
    AgentId, AssetId, ControlSource, Dispatch, DispatchId, DispatchStatus, Fleet, NewDispatch, Page,
    ReasonCode, pb,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

pub use check::DispatchError;

use crate::auth::Principal;
use crate::config::{Clock, Config};
use crate::registry::{Registry, Session};
use crate::store::{
    Advance, Commit, DispatchQuery, Idempotency, NewOrder, Order, ReportFate, Store, StoreError,
};
use timers::{Timer, Timers};

/// Changes that a slow listener may lag behind before it must read the store again.
const CHANGES: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Dispatcher {
    fleet: Arc<Fleet>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    clock: Clock,
    config: Arc<Config>,
    changes: broadcast::Sender<Arc<Dispatch>>,
    timers: Timers,
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
        clock: Clock,
        config: Arc<Config>,
    ) -> (Arc<Self>, timers::Queue) {
        let (timers, queue) = timers::channel();
        let dispatcher = Arc::new(Self {
            fleet,
            store,
            registry,
            clock,
            config,
            changes: broadcast::Sender::new(CHANGES),
            timers,
        });
        (dispatcher, queue)
    }

    /// Takes up the orders of an earlier life: those that were sent are in doubt, for the sessions
    /// that carried them ended with it.
    pub(crate) async fn recover(&self) -> Result<(), StoreError> {
        for order in self.store.open_orders(None).await? {
            if let Some(carrier) = order.carrier {
                self.store.mark_in_doubt(carrier.agent, carrier.epoch).await?;
            }
            self.watch(&order).await;
        }
        Ok(())
    }

    /// Every change of every order, as it happens.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<Dispatch>> {
        self.changes.subscribe()
    }

    /// Checks, splits, commits and sends an order.
    ///
    /// Once it is committed it is carried out even if the caller goes away: call this in a task of
    /// its own.
    pub(crate) async fn submit(
        &self,
        new: &NewDispatch,
        principal: Option<&Principal>,
        key: Option<&str>,
    ) -> Result<Submitted, DispatchError> {
        let now = self.clock.now();
        let dispatch = self.check(new, principal, now)?;
        let order = NewOrder {
            dispatch,
            idempotency: key.map(|key| Idempotency {
                key: format!("{}:{key}", principal.map_or("", Principal::name)),
                fingerprint: check::fingerprint(new),
            }),
        };
        let (dispatch, superseded) = match self.store.commit(&order).await? {
            Commit::New { dispatch, superseded } => (*dispatch, superseded),
            Commit::Repeated(dispatch) => {
                return Ok(Submitted {
                    dispatch: *dispatch,
                    repeated: true,
                });
            }
            Commit::Conflict => return Err(DispatchError::IdempotencyConflict),
        };
        for old in superseded {
            self.tell(old);
        }
        for leaf in leaves(&dispatch) {
            tracing::info!(
                dispatch = %leaf.id, asset = ?leaf.asset_id, mw = leaf.mw.mw(), revision = ?leaf.revision,
                "dispatch committed"
            );
            let order = Order {
                dispatch: leaf.clone(),
                carrier: None,
            };
            self.watch(&order).await;
            self.tell(leaf.clone());
            let session = leaf.asset_id.and_then(|asset| self.registry.serving(asset, now));
            if let Some(session) = session
                && let Err(error) = self.deliver(order, &session).await
            {
                // It is committed and waits: the session takes it up when the store answers again.
                tracing::warn!(dispatch = %leaf.id, %error, "can't record the sending; the order waits");
                session.mailbox.starve();
            }
        }
        let stored = self.store.dispatch(dispatch.id).await.ok().flatten();
        Ok(Submitted {
            dispatch: stored.unwrap_or(dispatch),
            repeated: false,
        })
    }

    /// Waits until the agents have said yes or no to an order, or until `until`.
    ///
    /// `changes` must have been taken before the order was submitted.
    pub(crate) async fn wait(
        &self,
        id: DispatchId,
        mut changes: broadcast::Receiver<Arc<Dispatch>>,
        until: Instant,
    ) -> Result<Option<Dispatch>, StoreError> {
        loop {
            let dispatch = self.store.dispatch(id).await?;
            let answered = |d: &Dispatch| {
                leaves(d).all(|leaf| leaf.status.is_terminal() || leaf.status == DispatchStatus::Active)
            };
            if dispatch.as_ref().is_none_or(answered) {
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

    pub(crate) async fn dispatches(
        &self,
        query: &DispatchQuery,
    ) -> Result<Page<Dispatch>, StoreError> {
        self.store.dispatches(query).await
    }

    /// Writes an order to a session: the attempt is stored first, so that what may have reached
    /// the agent is never taken for unsent.
    async fn deliver(&self, order: Order, session: &Arc<Session>) -> Result<(), StoreError> {
        let Ok(place) = session.outbound.try_reserve() else {
            session.mailbox.starve();
            return Ok(());
        };
        let now = self.clock.now();
        let Order { dispatch, .. } = order;
        let (Some(asset_id), Some(revision)) = (dispatch.asset_id, dispatch.revision) else {
            return Ok(());
        };
        let step = Advance {
            id: dispatch.id,
            status: DispatchStatus::Sent,
            at: now,
            reason: None,
            text: None,
            carrier: Some(session.carrier()),
        };
        let Some(sent) = self.store.advance(&step).await? else {
            // Superseded, expired or cancelled meanwhile.
            return Ok(());
        };
        self.tell(sent.dispatch);
        if !self.registry.is_current(session) {
            // The new session's replay finds it as sent, and sends it again there.
            return Ok(());
        }
        let window = now.saturating_add(self.config.start_window);
        let message = HeadendMessage::Setpoint(SetpointOrder {
            asset_id,
            dispatch_id: dispatch.id,
            revision,
            epoch: session.epoch,
            power: dispatch.mw,
            duration: dispatch.duration_s.map(Duration::from_secs_f64),
            start_deadline: dispatch.expires_at.min(window),
            ramp_mw_per_min: None,
            then: FollowUp::Default,
        });
        place.send(Box::new(pb::HeadendMessage::from(message)));
        tracing::info!(dispatch = %dispatch.id, asset = %asset_id, agent = %session.agent_id, "dispatch sent");
        self.timers
            .set(Timer::Unanswered(dispatch.id, session.epoch), self.config.ping_after)
            .await;
        Ok(())
    }

    /// Agrees with a session that has just begun (or has been given more assets), and sends what
    /// waits for it.
    ///
    /// Orders that an earlier life of the agent had are settled first. What they are is told by
    /// the report log: as long as it lives, the agent will tell their fate itself.
    pub(crate) async fn replay(
        &self,
        session: &Arc<Session>,
        assets: &[AssetId],
        register: Option<&Register>,
    ) -> Result<(), StoreError> {
        if let Some(register) = register {
            for state in register.assets.iter().flatten() {
                let in_force = state.control.source == ControlSource::Setpoint;
                if let (true, Some(id)) = (in_force, state.control.dispatch_id)
                    && let Some(order) = self.store.confirm(id).await?
                {
                    self.tell(order.dispatch);
                }
            }
        }
        // Newest first: an older one that the agent never had is then refused as stale, and told.
        for order in self.store.open_orders(Some(assets)).await? {
            match order.carrier {
                None => self.deliver(order, session).await?,
                Some(carrier) if carrier.agent != session.agent_id => {
                    // Only the agent that had it can tell; it may come back.
                }
                Some(carrier) if carrier.report_log != session.report_log => {
                    self.give_up(&order).await?;
                }
                Some(carrier) => {
                    let unanswered = order.dispatch.status == DispatchStatus::Sent;
                    if unanswered && carrier.epoch <= session.epoch {
                        self.deliver(order, session).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Settles an order whose agent lost its report log: what it had accepted was interrupted,
    /// and whether it had accepted what was only sent can't be known.
    async fn give_up(&self, order: &Order) -> Result<(), StoreError> {
        let (status, reason, text) = if order.dispatch.status == DispatchStatus::Sent {
            (
                DispatchStatus::Indeterminate,
                ReasonCode::ReportLogLost,
                "the agent restarted without its memory before it answered",
            )
        } else {
            (
                DispatchStatus::Failed,
                ReasonCode::Interrupted,
                "the agent restarted without its memory and began at the default",
            )
        };
        tracing::warn!(dispatch = %order.dispatch.id, ?status, "{text}");
        self.advance(order.dispatch.id, status, reason, text).await
    }

    async fn advance(
        &self,
        id: DispatchId,
        status: DispatchStatus,
        reason: ReasonCode,
        text: &str,
    ) -> Result<(), StoreError> {
        let step = Advance {
            id,
            status,
            at: self.clock.now(),
            reason: Some(reason),
            text: Some(text.to_owned()),
            carrier: None,
        };
        if let Some(order) = self.store.advance(&step).await? {
            self.tell(order.dispatch);
        }
        Ok(())
    }

    /// A session has ended: what it carried is in doubt until its agent speaks again.
    pub(crate) async fn session_ended(&self, agent: AgentId, epoch: u64) -> Result<(), StoreError> {
        for order in self.store.mark_in_doubt(agent, epoch).await? {
            self.tell(order.dispatch);
        }
        Ok(())
    }

    /// Reports were stored.
    pub(crate) fn reported(&self, agent: AgentId, fates: Vec<ReportFate>) {
        for fate in fates {
            match fate {
                ReportFate::Applied(order) => {
                    let dispatch = order.dispatch;
                    tracing::info!(
                        dispatch = %dispatch.id, %agent, status = ?dispatch.status,
                        reason = ?dispatch.reason, "dispatch moved on"
                    );
                    self.tell(dispatch);
                }
                ReportFate::Repeated(order) => self.tell(order.dispatch),
                ReportFate::Contradiction { order, reported } => tracing::error!(
                    dispatch = %order.dispatch.id, %agent, known = ?order.dispatch.status, ?reported,
                    "a report contradicts what is known; it was stored without effect"
                ),
                ReportFate::UnknownDispatch(id) => tracing::warn!(
                    dispatch = %id, %agent, "a report of a dispatch that this headend does not know"
                ),
                ReportFate::Event(entry) => {
                    if let Report::Event(event) = &entry.report {
                        let (code, text, asset) = (&event.code, &event.text, entry.asset_id);
                        if event.severity >= Severity::Warning {
                            tracing::warn!(%agent, %asset, severity = ?event.severity, code, text, "event");
                        } else {
                            tracing::info!(%agent, %asset, severity = ?event.severity, code, text, "event");
                        }
                    }
                }
            }
        }
    }

    /// Sets the timer that the status of an order calls for.
    async fn watch(&self, order: &Order) {
        let dispatch = &order.dispatch;
        let now = self.clock.now();
        let (timer, after) = if dispatch.status == DispatchStatus::Pending {
            let ttl = dispatch.expires_at.saturating_since(now);
            (Timer::Expire(dispatch.id), ttl)
        } else {
            (Timer::GiveUp(dispatch.id), self.config.report_timeout)
        };
        self.timers.set(timer, after).await;
    }

    async fn due(&self, timer: Timer) -> Result<(), StoreError> {
        match timer {
            Timer::Expire(id) => {
                // Allowed from `pending` alone: what was sent is the agent's to tell.
                let text = "no agent took it within its time to live";
                self.advance(id, DispatchStatus::Expired, ReasonCode::TtlElapsed, text).await?;
                let left = self.store.dispatch(id).await?;
                if left.is_some_and(|dispatch| !dispatch.status.is_terminal()) {
                    self.timers.set(Timer::GiveUp(id), self.config.report_timeout).await;
                }
            }
            Timer::Unanswered(id, epoch) => {
                let Some(dispatch) = self.store.dispatch(id).await? else {
                    return Ok(());
                };
                let session = dispatch
                    .asset_id
                    .and_then(|asset| self.registry.serving(asset, self.clock.now()));
                if let Some(session) = session
                    && session.epoch == epoch
                    && dispatch.status == DispatchStatus::Sent
                {
                    tracing::warn!(dispatch = %id, agent = %session.agent_id, "no answer to a sent dispatch; asking whether the agent lives");
                    session.mailbox.probe();
                }
            }
            Timer::GiveUp(id) => {
                let Some(dispatch) = self.store.dispatch(id).await? else {
                    return Ok(());
                };
                let Some(last) = dispatch.transitions.last() else {
                    return Ok(());
                };
                let quiet = self.clock.now().saturating_since(last.at);
                // A running lease owes no report before its end.
                let lease = match dispatch.status {
                    DispatchStatus::Active => match dispatch.duration_s {
                        Some(lease) => Duration::from_secs_f64(lease),
                        None => return Ok(()),
                    },
                    _ => Duration::ZERO,
                };
                let limit = self.config.report_timeout + lease;
                if dispatch.status.is_terminal() {
                    return Ok(());
                }
                if quiet < limit {
                    self.timers.set(timer, limit.saturating_sub(quiet)).await;
                    return Ok(());
                }
                tracing::error!(dispatch = %id, "no report within the time limit; its fate can't be known");
                let text = "no report within the time limit";
                self.advance(id, DispatchStatus::Indeterminate, ReasonCode::NoReport, text).await?;
            }
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
