//! Which trace limits and stops belong to.

use derms_proto::link::{AssetLimits, HeadendMessage};
use derms_proto::wire::TraceContext as _;
use derms_proto::{AssetId, PowerLimit, Stop, Traceparent, pb};
use parking_lot::Mutex;
use tracing::Span;
use uuid::Uuid;

use super::Limits;
use super::book::Book;
use crate::trace::{Context, Traces, id_of};

impl Limits {
    /// The trace of a limit or a stop.
    pub(crate) fn trace(&self, cause: Uuid) -> Option<Traceparent> {
        self.traces.lock().of(cause).own
    }

    /// An agent has told the trace of the limits of this revision.
    pub(crate) fn traced(&self, asset: AssetId, revision: u64, told: Traceparent) {
        let cause = self.book.lock().cause(asset, revision);
        if let Some(cause) = cause {
            self.traces.lock().learn(cause, told);
        }
    }

    /// The span of a limit that is taken.
    pub(super) fn limit_span(&self, limit: &PowerLimit) -> Span {
        let Context { caller, own } = self.traces.lock().of(limit.id.uuid());
        tracing::debug_span!(
            "limit",
            limit_id = %limit.id,
            asset_id = %limit.asset_id,
            principal = limit.principal,
            trace_id = id_of(own),
            span_id = own.map(|own| display(own.span_id())),
            parent_id = caller.map(|caller| display(caller.span_id())),
            sampled = own.is_some_and(Traceparent::is_sampled),
        )
    }

    /// The span of a stop that is taken.
    pub(super) fn stop_span(&self, stop: &Stop) -> Span {
        let Context { caller, own } = self.traces.lock().of(stop.id.uuid());
        tracing::debug_span!(
            "stop",
            stop_id = %stop.id,
            asset_id = stop.asset_id.map(display),
            site_id = stop.site_id.map(display),
            principal = stop.principal,
            trace_id = id_of(own),
            span_id = own.map(|own| display(own.span_id())),
            parent_id = caller.map(|caller| display(caller.span_id())),
            sampled = own.is_some_and(Traceparent::is_sampled),
        )
    }
}

/// What holds for an asset, with the trace of the limit or the stop that has brought it about.
pub(super) fn traced(
    limits: AssetLimits,
    book: &Book,
    traces: &Mutex<Traces>,
) -> pb::HeadendMessage {
    let cause = book.cause(limits.asset_id, limits.revision);
    let trace = cause.and_then(|cause| traces.lock().of(cause).own);
    let mut message = pb::HeadendMessage::from(HeadendMessage::AssetLimits(limits));
    message.set_trace_context(trace.map(|trace| trace.to_string()));
    message
}
