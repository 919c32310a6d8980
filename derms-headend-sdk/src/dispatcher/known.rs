//! What the dispatcher knows without asking the store: open orders, and the highest revision of
//! each asset. By that an order can be ended while the store is away.

use std::collections::{HashMap, HashSet, VecDeque};

use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus, Power, SplitSummary};

use crate::registry::Session;
use crate::store::{Cancel, Order, summarise};

/// Open orders kept per asset, the newest. Only what an agent never answers gathers; a cancel of
/// what is older needs the store.
const MOST_OPEN: usize = 16;

/// How many orders are known to have ended.
const MOST_ENDED: usize = 4_096;

/// Releases of one order in one session. An agent that refuses them all is at fault.
const MOST_RELEASES: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Known {
    orders: HashMap<DispatchId, Open>,
    sites: HashMap<DispatchId, Site>,
    assets: HashMap<AssetId, OfAsset>,
    /// Cancels that are not stored yet; no more than there were open orders.
    unstored: HashMap<DispatchId, Unstored>,
    /// Orders that have just ended: an answer of the store that comes late does not bring them back.
    ended: HashSet<DispatchId>,
    /// The same, oldest first.
    endings: VecDeque<DispatchId>,
}

/// A site order of which something is open, with all its shares in the order of their [`place`]s.
#[derive(Debug)]
struct Site {
    dispatch: Dispatch,
    /// How many shares have not ended.
    open: usize,
}

#[derive(Debug)]
struct Open {
    order: Order,
    /// Releases up to this revision came too late at the agent.
    refused: u64,
    /// The release that was written last: epoch and revision.
    written: Option<(u64, u64)>,
    /// How many were written in that epoch.
    times: u32,
}

#[derive(Debug, Default)]
struct OfAsset {
    open: Vec<DispatchId>,
    revision: u64,
    /// The highest that was used and that the store does not know of.
    unstored: Option<u64>,
}

/// A cancel that the store could not take.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unstored {
    pub(super) cancel: Cancel,
    /// The order whose cancel was asked for: itself or its site order.
    pub(super) root: DispatchId,
    pub(super) asset: Option<AssetId>,
    /// The revision of the release that was made up for it.
    pub(super) release: Option<u64>,
}

/// A release that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) id: DispatchId,
    pub(super) asset: AssetId,
    pub(super) revision: u64,
}

impl Known {
    /// A site order that is not known yet, or not any more.
    pub(super) fn site(&mut self, site: &Dispatch) {
        if self.sites.contains_key(&site.id) {
            return;
        }
        let shares = site.children.iter();
        let is_open =
            |share: &&Dispatch| !share.status.is_terminal() && !self.ended.contains(&share.id);
        let open = shares.filter(is_open).count();
        if open > 0 {
            let mut dispatch = site.clone();
            dispatch.children.sort_by_key(place);
            self.sites.insert(site.id, Site { dispatch, open });
        }
    }

    /// A site order is split like this from now on, and the place of these shares is taken. Answers it
    /// as it stands; `None` when nothing of it was known to be open.
    pub(super) fn resplit(
        &mut self,
        id: DispatchId,
        split: &SplitSummary,
        replaced: &[DispatchId],
    ) -> Option<Dispatch> {
        let site = &mut self.sites.get_mut(&id)?.dispatch;
        site.split = Some(split.clone());
        for share in &mut site.children {
            share.replaced = replaced.contains(&share.id);
        }
        self.whole(id)
    }

    /// The cancel of a site order, or of a share of it, that the store may not know of yet.
    pub(super) fn ending(&self, id: DispatchId) -> Option<Cancel> {
        let site = &self.sites.get(&id)?.dispatch;
        let of_site = site.cancel_requested_at.map(|at| Cancel {
            id,
            at,
            principal: site.cancelled_by.clone(),
            above: 0,
        });
        let of_share = || {
            let mut shares = site.children.iter();
            let unstored = shares.find_map(|share| self.unstored.get(&share.id))?;
            Some(unstored.cancel.clone())
        };
        of_site.or_else(of_share)
    }

