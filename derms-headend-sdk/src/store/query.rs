//! What is asked of a store.

use derms_proto::{AssetId, Cursor, DispatchStatus, SiteId, Timestamp};

/// A range of time and a page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryQuery {
    /// Not before this.
    pub from: Timestamp,
    /// Before this.
    pub to: Timestamp,
    /// Most items in a page; at least 1.
    pub limit: usize,
    /// Where the page starts.
    pub cursor: Option<Cursor>,
}

impl Default for HistoryQuery {
    /// All time, 100 items, from the newest.
    fn default() -> Self {
        Self {
            from: Timestamp::MIN,
            to: Timestamp::MAX,
            limit: 100,
            cursor: None,
        }
    }
}

/// Measurements of one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TelemetryQuery {
    /// The asset.
    pub asset: AssetId,
    /// The range and the page.
    pub page: HistoryQuery,
}

impl TelemetryQuery {
    /// All measurements of this asset.
    #[must_use]
    pub fn new(asset: AssetId, page: HistoryQuery) -> Self {
        Self { asset, page }
    }
}

/// Orders of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatchQuery {
    /// Of this asset, the shares of site orders included.
    pub asset: Option<AssetId>,
    /// Of this site and its assets.
    pub site: Option<SiteId>,
    /// With this status.
    pub status: Option<DispatchStatus>,
    /// The range and the page.
    pub page: HistoryQuery,
}

/// Records of the audit trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditQuery {
    /// Of this principal.
    pub principal: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// The range and the page.
    pub page: HistoryQuery,
}
