//! Orders, their keys and revisions, and what agents said of them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use derms_proto::link::Report;
use derms_proto::{AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, Page, Timestamp};
use uuid::Uuid;

use super::super::page::{self, List, Place};
use super::super::{
    AddedShares, Advance, Commit, DispatchQuery, Idempotency, MAX_COUNTER, NewOrder, NewShares,
    Order, ReportAppend, ReportFate, Reported, StoreError, summarise,
};
use super::logs::Logs;

#[derive(Debug)]
pub(super) struct OrderTables {
    keep_ended: usize,
    pub(super) orders: HashMap<DispatchId, Order>,
    /// Site orders without their children, and who these are.
    pub(super) parents: HashMap<DispatchId, (Dispatch, Vec<DispatchId>)>,
    /// Orders that no other is the parent of, by time of commit.
    roots: BTreeSet<Place>,
    by_asset: HashMap<AssetId, BTreeSet<Place>>,
    pub(super) open: HashMap<AssetId, BTreeSet<DispatchId>>,
    /// Open orders that a session of this agent carries, by its epoch.
    carried: HashMap<AgentId, BTreeSet<(u64, DispatchId)>>,
    /// Roots of which nothing is open, in the order in which they ended, and how many orders for
    /// single assets these are.
    ended: VecDeque<DispatchId>,
    ended_leaves: usize,
    pub(super) revisions: HashMap<AssetId, u64>,
    keys: HashMap<String, (String, DispatchId)>,
    key_of: HashMap<DispatchId, String>,
    /// The newest epoch of each agent that is over.
    ended_epochs: HashMap<AgentId, u64>,
    pub(super) logs: Logs,
}

impl OrderTables {
    pub(super) fn new(keep_ended: usize) -> Self {
        Self {
            keep_ended,
            orders: HashMap::new(),
            parents: HashMap::new(),
            roots: BTreeSet::new(),
            by_asset: HashMap::new(),
            open: HashMap::new(),
            carried: HashMap::new(),
            ended: VecDeque::new(),
            ended_leaves: 0,
            revisions: HashMap::new(),
            keys: HashMap::new(),
            key_of: HashMap::new(),
            ended_epochs: HashMap::new(),
            logs: Logs::default(),
        }
    }

    pub(super) fn commit(&mut self, new: &NewOrder) -> Commit {
        if let Some(known) = self.dispatch(new.dispatch.id) {
            return Commit::Repeated(Box::new(known));
        }
        if let Some(idempotency) = &new.idempotency
            && let Some(found) = self.committed(idempotency)
        {
            return found;
        }
        let mut root = new.dispatch.clone();
        let leaves = if root.asset_id.is_some() {
            vec![root.clone()]
        } else {
            std::mem::take(&mut root.children)
        };
        let mut superseded = Vec::new();
        for leaf in &leaves {
            self.take(leaf, &mut superseded);
        }
        self.roots.insert(place(&root));
        if root.asset_id.is_none() {
            let children = leaves.iter().map(|leaf| leaf.id).collect();
            self.parents.insert(root.id, (root.clone(), children));
        }
        if let Some(idempotency) = &new.idempotency {
            let found = (idempotency.fingerprint.clone(), root.id);
            self.keys.insert(idempotency.key.clone(), found);
            self.key_of.insert(root.id, idempotency.key.clone());
        }
        self.forget_oldest();
        Commit::New {
            dispatch: Box::new(self.dispatch(root.id).unwrap_or(root)),
            superseded,
        }
    }

    /// A new order for an asset takes its place.
    fn take(&mut self, leaf: &Dispatch, superseded: &mut Vec<Dispatch>) {
        let Some(asset) = leaf.asset_id else { return };
        self.supersede(asset, leaf, superseded);
        let revision = self.revisions.entry(asset).or_default();
        *revision += 1;
        let order = Order::committed(leaf.clone(), *revision);
        self.by_asset.entry(asset).or_default().insert(place(leaf));
        self.open.entry(asset).or_default().insert(leaf.id);
        self.orders.insert(leaf.id, order);
    }

