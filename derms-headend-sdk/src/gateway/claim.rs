//! From Register to a live session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{
    Close, Grant, GrantStatus, HeadendMessage, InvalidClaim, LogHead, LogKind, PROTOCOL_MINOR,
    Register, Registered,
};
use derms_proto::{AgentId, AssetId, CloseReason, LogId, SessionRecord, pb};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::auth::Principal;
use crate::core::Core;
use crate::link_auth::{Credentials, end_if_untrusted};
use crate::mailbox::Mailbox;
use crate::refusals::Refusal;
use crate::registry::{Capabilities, NewSession, Outbound, Session};
use crate::store::{MAX_COUNTER, SessionEnd, StoreError};

/// Two processes with one identity are told to come back after this.
const DUPLICATE_RETRY: Duration = Duration::from_secs(300);
const STORE_RETRY: Duration = Duration::from_secs(5);
const OVERLOAD_RETRY: Duration = Duration::from_secs(30);
/// Registrations that are at the store at one time. Each is several transactions: if all of a fleet
/// that comes back waited for each of them, none would be through before its agent gives up.
pub(crate) const AT_THE_STORE: usize = 32;
/// The longest wait for that: an agent waits 15 s for Registered.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// Who claims, and on what.
#[derive(Debug)]
pub(super) struct Claimant {
    pub(super) peer: Option<String>,
    pub(super) principal: Option<Principal>,
    pub(super) credentials: Option<Credentials>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) outbound: mpsc::Sender<Outbound>,
}

/// A claim that went through.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) session: Arc<Session>,
    pub(super) register: Box<Register>,
    pub(super) cursors: Vec<(LogId, u64)>,
}

