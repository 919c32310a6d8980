//! Orders as a store keeps them.

use derms_proto::link::{ReportEntry, SetpointPhase, SetpointReport};
use derms_proto::{
    Actor, AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, Event, InstanceId, LogId,
    ReasonCode, Timestamp, Transition,
};

/// An order that is sent again and again, for its agent never answers, keeps this many steps; then
/// the newest sending takes the place of the one before.
const MOST_STEPS: usize = 64;

/// An order for one asset, with what only the headend needs to know.
///
/// Its methods are the rules by which an order changes, for all stores. Where they ask for
/// `ended_epoch`, it is the newest epoch of the carrier's agent that was marked as over with
/// [`Store::mark_in_doubt`](super::Store::mark_in_doubt); 0 if none was.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// As served; without children.
    pub dispatch: Dispatch,
    /// The session that carried it, or told of it, last; `None` while it is `pending`.
    pub carrier: Option<Carrier>,
    /// The revision of the release that ends it at its agent; `None` while nobody asked for its
    /// end, and while a newer order that was sent is about to take its place.
    pub release: Option<u64>,
}

/// A session that carries an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// The agent.
    pub agent: AgentId,
    /// This start of its process.
    pub instance: InstanceId,
    /// The report log in which the agent will tell what became of the order.
    pub report_log: Option<LogId>,
    /// The session's epoch.
    pub epoch: u64,
}

/// A new order, checked and split, without revisions.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrder {
    /// For an asset: the order, `pending`. For a site: the parent, with at least one child, all
    /// `pending`, in the order of their assets' ids.
    pub dispatch: Dispatch,
    /// The client's key.
    pub idempotency: Option<Idempotency>,
}

/// The client's promise that the same key means the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, within the scope of its principal.
    pub key: String,
    /// What the order was, to tell a repetition from a mistake.
    pub fingerprint: String,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Commit {
    /// It is new.
    New {
        /// With its revisions, and for a site with its children.
        dispatch: Box<Dispatch>,
        /// The orders it took the place of.
        superseded: Vec<Dispatch>,
    },
    /// The same key and order as before, or an order with this id: nothing was done.
    Repeated(Box<Dispatch>),
    /// The same key with another order: nothing was done.
    Conflict,
}

/// A step in the life of an order that the headend takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// The order.
    pub id: DispatchId,
    /// Where to.
    pub status: DispatchStatus,
    /// When.
    pub at: Timestamp,
    /// Why, for programs.
    pub reason: Option<ReasonCode>,
    /// Why, for people.
    pub text: Option<String>,
    /// With `sent`: the session that is about to carry it.
    pub carrier: Option<Carrier>,
}

/// A part of an agent's report log.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportAppend {
    /// The agent.
    pub agent: AgentId,
    /// The epoch of the session that brought it.
    pub epoch: u64,
    /// The log.
    pub log: LogId,
    /// Entries with their numbers, in order.
    pub entries: Vec<StoredReport>,
    /// The log continues here.
    pub next_seq: u64,
    /// When the headend received them.
    pub at: Timestamp,
}

/// An entry of a report log with its number.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReport {
    /// Its number.
    pub seq: u64,
    /// The entry.
    pub entry: ReportEntry,
    /// If the entry is an event: that, as it is to be stored.
    pub event: Option<Box<Event>>,
}

