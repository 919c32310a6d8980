//! Changes of a session that need the store: more assets, and its end.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetState, AssetUpdate, GrantStatus, HeadendMessage};
use derms_proto::{AgentId, AssetId, pb};

use super::claim::{fill, invalid, revisions, tell_refused};
use crate::core::Core;
use crate::dispatcher::SETTLE;
use crate::registry::{Changed, Session};
use crate::store::{MAX_COUNTER, SessionEnd, StoreError};

/// Answers an AssetUpdate, and sends what waits for assets that are new.
pub(super) async fn update(core: Arc<Core>, session: Arc<Session>, update: AssetUpdate) {
    let mut left = Vec::new();
    if let Err(error) = try_update(&core, &session, &update, &mut left).await {
        // The agent claims again with its next heartbeat.
        tracing::warn!(agent_id = %session.agent_id, error = %error.in_full(), "can't answer an asset update");
    }
    if !left.is_empty() {
        record_dropped(&core, &session, &left).await;
    }
}

async fn try_update(
    core: &Core,
    session: &Arc<Session>,
    update: &AssetUpdate,
    left: &mut Vec<AssetId>,
) -> Result<(), StoreError> {
    let read_at = core.clock.now();
    let honest = |state: &&AssetState| state.last_revision.max(state.limit_revision) <= MAX_COUNTER;
    let states = update.upserted.iter().flatten().filter(honest);
    let mut claims: Vec<AssetId> = states.clone().map(|state| state.asset_id).collect();
    let revisions = revisions(core, states.clone(), session.agent_id).await;
    if revisions.is_err() {
        // Claims come again. What was removed is not told again, and needs no store.
        claims.clear();
    }
    let mut answered = Vec::new();
    let changed = core
        .registry
        .update(session, &claims, &update.removed, |mut grants| {
            let Ok(revisions) = &revisions else {
                return;
            };
            fill(&mut grants, revisions);
            grants.extend(
                update
                    .upserted
                    .iter()
                    .filter_map(|claim| invalid(claim.as_ref().err()?)),
            );
            answered.clone_from(&grants);
            let message = HeadendMessage::Grants {
                epoch: session.epoch,
                grants,
            };
            if session
                .outbound
                .try_send(Box::new(pb::HeadendMessage::from(message)))
                .is_err()
            {
                tracing::warn!(agent_id = %session.agent_id, "no room to answer an asset update");
            }
            core.limits.greet(session, states.clone(), &answered);
        });
    let Some(Changed {
        granted,
        left: gone,
    }) = changed
    else {
        return Ok(());
    };
    *left = gone;
    if !(granted.is_empty() && left.is_empty()) {
        core.live.session(|| session.record(), left);
    }
    revisions?;
    // What is held elsewhere is claimed with each heartbeat: that is told once.
    answered.retain(|grant| grant.status == GrantStatus::Forbidden);
    tell_refused(core, session, &answered);
    if !granted.is_empty() {
        let new = states.filter(|state| granted.contains(&state.asset_id));
        core.dispatcher.confirm(session, new).await?;
        core.dispatcher.replay(session, &granted, None).await?;
    }
    let states: Vec<AssetState> = update.upserted.iter().flatten().cloned().collect();
    core.dispatcher
        .compare(session, &states, left, read_at)
        .await
}

/// Records that assets were dropped from a session that goes on: what was not ended there is in doubt.
/// What the agent has reported before may be behind.
async fn record_dropped(core: &Core, session: &Session, left: &[AssetId]) {
    tokio::time::sleep(SETTLE).await;
    let mut retry = Retry::new("dropped assets", session.agent_id, session.epoch);
    while let Err(error) = core.dispatcher.assets_dropped(session, left).await {
        if !retry.may_try_again(core, &error).await {
            return;
        }
    }
}

/// Records the end of a session, for as long as it takes: what it carried is in doubt.
pub(super) async fn record_end(core: &Core, agent: AgentId, epoch: u64, end: &SessionEnd) {
    let mut retry = Retry::new("the end of a session", agent, epoch);
    loop {
        let closed = core.store.close_session(agent, epoch, end).await;
        let result = match closed {
            Ok(()) => core.dispatcher.session_ended(agent, epoch).await,
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            return;
        };
        if !retry.may_try_again(core, &error).await {
            return;
        }
    }
}

/// What of a session must be recorded, however long the store is away.
struct Retry {
    what: &'static str,
    agent: AgentId,
    epoch: u64,
    delay: Duration,
}

impl Retry {
    const fn new(what: &'static str, agent: AgentId, epoch: u64) -> Self {
        Self {
            what,
            agent,
            epoch,
            delay: Duration::from_millis(100),
        }
    }

    /// Waits a while. `false`: the headend ends.
    async fn may_try_again(&mut self, core: &Core, error: &StoreError) -> bool {
        let Self {
            what, agent, epoch, ..
        } = self;
        let delay = self.delay;
        tracing::warn!(agent_id = %agent, epoch, error = %error.in_full(), retry_in_s = delay.as_secs_f64(), "can't record {what}");
        self.delay = (delay * 2).min(Duration::from_secs(5));
        tokio::select! {
            () = tokio::time::sleep(delay) => true,
            // Taken up again at the next start: open orders of an earlier life are in doubt.
            () = core.stop.cancelled() => false,
        }
    }
}
