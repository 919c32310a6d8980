//! Orders that wait for their time.

use derms_proto::link::{ReleaseOrder, SetpointOrder, SetpointPhase};
use derms_proto::{DispatchId, ReasonCode, Timestamp};

use super::restart::interrupted;
use super::{AssetMachine, Ctx, Next};
use crate::clock::MonoTime;

/// Most orders that wait for their time, per asset.
pub(super) const MAX_SCHEDULED: usize = 32;

/// An order that waits for its time.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub(super) order: SetpointOrder,
    /// The write that is awaited; `None` once the order is received.
    pub(super) writing: Option<u64>,
}

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
        self.touch();
        let writing = Some(ctx.ledger.await_next());
        self.scheduled.push(Scheduled { order, writing });
    }

    /// Newest wins: an order that would begin while a newer one is in force never does. What is in
    /// force when the newer one begins ends then.
    pub(super) fn give_way(&mut self, newer: &SetpointOrder, ctx: &mut Ctx<'_>) {
        let begins = newer
            .start_at
            .unwrap_or_else(|| ctx.clock.label(ctx.now.mono));
        let ends = newer.duration.map(|lease| begins.saturating_add(lease));
        let gives_way = |kept: &mut Scheduled| {
            let at = kept.order.start_at.unwrap_or(begins);
            at >= begins && ends.is_none_or(|ends| at < ends)
        };
        let given: Vec<Scheduled> = self.scheduled.extract_if(.., gives_way).collect();
        for kept in given {
            self.supersede(&kept.order, ctx);
        }
    }

    /// Orders that were to be written down are, or could not be.
    pub(super) fn schedule_persisted(&mut self, number: u64, stored: bool, ctx: &mut Ctx<'_>) {
        let of_this = |kept: &&mut Scheduled| kept.writing == Some(number);
        if stored {
            let mut new = Vec::new();
            for kept in self.scheduled.iter_mut().filter(of_this) {
                kept.writing = None;
                new.push(Self::report_of(&kept.order, SetpointPhase::Received));
            }
            for report in new {
                ctx.report(self.id(), report, false);
            }
            return;
        }
        let failed = |kept: &mut Scheduled| kept.writing == Some(number);
        let lost: Vec<Scheduled> = self.scheduled.extract_if(.., failed).collect();
        for kept in lost {
            let phase = SetpointPhase::Rejected;
            self.refuse(&kept.order, phase, ReasonCode::StorageFailed, ctx);
        }
    }

    /// Takes up the orders whose time has come; that is written down before the device is told.
    pub(super) fn take_up_scheduled(&mut self, ctx: &mut Ctx<'_>) {
        if self.stopping {
            // It could not end their leases.
            self.schedule_due = None;
            return;
        }
        let due = |at: Timestamp| ctx.clock.is_past(at, ctx.now.mono);
        let is_due =
            |kept: &mut Scheduled| kept.writing.is_none() && kept.order.start_at.is_none_or(due);
        let mut begun: Vec<Scheduled> = self.scheduled.extract_if(.., is_due).collect();
        begun.sort_by_key(|kept| kept.order.revision);
        for Scheduled { order, .. } in begun {
            let next = self.next.as_ref().map(|next| &next.order);
            let open = self.in_force.as_ref().map(|held| &held.order);
            let open = open.filter(|held| held.duration.is_none());
            let newer = next
                .into_iter()
                .chain(open)
                .any(|newer| newer.revision > order.revision);
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
            .filter(|kept| kept.writing.is_none())
            .filter_map(|kept| ctx.clock.when(kept.order.start_at?, ctx.now.mono))
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
        let scheduled = self.scheduled.iter().map(|kept| &kept.order);
        let mut all = scheduled.chain(begun);
        all.any(|order| order.dispatch_id == dispatch_id)
    }

    /// Takes a released order off the schedule. Nothing else ends by that.
    pub(super) fn unschedule(&mut self, release: &ReleaseOrder, ctx: &mut Ctx<'_>) -> bool {
        let is_it = |kept: &mut Scheduled| kept.order.dispatch_id == release.dispatch_id;
        let kept = self.scheduled.extract_if(.., is_it);
        let mut gone: Vec<SetpointOrder> = kept.map(|kept| kept.order).collect();
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

    /// Ends all that wait for their time: nobody could keep to them.
    pub(in crate::session) fn forget_scheduled(&mut self, text: &str, ctx: &mut Ctx<'_>) {
        for Scheduled { order, .. } in std::mem::take(&mut self.scheduled) {
            self.finish(interrupted(&order, text), ctx);
        }
    }
}
