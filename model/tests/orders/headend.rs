//! The headend's rules: `dispatcher` and the rules of `store::Order` in derms-headend-sdk.

use derms_proto::{Actor, DispatchStatus};

use super::step::{Action, Step};
use super::world::{
    Entry, Flight, Model, ORDERS, Order, RELEASE, Release, SESSIONS, Session, TTL, Weakness, What,
    World,
};

/// What the headend may do now.
pub(crate) fn actions(model: Model, world: &World, actions: &mut Vec<Action>) {
    let store = &world.store;
    for order in ORDERS {
        let known = world.history.acknowledged[order];
        let turn = order == 0 || world.history.acknowledged[0];
        if !known && turn && world.is_heard() && world.now < model.last_tick {
            actions.push(Action::Post(order));
        }
        let Some(held) = store.orders[order] else {
            continue;
        };
        if store.release.is_none() && !held.status.is_terminal() && world.is_heard() {
            actions.push(Action::Cancel(order));
        }
        if held.is_overdue(model, world.now) {
            actions.push(Action::Expire(order));
        }
    }
    actions.extend(world.history.uncommitted.map(Action::Commit));
    if let Some(session) = world.session {
        let due = |what: &What| is_due(model, world, session, *what);
        let all = ORDERS.into_iter().chain([RELEASE]);
        actions.extend(all.filter(due).map(Action::Send));
        if world.agent.saved > 0 {
            actions.push(Action::Read);
        }
    } else if store.epoch < SESSIONS {
        actions.push(Action::Connect);
    }
    if world.stray.len() > 0 {
        actions.push(Action::ReadStray);
    }
    if world.session.is_some() || world.history.uncommitted.is_some() {
        actions.push(Action::HeadendRestarts);
    }
}

/// Which open orders `Dispatcher::replay` and `Dispatcher::deliver` have something to do with. The
/// order among them is left open, for an operator's request runs beside a replay.
fn is_due(model: Model, world: &World, session: Session, what: What) -> bool {
    if what == RELEASE {
        return world.store.release.is_some_and(|release| {
            let open = |order: &Order| {
                let log = order.carrier.map(|carrier| carrier.log);
                !order.status.is_terminal() && log == Some(session.log)
            };
            release.sent < session.epoch
                && world.store.orders[release.target]
                    .as_ref()
                    .is_some_and(open)
        });
    }
    world.store.orders[what].is_some_and(|order| match order.carrier {
        None => order.status == DispatchStatus::Pending && world.now < order.expires,
        Some(carrier) if carrier.log != session.log => {
            let again = model.has(Weakness::ResendAfterLogLost)
                && (order.status != DispatchStatus::Sent || carrier.epoch == session.epoch);
            !order.status.is_terminal() && !again
        }
        Some(carrier) => order.status == DispatchStatus::Sent && carrier.epoch < session.epoch,
    })
}

impl Model {
    pub(crate) fn has(self, weakness: Weakness) -> bool {
        self.weakness == Some(weakness)
    }
}

impl Order {
    /// `Order::advance`: `false` if the life cycle does not allow it.
    fn advance(&mut self, status: DispatchStatus) -> bool {
        let allowed = self.status.may_become(status, Actor::Headend);
        if allowed {
            self.status = status;
        }
        allowed
    }

    /// `Order::doubt`.
    fn doubt(&mut self, ended: u8) {
        let open = self.status != DispatchStatus::Pending && !self.status.is_terminal();
        self.in_doubt = open && self.carrier.is_some_and(|carrier| carrier.epoch <= ended);
    }

    /// `Order::heard`.
    fn heard(&mut self, epoch: u8) {
        if let Some(carrier) = &mut self.carrier {
            carrier.epoch = carrier.epoch.max(epoch);
        }
    }

    /// `Timer::Expire`: what was sent is the agent's to tell.
    fn is_overdue(&self, model: Model, now: u8) -> bool {
        let waits = self.status == DispatchStatus::Pending
            || model.has(Weakness::ExpireSent) && self.status == DispatchStatus::Sent;
        waits && now >= self.expires
    }
}

impl Step {
    /// `Dispatcher::submit`: checked elsewhere, committed, then acknowledged.
    pub(super) fn post(&mut self, order: What) {
        self.after.history.acknowledged[order] = true;
        if self.model.has(Weakness::AcknowledgeBeforeCommit) {
            self.after.history.uncommitted = Some(order);
        } else {
            self.commit(order);
        }
    }

    /// `Store::commit` with `Order::committed` and `Order::supersede`.
    pub(super) fn commit(&mut self, order: What) {
        self.after.history.uncommitted = None;
        let store = &mut self.after.store;
        for older in store.orders.iter_mut().flatten() {
            // The life cycle allows it from `pending` alone.
            older.never_started |= older.advance(DispatchStatus::Superseded);
        }
        store.revision += 1;
        store.orders[order] = Some(Order {
            status: DispatchStatus::Pending,
            revision: store.revision,
            expires: self.before.now + TTL,
            carrier: None,
            in_doubt: false,
            never_started: false,
            told: false,
        });
    }

