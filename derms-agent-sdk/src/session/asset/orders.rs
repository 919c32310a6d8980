//! Orders: the checks in their order, at most one start each, newest wins.

use derms_proto::link::{
    FollowUp, ReleaseOrder, SetpointOrder, SetpointPhase, SetpointReport, UnreadableSetpoint,
};
use derms_proto::{DispatchId, ReasonCode};

use super::schedule::MAX_SCHEDULED;
use super::{AssetMachine, Ctx, Ending, InForce, Next, OUTCOMES, Releasing};
use crate::AgentEvent;
use crate::clock::MonoTime;

impl AssetMachine {
    /// An order of this session's epoch. Revision higher? Granted? Not stopped? Clock good? Deadline
    /// not passed? Inside the rating? Room in the report log? Then it is written down.
    pub(in crate::session) fn setpoint_ordered(&mut self, order: SetpointOrder, ctx: &mut Ctx<'_>) {
        if order.revision <= self.last_revision {
            // Before the grant: what was said about an order once is not unsaid by losing the asset.
            let report = Self::report_of(&order, SetpointPhase::Superseded);
            self.repeat(order.revision, report, ctx);
        } else if !self.is_granted() {
            self.refuse(&order, SetpointPhase::Rejected, ReasonCode::NotGranted, ctx);
        } else if self.restraints.is_stopped() {
            self.refuse(&order, SetpointPhase::Rejected, ReasonCode::Stopped, ctx);
        } else if !ctx.clock.is_sure(ctx.now.mono) {
            self.refuse(
                &order,
                SetpointPhase::Rejected,
                ReasonCode::ClockUnsure,
                ctx,
            );
        } else if ctx.clock.may_be_past(order.start_deadline, ctx.now.mono) {
            self.refuse(
                &order,
                SetpointPhase::Expired,
                ReasonCode::DeadlinePassed,
                ctx,
            );
        } else if !self.is_in_rating(&order) {
            self.refuse(&order, SetpointPhase::Rejected, ReasonCode::OutOfRange, ctx);
        } else if !ctx.reports.has_room() {
            ctx.event(AgentEvent::ReportLogFull);
            self.refuse(
                &order,
                SetpointPhase::Rejected,
                ReasonCode::ReportLogFull,
                ctx,
            );
        } else if !Self::is_early(&order, ctx) {
            self.accept(order, ctx);
        } else if self.scheduled.len() >= MAX_SCHEDULED {
            self.refuse(
                &order,
                SetpointPhase::Rejected,
                ReasonCode::TooManyWaiting,
                ctx,
            );
        } else {
            self.keep(order, ctx);
        }
    }

    /// An order that can't be read is refused as any other, and what is in force goes on.
    pub(in crate::session) fn unreadable(&mut self, order: &UnreadableSetpoint, ctx: &mut Ctx<'_>) {
        let report = SetpointReport {
            dispatch_id: order.dispatch_id,
            revision: order.revision,
            phase: SetpointPhase::Rejected,
            reason: Some(ReasonCode::Malformed),
            text: Some(order.error.to_string()),
            applied: None,
        };
        if order.revision <= self.last_revision {
            let stale = SetpointReport {
                phase: SetpointPhase::Superseded,
                reason: None,
                text: None,
                ..report
            };
            self.repeat(order.revision, stale, ctx);
        } else {
            self.refuse_with(report, ctx);
        }
    }

    fn is_in_rating(&self, order: &SetpointOrder) -> bool {
        let follow_up = match order.then {
            FollowUp::Value(power) => self.asset.allows(power),
            _ => true,
        };
        self.asset.allows(order.power) && follow_up
    }

    fn accept(&mut self, order: SetpointOrder, ctx: &mut Ctx<'_>) {
        self.last_revision = order.revision;
        self.supersede_next(ctx);
        self.give_way(&order, ctx);
        self.touch();
        let writing = Some(ctx.ledger.await_next());
        self.next = Some(Next {
            order,
            writing,
            received: false,
        });
    }

