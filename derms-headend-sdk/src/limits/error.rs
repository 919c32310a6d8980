//! Why a limit or a stop was not taken.

use std::time::Duration;

use derms_proto::{AssetId, LimitId, Power, PowerRange, ProblemLimits, SiteId, StopId};

use crate::store::StoreError;

/// Why a limit was not set or removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// It contradicts itself or lacks something.
    #[error("{0}")]
    Invalid(String),
    /// No such asset.
    #[error("no asset {0} in the fleet; see GET /assets")]
    UnknownAsset(AssetId),
    /// No such limit.
    #[error("no limit {0}; see GET /limits/history")]
    Unknown(LimitId),
    /// It leaves nothing of the range of the asset.
    #[error(
        "the limit leaves nothing of {} to {}; to keep an asset from all power, stop it",
        limits.min_mw, limits.max_mw
    )]
    OutOfRange {
        /// The range of the asset.
        limits: ProblemLimits,
    },
    /// No power is allowed by it and by all limits in force.
    #[error(
        "limits in force leave {} to {}, and the new one nothing of that; remove one of them first",
        range.min_mw, range.max_mw
    )]
    Conflict {
        /// What the limits in force leave.
        range: PowerRange,
    },
    /// As many limits are in force for the asset as it can have.
    #[error("asset {asset} has {most} limits in force already; remove one of them first")]
    TooMany {
        /// The asset.
        asset: AssetId,
        /// The most.
        most: usize,
    },
    /// The same key came with another limit before.
    #[error("the idempotency key was used with another limit before; use a new key")]
    IdempotencyConflict,
    /// It forces more power than one limit may, see
    /// [`max_mw_per_dispatch`](crate::HeadendBuilder::max_mw_per_dispatch).
    #[error("it forces {mw}, more than one limit may here: {most} in either direction")]
    OverGuard {
        /// What it forces.
        mw: Power,
        /// What is allowed, in either direction.
        most: Power,
    },
    /// It forces more power than is left to a principal in this minute, see
    /// [`max_mw_per_minute`](crate::HeadendBuilder::max_mw_per_minute).
    #[error(
        "with the power that this limit forces you would have ordered more than {most} in a minute"
    )]
    OverRate {
        /// What is allowed in a minute, orders and limits together.
        most: Power,
        /// When the same limit may be taken.
        retry_after: Duration,
    },
    /// The store did not take it.
    #[error("the limit can't be stored")]
    Store(#[from] StoreError),
}

/// Why assets were not stopped, or a stop was not ended. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// It contradicts itself or lacks something.
    #[error("{0}")]
    Invalid(String),
    /// It does not say that it is meant.
    #[error("send `\"confirm\": \"stop\"` with it: a stop ends every order of its assets")]
    NotConfirmed,
    /// No such asset.
    #[error("no asset {0} in the fleet; see GET /assets")]
    UnknownAsset(AssetId),
    /// No such site.
    #[error("no site {0} in the fleet; see GET /sites")]
    UnknownSite(SiteId),
    /// No such stop.
    #[error("no stop {0}; see GET /stop/history")]
    Unknown(StopId),
    /// The same key came with another stop before.
    #[error("the idempotency key was used with another stop before; use a new key")]
    IdempotencyConflict,
    /// The store did not take the end of a stop.
    #[error("the end of the stop can't be stored")]
    Store(#[from] StoreError),
}
