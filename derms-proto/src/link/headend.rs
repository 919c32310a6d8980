//! What a headend tells.

use std::time::Duration;

use crate::{AssetId, DispatchId, FollowUp, LimitId, LogId, Power, Timestamp};

use super::{LogKind, WireError};

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
    /// On the headend's clock. Not started earlier; `None` = at once.
    pub start_at: Option<Timestamp>,
    /// On the headend's clock. Not started by then: never started.
    pub start_deadline: Timestamp,
    /// Largest change, MW per minute.
    pub ramp_mw_per_min: Option<f64>,
    /// What happens when the lease ends.
    pub then: FollowUp,
}

/// A setpoint of which no more could be read than what it is: it is answered, and the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSetpoint {
    /// The asset.
    pub asset_id: AssetId,
    /// The dispatch that it belongs to.
    pub dispatch_id: DispatchId,
    /// Strictly increasing per asset over setpoints and releases.
    pub revision: u64,
    /// Of the session that carries it.
    pub epoch: u64,
    /// What is wrong with the rest.
    pub error: WireError,
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

/// Most limits that hold for one asset at once.
pub const MAX_LIMITS: usize = 16;

/// All limits of an asset, in place of those that were told before.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetLimits {
    /// The asset.
    pub asset_id: AssetId,
    /// Strictly increasing per asset, a count of its own.
    pub revision: u64,
    /// Of the session that carries it.
    pub epoch: u64,
    /// Bounds, at most [`MAX_LIMITS`]; all hold at once.
    pub limits: Vec<Limit>,
    /// What is in hand ends, no order is taken, and the power is 0 MW or what the rating allows
    /// nearest to it.
    pub stop: bool,
    /// When it is stopped no more, it stays so for a random part of this.
    pub return_within: Duration,
}

/// A bound on the power of an asset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The limit.
    pub id: LimitId,
    /// Lowest power.
    pub min: Option<Power>,
    /// Highest power; not below `min`.
    pub max: Option<Power>,
    /// On the headend's clock. Ends by itself then; `None` = until it is removed.
    pub expires_at: Option<Timestamp>,
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
