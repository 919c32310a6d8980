//! The messages of the agent link, in the words of this crate.
//!
//! Both SDKs speak in these types; [`wire`](crate::wire) turns them into protobuf and back. What
//! can't be read in a batch is refused item by item, so that one bad sample or claim never costs
//! the rest.

use std::time::Duration;

use crate::{
    AgentId, AssetId, AssetKind, Availability, CloseReason, ControlSource, DispatchId, InstanceId,
    LogId, Measurements, Power, ReasonCode, Timestamp,
};

/// The minor version of the protocol, for logs only.
pub const PROTOCOL_MINOR: u32 = 0;

/// What an agent sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentMessage {
    /// First: who it is, what it serves, what it is doing.
    Register(Register),
    /// A batch of the telemetry log.
    Telemetry(TelemetryBatch),
    /// Newest samples while the log is behind.
    LiveTelemetry(Vec<Result<Sample, Refusal>>),
    /// A batch of the report log.
    Report(ReportBatch),
    /// About the agent itself.
    Heartbeat(AgentHeartbeat),
    /// Assets added, changed, removed, or claimed again.
    AssetUpdate(AssetUpdate),
    /// Answer to [`HeadendMessage::Ping`].
    Pong {
        /// As it came in the ping.
        nonce: u64,
    },
    /// Last message.
    Close(Close),
    /// A message that this version does not know: ignored.
    Unknown,
}

/// What a headend sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HeadendMessage {
    /// First: the session is active.
    Registered(Registered),
    /// An order.
    Setpoint(SetpointOrder),
    /// End what is in force, now.
    Release(ReleaseOrder),
    /// Entries of a log are safe.
    LogAck(LogAck),
    /// Clock echo.
    HeartbeatAck {
        /// As it came in the heartbeat.
        monotonic: Duration,
        /// The headend's clock.
        server_time: Timestamp,
    },
    /// Answer, or be taken for dead.
    Ping {
        /// To be echoed.
        nonce: u64,
    },
    /// Send backfill more slowly.
    Throttle {
        /// Batches per second; 0 = pause.
        backfill_batches_per_s: u32,
        /// How long this holds.
        hold: Duration,
    },
    /// Say your state again.
    Resync {
        /// The session's epoch.
        epoch: u64,
    },
    /// Grants that changed.
    Grants {
        /// The session's epoch.
        epoch: u64,
        /// Only the assets that change.
        grants: Vec<Grant>,
    },
    /// Last message.
    Close(Close),
    /// A message that this version does not know: ignored.
    Unknown,
}

/// An item that can't be read, and is refused for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Refusal {
    /// The field that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A message that can't be read as a whole: the session ends with `PROTOCOL_ERROR`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {problem}")]
pub struct WireError {
    /// The message, by its name in the `.proto` file.
    pub message: &'static str,
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Who an agent is, what it serves and what it is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Register {
    /// The configured identity.
    pub agent_id: AgentId,
    /// This start of the process.
    pub instance_id: InstanceId,
    /// Minor version of the protocol, for logs only.
    pub protocol_minor: u32,
    /// Must-understand features that this agent has.
    pub capabilities: Vec<String>,
    /// Name and version of the software.
    pub software: Software,
    /// The highest epoch it was ever given; 0 if none.
    pub last_epoch: u64,
    /// The heads of its logs.
    pub logs: Vec<LogHead>,
    /// What it serves; claims that can't be read are refused one by one.
    pub assets: Vec<Result<AssetState, InvalidClaim>>,
    /// Whether revisions, orders and reports survive its restart.
    pub durable: bool,
    /// Its wall clock, a label only.
    pub agent_time: Option<Timestamp>,
}

/// A claim for an asset that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidClaim {
    /// The asset id as it came, cut to 64 characters.
    pub asset_id: String,
    /// What is wrong.
    pub refusal: Refusal,
}

/// Name and version of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Software {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// The two logs of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogKind {
    /// Telemetry: bounded, loses the oldest, declares it.
    Telemetry,
    /// Reports: never loses anything.
    Report,
}

/// Which part of a log the agent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Which log.
    pub kind: LogKind,
    /// Its life.
    pub log_id: LogId,
    /// Oldest entry held; equal to `next_seq` when empty.
    pub first_seq: u64,
    /// Number of the next entry; from 1.
    pub next_seq: u64,
}

/// What an agent enforces, whatever it is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// Lowest power.
    pub min: Power,
    /// Highest power.
    pub max: Power,
    /// Energy capacity, MWh.
    pub capacity_mwh: Option<f64>,
    /// Largest change, MW per minute.
    pub ramp_mw_per_min: Option<f64>,
}

/// What an asset is doing now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Control {
    /// What has put it there.
    pub source: ControlSource,
    /// The dispatch in force.
    pub dispatch_id: Option<DispatchId>,
    /// Its revision.
    pub revision: Option<u64>,
    /// The power that is asked for.
    pub power: Option<Power>,
    /// What is left of the lease.
    pub remaining: Option<Duration>,
}