    /// A cancel: what waits is never sent; of what was sent the agent is told, with the next
    /// revision.
    pub(super) fn cancel(&mut self, target: What) {
        let store = &mut self.after.store;
        let Some(order) = &mut store.orders[target] else {
            return;
        };
        if order.advance(DispatchStatus::Cancelled) {
            order.never_started = true;
            return;
        }
        store.revision += 1;
        store.release = Some(Release {
            target,
            revision: store.revision,
            sent: 0,
        });
    }

    /// `Dispatcher::deliver` and `Dispatcher::write`: stored as sent, then written to the session.
    /// `delivery::give_up`: what only a lost report log could tell.
    pub(super) fn send(&mut self, what: What) {
        let Some(session) = self.before.session else {
            return;
        };
        let store = &mut self.after.store;
        if what == RELEASE {
            if let Some(release) = &mut store.release {
                release.sent = session.epoch;
            }
        } else if let Some(order) = &mut store.orders[what] {
            let lost = order
                .carrier
                .is_some_and(|carrier| carrier.log != session.log);
            if lost && !self.model.has(Weakness::ResendAfterLogLost) {
                let unanswered = order.status == DispatchStatus::Sent;
                let _ = order.advance(if unanswered {
                    DispatchStatus::Indeterminate
                } else {
                    DispatchStatus::Failed
                });
                order.doubt(store.ended);
                return;
            }
            if !order.advance(DispatchStatus::Sent) {
                return;
            }
            order.carrier = Some(session);
            order.doubt(store.ended);
        }
        self.after.flight.put(what);
        self.facts.sent = Some(session.epoch);
    }

    /// `Timer::Expire`.
    pub(super) fn expire(&mut self, order: What) {
        if let Some(order) = &mut self.after.store.orders[order] {
            let allowed = order.advance(DispatchStatus::Expired);
            if !allowed && self.model.has(Weakness::ExpireSent) {
                order.status = DispatchStatus::Expired;
            }
            order.never_started = true;
            order.doubt(self.before.store.ended);
        }
    }

    /// `Store::append_reports`: a batch is stored in one step, and not read again.
    pub(super) fn read(&mut self) {
        let epoch = self.before.session.map_or(0, |session| session.epoch);
        for _ in 0..std::mem::take(&mut self.after.agent.saved) {
            if let Some(entry) = self.after.agent.reports.pop() {
                self.reported(entry, epoch);
            }
        }
    }

    /// The same, from a stream that is over and whose task has not seen it yet.
    pub(super) fn read_stray(&mut self) {
        while let Some(entry) = self.after.stray.pop() {
            self.reported(entry, 0);
        }
    }

    /// `Order::report`.
    fn reported(&mut self, entry: Entry, epoch: u8) {
        let Some(order) = &mut self.after.store.orders[entry.order] else {
            return;
        };
        let status = entry.status;
        let legal = order.status.may_become(status, Actor::Agent)
            || self.model.has(Weakness::ReportsKnowNoLifeCycle);
        if order.status != status && legal {
            order.status = status;
            order.told = status.is_terminal();
            let refused = matches!(status, DispatchStatus::Expired | DispatchStatus::Rejected);
            order.never_started = refused || entry.before_start;
        }
        order.heard(epoch);
        order.doubt(self.before.store.ended);
    }

    /// `Store::open_session`, `Registry::insert` and `Store::confirm`: the next epoch, and an order
    /// that the agent says is in force is in doubt no more.
    pub(super) fn connect(&mut self) {
        let store = &mut self.after.store;
        store.epoch += 1;
        self.after.session = Some(Session {
            epoch: store.epoch,
            log: self.before.agent.log,
        });
        let started = self
            .before
            .agent
            .record
            .in_force
            .filter(|held| held.ends.is_some());
        if let Some(order) = started.and_then(|held| store.orders[held.order].as_mut()) {
            order.heard(store.epoch);
            order.doubt(store.ended);
        }
    }

    /// `update::record_end` with `Store::mark_in_doubt`. All that was in flight is lost, but for one
    /// message perhaps, which comes too late.
    pub(super) fn stream_ends(&mut self, late: Option<What>) {
        let Some(session) = self.after.session.take() else {
            return;
        };
        self.after.flight = Flight::default();
        self.after.late = late.map(|what| (what, session.epoch));
        let store = &mut self.after.store;
        store.ended = store.epoch;
        for order in store.orders.iter_mut().flatten() {
            order.doubt(store.ended);
        }
    }

    /// `Dispatcher::recover`: nothing is left but the store.
    pub(super) fn headend_restarts(&mut self) {
        self.after.history.uncommitted = None;
        self.stream_ends(None);
    }
}