    pub(super) fn add_shares(&mut self, new: &NewShares) -> Option<AddedShares> {
        let (parent, _) = self.parents.get(&new.parent)?;
        let assets: Vec<AssetId> = new.shares.iter().filter_map(|s| s.asset_id).collect();
        if parent.cancel_requested_at.is_some() || self.revisions(&assets) != new.seen {
            return None;
        }
        let mut superseded = Vec::new();
        for share in &new.shares {
            self.take(share, &mut superseded);
        }
        let (parent, children) = self.parents.get_mut(&new.parent)?;
        parent.split = Some(new.split.clone());
        children.extend(new.shares.iter().map(|share| share.id));
        for id in &*children {
            if let Some(order) = self.orders.get_mut(id) {
                order.dispatch.replaced = new.replaced.contains(id);
            }
        }
        let all = children.clone();
        let mut by_asset: Vec<_> = all
            .into_iter()
            .map(|id| (self.orders.get(&id).and_then(|o| o.dispatch.asset_id), id))
            .collect();
        by_asset.sort();
        if let Some((_, children)) = self.parents.get_mut(&new.parent) {
            *children = by_asset.into_iter().map(|(_, id)| id).collect();
        }
        let added = new
            .shares
            .iter()
            .filter_map(|share| self.orders.get(&share.id));
        Some(AddedShares {
            shares: added.map(|order| order.dispatch.clone()).collect(),
            superseded,
        })
    }

    fn supersede(&mut self, asset: AssetId, newer: &Dispatch, superseded: &mut Vec<Dispatch>) {
        let open: Vec<DispatchId> = self
            .open
            .get(&asset)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for id in open {
            let stepped_back = self.change(id, |order, _| {
                order.supersede(newer).then(|| order.dispatch.clone())
            });
            superseded.extend(stepped_back.flatten());
        }
    }

    pub(super) fn committed(&self, idempotency: &Idempotency) -> Option<Commit> {
        let (fingerprint, id) = self.keys.get(&idempotency.key)?;
        if *fingerprint != idempotency.fingerprint {
            return Some(Commit::Conflict);
        }
        self.dispatch(*id)
            .map(|dispatch| Commit::Repeated(Box::new(dispatch)))
    }

    pub(super) fn advance(&mut self, steps: &[Advance]) -> Vec<Option<Order>> {
        let moved = steps.iter().map(|step| {
            let ended = step.carrier.map(|carrier| self.ended_epoch(carrier.agent));
            let moved = self.change(step.id, |order, known| {
                order
                    .advance(step, ended.unwrap_or(known))
                    .then(|| order.clone())
            });
            moved.flatten()
        });
        let moved = moved.collect();
        self.forget_oldest();
        moved
    }

    pub(super) fn append_reports(&mut self, append: &ReportAppend) -> Vec<ReportFate> {
        let settled = self.logs.move_to(append.agent, append.log, append.next_seq);
        let new = append.entries.iter().filter(|stored| stored.seq >= settled);
        let mut fates = Vec::new();
        for stored in new {
            let Report::Setpoint(report) = &stored.entry.report else {
                fates.push(stored.beside_orders());
                continue;
            };
            let changed = self.change(report.dispatch_id, |order, ended| {
                let reported = order.report(append, &stored.entry, report, ended);
                (reported, Box::new(order.clone()))
            });
            fates.push(match changed {
                Some((Reported::Applied, order)) => ReportFate::Applied(order),
                Some((Reported::Repeated, order)) => ReportFate::Repeated(order),
                Some((Reported::Contradiction(reported), order)) => {
                    ReportFate::Contradiction { order, reported }
                }
                Some((Reported::ReleaseRefused(revision), order)) => {
                    ReportFate::ReleaseRefused { order, revision }
                }
                None | Some((Reported::Foreign, _)) => {
                    ReportFate::UnknownDispatch(report.dispatch_id)
                }
            });
        }
        self.forget_oldest();
        fates
    }

    pub(super) fn mark_in_doubt(&mut self, agent: AgentId, epoch: u64) -> Vec<Order> {
        let ended = self.ended_epochs.entry(agent).or_default();
        *ended = (*ended).max(epoch);
        let last = (*ended, DispatchId::new(Uuid::max()));
        let carried = self.carried.get(&agent).into_iter();
        let ids: Vec<DispatchId> = carried
            .flat_map(|carried| carried.range(..=last))
            .map(|(_, id)| *id)
            .collect();
        let marked = ids.into_iter().filter_map(|id| {
            self.change(id, |order, ended| order.doubt(ended).then(|| order.clone()))
                .flatten()
        });
        marked.collect()
    }

