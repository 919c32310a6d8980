//! Orders for later, and which of two orders has the asset when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Dispatch, Power, Timestamp};

/// The latest start of an order for later: 31 days ahead.
pub const MAX_AHEAD: Duration = Duration::from_secs(31 * 24 * 3600);

/// What an asset does when a lease ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FollowUp {
    /// Go to the asset's default.
    #[default]
    Default,
    /// Go to this power, MW, + = export.
    Value(Power),
    /// Stay as it is.
    Hold,
}

impl Dispatch {
    /// When it begins: its start time, or its commit.
    #[must_use]
    pub fn begins(&self) -> Timestamp {
        let start = self.start_at.unwrap_or(self.created_at);
        start.max(self.created_at)
    }

    /// Whether an older order of the same asset must step back for this one: it would begin while
    /// this one is in force, by its lease or without an end.
    #[must_use]
    pub fn takes_the_place_of(&self, older: &Self) -> bool {
        let begins = self.begins();
        // One without a start time begins as soon as it can: now.
        let at = older.begins().max(self.created_at);
        let lease = self
            .duration_s
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        at >= begins && lease.is_none_or(|lease| at < begins.saturating_add(lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DispatchId, DispatchStatus, SiteId};

    #[test]
    fn an_order_takes_the_place_of_what_would_begin_while_it_is_in_force() {
        let at = |second: i64| Timestamp::from_unix_micros(second * 1_000_000);
        let order = |created: i64, start: Option<i64>, lease: Option<f64>| Dispatch {
            id: DispatchId::generate(),
            parent_id: None,
            asset_id: None,
            site_id: SiteId::new(uuid::Uuid::nil()),
            mw: Power::ZERO,
            duration_s: lease,
            ttl_s: 300.0,
            start_at: start.map(at),
            ramp_mw_per_min: None,
            follow_up: FollowUp::Default,
            revision: None,
            status: DispatchStatus::Pending,
            in_doubt: false,
            reason: None,
            text: None,
            applied_mw: None,
            created_at: at(created),
            expires_at: at(9_999),
            principal: None,
            cancel_requested_at: None,
            cancelled_by: None,
            following: None,
            transitions: Vec::new(),
            split: None,
            limited_to: None,
            replaced: false,
            children: Vec::new(),
        };
        let newer = |start, lease| order(100, start, lease);
        for (newer, older, wanted) in [
            (newer(None, None), order(0, None, None), true),
            (newer(None, Some(10.0)), order(0, None, None), true),
            (newer(None, None), order(0, Some(500), None), true),
            (newer(None, Some(400.0)), order(0, Some(500), None), false),
            (newer(None, Some(400.5)), order(0, Some(500), None), true),
            (newer(Some(500), None), order(0, None, None), false),
            (newer(Some(500), None), order(0, Some(499), None), false),
            (newer(Some(500), None), order(0, Some(500), None), true),
            (
                newer(Some(500), Some(1.0)),
                order(0, Some(501), None),
                false,
            ),
            // Its time has come already: it begins now, as the newer one does.
            (newer(None, Some(10.0)), order(0, Some(50), None), true),
            (newer(Some(500), None), order(0, Some(50), None), false),
        ] {
            let found = newer.takes_the_place_of(&older);
            assert_eq!(
                found, wanted,
                "{:?} over {:?}",
                newer.start_at, older.start_at
            );
        }
    }
}
