//! Cancels as a store keeps them.

use derms_proto::link::{SetpointPhase, SetpointReport};
use derms_proto::{DispatchId, DispatchStatus, ReasonCode, Timestamp};

use super::{Advance, MAX_COUNTER, Order};

/// An operator's wish to end an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// An order for an asset, a share, or a site order: then each of its shares.
    pub id: DispatchId,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who asked; `None` without authentication.
    pub principal: Option<String>,
    /// A release of it with a revision up to this one is of no use: a newer command was at the
    /// agent before it. 0 when nothing is known of that.
    pub above: u64,
}

impl Order {
    /// Applies a cancel. `true`: that changed it.
    ///
    /// What was never sent has ended by that. What was sent is as it was, for its agent tells when
    /// it has ended; it gets a release with the next revision of its asset, above `counter`, which
    /// is moved along. While a newer order that its agent was sent has not ended (`passed`) it gets
    /// none: the release would end that one. Asked again later, it gets one then.
    ///
    /// An order that has ended is left as it is; only who asked is noted if it was
    /// [sent before it could be stored](Cancel::above).
    #[must_use]
    pub fn cancel(&mut self, cancel: &Cancel, passed: bool, counter: &mut u64) -> bool {
        let status = self.dispatch.status;
        if status.is_terminal() && cancel.above == 0 {
            return false;
        }
        let first = self.dispatch.cancel_requested_at.is_none();
        if first {
            self.dispatch.cancel_requested_at = Some(cancel.at);
            self.dispatch.cancelled_by.clone_from(&cancel.principal);
        }
        if status == DispatchStatus::Pending {
            let step = Advance {
                id: self.dispatch.id,
                status: DispatchStatus::Cancelled,
                at: cancel.at,
                reason: Some(ReasonCode::CancelledByOperator),
                text: Some("before it was sent".to_owned()),
                carrier: None,
            };
            return self.advance(&step, 0);
        }
        let has_one = self.release.is_some_and(|release| release > cancel.above);
        if status.is_terminal() || passed || has_one {
            return first;
        }
        *counter = (*counter).max(cancel.above.min(MAX_COUNTER)) + 1;
        self.release = Some(*counter);
        true
    }

    /// Whether `self` stands in the way of a release of `older`: it is newer, the same agent was
    /// sent both, and it has not ended.
    #[must_use]
    pub fn has_passed(&self, older: &Self) -> bool {
        let status = self.dispatch.status;
        let agent = |order: &Self| order.carrier.map(|carrier| carrier.agent);
        self.dispatch.asset_id == older.dispatch.asset_id
            && self.dispatch.revision > older.dispatch.revision
            && agent(self) == agent(older)
            && status != DispatchStatus::Pending
            && !status.is_terminal()
    }

    /// An agent refuses what is not newer than what it has, also a release. By that it does not
    /// say that the order is not in force.
    pub(super) fn is_refusal_of_a_release(&self, report: &SetpointReport) -> bool {
        self.release.is_some()
            && self.dispatch.revision != Some(report.revision)
            && report.phase == SetpointPhase::Superseded
            && report.reason == Some(ReasonCode::StaleRevision)
    }
}
