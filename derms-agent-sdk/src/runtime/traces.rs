//! Which trace each order belongs to, and each set of limits: from the headend's messages to calls of
//! adapters, and back with the reports.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use derms_proto::link::{AgentMessage, HeadendMessage, Report, ReportBatch, ReportEntry};
use derms_proto::{AssetId, DispatchId, Traceparent};
use tracing::Span;

use crate::builder::MAX_ASSETS;

/// Orders whose traces are remembered, the newest; 32 may wait at each asset.
const MOST: usize = 4_096;

/// Kept in memory: after a restart of the agent its reports say no trace.
#[derive(Debug)]
pub(super) struct Traces {
    orders: Newest<DispatchId, Traceparent>,
    /// Of the newest revision of each asset.
    limits: Newest<AssetId, (u64, Traceparent)>,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            orders: Newest::of(MOST),
            limits: Newest::of(MAX_ASSETS),
        }
    }
}

impl Traces {
    /// A message came with this context.
    pub(super) fn received(&mut self, message: &HeadendMessage, trace: Traceparent) {
        let dispatch_id = match message {
            HeadendMessage::Setpoint(order) => order.dispatch_id,
            HeadendMessage::UnreadableSetpoint(order) => order.dispatch_id,
            HeadendMessage::Release(order) => order.dispatch_id,
            HeadendMessage::AssetLimits(limits) => {
                let told = (limits.revision, trace);
                return self.limits.keep(limits.asset_id, told);
            }
            _ => return,
        };
        self.orders.keep(dispatch_id, trace);
    }

    pub(super) fn of_order(&self, dispatch_id: Option<DispatchId>) -> Option<Traceparent> {
        self.orders.get(dispatch_id?)
    }

    /// Of the limits of this revision, a stop among them.
    pub(super) fn of_limits(&self, asset_id: AssetId, revision: u64) -> Option<Traceparent> {
        let (told, trace) = self.limits.get(asset_id)?;
        (told == revision).then_some(trace)
    }

    /// Of the limits that an asset was told last.
    pub(super) fn of_last_limits(&self, asset_id: AssetId) -> Option<Traceparent> {
        self.limits.get(asset_id).map(|(_, trace)| trace)
    }

    /// The context of a message to the headend. A message has one, so a batch has it only if all
    /// orders and limits that it reports of are of that trace.
    pub(super) fn of_message(&self, message: &AgentMessage) -> Option<Traceparent> {
        let AgentMessage::Report(ReportBatch { entries, .. }) = message else {
            return None;
        };
        let of_entry = |entry: &ReportEntry| match &entry.report {
            Report::Setpoint(report) => Some(self.of_order(Some(report.dispatch_id))),
            Report::Limit(report) => Some(self.of_limits(entry.asset_id, report.revision)),
            _ => None,
        };
        let mut traces = entries.iter().flatten().filter_map(of_entry);
        let first = traces.next()??;
        traces
            .all(|trace| trace.map(Traceparent::trace_id) == Some(first.trace_id()))
            .then_some(first)
    }
}

/// What was kept first goes first, when there is too much.
#[derive(Debug)]
struct Newest<K, V> {
    held: HashMap<K, V>,
    /// The same, oldest first.
    ages: VecDeque<K>,
    most: usize,
}

impl<K: Copy + Eq + Hash, V: Copy> Newest<K, V> {
    fn of(most: usize) -> Self {
        Self {
            held: HashMap::new(),
            ages: VecDeque::new(),
            most,
        }
    }

    fn keep(&mut self, key: K, value: V) {
        if self.held.insert(key, value).is_none() {
            self.ages.push_back(key);
        }
        if self.ages.len() > self.most
            && let Some(oldest) = self.ages.pop_front()
        {
            self.held.remove(&oldest);
        }
    }

    fn get(&self, key: K) -> Option<V> {
        self.held.get(&key).copied()
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