/// An asset as its agent knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetState {
    /// The asset.
    pub asset_id: AssetId,
    /// Its kind.
    pub kind: AssetKind,
    /// What the agent enforces.
    pub rating: Rating,
    /// Highest revision accepted; 0 if none.
    pub last_revision: u64,
    /// What it is doing.
    pub control: Control,
    /// Whether it reads and takes orders.
    pub availability: Availability,
}

/// One measurement on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The asset.
    pub asset_id: AssetId,
    /// When the device was read.
    pub measured_at: Timestamp,
    /// The values.
    pub measurements: Measurements,
}

/// A part of the telemetry log; `samples[i]` has number `first_seq + i`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryBatch {
    /// The log.
    pub log_id: LogId,
    /// Number of the first sample.
    pub first_seq: u64,
    /// The samples; those that can't be read are refused by number.
    pub samples: Vec<Result<Sample, Refusal>>,
    /// Numbers lost for good.
    pub gaps: Vec<Gap>,
}

/// Why entries were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Not told, or by a newer peer.
    Unknown,
    /// The outbox was at its bound in bytes.
    OutboxFull,
    /// The entries were older than the outbox keeps.
    TooOld,
    /// Storage was damaged.
    Corrupt,
}

/// Numbers of a log that are lost for good; both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// First lost.
    pub first_seq: u64,
    /// Last lost.
    pub last_seq: u64,
    /// Why.
    pub reason: GapReason,
}

/// A part of the report log; `entries[i]` has number `first_seq + i`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportBatch {
    /// The log.
    pub log_id: LogId,
    /// Number of the first entry.
    pub first_seq: u64,
    /// The entries; those that can't be read are refused by number.
    pub entries: Vec<Result<ReportEntry, Refusal>>,
}

/// Something that happened at an asset.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportEntry {
    /// When, on the headend's clock as the agent estimates it.
    pub at: Timestamp,
    /// Where.
    pub asset_id: AssetId,
    /// What.
    pub report: Report,
}

/// What happened at an asset.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// An order moved on.
    Setpoint(SetpointReport),
    /// An alarm or a change of state.
    Event(Event),
    /// Of a newer peer: stored as seen, not understood.
    Unknown,
}

/// The steps of an order at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetpointPhase {
    /// The agent has it and will remember it.
    Received,
    /// The adapter said yes.
    Started,
    /// The lease ran to its end and the device was told what follows.
    Completed,
    /// A newer order took its place.
    Superseded,
    /// Ended by a release.
    Released,
    /// Never started: refused.
    Rejected,
    /// Never started: too late.
    Expired,
    /// Accepted, but failed or interrupted.
    Failed,
}

/// An order moved on.
#[derive(Debug, Clone, PartialEq)]
pub struct SetpointReport {
    /// The order.
    pub dispatch_id: DispatchId,
    /// Its revision.
    pub revision: u64,
    /// The step.
    pub phase: SetpointPhase,
    /// Why, for programs.
    pub reason: Option<ReasonCode>,
    /// Why, in the device's or the agent's own words.
    pub text: Option<String>,
    /// What the device said it applied.
    pub applied: Option<Power>,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it some time.
    Warning,
    /// Look at it now.
    Alarm,
    /// Act now.
    Critical,
}

/// An alarm or a change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How much it matters.
    pub severity: Severity,
    /// For programs: stable, lower case with underscores.
    pub code: String,
    /// For people.
    pub text: String,
}

/// About an agent itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentHeartbeat {
    /// Its wall clock, a label only.
    pub agent_time: Option<Timestamp>,
    /// A clock that counts through suspend; echoed.
    pub monotonic: Duration,
    /// The session's epoch.
    pub epoch: u64,
    /// Samples that are not acknowledged.
    pub outbox_depth: u64,
    /// Samples dropped since its start.
    pub dropped_samples: u64,
    /// One entry per asset; those that can't be read are left out.
    pub assets: Vec<AssetHealth>,
    /// Time since its start.
    pub uptime: Option<Duration>,
}

/// The health of one asset.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetHealth {
    /// The asset.
    pub asset_id: AssetId,
    /// Whether it reads and takes orders.
    pub availability: Availability,
    /// What it is doing.
    pub control: Control,
    /// Reads that failed since the agent's start.
    pub read_errors: u64,
}

/// Assets added, changed, removed, or claimed again.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetUpdate {
    /// The session's epoch.
    pub epoch: u64,
    /// Added, changed or claimed again.
    pub upserted: Vec<Result<AssetState, InvalidClaim>>,
    /// No longer served.
    pub removed: Vec<AssetId>,
}

