//! What an order would do.

use serde::{Deserialize, Serialize};

use crate::{AssetId, DispatchId, DispatchStatus, Power, SiteId, SplitSummary, Timestamp};

/// What an order would do if it were given now, the answer of `POST /dispatch/preview`. Nothing was
/// stored or sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DispatchPreview {
    /// The asset; `null` for a site order.
    pub asset_id: Option<AssetId>,
    /// The site.
    pub site_id: SiteId,
    /// The wanted power, MW, + = export.
    pub mw: Power,
    /// The lease in seconds; `null` = until superseded or cancelled.
    pub duration_s: Option<f64>,
    /// How long it might wait for its agent, seconds.
    pub ttl_s: f64,
    /// How a site order would be split, what would be left and who would be left out; `null` for an
    /// asset.
    pub split: Option<SplitSummary>,
    /// What each asset would be ordered, in the order of their ids.
    pub assets: Vec<PreviewShare>,
}

/// What an asset would be ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PreviewShare {
    /// The asset.
    pub asset_id: AssetId,
    /// The power, MW, + = export.
    pub mw: Power,
    /// It would be sent at once; else it would wait for the asset's agent.
    pub online: bool,
    /// The open orders of the asset that it would take the place of, newest first: those that wait,
    /// are in force or are for later, and would be in force at the same time. None of them takes its
    /// place: the newest wins.
    pub supersedes: Vec<PreviewOrder>,
}

/// An order that would be superseded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PreviewOrder {
    /// The order.
    pub id: DispatchId,
    /// Its power, MW, + = export.
    pub mw: Power,
    /// Where it stands.
    pub status: DispatchStatus,
    /// When it begins, or began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Timestamp>,
    /// When it would end by its lease at the latest; absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// When its place would be taken: now if it would not begin any more or the new order begins at
    /// once, else when that begins. What was sent may go on until the new order starts at its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_at: Option<Timestamp>,
}
