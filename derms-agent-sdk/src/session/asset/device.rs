//! The device: one command at a time, on the way to where the order in force wants it.

use std::time::Duration;

use derms_proto::ControlSource;
use derms_proto::link::{SetpointOrder, SetpointPhase};
use derms_proto::wire::MAX_TEXT_BYTES;

use super::rest::Rest;
use super::{AssetMachine, Ctx, retry_delay};
use crate::clock::MonoTime;
use crate::session::{Command, DeviceFault, Output};
use crate::state::Started;
use crate::{Applied, Setpoint};

/// A device that refuses a further step of an order in force so often has failed.
const STEPS_REFUSED: u32 = 3;

/// A command that the device has not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    token: u64,
    job: Job,
    /// Of the limits that the command keeps to.
    limits: u64,
}

#[derive(Debug)]
pub(super) enum Job {
    /// Starts the order in force.
    Start,
    /// A further step of the order in force: of its ramp, or since a limit has changed.
    Follow,
    /// Tells the device the order in force once more, after a restart of the agent.
    Resume,
    /// Brings the device to rest, or nearer to it; the number tells whether that is still where it
    /// must be.
    Settle { generation: u64, last: bool },
}

/// Steps of the order in force that the device has refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u32,
    retry_at: Option<MonoTime>,
}

impl AssetMachine {
    /// Drives the device to the order that is to start.
    pub(super) fn drive(&mut self, order: &SetpointOrder, ctx: &mut Ctx<'_>) {
        self.refused = Refused::default();
        self.restraints.returned();
        let setpoint = self.step_of(order, order.duration, ctx.now.mono);
        self.tell(Job::Start, setpoint, ctx);
    }

    /// Drives the device to the order that goes on after a restart.
    pub(super) fn drive_again(
        &mut self,
        order: &SetpointOrder,
        left: Option<Duration>,
        ctx: &mut Ctx<'_>,
    ) {
        let setpoint = self.step_of(order, left, ctx.now.mono);
        self.tell(Job::Resume, setpoint, ctx);
    }

    /// The next step of the ramp, and what a limit that has changed asks for.
    pub(super) fn follow(&mut self, ctx: &mut Ctx<'_>) {
        if self.follow_due().is_none_or(|due| due > ctx.now.mono) {
            return;
        }
        let Some((order, started)) = self.started() else {
            return;
        };
        let left = started.left(ctx.now.mono);
        let order = order.clone();
        let setpoint = self.step_of(&order, left, ctx.now.mono);
        self.tell(Job::Follow, setpoint, ctx);
    }

    /// When the order in force has a further step; `None` when the device is where it wants it.
    pub(super) fn follow_due(&self) -> Option<MonoTime> {
        let (order, _) = self.started()?;
        let (low, high) = self.restraints.bounds(&self.asset);
        let at = self.ramp.at();
        let there = self.ramp.sure() == Some(self.allowed(order.power));
        if self.in_flight.is_some() || self.resuming || there {
            return None;
        }
        if self.refused.count > 0 {
            return self.refused.retry_at;
        }
        // A limit is kept at once, whatever the ramp says.
        let ramped = self.rate(order.ramp_mw_per_min).is_some();
        if !ramped || at.is_none_or(|at| at < low || at > high) {
            return Some(MonoTime::default());
        }
        self.ramp.due()
    }

    fn step_of(&self, order: &SetpointOrder, left: Option<Duration>, now: MonoTime) -> Setpoint {
        let rate = self.rate(order.ramp_mw_per_min);
        let target = self.allowed(order.power);
        let bounds = self.restraints.bounds(&self.asset);
        Setpoint {
            dispatch_id: Some(order.dispatch_id),
            remaining: left,
            ..Setpoint::new(self.ramp.next(target, rate, bounds, now))
        }
    }

    /// The slower of the order's and the asset's own ramp.
    pub(super) fn rate(&self, of_order: Option<f64>) -> Option<f64> {
        let of_asset = self.asset.ramp_rate_mw_per_min;
        of_order.into_iter().chain(of_asset).reduce(f64::min)
    }

    /// Tells the device a power.
    pub(super) fn tell(&mut self, job: Job, setpoint: Setpoint, ctx: &mut Ctx<'_>) {
        self.ramp.tell(setpoint.power, ctx.now.mono);
        self.command(job, Command::Apply(setpoint), ctx);
    }

