//! Limits and stop: what holds over every setpoint, follow-up, default and failsafe.

use std::time::Duration;

use derms_proto::link::{
    AssetLimits, Limit, LimitPhase, LimitReport, Report, SetpointOrder, SetpointPhase,
};
use derms_proto::{Asset, ControlSource, Power, ReasonCode};

use super::device::Job;
use super::rest::Target;
use super::{AssetMachine, Ctx};
use crate::AgentEvent;
use crate::clock::MonoTime;
use crate::session::DeviceFault;
use crate::state::Restraint;

/// What an asset is held to, and what of it is not told yet.
#[derive(Debug, Default)]
pub(super) struct Restraints {
    /// As it is written down.
    pub(super) kept: Restraint,
    /// The write that is awaited before it is said that they are in force.
    writing: Option<u64>,
    /// Written, or without a disk: to be said as soon as the device is where it may be.
    unsaid: bool,
    /// The write failed: to be said, too.
    not_stored: bool,
    /// It was said that the device does not obey.
    not_obeyed: bool,
    /// The device is on its way back from a stop.
    returning: bool,
    /// When the next limit ends, as far as the headend's clock is known.
    ends_at: Option<MonoTime>,
}

impl Restraints {
    pub(super) fn restored(kept: Restraint) -> Self {
        Self {
            // Whether it was said before is not remembered.
            unsaid: kept.revision > 0,
            kept,
            ..Self::default()
        }
    }

    /// Whether the asset is stopped, or was and has not returned yet.
    pub(super) const fn is_stopped(&self) -> bool {
        self.kept.stop || self.kept.returns_at.is_some()
    }

    pub(super) const fn revision(&self) -> u64 {
        self.kept.revision
    }