    /// A release of this session's epoch: refused for nothing but its revision.
    pub(in crate::session) fn release_ordered(&mut self, order: ReleaseOrder, ctx: &mut Ctx<'_>) {
        if order.revision <= self.last_revision {
            if self.unschedule(&order, ctx) {
                return;
            }
            let held = self.in_force.as_ref();
            if held.is_some_and(|held| held.order.dispatch_id == order.dispatch_id) {
                self.release_late(&order, ctx);
            } else {
                let report = Self::release_report(&order, SetpointPhase::Superseded);
                self.repeat(order.revision, report, ctx);
            }
            return;
        }
        self.last_revision = order.revision;
        self.touch();
        // One that waits for its time comes off the schedule, and nothing else ends by that.
        let scheduled = self.is_scheduled(order.dispatch_id);
        let unstarted = self.next.take_if(|_| !scheduled).map(|next| next.order);
        if let Some(older) = self.releasing.take() {
            self.release(older, ctx);
        }
        self.releasing = Some(Releasing {
            order,
            writing: ctx.ledger.await_next(),
            unstarted,
            scheduled,
        });
    }

    /// A newer order was accepted before this release came, and has not started: what the release
    /// names is in force, and that alone ends. It is written down before it is said.
    fn release_late(&mut self, release: &ReleaseOrder, ctx: &mut Ctx<'_>) {
        let Some(held) = self.in_force.take() else {
            return;
        };
        self.resuming = false;
        let mut report = Self::report_of(&held.order, SetpointPhase::Released);
        report.reason = Some(ReasonCode::CancelledByOperator);
        self.end_with(report, Some(release.revision), ctx);
        self.rest_at_default();
    }

    /// What was to be written down is, or could not be.
    pub(in crate::session) fn persisted(&mut self, number: u64, stored: bool, ctx: &mut Ctx<'_>) {
        self.limits_persisted(number, stored);
        self.schedule_persisted(number, stored, ctx);
        if let Some(releasing) = self
            .releasing
            .take_if(|releasing| releasing.writing == number)
        {
            if !stored {
                // Going to the default is safe, forgetting it after a crash is not: do it, and say so.
                ctx.alarm(self.id(), "storage_failed", "a release could not be stored");
            }
            self.release(releasing, ctx);
        }
        let Some(next) = self
            .next
            .as_mut()
            .filter(|next| next.writing == Some(number))
        else {
            return;
        };
        if stored {
            next.writing = None;
            if !next.received {
                let report = Self::report_of(&next.order, SetpointPhase::Received);
                ctx.report(self.id(), report, false);
            }
        } else if let Some(next) = self.next.take() {
            let phase = SetpointPhase::Rejected;
            self.refuse(&next.order, phase, ReasonCode::StorageFailed, ctx);
        }
    }

    pub(super) fn release(&mut self, releasing: Releasing, ctx: &mut Ctx<'_>) {
        let Releasing {
            order: release,
            unstarted,
            scheduled,
            ..
        } = releasing;
        if self.unschedule(&release, ctx) {
            return;
        }
        if scheduled {
            // It has ended while the release was written down.
            if let Some(report) = self.outcome_of(release.dispatch_id) {
                self.remember(release.revision, report.clone());
                ctx.report(self.id(), report, true);
            }
            return;
        }
        // Nothing in force: a failsafe that has moved the device stays.
        let stays = self.failsafe.is_some() && self.in_force.is_none();
        let mut answered = None;
        if let Some(order) = unstarted {
            if order.dispatch_id == release.dispatch_id {
                let mut report = Self::report_of(&order, SetpointPhase::Released);
                report.reason = Some(ReasonCode::CancelledByOperator);
                report.text = Some("before it started".into());
                answered = Some(report.clone());
                self.finish(report, ctx);
            } else {
                self.supersede(&order, ctx);
            }
        }
        if let Some(in_force) = self.in_force.take() {
            if in_force.order.dispatch_id == release.dispatch_id {
                let mut report = Self::report_of(&in_force.order, SetpointPhase::Released);
                report.reason = Some(ReasonCode::CancelledByOperator);
                self.end_with(report, Some(release.revision), ctx);
            } else {
                self.supersede(&in_force.order, ctx);
            }
        }
        let ends = |ending: &Ending| ending.report.dispatch_id == release.dispatch_id;
        if let Some(ending) = self.ending.as_mut().filter(|ending| ends(ending)) {
            ending.report.phase = SetpointPhase::Released;
            ending.report.reason = Some(ReasonCode::CancelledByOperator);
            ending.release = Some(release.revision);
        } else {
            let known = answered.or_else(|| self.outcome_of(release.dispatch_id));
            match known {
                Some(report) => {
                    self.remember(release.revision, report.clone());
                    ctx.report(self.id(), report, true);
                }
                None => {
                    let mut report = Self::release_report(&release, SetpointPhase::Released);
                    report.reason = Some(ReasonCode::CancelledByOperator);
                    self.end_with(report, Some(release.revision), ctx);
                }
            }
        }
        if !stays {
            self.leave_failsafe(ctx);
            self.rest_at_default();
        }
    }