/// Gives a claim its epoch and its assets; afterwards Registered is queued and the session is
/// seen by everyone.
pub(super) async fn claim(
    core: Arc<Core>,
    register: Box<Register>,
    claimant: Claimant,
) -> Result<Claimed, Close> {
    let agent = register.agent_id;
    if let Some(text) = forbidden(&core, agent, claimant.credentials.as_ref()) {
        core.refusals.record(&Refusal::Identity {
            peer: claimant.peer.as_deref(),
            agent: Some(agent),
            text: &text,
        });
        return Err(Close::new(CloseReason::Forbidden, text));
    }
    let counters = register
        .assets
        .iter()
        .flatten()
        .flat_map(|state| [state.last_revision, state.limit_revision]);
    if counters
        .chain([register.last_epoch])
        .any(|counter| counter > MAX_COUNTER)
    {
        return Err(Close::new(
            CloseReason::ProtocolError,
            "last_epoch, last_revision or limit_revision is out of range",
        ));
    }
    if core.registry.len() >= core.config.max_sessions {
        return Err(retry(
            CloseReason::Overloaded,
            "too many sessions",
            OVERLOAD_RETRY,
        ));
    }
    if let Some(incumbent) = core.registry.suspect(agent, register.instance_id)
        && answers(&incumbent, core.config.ping_timeout).await
    {
        tracing::error!(agent_id = %agent, incumbent = %incumbent.instance_id, newcomer = %register.instance_id,
            "two live processes use one agent identity; give one of them its own");
        return Err(retry(
            CloseReason::DuplicateInstance,
            "another live process uses this identity",
            DUPLICATE_RETRY,
        ));
    }

    let claims: Vec<AssetId> = register
        .assets
        .iter()
        .flatten()
        .map(|state| state.asset_id)
        .collect();
    let turn = timeout(TURN_PATIENCE, core.registering.acquire()).await;
    // For who has gone meanwhile nothing is stored.
    let (Ok(Ok(turn)), false) = (turn, claimant.outbound.is_closed()) else {
        return Err(retry(
            CloseReason::Overloaded,
            "too many agents register at one time",
            OVERLOAD_RETRY,
        ));
    };
    let epoch_and_more = store_side(&core, &register, &claimant, &claims)
        .await
        .map_err(|error| {
            tracing::warn!(agent_id = %agent, error = %error.in_full(), "can't register an agent");
            retry(
                CloseReason::StoreUnavailable,
                "the store can't be reached",
                STORE_RETRY,
            )
        })?;
    drop(turn);
    let (record, cursors, revisions) = epoch_and_more;
    let epoch = record.epoch;

    let log_of = |kind| {
        register
            .logs
            .iter()
            .find(|head| head.kind == kind)
            .map(|head| head.log_id)
    };
    let session = Arc::new(Session::new(NewSession {
        agent_id: agent,
        instance_id: register.instance_id,
        epoch,
        peer: claimant.peer,
        principal: claimant.principal,
        credentials: claimant.credentials,
        software: register.software.clone(),
        capabilities: Capabilities::of(&register.capabilities),
        durable: register.durable,
        report_log: log_of(LogKind::Report),
        connected_at: record.connected_at,
        mailbox: claimant.mailbox,
        outbound: claimant.outbound.clone(),
    }));
    let mut answered = Vec::new();
    let inserted = core.registry.insert(&session, &claims, |mut grants| {
        fill(&mut grants, &revisions);
        grants.extend(
            register
                .assets
                .iter()
                .filter_map(|claim| invalid(claim.as_ref().err()?)),
        );
        answered.clone_from(&grants);
        let registered = HeadendMessage::Registered(Registered {
            epoch,
            server_time: core.clock.now(),
            telemetry_interval: core.config.telemetry_interval,
            heartbeat_interval: core.config.heartbeat_interval,
            liveness_timeout: core.config.liveness_timeout,
            limits: core.config.limits,
            logs: cursor_messages(&register.logs, &cursors),
            grants,
            durable_acks: core.store.is_durable(),
            capabilities: Vec::new(),
            protocol_minor: PROTOCOL_MINOR,
        });
        // The queue is empty: this is the first message.
        let _ = claimant
            .outbound
            .try_send(Box::new(pb::HeadendMessage::from(registered)));
        core.limits
            .greet(&session, register.assets.iter().flatten(), &answered);
    });
    if let Err(close) = inserted {
        let end = SessionEnd {
            at: core.clock.now(),
            cause: close.reason,
            text: close.text.clone(),
        };
        // A record that stays open is closed at the next start of the headend.
        let _ = core.store.close_session(agent, epoch, &end).await;
        return Err(close);
    }
    tell_refused(&core, &session, &answered);
    core.live.session(|| session.record(), &[]);
    // Whoever looks after what counts no longer sees the session from now on, but may have been here
    // while the claim was on its way.
    end_if_untrusted(&core.auth, &session, &core.refusals, core.clock.now());
    Ok(Claimed {
        session,
        register,
        cursors,
    })
}

/// Why this agent may not be here at all.
pub(super) fn forbidden(
    core: &Core,
    agent: AgentId,
    credentials: Option<&Credentials>,
) -> Option<String> {
    match credentials {
        Some(credentials) if credentials.agent != agent => Some(format!(
            "the agent has proved to be {} and registers as {agent}; its id must be that of its \
             certificate or token",
            credentials.agent
        )),
        _ if !core.registry.knows(agent) => Some(format!(
            "agent {agent} may serve no asset of this fleet; an agent's id is that of its \
             asset, of its site, or the agent_id of an asset in the fleet file"
        )),
        _ => None,
    }
}

/// Logs what was not granted, and counts what was tried without a right. Not to be called under the
/// lock of the registry, on which all sessions wait.
pub(super) fn tell_refused(core: &Core, session: &Session, grants: &[Grant]) {
    core.metrics.link.claimed(grants);
    for grant in grants {
        let agent = session.agent_id;
        match grant.status {
            GrantStatus::Granted => {}
            GrantStatus::Forbidden => core.refusals.record(&Refusal::Claim {
                peer: session.peer.as_deref(),
                agent,
                asset: grant.asset_id,
            }),
            status => {
                tracing::warn!(agent_id = %agent, asset_id = %grant.asset_id, %status, "claim refused");
            }
        }
    }
}

type StoreSide = (SessionRecord, Vec<(LogId, u64)>, HashMap<AssetId, u64>);

