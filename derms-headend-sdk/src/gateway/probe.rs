//! What a Register would be answered, without one.

use std::time::Duration;

use derms_proto::link::{GrantStatus, PROTOCOL_MINOR, Probe, ProbeAnswer};
use derms_proto::pb;
use tonic::Status;

use super::claim::forbidden;
use crate::auth::Principal;
use crate::core::Core;
use crate::link_auth::Credentials;
use crate::refusals::Refusal;

/// Who asks waits for less than a call of the store may take.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) peer: Option<String>,
    pub(super) principal: Option<Principal>,
    pub(super) credentials: Option<Credentials>,
}

/// Answers; no epoch, no session, nothing stored.
pub(super) async fn answer(
    core: &Core,
    request: pb::ProbeRequest,
    asker: Asker,
) -> Result<ProbeAnswer, Status> {
    let probe =
        Probe::try_from(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let agent = probe.agent_id;
    if let Some(text) = forbidden(core, agent, asker.credentials.as_ref()) {
        core.refusals.record(&Refusal::Identity {
            peer: asker.peer.as_deref(),
            agent: Some(agent),
            text: &text,
        });
        return Err(Status::permission_denied(text));
    }
    // A claim needs the store, so a probe asks it too; a read alone.
    let asked = core.store.revisions(&probe.asset_ids);
    let error = match tokio::time::timeout(STORE_PATIENCE, asked).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {STORE_PATIENCE:?}")),
    };
    if let Some(error) = error {
        tracing::warn!(%agent, error, "can't answer a probe");
        return Err(Status::unavailable("the headend's store can't be reached"));
    }
    let (grants, connected) = core.registry.probe(agent, &probe.asset_ids);
    if !connected && core.registry.len() >= core.config.max_sessions {
        return Err(Status::resource_exhausted(
            "the headend has too many sessions",
        ));
    }
    for grant in &grants {
        if grant.status == GrantStatus::Forbidden {
            core.refusals.record(&Refusal::Claim {
                peer: asker.peer.as_deref(),
                agent,
                asset: grant.asset_id,
            });
        }
    }
    Ok(ProbeAnswer {
        server_time: core.clock.now(),
        protocol_minor: PROTOCOL_MINOR,
        capabilities: Vec::new(),
        principal: asker.principal.map(|principal| principal.name().to_owned()),
        grants,
        durable_acks: core.store.is_durable(),
        connected,
    })
}
