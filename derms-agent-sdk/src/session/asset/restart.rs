//! What an asset remembers of an earlier life of the agent.

use std::time::Duration;

use derms_proto::ReasonCode;
use derms_proto::link::{SetpointOrder, SetpointPhase, SetpointReport};

use super::limits::Restraints;
use super::{AssetMachine, Ctx, Ending, Releasing};
use crate::session::DeviceFault;
use crate::state::Record;
use crate::{AgentEvent, Applied};

/// A lease that has less left is not taken up again.
const WORTH_IT: Duration = Duration::from_secs(1);

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
            scheduled: self.scheduled.clone(),
            restraint: self.restraints.kept.clone(),
        })
    }

    /// Goes on from what was written down.
    ///
    /// Only a lease that the device had said yes to goes on, with what is left of it, and only if
    /// the clock that it is measured by has run on (`same_boot`). Whatever else was in hand may or
    /// may not have reached the device: it has failed, and the device goes to its default.
    pub(in crate::session) fn restore(
        &mut self,
        record: Record,
        same_boot: bool,
        ctx: &mut Ctx<'_>,
    ) {
        self.last_revision = record.revision;
        self.outcomes = record.outcomes.into();
        // Kept for their time, they have not reached the device.
        self.received = record
            .scheduled
            .iter()
            .map(|order| order.revision)
            .collect();
        self.scheduled = record.scheduled;
        self.restraints = Restraints::restored(record.restraint);
        self.ending = record
            .ending
            .map(|(report, release)| Ending { report, release });
        self.touch();
        if let Some(held) = record.in_force {
            let left = held
                .started
                .and_then(|started| started.ends_at)
                .map(|end| end.saturating_since(ctx.now.mono));
            let goes_on = same_boot
                && record.releasing.is_none()
                && self.asset.allows(held.order.power)
                && left.is_some_and(|left| left >= WORTH_IT);
            if goes_on {
                self.resuming = true;
                self.in_force = Some(held);
            } else {
                let text = if same_boot && left.is_some_and(|left| left < WORTH_IT) {
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
            };
            self.release(releasing, ctx);
        } else if let Some(order) = unstarted {
            let report = interrupted(&order, "the agent was started again before it began");
            self.finish(report, ctx);
        }
        self.stop_again(same_boot, ctx);
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
        let left = started
            .ends_at
            .map(|end| end.saturating_since(ctx.now.mono));
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
                    remaining: held
                        .started
                        .and_then(|started| started.ends_at)
                        .map(|end| end.saturating_since(ctx.now.mono)),
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

fn interrupted(order: &SetpointOrder, text: &str) -> SetpointReport {
    SetpointReport {
        reason: Some(ReasonCode::Interrupted),
        text: Some(text.into()),
        ..AssetMachine::report_of(order, SetpointPhase::Failed)
    }
}