    /// The device is back from a stop, or told something else.
    pub(super) const fn returned(&mut self) {
        self.returning = false;
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        [self.ends_at, self.kept.returns_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The lowest and the highest power that is allowed now.
    ///
    /// Limits that contradict each other leave the one power between them that is nearest to 0.
    /// Nothing outside the rating is allowed, whatever they say.
    pub(super) fn bounds(&self, asset: &Asset) -> (Power, Power) {
        let limits = || self.kept.limits.iter();
        let low = limits().filter_map(|limit| limit.min);
        let high = limits().filter_map(|limit| limit.max);
        let low = low.fold(asset.min_mw, |low, min| if min > low { min } else { low });
        let high = high.fold(
            asset.max_mw,
            |high, max| if max < high { max } else { high },
        );
        let low = low.clamp(asset.min_mw, asset.max_mw);
        let high = high.clamp(asset.min_mw, asset.max_mw);
        if low <= high {
            return (low, high);
        }
        let nearest = Power::ZERO.clamp(high, low);
        (nearest, nearest)
    }
}

impl AssetMachine {
    /// The power that is allowed and nearest to this one.
    pub(super) fn allowed(&self, power: Power) -> Power {
        // Stopped means stopped: a lower limit does not start it.
        if self.rest.source == ControlSource::Stop && self.in_force.is_none() {
            return power;
        }
        let (low, high) = self.restraints.bounds(&self.asset);
        power.clamp(low, high)
    }

    /// Limits of this session's epoch. They count at once, and are said to be in force when they
    /// are on the disk and the device is where it may be.
    pub(in crate::session) fn limits_ordered(
        &mut self,
        limits: AssetLimits,
        jitter: f64,
        ctx: &mut Ctx<'_>,
    ) {
        if limits.revision <= self.restraints.revision() {
            return;
        }
        if !self.is_granted() {
            let report = LimitReport {
                revision: limits.revision,
                phase: LimitPhase::Refused,
                reason: Some(ReasonCode::NotGranted),
                text: None,
            };
            self.say_limits(report, ctx);
            return;
        }
        let was_stopped = self.restraints.is_stopped();
        let until = self.restraints.kept.returns_at;
        self.restraints = Restraints {
            kept: Restraint {
                revision: limits.revision,
                limits: limits.limits,
                stop: limits.stop,
                return_within: limits.return_within,
                returns_at: None,
            },
            writing: Some(ctx.ledger.await_next()),
            ..Restraints::default()
        };
        self.touch();
        if limits.stop {
            self.end_all(ctx);
            if !was_stopped || until.is_some() {
                ctx.event(AgentEvent::AssetStopped {
                    asset_id: self.id(),
                });
            }
        } else if was_stopped {
            // Not all at the same time: a fleet that comes back in step is a fault of its own.
            let at = ctx.now.mono + part_of(limits.return_within, jitter);
            self.restraints.kept.returns_at = Some(until.map_or(at, |until| until.min(at)));
        }
    }

    /// The revision of the limits if they are why a device is told something: they are not in force
    /// yet, they stop it, or they let it return.
    pub(super) fn asking_limits(&self, job: &Job) -> Option<u64> {
        let awaited = self.restraints.writing.is_some() || self.restraints.unsaid;
        let stopped = self.rest.source == ControlSource::Stop && self.in_force.is_none();
        let asking = match job {
            Job::Start | Job::Resume => false,
            Job::Follow | Job::Settle { .. } => awaited || stopped || self.restraints.returning,
        };
        asking.then(|| self.restraints.revision())
    }

    /// The limits are written down, or could not be.
    pub(super) fn limits_persisted(&mut self, number: u64, stored: bool) {
        if self
            .restraints
            .writing
            .take_if(|of| *of == number)
            .is_some()
        {
            self.restraints.unsaid = true;
            self.restraints.not_stored = !stored;
        }
    }

    /// Drops what has ended, and returns from a stop when it is time.
    pub(super) fn advance_limits(&mut self, ctx: &mut Ctx<'_>) {
        let ended = |limit: &Limit| {
            limit
                .expires_at
                .is_some_and(|end| ctx.clock.is_past(end, ctx.now.mono))
        };
        let before = self.restraints.kept.limits.len();
        self.restraints.kept.limits.retain(|limit| !ended(limit));
        if self.restraints.kept.limits.len() < before {
            self.touch();
        }
        self.restraints.ends_at = self
            .restraints
            .kept
            .limits
            .iter()
            .filter_map(|limit| ctx.clock.when(limit.expires_at?, ctx.now.mono))
            .min();
        let returns = self.restraints.kept.returns_at;
        if returns.is_some_and(|at| at <= ctx.now.mono) && !self.stopping {
            self.restraints.kept.returns_at = None;
            self.restraints.returning = true;
            self.touch();
            ctx.event(AgentEvent::AssetReturned {
                asset_id: self.id(),
            });
            self.rest.settle(ControlSource::Default, Target::Default);
        }
    }

    /// Ends whatever is in hand, and stops the device.
    fn end_all(&mut self, ctx: &mut Ctx<'_>) {
        let released = |order: &SetpointOrder| {
            let mut report = Self::report_of(order, SetpointPhase::Released);
            report.reason = Some(ReasonCode::Stopped);
            report
        };
        let before_start = |order: &SetpointOrder| {
            let mut report = released(order);
            report.text = Some("before it started".into());
            report
        };
        if let Some(releasing) = self.releasing.take() {
            self.release(releasing, ctx);
        }
        for kept in std::mem::take(&mut self.scheduled) {
            self.finish(before_start(&kept.order), ctx);
        }
        if let Some(next) = self.next.take() {
            self.finish(before_start(&next.order), ctx);
        }
        if let Some(in_force) = self.in_force.take() {
            self.resuming = false;
            self.end_with(released(&in_force.order), None, ctx);
        }
        self.leave_failsafe(ctx);
        self.rest_stopped();
    }

    /// From now on the device must be at 0 MW, or what the rating allows nearest to it.
    pub(super) fn rest_stopped(&mut self) {
        let power = Power::ZERO.clamp(self.asset.min_mw, self.asset.max_mw);
        let target = if power == self.asset.default_mw {
            Target::Default
        } else {
            Target::Power(power)
        };
        self.rest.settle(ControlSource::Stop, target);
    }

    /// Goes on being stopped after a restart. A clock that has not run on can't tell how long it was
    /// to stay so: it stays for another random part.
    pub(super) fn stop_again(&mut self, same_clock: bool, jitter: f64, ctx: &mut Ctx<'_>) {
        let kept = &mut self.restraints.kept;
        if !same_clock && let Some(at) = &mut kept.returns_at {
            *at = ctx.now.mono + part_of(kept.return_within, jitter);
        }
        if self.restraints.is_stopped() {
            self.end_all(ctx);
        }
    }

    /// The device is where it may be: limits that were not told yet are.
    pub(super) fn tell_limits(&mut self, ctx: &mut Ctx<'_>) {
        if !self.restraints.unsaid || self.in_flight.is_some() || !self.is_where_it_may_be() {
            return;
        }
        self.restraints.unsaid = false;
        self.restraints.not_obeyed = false;
        let report = LimitReport {
            revision: self.restraints.revision(),
            phase: LimitPhase::InForce,
            reason: self
                .restraints
                .not_stored
                .then_some(ReasonCode::StorageFailed),
            text: None,
        };
        self.say_limits(report, ctx);
    }

    fn is_where_it_may_be(&self) -> bool {
        if self.in_force.is_none() && self.rest.is_settled() {
            return true;
        }
        // On its way inside of them is where it may be; a stop is kept at its end.
        let on_its_way = self.in_force.is_some()
            || self.rest.is_moving() && self.rest.source != ControlSource::Stop;
        let (low, high) = self.restraints.bounds(&self.asset);
        let inside = |power: Power| power >= low && power <= high;
        on_its_way && self.ramp.sure().is_some_and(inside)
    }

    /// The device has refused a command while limits wait to be in force.
    pub(super) fn limits_not_obeyed(&mut self, fault: &DeviceFault, ctx: &mut Ctx<'_>) {
        let awaited = self.restraints.unsaid || self.restraints.writing.is_some();
        if !awaited || std::mem::replace(&mut self.restraints.not_obeyed, true) {
            return;
        }
        let report = LimitReport {
            revision: self.restraints.revision(),
            phase: LimitPhase::NotObeyed,
            reason: Some(fault.reason),
            text: Some(fault.text.clone()),
        };
        self.say_limits(report, ctx);
    }

    fn say_limits(&self, report: LimitReport, ctx: &mut Ctx<'_>) {
        ctx.event(AgentEvent::Limits {
            asset_id: self.id(),
            revision: report.revision,
            phase: report.phase,
            reason: report.reason,
            text: report.text.clone(),
        });
        ctx.append(self.id(), Report::Limit(report));
    }
}

/// A random part of a time.
fn part_of(time: Duration, jitter: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * jitter).unwrap_or_default()
}
