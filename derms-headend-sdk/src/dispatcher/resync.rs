//! Agreement after a (re)connect: what the agent says is in force, and what is known of it here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetState, HeadendMessage, ReleaseOrder};
use derms_proto::{
    AgentId, AssetId, ControlSource, DispatchId, DispatchStatus, Severity, Timestamp, pb,
};

use super::{Dispatcher, Timer};
use crate::events::About;
use crate::registry::Session;
use crate::store::{MAX_COUNTER, Order, StoreError};

/// A session that seems not to agree is asked for its state again after this: by then the reports
/// have come that the agent had not sent when it registered.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// Reports may be behind the state that they led to for as long as they take to be stored.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Where agent and headend differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The agent keeps to an order that has ended, or that nobody knows here.
    Stranger {
        asset: AssetId,
        dispatch: DispatchId,
        /// The highest revision that the agent has accepted.
        revision: u64,
    },
    /// An order is active here, and the agent keeps to something else.
    Missing {
        asset: AssetId,
        dispatch: DispatchId,
    },
}

impl Dispatcher {
    /// Plans a second look at a session that seems not to agree.
    pub(super) async fn plan_resync(
        &self,
        session: &Session,
        states: &[AssetState],
        open: &[Order],
    ) {
        if mismatches(session, states, &[], open, None).is_empty() {
            return;
        }
        let timer = Timer::Agree(session.agent_id, session.epoch);
        self.timers.set(timer, ASK_AFTER).await;
    }

    /// Asks a session for its state, if it is still the one of its agent.
    pub(super) fn ask_again(&self, agent: AgentId, epoch: u64) {
        let Some(session) = self.registry.session(agent, epoch) else {
            return;
        };
        let message = pb::HeadendMessage::from(HeadendMessage::Resync { epoch });
        // No room: an agent that reads nothing is about to be given up.
        let _ = session.outbound.try_send(Box::new(message));
    }

    /// Compares what an agent says with what is known, twice, and clears what nobody here knows. Of
    /// what it has `left` nothing is in force any more, and its reports have said so.
    pub(crate) async fn compare(
        &self,
        session: &Arc<Session>,
        states: &[AssetState],
        left: &[AssetId],
        read_at: Timestamp,
    ) -> Result<(), StoreError> {
        let first = self.look(session, states, left, read_at).await?;
        if first.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SETTLE).await;
        let second = self.look(session, states, left, read_at).await?;
        for mismatch in second.into_iter().filter(|found| first.contains(found)) {
            self.settle_mismatch(session, mismatch).await?;
        }
        Ok(())
    }

    async fn look(
        &self,
        session: &Session,
        states: &[AssetState],
        left: &[AssetId],
        read_at: Timestamp,
    ) -> Result<Vec<Mismatch>, StoreError> {
        let said = states.iter().map(|state| state.asset_id);
        let assets: Vec<AssetId> = said.chain(left.iter().copied()).collect();
        let open = self.store.open_orders(Some(&assets)).await?;
        Ok(mismatches(session, states, left, &open, Some(read_at)))
    }

    async fn settle_mismatch(
        &self,
        session: &Arc<Session>,
        mismatch: Mismatch,
    ) -> Result<(), StoreError> {
        let agent = session.agent_id;
        let (asset, dispatch, revision) = match mismatch {
            Mismatch::Missing { asset, dispatch } => {
                // Its agent will tell how it ended, when the device has obeyed: nothing is guessed.
                let text = format!(
                    "dispatch {dispatch} is active here and not in force at its agent; its report is \
                     awaited"
                );
                let about = About::asset(asset).by(agent);
                self.events.raise(Severity::Alarm, "mismatch", text, about);
                return Ok(());
            }
            Mismatch::Stranger {
                asset,
                dispatch,
                revision,
            } => (asset, dispatch, revision),
        };
        let known = self.store.dispatch(dispatch).await?.is_some();
        if !known && !self.store.is_durable() {
            // A headend that forgets by design has nothing better to say; the lease ends it.
            tracing::warn!(code = "mismatch", agent_id = %agent, asset_id = %asset, dispatch_id = %dispatch,
                "the agent keeps to an order of an earlier life of this headend");
            return Ok(());
        }
        let how = if known { "has ended" } else { "is not known" };
        let text =
            format!("the agent keeps to dispatch {dispatch}, which {how} here; it is released");
        let about = About::asset(asset).by(agent);
        self.events.raise(Severity::Alarm, "mismatch", text, about);
        let given = self.store.revisions(&[asset]).await?;
        let revision = given.into_iter().fold(revision, u64::max) + 1;
        // Nobody gets this revision again, whatever becomes of the message.
        self.store.raise_revision(asset, revision).await?;
        let release = ReleaseOrder {
            asset_id: asset,
            dispatch_id: dispatch,
            revision,
            epoch: session.epoch,
        };
        if self.registry.is_current(session) {
            let message = pb::HeadendMessage::from(HeadendMessage::Release(release));
            // No room: the next session does not agree either.
            let _ = session.outbound.try_send(Box::new(message));
        }
        Ok(())
    }
}

/// Where a session and the open orders of its assets differ. `before`: what became active shortly
/// before, or after, can't be judged.
fn mismatches(
    session: &Session,
    states: &[AssetState],
    left: &[AssetId],
    open: &[Order],
    before: Option<Timestamp>,
) -> Vec<Mismatch> {
    let mut of_asset: HashMap<AssetId, Vec<&Order>> = HashMap::new();
    for order in open {
        if let Some(asset) = order.dispatch.asset_id {
            of_asset.entry(asset).or_default().push(order);
        }
    }
    let missing = |asset: AssetId, in_force: Option<DispatchId>| {
        let known = of_asset.get(&asset).into_iter().flatten();
        let missing = known.filter(move |order| {
            let own = order.carrier.is_some_and(|carrier| {
                carrier.agent == session.agent_id && carrier.report_log == session.report_log
            });
            own && order.dispatch.status == DispatchStatus::Active
                && in_force != Some(order.dispatch.id)
                && before.is_none_or(|read_at| is_settled(order, read_at))
        });
        missing.map(move |order| Mismatch::Missing {
            asset,
            dispatch: order.dispatch.id,
        })
    };
    let mut found = Vec::new();
    for asset in left.iter().filter(|asset| !session.serves(**asset)) {
        found.extend(missing(*asset, None));
    }
    for state in states {
        let asset = state.asset_id;
        if !session.serves(asset) || state.last_revision >= MAX_COUNTER {
            continue;
        }
        let known = of_asset.get(&asset).map_or(&[][..], Vec::as_slice);
        let in_force = (state.control.source == ControlSource::Setpoint)
            .then_some(state.control.dispatch_id)
            .flatten();
        if let Some(dispatch) = in_force
            && !known.iter().any(|order| order.dispatch.id == dispatch)
        {
            found.push(Mismatch::Stranger {
                asset,
                dispatch,
                revision: state.last_revision,
            });
        }
        found.extend(missing(asset, in_force));
    }
    found
}

fn is_settled(order: &Order, read_at: Timestamp) -> bool {
    let steps = &order.dispatch.transitions;
    steps
        .last()
        .is_some_and(|step| step.at.saturating_add(SETTLE) < read_at)
}
