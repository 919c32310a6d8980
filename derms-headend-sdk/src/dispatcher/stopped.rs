//! Orders for assets that are stopped: those that wait are cancelled, those that were sent are
//! their agents' to end and to tell.

use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus, ReasonCode, Timestamp};

use super::Dispatcher;
use crate::auth::Principal;
use crate::store::{Advance, StoreError};

/// Who asks for the end of an order at an agent that can't be stopped:
/// [`cancelled_by`](Dispatch::cancelled_by).
const STOP: &str = "stop";

/// Orders that are cancelled in one call.
const AT_ONCE: usize = 256;

impl Dispatcher {
    /// Cancels orders that wait for stopped assets, if there may be any.
    pub(crate) async fn cancel_stopped(&self) -> Result<(), StoreError> {
        let Some(wanted) = self.limits.orders_to_end() else {
            return Ok(());
        };
        let stopped: Vec<AssetId> = self.limits.stopped();
        self.release_what_cannot_be_held(&stopped).await?;
        let now = self.clock.now();
        let open = self.store.open_orders(Some(&stopped)).await?;
        let waiting = open
            .iter()
            .filter(|order| order.dispatch.status == DispatchStatus::Pending);
        let steps: Vec<Advance> = waiting
            .map(|order| cancellation(order.dispatch.id, now))
            .collect();
        for steps in steps.chunks(AT_ONCE) {
            self.advance(steps).await?;
        }
        self.limits.orders_ended(wanted);
        Ok(())
    }

    /// An agent that can't be stopped is at least asked to end what it has in hand: its device goes to
    /// the default. Where that is further from 0 MW than the order it is left as it is. Needs no store.
    async fn release_what_cannot_be_held(&self, stopped: &[AssetId]) -> Result<(), StoreError> {
        let in_hand = self.known.lock().in_hand(stopped);
        for (id, asset, mw) in in_hand {
            let cannot = self
                .registry
                .serving(asset)
                .is_some_and(|session| !session.capabilities.limits);
            let default = self
                .fleet
                .asset(asset)
                .map(|asset| asset.default_mw.mw().abs());
            let nearer = default.is_some_and(|default| default <= mw.mw().abs());
            if cannot && nearer {
                tracing::warn!(dispatch_id = %id, asset_id = %asset,
                    "its agent can't be stopped; the order is released instead");
                self.cancel(id, Some(&Principal::new(STOP))).await?;
            }
        }
        Ok(())
    }

    /// An order that was committed while its asset was being stopped must not wait either.
    pub(super) fn cancel_stopped_meanwhile(&self, leaves: &[Dispatch]) {
        if leaves.iter().any(|leaf| self.is_stopped(leaf)) {
            self.limits.end_orders();
        }
    }

    pub(super) fn is_stopped(&self, leaf: &Dispatch) -> bool {
        leaf.asset_id
            .is_some_and(|asset| self.limits.is_stopped(asset))
    }
}

/// Allowed from `pending` alone.
fn cancellation(id: DispatchId, now: Timestamp) -> Advance {
    Advance {
        id,
        status: DispatchStatus::Cancelled,
        at: now,
        reason: Some(ReasonCode::Stopped),
        text: Some("its asset was stopped before it was sent".to_owned()),
        carrier: None,
    }
}
