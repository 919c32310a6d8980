//! Which trace an order belongs to, and what the log says of its steps.

use derms_proto::{AgentId, AssetId, Dispatch, DispatchId, DispatchStatus, Traceparent};
use tracing::Span;
use uuid::Uuid;

use super::Dispatcher;
use crate::trace::{Context, id_of};

/// A site order and its shares are one trace.
pub(super) fn root(dispatch: &Dispatch) -> Uuid {
    dispatch.parent_id.unwrap_or(dispatch.id).uuid()
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
            trace_id = id_of(own),
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
        if let Some(root) = root {
            self.traces.lock().learn(root, told);
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
        id_of(self.trace(dispatch))
    }
}

/// It did not do what was wanted.
const fn is_bad(status: DispatchStatus) -> bool {
    use DispatchStatus::{Expired, Failed, Indeterminate, Rejected};
    matches!(status, Rejected | Expired | Failed | Indeterminate)
}
