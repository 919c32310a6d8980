//! A store with one fault at a time: it shows that the contract tests can fail, and what the
//! headend does when its store does.

mod cancel;
mod orders;
mod reports;
mod store;
mod telemetry;

use std::sync::Arc;

use derms_proto::{DispatchId, LogId};
use parking_lot::Mutex;

use super::{Idempotency, MemoryStore, Order, Store, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// What the contract tests must find.
    EpochsRepeat,
    EndsTwice,
    NothingAbandoned,
    SamplesTwice,
    GapsLost,
    LatestByReceipt,
    CursorCounts,
    AnyCursor,
    OldestFirst,
    LooseBuckets,
    KeyApart,
    RevisionsRepeat,
    SentSuperseded,
    AllSuperseded,
    SentExpires,
    SentTwice,
    ChildrenLost,
    RaiseForgotten,
    SharesBlind,
    ReplacedForgotten,
    CancelForgotten,
    CancelEndsSent,
    ReleaseRepeats,
    AskedTwice,
    WaitingStays,
    NewerReleased,
    OneShareCancelled,
    RefusalsBelieved,
    ReportsTwice,
    ContradictionsHidden,
    AnyAgentReports,
    AllInDoubt,
    NoneInDoubt,
    DroppedForgotten,
    DroppedOfAll,
    EndedHolds,
    FirstWordCounts,
    StopsForgotten,
    AuditChanges,
    KeysForgotten,
    EventsTwice,
    LastWordCounts,
    LeastForgotten,
    NothingPruned,
    AllPruned,
    /// What the headend must bear.
    CommitFails,
    /// It takes 2 s.
    CommitSlow,
    CommitFailsAfter,
    SentFails,
    SentFailsAfter,
    AdvanceFails,
    /// Others run between what it did and its answer.
    AdvanceSlow,
    /// Its answer takes 1 s.
    SharesSlow,
    CancelFailsAfter,
    /// Nothing about orders can be read or written.
    Away,
    AppendFails,
    /// It takes 20 ms.
    AppendSlow,
    LimitsFail,
    AuditFails,
    EventsFail,
    LimitsFailAfter,
    AppendNever,
    /// What ends this log at this number can't be stored.
    Poison(LogId, u64),
}

/// All clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<MemoryStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    keys: Vec<(Idempotency, DispatchId)>,
    most_steps: usize,
}

impl FaultyStore {
    pub(crate) fn new(fault: Fault) -> Self {
        let state = State {
            fault,
            keys: Vec::new(),
            most_steps: 0,
        };
        Self {
            inner: Arc::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    /// Most steps that were asked for in one call.
    pub(crate) fn most_steps(&self) -> usize {
        self.state.lock().most_steps
    }

    fn note(&self, steps: usize) {
        let most = &mut self.state.lock().most_steps;
        *most = steps.max(*most);
    }

    fn reach(&self) -> Result<(), StoreError> {
        if self.has(Fault::Away) {
            return unavailable();
        }
        Ok(())
    }

    fn has(&self, fault: Fault) -> bool {
        self.state.lock().fault == fault
    }

    async fn order(&self, id: DispatchId) -> Result<Option<Order>, StoreError> {
        let open = self.inner.open_orders(None).await?;
        Ok(open.into_iter().find(|order| order.dispatch.id == id))
    }
}

fn unavailable<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable {
        context: "on request".to_owned(),
        source: None,
    })
}