    /// An open order for an asset.
    pub(super) fn order(&self, id: DispatchId) -> Option<&Dispatch> {
        Some(&self.orders.get(&id)?.order.dispatch)
    }

    /// Whether the release of an order was written to the session of this epoch.
    pub(super) fn is_released(&self, id: DispatchId, epoch: u64) -> bool {
        let written = self.orders.get(&id).and_then(|open| open.written);
        written.is_some_and(|(of, _)| of == epoch)
    }

    /// An order as it stands. What is older than what is known changes nothing.
    pub(super) fn note(&mut self, order: &Order) {
        let dispatch = &order.dispatch;
        let Some(asset) = dispatch.asset_id else {
            return;
        };
        self.raise(asset, dispatch.revision.max(order.release).unwrap_or(0));
        let id = dispatch.id;
        if self.ended.contains(&id) {
            return;
        }
        let known = self.orders.get(&id).map(|open| &open.order.dispatch);
        if known.is_some_and(|known| known.transitions.len() > dispatch.transitions.len()) {
            return;
        }
        let mut order = order.clone();
        // Answers of the store may overtake each other: what was asked for is not taken back.
        if let Some(open) = self.orders.get(&id) {
            order.release = order.release.max(open.order.release);
            if order.dispatch.cancel_requested_at.is_none() {
                let known = &open.order.dispatch;
                order.dispatch.cancel_requested_at = known.cancel_requested_at;
                order.dispatch.cancelled_by.clone_from(&known.cancelled_by);
            }
        }
        if let Some(unstored) = self.unstored.get(&id)
            && order.dispatch.cancel_requested_at.is_none()
        {
            order.dispatch.cancel_requested_at = Some(unstored.cancel.at);
            order.dispatch.cancelled_by = unstored.cancel.principal.clone();
        }
        if let Some(parent) = dispatch.parent_id
            && let Some(site) = self.sites.get_mut(&parent)
        {
            site.note(&order.dispatch);
            if site.open == 0 {
                self.sites.remove(&parent);
            }
        }
        if dispatch.status.is_terminal() {
            self.forget(id, asset);
            self.end(id);
        } else {
            self.keep(order, asset);
        }
    }

    /// Where the open orders stand.
    pub(super) fn statuses(&self) -> impl Iterator<Item = DispatchStatus> {
        let orders = self.orders.values();
        orders.map(|open| open.order.dispatch.status)
    }

