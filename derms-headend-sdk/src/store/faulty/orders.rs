//! Faults of orders and their shares.

use std::time::Duration;

use derms_proto::link::SetpointPhase;
use derms_proto::{AssetId, DispatchId, DispatchStatus};

use super::super::{
    AddedShares, Advance, Commit, Idempotency, NewOrder, NewShares, Order, Store, StoreError,
};
use super::{Fault, FaultyStore, unavailable};

impl FaultyStore {
    pub(super) async fn commit_with_fault(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        // A real store takes its time: others run meanwhile.
        tokio::task::yield_now().await;
        if self.has(Fault::CommitFails) {
            return unavailable();
        }
        if self.has(Fault::CommitSlow) {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        if self.has(Fault::KeyApart) {
            return self.commit_apart(order).await;
        }
        if self.has(Fault::SentSuperseded) {
            for open in self.inner.open_orders(None).await? {
                if open.dispatch.asset_id == order.dispatch.asset_id {
                    self.say(&open, SetpointPhase::Superseded).await?;
                }
            }
        }
        let waiting = self.inner.open_orders(None).await?;
        let mut commit = self.inner.commit(order).await?;
        if self.has(Fault::AllSuperseded) && matches!(commit, Commit::New { .. }) {
            // As if every order were for now.
            let same = |open: &&Order| open.dispatch.asset_id == order.dispatch.asset_id;
            let steps = waiting.iter().filter(same).map(|open| Advance {
                id: open.dispatch.id,
                status: DispatchStatus::Superseded,
                at: order.dispatch.created_at,
                reason: None,
                text: None,
                carrier: None,
            });
            let steps: Vec<Advance> = steps.collect();
            let stepped_back = self.inner.advance(&steps).await?;
            if let Commit::New { superseded, .. } = &mut commit {
                superseded.extend(
                    stepped_back
                        .into_iter()
                        .flatten()
                        .map(|order| order.dispatch),
                );
            }
        }
        if self.has(Fault::CommitFailsAfter) {
            return unavailable();
        }
        if self.has(Fault::RevisionsRepeat)
            && let Commit::New { dispatch, .. } = &mut commit
        {
            dispatch.revision = dispatch.revision.map(|_| 1);
        }
        Ok(commit)
    }

    /// The check and the commit in two transactions.
    async fn commit_apart(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        let Some(idempotency) = &order.idempotency else {
            return self.inner.commit(order).await;
        };
        let same = |known: &&(Idempotency, DispatchId)| known.0.key == idempotency.key;
        let known = self.state.lock().keys.iter().find(same).cloned();
        tokio::task::yield_now().await;
        if let Some((known, id)) = known {
            let dispatch = self.inner.dispatch(id).await?;
            return Ok(match dispatch {
                Some(dispatch) if known == *idempotency => Commit::Repeated(Box::new(dispatch)),
                _ => Commit::Conflict,
            });
        }
        let bare = NewOrder {
            idempotency: None,
            ..order.clone()
        };
        let commit = self.inner.commit(&bare).await?;
        self.state
            .lock()
            .keys
            .push((idempotency.clone(), order.dispatch.id));
        Ok(commit)
    }

    pub(super) async fn add_shares_with_fault(
        &self,
        new: &NewShares,
    ) -> Result<Option<AddedShares>, StoreError> {
        tokio::task::yield_now().await;
        let mut new = new.clone();
        if self.has(Fault::SharesBlind) {
            let assets: Vec<AssetId> = new.shares.iter().filter_map(|s| s.asset_id).collect();
            new.seen = self.inner.revisions(&assets).await?;
        }
        if self.has(Fault::ReplacedForgotten) {
            new.replaced.clear();
        }
        let added = self.inner.add_shares(&new).await?;
        if self.has(Fault::SharesSlow) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.has(Fault::CommitFailsAfter) {
            return unavailable();
        }
        Ok(added)
    }

    pub(super) async fn advance_with_fault(
        &self,
        steps: &[Advance],
    ) -> Result<Vec<Option<Order>>, StoreError> {
        tokio::task::yield_now().await;
        self.note(steps.len());
        let sending = is_send(steps);
        if self.has(Fault::AdvanceFails) || (self.has(Fault::SentFails) && sending) {
            return unavailable();
        }
        if self.has(Fault::SentExpires) {
            for step in steps
                .iter()
                .filter(|step| step.status == DispatchStatus::Expired)
            {
                if let Some(order) = self.order(step.id).await? {
                    self.say(&order, SetpointPhase::Expired).await?;
                }
            }
        }
        let mut moved = self.inner.advance(steps).await?;
        if self.has(Fault::AdvanceSlow) {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        if self.has(Fault::SentFailsAfter) && sending {
            return unavailable();
        }
        if self.has(Fault::SentTwice) {
            for (step, moved) in steps.iter().zip(&mut moved) {
                if step.status == DispatchStatus::Sent && moved.is_none() {
                    *moved = self.order(step.id).await?;
                }
            }
        }
        Ok(moved)
    }
}

fn is_send(steps: &[Advance]) -> bool {
    steps.iter().any(|step| step.status == DispatchStatus::Sent)
}
