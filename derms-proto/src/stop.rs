//! Stopping assets, and letting them go again.

use serde::{Deserialize, Serialize};

use crate::{AssetId, SiteId, StopId, Timestamp};

/// The text that a stop must be confirmed with.
pub const CONFIRM_STOP: &str = "stop";

/// How long a fleet takes to return from a stop unless told otherwise: 60 s.
pub const DEFAULT_RETURN_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// A new stop, the body of `POST /stop`: of one asset, of a site, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewStop {
    /// One asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_id: Option<AssetId>,
    /// All assets of a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_id: Option<SiteId>,
    /// All assets of the fleet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// `stop`: it is meant.
    #[cfg_attr(feature = "schema", schema(pattern = "^stop$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// Why, for people, at most 1,000 characters.
    #[cfg_attr(feature = "schema", schema(max_length = 1_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl NewStop {
    /// Stops one asset.
    #[must_use]
    pub fn asset(asset: AssetId) -> Self {
        Self {
            asset_id: Some(asset),
            ..Self::confirmed()
        }
    }

    /// Stops all assets of a site.
    #[must_use]
    pub fn site(site: SiteId) -> Self {
        Self {
            site_id: Some(site),
            ..Self::confirmed()
        }
    }

    /// Stops all assets of the fleet.
    #[must_use]
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::confirmed()
        }
    }

    /// With a reason for people.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    fn confirmed() -> Self {
        Self {
            confirm: Some(CONFIRM_STOP.to_owned()),
            ..Self::default()
        }
    }
}

/// What a stop is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StopScope {
    /// One asset.
    Asset(AssetId),
    /// All assets of a site.
    Site(SiteId),
    /// All assets of the fleet.
    All,
}

/// A stop, as stored and served. A stopped asset ends what it has in hand, takes no order, and is at
/// 0 MW or what its rating allows nearest to it. An asset is stopped while any stop holds for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Stop {
    /// Its id (UUIDv7: sorts by time).
    pub id: StopId,
    /// The asset; `null` for a site or all.
    pub asset_id: Option<AssetId>,
    /// The site; `null` for an asset or all.
    pub site_id: Option<SiteId>,
    /// All assets of the fleet.
    pub all: bool,
    /// Why, for people.
    pub reason: Option<String>,
    /// Who stopped; `null` without authentication.
    pub principal: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// The least revision of the limits of its assets with which it came or, once it was ended,
    /// went.
    pub revision: u64,
    /// Assets that it is for.
    pub assets: u64,
    /// Assets whose agents were told.
    pub reached: u64,
    /// Assets whose agents have said that the device is stopped.
    pub confirmed: u64,
    /// Assets whose devices do not obey, or whose agents refused.
    pub not_obeyed: u64,
    /// Assets that were not told, for no agent serves them now; they are first thing at their next
    /// session. 0 once it was ended.
    pub offline: u64,
    /// Assets that were not told, for their agents can't be stopped. 0 once it was ended.
    pub unsupported: u64,
    /// Which these are, 256 at most. What they are doing for an order is released, where their default is
    /// not further from 0 MW; they can't be held there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cannot_be_held: Vec<AssetId>,
    /// It is in the store. `false`: the store was away, it holds all the same, and is stored when
    /// the store is back.
    pub stored: bool,
    /// When it was ended; `null` = it holds.
    pub ended_at: Option<Timestamp>,
    /// Who ended it; `null` without authentication.
    pub ended_by: Option<String>,
    /// Each of its assets returns after a random part of this, seconds; `null` = it holds.
    pub return_within_s: Option<f64>,
}

impl Stop {
    /// What it is for.
    #[must_use]
    pub fn scope(&self) -> StopScope {
        match (self.asset_id, self.site_id) {
            (Some(asset), _) => StopScope::Asset(asset),
            (None, Some(site)) => StopScope::Site(site),
            (None, None) => StopScope::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_made_by_a_constructor_is_confirmed_and_one_from_outside_says_so_itself() {
        let json = serde_json::to_value(NewStop::all()).unwrap();
        assert_eq!(json, serde_json::json!({"all": true, "confirm": "stop"}));
        let bare: NewStop = serde_json::from_str(r#"{"all":true}"#).unwrap();
        assert_eq!(bare.confirm, None);
        assert!(serde_json::from_str::<NewStop>(r#"{"everything":true}"#).is_err());
    }
}
