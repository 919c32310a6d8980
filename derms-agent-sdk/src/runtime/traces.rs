//! Which trace each order belongs to: from the headend's messages to calls of adapters, and back
//! with the reports.

use std::collections::{HashMap, VecDeque};

use derms_proto::link::{AgentMessage, HeadendMessage, Report, ReportBatch};
use derms_proto::{AssetId, DispatchId, Traceparent};
use tracing::Span;

/// Orders whose traces are remembered, the newest; 32 may wait at each asset.
const MOST: usize = 4_096;

/// Kept in memory: after a restart of the agent its reports say no trace.
#[derive(Debug, Default)]
pub(super) struct Traces {
    orders: HashMap<DispatchId, Traceparent>,
    /// The same, oldest first.
    ages: VecDeque<DispatchId>,
}

impl Traces {
    /// A message came with this context.
    pub(super) fn received(&mut self, message: &HeadendMessage, trace: Traceparent) {
        let dispatch_id = match message {
            HeadendMessage::Setpoint(order) => order.dispatch_id,
            HeadendMessage::UnreadableSetpoint(order) => order.dispatch_id,
            HeadendMessage::Release(order) => order.dispatch_id,
            _ => return,
        };
        if self.orders.insert(dispatch_id, trace).is_none() {
            self.ages.push_back(dispatch_id);
        }
        if self.ages.len() > MOST
            && let Some(oldest) = self.ages.pop_front()
        {
            self.orders.remove(&oldest);
        }
    }

    pub(super) fn of_order(&self, dispatch_id: Option<DispatchId>) -> Option<Traceparent> {
        self.orders.get(&dispatch_id?).copied()
    }

    /// The context of a message to the headend. A message has one, so a batch has it only if all
    /// orders that it reports of are of that trace.
    pub(super) fn of_message(&self, message: &AgentMessage) -> Option<Traceparent> {
        let AgentMessage::Report(ReportBatch { entries, .. }) = message else {
            return None;
        };
        let mut traces = entries
            .iter()
            .flatten()
            .filter_map(|entry| match &entry.report {
                Report::Setpoint(report) => Some(self.of_order(Some(report.dispatch_id))),
                _ => None,
            });
        let first = traces.next()??;
        traces
            .all(|trace| trace.map(Traceparent::trace_id) == Some(first.trace_id()))
            .then_some(first)
    }
}

/// The span in which an adapter is called. Its fields are for whoever subscribes: `trace_id`,
/// `dispatch_id`, `asset_id` for log lines; `span_id`, `parent_id`, `sampled` for an exporter.
pub(super) fn span(
    call: &'static str,
    asset_id: AssetId,
    dispatch_id: Option<DispatchId>,
    trace: Option<Traceparent>,
) -> Span {
    // 0 is no span; it comes once in 2^64.
    let own = trace.map(|trace| trace.from_span(fastrand::u64(1..)));
    tracing::info_span!(
        "adapter",
        call,
        %asset_id,
        dispatch_id = dispatch_id.map(tracing::field::display),
        trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
        span_id = own.map(|own| tracing::field::display(own.span_id())),
        parent_id = trace.map(|trace| tracing::field::display(trace.span_id())),
        sampled = trace.map(Traceparent::is_sampled),
    )
}