    fn end(&mut self, id: DispatchId) {
        self.ended.insert(id);
        self.endings.push_back(id);
        if self.endings.len() > MOST_ENDED
            && let Some(oldest) = self.endings.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    fn keep(&mut self, order: Order, asset: AssetId) {
        let id = order.dispatch.id;
        if let Some(open) = self.orders.get_mut(&id) {
            open.order = order;
            return;
        }
        let open = Open {
            order,
            refused: 0,
            written: None,
            times: 0,
        };
        self.orders.insert(id, open);
        let of_asset = self.assets.entry(asset).or_default();
        of_asset.open.push(id);
        if of_asset.open.len() <= MOST_OPEN {
            return;
        }
        let revision = |id: &DispatchId| Some(self.orders.get(id)?.order.dispatch.revision);
        let oldest = of_asset.open.iter().copied().min_by_key(revision);
        if let Some(oldest) = oldest {
            self.forget(oldest, asset);
        }
    }

    fn forget(&mut self, id: DispatchId, asset: AssetId) {
        self.orders.remove(&id);
        if let Some(of_asset) = self.assets.get_mut(&asset) {
            of_asset.open.retain(|open| *open != id);
        }
    }

    /// This revision of an asset is taken.
    pub(super) fn raise(&mut self, asset: AssetId, revision: u64) {
        let highest = &mut self.assets.entry(asset).or_default().revision;
        *highest = revision.max(*highest);
    }

    /// An order as it was told last, a site order with its shares; `None` when nothing of it is
    /// open or known.
    pub(super) fn whole(&self, id: DispatchId) -> Option<Dispatch> {
        let order = || Some(self.orders.get(&id)?.order.dispatch.clone());
        let site = || {
            let mut dispatch = self.sites.get(&id)?.dispatch.clone();
            summarise(&mut dispatch);
            Some(dispatch)
        };
        site().or_else(order)
    }

    /// Takes a cancel that the store did not: every open order that it means is held back or
    /// released. Answers those for which it is new.
    pub(super) fn cancel(&mut self, cancel: &Cancel) -> Vec<DispatchId> {
        let ids = match self.sites.get(&cancel.id) {
            Some(site) => site
                .dispatch
                .children
                .iter()
                .map(|share| share.id)
                .collect(),
            None => vec![cancel.id],
        };
        let mut new = Vec::new();
        for id in ids {
            let Some(open) = self.orders.get(&id) else {
                continue;
            };
            if open.order.dispatch.cancel_requested_at.is_some() {
                continue;
            }
            let mut order = open.order.clone();
            let unstored = Unstored {
                cancel: Cancel {
                    id,
                    ..cancel.clone()
                },
                root: cancel.id,
                asset: order.dispatch.asset_id,
                release: self.next_release(&order),
            };
            order.release = unstored.release.or(order.release);
            self.unstored.insert(id, unstored);
            self.note(&order);
            new.push(id);
        }
        if let Some(Site { dispatch, .. }) = self.sites.get_mut(&cancel.id)
            && dispatch.cancel_requested_at.is_none()
        {
            dispatch.cancel_requested_at = Some(cancel.at);
            dispatch.cancelled_by.clone_from(&cancel.principal);
        }
        new
    }

    /// A revision for the release of what was sent, unless a newer order is in its way.
    fn next_release(&mut self, order: &Order) -> Option<u64> {
        let asset = order.dispatch.asset_id?;
        let waits = order.dispatch.status == DispatchStatus::Pending;
        if waits || order.release.is_some() || self.is_passed(order) {
            return None;
        }
        let of_asset = self.assets.entry(asset).or_default();
        of_asset.revision += 1;
        of_asset.unstored = Some(of_asset.revision);
        of_asset.unstored
    }

    fn is_passed(&self, order: &Order) -> bool {
        let asset = order.dispatch.asset_id.and_then(|id| self.assets.get(&id));
        let open = asset.into_iter().flat_map(|of_asset| &of_asset.open);
        let mut others = open.filter_map(|id| self.orders.get(id));
        others.any(|other| other.order.has_passed(order))
    }

    /// What the store does not know yet of a cancel.
    pub(super) fn unstored(&self, id: DispatchId) -> Option<Unstored> {
        self.unstored.get(&id).cloned()
    }

    /// The store has it now.
    pub(super) fn stored(&mut self, id: DispatchId) {
        self.unstored.remove(&id);
    }

    /// The highest revision of an asset that was used and that the store does not know of.
    pub(super) fn unstored_revision(&self, asset: AssetId) -> Option<u64> {
        self.assets.get(&asset)?.unstored
    }

    /// The store counts on from above this.
    pub(super) fn stored_revision(&mut self, asset: AssetId, revision: u64) {
        if let Some(of_asset) = self.assets.get_mut(&asset) {
            of_asset.unstored = of_asset.unstored.filter(|used| *used > revision);
        }
    }

    /// Whether an order must not be sent any more: its end was asked for, or has come.
    pub(super) fn is_over(&self, id: DispatchId) -> bool {
        let open = self.orders.get(&id);
        let asked = |open: &Open| open.order.dispatch.cancel_requested_at.is_some();
        self.unstored.contains_key(&id) || self.ended.contains(&id) || open.is_some_and(asked)
    }

    /// Releases of these assets that this session must be given, oldest first.
    pub(super) fn due(&self, session: &Session, assets: &[AssetId]) -> Vec<Due> {
        let of_assets = assets.iter().filter_map(|asset| self.assets.get(asset));
        let open = of_assets.flat_map(|of_asset| &of_asset.open);
        let due = open.filter_map(|id| self.due_of(session, self.orders.get(id)?));
        let mut due: Vec<Due> = due.collect();
        due.sort_by_key(|due| due.revision);
        due
    }

    fn due_of(&self, session: &Session, open: &Open) -> Option<Due> {
        let revision = open.usable_release()?;
        let written = open.written == Some((session.epoch, revision));
        (open.can_be_released_in(session) && !written).then_some(Due {
            id: open.order.dispatch.id,
            asset: open.order.dispatch.asset_id?,
            revision,
        })
    }

    /// Open orders of these assets that were sent and whose end nobody asked for.
    pub(super) fn in_hand(&self, assets: &[AssetId]) -> Vec<(DispatchId, AssetId, Power)> {
        let of_assets = assets.iter().filter_map(|asset| self.assets.get(asset));
        let open = of_assets.flat_map(|of_asset| &of_asset.open);
        let orders = open.filter_map(|id| Some(&self.orders.get(id)?.order.dispatch));
        let sent = orders.filter(|order| {
            order.status != DispatchStatus::Pending && order.cancel_requested_at.is_none()
        });
        sent.filter_map(|order| Some((order.id, order.asset_id?, order.mw)))
            .collect()
    }

    /// A release was written to the session of this epoch.
    pub(super) fn written(&mut self, due: Due, epoch: u64) {
        if let Some(open) = self.orders.get_mut(&due.id) {
            let same = open.written.is_some_and(|(before, _)| before == epoch);
            open.times = if same { open.times + 1 } else { 1 };
            open.written = Some((epoch, due.revision));
        }
    }

    /// The agent had a newer command before this release.
    pub(super) fn refused(&mut self, id: DispatchId, revision: u64) {
        if let Some(open) = self.orders.get_mut(&id) {
            open.refused = open.refused.max(revision);
        }
    }

    /// The cancels that this session has no release for that could still do something, though
    /// nothing is in its way: they are to be asked for again.
    pub(super) fn without_release(&self, session: &Session, assets: &[AssetId]) -> Vec<Cancel> {
        let of_assets = assets.iter().filter_map(|asset| self.assets.get(asset));
        let open = of_assets.flat_map(|of_asset| &of_asset.open);
        let open = open.filter_map(|id| self.orders.get(id));
        let wanting = open.filter_map(|open| {
            let order = &open.order;
            let at = order.dispatch.cancel_requested_at?;
            let wanting = open.usable_release().is_none()
                && open.can_be_released_in(session)
                && !self.is_passed(order);
            wanting.then(|| Cancel {
                id: order.dispatch.id,
                at,
                principal: order.dispatch.cancelled_by.clone(),
                above: open.refused,
            })
        });
        wanting.collect()
    }
}

/// The place of a share in its site order.
const fn place(share: &Dispatch) -> (Option<AssetId>, DispatchId) {
    (share.asset_id, share.id)
}

impl Site {
    fn note(&mut self, share: &Dispatch) {
        let shares = &mut self.dispatch.children;
        let found = shares.binary_search_by_key(&place(share), place);
        let index = match found {
            Ok(index) => index,
            // It was added.
            Err(index) => {
                shares.insert(index, share.clone());
                self.open += usize::from(!share.status.is_terminal());
                return;
            }
        };
        if let Some(known) = shares.get_mut(index) {
            if share.status.is_terminal() && !known.status.is_terminal() {
                self.open -= 1;
            }
            known.clone_from(share);
        }
    }
}

impl Open {
    /// Its release, unless that came too late.
    fn usable_release(&self) -> Option<u64> {
        self.order.release.filter(|given| *given > self.refused)
    }

    /// Only the agent that has it can end it, and only in the memory in which it has it.
    fn can_be_released_in(&self, session: &Session) -> bool {
        let tried = self
            .written
            .is_some_and(|(epoch, _)| epoch == session.epoch);
        let same_memory = self.order.carrier.is_some_and(|carrier| {
            carrier.agent == session.agent_id
                && carrier.report_log == session.report_log
                && carrier.epoch <= session.epoch
        });
        same_memory && !(tried && self.times >= MOST_RELEASES)
    }
}

#[cfg(test)]
impl Known {
    /// Sizes of everything that could grow.
    pub(super) fn sizes(&self) -> [usize; 4] {
        let open = self.assets.values().map(|of_asset| of_asset.open.len());
        [
            self.orders.len(),
            self.sites.len(),
            open.sum(),
            self.unstored.len(),
        ]
    }
}
