//! Orders for later, and which of two orders has the asset when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lenient::OrUnknown;
use crate::{Dispatch, DispatchStatus, Power, Timestamp, Transition};

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
    /// Sent by a newer headend than this type knows; no word of an order.
    #[serde(skip_deserializing)]
    Unknown,
}

impl OrUnknown for FollowUp {
    const UNKNOWN: Self = Self::Unknown;
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

    /// When it ends by its lease at the latest, if it starts at all; `None`: it has no lease.
    #[must_use]
    pub fn ends_by(&self) -> Option<Timestamp> {
        let lease = Duration::try_from_secs_f64(self.duration_s?).ok()?;
        let active = |step: &&Transition| step.status == DispatchStatus::Active;
        let started = self.transitions.iter().rev().find(active);
        let started = started.map(|step| step.reported_at.unwrap_or(step.at));
        // One for later starts within seconds of its time, another as late as it may.
        let latest = self.start_at.map_or(self.expires_at, |_| self.begins());
        Some(started.unwrap_or(latest).saturating_add(lease))
    }

    /// When an older open order of the same asset is superseded by this one: at its commit if it would
    /// not begin any more, at the beginning of this one if it is in force then. `None`: they do not
    /// meet. Never the other way round: the newest wins.
    #[must_use]
    pub fn supersedes_at(&self, older: &Self) -> Option<Timestamp> {
        let begins = self.begins();
        if self.takes_the_place_of(older) {
            return Some(self.created_at);
        }
        let before = older.begins().max(self.created_at) < begins;
        let runs = older.ends_by().is_none_or(|end| end > begins);
        (before && runs).then_some(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DispatchId, SiteId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_micros(second * 1_000_000)
    }

    fn order(created: i64, start: Option<i64>, lease: Option<f64>) -> Dispatch {
        Dispatch {
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
        }
    }

    #[test]
    fn an_order_takes_the_place_of_what_would_begin_while_it_is_in_force() {
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

    #[test]
    fn an_order_supersedes_at_once_what_would_not_begin_and_at_its_start_what_is_in_force_then() {
        let active = |lease| {
            let mut order = order(0, None, lease);
            order.status = DispatchStatus::Active;
            order.transitions.push(Transition {
                status: DispatchStatus::Active,
                at: at(11),
                reported_at: Some(at(10)),
                reason: None,
                text: None,
                applied_mw: None,
                epoch: None,
            });
            order
        };
        let newer = |start, lease| order(100, start, lease);
        for (newer, older, wanted) in [
            (newer(None, None), active(None), Some(100)),
            (newer(None, None), order(0, Some(500), None), Some(100)),
            (newer(Some(500), None), order(0, Some(600), None), Some(100)),
            // In force when the newer one begins.
            (newer(Some(500), None), active(None), Some(500)),
            (newer(Some(500), None), active(Some(491.0)), Some(500)),
            (newer(Some(500), None), active(Some(490.0)), None),
            (
                newer(Some(500), None),
                order(0, Some(450), Some(51.0)),
                Some(500),
            ),
            (
                newer(Some(500), None),
                order(0, Some(450), Some(50.0)),
                None,
            ),
            // It may start as late as its time to live allows.
            (
                newer(Some(500), None),
                order(0, None, Some(50.0)),
                Some(500),
            ),
            // After the newer one.
            (
                newer(Some(500), Some(50.0)),
                order(0, Some(550), None),
                None,
            ),
            (newer(None, Some(50.0)), order(0, Some(150), None), None),
        ] {
            let found = newer.supersedes_at(&older);
            assert_eq!(found, wanted.map(at), "{newer:?} over {older:?}");
        }
    }
}
