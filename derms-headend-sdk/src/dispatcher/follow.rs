//! What becomes of an order: told by its agent, by its session's end, or by time.

use derms_proto::link::Report;
use derms_proto::{
    AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, ReasonCode, Severity, Timestamp,
};

use super::delivery::lease;
use super::{Dispatcher, Timer};
use crate::events::About;
use crate::registry::Session;
use crate::store::{Advance, ReportFate, StoreError};

impl Dispatcher {
    /// A session has ended: what it carried is in doubt until its agent speaks again.
    pub(crate) async fn session_ended(&self, agent: AgentId, epoch: u64) -> Result<(), StoreError> {
        let over = |of: &(AgentId, u64)| of.0 == agent && of.1 <= epoch;
        self.unsure.lock().retain(|_, of| !over(of));
        for order in self.store.mark_in_doubt(agent, epoch).await? {
            self.note(&order);
            self.tell(order.dispatch);
        }
        Ok(())
    }

    /// Assets were dropped from a session that goes on, and what was reported of them had its time:
    /// nobody knows any more whether what was not ended there is in force.
    pub(crate) async fn assets_dropped(
        &self,
        session: &Session,
        assets: &[AssetId],
    ) -> Result<(), StoreError> {
        let served_again = |asset: &&AssetId| session.serves(**asset);
        let gone: Vec<AssetId> = assets
            .iter()
            .filter(|a| !served_again(a))
            .copied()
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let (agent, epoch) = (session.agent_id, session.epoch);
        for order in self.store.mark_dropped(agent, epoch, &gone).await? {
            self.note(&order);
            self.tell(order.dispatch);
        }
        Ok(())
    }

    /// Reports were stored.
    pub(crate) fn reported(&self, agent: AgentId, fates: Vec<ReportFate>) {
        for fate in fates {
            match fate {
                ReportFate::Applied(order) => {
                    self.note(&order);
                    let dispatch = order.dispatch;
                    self.log_step(&dispatch, Some(agent));
                    self.tell(dispatch);
                }
                ReportFate::Repeated(order) => {
                    self.note(&order);
                    self.tell(order.dispatch);
                }
                ReportFate::Contradiction { order, reported } => {
                    let dispatch = &order.dispatch;
                    let text = format!(
                        "dispatch {} is {} here and the agent reports {reported}; the report was \
                         stored without effect",
                        dispatch.id, dispatch.status
                    );
                    let about = dispatch.asset_id.map_or_else(About::default, About::asset);
                    self.events
                        .raise(Severity::Alarm, "contradiction", text, about.by(agent));
                }
                ReportFate::ReleaseRefused { order, revision } => {
                    let dispatch = &order.dispatch;
                    tracing::warn!(
                        dispatch_id = %dispatch.id, agent_id = %agent, revision,
                        "a release came too late at the agent; it is given anew when nothing newer is in force"
                    );
                    self.known.lock().refused(dispatch.id, revision);
                    self.look_at_releases(dispatch.asset_id);
                }
                ReportFate::UnknownDispatch(id) => tracing::warn!(
                    dispatch_id = %id, agent_id = %agent, "a report of a dispatch that is none of this agent's here"
                ),
                ReportFate::Event(event) => self.events.record(&event),
                ReportFate::Other(entry) => {
                    if let Report::Limit(report) = &entry.report {
                        self.limits.reported(agent, entry.asset_id, report);
                    }
                }
            }
        }
    }

    /// Sets the timer of an order that waits. What was sent has none: [`sweep`](Self::sweep)
    /// looks after it.
    pub(super) async fn watch(&self, dispatch: &Dispatch) {
        if dispatch.status == DispatchStatus::Pending {
            let ttl = dispatch.expires_at.saturating_since(self.clock.now());
            self.timers.set(Timer::Expire(dispatch.id), ttl).await;
            let now = self.clock.now();
            if let Some(at) = dispatch.start_at.filter(|at| now < *at) {
                let wait = at.saturating_since(now);
                self.timers.set(Timer::Begin(dispatch.id), wait).await;
            }
        }
    }

