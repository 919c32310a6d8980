//! What an order would do.

use serde::{Deserialize, Serialize};

use crate::{AssetId, DispatchId, DispatchStatus, Power, SiteId, SplitSummary};

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
    /// The orders of the asset that have not ended, newest first: it would take their place, of
    /// what waits at once, of what was sent when it starts.
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
}
