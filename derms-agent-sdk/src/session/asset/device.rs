//! The device: one command at a time, and where it must be while no order is in force.

use derms_proto::link::{FollowUp, SetpointPhase};
use derms_proto::wire::MAX_TEXT_BYTES;
use derms_proto::{ControlSource, Power, ReasonCode};

use super::{AssetMachine, Ctx, Ending, retry_delay};
use crate::clock::MonoTime;
use crate::session::{Command, DeviceFault, Output};
use crate::state::Started;
use crate::{AgentEvent, Applied, Setpoint};

/// A command that the device has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    token: u64,
    job: Job,
}

#[derive(Debug)]
enum Job {
    /// Starts the order in force.
    Start,
    /// Tells the device the order in force once more, after a restart of the agent.
    Resume,
    /// Brings the device to rest; the number tells whether that is still where it must be.
    Settle { generation: u64 },
}

/// Where a device must be while no order is in force.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) source: ControlSource,
    pub(super) target: Target,
    generation: u64,
    settled: bool,
    failures: u32,
    retry_at: Option<MonoTime>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    Default,
    Power(Power),
    /// Where it is; nothing is written.
    Hold(Option<Power>),
}

impl Rest {
    pub(super) const fn new(source: ControlSource, target: Target) -> Self {
        Self {
            source,
            target,
            generation: 0,
            settled: false,
            failures: 0,
            retry_at: None,
        }
    }

    /// From now on it must be there; the device is told even if it seems to be there already.
    pub(super) fn settle(&mut self, source: ControlSource, target: Target) {
        *self = Self {
            generation: self.generation + 1,
            settled: matches!(target, Target::Hold(_)),
            ..Self::new(source, target)
        };
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    pub(super) fn retry_at(&self) -> Option<MonoTime> {
        self.retry_at.filter(|_| !self.settled)
    }
}

impl AssetMachine {
    /// Drives the device to the order that is to start.
    pub(super) fn drive(&mut self, setpoint: Setpoint, ctx: &mut Ctx<'_>) {
        self.command(Job::Start, Command::Apply(setpoint), ctx);
    }

    /// Drives the device to the order that goes on.
    pub(super) fn drive_again(&mut self, setpoint: Setpoint, ctx: &mut Ctx<'_>) {
        self.command(Job::Resume, Command::Apply(setpoint), ctx);
    }

    /// Tells the device where it must be without an order, if it is not there and may be told.
    pub(super) fn settle_device(&mut self, ctx: &mut Ctx<'_>) {
        let waits = self.rest.retry_at.is_some_and(|at| at > ctx.now.mono);
        if self.in_flight.is_some() || self.in_force.is_some() || waits {
            return;
        }
        if self.rest.settled {
            self.report_ending(ctx);
            return;
        }
        let command = match self.rest.target {
            Target::Default => Command::Default(self.asset.default_mw),
            Target::Power(power) => Command::Apply(Setpoint::new(power)),
            Target::Hold(_) => return,
        };
        let generation = self.rest.generation;
        self.command(Job::Settle { generation }, command, ctx);
    }

    fn command(&mut self, job: Job, command: Command, ctx: &mut Ctx<'_>) {
        let token = ctx.tokens.next();
        self.in_flight = Some(InFlight { token, job });
        ctx.out.push_back(Output::Command {
            asset_id: self.id(),
            token,
            command,
        });
    }

    /// The device has answered a command.
    pub(in crate::session) fn done(
        &mut self,
        token: u64,
        result: Result<Applied, DeviceFault>,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.token == token) else {
            return;
        };
        let result = result.map(sane).map_err(|fault| DeviceFault {
            text: bounded(fault.text),
            ..fault
        });
        match in_flight.job {
            Job::Start => self.start_answered(result, ctx),
            Job::Resume => self.resume_answered(result, ctx),
            Job::Settle { generation } => {
                self.ready = true;
                if generation == self.rest.generation {
                    self.settle_answered(result, ctx);
                }
            }
        }
    }

