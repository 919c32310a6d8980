//! An order for a site, shared over its assets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{
    Asset, AssetId, AssetKind, Availability, Heartbeat, LeftOut, LeftOutReason, Measurements,
    Member, Power, Quality, SiteId, SplitPolicy, SplitSummary, Timestamp, split,
};
use parking_lot::RwLock;

use super::{DispatchError, Dispatcher};
use crate::latest::Latest;

/// What was measured longer ago is not the present.
const FRESH: Duration = Duration::from_secs(60);

/// What is known of assets beside orders.
#[derive(Debug, Clone)]
pub(crate) struct Present {
    pub(crate) latest: Arc<Latest>,
    /// The newest heartbeat of each asset.
    pub(crate) heartbeats: Arc<RwLock<HashMap<AssetId, Heartbeat>>>,
}

impl Dispatcher {
    /// The share of each asset of a site that takes part, and how that came about.
    pub(super) fn share(
        &self,
        site_id: SiteId,
        mw: Power,
        policy: SplitPolicy,
        now: Timestamp,
    ) -> Result<(Vec<(AssetId, Power)>, SplitSummary), DispatchError> {
        if self.fleet.site(site_id).is_none() {
            return Err(DispatchError::UnknownSite(site_id));
        }
        let (mut members, mut excluded) = (Vec::new(), Vec::new());
        for asset in self.fleet.assets_of(site_id) {
            match self.left_out(asset) {
                None => members.push(self.member(asset, now)),
                Some(reason) => excluded.push(LeftOut {
                    asset_id: asset.id,
                    name: asset.name.clone(),
                    reason,
                }),
            }
        }
        if members.is_empty() {
            let is_stopped = |left_out: &LeftOut| left_out.reason == LeftOutReason::Stopped;
            if excluded.iter().any(is_stopped) {
                return Err(DispatchError::SiteStopped(site_id));
            }
            return Err(DispatchError::SiteOffline(site_id));
        }
        let split = split(mw, policy, &members);
        let summary = SplitSummary::new(policy, split.residual, excluded);
        Ok((split.shares, summary))
    }

    fn left_out(&self, asset: &Asset) -> Option<LeftOutReason> {
        if asset.kind == AssetKind::Meter {
            return Some(LeftOutReason::Meter);
        }
        let Some(session) = self.registry.serving(asset.id) else {
            return Some(LeftOutReason::Offline);
        };
        if self.limits.is_stopped(asset.id) {
            return Some(LeftOutReason::Stopped);
        }
        session
            .availability(&self.present.heartbeats.read(), asset.id)
            .filter(|said| *said != Availability::Available)
            .map(|_| LeftOutReason::Unavailable)
    }

    pub(super) fn member(&self, asset: &Asset, now: Timestamp) -> Member {
        let mut member = Member::new(asset);
        if let Some((_, measured)) = self.measured(asset.id, now) {
            member.present_mw = measured.mw.unwrap_or(member.present_mw);
            member.soc_pct = measured.soc_pct;
        }
        member
    }

    /// The newest measurement of an asset that is fresh and good, and when it was made.
    pub(super) fn measured(
        &self,
        asset: AssetId,
        now: Timestamp,
    ) -> Option<(Timestamp, Measurements)> {
        let newest = self.present.latest.get(asset)?;
        let at = newest.measured_at.min(newest.received_at);
        let good = newest.measurements.quality != Quality::Bad;
        (good && now.saturating_since(at) <= FRESH).then_some((at, newest.measurements))
    }
}
