//! What a headend must remember, behind one trait.
//!
//! [`MemoryStore`] is always built. A store of your own implements [`Store`] and runs through
//! [`conformance`](crate::store::conformance) (feature `conformance`), which checks every sentence
//! that is written here.

mod memory;
mod order;
mod query;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::fmt::Debug;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    AgentId, AssetId, CloseReason, Dispatch, DispatchId, Heartbeat, LogId, Page, SessionRecord,
    Telemetry, TelemetryBucket, Timestamp,
};

pub use memory::MemoryStore;
pub use order::{
    Advance, Carrier, Commit, Idempotency, NewOrder, Order, ReportAppend, ReportFate, Reported,
    StoredReport, status_of,
};
pub use query::{DispatchQuery, HistoryQuery, TelemetryQuery};

/// The memory of a headend.
///
/// # Flow
/// 1. At the start, [`open_orders`](Self::open_orders) and
///    [`latest_telemetry`](Self::latest_telemetry) are read once.
/// 2. A session begins with [`open_session`](Self::open_session), which gives its epoch, and ends
///    with [`close_session`](Self::close_session).
/// 3. Telemetry arrives in [`append_telemetry`](Self::append_telemetry), reports in
///    [`append_reports`](Self::append_reports); only after they return `Ok` is the agent told that
///    it may forget them.
/// 4. An order is committed with [`commit`](Self::commit) and moved on with
///    [`advance`](Self::advance).
///
/// # Guarantees
/// No call is made while a lock is held, and none from the task that reads an agent's stream: a
/// slow store delays acknowledgements, never presence or live values. A call that failed with
/// [`StoreError::Unavailable`] is repeated with the same arguments.
///
/// # What you must ensure
/// - `Ok` means durable, as far as [`is_durable`](Self::is_durable) says.
/// - Each call is atomic: all of it or nothing of it, also for those that run at the same time.
/// - Epochs strictly increase per agent, revisions strictly increase per asset, whatever happens.
/// - A repeated call changes nothing: entries are known by (agent, log, seq), sessions by (agent,
///   epoch), commits by their idempotency key.
/// - Lists are newest first, in pages of at most the limit, and a cursor stays valid while new
///   entries arrive.
///
/// # Cancellation
/// A call may be dropped at an await point; then it counts as not made or as made in full.
///
/// # Errors
/// [`StoreError::Unavailable`] when it may work later, [`StoreError::Corrupt`] when it won't.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Whether what was acknowledged survives a restart of the headend; told to every agent.
    fn is_durable(&self) -> bool;

    /// Whether the store can be reached now.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Begins a session and gives its epoch: above every epoch that this agent was ever given and
    /// above `at_least`. `session.epoch` is ignored.
    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError>;

    /// Ends a session. An unknown or ended one is left as it is.
    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError>;

    /// Sessions by time of connection.
    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError>;

    /// The first number of a log that is not stored, or `None` for a log that is not known.
    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError>;

    /// Stores parts of telemetry logs; what is stored already is left as it is.
    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError>;

    /// The newest measurement of every asset, by time of measurement.
    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError>;

    /// Measurements of one asset by time of measurement.
    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError>;

    /// The same in buckets of `step` seconds, aligned to 1970; empty buckets are left out.
    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError>;

    /// Declared gaps of an agent's telemetry, oldest first.
    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError>;

    /// Stores a part of a report log and moves the orders it speaks of, in one step. Answers the
    /// fate of each entry; entries that are stored already are left out.
    async fn append_reports(&self, append: &ReportAppend) -> Result<Vec<ReportFate>, StoreError>;

    /// Commits an order in one step: its idempotency key, the next revision of each asset, and
    /// every older order of these assets that is still `pending` becomes `superseded`.
    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError>;

    /// Moves an order on, if its life cycle allows that from where it stands; `None` if not.
    async fn advance(&self, advance: &Advance) -> Result<Option<Order>, StoreError>;

    /// Marks every order in doubt that this session carried and that has not ended; answers them.
    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError>;

    /// Takes the doubt off an order whose agent has just said that it is in force.
    async fn confirm(&self, id: DispatchId) -> Result<Option<Order>, StoreError>;

    /// One order, with its children.
    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError>;

    /// Orders by time of commit, without the children of site orders.
    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError>;

    /// The orders of these assets that have not ended, newest revision first; `None` = of all.
    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError>;

    /// The highest revision ever given for each of these assets, in their order; 0 if none.
    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError>;

    /// Moves the counter of an asset so that the next revision is above `at_least`.
    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError>;

    /// Stores heartbeats.
    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError>;

    /// Heartbeats of one asset by time of receipt.
    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError>;
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: CloseReason,
    /// Why, for people.
    pub text: String,
}

/// A part of an agent's telemetry log.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryAppend {
    /// The agent.
    pub agent: AgentId,
    /// The log.
    pub log: LogId,
    /// Measurements with their numbers, in order.
    pub samples: Vec<(u64, Telemetry)>,
    /// Numbers lost for good.
    pub gaps: Vec<Gap>,
    /// The log continues here: every number below is stored, refused or in a gap.
    pub next_seq: u64,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It can't be reached or is full; the same call may work later.
    #[error("the store is unavailable: {context}")]
    Unavailable {
        /// What was being done.
        context: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// What it holds can't be read; repeating does not help.
    #[error("the store is corrupt: {context}")]
    Corrupt {
        /// What was found.
        context: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The cursor was not made by this store.
    #[error("the cursor is not one of this list; start again without it")]
    InvalidCursor,
}
