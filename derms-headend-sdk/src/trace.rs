//! Which trace an order, a limit or a stop belongs to.

use std::collections::{HashMap, VecDeque};

use derms_proto::Traceparent;
use uuid::Uuid;

/// Traces of callers that are remembered, the newest.
const MOST: usize = 16_384;

/// The traces that callers brought.
///
/// What came without one is a trace of its own, with its id as that of the trace: so it needs no
/// memory, and is the same after a restart. A caller's is forgotten with this headend, or when
/// [`MOST`] newer ones have come.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    callers: HashMap<Uuid, Traceparent>,
    /// The same, oldest first.
    ages: VecDeque<Uuid>,
}

/// Where something stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Context {
    pub(crate) caller: Option<Traceparent>,
    pub(crate) own: Option<Traceparent>,
}

impl Traces {
    pub(crate) fn remember(&mut self, root: Uuid, caller: Traceparent) {
        if self.callers.insert(root, caller).is_none() {
            self.ages.push_back(root);
        }
        if self.ages.len() > MOST
            && let Some(oldest) = self.ages.pop_front()
        {
            self.callers.remove(&oldest);
        }
    }

    /// An agent has told the trace of something, which this headend does not know any more.
    pub(crate) fn learn(&mut self, root: Uuid, told: Traceparent) {
        let is_own = self.of(root).own.map(Traceparent::trace_id) == Some(told.trace_id());
        if !is_own && !self.callers.contains_key(&root) {
            self.remember(root, told);
        }
    }

    /// The context of what is done for it: its span, whose parent is the caller's.
    pub(crate) fn of(&self, root: Uuid) -> Context {
        let id = root.as_u128();
        // The lower half is the random one, and the variant in it is never 0.
        let span = id as u64;
        let caller = self.callers.get(&root).copied();
        // `new` is `None` only for an id with a half of zeros, which none of ours has.
        let own = caller.map(|caller| caller.from_span(span));
        let own = own.or_else(|| Traceparent::new(id, span, 1));
        Context { caller, own }
    }
}

/// For a log line.
pub(crate) fn id_of(
    trace: Option<Traceparent>,
) -> Option<tracing::field::DisplayValue<derms_proto::TraceId>> {
    trace.map(|trace| tracing::field::display(trace.trace_id()))
}