    pub(super) fn mark_dropped(
        &mut self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Vec<Order> {
        let open = assets.iter().filter_map(|asset| self.open.get(asset));
        let ids: Vec<DispatchId> = open.flatten().copied().collect();
        let marked = ids.into_iter().filter_map(|id| {
            self.change(id, |order, _| {
                order.drop_out(agent, epoch).then(|| order.clone())
            })
            .flatten()
        });
        marked.collect()
    }

    /// Marks what sessions up to these carried, and all others that carry anything.
    pub(super) fn abandon(&mut self, sessions: Vec<(AgentId, u64)>) -> Vec<Order> {
        let carried = self.carried.iter();
        let carried = carried.filter_map(|(agent, orders)| Some((*agent, orders.last()?.0)));
        let mut all: Vec<(AgentId, u64)> = carried.collect();
        all.extend(sessions);
        let mut marked = Vec::new();
        for (agent, epoch) in all {
            marked.extend(self.mark_in_doubt(agent, epoch));
        }
        marked
    }

    pub(super) fn confirm(
        &mut self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Vec<Order> {
        let confirmed = in_force.iter().filter_map(|(asset, id)| {
            let confirmed = self.change(*id, |order, ended| {
                order
                    .confirm(agent, *asset, epoch, ended)
                    .then(|| order.clone())
            });
            confirmed.flatten()
        });
        confirmed.collect()
    }

    pub(super) fn dispatch(&self, id: DispatchId) -> Option<Dispatch> {
        if let Some(order) = self.orders.get(&id) {
            return Some(order.dispatch.clone());
        }
        let (parent, children) = self.parents.get(&id)?;
        let mut parent = parent.clone();
        let children = children.iter().filter_map(|child| self.orders.get(child));
        parent.children = children.map(|order| order.dispatch.clone()).collect();
        summarise(&mut parent);
        Some(parent)
    }

    pub(super) fn history(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        let range = page::range(List::Dispatches, &query.page)?;
        let list = match query.asset {
            Some(asset) => self.by_asset.get(&asset),
            None => Some(&self.roots),
        };
        let places = list
            .into_iter()
            .flat_map(|list| list.range(range.clone()).rev());
        let found = places.filter_map(|place| {
            let id = DispatchId::new(Uuid::from_u128(place.id));
            let (site, status) = self.site_and_status(id)?;
            let wanted = query.site.is_none_or(|wanted| wanted == site)
                && query.status.is_none_or(|wanted| wanted == status);
            wanted.then(|| Some((*place, self.dispatch(id)?))).flatten()
        });
        Ok(page::cut(List::Dispatches, query.page.limit, found))
    }

    /// Without a copy of the order: a list may leave out most of what it looks at.
    fn site_and_status(&self, id: DispatchId) -> Option<(derms_proto::SiteId, DispatchStatus)> {
        if let Some(order) = self.orders.get(&id) {
            return Some((order.dispatch.site_id, order.dispatch.status));
        }
        let (parent, children) = self.parents.get(&id)?;
        let children = children.iter().filter_map(|child| self.orders.get(child));
        let children: Vec<&Dispatch> = children.map(|order| &order.dispatch).collect();
        let counting = children
            .iter()
            .filter(|child| child.counts_among(children.iter().copied()));
        let status = DispatchStatus::summary(counting.map(|child| child.status));
        Some((parent.site_id, status.unwrap_or(parent.status)))
    }

    pub(super) fn open_orders(&self, assets: Option<&[AssetId]>) -> Vec<Order> {
        let ids: Vec<&DispatchId> = match assets {
            Some(assets) => {
                let open = assets.iter().filter_map(|asset| self.open.get(asset));
                open.flatten().collect()
            }
            None => self.open.values().flatten().collect(),
        };
        let orders = ids
            .into_iter()
            .filter_map(|id| self.orders.get(id).cloned());
        let mut orders: Vec<Order> = orders.collect();
        orders.sort_by_key(|order| std::cmp::Reverse(order.dispatch.revision));
        orders
    }

    pub(super) fn revisions(&self, assets: &[AssetId]) -> Vec<u64> {
        let revision = |asset| self.revisions.get(asset).copied().unwrap_or(0);
        assets.iter().map(revision).collect()
    }

    pub(super) fn raise_revision(&mut self, asset: AssetId, at_least: u64) {
        let at_least = at_least.min(MAX_COUNTER);
        let revision = self.revisions.entry(asset).or_default();
        *revision = (*revision).max(at_least);
        let mut open: Vec<&DispatchId> = self.open.get(&asset).into_iter().flatten().collect();
        // Several wait if each is for another time: they keep their order.
        open.sort_by_key(|id| {
            self.orders
                .get(id)
                .and_then(|order| order.dispatch.revision)
        });
        for id in open {
            if let Some(order) = self.orders.get_mut(id)
                && order.dispatch.status == DispatchStatus::Pending
                && order.dispatch.revision.is_some_and(|old| old <= at_least)
            {
                *revision += 1;
                order.dispatch.revision = Some(*revision);
            }
        }
    }

    /// Changes an order and keeps the indexes true. The change is told the newest epoch of the
    /// order's agent that is over.
    pub(super) fn change<T>(
        &mut self,
        id: DispatchId,
        f: impl FnOnce(&mut Order, u64) -> T,
    ) -> Option<T> {
        let order = self.orders.get_mut(&id)?;
        let ended = order
            .carrier
            .and_then(|carrier| self.ended_epochs.get(&carrier.agent));
        let (was_open, was) = index(order);
        let result = f(order, ended.copied().unwrap_or(0));
        let (is_open, is) = index(order);
        let (asset, root) = (
            order.dispatch.asset_id,
            order.dispatch.parent_id.unwrap_or(id),
        );
        if was != is {
            if let Some((agent, epoch)) = was
                && let Some(carried) = self.carried.get_mut(&agent)
            {
                carried.remove(&(epoch, id));
            }
            if let Some((agent, epoch)) = is {
                self.carried.entry(agent).or_default().insert((epoch, id));
            }
        }
        if was_open && !is_open {
            if let Some(open) = asset.and_then(|asset| self.open.get_mut(&asset)) {
                open.remove(&id);
            }
            if self
                .site_and_status(root)
                .is_some_and(|(_, status)| status.is_terminal())
            {
                self.ended.push_back(root);
                self.ended_leaves += self.parents.get(&root).map_or(1, |(_, all)| all.len());
            }
        }
        Some(result)
    }

    /// Sizes of what grows with orders; of what is open; of keys.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> ([usize; 4], [usize; 2], [usize; 2]) {
        let assets: usize = self.by_asset.values().map(BTreeSet::len).sum();
        let open = self.open.values().map(BTreeSet::len).sum();
        let carried = self.carried.values().map(BTreeSet::len).sum();
        let (orders, parents) = (self.orders.len(), self.parents.len());
        (
            [orders, parents, self.roots.len(), assets],
            [open, carried],
            [self.keys.len(), self.key_of.len()],
        )
    }

    fn ended_epoch(&self, agent: AgentId) -> u64 {
        self.ended_epochs.get(&agent).copied().unwrap_or(0)
    }

    /// Forgets what ended before this; gives how many orders and site orders that were.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let all = self.orders.len() + self.parents.len();
        let mut kept = VecDeque::new();
        while let Some(root) = self.ended.pop_front() {
            let ended = |id| {
                let order: Option<&Order> = self.orders.get(id);
                let last = order.and_then(|order| order.dispatch.transitions.last());
                last.is_none_or(|step| step.at < before)
            };
            let old = match self.parents.get(&root) {
                Some((_, children)) => children.iter().all(ended),
                None => ended(&root),
            };
            if old {
                self.forget(root);
            } else {
                kept.push_back(root);
            }
        }
        self.ended = kept;
        (all - self.orders.len() - self.parents.len()) as u64
    }

