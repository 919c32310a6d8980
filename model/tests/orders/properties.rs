//! The invariants of `docs/protocol.md` that are about orders, as they are seen from outside.

use derms_proto::{Actor, DispatchStatus};

use super::step::Step;
use super::world::{ORDERS, World};

/// What must hold in every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    /// I1: an order becomes active at most once, over all processes and sessions.
    AtMostOneStart,
    /// I2: an expired order never starts.
    NoLateStart,
    /// I3: the revisions that start strictly increase.
    RevisionsIncrease,
    /// I5: what is cancelled is never begun and never told to the device again.
    CancelledIsOver,
    /// I6: what is said to have ended before it started never starts; what is said to have
    /// completed had its whole lease; what is said to have ended by its agent is not in force.
    EndsAreTrue,
    /// I7: only legal transitions; what has ended does not change.
    LegalTransitions,
    /// I8: an order that was acknowledged is there; and when nothing is left to happen it has ended,
    /// or is in force, and nothing is in doubt.
    NothingIsLost,
    /// I14: epochs strictly increase; nothing is sent or obeyed on an older one.
    NewestEpoch,
}

impl Property {
    pub(crate) const ALL: [Self; 8] = [
        Self::AtMostOneStart,
        Self::NoLateStart,
        Self::RevisionsIncrease,
        Self::CancelledIsOver,
        Self::EndsAreTrue,
        Self::LegalTransitions,
        Self::NothingIsLost,
        Self::NewestEpoch,
    ];

    /// Whether it holds in this step.
    pub(crate) fn holds(self, step: &Step) -> bool {
        let (before, after) = (&step.before, &step.after);
        match self {
            Self::AtMostOneStart => after.history.starts.iter().all(|starts| *starts <= 1),
            Self::NoLateStart => step.facts.started.is_none_or(|order| {
                before.store.orders[order].is_some_and(|order| before.now < order.expires)
            }),
            Self::RevisionsIncrease => {
                step.facts.started.is_none()
                    || after.history.last_started > before.history.last_started
            }
            Self::CancelledIsOver => step.facts.told.is_none_or(|order| {
                before.store.orders[order]
                    .is_some_and(|order| order.status != DispatchStatus::Cancelled)
            }),
            Self::EndsAreTrue => ORDERS.iter().all(|order| ends_are_true(after, *order)),
            Self::LegalTransitions => ORDERS.iter().all(|order| {
                let [old, new] = [before, after].map(|world| world.store.orders[*order]);
                match (old, new) {
                    (None, None) => true,
                    (None, Some(new)) => new.status == DispatchStatus::Pending,
                    (Some(_), None) => false,
                    (Some(old), Some(new)) => {
                        let may = |actor| old.status.may_become(new.status, actor);
                        old.status == new.status || may(Actor::Headend) || may(Actor::Agent)
                    }
                }
            }),
            Self::NothingIsLost => ORDERS.iter().all(|order| {
                !after.history.acknowledged[*order]
                    || after.store.orders[*order].is_some()
                    || after.history.uncommitted == Some(*order)
            }),
            Self::NewestEpoch => {
                let new_session = before.session.is_none() && after.session.is_some();
                let increases = after.store.epoch > before.store.epoch;
                let used = [step.facts.sent, step.facts.obeyed];
                let newest = |epoch: &u8| *epoch == before.store.epoch;
                new_session == increases && used.iter().flatten().all(newest)
            }
        }
    }

    /// Whether it holds where nothing is left to happen but trouble.
    pub(crate) fn holds_at_rest(self, world: &World) -> bool {
        if self != Self::NothingIsLost || world.session.is_none() {
            return true;
        }
        ORDERS.iter().all(|id| {
            world.store.orders[*id].is_none_or(|order| {
                let held = world.agent.record.in_force;
                let in_force = held.is_some_and(|held| held.order == *id && held.ends.is_some());
                let active = order.status == DispatchStatus::Active && in_force;
                !order.in_doubt && (order.status.is_terminal() || active)
            })
        })
    }
}

fn ends_are_true(world: &World, id: usize) -> bool {
    let Some(order) = world.store.orders[id] else {
        return true;
    };
    let held = world.agent.record.in_force.map(|held| held.order);
    let started = world.history.starts[id] > 0;
    let completed = order.status == DispatchStatus::Completed;
    !(order.never_started && started
        || completed && !(world.history.ran_out[id] && world.history.settled[id])
        || order.told && held == Some(id))
}
