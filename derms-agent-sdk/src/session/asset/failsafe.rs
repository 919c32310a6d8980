//! What an asset does when the link has been lost for too long.

use derms_proto::link::SetpointPhase;
use derms_proto::{ControlSource, FailsafePolicy, ReasonCode, Severity};

use super::rest::Target;
use super::{AssetMachine, Ctx};
use crate::AgentEvent;
use crate::clock::MonoTime;

impl AssetMachine {
    /// A message came in a session that grants this asset.
    ///
    /// That alone never ends a failsafe that has moved the device: only a fresh order does.
    pub(in crate::session) fn heard(&mut self, ctx: &mut Ctx<'_>) {
        self.heard = ctx.now.mono;
        if self.failsafe.is_some() && self.asset.failsafe.policy == FailsafePolicy::Hold {
            self.leave_failsafe(ctx);
        }
    }

    /// When it trips; `None` while it can't: it is in force, a lease runs (its end is followed by
    /// what follows it), the device is at the very default that it would go to, another agent
    /// serves the asset (and has its failsafe), it is stopped, or the agent stops.
    pub(super) fn failsafe_due(&self) -> Option<MonoTime> {
        let leased = self.in_force.as_ref().is_some_and(|in_force| {
            in_force
                .started
                .is_none_or(|started| started.ends_at.is_some())
        });
        let at_default = self.in_force.is_none() && self.rest.target == Target::Default;
        let idle = at_default && self.asset.failsafe.policy == FailsafePolicy::Default;
        let others = self.in_force.is_none() && self.is_served_elsewhere();
        let can = self.failsafe.is_none()
            && !self.stopping
            && !self.restraints.is_stopped()
            && !leased
            && !idle
            && !others;
        can.then(|| self.heard + self.asset.failsafe.after())
    }

    pub(super) fn trip_failsafe(&mut self, ctx: &mut Ctx<'_>) {
        if self.failsafe_due().is_none_or(|due| due > ctx.now.mono) {
            return;
        }
        self.failsafe = Some(ctx.now.mono);
        let asset_id = self.id();
        ctx.event(AgentEvent::FailsafeEntered { asset_id });
        let after = self.asset.failsafe.after_s;
        ctx.alarm(
            asset_id,
            "failsafe_entered",
            format!("no word from the headend for {after} s"),
        );
        let target = match self.asset.failsafe.policy {
            FailsafePolicy::Hold => return,
            FailsafePolicy::Value(power) => {
                Target::Power(power.clamp(self.asset.min_mw, self.asset.max_mw))
            }
            _ => Target::Default,
        };
        if let Some(in_force) = self.in_force.take() {
            let mut report = Self::report_of(&in_force.order, SetpointPhase::Failed);
            report.reason = Some(ReasonCode::Failsafe);
            self.finish(report, ctx);
        }
        self.rest.settle(ControlSource::Failsafe, target);
    }

    pub(super) fn leave_failsafe(&mut self, ctx: &mut Ctx<'_>) {
        if self.failsafe.take().is_some() {
            let asset_id = self.id();
            ctx.event(AgentEvent::FailsafeLeft { asset_id });
            ctx.told(
                asset_id,
                Severity::Info,
                "failsafe_left",
                "the failsafe is over",
            );
        }
    }
}