    pub(super) fn forget_oldest(&mut self) {
        while self.ended_leaves > self.keep_ended {
            let Some(root) = self.ended.pop_front() else {
                return;
            };
            self.forget(root);
        }
    }

    fn forget(&mut self, root: DispatchId) {
        let leaves = self.parents.remove(&root).map_or_else(
            || vec![root],
            |(parent, children)| {
                self.roots.remove(&place(&parent));
                children
            },
        );
        self.ended_leaves = self.ended_leaves.saturating_sub(leaves.len());
        for id in leaves {
            let Some(order) = self.orders.remove(&id) else {
                continue;
            };
            let place = place(&order.dispatch);
            self.roots.remove(&place);
            let asset = order.dispatch.asset_id;
            if let Some(list) = asset.and_then(|asset| self.by_asset.get_mut(&asset)) {
                list.remove(&place);
            }
        }
        if let Some(key) = self.key_of.remove(&root) {
            self.keys.remove(&key);
        }
    }
}

fn place(dispatch: &Dispatch) -> Place {
    Place {
        at: dispatch.created_at,
        id: dispatch.id.uuid().as_u128(),
        serial: 0,
    }
}

/// Whether an order is open, and whose session carries it while it is.
fn index(order: &Order) -> (bool, Option<(AgentId, u64)>) {
    let open = !order.dispatch.status.is_terminal();
    let carrier = order.carrier.filter(|_| open);
    (open, carrier.map(|carrier| (carrier.agent, carrier.epoch)))
}
