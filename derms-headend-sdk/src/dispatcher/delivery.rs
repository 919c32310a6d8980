//! From the store to an agent: what is sent, and in which session again.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetState, HeadendMessage, Register, SetpointOrder};
use derms_proto::wire::TraceContext as _;
use derms_proto::{
    AssetId, ControlSource, Dispatch, DispatchId, DispatchStatus, ReasonCode, Timestamp, pb,
};
use tokio::sync::mpsc;

use super::{Dispatcher, Timer, schedule};
use crate::registry::{Outbound, Session};
use crate::store::{Advance, Order, StoreError};

/// Orders whose sending is recorded in one call. They hold places in the queues of their sessions
/// until the store has answered; acknowledgements need some too.
const AT_ONCE: usize = 64;

impl Dispatcher {
    /// Writes orders to sessions: the attempt is stored first, so that what may have reached an
    /// agent is never taken for unsent.
    pub(super) async fn deliver(&self, orders: &[(Order, Arc<Session>)]) -> Result<(), StoreError> {
        for orders in orders.chunks(AT_ONCE) {
            let now = self.clock.now();
            let mut attempts = Vec::with_capacity(orders.len());
            let mut steps = Vec::with_capacity(orders.len());
            for (order, session) in orders {
                let dispatch = &order.dispatch;
                if order.carrier.is_none() && now >= dispatch.expires_at {
                    // Too late to start: its timer tells so.
                    continue;
                }
                if order.carrier.is_none() && schedule::is_early(dispatch, session, now) {
                    // Its timer takes it up.
                    continue;
                }
                if order.carrier.is_none() && self.is_stopped(dispatch) {
                    self.limits.end_orders();
                    continue;
                }
                if self.is_held_back(order, session) {
                    continue;
                }
                let Ok(place) = session.outbound.try_reserve() else {
                    session.mailbox.starve();
                    continue;
                };
                steps.push(Advance {
                    id: dispatch.id,
                    status: DispatchStatus::Sent,
                    at: now,
                    reason: None,
                    text: None,
                    carrier: Some(session.carrier()),
                });
                attempts.push((session, place));
            }
            if steps.is_empty() {
                continue;
            }
            let moved = match self.store.advance(&steps).await {
                Ok(moved) => moved,
                Err(error) => {
                    let mut unsure = self.unsure.lock();
                    for (step, (session, _)) in steps.iter().zip(attempts) {
                        unsure.insert(step.id, (session.agent_id, session.epoch));
                    }
                    return Err(error);
                }
            };
            for (moved, (session, place)) in moved.into_iter().zip(attempts) {
                // `None`: superseded, expired, cancelled or sent meanwhile.
                if let Some(order) = moved {
                    self.unsure.lock().remove(&order.dispatch.id);
                    self.moved(order.clone()).await;
                    self.write(&order.dispatch, session, place).await;
                }
            }
        }
        Ok(())
    }

    /// Whether an order must not go out now. One that is cancelled never does; one that a release
    /// must precede does when that was written.
    fn is_held_back(&self, order: &Order, session: &Session) -> bool {
        let dispatch = &order.dispatch;
        let known = self.known.lock();
        if known.is_over(dispatch.id) {
            return true;
        }
        let Some(asset) = dispatch.asset_id else {
            return false;
        };
        let stale = dispatch.revision <= known.unstored_revision(asset);
        let behind = !known.due(session, &[asset]).is_empty();
        drop(known);
        if stale || behind {
            session.mailbox.starve();
        }
        stale || behind
    }

    /// Writes an order whose sending in this session is stored.
    async fn write(
        &self,
        dispatch: &Dispatch,
        session: &Session,
        place: mpsc::Permit<'_, Outbound>,
    ) {
        if !self.registry.is_current(session) {
            // The new session's replay finds it as sent, and sends it again there.
            return;
        }
        let (Some(asset_id), Some(revision)) = (dispatch.asset_id, dispatch.revision) else {
            return;
        };
        let window = self.config.start_window;
        let start_deadline = schedule::start_deadline(dispatch, self.clock.now(), window);
        let message = HeadendMessage::Setpoint(SetpointOrder {
            asset_id,
            dispatch_id: dispatch.id,
            revision,
            epoch: session.epoch,
            power: dispatch.mw,
            duration: lease(dispatch),
            start_at: dispatch.start_at.filter(|_| session.capabilities.schedule),
            start_deadline,
            ramp_mw_per_min: dispatch.ramp_mw_per_min,
            then: dispatch.follow_up,
        });
        {
            // Under the lock: nothing of a cancelled order follows its release.
            let known = self.known.lock();
            if known.is_over(dispatch.id) {
                return;
            }
            let mut message = pb::HeadendMessage::from(message);
            message.set_trace_context(self.trace(dispatch).map(|trace| trace.to_string()));
            place.send(Box::new(message));
        }
        tracing::info!(dispatch_id = %dispatch.id, %asset_id, agent_id = %session.agent_id,
            epoch = session.epoch, revision, trace_id = self.trace_id(dispatch), "dispatch sent");
        let timer = Timer::Unanswered(dispatch.id, session.epoch);
        self.timers.set(timer, self.config.ping_after).await;
    }