    pub(super) fn command(&mut self, job: Job, command: Command, ctx: &mut Ctx<'_>) {
        let token = ctx.tokens.next();
        let asking = self.asking_limits(&job);
        let limits = self.restraints.revision();
        self.in_flight = Some(InFlight { token, job, limits });
        ctx.out.push_back(Output::Command {
            asset_id: self.id(),
            token,
            command,
            limits: asking,
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
        self.ramp.told(result.is_ok());
        // An order that is refused at its start, or what was told before they came, says nothing of
        // the limits.
        let concerns = in_flight.limits == self.restraints.revision();
        if let Err(fault) = &result
            && concerns
            && !matches!(in_flight.job, Job::Start)
        {
            self.limits_not_obeyed(fault, ctx);
        }
        match in_flight.job {
            Job::Start => self.start_answered(result, ctx),
            Job::Follow => self.follow_answered(result, ctx),
            Job::Resume => self.resume_answered(result, ctx),
            Job::Settle { generation, last } => {
                self.ready = true;
                if generation == self.rest.generation() {
                    if last && result.is_ok() {
                        self.restraints.returned();
                    }
                    self.settle_answered(result, last, ctx);
                }
            }
        }
    }

    fn start_answered(&mut self, result: Result<Applied, DeviceFault>, ctx: &mut Ctx<'_>) {
        // Gone if a release, a stop or the shutdown came while the device was busy with it.
        let Some(in_force) = self
            .in_force
            .as_mut()
            .filter(|order| order.started.is_none())
        else {
            return;
        };
        match result {
            Ok(answer) => {
                // The lease counts from the device's yes, whatever the order was told before.
                let ends_at = in_force.order.duration.map(|lease| ctx.now.mono + lease);
                let applied = answer.power;
                in_force.started = Some(Started { ends_at, applied });
                let order = in_force.order.clone();
                self.confirmed = ControlSource::Setpoint;
                self.touch();
                let mut report = Self::report_of(&order, SetpointPhase::Started);
                report.text = answer.text.or_else(|| self.on_the_way(&order));
                report.applied = applied;
                ctx.report(self.id(), report, false);
                self.leave_failsafe(ctx);
            }
            Err(fault) => {
                let phase = if fault.refused() {
                    SetpointPhase::Rejected
                } else {
                    SetpointPhase::Failed
                };
                // It has not started: a failsafe that had moved the device stays.
                let Rest { source, target, .. } = self.rest;
                let failsafe = self.failsafe.is_some() && source == ControlSource::Failsafe;
                self.fail(phase, fault, ctx);
                if failsafe {
                    self.rest.settle(source, target);
                } else {
                    self.leave_failsafe(ctx);
                }
            }
        }
    }

    /// Why the device is not where the order wants it, for people.
    fn on_the_way(&self, order: &SetpointOrder) -> Option<String> {
        let target = self.allowed(order.power);
        if target != order.power {
            return Some(format!("limited to {target}"));
        }
        let rate = self.rate(order.ramp_mw_per_min)?;
        (self.ramp.at() != Some(target)).then(|| format!("on its way at {rate} MW per minute"))
    }

    fn follow_answered(&mut self, result: Result<Applied, DeviceFault>, ctx: &mut Ctx<'_>) {
        match result {
            Ok(_) => self.refused = Refused::default(),
            Err(fault) => {
                let delay = retry_delay(self.refused.count);
                self.refused.count += 1;
                self.refused.retry_at = Some(ctx.now.mono + delay);
                if self.refused.count >= STEPS_REFUSED {
                    self.fail(SetpointPhase::Failed, fault, ctx);
                }
            }
        }
    }

    /// The order in force ends with what the device said, and the device goes to its default.
    pub(super) fn fail(&mut self, phase: SetpointPhase, fault: DeviceFault, ctx: &mut Ctx<'_>) {
        let Some(in_force) = self.in_force.take() else {
            return;
        };
        let mut report = Self::report_of(&in_force.order, phase);
        report.reason = Some(fault.reason);
        report.text = Some(fault.text);
        self.finish(report, ctx);
        self.rest_at_default();
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
