//! From a wish to an order: everything that can be refused is refused here.

use std::time::Duration;

use derms_proto::{
    AssetId, DEFAULT_TTL, Dispatch, DispatchId, DispatchStatus, FollowUp, MAX_DURATION,
    NewDispatch, Power, ProblemLimits, SiteId, SplitPolicy, Timestamp,
};

use super::guard::asked;
use super::{Dispatcher, schedule};
use crate::auth::Principal;
use crate::store::StoreError;

/// Why an order was not taken. Nothing was stored or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// It contradicts itself or lacks something.
    #[error("{0}")]
    Invalid(String),
    /// No such asset.
    #[error("no asset {0} in the fleet; see GET /assets")]
    UnknownAsset(AssetId),
    /// No such site.
    #[error("no site {0} in the fleet; see GET /sites")]
    UnknownSite(SiteId),
    /// Outside the limits of the asset.
    #[error("{mw} is outside {} to {}", limits.min_mw, limits.max_mw)]
    OutOfRange {
        /// What was asked.
        mw: Power,
        /// What is allowed.
        limits: ProblemLimits,
    },
    /// More than one order may ask for, see
    /// [`max_mw_per_dispatch`](crate::HeadendBuilder::max_mw_per_dispatch).
    #[error("{mw} is more than one order may ask for here: {most} in either direction")]
    OverGuard {
        /// What was asked.
        mw: Power,
        /// What is allowed, in either direction.
        most: Power,
    },
    /// More than a principal may order in a minute, see
    /// [`max_mw_per_minute`](crate::HeadendBuilder::max_mw_per_minute).
    #[error("with this order you would have ordered more than {most} in a minute")]
    OverRate {
        /// What is allowed in a minute, the powers of all orders added up without their sign.
        most: Power,
        /// When the same order may be taken.
        retry_after: Duration,
    },
    /// No asset of the site is online and available.
    #[error(
        "no controllable asset of site {0} is online and available; order its assets one by one to \
         let the orders wait"
    )]
    SiteOffline(SiteId),
    /// A stop holds for the asset.
    #[error("asset {0} is stopped and takes no order; see GET /stop")]
    Stopped(AssetId),
    /// A stop holds for every asset of the site that is online.
    #[error("site {0} is stopped and takes no order; see GET /stop")]
    SiteStopped(SiteId),
    /// The same key came with another order before.
    #[error("the idempotency key was used with another order before; use a new key")]
    IdempotencyConflict,
    /// The store did not take it.
    #[error("the order can't be stored")]
    Store(#[from] StoreError),
}

impl Dispatcher {
    /// Turns a wish into an order without revisions.
    pub(super) fn check(
        &self,
        new: &NewDispatch,
        principal: Option<&Principal>,
        now: Timestamp,
    ) -> Result<Dispatch, DispatchError> {
        if !new.mw.is_finite() {
            return Err(invalid("mw must be a finite number"));
        }
        seconds("duration_s", new.duration_s)?;
        schedule::check(new, now)?;
        self.guard.check_one(asked(new))?;
        let ttl = seconds("ttl_s", new.ttl_s)?.unwrap_or(DEFAULT_TTL);
        let order = |asset: Option<AssetId>, site: SiteId, mw: Power| Dispatch {
            id: DispatchId::generate(),
            parent_id: None,
            asset_id: asset,
            site_id: site,
            mw,
            duration_s: new.duration_s,
            ttl_s: ttl.as_secs_f64(),
            start_at: new.start_at,
            ramp_mw_per_min: new.ramp_mw_per_min,
            follow_up: new.follow_up.unwrap_or_default(),
            revision: None,
            status: DispatchStatus::Pending,
            in_doubt: false,
            reason: None,
            text: None,
            applied_mw: None,
            created_at: now,
            expires_at: new
                .start_at
                .map_or(now, |at| at.max(now))
                .saturating_add(ttl),
            principal: principal.map(|p| p.name().to_owned()),
            cancel_requested_at: None,
            cancelled_by: None,
            following: None,
            transitions: Vec::new(),
            split: None,
            limited_to: None,
            replaced: false,
            children: Vec::new(),
        };

        let Some(asset_id) = new.asset_id else {
            let site_id = new
                .site_id
                .ok_or_else(|| invalid("name an asset_id or a site_id"))?;
            let policy = new.split_policy.unwrap_or_default();
            if policy == SplitPolicy::Unknown {
                return Err(invalid(
                    "split_policy must be capacity, headroom, soc or equal",
                ));
            }
            let (shares, mut summary) = self.share(site_id, new.mw, policy, now)?;
            summary.rebalance = new.rebalance;
            let mut parent = order(None, site_id, new.mw);
            parent.split = Some(summary);
            parent.children = shares
                .into_iter()
                .map(|(asset, mw)| Dispatch {
                    parent_id: Some(parent.id),
                    ..order(Some(asset), site_id, mw)
                })
                .collect();
            return Ok(parent);
        };

        if new.split_policy.is_some() {
            return Err(invalid(
                "split_policy is for an order for a site; leave it or asset_id out",
            ));
        }
        if new.rebalance {
            return Err(invalid(
                "rebalance is for an order for a site; leave it or asset_id out",
            ));
        }
        let asset = self
            .fleet
            .asset(asset_id)
            .ok_or(DispatchError::UnknownAsset(asset_id))?;
        if let Some(site) = new.site_id.filter(|site| *site != asset.site_id) {
            return Err(invalid(format!(
                "asset {asset_id} is not in site {site} but in {}; leave site_id out",
                asset.site_id
            )));
        }
        let follow_up = match new.follow_up {
            Some(FollowUp::Value(power)) => power,
            _ => new.mw,
        };
        if let Some(mw) = [new.mw, follow_up]
            .into_iter()
            .find(|mw| !asset.allows(*mw))
        {
            return Err(DispatchError::OutOfRange {
                mw,
                limits: ProblemLimits {
                    asset_id,
                    min_mw: asset.min_mw,
                    max_mw: asset.max_mw,
                },
            });
        }
        if self.limits.is_stopped(asset_id) {
            return Err(DispatchError::Stopped(asset_id));
        }
        Ok(order(Some(asset_id), asset.site_id, new.mw))
    }
}

fn seconds(field: &str, value: Option<f64>) -> Result<Option<Duration>, DispatchError> {
    let Some(value) = value else {
        return Ok(None);
    };
    // A time is told to the microsecond: what is shorter would be 0.
    if !(value.is_finite() && value >= 1e-6) {
        return Err(invalid(format!(
            "{field} must be at least 0.000001; leave it out for the default"
        )));
    }
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| *duration <= MAX_DURATION)
        .map(Some)
        .ok_or_else(|| {
            invalid(format!(
                "{field} must be at most {} s",
                MAX_DURATION.as_secs()
            ))
        })
}

pub(super) fn invalid(text: impl Into<String>) -> DispatchError {
    DispatchError::Invalid(text.into())
}
