//! Site orders with `rebalance`: what an asset that drops out can't do any more is shared anew.

mod decide;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use derms_proto::{AssetId, Availability, Dispatch, DispatchId, DispatchStatus, Timestamp};
use tokio::time::Instant;

use super::{Dispatcher, Timer};
use crate::store::{Cancel, NewShares, Order, StoreError};
use decide::{Decision, Out, PAUSE, Plan, REBALANCE, Seat, decide, never_was};

/// Since when assets have been out of reach, as far as it was seen: after a restart of the headend
/// they are looked at anew. Kept while one of their site orders is open.
#[derive(Debug, Default)]
pub(super) struct OutSince(HashMap<DispatchId, BTreeMap<AssetId, (Out, Instant)>>);

impl Dispatcher {
    /// Looks after a site order with `rebalance` from its beginning on.
    pub(super) async fn look_after(&self, order: &Dispatch) {
        if order.split.as_ref().is_some_and(|split| split.rebalance) {
            let begins = order.begins().saturating_since(self.clock.now());
            let timer = Timer::Rebalance(order.id);
            self.timers.set(timer, begins.saturating_add(PAUSE)).await;
        }
    }

    /// Looks whether a part of a site order is missing, and shares it anew.
    pub(super) async fn rebalance(&self, id: DispatchId) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(order) = self.store.dispatch(id).await? else {
            self.out_since.lock().0.remove(&id);
            return Ok(());
        };
        let assets: Vec<_> = order
            .children
            .iter()
            .filter_map(|share| share.asset_id)
            .collect();
        let open = self.store.open_orders(Some(&assets)).await?;
        let decision = decide(&order, &self.seats(&order, &open, now), now);
        match decision {
            Decision::Over => {
                self.out_since.lock().0.remove(&id);
                return Ok(());
            }
            Decision::Wait => {}
            Decision::Withdraw(shares) => self.withdraw(&shares, now).await?,
            Decision::Share(plan) => self.share_anew(&order, plan, now).await?,
        }
        self.timers.set(Timer::Rebalance(id), PAUSE).await;
        Ok(())
    }

    fn seats(
        &self,
        order: &Dispatch,
        open: &[Order],
        now: Timestamp,
    ) -> BTreeMap<AssetId, Seat<'_>> {
        let mut all = self.out_since.lock();
        let since = all.0.entry(order.id).or_default();
        let mut seats = BTreeMap::new();
        for share in &order.children {
            let Some(asset) = share.asset_id.and_then(|id| self.fleet.asset(id)) else {
                continue;
            };
            let session = self.registry.serving(asset.id);
            let said = session.as_ref().and_then(|session| {
                session.availability(&self.present.heartbeats.read(), asset.id)
            });
            let out = match (&session, said) {
                (None, _) => Some(Out::Lost),
                (Some(_), Some(said)) if said != Availability::Available => Some(Out::Unavailable),
                _ => None,
            };
            let out = match out {
                None => {
                    since.remove(&asset.id);
                    None
                }
                Some(out) => {
                    let seen = since.entry(asset.id).or_insert((out, Instant::now()));
                    if seen.0 != out {
                        *seen = (out, Instant::now());
                    }
                    Some((out, seen.1.elapsed()))
                }
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
                out,
                control: control
                    .filter(|control| control.mw.is_some())
                    .map(|control| (control.at, control.dispatch_id)),
                measured: self
                    .measured(asset.id, now)
                    .and_then(|(at, measured)| Some((at, measured.mw?))),
            };
            seats.insert(asset.id, seat);
        }
        seats
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
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(new) = self.new_shares(order, &plan, now) else {
            return Ok(());
        };
        let added = match self.store.add_shares(&new).await {
            Ok(added) => added,
            Err(error) => {
                // Perhaps they were added all the same: nobody will send them.
                for share in &new.shares {
                    self.timers
                        .set(Timer::Withdraw(share.id), Duration::ZERO)
                        .await;
                }
                return Err(error);
            }
        };
        let Some(added) = added else {
            tracing::info!(dispatch = %order.id, "something was ordered meanwhile; looking again");
            return Ok(());
        };
        tracing::warn!(dispatch = %order.id, missing_mw = plan.missing.mw(),
            residual_mw = plan.residual.mw(), shares = added.shares.len(),
            stands_in_for = ?plan.stands_in_for, "site order shared anew");
        self.known
            .lock()
            .add_shares(order.id, &new.split, &added.shares);
        self.committed(&added.shares, added.superseded).await;
        Ok(())
    }

    /// `None`: the revisions of their assets are not known.
    fn new_shares(&self, order: &Dispatch, plan: &Plan, now: Timestamp) -> Option<NewShares> {
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
            replaced: Vec::new(),
        };
        for (asset, mw) in &plan.shares {
            let own = order
                .children
                .iter()
                .filter(|share| share.asset_id == Some(*asset));
            new.seen.push(own.filter_map(|share| share.revision).max()?);
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
        let in_full = plan.residual.mw().abs() < 1e-6 && !new.shares.is_empty();
        if in_full {
            new.replaced.clone_from(&plan.stands_in_for);
            let taken_back = order.children.iter().filter(|share| never_was(share));
            new.replaced.extend(taken_back.map(|share| share.id));
        }
        Some(new)
    }
}
