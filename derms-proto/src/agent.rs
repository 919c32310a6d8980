//! Agents and their sessions, as an operator sees them.

use serde::{Deserialize, Serialize};

use crate::{AgentId, AssetId, InstanceId, Power, SiteId, Timestamp};

/// Whether an agent serves one asset or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AgentMode {
    /// One asset.
    Single,
    /// Several assets on one stream.
    Gateway,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

/// An asset by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AssetName {
    /// The asset.
    pub id: AssetId,
    /// Its name.
    pub name: String,
}

/// An agent that is connected now, an item of `GET /agents`; with `?all=true` also an asset that
/// no agent serves (`connected: false`, and every field of a session `null`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentStatus {
    /// The agent.
    pub agent_id: Option<AgentId>,
    /// This start of its process.
    pub instance_id: Option<InstanceId>,
    /// Whether it serves one asset or many.
    pub mode: Option<AgentMode>,
    /// Whether its session is live.
    pub connected: bool,
    /// The site of its assets; `null` when they belong to several.
    pub site_id: Option<SiteId>,
    /// Name of that site.
    pub site_name: Option<String>,
    /// The assets granted to it.
    pub assets: Vec<AssetName>,
    /// Its network address.
    pub peer: Option<String>,
    /// Who it proved to be; `null` without authentication.
    pub principal: Option<String>,
    /// When its session began.
    pub connected_at: Option<Timestamp>,
    /// When it was last heard.
    pub last_seen: Option<Timestamp>,
    /// The session's epoch, strictly increasing per agent.
    pub epoch: Option<u64>,
    /// Name and version of its software.
    pub agent_version: Option<String>,
    /// Whether its orders and reports survive its restart.
    pub durable: Option<bool>,
}

/// One life of an agent's stream, an item of `GET /agents/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionRecord {
    /// The agent.
    pub agent_id: AgentId,
    /// This start of its process.
    pub instance_id: InstanceId,
    /// The session's epoch, strictly increasing per agent.
    pub epoch: u64,
    /// Its network address.
    pub peer: Option<String>,
    /// Name and version of its software.
    pub agent_version: Option<String>,
    /// The assets granted to it when it began.
    pub assets: Vec<AssetId>,
    /// When it began.
    pub connected_at: Timestamp,
    /// When it ended; `null` while it lives.
    pub disconnected_at: Option<Timestamp>,
    /// Why it ended.
    pub cause: Option<CloseReason>,
    /// Why it ended, for people.
    pub text: Option<String>,
}

/// Why a session ended, each with one action for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloseReason {
    /// The agent stopped.
    Normal,
    /// The headend is going away: reconnect after `retry_after`.
    Draining,
    /// Reconnect after `retry_after`, perhaps to another headend.
    Rebalance,
    /// A newer session of this agent is active.
    TakenOver,
    /// Two live processes use one identity: wait, and raise an alarm.
    DuplicateInstance,
    /// No valid Register came in time.
    RegisterTimeout,
    /// Nothing was read for too long.
    LivenessTimeout,
    /// A fault of the headend.
    Internal,
    /// Too many sessions.
    Overloaded,
    /// The agent did not read what was sent to it.
    SlowConsumer,
    /// The headend's store can't be reached.
    StoreUnavailable,
    /// A message broke a rule of the protocol.
    ProtocolError,
    /// A message was over the size limit.
    MessageTooLarge,
    /// The two sides can't talk to each other.
    Incompatible,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// The agent may not do this.
    Forbidden,
    /// Its credentials were withdrawn.
    Revoked,
    /// The stream ended without a word.
    TransportLost,
    /// Sent by a newer peer than this type knows.
    #[serde(other)]
    Unknown,
}

/// Whether an asset reads and takes orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Availability {
    /// Reads and takes setpoints.
    #[default]
    Available,
    /// Reads, refuses setpoints (local or maintenance mode).
    ReadOnly,
    /// Does not answer.
    Unavailable,
    /// Sent by a newer headend than this type knows: not to be relied upon.
    #[serde(other)]
    Unknown,
}

/// What has put an asset where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ControlSource {
    /// No setpoint is in force.
    #[default]
    Default,
    /// The setpoint of a dispatch is in force.
    Setpoint,
    /// A lease has ended and what followed it is in force.
    FollowUp,
    /// The link was lost for too long.
    Failsafe,
    /// An operator stopped it.
    Stop,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

/// The newest heartbeat of the agent that serves an asset: `GET /heartbeat/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// The asset.
    pub asset_id: AssetId,
    /// The agent that serves it.
    pub agent_id: AgentId,
    /// The session's epoch.
    pub epoch: u64,
    /// When the headend received it.
    pub received_at: Timestamp,
    /// The agent's own wall clock, a label only.
    pub agent_time: Option<Timestamp>,
    /// Seconds since the agent's start.
    pub uptime_s: Option<f64>,
    /// Samples in the agent's outbox that are not acknowledged.
    pub outbox_depth: u64,
    /// Samples dropped since the agent's start.
    pub dropped_samples: u64,
    /// Whether the asset reads and takes orders.
    pub availability: Availability,
    /// What has put the asset where it is.
    pub control: ControlSource,
    /// The power that control asks for, MW, + = export.
    pub control_mw: Option<Power>,
    /// Reads that failed since the agent's start.
    pub read_errors: u64,
}
