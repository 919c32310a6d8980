//! How a site order was split, as it is told.

use serde::{Deserialize, Serialize};

use crate::{AssetId, DispatchId, Power, SPLIT_VERSION, SplitPolicy, Timestamp};

/// How a site order was split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SplitSummary {
    /// What no asset had room for, MW, + = export; 0 if everything was placed. With `rebalance` it is
    /// kept up to date.
    pub residual_mw: Power,
    /// Controllable assets of the site that got no share: those that were offline or unavailable.
    pub left_out: Vec<AssetId>,
    /// By what it was shared.
    #[serde(default)]
    pub policy: SplitPolicy,
    /// The version of the algorithm.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Every asset of the site that got no share, with the reason.
    #[serde(default)]
    pub excluded: Vec<LeftOut>,
    /// What an asset that drops out can't do any more is shared anew over the others. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebalance: bool,
    /// How often that was done, oldest first. Absent if never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resplits: Vec<Resplit>,
}

/// What was missing of a site order, shared anew over the assets that still had room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resplit {
    /// When.
    pub at: Timestamp,
    /// By what it was shared.
    pub policy: SplitPolicy,
    /// The version of the algorithm.
    pub version: u32,
    /// What was missing, MW, + = export.
    pub missing_mw: Power,
    /// What of that no asset had room for, MW, + = export; 0 if everything was placed.
    pub residual_mw: Power,
    /// The shares that it stands in for: those of the assets that dropped out.
    pub stands_in_for: Vec<DispatchId>,
    /// The new shares. Each is all that its asset is to do from then on, so it takes the place of the
    /// asset's earlier share.
    pub shares: Vec<DispatchId>,
}

/// What was stored before there were versions was split by the first.
const fn first_version() -> u32 {
    1
}

impl SplitSummary {
    /// A split by the present version of the algorithm.
    #[must_use]
    pub fn new(policy: SplitPolicy, residual_mw: Power, excluded: Vec<LeftOut>) -> Self {
        let controllable = excluded
            .iter()
            .filter(|left_out| left_out.reason != LeftOutReason::Meter);
        Self {
            residual_mw,
            left_out: controllable.map(|left_out| left_out.asset_id).collect(),
            policy,
            version: SPLIT_VERSION,
            excluded,
            rebalance: false,
            resplits: Vec::new(),
        }
    }
}

/// An asset that got no share of its site's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LeftOut {
    /// The asset.
    pub asset_id: AssetId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why an asset got no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftOutReason {
    /// No agent serves it now.
    Offline,
    /// Its agent says that it can't be controlled now.
    Unavailable,
    /// An operator has stopped it.
    Stopped,
    /// It is a meter: measured, never controlled.
    Meter,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_that_was_stored_before_there_were_policies_is_read() {
        let json = r#"{"residual_mw":0.5,"left_out":["7ba7b810-9dad-11d1-80b4-00c04fd430c8"]}"#;
        let split: SplitSummary = serde_json::from_str(json).unwrap();
        assert_eq!((split.policy, split.version), (SplitPolicy::Capacity, 1));
        assert_eq!((split.left_out.len(), split.excluded.len()), (1, 0));
    }
}