    pub(super) async fn due(&self, timer: Timer) -> Result<(), StoreError> {
        match timer {
            Timer::Expire(id) => self.advance(&[expiry(id, self.clock.now())]).await,
            Timer::Begin(id) => self.begin(id).await,
            Timer::Withdraw(id) => {
                let step = Advance {
                    id,
                    status: DispatchStatus::Cancelled,
                    at: self.clock.now(),
                    reason: None,
                    text: Some(
                        "the store failed while it was committed, as its caller was told".into(),
                    ),
                    carrier: None,
                };
                self.advance(&[step]).await
            }
            Timer::Rebalance(id) => self.rebalance(id).await,
            Timer::Store(id) => self.store_late(id).await,
            Timer::Agree(agent, epoch) => {
                self.ask_again(agent, epoch);
                Ok(())
            }
            Timer::Unanswered(id, epoch) => {
                let Some(dispatch) = self.store.dispatch(id).await? else {
                    return Ok(());
                };
                let session = dispatch
                    .asset_id
                    .and_then(|asset| self.registry.serving(asset));
                let released =
                    dispatch.cancel_requested_at.is_some() && !dispatch.status.is_terminal();
                if let Some(session) = session
                    && session.epoch == epoch
                    && (dispatch.status == DispatchStatus::Sent || released)
                {
                    tracing::warn!(dispatch_id = %id, agent_id = %session.agent_id, released, "no answer to a sent dispatch; asking whether the agent lives");
                    session.mailbox.probe();
                }
                Ok(())
            }
        }
    }

    /// Looks at all open orders: gives up those that were sent and have been quiet for too long,
    /// and ends those that wait longer than they may, should their timers have failed.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut steps = Vec::new();
        for order in self.store.open_orders(None).await? {
            let dispatch = &order.dispatch;
            if dispatch.status == DispatchStatus::Pending {
                if now >= dispatch.expires_at {
                    steps.push(expiry(dispatch.id, now));
                }
            } else if self.quiet_for_too_long(dispatch, now) {
                let text = format!(
                    "no report of dispatch {} within the time limit; its fate can't be known",
                    dispatch.id
                );
                let about = dispatch.asset_id.map_or_else(About::default, About::asset);
                self.events.raise(Severity::Alarm, "no_report", text, about);
                steps.push(Advance {
                    id: dispatch.id,
                    status: DispatchStatus::Indeterminate,
                    at: now,
                    reason: Some(ReasonCode::NoReport),
                    text: Some("no report within the time limit".to_owned()),
                    carrier: None,
                });
            }
        }
        if steps.is_empty() {
            return Ok(());
        }
        self.advance(&steps).await
    }

    fn quiet_for_too_long(&self, dispatch: &Dispatch, now: Timestamp) -> bool {
        let limit = match dispatch.status {
            // A running lease owes no report before its end, and one without an end never.
            DispatchStatus::Active => match lease(dispatch) {
                Some(lease) => self.config.report_timeout.saturating_add(lease),
                // But one that is to end owes word of that.
                None if dispatch.cancel_requested_at.is_some() => self.config.report_timeout,
                None => return false,
            },
            _ => self.config.report_timeout,
        };
        let steps = &dispatch.transitions;
        // Being sent again is no word of the agent, but it may be about to give one.
        let asked = steps
            .last()
            .is_some_and(|step| now.saturating_since(step.at) < self.config.start_window);
        let told = steps.iter().rev().find(|step| step.reported_at.is_some());
        let sent = || {
            steps
                .iter()
                .find(|step| step.status == DispatchStatus::Sent)
        };
        let since = told
            .or_else(sent)
            .map_or(dispatch.created_at, |step| step.at)
            .max(dispatch.cancel_requested_at.unwrap_or(dispatch.created_at))
            .max(dispatch.begins());
        !asked && now.saturating_since(since) >= limit
    }
}

/// Allowed from `pending` alone: what was sent is the agent's to tell.
fn expiry(id: DispatchId, now: Timestamp) -> Advance {
    Advance {
        id,
        status: DispatchStatus::Expired,
        at: now,
        reason: Some(ReasonCode::TtlElapsed),
        text: Some("no agent took it within its time to live".to_owned()),
        carrier: None,
    }
}
