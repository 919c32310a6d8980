//! One asset: the orders for it, its device, its lease and its failsafe.

mod device;
mod ending;
mod events;
mod failsafe;
mod limits;
mod orders;
mod ramp;
mod rest;
mod restart;
mod schedule;

use std::collections::VecDeque;
use std::time::Duration;

use derms_proto::link::{
    AssetHealth, AssetState, Control, EventReport, GrantStatus, Rating, ReleaseOrder, Report,
    ReportEntry, SetpointOrder, SetpointPhase, SetpointReport,
};
use derms_proto::{Asset, AssetId, AssetKind, Availability, ControlSource, Power, Severity};

pub(super) use self::restart::{Life, interrupted};

use self::device::{InFlight, Refused};
use self::events::Alarms;
use self::limits::Restraints;
use self::ramp::Ramp;
use self::rest::{Rest, Target};
use self::schedule::Scheduled;
use super::ledger::Ledger;
use super::server_clock::ServerClock;
use super::{Output, Tokens};
use crate::clock::{MonoTime, Now};
use crate::outbox::ReportLog;
use crate::state::{Held as InForce, Started};
use crate::{AgentEvent, Alarm, AssetSnapshot};

/// Outcomes that are kept to answer an order that comes again.
pub(super) const OUTCOMES: usize = 16;

/// Everything the agent knows about one asset.
#[derive(Debug)]
pub(super) struct AssetMachine {
    asset: Asset,
    kind: AssetKind,
    /// The headend's last answer; `None` before the first.
    grant: Option<GrantStatus>,
    /// When the headend was last heard in a session that grants this asset, or the start.
    heard: MonoTime,
    /// The highest revision that was decided upon.
    last_revision: u64,
    /// Accepted, and to be started now.
    next: Option<Next>,
    /// Accepted, and to be started later.
    scheduled: Vec<Scheduled>,
    /// When the next of them is due.
    schedule_due: Option<MonoTime>,
    releasing: Option<Releasing>,
    in_force: Option<InForce>,
    /// Has ended, and is reported as soon as the device is where it must be.
    ending: Option<Ending>,
    outcomes: VecDeque<(u64, SetpointReport)>,
    /// What the device must do while no order is in force.
    rest: Rest,
    /// What holds over all of that.
    restraints: Restraints,
    /// Where the device is on its way.
    ramp: Ramp,
    /// Further steps of the order in force that it refused.
    refused: Refused,
    /// The one command that the device is busy with.
    in_flight: Option<InFlight>,
    /// The device was told where it must be: orders may start.
    ready: bool,
    /// The order in force is of an earlier life of the agent, and the device is to be told again.
    resuming: bool,
    /// Something is to be written down.
    changed: bool,
    /// What had put the device where it has last said that it is.
    confirmed: ControlSource,
    /// Since when the failsafe is in force.
    failsafe: Option<MonoTime>,
    /// The agent stops: the default is the last word.
    stopping: bool,
    availability: Availability,
    read_errors: u64,
    read_failing: bool,
    /// It answered a read, well or not.
    was_read: bool,
    alarms: Alarms,
}

#[derive(Debug)]
struct Next {
    order: SetpointOrder,
    /// The token of the write that is awaited; `None` once the order is received.
    writing: Option<u64>,
    /// It was kept for its time, and said to be received then.
    received: bool,
}

#[derive(Debug)]
struct Releasing {
    order: ReleaseOrder,
    writing: u64,
    /// The order that had not started when the release came.
    unstarted: Option<SetpointOrder>,
    /// It is of an order that waited for its time: nothing else ends by it.
    scheduled: bool,
}

#[derive(Debug)]
struct Ending {
    report: SetpointReport,
    /// The revision of the release behind it.
    release: Option<u64>,
}

/// What an asset needs of its session.
#[derive(Debug)]
pub(super) struct Ctx<'a> {
    pub(super) now: Now,
    pub(super) clock: &'a ServerClock,
    pub(super) reports: &'a mut ReportLog,
    pub(super) ledger: &'a mut Ledger,
    pub(super) out: &'a mut VecDeque<Output>,
    pub(super) tokens: &'a mut Tokens,
}

