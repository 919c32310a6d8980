//! Orders for assets that are stopped: those that wait are cancelled, those that were sent are
//! their agents' to end and to tell.

use derms_proto::{AssetId, Dispatch, DispatchId, DispatchStatus, ReasonCode, Timestamp};

use super::Dispatcher;
use crate::store::{Advance, StoreError};

/// Orders that are cancelled in one call.
const AT_ONCE: usize = 256;

impl Dispatcher {
    /// Cancels orders that wait for stopped assets, if there may be any.
    pub(crate) async fn cancel_stopped(&self) -> Result<(), StoreError> {
        let Some(wanted) = self.limits.orders_to_end() else {
            return Ok(());
        };
        let stopped: Vec<AssetId> = self.limits.stopped();
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
