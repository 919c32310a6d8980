//! Changes of a session that need the store: more assets, and its end.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{AssetState, AssetUpdate, GrantStatus, HeadendMessage};
use derms_proto::{AgentId, AssetId, pb};

use super::claim::{fill, invalid, revisions, tell_refused};
use crate::core::Core;
use crate::registry::{Changed, Session};
use crate::store::{MAX_COUNTER, SessionEnd, StoreError};

/// Answers an AssetUpdate, and sends what waits for assets that are new.
pub(super) async fn update(core: Arc<Core>, session: Arc<Session>, update: AssetUpdate) {
    if let Err(error) = try_update(&core, &session, &update).await {
        // The agent claims again with its next heartbeat.
        tracing::warn!(agent_id = %session.agent_id, %error, "can't answer an asset update");
    }
}

async fn try_update(
    core: &Core,
    session: &Arc<Session>,
    update: &AssetUpdate,
) -> Result<(), StoreError> {
    let read_at = core.clock.now();
    let honest = |state: &&AssetState| state.last_revision.max(state.limit_revision) <= MAX_COUNTER;
    let states = update.upserted.iter().flatten().filter(honest);
    let claims: Vec<AssetId> = states.clone().map(|state| state.asset_id).collect();
    let revisions = revisions(core, states.clone(), session.agent_id).await?;
    let mut answered = Vec::new();
    let changed = core
        .registry
        .update(session, &claims, &update.removed, |mut grants| {
            fill(&mut grants, &revisions);
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
            core.limits.greet(session, states, &answered);
        });
    let Some(Changed { granted, left }) = changed else {
        return Ok(());
    };
    if !(granted.is_empty() && left.is_empty()) {
        core.live.session(|| session.record(), &left);
    }
    // What is held elsewhere is claimed with each heartbeat: that is told once.
    answered.retain(|grant| grant.status == GrantStatus::Forbidden);
    tell_refused(core, session, &answered);
    if !granted.is_empty() {
        core.dispatcher.replay(session, &granted, None).await?;
    }
    let states: Vec<AssetState> = update.upserted.iter().flatten().cloned().collect();
    core.dispatcher
        .compare(session, &states, &left, read_at)
        .await
}

/// Records the end of a session, for as long as it takes: what it carried is in doubt.
pub(super) async fn record_end(core: &Core, agent: AgentId, epoch: u64, end: &SessionEnd) {
    let mut delay = Duration::from_millis(100);
    loop {
        let closed = core.store.close_session(agent, epoch, end).await;
        let result = match closed {
            Ok(()) => core.dispatcher.session_ended(agent, epoch).await,
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            return;
        };
        tracing::warn!(agent_id = %agent, epoch, %error, retry_in_s = delay.as_secs_f64(), "can't record the end of a session");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // Taken up again at the next start: open orders of an earlier life are in doubt.
            () = core.stop.cancelled() => return,
        }
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}
