//! Site orders with `rebalance`: what an asset that drops out can't do any more is shared anew.

mod decide;

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};
use std::time::Duration;

use derms_proto::{AssetId, Availability, Dispatch, DispatchId, DispatchStatus, Timestamp};
use tokio::time::Instant;

use super::delivery::lease;
use super::{Dispatcher, Timer, unsent};
use crate::store::{Cancel, NewShares, Order, StoreError};
use decide::{Decision, Out, PAUSE, Plan, REBALANCE, Seat, decide};

/// A look waits no longer than this for each answer of the store: others are to be looked at, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// The site orders that are looked after.
#[derive(Debug, Default)]
pub(super) struct Looked(HashMap<DispatchId, Look>);

#[derive(Debug, Default)]
struct Look {
    /// When the order is over by a clock that nobody sets; `None`: it has no end.
    until: Option<Instant>,
    /// Since when assets have been out of reach, as far as it was seen: after a restart of the headend
    /// they are looked at anew.
    out: BTreeMap<AssetId, (Out, Instant)>,
}

impl Dispatcher {
    /// Looks after a site order with `rebalance` from its beginning on.
    pub(super) async fn look_after(&self, order: &Dispatch) {
        if order.split.as_ref().is_some_and(|split| split.rebalance) {
            let now = self.clock.now();
            let over = lease(order).map(|lease| order.begins().saturating_add(lease));
            let left = over.map(|over| over.saturating_since(now));
            let look = Look {
                until: left.and_then(|left| Instant::now().checked_add(left)),
                out: BTreeMap::new(),
            };
            match self.looked.lock().0.entry(order.id) {
                Entry::Occupied(_) => return,
                Entry::Vacant(vacant) => drop(vacant.insert(look)),
            }
            let begins = order.begins().saturating_since(now);
            let timer = Timer::Rebalance(order.id);
            self.timers.set(timer, begins.saturating_add(PAUSE)).await;
        }
    }

    /// Looks whether a part of a site order is missing, and shares it anew.
    pub(super) async fn rebalance(&self, id: DispatchId) -> Result<(), StoreError> {
        let known = self.known.lock().whole(id);
        let over = match known {
            Some(known) => self.look_at(&known).await?,
            None => self.look_for(id).await?,
        };
        if over {
            self.looked.lock().0.remove(&id);
        } else {
            self.timers.set(Timer::Rebalance(id), PAUSE).await;
        }
        Ok(())
    }

    /// An order that may have been committed although the store said that it failed. `true`: it was
    /// not, or it is over.
    async fn look_for(&self, id: DispatchId) -> Result<bool, StoreError> {
        let order = in_time(self.store.dispatch(id)).await?;
        let order = order.filter(|order| !order.status.is_terminal());
        if let Some(order) = &order {
            self.known.lock().site(order);
        }
        Ok(order.is_none())
    }

    /// `true`: nothing will ever be done for it again.
    async fn look_at(&self, known: &Dispatch) -> Result<bool, StoreError> {
        let id = known.id;
        let out = self.out_of_reach(known);
        if self.known.lock().ending(id).is_some() || is_at_work(known, &out) {
            return Ok(false);
        }
        let assets: BTreeSet<AssetId> = known.children.iter().filter_map(|s| s.asset_id).collect();
        let assets: Vec<AssetId> = assets.into_iter().collect();
        in_time(self.raise_unstored(&assets)).await?;
        // Before all that is decided by: whatever is ordered from here on raises one.
        let revisions = in_time(self.store.revisions(&assets)).await?;
        let revisions: BTreeMap<AssetId, u64> = assets.iter().copied().zip(revisions).collect();
        let now = self.clock.now();
        let Some(order) = in_time(self.store.dispatch(id)).await? else {
            return Ok(true);
        };
        let open = in_time(self.store.open_orders(Some(&assets))).await?;
        self.take_up_cancels(&order);
        let seats = self.seats(&order, &open, &out, now);
        let until = self.looked.lock().0.get(&id).and_then(|look| look.until);
        let at_most = until.map(|until| until.saturating_duration_since(Instant::now()));
        match decide(&order, &seats, now, at_most) {
            Decision::Over => return Ok(true),
            Decision::Wait => {}
            Decision::Withdraw(shares) => self.withdraw(&shares, now).await?,
            Decision::Share(plan) => self.share_anew(&order, plan, &revisions, now).await?,
        }
        Ok(false)
    }

