//! What is asked of a store.

use derms_proto::{
    AssetId, Cursor, DispatchStatus, Event, EventSource, Severity, SiteId, Timestamp,
};

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

/// Events of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventQuery {
    /// Of this asset.
    pub asset: Option<AssetId>,
    /// Of this site.
    pub site: Option<SiteId>,
    /// At least this severe.
    pub least: Option<Severity>,
    /// Acknowledged, or not.
    pub acknowledged: Option<bool>,
    /// Raised by this side.
    pub source: Option<EventSource>,
    /// The range, by [`at`](Event::at), and the page.
    pub page: HistoryQuery,
}

impl EventQuery {
    /// Whether this is one of them, whatever its time.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, has: Option<T>) -> bool {
            wanted.is_none() || wanted == has
        }
        is(self.asset, event.asset_id)
            && is(self.site, event.site_id)
            && self.least.is_none_or(|least| event.severity >= least)
            && is(self.acknowledged, Some(event.acknowledged.is_some()))
            && is(self.source, Some(event.source))
    }
}
