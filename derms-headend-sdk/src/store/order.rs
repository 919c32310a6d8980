//! Orders as a store keeps them.

use derms_proto::link::{ReportEntry, SetpointPhase, SetpointReport};
use derms_proto::{
    Actor, AgentId, Dispatch, DispatchId, DispatchStatus, InstanceId, LogId, ReasonCode,
    Timestamp, Transition,
};

/// An order for one asset, with what only the headend needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// As served; without children.
    pub dispatch: Dispatch,
    /// The session that carried it last.
    pub carrier: Option<Carrier>,
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
    /// For an asset: the order, `pending`. For a site: the parent, with its `pending` children.
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
    /// The same key and order as before: nothing was done.
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
    /// No such order here (a headend without its memory): stored without effect.
    UnknownDispatch(DispatchId),
    /// An event.
    Event(ReportEntry),
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

impl Order {
    /// Applies a step of the headend. `false`: the life cycle does not allow it, nothing changed.
    #[must_use]
    pub fn advance(&mut self, advance: &Advance) -> bool {
        if !self
            .dispatch
            .status
            .may_become(advance.status, Actor::Headend)
        {
            return false;
        }
        if let Some(carrier) = advance.carrier {
            self.carrier = Some(carrier);
        }
        self.dispatch.in_doubt = false;
        self.step(Transition {
            status: advance.status,
            at: advance.at,
            reported_at: None,
            reason: advance.reason,
            text: advance.text.clone(),
            applied_mw: None,
            epoch: advance.carrier.map(|carrier| carrier.epoch),
        });
        true
    }

    /// Applies what its agent said at `at`, received at `now`: idempotent and monotone.
    #[must_use]
    pub fn report(&mut self, report: &SetpointReport, at: Timestamp, now: Timestamp) -> Reported {
        let status = status_of(report.phase);
        let known = self.dispatch.status;
        if known == status {
            self.dispatch.in_doubt = false;
            return Reported::Repeated;
        }
        if !known.may_become(status, Actor::Agent) {
            // A step that the order has behind it, told again, is no contradiction.
            let passed = self.dispatch.transitions.iter().any(|step| step.status == status);
            let late = status == DispatchStatus::Received && known != DispatchStatus::Pending;
            return if passed || late {
                Reported::Repeated
            } else {
                Reported::Contradiction(status)
            };
        }
        self.dispatch.in_doubt = false;
        self.step(Transition {
            status,
            at: now,
            reported_at: Some(at),
            reason: report.reason,
            text: report.text.clone(),
            applied_mw: report.applied,
            epoch: None,
        });
        Reported::Applied
    }

    fn step(&mut self, transition: Transition) {
        let dispatch = &mut self.dispatch;
        dispatch.status = transition.status;
        dispatch.reason = transition.reason;
        dispatch.text.clone_from(&transition.text);
        if transition.applied_mw.is_some() {
            dispatch.applied_mw = transition.applied_mw;
        }
        dispatch.transitions.push(transition);
    }
}