impl StoredReport {
    /// The fate of an entry that is not about an order.
    #[must_use]
    pub fn beside_orders(&self) -> ReportFate {
        match &self.event {
            Some(event) => ReportFate::Event(event.clone()),
            None => ReportFate::Other(self.entry.clone()),
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReportFate {
    /// The order moved on.
    Applied(Box<Order>),
    /// The order was there already; only the doubt, if any, is gone.
    Repeated(Box<Order>),
    /// It contradicts what is known, and was stored without effect: raise an alarm.
    Contradiction {
        /// The order as it stands.
        order: Box<Order>,
        /// The status that was reported.
        reported: DispatchStatus,
    },
    /// No such order of this agent and asset here (a headend without its memory, or an agent that
    /// speaks of what is not its own): stored without effect.
    UnknownDispatch(DispatchId),
    /// The release of this order came too late: a newer command was there first. It says nothing
    /// of the order itself, which is as it was.
    ReleaseRefused {
        /// The order as it stands.
        order: Box<Order>,
        /// The revision of the release.
        revision: u64,
    },
    /// An event, which was stored.
    Event(Box<Event>),
    /// Something else, which moves no order.
    Other(ReportEntry),
}

/// How a report changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reported {
    /// It moved on.
    Applied,
    /// It was there already; only the doubt, if any, is gone.
    Repeated,
    /// The life cycle does not allow it: nothing changed.
    Contradiction(DispatchStatus),
    /// It is not the order of this asset, or another agent has it: nothing changed.
    Foreign,
    /// It speaks of the release with this revision, which came too late: nothing changed.
    ReleaseRefused(u64),
}

/// The status that a step at the agent means.
#[must_use]
pub fn status_of(phase: SetpointPhase) -> DispatchStatus {
    match phase {
        SetpointPhase::Received => DispatchStatus::Received,
        SetpointPhase::Started => DispatchStatus::Active,
        SetpointPhase::Completed => DispatchStatus::Completed,
        SetpointPhase::Superseded => DispatchStatus::Superseded,
        SetpointPhase::Released => DispatchStatus::Cancelled,
        SetpointPhase::Rejected => DispatchStatus::Rejected,
        SetpointPhase::Expired => DispatchStatus::Expired,
        _ => DispatchStatus::Failed,
    }
}

/// Gives a site order the status and the doubt of its children, as far as they
/// [count](Dispatch::counts_among).
pub fn summarise(parent: &mut Dispatch) {
    let shares = parent.children.iter();
    let counting = shares.filter(|share| share.counts_among(&parent.children));
    if let Some(status) = DispatchStatus::summary(counting.map(|share| share.status)) {
        parent.status = status;
    }
    parent.in_doubt = parent.children.iter().any(|child| child.in_doubt);
}

impl Order {
    /// A new order with the next revision of its asset, as a store first keeps it.
    #[must_use]
    pub fn committed(mut dispatch: Dispatch, revision: u64) -> Self {
        dispatch.revision = Some(revision);
        dispatch.transitions = vec![Transition {
            status: dispatch.status,
            at: dispatch.created_at,
            reported_at: None,
            reason: None,
            text: None,
            applied_mw: None,
            epoch: None,
        }];
        Self {
            dispatch,
            carrier: None,
            release: None,
        }
    }

    /// Steps back for a newer order of its asset. `false`: it would not begin while that one is in
    /// force, or it was sent, so its agent tells its fate, or it has ended; nothing changed.
    #[must_use]
    pub fn supersede(&mut self, newer: &Dispatch) -> bool {
        if !newer.takes_the_place_of(&self.dispatch) {
            return false;
        }
        // The life cycle allows it from `pending` alone.
        let step = Advance {
            id: self.dispatch.id,
            status: DispatchStatus::Superseded,
            at: newer.created_at,
            reason: Some(ReasonCode::NewerOrder),
            text: Some(format!("dispatch {} took its place", newer.id)),
            carrier: None,
        };
        self.advance(&step, 0)
    }

    /// Applies a step of the headend. `false`: the life cycle does not allow it, nothing changed.
    ///
    /// What was sent is sent again by a later session alone, so of two attempts in one session
    /// only the first goes through.
    #[must_use]
    pub fn advance(&mut self, advance: &Advance, ended_epoch: u64) -> bool {
        let known = self.dispatch.status;
        if !known.may_become(advance.status, Actor::Headend) {
            return false;
        }
        if advance.status == DispatchStatus::Sent {
            let Some(carrier) = advance.carrier else {
                return false;
            };
            let held = self.carrier.filter(|held| held.agent == carrier.agent);
            if held.is_some_and(|held| held.epoch >= carrier.epoch) {
                return false;
            }
            self.carrier = Some(carrier);
        }
        self.step(Transition {
            status: advance.status,
            at: advance.at,
            reported_at: None,
            reason: advance.reason,
            text: advance.text.clone(),
            applied_mw: None,
            epoch: advance.carrier.map(|carrier| carrier.epoch),
        });
        let _ = self.doubt(ended_epoch);
        true
    }

    /// Applies what its agent said: idempotent and monotone.
    #[must_use]
    pub fn report(
        &mut self,
        append: &ReportAppend,
        entry: &ReportEntry,
        report: &SetpointReport,
        ended_epoch: u64,
    ) -> Reported {
        let foreign = self.carrier.is_some_and(|held| held.agent != append.agent);
        if foreign || self.dispatch.asset_id != Some(entry.asset_id) {
            return Reported::Foreign;
        }
        if self.is_refusal_of_a_release(report) {
            return Reported::ReleaseRefused(report.revision);
        }
        let status = status_of(report.phase);
        let known = self.dispatch.status;
        let reported = if known == status {
            Reported::Repeated
        } else if known.may_become(status, Actor::Agent) {
            self.step(Transition {
                status,
                at: append.at,
                reported_at: Some(entry.at),
                reason: report.reason,
                text: report.text.clone(),
                applied_mw: report.applied,
                epoch: None,
            });
            Reported::Applied
        } else {
            // A step that the order has behind it, told again, is no contradiction.
            let passed = self
                .dispatch
                .transitions
                .iter()
                .any(|step| step.status == status);
            let late = status == DispatchStatus::Received && known != DispatchStatus::Pending;
            if !(passed || late) {
                return Reported::Contradiction(status);
            }
            Reported::Repeated
        };
        self.heard(append.epoch);
        let _ = self.doubt(ended_epoch);
        reported
    }

    /// Its agent has said, in the session of this epoch, that it is in force. `true`: that took
    /// the doubt off it.
    #[must_use]
    pub fn confirm(
        &mut self,
        agent: AgentId,
        asset: AssetId,
        epoch: u64,
        ended_epoch: u64,
    ) -> bool {
        let held = self.carrier.is_some_and(|held| held.agent == agent);
        if !held || self.dispatch.asset_id != Some(asset) {
            return false;
        }
        self.heard(epoch);
        self.doubt(ended_epoch) && !self.dispatch.in_doubt
    }

    /// Sets or clears the doubt: it has been sent and has not ended, and the session that carried
    /// it, or told of it last, is over. `true`: that changed it.
    pub fn doubt(&mut self, ended_epoch: u64) -> bool {
        let over = self
            .carrier
            .is_some_and(|carrier| carrier.epoch <= ended_epoch);
        let doubt = self.is_under_way() && over;
        std::mem::replace(&mut self.dispatch.in_doubt, doubt) != doubt
    }

    /// Its agent serves the asset no more in its session of this epoch, which goes on: sets the doubt
    /// if that session, or an older one, carried it or told of it last, until its agent speaks of it.
    /// `true`: that changed it.
    pub fn drop_out(&mut self, agent: AgentId, epoch: u64) -> bool {
        let carried = self
            .carrier
            .is_some_and(|carrier| carrier.agent == agent && carrier.epoch <= epoch);
        let doubt = self.is_under_way() && carried;
        doubt && !std::mem::replace(&mut self.dispatch.in_doubt, true)
    }

    /// It was sent and has not ended.
    fn is_under_way(&self) -> bool {
        let status = self.dispatch.status;
        status != DispatchStatus::Pending && !status.is_terminal()
    }

    fn heard(&mut self, epoch: u64) {
        if let Some(carrier) = &mut self.carrier {
            carrier.epoch = carrier.epoch.max(epoch);
        }
    }

    fn step(&mut self, transition: Transition) {
        let dispatch = &mut self.dispatch;
        dispatch.status = transition.status;
        dispatch.reason = transition.reason;
        dispatch.text.clone_from(&transition.text);
        // What the device said when the order started; an end tells what followed it.
        if transition.status == DispatchStatus::Active {
            dispatch.applied_mw = transition.applied_mw;
        }
        let full = dispatch.transitions.len() >= MOST_STEPS;
        match dispatch.transitions.last_mut() {
            Some(last) if full && last.status == transition.status => *last = transition,
            _ => dispatch.transitions.push(transition),
        }
    }
}
