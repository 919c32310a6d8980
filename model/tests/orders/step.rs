//! What may happen next, and what it leads to.

use super::agent;
use super::headend;
use super::world::{Busy, Model, RESTARTS, What, World};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// An operator gives an order.
    Post(What),
    /// With a headend that acknowledges before: the order is stored.
    Commit(What),
    /// An operator cancels an order.
    Cancel(What),
    /// The headend sends an order or the cancel, or gives up what can't be told any more.
    Send(What),
    /// The time to live of an order that waits is over.
    Expire(What),
    /// The headend reads the reports that were sent.
    Read,
    /// The headend reads reports of a log that is lost.
    ReadStray,
    HeadendRestarts,
    Connect,
    /// One message may still be on its way.
    StreamEnds(Option<What>),
    /// A message of this epoch reaches the agent.
    Arrives(What, u8),
    /// The same, of an epoch that is over.
    ArrivesLate(What, u8),
    /// The agent's disk has what was to be written down.
    Persist,
    /// The device is told the order that waits.
    Start,
    /// The device is told an order that a newer one has taken the place of.
    StartOvertaken,
    /// The device is told again what is in force.
    Resume,
    /// The device says yes.
    Answers,
    LeaseEnds,
    /// The device is sent to its default and says yes.
    Settle,
    AgentRestarts,
    Tick,
}

impl Action {
    /// Everything that may happen now.
    pub(crate) fn possible(model: Model, world: &World) -> Vec<Self> {
        let mut actions = Vec::with_capacity(16);
        headend::actions(model, world, &mut actions);
        agent::actions(model, world, &mut actions);
        if let Some(session) = world.session {
            actions.push(Self::StreamEnds(None));
            if world.is_followed() {
                actions.extend(world.flight.iter().map(|what| Self::StreamEnds(Some(what))));
            }
            actions.extend(
                world
                    .flight
                    .iter()
                    .map(|what| Self::Arrives(what, session.epoch)),
            );
            actions.extend(
                world
                    .late
                    .map(|(what, epoch)| Self::ArrivesLate(what, epoch)),
            );
        }
        if world.agent_restarts < RESTARTS {
            actions.push(Self::AgentRestarts);
        }
        if world.now < model.last_tick {
            actions.push(Self::Tick);
        }
        actions
    }

    /// Whether it comes from outside and need not happen.
    pub(crate) const fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Post(_)
                | Self::Cancel(_)
                | Self::ReadStray
                | Self::HeadendRestarts
                | Self::StreamEnds(_)
                | Self::ArrivesLate(..)
                | Self::AgentRestarts
        )
    }
}

/// What a step did that can't be seen from before and after.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    /// The device was told to begin this order.
    pub(crate) started: Option<What>,
    /// The device was told this order, for the first time or again.
    pub(crate) told: Option<What>,
    /// The agent decided upon a message of this epoch.
    pub(crate) obeyed: Option<u8>,
    /// The headend sent a message in this epoch.
    pub(crate) sent: Option<u8>,
}

/// One step of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) model: Model,
    pub(crate) before: World,
    pub(crate) after: World,
    pub(crate) facts: Facts,
}

impl Step {
    pub(crate) fn take(model: Model, world: &World, action: Action) -> Self {
        let mut step = Self {
            model,
            before: *world,
            after: *world,
            facts: Facts::default(),
        };
        match action {
            Action::Post(order) => step.post(order),
            Action::Commit(order) => step.commit(order),
            Action::Cancel(order) => step.cancel(order),
            Action::Send(what) => step.send(what),
            Action::Expire(order) => step.expire(order),
            Action::Read => step.read(),
            Action::ReadStray => step.read_stray(),
            Action::HeadendRestarts => step.headend_restarts(),
            Action::Connect => step.connect(),
            Action::StreamEnds(late) => step.stream_ends(late),
            Action::Arrives(what, epoch) | Action::ArrivesLate(what, epoch) => {
                step.arrives(what, epoch);
            }
            Action::Persist => step.persist(),
            Action::Start => step.start_next(),
            Action::StartOvertaken => step.start_overtaken(),
            Action::Resume => {
                step.facts.told = step.after.agent.record.in_force.map(|held| held.order);
                step.after.agent.busy = Some(Busy::Resume);
            }
            Action::Answers => step.done(),
            Action::LeaseEnds => step.end_lease(),
            Action::Settle => step.settle(),
            Action::AgentRestarts => step.agent_restarts(),
            Action::Tick => step.after.now += 1,
        }
        if !model.durable || step.after.agent_restarts == RESTARTS {
            // Nothing can come between: without a disk there is no wait for it, and what no restart
            // can lose makes no difference.
            step.persist_if_due();
        }
        step
    }
}
