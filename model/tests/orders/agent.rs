//! The agent's rules: `AssetMachine` (`session/asset`) and `Session` in derms-agent-sdk.

use derms_proto::DispatchStatus as Status;

use super::step::{Action, Step};
use super::world::{
    Agent, Busy, Ending, Entry, Held, LEASE, Model, RELEASE, Record, Releasing, Weakness, What,
    World,
};

/// What the agent and its device may do now.
pub(crate) fn actions(model: Model, world: &World, actions: &mut Vec<Action>) {
    let agent = &world.agent;
    let record = &agent.record;
    if model.durable
        && (*record != world.disk || agent.saved < agent.reports.len() || agent.waits())
    {
        actions.push(Action::Persist);
    }
    let started = record.in_force.and_then(|held| held.ends);
    if started.is_some_and(|ends| ends <= world.now) {
        actions.push(Action::LeaseEnds);
    }
    if agent.busy.is_some() {
        actions.push(Action::Answers);
        return;
    }
    if agent.resuming && started.is_some() {
        actions.push(Action::Resume);
    }
    if agent.ready && record.releasing.is_none() {
        if record.next.is_some() && agent.written {
            actions.push(Action::Start);
        }
        if agent.overtaken.is_some() {
            actions.push(Action::StartOvertaken);
        }
    }
    if record.in_force.is_none() && (!agent.settled || record.ending.is_some()) {
        actions.push(Action::Settle);
    }
}

impl Agent {
    /// Whether something waits for the disk.
    fn waits(&self) -> bool {
        self.record.releasing.is_some() || self.record.next.is_some() && !self.written
    }

    /// `Ctx::report`: what is held already is not said twice.
    fn report(&mut self, entry: Entry) {
        if !self.reports.iter().any(|held| held == entry) {
            self.reports.push(entry);
        }
    }

    /// `AssetMachine::finish`.
    fn finish(&mut self, entry: Entry) {
        self.record.outcomes[entry.order] = Some(entry);
        self.report(entry);
    }

    /// `AssetMachine::supersede`.
    fn supersede(&mut self, order: What) {
        self.finish(Entry::new(order, Status::Superseded));
    }

    /// `AssetMachine::end_with`.
    fn end_with(&mut self, entry: Entry, by_release: bool) {
        let ending = Ending { entry, by_release };
        if let Some(before) = self.record.ending.replace(ending) {
            self.cut_short(before);
        }
    }

    /// `AssetMachine::cut_short`.
    fn cut_short(&mut self, mut ending: Ending) {
        if ending.entry.status == Status::Completed {
            ending.entry.status = Status::Superseded;
        }
        self.finish_ending(ending);
    }

    /// `AssetMachine::finish_ending`.
    fn finish_ending(&mut self, ending: Ending) {
        if ending.by_release {
            self.record.outcomes[RELEASE] = Some(ending.entry);
        }
        self.finish(ending.entry);
    }

    /// `AssetMachine::release`: the cancel is written down, now it is done.
    fn release(&mut self, releasing: Releasing) {
        let target = releasing.target;
        let released = Entry::new(target, Status::Cancelled);
        let mut answered = None;
        if let Some(order) = releasing.unstarted {
            if order == target {
                let entry = Entry {
                    before_start: true,
                    ..released
                };
                answered = Some(entry);
                self.finish(entry);
            } else {
                self.supersede(order);
            }
        }
        if let Some(held) = self.record.in_force.take() {
            if held.order == target {
                self.end_with(released, true);
            } else {
                self.supersede(held.order);
            }
        }
        let of_target = |ending: &&mut Ending| ending.entry.order == target;
        if let Some(ending) = self.record.ending.as_mut().filter(of_target) {
            ending.entry.status = Status::Cancelled;
            ending.by_release = true;
        } else if let Some(known) = answered.or_else(|| self.outcome_of(target)) {
            self.record.outcomes[RELEASE] = Some(known);
            self.report(known);
        } else {
            self.end_with(released, true);
        }
        self.settled = false;
    }

    /// `AssetMachine::release_late`: a newer order was accepted before; only what is cancelled ends.
    fn release_late(&mut self, target: What) {
        self.record.in_force = None;
        self.resuming = false;
        self.end_with(Entry::new(target, Status::Cancelled), true);
        self.settled = false;
    }

    /// `AssetMachine::outcome_of`.
    fn outcome_of(&self, target: What) -> Option<Entry> {
        let outcomes = self.record.outcomes;
        let of_target = |entry: &Entry| entry.order == target;
        outcomes[RELEASE].filter(of_target).or(outcomes[target])
    }