    /// Agrees with a session that has just begun (or has been given more assets, or has room
    /// again), and sends what waits for it.
    ///
    /// Orders that an earlier life of the agent had are settled first. What they are is told by
    /// the report log: as long as it lives, the agent will tell their fate itself. Then releases,
    /// again in each session until the agent has said that the order ended; then setpoints.
    pub(crate) async fn replay(
        &self,
        session: &Arc<Session>,
        assets: &[AssetId],
        register: Option<&Register>,
    ) -> Result<(), StoreError> {
        if !session.capabilities.limits && assets.iter().any(|a| self.limits.is_stopped(*a)) {
            self.limits.end_orders();
        }
        // What must end needs no store.
        if !self.release(session, assets).await {
            return Ok(());
        }
        self.raise_unstored(assets).await?;
        if let Some(register) = register {
            let states = register.assets.iter().flatten();
            self.confirm(session, states).await?;
        }
        let now = self.clock.now();
        let (mut lost, mut waiting, mut unwritten) = (Vec::new(), Vec::new(), Vec::new());
        let open = self.store.open_orders(Some(assets)).await?;
        if let Some(register) = register {
            let states: Vec<_> = register.assets.iter().flatten().cloned().collect();
            self.plan_resync(session, &states, &open).await;
        }
        for order in open {
            let sent = order.dispatch.status == DispatchStatus::Sent;
            let cancelled = order.dispatch.cancel_requested_at.is_some();
            if cancelled {
                self.note(&order);
            }
            match order.carrier {
                None => waiting.push((order, Arc::clone(session))),
                // Only the agent that had it can tell; it may come back.
                Some(carrier) if carrier.agent != session.agent_id => {}
                // This session is over, and the one that has it knows better.
                Some(carrier) if carrier.epoch > session.epoch => {}
                Some(carrier) if carrier.report_log != session.report_log => {
                    lost.push(give_up(&order.dispatch, now));
                }
                // Its release goes out instead.
                Some(_) if cancelled => {}
                Some(carrier) if sent && carrier.epoch < session.epoch => {
                    waiting.push((order, Arc::clone(session)));
                }
                Some(_) if sent => unwritten.push(order.dispatch),
                Some(_) => {}
            }
        }
        if !lost.is_empty() {
            self.advance(&lost).await?;
        }
        // Before anything newer, which would make them stale.
        self.renew_releases(session, assets).await?;
        if !self.release(session, assets).await {
            return Ok(());
        }
        self.write_unsure(&unwritten, session).await;
        self.deliver(&schedule::in_order(waiting)).await
    }

    /// The agent has said what is in force at assets that it was granted: the doubt of that is gone.
    pub(crate) async fn confirm(
        &self,
        session: &Session,
        states: impl Iterator<Item = &AssetState> + Send,
    ) -> Result<(), StoreError> {
        let in_force = in_force(states);
        if in_force.is_empty() {
            return Ok(());
        }
        let (agent, epoch) = (session.agent_id, session.epoch);
        for order in self.store.confirm(agent, epoch, &in_force).await? {
            self.note(&order);
            self.tell(order.dispatch);
        }
        Ok(())
    }

    /// Writes what is stored as sent in this session, but was not written since the store had said
    /// that it failed.
    async fn write_unsure(&self, sent: &[Dispatch], session: &Session) {
        for dispatch in sent {
            if !self.unsure.lock().contains_key(&dispatch.id) {
                continue;
            }
            let Ok(place) = session.outbound.try_reserve() else {
                session.mailbox.starve();
                return;
            };
            // Of two replays at the same time, one writes it.
            if self.unsure.lock().remove(&dispatch.id).is_some() {
                self.write(dispatch, session, place).await;
            }
        }
    }
}

/// The orders that an agent says are in force.
fn in_force<'a>(states: impl Iterator<Item = &'a AssetState>) -> Vec<(AssetId, DispatchId)> {
    let in_force = states.filter(|state| state.control.source == ControlSource::Setpoint);
    in_force
        .filter_map(|state| Some((state.asset_id, state.control.dispatch_id?)))
        .collect()
}

/// Settles an order whose agent lost its report log: what it had accepted was interrupted, and
/// whether it had accepted what was only sent can't be known.
fn give_up(dispatch: &Dispatch, now: Timestamp) -> Advance {
    let (status, reason, text) = if dispatch.status == DispatchStatus::Sent {
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
    Advance {
        id: dispatch.id,
        status,
        at: now,
        reason: Some(reason),
        text: Some(text.to_owned()),
        carrier: None,
    }
}

pub(super) fn lease(dispatch: &Dispatch) -> Option<Duration> {
    dispatch
        .duration_s
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}