impl Ctx<'_> {
    fn event(&mut self, event: AgentEvent) {
        self.out.push_back(Output::Event(event));
    }

    /// Writes a step down, to be sent until it is acknowledged. A refusal of what was never
    /// accepted needs room in the log; without it the order stays unanswered.
    fn report(&mut self, asset_id: AssetId, report: SetpointReport, refusal: bool) {
        if self.reports.holds(asset_id, &report) {
            return;
        }
        if refusal && !self.reports.has_room_for_refusal() {
            self.event(AgentEvent::ReportLogFull);
            return;
        }
        self.event(AgentEvent::Order {
            asset_id,
            dispatch_id: report.dispatch_id,
            revision: report.revision,
            phase: report.phase,
            reason: report.reason,
            text: report.text.clone(),
            applied: report.applied,
        });
        self.append(asset_id, Report::Setpoint(report));
    }

    fn alarm(&mut self, asset_id: AssetId, code: &str, text: impl Into<String>) {
        self.told(asset_id, Severity::Alarm, code, text);
    }

    /// What the agent itself has to say, which is seldom: never left out.
    fn told(&mut self, asset_id: AssetId, severity: Severity, code: &str, text: impl Into<String>) {
        let event = EventReport {
            severity,
            code: code.into(),
            text: text.into(),
        };
        self.append(asset_id, Report::Event(event));
    }

    fn append(&mut self, asset_id: AssetId, report: Report) {
        let entry = ReportEntry {
            at: self.clock.label(self.now.mono),
            asset_id,
            report,
        };
        if !self.reports.append(entry) {
            self.event(AgentEvent::ReportLogFull);
        }
    }
}

impl AssetMachine {
    pub(super) fn new(asset: Asset, kind: AssetKind, now: MonoTime) -> Self {
        Self {
            asset,
            kind,
            grant: None,
            heard: now,
            last_revision: 0,
            next: None,
            scheduled: Vec::new(),
            schedule_due: None,
            releasing: None,
            in_force: None,
            ending: None,
            outcomes: VecDeque::new(),
            rest: Rest::new(ControlSource::Default, Target::Default),
            restraints: Restraints::default(),
            ramp: Ramp::default(),
            refused: Refused::default(),
            in_flight: None,
            ready: false,
            resuming: false,
            changed: false,
            confirmed: ControlSource::Default,
            failsafe: None,
            stopping: false,
            availability: Availability::default(),
            read_errors: 0,
            read_failing: false,
            was_read: false,
            alarms: Alarms::default(),
        }
    }

    pub(super) const fn id(&self) -> AssetId {
        self.asset.id
    }

    pub(super) const fn is_granted(&self) -> bool {
        matches!(self.grant, Some(GrantStatus::Granted))
    }

    /// Whether the headend said that it does not want this asset from this agent.
    pub(super) const fn is_refused(&self) -> bool {
        self.grant.is_some() && !self.is_granted()
    }

    pub(super) const fn is_served_elsewhere(&self) -> bool {
        matches!(self.grant, Some(GrantStatus::ServedElsewhere))
    }

    /// Whether the headend was asked and has not answered.
    pub(super) const fn is_unanswered(&self) -> bool {
        self.grant.is_none() && !self.stopping
    }

    /// Whether the agent serves it no longer than its device needs to its default.
    pub(super) const fn is_leaving(&self) -> bool {
        self.stopping
    }

    pub(super) const fn availability(&self) -> Availability {
        self.availability
    }

    /// The asset goes: what is in force ends, and no new order is taken.
    pub(super) fn leave(&mut self, ctx: &mut Ctx<'_>) {
        self.stop(ctx);
        self.grant = None;
    }

    pub(super) fn set_grant(
        &mut self,
        status: GrantStatus,
        ctx: &mut Ctx<'_>,
        text: Option<String>,
    ) {
        if self.stopping {
            return;
        }
        let before = self.grant.replace(status);
        if status == GrantStatus::Granted {
            self.heard(ctx);
        } else if before != Some(status) {
            ctx.event(AgentEvent::Refused {
                asset_id: self.id(),
                status,
                text,
            });
        }
    }

    pub(super) fn state(&self, now: MonoTime) -> AssetState {
        let capacity = self.asset.capacity_mwhr;
        AssetState {
            asset_id: self.id(),
            kind: self.kind,
            rating: Rating {
                min: self.asset.min_mw,
                max: self.asset.max_mw,
                capacity_mwh: (capacity > 0.0).then_some(capacity),
                ramp_mw_per_min: self.asset.ramp_rate_mw_per_min,
            },
            last_revision: self.last_revision,
            control: self.control(now),
            availability: self.availability,
            limit_revision: self.restraints.revision(),
        }
    }

