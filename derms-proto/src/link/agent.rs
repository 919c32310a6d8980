//! What an agent tells.

use std::time::Duration;

use crate::{
    AgentId, AssetId, AssetKind, Availability, ControlSource, DispatchId, InstanceId, LogId,
    Measurements, Power, ReasonCode, Severity, Timestamp,
};

use super::Refusal;

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

/// No number of a log is above this, 2⁵³, nor is the number it continues with: at a million entries
/// a second that is 285 years, and it fits a signed 64-bit column.
pub const MAX_SEQ: u64 = 1 << 53;

/// Which part of a log the agent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Which log.
    pub kind: LogKind,
    /// Its life.
    pub log_id: LogId,
    /// Oldest number that is not acknowledged, of an entry held or inside a gap that is to be
    /// declared; equal to `next_seq` when there is nothing to say.
    pub first_seq: u64,
    /// Number of the next entry; from 1 up to [`MAX_SEQ`].
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
    /// The power that is asked for; `None` while the device has not accepted it.
    pub power: Option<Power>,
    /// What is left of the lease.
    pub remaining: Option<Duration>,
    /// A limit holds the power away from what the source asks for.
    pub limited: bool,
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
    /// The revision of the [`AssetLimits`](super::AssetLimits) that it keeps to; 0 if none.
    pub limit_revision: u64,
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
    Event(EventReport),
    /// What became of limits.
    Limit(LimitReport),
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

/// What became of an [`AssetLimits`](super::AssetLimits).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReport {
    /// Its revision.
    pub revision: u64,
    /// What became of it.
    pub phase: LimitPhase,
    /// Why, for programs.
    pub reason: Option<ReasonCode>,
    /// Why, in the device's or the agent's own words.
    pub text: Option<String>,
}

/// What became of limits at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitPhase {
    /// Remembered, and the device is where it may be.
    InForce,
    /// Not taken.
    Refused,
    /// Remembered, but the device does not obey; it is told again until it does.
    NotObeyed,
}

/// An alarm or a change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReport {
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
    /// The revision of the [`AssetLimits`](super::AssetLimits) that it keeps to; 0 if none.
    pub limit_revision: u64,
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
