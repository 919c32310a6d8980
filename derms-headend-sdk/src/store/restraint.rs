//! Limits and stops as a store keeps them.

use derms_proto::{AssetId, PowerLimit, SiteId, Stop, StopScope};

use super::HistoryQuery;

/// A limit or a stop.
#[derive(Debug, Clone, PartialEq)]
pub enum Restraint {
    /// A limit.
    Limit(PowerLimit),
    /// A stop.
    Stop(Stop),
}

/// What was set under a key before.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub enum Keyed {
    /// The same, as it was kept last.
    Same(Restraint),
    /// Something else.
    Conflict,
}

/// What holds when a headend starts, and what revisions it has given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restraints {
    /// Limits that have not ended ([`LimitStatus::has_ended`](derms_proto::LimitStatus::has_ended)).
    pub limits: Vec<PowerLimit>,
    /// Stops that were not ended ([`Stop::ended_at`]).
    pub stops: Vec<Stop>,
    /// The highest [`revision`](PowerLimit::revision) of all limits of an asset and of all stops of
    /// one scope, as far as they are not forgotten; in any order.
    pub revisions: Vec<(StopScope, u64)>,
}

/// Limits of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitQuery {
    /// Of this asset.
    pub asset: Option<AssetId>,
    /// Of the assets of this site.
    pub site: Option<SiteId>,
    /// The range of [`created_at`](PowerLimit::created_at), and the page.
    pub page: HistoryQuery,
}
