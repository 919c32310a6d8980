//! Where the device must be while no order is in force.

use derms_proto::{ControlSource, Power, Severity};

use super::device::Job;
use super::{AssetMachine, Ctx, retry_delay};
use crate::clock::MonoTime;
use crate::session::{Command, DeviceFault};
use crate::{AgentEvent, Applied, Setpoint};

/// Where a device must be while no order is in force.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) source: ControlSource,
    pub(super) target: Target,
    generation: u64,
    /// It was told a part of the way.
    told: bool,
    settled: bool,
    failures: u32,
    retry_at: Option<MonoTime>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    Default,
    Power(Power),
    /// Where it is; nothing is written unless a limit asks for it.
    Hold(Option<Power>),
}

impl Rest {
    pub(super) const fn new(source: ControlSource, target: Target) -> Self {
        Self {
            source,
            target,
            generation: 0,
            told: false,
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

    /// Whether it is on its way without a refusal.
    pub(super) const fn is_moving(&self) -> bool {
        self.told && self.failures == 0
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

impl AssetMachine {
    /// From now on the device must be at its default, or stay stopped.
    pub(super) fn rest_at_default(&mut self) {
        if self.restraints.is_stopped() {
            self.rest_stopped();
        } else {
            self.rest.settle(ControlSource::Default, Target::Default);
        }
    }

    /// The power it must be at, of which nobody knows while it is to stay where it is.
    pub(super) fn resting_power(&self) -> Option<Power> {
        let power = match self.rest.target {
            Target::Default => self.asset.default_mw,
            Target::Power(power) => power,
            Target::Hold(power) => power.or(self.ramp.at())?,
        };
        Some(self.allowed(power))
    }

    /// Whether a limit holds it away from where it would be.
    pub(super) fn is_limited(&self) -> bool {
        let wanted = match (&self.in_force, self.rest.target) {
            (Some(in_force), _) => in_force.order.power,
            (None, Target::Default) => self.asset.default_mw,
            (None, Target::Power(power) | Target::Hold(Some(power))) => power,
            (None, Target::Hold(None)) => return false,
        };
        self.allowed(wanted) != wanted
    }

    /// Tells the device where it must be without an order, if it is not there and may be told.
    pub(super) fn settle_device(&mut self, ctx: &mut Ctx<'_>) {
        if self.in_flight.is_some() || self.in_force.is_some() {
            return;
        }
        let power = self.resting_power();
        // A limit has changed since it came to rest, or it came to rest where nobody knows.
        let known = self.ramp.at().is_some();
        if self.rest.settled && power.is_some() && known && self.ramp.sure() != power {
            self.rest.settled = false;
            self.rest.told = false;
            self.rest.generation += 1;
        }
        if self.rest.settled {
            self.confirmed = self.rest.source;
            self.report_ending(ctx);
            return;
        }
        if self.settle_due().is_some_and(|due| due > ctx.now.mono) || self.awaits_reading() {
            return;
        }
        let Some(power) = power else { return };
        let rate = self.rest_rate();
        let bounds = self.restraints.bounds(&self.asset);
        let step = self.ramp.next(power, rate, bounds, ctx.now.mono);
        let last = step == power;
        self.rest.told = true;
        let job = Job::Settle {
            generation: self.rest.generation,
            last,
        };
        if last && self.rest.target == Target::Default && power == self.asset.default_mw {
            self.ramp.tell(power, ctx.now.mono);
            self.command(job, Command::Default(power), ctx);
        } else {
            self.tell(job, Setpoint::new(step), ctx);
        }
    }

    /// A stop is not ramped.
    fn rest_rate(&self) -> Option<f64> {
        self.rate(None)
            .filter(|_| self.rest.source != ControlSource::Stop)
    }

    /// At the start a ramp begins where the device is: it is read first.
    fn awaits_reading(&self) -> bool {
        self.rest_rate().is_some() && self.ramp.is_unknown() && !self.was_read
    }

    /// When the device is told next; `None` while there is nothing to tell, or at once.
    pub(super) fn settle_due(&self) -> Option<MonoTime> {
        if self.rest.settled {
            return None;
        }
        if self.rest.retry_at.is_some() {
            return self.rest.retry_at;
        }
        let (low, high) = self.restraints.bounds(&self.asset);
        let outside = self.ramp.at().is_some_and(|at| at < low || at > high);
        let waits = self.rest.told && !outside && self.rest_rate().is_some();
        self.ramp.due().filter(|_| waits)
    }

    pub(super) fn settle_answered(
        &mut self,
        result: Result<Applied, DeviceFault>,
        last: bool,
        ctx: &mut Ctx<'_>,
    ) {
        let asset_id = self.id();
        match result {
            Ok(applied) => {
                if self.rest.failures > 0 {
                    ctx.event(AgentEvent::DeviceRecovered { asset_id });
                    let text = "the device obeys again";
                    ctx.told(asset_id, Severity::Info, "device_recovered", text);
                }
                self.rest.failures = 0;
                self.rest.retry_at = None;
                self.confirmed = self.rest.source;
                if !last {
                    return;
                }
                self.rest.settled = true;
                if let Some(ending) = &mut self.ending {
                    ending.report.applied = applied.power;
                    if applied.text.is_some() {
                        ending.report.text = applied.text;
                    }
                }
                self.report_ending(ctx);
            }
            Err(fault) => self.settle_refused(fault, ctx),
        }
    }

    fn settle_refused(&mut self, fault: DeviceFault, ctx: &mut Ctx<'_>) {
        let asset_id = self.id();
        let retry_in = retry_delay(self.rest.failures);
        self.rest.failures = self.rest.failures.saturating_add(1);
        self.rest.retry_at = Some(ctx.now.mono + retry_in);
        if self.rest.failures == 1 {
            ctx.alarm(asset_id, "device_stuck", fault.text.clone());
        }
        let follows = matches!(self.rest.target, Target::Power(_));
        if follows && self.rest.source != ControlSource::Stop {
            // A device that refuses what follows is safe at its default, and told so without
            // delay. A stopped one is not: its default may be full power.
            if let Some(ending) = &mut self.ending {
                ending.report.reason = Some(fault.reason);
                ending.report.text = Some(format!("{}; sent to its default instead", fault.text));
            }
            let failures = self.rest.failures;
            self.rest.settle(self.rest.source, Target::Default);
            self.rest.failures = failures;
        }
        let retry_in = self
            .rest
            .retry_at
            .map_or_else(Default::default, |_| retry_in);
        ctx.event(AgentEvent::DeviceStuck {
            asset_id,
            text: fault.text,
            retry_in,
        });
    }

    pub(super) fn report_ending(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(ending) = self.ending.take() {
            self.finish_ending(ending, ctx);
        }
    }
}