    /// `AssetMachine::repeat`: what is not newer is told again, and not done.
    fn repeat(&mut self, what: What, order: What) {
        let record = &self.record;
        let ending = record.ending.is_some_and(|ending| {
            ending.entry.order == what || what == RELEASE && ending.by_release
        });
        let releasing = record
            .releasing
            .is_some_and(|releasing| what == RELEASE || releasing.unstarted == Some(what));
        if record.next == Some(what) {
            if self.written {
                self.report(Entry::new(what, Status::Received));
            }
        } else if let Some(held) = record.in_force.filter(|held| held.order == what) {
            let status = held.ends.map_or(Status::Received, |_| Status::Active);
            self.report(Entry::new(what, status));
        } else if ending || releasing {
            // Told as soon as the device or the disk has answered.
        } else if let Some(known) = record.outcomes[what].or_else(|| self.outcome_of(order)) {
            self.report(known);
        } else {
            let stale = Entry::new(order, Status::Superseded);
            self.record.outcomes[what] = Some(stale);
            self.report(stale);
        }
    }
}

impl Step {
    /// `Session::in_session`: a message of another epoch ends the session.
    pub(super) fn arrives(&mut self, what: What, epoch: u8) {
        if self
            .before
            .session
            .is_some_and(|session| session.epoch == epoch)
        {
            self.after.flight.take(what);
        } else {
            self.after.late = None;
            if !self.model.has(Weakness::EpochNotChecked) {
                self.stream_ends(None);
                return;
            }
        }
        self.facts.obeyed = Some(epoch);
        if what == RELEASE {
            self.release_ordered();
        } else {
            self.setpoint_ordered(what);
        }
    }

    /// `AssetMachine::setpoint_ordered` with `accept` and `refuse`.
    fn setpoint_ordered(&mut self, what: What) {
        let Some(order) = self.before.store.orders[what] else {
            return;
        };
        let agent = &mut self.after.agent;
        if order.revision <= agent.record.revision && !self.model.has(Weakness::NoRevisionCheck) {
            agent.repeat(what, what);
            return;
        }
        agent.record.revision = order.revision;
        if self.before.now >= order.expires {
            agent.finish(Entry::new(what, Status::Expired));
            return;
        }
        if let Some(older) = agent.record.next.take() {
            agent.supersede(older);
            if self.model.has(Weakness::StartAfterSupersede) && agent.written {
                agent.overtaken = Some(older);
            }
        }
        agent.record.next = Some(what);
        agent.written = self.model.has(Weakness::AcceptBeforeDurable);
        if agent.written {
            agent.report(Entry::new(what, Status::Received));
        }
    }

    /// `AssetMachine::release_ordered`.
    fn release_ordered(&mut self) {
        let Some(release) = self.before.store.release else {
            return;
        };
        let agent = &mut self.after.agent;
        let target = release.target;
        if !self.model.has(Weakness::ReleaseWithoutRevision) {
            if release.revision <= agent.record.revision {
                let in_force = agent
                    .record
                    .in_force
                    .is_some_and(|held| held.order == target);
                if in_force && !self.model.has(Weakness::LateReleaseRefused) {
                    agent.release_late(target);
                } else {
                    agent.repeat(RELEASE, target);
                }
                return;
            }
            agent.record.revision = release.revision;
        }
        agent.record.releasing = Some(Releasing {
            target,
            unstarted: agent.record.next.take(),
        });
    }

    /// `Session::commit`, the disk, and `AssetMachine::persisted`, in one: what comes between
    /// belongs to the next write.
    pub(super) fn persist(&mut self) {
        self.after.disk = self.after.agent.record;
        let agent = &mut self.after.agent;
        agent.saved = agent.reports.len();
        if let Some(releasing) = agent.record.releasing.take() {
            agent.resuming = false;
            agent.release(releasing);
        }
        if let Some(next) = agent.record.next.filter(|_| !agent.written) {
            agent.written = true;
            agent.report(Entry::new(next, Status::Received));
        }
    }

    pub(super) fn persist_if_due(&mut self) {
        while self.after.agent.waits() {
            self.persist();
        }
        self.after.agent.saved = self.after.agent.reports.len();
        if !self.model.durable {
            self.after.disk = Record::default();
        }
    }