/// The session is active.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Strictly increasing per agent; orders of any other epoch are refused.
    pub epoch: u64,
    /// The headend's clock.
    pub server_time: Timestamp,
    /// How often to send telemetry.
    pub telemetry_interval: Duration,
    /// How often to send a heartbeat.
    pub heartbeat_interval: Duration,
    /// How long silence is borne.
    pub liveness_timeout: Duration,
    /// Sizes.
    pub limits: Limits,
    /// Where each known log continues.
    pub logs: Vec<LogCursor>,
    /// The answer to each claim.
    pub grants: Vec<Grant>,
    /// Whether acknowledged entries survive a restart of the headend.
    pub durable_acks: bool,
    /// Must-understand features that this headend has.
    pub capabilities: Vec<String>,
    /// Minor version of the protocol, for logs only.
    pub protocol_minor: u32,
}

/// Sizes that a session keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, bytes.
    pub max_message_bytes: u32,
    /// Most assets per agent.
    pub max_assets: u32,
    /// Most samples in a batch.
    pub max_batch_samples: u32,
    /// Most batches that are not acknowledged.
    pub max_unacked_batches: u32,
    /// Backfill starts after a random part of this.
    pub backfill_spread: Duration,
    /// Batches per second while backfilling; 0 = no limit.
    pub backfill_batches_per_s: u32,
}

impl Default for Limits {
    /// 256 KiB, 256 assets, 256 samples, 12 batches, 30 s, 20 batches per second.
    fn default() -> Self {
        Self {
            max_message_bytes: 256 << 10,
            max_assets: 256,
            max_batch_samples: 256,
            max_unacked_batches: 12,
            backfill_spread: Duration::from_secs(30),
            backfill_batches_per_s: 20,
        }
    }
}

/// Where a log continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCursor {
    /// Which log.
    pub kind: LogKind,
    /// Its life.
    pub log_id: LogId,
    /// First number that is not durable.
    pub next_seq: u64,
}

/// The headend's answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrantStatus {
    /// Serve it.
    Granted,
    /// No such asset in the fleet.
    UnknownAsset,
    /// This agent may not serve it.
    Forbidden,
    /// Another connected agent serves it: claim again later.
    ServedElsewhere,
    /// The claim can't be read.
    Invalid,
    /// More assets than the limit.
    TooMany,
    /// Of a newer peer: no grant.
    Unknown,
}

/// The headend's answer to one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The asset.
    pub asset_id: AssetId,
    /// The answer.
    pub status: GrantStatus,
    /// The highest revision ever given for it.
    pub last_revision: u64,
    /// Why, for people.
    pub text: Option<String>,
}

/// What an asset does when a lease ends.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum FollowUp {
    /// Go to the asset's default.
    #[default]
    Default,
    /// Go to this power.
    Value(Power),
    /// Stay as it is.
    Hold,
}

/// An order: the next revision of its asset.
#[derive(Debug, Clone, PartialEq)]
pub struct SetpointOrder {
    /// The asset.
    pub asset_id: AssetId,
    /// The dispatch.
    pub dispatch_id: DispatchId,
    /// Strictly increasing per asset over setpoints and releases.
    pub revision: u64,
    /// Of the session that carries it.
    pub epoch: u64,
    /// The wanted power.
    pub power: Power,
    /// The lease, above zero; `None` = until superseded or released.
    pub duration: Option<Duration>,
    /// On the headend's clock. Not started by then: never started.
    pub start_deadline: Timestamp,
    /// Largest change, MW per minute.
    pub ramp_mw_per_min: Option<f64>,
    /// What happens when the lease ends.
    pub then: FollowUp,
}

/// An order to end whatever is in force and go to the default, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseOrder {
    /// The asset.
    pub asset_id: AssetId,
    /// The dispatch that is ended.
    pub dispatch_id: DispatchId,
    /// Strictly increasing per asset over setpoints and releases.
    pub revision: u64,
    /// Of the session that carries it.
    pub epoch: u64,
}

/// Everything up to a number is safe or refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogAck {
    /// Which log.
    pub kind: LogKind,
    /// Its life.
    pub log_id: LogId,
    /// The last number that is safe.
    pub up_to_seq: u64,
    /// Never send these again.
    pub refused: Vec<RefusedEntry>,
    /// What was sent after `up_to_seq` was not kept: send it again.
    pub rewind: bool,
}

/// An entry that is refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Its number.
    pub seq: u64,
    /// Why.
    pub code: RefusalCode,
    /// Why, for people.
    pub text: Option<String>,
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The asset is not granted to this agent.
    NotGranted,
    /// It can't be read.
    Invalid,
    /// Of a newer peer.
    Unknown,
}

/// The last message of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
    /// Why, for people.
    pub text: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

impl Close {
    /// A close without a time to come back.
    #[must_use]
    pub fn new(reason: CloseReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            retry_after: None,
        }
    }
}
