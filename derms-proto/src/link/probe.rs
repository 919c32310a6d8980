//! A question that starts no session.

use crate::{AgentId, AssetId, Timestamp};

use super::{Grant, Software};

/// What would be answered to a Register of this agent; nothing changes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The configured identity of the agent.
    pub agent_id: AgentId,
    /// The assets that it would claim. What is no id is left out.
    pub asset_ids: Vec<AssetId>,
    /// Minor version of the protocol, for logs only.
    pub protocol_minor: u32,
    /// The program that asks.
    pub software: Software,
}

/// The headend's answer to a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The headend's clock.
    pub server_time: Timestamp,
    /// Minor version of the protocol, for logs only.
    pub protocol_minor: u32,
    /// Must-understand features that this headend has.
    pub capabilities: Vec<String>,
    /// As whom the headend knows the caller; `None` if nobody had to prove who he is.
    pub principal: Option<String>,
    /// The answer to each asset; `last_revision` is 0.
    pub grants: Vec<Grant>,
    /// Whether acknowledged entries survive a restart of the headend.
    pub durable_acks: bool,
    /// Whether a session of this agent is live.
    pub connected: bool,
}
