//! How an order in force ends: by its lease, or with the agent.

use derms_proto::link::{FollowUp, SetpointPhase, SetpointReport};
use derms_proto::{ControlSource, ReasonCode};

use super::rest::Target;
use super::{AssetMachine, Ctx, Ending};

impl AssetMachine {
    /// At the end of the lease the device is told what follows.
    pub(super) fn end_lease(&mut self, ctx: &mut Ctx<'_>) {
        let ended = self
            .started()
            .and_then(|(_, started)| started.ends_at)
            .is_some_and(|end| end <= ctx.now.mono);
        if !ended {
            return;
        }
        let Some(in_force) = self.in_force.take() else {
            return;
        };
        self.touch();
        self.resuming = false;
        self.ending = Some(Ending {
            report: Self::report_of(&in_force.order, SetpointPhase::Completed),
            release: None,
        });
        let (source, target) = match in_force.order.then {
            FollowUp::Value(power) => (ControlSource::FollowUp, Target::Power(power)),
            FollowUp::Hold => {
                let power = self.ramp.sure().unwrap_or(in_force.order.power);
                (ControlSource::FollowUp, Target::Hold(Some(power)))
            }
            _ => (ControlSource::Default, Target::Default),
        };
        self.rest.settle(source, target);
    }

    /// The agent stops and can end no lease any more: whatever is in force ends, and the device
    /// goes to its default, or stays stopped.
    pub(in crate::session) fn stop(&mut self, ctx: &mut Ctx<'_>) {
        self.stopping = true;
        self.resuming = false;
        self.touch();
        let interrupted = |mut report: SetpointReport| {
            report.phase = SetpointPhase::Failed;
            report.reason = Some(ReasonCode::Interrupted);
            report
        };
        if let Some(next) = self.next.take() {
            let report = Self::report_of(&next.order, SetpointPhase::Failed);
            self.finish(interrupted(report), ctx);
        }
        if let Some(releasing) = self.releasing.take() {
            self.release(releasing, ctx);
        }
        // With a disk they wait for the next start.
        if !ctx.ledger.is_durable() {
            self.forget_scheduled("the agent stops and remembers nothing", ctx);
        }
        if let Some(in_force) = self.in_force.take() {
            let report = Self::report_of(&in_force.order, SetpointPhase::Failed);
            self.ending = Some(Ending {
                report: interrupted(report),
                release: None,
            });
            self.rest_at_default();
        } else if self.rest.target != Target::Default && !self.restraints.is_stopped() {
            self.rest_at_default();
        }
    }

    /// Whether the device is at its default and all is said; see [`stop`](Self::stop).
    pub(in crate::session) const fn is_stopped(&self) -> bool {
        self.rest.is_settled()
            && self.in_flight.is_none()
            && self.in_force.is_none()
            && self.ending.is_none()
    }

    /// The time for [`stop`](Self::stop) is over: what is unsaid is said as it is.
    pub(in crate::session) fn give_up(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(mut ending) = self.ending.take() {
            ending.report.phase = SetpointPhase::Failed;
            ending.report.reason = Some(ReasonCode::Interrupted);
            ending.report.text = Some("the device has not confirmed its default".into());
            self.finish_ending(ending, ctx);
        }
    }
}
