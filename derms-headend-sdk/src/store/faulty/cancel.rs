//! Faults of cancels.

use derms_proto::link::{Report, SetpointPhase};
use derms_proto::{DispatchStatus, ReasonCode};

use super::super::{Cancel, Order, ReportAppend, Store, StoreError};
use super::{Fault, FaultyStore};

impl FaultyStore {
    pub(super) async fn cancel_with_fault(
        &self,
        cancels: &[Cancel],
    ) -> Result<Vec<Order>, StoreError> {
        let fault = self.state.lock().fault;
        let mut cancels = cancels.to_vec();
        match fault {
            Fault::CancelForgotten => return Ok(Vec::new()),
            Fault::OneShareCancelled => {
                for cancel in &mut cancels {
                    let order = self.inner.dispatch(cancel.id).await?;
                    let first = order.and_then(|order| Some(order.children.first()?.id));
                    cancel.id = first.unwrap_or(cancel.id);
                }
            }
            // Whatever was given before.
            Fault::AskedTwice => {
                for cancel in &mut cancels {
                    let order = self.order(cancel.id).await?;
                    let release = order.and_then(|order| order.release);
                    cancel.above = cancel.above.max(release.unwrap_or(0));
                }
            }
            Fault::NewerReleased => {
                for cancel in &cancels {
                    self.end_newer(cancel).await?;
                }
            }
            _ => {}
        }
        let waiting = self.inner.open_orders(None).await?;
        let mut changed = self.inner.cancel(&cancels).await?;
        match fault {
            Fault::CancelEndsSent => {
                for order in &mut changed {
                    self.say(order, SetpointPhase::Released).await?;
                    let now = self.inner.dispatch(order.dispatch.id).await?;
                    order.dispatch = now.unwrap_or_else(|| order.dispatch.clone());
                }
            }
            Fault::ReleaseRepeats => {
                for order in &mut changed {
                    order.release = order.release.and(order.dispatch.revision);
                }
            }
            // As if they had not moved: the release is told to be above them.
            Fault::WaitingStays => {
                for order in &mut changed {
                    let waits = waiting.iter().filter(|waits| {
                        waits.dispatch.status == DispatchStatus::Pending
                            && waits.dispatch.asset_id == order.dispatch.asset_id
                    });
                    let above = waits.filter_map(|waits| waits.dispatch.revision).max();
                    order.release = order.release.map(|given| above.map_or(given, |r| r + 9));
                }
            }
            _ => {}
        }
        Ok(changed)
    }

    /// What stands in the way of a release is out of it.
    async fn end_newer(&self, cancel: &Cancel) -> Result<(), StoreError> {
        let open = self.inner.open_orders(None).await?;
        let Some(order) = open.iter().find(|open| open.dispatch.id == cancel.id) else {
            return Ok(());
        };
        for newer in open.iter().filter(|open| open.has_passed(order)) {
            self.say(newer, SetpointPhase::Superseded).await?;
        }
        Ok(())
    }
}

/// A refusal of a release is taken for one of its order.
pub(super) fn believe_refusals(appends: &mut [ReportAppend]) {
    for stored in appends.iter_mut().flat_map(|append| &mut append.entries) {
        if let Report::Setpoint(told) = &mut stored.entry.report
            && told.reason == Some(ReasonCode::StaleRevision)
        {
            told.reason = Some(ReasonCode::NewerOrder);
        }
    }
}