    /// Starts the order that waits, if it may: received, still granted (or kept for its time, for
    /// which no link is needed), deadline still not passed, the failsafe held for its time.
    pub(super) fn start_next(&mut self, ctx: &mut Ctx<'_>) {
        let waits = self.start_waits_until(ctx.now.mono).is_some();
        if !self.ready || self.releasing.is_some() {
            return;
        }
        let late = |next: &Next| {
            ctx.clock
                .may_be_past(next.order.start_deadline, ctx.now.mono)
        };
        let may = |next: &mut Next| next.writing.is_none() && (!waits || late(next));
        let Some(Next { order, .. }) = self.next.take_if(may) else {
            return;
        };
        let kept = order.start_at.is_some() && !self.is_refused();
        if !self.is_granted() && !kept {
            self.refuse(&order, SetpointPhase::Rejected, ReasonCode::NotGranted, ctx);
            return;
        }
        if ctx.clock.may_be_past(order.start_deadline, ctx.now.mono) {
            self.refuse(
                &order,
                SetpointPhase::Expired,
                ReasonCode::DeadlinePassed,
                ctx,
            );
            return;
        }
        if let Some(older) = self.in_force.take() {
            self.supersede(&older.order, ctx);
        }
        if let Some(ending) = self.ending.take() {
            self.finish_ending(ending, ctx);
        }
        self.touch();
        self.drive(&order, ctx);
        self.in_force = Some(InForce {
            order,
            started: None,
        });
    }

    /// An order starts no earlier than this: a failsafe holds for its time, and one that was kept
    /// for its time lets the lease of a newer one run out.
    fn start_waits_until(&self, now: MonoTime) -> Option<MonoTime> {
        let held = self
            .failsafe
            .map(|since| since + self.asset.failsafe.min_hold());
        let leased = self.next.as_ref().and_then(|next| {
            let (order, started) = self.started()?;
            started
                .ends_at
                .filter(|_| order.revision > next.order.revision)
        });
        held.max(leased).filter(|at| *at > now)
    }

    /// When the order that waits may start, if it waits for that alone.
    pub(super) fn next_due(&self) -> Option<MonoTime> {
        let next = self.next.as_ref()?;
        let ready = self.ready
            && next.writing.is_none()
            && self.in_flight.is_none()
            && self.releasing.is_none();
        ready
            .then(|| self.start_waits_until(MonoTime::default()))
            .flatten()
    }

    /// An order with a revision that is not higher: the stored outcome, if it is known.
    fn repeat(&mut self, revision: u64, stale: SetpointReport, ctx: &mut Ctx<'_>) {
        let same = |order: &SetpointOrder| {
            order.revision == revision && order.dispatch_id == stale.dispatch_id
        };
        let report = if let Some(kept) = self.scheduled.iter().find(|kept| same(&kept.order)) {
            if kept.writing.is_some() {
                return;
            }
            Self::report_of(&kept.order, SetpointPhase::Received)
        } else if let Some(next) = self.next.as_ref().filter(|next| same(&next.order)) {
            if next.writing.is_some() {
                return;
            }
            Self::report_of(&next.order, SetpointPhase::Received)
        } else if let Some(in_force) = self.in_force.as_ref().filter(|o| same(&o.order)) {
            match in_force.started {
                None => Self::report_of(&in_force.order, SetpointPhase::Received),
                Some(started) => {
                    let mut report = Self::report_of(&in_force.order, SetpointPhase::Started);
                    report.applied = started.applied;
                    report
                }
            }
        } else if self.is_about_to_be_told(revision, stale.dispatch_id) {
            return;
        } else if let Some((_, report)) = self
            .outcomes
            .iter()
            .find(|(of, report)| *of == revision && report.dispatch_id == stale.dispatch_id)
        {
            report.clone()
        } else if let Some(report) = self.outcome_of(stale.dispatch_id) {
            // A release of what had ended before it came.
            report
        } else {
            let reason = Some(ReasonCode::StaleRevision);
            let report = SetpointReport { reason, ..stale };
            self.remember(revision, report.clone());
            report
        };
        ctx.report(self.id(), report, true);
    }

