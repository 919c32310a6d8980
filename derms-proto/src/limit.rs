//! Limits on the power of an asset.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AssetId, DispatchId, LimitId, Power, ReasonCode, SiteId, Timestamp};

/// A new limit, the body of `POST /limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLimit {
    /// The asset.
    pub asset_id: AssetId,
    /// Lowest power, MW, + = export. At least one of the two bounds is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_mw: Option<Power>,
    /// Highest power, MW, + = export; not below `min_mw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_mw: Option<Power>,
    /// How long it holds in seconds, a microsecond to 366 days; absent = until it is removed.
    #[cfg_attr(feature = "schema", schema(minimum = 0.000_001, maximum = 31_622_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
}

impl NewLimit {
    /// No power below this.
    #[must_use]
    pub const fn at_least(asset: AssetId, min: Power) -> Self {
        Self {
            asset_id: asset,
            min_mw: Some(min),
            max_mw: None,
            duration_s: None,
        }
    }

    /// No power above this.
    #[must_use]
    pub const fn at_most(asset: AssetId, max: Power) -> Self {
        Self {
            asset_id: asset,
            min_mw: None,
            max_mw: Some(max),
            duration_s: None,
        }
    }

    /// Neither below `min` nor above `max`.
    #[must_use]
    pub const fn between(asset: AssetId, min: Power, max: Power) -> Self {
        Self {
            asset_id: asset,
            min_mw: Some(min),
            max_mw: Some(max),
            duration_s: None,
        }
    }

    /// With an end: the agent drops it then by itself. Default: until it is removed.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration_s = Some(duration.as_secs_f64());
        self
    }
}

/// Where a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitStatus {
    /// Its agent has not confirmed it.
    Pending,
    /// Its agent remembers it, and the device is where it may be.
    InForce,
    /// Its agent remembers it, but the device does not obey; it is told again until it does.
    NotObeyed,
    /// Its agent did not take it.
    Refused,
    /// Its time is over.
    Expired,
    /// An operator removed it.
    Removed,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

impl LimitStatus {
    /// Whether it is over: it holds nothing back any more, and does not change.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Expired | Self::Removed)
    }
}

/// A limit on the power of an asset, as stored and served. It holds over every setpoint, follow-up,
/// default and failsafe; several hold all at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PowerLimit {
    /// Its id (UUIDv7: sorts by time).
    pub id: LimitId,
    /// The asset.
    pub asset_id: AssetId,
    /// Its site.
    pub site_id: SiteId,
    /// Lowest power, MW, + = export; `null` = no such bound.
    pub min_mw: Option<Power>,
    /// Highest power, MW, + = export; `null` = no such bound.
    pub max_mw: Option<Power>,
    /// When it was set.
    pub created_at: Timestamp,
    /// When it ends by itself; `null` = it does not.
    pub expires_at: Option<Timestamp>,
    /// Who set it; `null` without authentication.
    pub principal: Option<String>,
    /// Where it stands.
    pub status: LimitStatus,
    /// Why it stands there, for programs.
    pub reason: Option<ReasonCode>,
    /// Why it stands there, for people: the agent's or the device's own words, or what `pending`
    /// waits for.
    pub text: Option<String>,
    /// When its agent first said that it is in force; `null` = not yet.
    pub confirmed_at: Option<Timestamp>,
    /// When it was removed; `null` = it was not.
    pub removed_at: Option<Timestamp>,
    /// Who removed it; `null` without authentication.
    pub removed_by: Option<String>,
    /// The revision of the limits of its asset with which it came or, once removed, went.
    pub revision: u64,
}

impl PowerLimit {
    /// Its own end, or its removal; `None` while it holds.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.status {
            LimitStatus::Removed => self.removed_at,
            LimitStatus::Expired => self.expires_at,
            _ => None,
        }
    }
}

/// What limits leave of the power of an asset.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PowerRange {
    /// Lowest, MW, + = export.
    pub min_mw: Power,
    /// Highest, MW, + = export.
    pub max_mw: Power,
}

/// What an asset is doing, as its agent said last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ControlStatus {
    /// What has put it there.
    pub source: crate::ControlSource,
    /// The dispatch in force.
    pub dispatch_id: Option<DispatchId>,
    /// The power that the device has accepted, MW, + = export; `null` while it has not.
    pub mw: Option<Power>,
    /// A limit holds the power away from what the source asks for.
    pub limited: bool,
    /// What is left of the lease in seconds; `null` without one.
    pub remaining_s: Option<f64>,
    /// When the agent said so.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_in_a_limit_is_an_error() {
        let body = r#"{"asset_id":"7ba7b810-9dad-11d1-80b4-00c04fd430c8","max":5}"#;
        let error = serde_json::from_str::<NewLimit>(body).unwrap_err();
        assert!(error.to_string().contains("unknown field `max`"));
    }

    #[test]
    fn a_status_of_a_newer_headend_is_unknown_and_no_error() {
        let status: LimitStatus = serde_json::from_str(r#""of_next_year""#).unwrap();
        assert_eq!(status, LimitStatus::Unknown);
        assert!(!status.has_ended());
    }
}
