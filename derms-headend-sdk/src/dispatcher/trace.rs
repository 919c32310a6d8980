//! Which trace an order belongs to, and what the log says of its steps.

use std::collections::{HashMap, VecDeque};

use derms_proto::{AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, Traceparent};
use tracing::Span;

use super::Dispatcher;

/// Traces of callers that are remembered, the newest.
const MOST: usize = 16_384;

/// The traces that callers brought with their orders.
///
/// An order without one is a trace of its own, with the order's id as that of the trace: so it needs
/// no memory, and is the same after a restart. A caller's is forgotten with this headend, or when
/// [`MOST`] newer ones have come.
#[derive(Debug, Default)]
pub(super) struct Traces {
    callers: HashMap<DispatchId, Traceparent>,
    /// The same, oldest first.
    ages: VecDeque<DispatchId>,
}

impl Traces {
    pub(super) fn remember(&mut self, root: DispatchId, caller: Traceparent) {
        if self.callers.insert(root, caller).is_none() {
            self.ages.push_back(root);
        }
        if self.ages.len() > MOST
            && let Some(oldest) = self.ages.pop_front()
        {
            self.callers.remove(&oldest);
        }
    }

    /// The context of what is done for an order: its span, whose parent is the caller's.
    fn of(&self, root: DispatchId) -> Context {
        let id = root.uuid().as_u128();
        // The lower half is the random one, and the variant in it is never 0.
        let span = id as u64;
        let caller = self.callers.get(&root).copied();
        // `new` is `None` only for an id with a half of zeros, which no order has.
        let own = caller.map(|caller| caller.from_span(span));
        let own = own.or_else(|| Traceparent::new(id, span, 1));
        Context { caller, own }
    }
}

/// Where an order stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Context {
    caller: Option<Traceparent>,
    own: Option<Traceparent>,
}

/// A site order and its shares are one trace.
fn root(dispatch: &Dispatch) -> DispatchId {
    dispatch.parent_id.unwrap_or(dispatch.id)
}

impl Dispatcher {
    /// The trace of an order.
    pub(crate) fn trace(&self, dispatch: &Dispatch) -> Option<Traceparent> {
        self.traces.lock().of(root(dispatch)).own
    }

    /// The span of an order that is taken.
    pub(super) fn span(&self, dispatch: &Dispatch) -> Span {
        let Context { caller, own } = self.traces.lock().of(root(dispatch));
        tracing::debug_span!(
            "dispatch",
            dispatch_id = %dispatch.id,
            asset_id = dispatch.asset_id.map(tracing::field::display),
            site_id = %dispatch.site_id,
            principal = dispatch.principal,
            trace_id = own.map(|own| tracing::field::display(own.trace_id())),
            span_id = own.map(|own| tracing::field::display(own.span_id())),
            parent_id = caller.map(|caller| tracing::field::display(caller.span_id())),
            sampled = own.is_some_and(Traceparent::is_sampled),
        )
    }

    /// An agent has told the trace of an order, which this headend does not know any more.
    pub(crate) fn traced(&self, id: DispatchId, asset: AssetId, told: Traceparent) {
        let root = {
            let known = self.known.lock();
            let order = known
                .order(id)
                .filter(|order| order.asset_id == Some(asset));
            order.map(root)
        };
        let Some(root) = root else { return };
        let mut traces = self.traces.lock();
        let is_own = traces.of(root).own.map(Traceparent::trace_id) == Some(told.trace_id());
        if !is_own && !traces.callers.contains_key(&root) {
            traces.remember(root, told);
        }
    }

    /// Logs where an order stands now; `agent`: who told it.
    pub(super) fn log_step(&self, dispatch: &Dispatch, agent: Option<AgentId>) {
        let trace_id = self.trace_id(dispatch);
        let id = dispatch.id;
        let asset_id = dispatch.asset_id.map(tracing::field::display);
        let agent_id = agent.map(tracing::field::display);
        let reason = dispatch.reason.map(tracing::field::display);
        let (status, text) = (dispatch.status, dispatch.text.as_deref());
        let applied_mw = dispatch.applied_mw.map(|power| power.mw());
        if is_bad(status) {
            tracing::warn!(dispatch_id = %id, asset_id, agent_id, %status, reason, text, applied_mw, trace_id, "dispatch moved on");
        } else {
            tracing::info!(dispatch_id = %id, asset_id, agent_id, %status, reason, text, applied_mw, trace_id, "dispatch moved on");
        }
    }

    /// For a log line.
    pub(super) fn trace_id(
        &self,
        dispatch: &Dispatch,
    ) -> Option<tracing::field::DisplayValue<derms_proto::TraceId>> {
        let trace = self.trace(dispatch)?;
        Some(tracing::field::display(trace.trace_id()))
    }
}

/// It did not do what was wanted.
const fn is_bad(status: DispatchStatus) -> bool {
    use DispatchStatus::{Expired, Failed, Indeterminate, Rejected};
    matches!(status, Rejected | Expired | Failed | Indeterminate)
}
