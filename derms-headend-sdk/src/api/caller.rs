//! Who is calling, and what of the fleet they may see. What they may not see is answered as if it
//! were not there.

use axum::extract::FromRequestParts;
use derms_proto::{
    AgentStatus, Asset, AssetId, Dispatch, NewDispatch, NewStop, PowerLimit, Problem, ProblemCode,
    SessionRecord, SiteId, Stop, StopScope,
};
use http::request::Parts;

use super::problem::Failure;
use crate::auth::Principal;
use crate::core::Core;
use crate::dispatcher::DispatchError;
use crate::limits::StopError;

/// Who is calling, if they are asked or a layer in front said so.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Option<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Caller {
    /// Whether all of the fleet is open to them.
    pub(super) fn is_unlimited(&self) -> bool {
        self.0.as_ref().is_none_or(|who| who.sites().is_none())
    }

    pub(super) fn sees(&self, site: SiteId) -> bool {
        self.0.as_ref().is_none_or(|who| who.covers(site))
    }

    /// An asset that the fleet does not have any more is seen by those who see all.
    pub(super) fn sees_asset(&self, core: &Core, asset: AssetId) -> bool {
        let site = core.fleet.asset(asset).map(|asset| asset.site_id);
        self.is_unlimited() || site.is_some_and(|site| self.sees(site))
    }

    /// Whether a list of this asset or site may be looked through for them: where the next page
    /// would start tells of what is there.
    pub(super) fn sees_filter(
        &self,
        core: &Core,
        asset: Option<AssetId>,
        site: Option<SiteId>,
    ) -> bool {
        asset.is_none_or(|asset| self.sees_asset(core, asset))
            && site.is_none_or(|site| self.sees(site))
    }

    /// The asset, or the problem that there is none.
    pub(super) fn asset<'a>(&self, core: &'a Core, id: AssetId) -> Result<&'a Asset, Failure> {
        let asset = core.fleet.asset(id);
        asset
            .filter(|asset| self.sees(asset.site_id))
            .ok_or_else(|| {
                let text = format!("no asset {id} in the fleet; see GET /assets");
                Problem::new(ProblemCode::UnknownAsset, text).into()
            })
    }

    /// The assets that they see.
    pub(super) fn assets<'a>(&self, core: &'a Core) -> impl Iterator<Item = &'a Asset> {
        let all = core.fleet.assets().iter();
        all.filter(|asset| self.sees(asset.site_id))
    }

    /// An order that has not ended is that of the site to which its asset belongs now.
    pub(super) fn sees_dispatch(&self, core: &Core, dispatch: &Dispatch) -> bool {
        let ended = dispatch.status.is_terminal();
        self.sees_order(core, dispatch.asset_id, dispatch.site_id, ended)
    }

    /// The same, of an order of which only this is at hand.
    pub(super) fn sees_order(
        &self,
        core: &Core,
        asset: Option<AssetId>,
        site: SiteId,
        ended: bool,
    ) -> bool {
        match asset.filter(|_| !ended) {
            Some(asset) => self.sees_asset(core, asset),
            None => self.sees(site),
        }
    }

    /// A limit that holds is that of the site to which its asset belongs now.
    pub(super) fn sees_limit(&self, core: &Core, limit: &PowerLimit) -> bool {
        if limit.status.has_ended() {
            self.sees(limit.site_id)
        } else {
            self.sees_asset(core, limit.asset_id)
        }
    }

    /// An event is that of the site that it was of; one of none is for those who see all.
    pub(super) fn sees_event(
        &self,
        core: &Core,
        asset: Option<AssetId>,
        site: Option<SiteId>,
    ) -> bool {
        match (site, asset) {
            (Some(site), _) => self.sees(site),
            (None, Some(asset)) => self.sees_asset(core, asset),
            (None, None) => self.is_unlimited(),
        }
    }

    /// Whether a stop holds something that they see.
    pub(super) fn sees_stop(&self, core: &Core, stop: &Stop) -> bool {
        match stop.scope() {
            StopScope::Asset(asset) => self.sees_asset(core, asset),
            StopScope::Site(site) => self.sees(site),
            // It holds their assets, too.
            _ => true,
        }
    }

    /// Of an agent they see the assets that are theirs; one that has none of them is not there.
    pub(super) fn of_agent(&self, core: &Core, mut agent: AgentStatus) -> Option<AgentStatus> {
        if self.is_unlimited() {
            return Some(agent);
        }
        agent.assets.retain(|asset| self.sees_asset(core, asset.id));
        (!agent.assets.is_empty()).then_some(agent)
    }

    /// `left`: what it does not serve any more.
    pub(super) fn of_session(
        &self,
        core: &Core,
        mut session: SessionRecord,
        left: &[AssetId],
    ) -> Option<SessionRecord> {
        if self.is_unlimited() {
            return Some(session);
        }
        session.assets.retain(|asset| self.sees_asset(core, *asset));
        let mut left = left.iter();
        let seen = !session.assets.is_empty() || left.any(|asset| self.sees_asset(core, *asset));
        seen.then_some(session)
    }

    /// An order for something else than theirs is one for something that is not there.
    pub(super) fn check_order(&self, core: &Core, new: &NewDispatch) -> Result<(), Failure> {
        if self.is_unlimited() {
            return Ok(());
        }
        match (new.asset_id, new.site_id) {
            (Some(asset), _) if !self.sees_asset(core, asset) => {
                Err(DispatchError::UnknownAsset(asset).into())
            }
            (_, Some(site)) if !self.sees(site) => Err(DispatchError::UnknownSite(site).into()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_stop(&self, core: &Core, new: &NewStop) -> Result<(), Failure> {
        if self.is_unlimited() {
            return Ok(());
        }
        match (new.asset_id, new.site_id) {
            (Some(asset), _) if !self.sees_asset(core, asset) => {
                Err(StopError::UnknownAsset(asset).into())
            }
            (_, Some(site)) if !self.sees(site) => Err(StopError::UnknownSite(site).into()),
            _ if new.all => Err(Self::needs_all()),
            _ => Ok(()),
        }
    }

    /// What a limited caller is told of a stop that holds more than they see.
    pub(super) fn needs_all() -> Failure {
        let text = "this is for all sites, and you are limited to some";
        Problem::new(ProblemCode::Forbidden, text).into()
    }
}