    /// Whether the outcome is reported as soon as the device or the storage has answered.
    fn is_about_to_be_told(&self, revision: u64, dispatch_id: DispatchId) -> bool {
        let ending = self
            .ending
            .as_ref()
            .is_some_and(|Ending { report, release }| {
                let same = report.revision == revision || *release == Some(revision);
                same && report.dispatch_id == dispatch_id
            });
        let releasing = self.releasing.as_ref().is_some_and(
            |Releasing {
                 order, unstarted, ..
             }| {
                let released = order.revision == revision && order.dispatch_id == dispatch_id;
                let same = |order: &SetpointOrder| {
                    order.revision == revision && order.dispatch_id == dispatch_id
                };
                released || unstarted.as_ref().is_some_and(same)
            },
        );
        ending || releasing
    }

    /// Refuses an order that never started, for good.
    pub(super) fn refuse(
        &mut self,
        order: &SetpointOrder,
        phase: SetpointPhase,
        reason: ReasonCode,
        ctx: &mut Ctx<'_>,
    ) {
        let mut report = Self::report_of(order, phase);
        report.reason = Some(reason);
        self.refuse_with(report, ctx);
    }

    fn refuse_with(&mut self, report: SetpointReport, ctx: &mut Ctx<'_>) {
        // What was reported as refused must stay refused, whatever comes again later, and is
        // written down before it is said.
        self.last_revision = self.last_revision.max(report.revision);
        self.remember(report.revision, report.clone());
        ctx.report(self.id(), report, true);
    }

    pub(super) fn supersede_next(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(older) = self.next.take() {
            self.supersede(&older.order, ctx);
        }
    }

    pub(super) fn supersede(&mut self, order: &SetpointOrder, ctx: &mut Ctx<'_>) {
        let mut report = Self::report_of(order, SetpointPhase::Superseded);
        report.reason = Some(ReasonCode::NewerOrder);
        self.finish(report, ctx);
    }

    /// To be reported when the device is at rest; what was to be reported before is now.
    pub(super) fn end_with(
        &mut self,
        report: SetpointReport,
        release: Option<u64>,
        ctx: &mut Ctx<'_>,
    ) {
        self.touch();
        if let Some(before) = self.ending.replace(Ending { report, release }) {
            self.finish_ending(before, ctx);
        }
    }

    /// Also when another order begins before the device was told what follows the old one: then that
    /// is what follows it.
    pub(super) fn finish_ending(&mut self, ending: Ending, ctx: &mut Ctx<'_>) {
        if let Some(revision) = ending.release {
            self.remember(revision, ending.report.clone());
        }
        self.finish(ending.report, ctx);
    }

    /// The last word on an order that was accepted.
    pub(super) fn finish(&mut self, report: SetpointReport, ctx: &mut Ctx<'_>) {
        self.remember(report.revision, report.clone());
        ctx.report(self.id(), report, false);
    }

    pub(super) fn remember(&mut self, revision: u64, report: SetpointReport) {
        self.touch();
        // Of this very order: a headend that lost its counter may give a revision twice.
        let id = report.dispatch_id;
        self.outcomes
            .retain(|(of, old)| (*of, old.dispatch_id) != (revision, id));
        if self.outcomes.len() == OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((revision, report));
    }

    fn outcome_of(&self, dispatch_id: DispatchId) -> Option<SetpointReport> {
        let mut outcomes = self.outcomes.iter().rev();
        let known = outcomes.find(|(_, report)| report.dispatch_id == dispatch_id);
        known.map(|(_, report)| report.clone())
    }

    fn release_report(release: &ReleaseOrder, phase: SetpointPhase) -> SetpointReport {
        SetpointReport {
            dispatch_id: release.dispatch_id,
            revision: release.revision,
            phase,
            reason: None,
            text: None,
            applied: None,
        }
    }
}
