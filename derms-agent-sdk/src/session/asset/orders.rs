//! Orders: the checks in their order, at most one start each, newest wins.

use derms_proto::link::{FollowUp, ReleaseOrder, SetpointOrder, SetpointPhase, SetpointReport};
use derms_proto::{ControlSource, DispatchId, ReasonCode};

use super::device::Target;
use super::{AssetMachine, Ctx, Ending, InForce, Next, OUTCOMES, Releasing};
use crate::{AgentEvent, Setpoint};

impl AssetMachine {
    /// An order of this session's epoch. Revision higher? Granted? Clock good? Deadline not
    /// passed? Inside the rating? Room in the report log? Then it is written down.
    pub(in crate::session) fn setpoint_ordered(&mut self, order: SetpointOrder, ctx: &mut Ctx<'_>) {
        if order.revision <= self.last_revision {
            // Before the grant: what was said about an order once is not unsaid by losing the asset.
            let report = Self::report_of(&order, SetpointPhase::Superseded);
            self.repeat(order.revision, report, ctx);
        } else if !self.is_granted() {
            self.refuse(&order, SetpointPhase::Rejected, ReasonCode::NotGranted, ctx);
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
        } else {
            self.accept(order, ctx);
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
        self.touch();
        let writing = Some(ctx.ledger.await_next());
        self.next = Some(Next { order, writing });
    }

    /// A release of this session's epoch: refused for nothing but its revision.
    pub(in crate::session) fn release_ordered(&mut self, order: ReleaseOrder, ctx: &mut Ctx<'_>) {
        if order.revision <= self.last_revision {
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
        let unstarted = self.next.take().map(|next| next.order);
        if let Some(older) = self.releasing.take() {
            self.release(older, ctx);
        }
        self.releasing = Some(Releasing {
            order,
            writing: ctx.ledger.await_next(),
            unstarted,
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
        self.rest.settle(ControlSource::Default, Target::Default);
    }

    /// What was to be written down is, or could not be.
    pub(in crate::session) fn persisted(&mut self, number: u64, stored: bool, ctx: &mut Ctx<'_>) {
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
            let report = Self::report_of(&next.order, SetpointPhase::Received);
            ctx.report(self.id(), report, false);
        } else if let Some(next) = self.next.take() {
            let phase = SetpointPhase::Rejected;
            self.refuse(&next.order, phase, ReasonCode::StorageFailed, ctx);
        }
    }

    pub(super) fn release(&mut self, releasing: Releasing, ctx: &mut Ctx<'_>) {
        let Releasing {
            order: release,
            unstarted,
            ..
        } = releasing;
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
        self.leave_failsafe(ctx);
        self.rest.settle(ControlSource::Default, Target::Default);
    }

    /// Starts the order that waits, if it may: received, still granted, deadline still not passed.
    pub(super) fn start_next(&mut self, ctx: &mut Ctx<'_>) {
        if !self.ready || self.releasing.is_some() {
            return;
        }
        let Some(Next { order, .. }) = self.next.take_if(|next| next.writing.is_none()) else {
            return;
        };
        if !self.is_granted() {
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
            self.cut_short(ending, ctx);
        }
        let setpoint = Setpoint {
            dispatch_id: Some(order.dispatch_id),
            remaining: order.duration,
            ramp_mw_per_min: order.ramp_mw_per_min,
            ..Setpoint::new(order.power)
        };
        self.in_force = Some(InForce {
            order,
            started: None,
        });
        self.touch();
        self.drive(setpoint, ctx);
    }

    /// An order with a revision that is not higher: the stored outcome, if it is known.
    fn repeat(&mut self, revision: u64, stale: SetpointReport, ctx: &mut Ctx<'_>) {
        let same = |order: &SetpointOrder| {
            order.revision == revision && order.dispatch_id == stale.dispatch_id
        };
        let report = if let Some(next) = self.next.as_ref().filter(|next| same(&next.order)) {
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
    fn refuse(
        &mut self,
        order: &SetpointOrder,
        phase: SetpointPhase,
        reason: ReasonCode,
        ctx: &mut Ctx<'_>,
    ) {
        let mut report = Self::report_of(order, phase);
        report.reason = Some(reason);
        // What was reported as refused must stay refused, whatever comes again later, and is
        // written down before it is said.
        if order.revision > self.last_revision {
            self.last_revision = order.revision;
        }
        self.remember(order.revision, report.clone());
        ctx.report(self.id(), report, true);
    }

    fn supersede_next(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(older) = self.next.take() {
            self.supersede(&older.order, ctx);
        }
    }

    fn supersede(&mut self, order: &SetpointOrder, ctx: &mut Ctx<'_>) {
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
            self.cut_short(before, ctx);
        }
    }

    /// A newer order came before the device was told what follows the old one.
    fn cut_short(&mut self, mut ending: Ending, ctx: &mut Ctx<'_>) {
        if ending.report.phase == SetpointPhase::Completed {
            ending.report.phase = SetpointPhase::Superseded;
            ending.report.reason = Some(ReasonCode::NewerOrder);
        }
        self.finish_ending(ending, ctx);
    }

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

    fn remember(&mut self, revision: u64, report: SetpointReport) {
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
