//! What an asset remembers of an earlier life of the agent.

use std::time::Duration;

use derms_proto::ReasonCode;
use derms_proto::link::{SetpointOrder, SetpointPhase, SetpointReport};

use super::limits::Restraints;
use super::schedule::Scheduled;
use super::{AssetMachine, Ctx, Ending, Releasing};
use crate::session::DeviceFault;
use crate::state::Record;
use crate::{AgentEvent, Applied};

/// A lease that has less left is not taken up again.
const WORTH_IT: Duration = Duration::from_secs(1);

/// What an earlier life of the agent, or of the asset at it, is worth.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Life {
    /// Somebody kept to leases all the time, or could have, and the clock has run on.
    pub(in crate::session) leases_go_on: bool,
    /// The clock has run on.
    pub(in crate::session) same_clock: bool,
    /// What was written down is whole, and of this agent alone.
    pub(in crate::session) trusted: bool,
    /// From 0 to 1, different for each agent.
    pub(in crate::session) jitter: f64,
}

impl AssetMachine {
    /// The state is to be written down.
    pub(in crate::session) const fn touch(&mut self) {
        self.changed = true;
    }

    pub(in crate::session) const fn has_changed(&self) -> bool {
        self.changed
    }

    /// What is to be written down, if anything is.
    pub(in crate::session) fn take_change(&mut self) -> Option<Record> {
        // Until the release behind it is carried out, an order that waited still has its fate to be
        // told, over a crash, too.
        let found_waiting = || self.releasing.as_ref()?.unstarted.as_ref();
        let next = self.next.as_ref().map(|next| &next.order);
        let next = next.or_else(found_waiting).cloned();
        std::mem::take(&mut self.changed).then(|| Record {
            asset_id: self.id(),
            revision: self.last_revision,
            next,
            in_force: self.in_force.clone(),
            releasing: self.releasing.as_ref().map(|r| r.order.clone()),
            ending: self
                .ending
                .as_ref()
                .map(|ending| (ending.report.clone(), ending.release)),
            outcomes: self.outcomes.iter().cloned().collect(),
            scheduled: self
                .scheduled
                .iter()
                .map(|kept| kept.order.clone())
                .collect(),
            restraint: self.restraints.kept.clone(),
        })
    }

    /// Goes on from what was written down.
    ///
    /// Only a lease that the device had said yes to goes on, with what is left of it, and only if
    /// the clock that it is measured by has run on. Whatever else was in hand may or may not have
    /// reached the device: it has failed, and the device goes to its default. Orders for later wait
    /// on, if what was written down can be trusted.
    pub(in crate::session) fn restore(&mut self, record: Record, life: Life, ctx: &mut Ctx<'_>) {
        self.last_revision = record.revision;
        self.outcomes = record.outcomes.into();
        let released = record.releasing.as_ref().map(|order| order.dispatch_id);
        let off_schedule = record
            .scheduled
            .iter()
            .any(|order| Some(order.dispatch_id) == released);
        let kept = record.scheduled.into_iter().map(|order| Scheduled {
            order,
            writing: None,
        });
        self.scheduled = kept.collect();
        if !life.trusted {
            self.forget_scheduled("the memory of the agent can't be trusted", ctx);
        }
        self.restraints = Restraints::restored(record.restraint);
        self.ending = record
            .ending
            .map(|(report, release)| Ending { report, release });
        self.touch();
        if let Some(held) = record.in_force {
            let left = held.started.and_then(|started| started.left(ctx.now.mono));
            let goes_on = life.leases_go_on
                && (record.releasing.is_none() || off_schedule)
                && self.asset.allows(held.order.power)
                && left.is_some_and(|left| left >= WORTH_IT);
            if goes_on {
                self.resuming = true;
                self.in_force = Some(held);
            } else {
                let text = if life.leases_go_on && left.is_some_and(|left| left < WORTH_IT) {
                    "its lease ended while the agent was not running"
                } else {
                    "the agent was started again"
                };
                let report = interrupted(&held.order, text);
                self.end_with(report, None, ctx);
            }
        }
        let unstarted = record.next;
        if let Some(order) = record.releasing {
            let releasing = Releasing {
                order,
                writing: 0,
                unstarted,
                scheduled: off_schedule,
            };
            self.release(releasing, ctx);
        } else if let Some(order) = unstarted {
            let report = interrupted(&order, "the agent was started again before it began");
            self.finish(report, ctx);
        }
        self.stop_again(life.same_clock, life.jitter, ctx);
    }

    /// Tells the device again what is in force, with what is left of it: once.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        if !self.resuming || self.in_flight.is_some() {
            return;
        }
        let Some((order, started)) = self.started() else {
            self.resuming = false;
            return;
        };
        let order = order.clone();
        let left = started.left(ctx.now.mono);
        self.drive_again(&order, left, ctx);
    }

    pub(super) fn resume_answered(
        &mut self,
        result: Result<Applied, DeviceFault>,
        ctx: &mut Ctx<'_>,
    ) {
        self.ready = true;
        // Gone if its lease ended, or a release or the shutdown came meanwhile.
        if !std::mem::take(&mut self.resuming) {
            return;
        }
        match (result, self.in_force.take()) {
            (Ok(_), Some(held)) => {
                ctx.event(AgentEvent::Resumed {
                    asset_id: self.id(),
                    dispatch_id: held.order.dispatch_id,
                    remaining: held.started.and_then(|started| started.left(ctx.now.mono)),
                });
                self.in_force = Some(held);
            }
            (Err(fault), Some(held)) => {
                self.in_force = Some(held);
                self.fail(SetpointPhase::Failed, fault, ctx);
            }
            (_, None) => {}
        }
    }
}

pub(in crate::session) fn interrupted(order: &SetpointOrder, text: &str) -> SetpointReport {
    SetpointReport {
        reason: Some(ReasonCode::Interrupted),
        text: Some(text.into()),
        ..AssetMachine::report_of(order, SetpointPhase::Failed)
    }
}