    pub(super) fn health(&self, now: MonoTime) -> AssetHealth {
        AssetHealth {
            asset_id: self.id(),
            availability: self.availability,
            control: self.control(now),
            read_errors: self.read_errors,
            limit_revision: self.restraints.revision(),
        }
    }

    pub(super) fn snapshot(&self, now: MonoTime) -> AssetSnapshot {
        AssetSnapshot {
            asset_id: self.id(),
            grant: self.grant,
            control: self.control(now),
            availability: self.availability,
            read_errors: self.read_errors,
            last_revision: self.last_revision,
        }
    }

    /// What the asset is doing. An order counts from when the device has said yes; what has not
    /// been confirmed is no power.
    fn control(&self, now: MonoTime) -> Control {
        if let Some((order, started)) = self.started() {
            return Control {
                source: ControlSource::Setpoint,
                dispatch_id: Some(order.dispatch_id),
                revision: Some(order.revision),
                power: self
                    .ramp
                    .sure()
                    .filter(|_| !self.resuming && self.in_flight.is_none()),
                remaining: started.left(now),
                limited: self.is_limited(),
            };
        }
        Control {
            source: self.rest.source,
            power: self
                .resting_power()
                .filter(|_| self.rest.is_settled() && self.in_flight.is_none()),
            limited: self.is_limited(),
            ..Control::default()
        }
    }

    /// What has put the device where it is, as far as it has said so.
    pub(super) const fn source(&self) -> ControlSource {
        self.confirmed
    }

    /// The setpoint that the device has said yes to.
    pub(super) fn setpoint(&self) -> Option<Power> {
        self.started()
            .and_then(|_| self.ramp.at())
            .filter(|_| !self.resuming)
    }

    fn started(&self) -> Option<(&SetpointOrder, Started)> {
        let in_force = self.in_force.as_ref()?;
        Some((&in_force.order, in_force.started?))
    }

    /// A read succeeded.
    pub(super) fn read(
        &mut self,
        availability: Availability,
        measured: Option<Power>,
        alarms: Vec<Alarm>,
        ctx: &mut Ctx<'_>,
    ) {
        self.takes_orders(availability, ctx);
        self.availability = availability;
        self.was_read = true;
        self.ramp.measured(measured);
        if std::mem::take(&mut self.read_failing) {
            ctx.event(AgentEvent::ReadRecovered {
                asset_id: self.id(),
            });
            self.reads(None, ctx);
        }
        self.have(alarms, ctx);
    }

    /// A read failed; no value is invented.
    pub(super) fn read_failed(&mut self, text: String, ctx: &mut Ctx<'_>) {
        self.availability = Availability::Unavailable;
        self.was_read = true;
        self.read_errors += 1;
        if !std::mem::replace(&mut self.read_failing, true) {
            let asset_id = self.id();
            self.reads(Some(&text), ctx);
            ctx.event(AgentEvent::ReadFailed { asset_id, text });
        }
    }

    /// Does what is due now: ends limits and the lease, trips the failsafe, starts the order that
    /// waits, sends the device where it must be.
    pub(super) fn advance(&mut self, ctx: &mut Ctx<'_>) {
        self.advance_limits(ctx);
        self.end_lease(ctx);
        self.trip_failsafe(ctx);
        self.take_up_scheduled(ctx);
        if self.in_flight.is_some() {
            return;
        }
        self.resume(ctx);
        self.start_next(ctx);
        self.follow(ctx);
        self.settle_device(ctx);
        self.tell_limits(ctx);
    }

    /// When [`advance`](Self::advance) has something to do, if nothing else happens.
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        let lease = self.started().and_then(|(_, started)| started.ends_at);
        let settle = (self.in_flight.is_none() && self.in_force.is_none())
            .then(|| self.settle_due())
            .flatten();
        [
            lease,
            settle,
            self.follow_due(),
            self.failsafe_due(),
            self.next_due(),
            self.next_scheduled(),
            self.restraints.deadline().filter(|_| !self.stopping),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn report_of(order: &SetpointOrder, phase: SetpointPhase) -> SetpointReport {
        SetpointReport {
            dispatch_id: order.dispatch_id,
            revision: order.revision,
            phase,
            reason: None,
            text: None,
            applied: None,
        }
    }
}

/// Doubles from 1 s to 30 s.
fn retry_delay(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30))
}