    /// A cancel that the store has, though its answer was lost: the sessions' replays find it, and give
    /// the releases.
    fn take_up_cancels(&self, order: &Dispatch) {
        for share in &order.children {
            let asked = share.cancel_requested_at.is_some() && !share.status.is_terminal();
            if asked && !self.known.lock().is_over(share.id) {
                let session = share.asset_id.and_then(|id| self.registry.serving(id));
                if let Some(session) = session {
                    session.mailbox.starve();
                }
            }
        }
    }

    /// Which assets of an order are out of reach, and for how long.
    fn out_of_reach(&self, order: &Dispatch) -> BTreeMap<AssetId, (Out, Duration)> {
        let mut all = self.looked.lock();
        let since = &mut all.0.entry(order.id).or_default().out;
        let mut outs = BTreeMap::new();
        for asset in order.children.iter().filter_map(|share| share.asset_id) {
            let session = self.registry.serving(asset);
            let said = session
                .as_ref()
                .and_then(|session| session.availability(&self.present.heartbeats.read(), asset));
            let out = match (&session, said) {
                (None, _) => Out::Lost,
                (Some(_), Some(said)) if said != Availability::Available => Out::Unavailable,
                _ => {
                    since.remove(&asset);
                    continue;
                }
            };
            let seen = since.entry(asset).or_insert((out, Instant::now()));
            if seen.0 != out {
                *seen = (out, Instant::now());
            }
            let mut time = seen.1.elapsed();
            if out == Out::Lost {
                // A session may have come and gone between two looks.
                time = time.min(self.registry.unserved(asset));
            }
            outs.insert(asset, (out, time));
        }
        outs
    }

