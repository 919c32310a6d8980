//! The messages of the agent link, in the words of this crate.
//!
//! Both SDKs speak in these types; [`wire`](crate::wire) turns them into protobuf and back. What
//! can't be read in a batch is refused item by item, so that one bad sample or claim never costs
//! the rest.

mod agent;
mod headend;
mod probe;

use std::time::Duration;

use crate::{CloseReason, Timestamp};

pub use crate::{FollowUp, Severity};

pub use self::agent::{
    AgentHeartbeat, AssetHealth, AssetState, AssetUpdate, Control, EventReport, Gap, GapReason,
    InvalidClaim, LimitPhase, LimitReport, LogHead, LogKind, MAX_SEQ, Rating, Register, Report,
    ReportBatch, ReportEntry, Sample, SetpointPhase, SetpointReport, Software, TelemetryBatch,
};
pub use self::headend::{
    AssetLimits, Grant, GrantStatus, Limit, Limits, LogAck, LogCursor, MAX_LIMITS, RefusalCode,
    RefusedEntry, Registered, ReleaseOrder, SetpointOrder, UnreadableSetpoint,
};
pub use self::probe::{Probe, ProbeAnswer};

/// The minor version of the protocol, for logs only.
pub const PROTOCOL_MINOR: u32 = 0;

/// The capability of an agent that keeps to [`AssetLimits`].
pub const LIMITS: &str = "limits";

/// The capability of an agent that keeps orders until their [`start_at`](SetpointOrder::start_at).
pub const SCHEDULE: &str = "schedule";

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
    /// An order that can be read no further than to be refused; what is made of this is an unknown
    /// message.
    UnreadableSetpoint(UnreadableSetpoint),
    /// End what is in force, now.
    Release(ReleaseOrder),
    /// All limits of an asset.
    AssetLimits(AssetLimits),
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