    /// `AssetMachine::start_next`.
    pub(super) fn start_next(&mut self) {
        self.end_lease_if_due();
        let Some(next) = self.after.agent.record.next.take() else {
            return;
        };
        let late =
            self.before.store.orders[next].is_some_and(|order| self.before.now >= order.expires);
        if late && !self.model.has(Weakness::DeadlineOnReceiptOnly) {
            self.after.agent.finish(Entry::new(next, Status::Expired));
            return;
        }
        self.start(next);
    }

    pub(super) fn start_overtaken(&mut self) {
        self.end_lease_if_due();
        if let Some(older) = self.after.agent.overtaken.take() {
            self.start(older);
        }
    }

    fn start(&mut self, order: What) {
        let agent = &mut self.after.agent;
        if let Some(older) = agent.record.in_force.take() {
            agent.supersede(older.order);
        }
        if let Some(ending) = agent.record.ending.take() {
            agent.cut_short(ending);
        }
        agent.record.in_force = Some(Held { order, ends: None });
        agent.busy = Some(Busy::Start);
        self.facts.started = Some(order);
        self.facts.told = Some(order);
        let history = &mut self.after.history;
        history.starts[order] += 1;
        history.last_started = self.before.store.orders[order].map_or(0, |order| order.revision);
    }

    /// `AssetMachine::done` with `start_answered` and `resume_answered`, for a device that says yes.
    pub(super) fn done(&mut self) {
        let (now, agent) = (self.before.now, &mut self.after.agent);
        if agent.busy.take() == Some(Busy::Resume) {
            agent.ready = true;
            agent.resuming = false;
            return;
        }
        // Gone if a cancel came while the device was busy with it.
        if let Some(held) = &mut agent.record.in_force {
            held.ends = Some(now + LEASE);
            let order = held.order;
            agent.report(Entry::new(order, Status::Active));
        }
    }

    fn end_lease_if_due(&mut self) {
        let ends = self.after.agent.record.in_force.and_then(|held| held.ends);
        if ends.is_some_and(|ends| ends <= self.before.now) {
            self.end_lease();
        }
    }

    /// `AssetMachine::end_lease`.
    pub(super) fn end_lease(&mut self) {
        let agent = &mut self.after.agent;
        if let Some(held) = agent.record.in_force.take() {
            let whole = held.ends.is_some_and(|ends| ends <= self.before.now);
            self.after.history.ran_out[held.order] = whole;
            agent.resuming = false;
            agent.record.ending = Some(Ending {
                entry: Entry::new(held.order, Status::Completed),
                by_release: false,
            });
            agent.settled = false;
        }
    }

    /// `AssetMachine::settle_device` with `settle_answered`: a crash between the two is one before.
    pub(super) fn settle(&mut self) {
        let agent = &mut self.after.agent;
        agent.ready = true;
        agent.settled = true;
        if let Some(ending) = agent.record.ending.take() {
            if ending.entry.status == Status::Completed {
                self.after.history.settled[ending.entry.order] = true;
            }
            agent.finish_ending(ending);
        }
    }

    /// A kill and a start: `AssetMachine::restore`, or nothing is remembered.
    pub(super) fn agent_restarts(&mut self) {
        self.stream_ends(None);
        let world = &mut self.after;
        world.agent_restarts += 1;
        let mut reports = world.agent.reports;
        reports.keep_first(world.agent.saved);
        if !self.model.durable {
            world.stray = reports;
            world.disk = Record::default();
            world.agent = Agent {
                log: world.agent.log + 1,
                ..Agent::default()
            };
            return;
        }
        let Record {
            next,
            in_force,
            releasing,
            ..
        } = world.disk;
        let mut agent = Agent {
            record: Record {
                next: None,
                in_force: None,
                releasing: None,
                ..world.disk
            },
            log: world.agent.log,
            saved: reports.len(),
            reports,
            ..Agent::default()
        };
        if let Some(held) = in_force {
            let left = held.ends.is_some_and(|ends| ends > world.now);
            if left && releasing.is_none() {
                agent.resuming = true;
                agent.record.in_force = Some(held);
            } else {
                agent.end_with(Entry::new(held.order, Status::Failed), false);
            }
        }
        let waiting = releasing.and_then(|releasing| releasing.unstarted);
        let waiting = waiting.filter(|_| !self.model.has(Weakness::WaitingOrderForgotten));
        let unstarted = next.or(waiting);
        if let Some(releasing) = releasing {
            agent.release(Releasing {
                unstarted,
                ..releasing
            });
        } else if let Some(order) = unstarted {
            agent.finish(Entry::new(order, Status::Failed));
        }
        world.agent = agent;
    }
}