    fn start_answered(&mut self, result: Result<Applied, DeviceFault>, ctx: &mut Ctx<'_>) {
        let started = match &result {
            Ok(applied) => Some(applied.power),
            Err(_) => None,
        };
        // Gone if a release or the shutdown came while the device was busy with it.
        let Some(in_force) = self
            .in_force
            .as_mut()
            .filter(|order| order.started.is_none())
        else {
            return;
        };
        match (started, result) {
            (Some(applied), Ok(answer)) => {
                // The lease counts from the device's yes, whatever the order was told before.
                let ends_at = in_force.order.duration.map(|lease| ctx.now.mono + lease);
                in_force.started = Some(Started { ends_at, applied });
                self.changed = true;
                let mut report = Self::report_of(&in_force.order, SetpointPhase::Started);
                report.text = answer.text;
                report.applied = applied;
                ctx.report(self.id(), report, false);
                self.leave_failsafe(ctx);
            }
            (_, Err(fault)) => {
                let phase = if fault.refused() {
                    SetpointPhase::Rejected
                } else {
                    SetpointPhase::Failed
                };
                let mut report = Self::report_of(&in_force.order, phase);
                report.reason = Some(fault.reason);
                report.text = Some(fault.text);
                self.in_force = None;
                self.finish(report, ctx);
                self.leave_failsafe(ctx);
                self.rest.settle(ControlSource::Default, Target::Default);
            }
            (None, Ok(_)) => {}
        }
    }

    fn settle_answered(&mut self, result: Result<Applied, DeviceFault>, ctx: &mut Ctx<'_>) {
        let asset_id = self.id();
        match result {
            Ok(applied) => {
                self.rest.settled = true;
                if self.rest.failures > 0 {
                    ctx.event(AgentEvent::DeviceRecovered { asset_id });
                }
                if let Some(ending) = &mut self.ending {
                    ending.report.applied = applied.power;
                    if applied.text.is_some() {
                        ending.report.text = applied.text;
                    }
                }
                self.report_ending(ctx);
            }
            Err(fault) => {
                let retry_in = retry_delay(self.rest.failures);
                self.rest.failures = self.rest.failures.saturating_add(1);
                self.rest.retry_at = Some(ctx.now.mono + retry_in);
                if self.rest.failures == 1 {
                    ctx.alarm(asset_id, "device_stuck", fault.text.clone());
                }
                if matches!(self.rest.target, Target::Power(_)) {
                    // A device that refuses what follows is safe at its default, and told so
                    // without delay.
                    if let Some(ending) = &mut self.ending {
                        ending.report.reason = Some(fault.reason);
                        ending.report.text =
                            Some(format!("{}; sent to its default instead", fault.text));
                    }
                    let failures = self.rest.failures;
                    self.rest.settle(self.rest.source, Target::Default);
                    self.rest.failures = failures;
                }
                ctx.event(AgentEvent::DeviceStuck {
                    asset_id,
                    text: fault.text,
                    retry_in: self
                        .rest
                        .retry_at
                        .map_or_else(Default::default, |_| retry_in),
                });
            }
        }
    }

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
            FollowUp::Hold => (
                ControlSource::FollowUp,
                Target::Hold(Some(in_force.order.power)),
            ),
            _ => (ControlSource::Default, Target::Default),
        };
        self.rest.settle(source, target);
    }

    fn report_ending(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(ending) = self.ending.take() {
            self.finish_ending(ending, ctx);
        }
    }

    /// The agent stops and can end no lease any more: whatever is in force ends, and the device
    /// goes to its default.
    pub(in crate::session) fn stop(&mut self, ctx: &mut Ctx<'_>) {
        self.stopping = true;
        self.resuming = false;
        self.touch();
        let interrupted = |mut report: derms_proto::link::SetpointReport| {
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
        if let Some(in_force) = self.in_force.take() {
            let report = Self::report_of(&in_force.order, SetpointPhase::Failed);
            self.ending = Some(Ending {
                report: interrupted(report),
                release: None,
            });
            self.rest.settle(ControlSource::Default, Target::Default);
        } else if self.rest.target != Target::Default {
            self.rest.settle(ControlSource::Default, Target::Default);
        }
    }

    /// Whether the device is at its default and all is said; see [`stop`](Self::stop).
    pub(in crate::session) const fn is_stopped(&self) -> bool {
        self.rest.is_settled() && self.in_flight.is_none() && self.ending.is_none()
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

/// What a device says goes into reports: a number or nothing, and short enough for a message.
fn sane(applied: Applied) -> Applied {
    Applied {
        power: applied.power.filter(|power| power.is_finite()),
        text: applied.text.map(bounded),
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.shrink_to_fit();
    }
    text
}