    fn seats(
        &self,
        order: &Dispatch,
        open: &[Order],
        out: &BTreeMap<AssetId, (Out, Duration)>,
        now: Timestamp,
    ) -> BTreeMap<AssetId, Seat<'_>> {
        let mut seats = BTreeMap::new();
        for share in &order.children {
            let Some(asset) = share.asset_id.and_then(|id| self.fleet.asset(id)) else {
                continue;
            };
            let others = open.iter().any(|other| {
                other.dispatch.asset_id == share.asset_id
                    && other.dispatch.parent_id != Some(order.id)
            });
            let mut member = self.member(asset, now);
            if let Some((min, max)) = self.limits.range(asset.id) {
                (member.min_mw, member.max_mw) = (min, max);
            }
            let control = self.limits.control(asset.id);
            let seat = Seat {
                asset,
                member,
                free: !others && !self.limits.is_stopped(asset.id),
                out: out.get(&asset.id).copied(),
                control: control
                    .filter(|control| control.mw.is_some())
                    .map(|control| (control.at, control.dispatch_id)),
                measured: self
                    .measured(asset.id, now)
                    .and_then(|(at, measured)| Some((at, measured.mw?))),
                released: self.released(order, asset.id),
            };
            seats.insert(asset.id, seat);
        }
        seats
    }

    /// The shares of an asset whose release the session that serves it was given.
    fn released(&self, order: &Dispatch, asset: AssetId) -> Vec<DispatchId> {
        let Some(session) = self.registry.serving(asset) else {
            return Vec::new();
        };
        let known = self.known.lock();
        let own = order
            .children
            .iter()
            .filter(|share| share.asset_id == Some(asset));
        let released = own.filter(|share| known.is_released(share.id, session.epoch));
        released.map(|share| share.id).collect()
    }

    /// The shares of assets that are out of reach must not come back while others stand in for them.
    async fn withdraw(&self, shares: &[DispatchId], now: Timestamp) -> Result<(), StoreError> {
        tracing::warn!(
            ?shares,
            "assets of a site order have dropped out; their shares are ended"
        );
        let cancels: Vec<Cancel> = shares
            .iter()
            .map(|id| Cancel {
                id: *id,
                at: now,
                principal: Some(REBALANCE.to_owned()),
                above: 0,
            })
            .collect();
        self.store_cancels(&cancels).await.map(drop)
    }

    async fn share_anew(
        &self,
        order: &Dispatch,
        plan: Plan,
        revisions: &BTreeMap<AssetId, u64>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let new = self.new_shares(order, &plan, revisions, now);
        if self.known.lock().ending(order.id).is_some() {
            return Ok(());
        }
        let added = match in_time(self.store.add_shares(&new)).await {
            Ok(added) => added,
            Err(error) => {
                // Perhaps they were added all the same.
                for share in &new.shares {
                    self.watch(share).await;
                    self.timers
                        .set(Timer::Withdraw(share.id), Duration::ZERO)
                        .await;
                }
                return Err(error);
            }
        };
        let Some(added) = added else {
            tracing::info!(dispatch_id = %order.id, "something was ordered meanwhile; looking again");
            return Ok(());
        };
        tracing::warn!(dispatch_id = %order.id, missing_mw = plan.missing.mw(),
            residual_mw = plan.residual.mw(), shares = added.shares.len(),
            stands_in_for = ?plan.stands_in_for, "site order shared anew");
        self.take_back_if_ending(order.id, &added.shares).await;
        self.committed(&added.shares, added.superseded).await;
        let known = self
            .known
            .lock()
            .resplit(order.id, &new.split, &new.replaced);
        let whole = match known {
            Some(whole) => Some(whole),
            // All that was known of it has ended meanwhile.
            None => in_time(self.store.dispatch(order.id)).await?,
        };
        if let Some(whole) = whole {
            self.known.lock().site(&whole);
            self.tell(whole);
        }
        Ok(())
    }

    /// The end of the order, or of one of its shares, was asked for while the store was away: what was
    /// added meanwhile ends, too, before it goes out.
    async fn take_back_if_ending(&self, id: DispatchId, shares: &[Dispatch]) {
        let mut ended = Vec::new();
        {
            let mut known = self.known.lock();
            for share in shares {
                known.note(&unsent(share.clone()));
            }
            if let Some(cancel) = known.ending(id) {
                for share in shares {
                    let id = share.id;
                    ended.extend(known.cancel(&Cancel {
                        id,
                        ..cancel.clone()
                    }));
                }
            }
        }
        for id in ended {
            self.timers.set(Timer::Store(id), Duration::ZERO).await;
        }
    }

    fn new_shares(
        &self,
        order: &Dispatch,
        plan: &Plan,
        revisions: &BTreeMap<AssetId, u64>,
        now: Timestamp,
    ) -> NewShares {
        let ttl = plan
            .remaining
            .into_iter()
            .chain(Duration::try_from_secs_f64(order.ttl_s).ok())
            .fold(self.config.start_window, Duration::min);
        let mut new = NewShares {
            parent: order.id,
            split: plan.split.clone(),
            shares: Vec::new(),
            seen: Vec::new(),
            replaced: plan.replaced.clone(),
        };
        for (asset, mw) in &plan.shares {
            new.seen.push(revisions.get(asset).copied().unwrap_or(0));
            new.shares.push(Dispatch {
                id: DispatchId::generate(),
                parent_id: Some(order.id),
                asset_id: Some(*asset),
                mw: *mw,
                duration_s: plan.remaining.map(|left| left.as_secs_f64()),
                ttl_s: ttl.as_secs_f64(),
                start_at: None,
                created_at: now,
                expires_at: now.saturating_add(ttl),
                status: DispatchStatus::Pending,
                in_doubt: false,
                split: None,
                children: Vec::new(),
                ..order.clone()
            });
        }
        if let Some(resplit) = new
            .split
            .resplits
            .last_mut()
            .filter(|_| !new.shares.is_empty())
        {
            resplit.shares = new.shares.iter().map(|share| share.id).collect();
        }
        new
    }
}

/// Whether all of its shares that count are open, and their assets within reach.
fn is_at_work(order: &Dispatch, out: &BTreeMap<AssetId, (Out, Duration)>) -> bool {
    let mut counting = order
        .children
        .iter()
        .filter(|share| share.counts_among(&order.children));
    counting.all(|share| {
        let asked = share.status.is_terminal() || share.cancel_requested_at.is_some();
        !asked
            && share
                .asset_id
                .is_some_and(|asset| !out.contains_key(&asset))
    })
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| {
        Err(StoreError::Unavailable {
            context: "a look at a site order took too long".to_owned(),
            source: None,
        })
    })
}
