//! Orders that wait for their time.

use derms_proto::link::{ReleaseOrder, SetpointOrder, SetpointPhase};
use derms_proto::{DispatchId, ReasonCode, Timestamp};

use super::{AssetMachine, Ctx, Next};
use crate::clock::MonoTime;

/// Most orders that wait for their time, per asset.
pub(super) const MAX_SCHEDULED: usize = 32;

impl AssetMachine {
    /// Whether the order is for later.
    pub(super) fn is_early(order: &SetpointOrder, ctx: &Ctx<'_>) -> bool {
        order
            .start_at
            .is_some_and(|at| !ctx.clock.is_past(at, ctx.now.mono))
    }

    /// Keeps an order until its time. It is said to be received when it is on the disk.
    pub(super) fn keep(&mut self, order: SetpointOrder, ctx: &mut Ctx<'_>) {
        self.last_revision = order.revision;
        self.give_way(&order, ctx);
        self.scheduled.push(order);
        self.touch();
        self.unreceived = Some(ctx.ledger.await_next());
    }

    /// Newest wins: an order that would begin while a newer one is in force never does. What is in
    /// force when the newer one begins ends then.
    pub(super) fn give_way(&mut self, newer: &SetpointOrder, ctx: &mut Ctx<'_>) {
        let begins = newer
            .start_at
            .unwrap_or_else(|| ctx.clock.label(ctx.now.mono));
        let ends = newer.duration.map(|lease| begins.saturating_add(lease));
        let gives_way = |order: &mut SetpointOrder| {
            let at = order.start_at.unwrap_or(begins);
            at >= begins && ends.is_none_or(|ends| at < ends)
        };
        let given: Vec<SetpointOrder> = self.scheduled.extract_if(.., gives_way).collect();
        for order in given {
            self.supersede(&order, ctx);
        }
    }

    /// Orders that were to be written down are, or could not be.
    pub(super) fn schedule_persisted(&mut self, number: u64, stored: bool, ctx: &mut Ctx<'_>) {
        if self.unreceived.take_if(|of| *of <= number).is_none() {
            return;
        }
        let unreceived = |order: &&SetpointOrder| !self.received.contains(&order.revision);
        let new: Vec<SetpointOrder> = self.scheduled.iter().filter(unreceived).cloned().collect();
        for order in new {
            if stored {
                self.received.push(order.revision);
                let report = Self::report_of(&order, SetpointPhase::Received);
                ctx.report(self.id(), report, false);
            } else {
                self.scheduled
                    .retain(|kept| kept.revision != order.revision);
                let phase = SetpointPhase::Rejected;
                self.refuse(&order, phase, ReasonCode::StorageFailed, ctx);
            }
        }
        let kept = &self.scheduled;
        self.received
            .retain(|revision| kept.iter().any(|order| order.revision == *revision));
    }

    /// Takes up the orders whose time has come; that is written down before the device is told.
    pub(super) fn take_up_scheduled(&mut self, ctx: &mut Ctx<'_>) {
        let due = |at: Timestamp| ctx.clock.is_past(at, ctx.now.mono);
        let is_due = |order: &mut SetpointOrder| {
            self.received.contains(&order.revision) && order.start_at.is_none_or(due)
        };
        let mut begun: Vec<SetpointOrder> = self.scheduled.extract_if(.., is_due).collect();
        begun.sort_by_key(|order| order.revision);
        for order in begun {
            let newer = self
                .next
                .as_ref()
                .is_some_and(|next| next.order.revision > order.revision);
            if newer {
                self.supersede(&order, ctx);
                continue;
            }
            self.supersede_next(ctx);
            self.touch();
            self.next = Some(Next {
                order,
                writing: Some(ctx.ledger.await_next()),
                received: true,
            });
        }
        self.schedule_due = self
            .scheduled
            .iter()
            .filter(|order| self.received.contains(&order.revision))
            .filter_map(|order| ctx.clock.when(order.start_at?, ctx.now.mono))
            .min();
    }

    /// When the next of them is due, as far as the headend's clock is known.
    pub(super) const fn next_scheduled(&self) -> Option<MonoTime> {
        self.schedule_due
    }

    /// Whether this very order is kept for its time, or its time has just come.
    pub(super) fn is_scheduled(&self, dispatch_id: DispatchId) -> bool {
        let begun = self.next.as_ref().filter(|next| next.received);
        let begun = begun.map(|next| &next.order);
        let mut kept = self.scheduled.iter().chain(begun);
        kept.any(|order| order.dispatch_id == dispatch_id)
    }

    /// Takes a released order off the schedule. Nothing else ends by that.
    pub(super) fn unschedule(&mut self, release: &ReleaseOrder, ctx: &mut Ctx<'_>) -> bool {
        let is_it = |order: &mut SetpointOrder| order.dispatch_id == release.dispatch_id;
        let mut gone: Vec<SetpointOrder> = self.scheduled.extract_if(.., is_it).collect();
        let begun =
            |next: &mut Next| next.received && next.order.dispatch_id == release.dispatch_id;
        gone.extend(self.next.take_if(begun).map(|next| next.order));
        for order in &gone {
            let mut report = Self::report_of(order, SetpointPhase::Released);
            report.reason = Some(ReasonCode::CancelledByOperator);
            report.text = Some("before it started".into());
            self.remember(release.revision, report.clone());
            self.finish(report, ctx);
        }
        !gone.is_empty()
    }
}