async fn store_side(
    core: &Core,
    register: &Register,
    claimant: &Claimant,
    claims: &[AssetId],
) -> Result<StoreSide, StoreError> {
    let agent = register.agent_id;
    let mut cursors = Vec::new();
    for head in &register.logs {
        if let Some(mut next) = core.store.log_cursor(agent, head.kind, head.log_id).await? {
            if head.kind == LogKind::Report && next < head.first_seq {
                // Acknowledged before, or the agent would still have them; reports know no gaps.
                tracing::error!(agent_id = %agent, from = next, to = head.first_seq,
                    "the store has lost reports that it had acknowledged (an older backup?)");
                next = head.first_seq;
            }
            cursors.push((head.log_id, next));
        }
    }
    let revisions = revisions(core, register.assets.iter().flatten(), agent).await?;
    let mut record = SessionRecord {
        agent_id: agent,
        instance_id: register.instance_id,
        epoch: 0,
        peer: claimant.peer.clone(),
        agent_version: Some(format!(
            "{} {}",
            register.software.name, register.software.version
        )),
        assets: claims.to_vec(),
        connected_at: core.clock.now(),
        disconnected_at: None,
        cause: None,
        text: None,
    };
    record.epoch = core
        .store
        .open_session(&record, register.last_epoch)
        .await?;
    Ok((record, cursors, revisions))
}

/// The last revision of each claimed asset, moved above what its agent has seen.
pub(super) async fn revisions(
    core: &Core,
    states: impl Iterator<Item = &derms_proto::link::AssetState>,
    agent: AgentId,
) -> Result<HashMap<AssetId, u64>, StoreError> {
    // Only what this agent may serve: a stranger must not move anyone's counter.
    let states: Vec<_> = states
        .filter(|state| {
            core.fleet
                .asset(state.asset_id)
                .is_some_and(|asset| core.policy.may_serve(agent, asset))
        })
        .collect();
    let assets: Vec<AssetId> = states.iter().map(|state| state.asset_id).collect();
    let known = core.store.revisions(&assets).await?;
    let mut revisions = HashMap::with_capacity(assets.len());
    for (state, known) in states.into_iter().zip(known) {
        if state.last_revision > known {
            tracing::warn!(agent_id = %agent, asset_id = %state.asset_id, known, seen = state.last_revision,
                "the agent has seen later orders than this headend remembers; counting on from there");
            core.store
                .raise_revision(state.asset_id, state.last_revision)
                .await?;
        }
        let highest = known.max(state.last_revision);
        core.dispatcher.knows_revision(state.asset_id, highest);
        revisions.insert(state.asset_id, highest);
    }
    Ok(revisions)
}

pub(super) fn fill(grants: &mut [Grant], revisions: &HashMap<AssetId, u64>) {
    for grant in grants {
        grant.last_revision = revisions.get(&grant.asset_id).copied().unwrap_or(0);
    }
}

/// A refusal can name only what is an id.
pub(super) fn invalid(claim: &InvalidClaim) -> Option<Grant> {
    Some(Grant {
        asset_id: claim.asset_id.parse().ok()?,
        status: GrantStatus::Invalid,
        last_revision: 0,
        text: Some(claim.refusal.to_string()),
    })
}

fn cursor_messages(
    heads: &[LogHead],
    cursors: &[(LogId, u64)],
) -> Vec<derms_proto::link::LogCursor> {
    let cursor = |head: &LogHead| {
        let (_, next_seq) = cursors.iter().find(|(log, _)| *log == head.log_id)?;
        Some(derms_proto::link::LogCursor {
            kind: head.kind,
            log_id: head.log_id,
            next_seq: *next_seq,
        })
    };
    heads.iter().filter_map(cursor).collect()
}

/// Whether a session answers a ping.
async fn answers(session: &Session, patience: Duration) -> bool {
    timeout(patience, session.mailbox.ask()).await.is_ok()
}

fn retry(reason: CloseReason, text: &str, after: Duration) -> Close {
    Close {
        reason,
        text: text.to_owned(),
        retry_after: Some(after),
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
