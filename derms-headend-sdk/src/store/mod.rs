//! What a headend must remember, behind one trait.
//!
//! [`MemoryStore`] is always built, `SqliteStore` and `PostgresStore` with the features of their
//! names. A store of your own implements [`Store`] and runs through `conformance::check` (feature
//! `conformance`), which checks the sentences that are written here.

mod cancel;
mod memory;
mod order;
mod page;
mod query;
mod restraint;
mod retention;
mod shares;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(test)]
pub(crate) mod faulty;

use std::fmt::Debug;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, CloseReason, Dispatch, DispatchId, Event,
    EventId, Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};

pub use cancel::Cancel;
pub use memory::MemoryStore;
pub use order::{
    Advance, Carrier, Commit, Idempotency, NewOrder, Order, ReportAppend, ReportFate, Reported,
    StoredReport, status_of, summarise,
};
pub use query::{AuditQuery, DispatchQuery, EventQuery, HistoryQuery, TelemetryQuery};
pub use restraint::{Keyed, LimitQuery, Restraint, Restraints};
pub use retention::{Pruned, Retention};
pub use shares::{AddedShares, NewShares};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql::{OpenError, SchemaStatus, SqlStore};
#[cfg(feature = "postgres")]
pub use sql::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sql::{SqliteOptions, SqliteStore};

/// Counters that an agent tells of (its last epoch, its last revisions) count for no more than
/// this, 2⁵³: no honest one comes near it, JSON holds it exactly, and above it there is room to
/// count on in a signed 64-bit column.
pub const MAX_COUNTER: u64 = 1 << 53;

/// The memory of a headend.
///
/// # Flow
/// 1. At the start, [`latest_telemetry`](Self::latest_telemetry) and
///    [`open_orders`](Self::open_orders) are read once, and
///    [`abandon_sessions`](Self::abandon_sessions) ends what an earlier life left open.
/// 2. A session begins with [`open_session`](Self::open_session), which gives its epoch, and ends
///    with [`close_session`](Self::close_session) and [`mark_in_doubt`](Self::mark_in_doubt).
/// 3. Telemetry arrives in [`append_telemetry`](Self::append_telemetry), reports in
///    [`append_reports`](Self::append_reports); only after they return `Ok` is the agent told that
///    it may forget them.
/// 4. An order is committed with [`commit`](Self::commit), moved on with
///    [`advance`](Self::advance), and its end is asked for with [`cancel`](Self::cancel).
/// 5. Limits and stops are kept with [`put_limits`](Self::put_limits) and
///    [`put_stops`](Self::put_stops) as the headend has them; at the start
///    [`restraints`](Self::restraints) gives what holds.
///
/// # Guarantees
/// - A store serves one headend at a time; one that has lost it is told so by
///   [`StoreError::TakenOver`], and ends.
/// - No call is made while a lock is held, and none from the task that reads an agent's stream: a
///   slow store delays acknowledgements, never presence or live values.
/// - Calls that write for many are given many in one call, so that one transaction does.
/// - After [`StoreError::Unavailable`] the same call may come again, or may not.
///
/// # What you must ensure
/// - `Ok` means durable, as far as [`is_durable`](Self::is_durable) says.
/// - No text makes a call fail: agents may send any, even with NUL in it. A database that can't hold
///   that replaces it; a call that always fails holds up all agents.
/// - Each call is atomic: all of it or nothing of it, also for those that run at the same time.
///   In SQL: one transaction a call; a call that takes the rows of several assets, orders or logs
///   takes them in the order of their ids, or two calls can wait for each other.
/// - Epochs strictly increase per agent, revisions strictly increase per asset, whatever happens.
/// - A repeated call changes nothing: entries of logs are known by their numbers, sessions by
///   (agent, epoch), orders by their id and by their idempotency key, heartbeats by (asset, agent,
///   epoch, time of receipt).
/// - Numbers of a log below its cursor are settled: stored, refused or lost. What comes with such a
///   number is left out. So the cursor alone, read and moved in the transaction, keeps entries from
///   being stored twice; no unique index over the history is needed.
/// - An order is in doubt as long as it has been sent and has not ended, and the session that
///   carried it, or told of it last, is over: its epoch is not above the newest one of its agent
///   that was given to [`mark_in_doubt`](Self::mark_in_doubt). So it is when its asset was dropped
///   from a session that goes on ([`mark_dropped`](Self::mark_dropped)), until its agent speaks of it.
///   [`Order`] has these rules, and those of the life cycle, in one place for all stores.
/// - Lists are newest first; those of one time are in an order that never changes. Pages have at
///   most the limit, and the last one has no cursor. A cursor is a place in its list, not a count:
///   it stays valid while newer entries arrive and old ones go.
/// - Measurements are placed by [`time_of`], so that a wrong clock at the edge hides nothing.
///
/// # Cancellation
/// A call may be dropped at an await point; then it counts as not made or as made in full.
///
/// # Errors
/// [`StoreError::Unavailable`] when it may work later, [`StoreError::Corrupt`] when it won't,
/// [`StoreError::TakenOver`] when it never will for this headend.
///
/// # Example
/// ```
/// use derms_headend_sdk::store::{MemoryStore, Store};
/// use derms_headend_sdk::{Headend, proto::Fleet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml")?;
/// let store = MemoryStore::new().samples_per_asset(900); // or yours
/// assert!(!store.is_durable());
/// let headend = Headend::builder(fleet).store(store).build().await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Whether what was acknowledged survives a restart of the headend; told to every agent.
    fn is_durable(&self) -> bool;

    /// Whether the store can be reached and takes what it is given now: by a small write, for one
    /// that can only be read is of no use. Asked once a second at most.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Begins a session and gives its epoch: above every epoch that this agent was ever given and
    /// above `at_least`, which counts for [`MAX_COUNTER`] at most. `session.epoch` is ignored.
    async fn open_session(&self, session: &SessionRecord, at_least: u64)
    -> Result<u64, StoreError>;

    /// Ends a session. An unknown or ended one is left as it is.
    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError>;

    /// Ends every session that has not ended, and marks what they carried in doubt; answers the
    /// orders that are newly so.
    async fn abandon_sessions(&self, end: &SessionEnd) -> Result<Vec<Order>, StoreError>;

    /// Sessions by time of connection.
    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError>;

    /// The first number of a log that is not stored, or `None` for a log that is not known.
    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError>;

    /// Stores parts of telemetry logs, one after the other; one log may come more than once. Of a
    /// gap that begins below the cursor, the rest is stored.
    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError>;

    /// The newest measurement of every asset.
    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError>;

    /// Measurements of one asset.
    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError>;

    /// The same in buckets of `step_s` seconds, aligned to 1970. Measurements outside the range
    /// are not counted, empty buckets are left out.
    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError>;

    /// Declared gaps of an agent's telemetry, oldest first.
    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError>;

    /// Stores parts of report logs, one after the other, with their [events](StoredReport::event), and
    /// moves the orders they speak of. Answers, for each part, the fate of its entries; entries that
    /// are stored already are left out.
    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError>;

    /// Commits an order: its idempotency key, the next revision of each asset, and every older
    /// order of these assets that is still `pending`, and would begin while the new one is in
    /// force, becomes `superseded` ([`Order::supersede`]). One that was sent is left as it is: its
    /// agent tells its fate.
    ///
    /// A key is kept at least as long as its order.
    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError>;

    /// What [`commit`](Self::commit) would find for this key: `Repeated` or `Conflict`; `None` for
    /// a key that is free.
    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError>;

    /// Adds shares to a site order that is known, whose end nobody asked for, and of whose assets with
    /// new shares no revision was given since [`NewShares::seen`]; each is committed as in
    /// [`commit`](Self::commit). `None`: one of these does not hold, and nothing was done. So an order
    /// that somebody gives meanwhile is never superseded by it.
    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError>;

    /// Moves orders on, each if [`Order::advance`] allows it. Answers each as it stands then;
    /// `None` for one that was not moved or is not known.
    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError>;

    /// Ends orders as [`Order::cancel`] says, one after the other; of a site order each share. A
    /// release takes the next revision of its asset in the same step that records who asked, and
    /// orders of that asset that are still `pending` move above it, as in
    /// [`raise_revision`](Self::raise_revision). A site order of which something was open shows
    /// who asked first, too. Answers the orders for assets that changed; an unknown id changes none.
    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError>;

    /// The session of this epoch, and all older ones of its agent, are over: what they carried is
    /// in doubt from now on. Answers the orders that are newly so.
    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError>;

    /// The agent serves these assets no more in its session of this epoch, which goes on: what that
    /// session, or an older one, carried of them is in doubt until the agent speaks of it
    /// ([`Order::drop_out`]). Answers the orders that are newly so.
    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError>;

    /// The agent has said in its session of this epoch that these orders are in force. Answers
    /// those whose doubt is gone by that. Orders of other assets or agents are left as they are.
    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError>;

    /// One order, with its children in the order of their assets' ids, those of one asset oldest first.
    /// A site order has the [`summary`](derms_proto::DispatchStatus::summary) of those of its children
    /// as status that [count](Dispatch::counts_among), and is in doubt if one of them all is.
    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError>;

    /// Orders by time of commit. Those of one asset include its shares of site orders; else the
    /// shares stand under their site order alone.
    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError>;

    /// The orders of these assets that have not ended, newest revision of an asset first; `None` =
    /// of all.
    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError>;

    /// The highest revision ever given for each of these assets, in their order; 0 if none.
    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError>;

    /// Moves the counter of an asset so that the next revision is above `at_least`, which counts
    /// for [`MAX_COUNTER`] at most. A counter never goes back. An order of the asset that is still
    /// `pending` with a revision up to `at_least` gets a new one in the same step: it was never
    /// sent, so nobody has seen the old one, and its agent would refuse that as stale.
    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError>;

    /// Keeps limits as they are given, each in place of what was known of it by its id; what of it
    /// never changes (asset, bounds, beginning, end, who set it) is the same each time.
    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError>;

    /// One limit.
    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError>;

    /// Limits by [`created_at`](PowerLimit::created_at).
    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError>;

    /// Keeps stops as they are given, each in place of what was known of it by its id, without
    /// [`offline`](Stop::offline), [`unsupported`](Stop::unsupported) and
    /// [`cannot_be_held`](Stop::cannot_be_held), which are 0 and empty when it is read; [`stored`](Stop::stored) is true then.
    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError>;

    /// One stop.
    async fn stop(&self, id: StopId) -> Result<Option<Stop>, StoreError>;

    /// Stops by [`created_at`](Stop::created_at).
    async fn stops(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError>;

    /// Keeps a limit or a stop as [`put_limits`](Self::put_limits) and
    /// [`put_stops`](Self::put_stops) do, and in the same step the client's key under which it was
    /// set. `Some`: another one was set under this key, and nothing was done. A key is kept at least as
    /// long as what was set under it.
    async fn put_keyed(
        &self,
        restraint: &Restraint,
        key: &Idempotency,
    ) -> Result<Option<Keyed>, StoreError>;

    /// What was set under a key; `None` for one that is free.
    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError>;

    /// What holds, read once at the start of a headend.
    async fn restraints(&self) -> Result<Restraints, StoreError>;

    /// Stores heartbeats.
    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError>;

    /// Heartbeats of one asset by time of receipt.
    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError>;

    /// Adds records to the audit trail; one that is there already stays as it is. No record is ever
    /// changed.
    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// The audit trail by [`at`](AuditRecord::at).
    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError>;

    /// Adds events that the headend raised itself; one that is there already stays as it is.
    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError>;

    /// Events by [`at`](Event::at).
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError>;

    /// One event.
    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError>;

    /// Notes that somebody has taken note of an event; the first acknowledgement stays. Answers the
    /// event as it stands; `None` for an unknown id.
    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError>;

    /// Forgets a part of what is older than its retention, small enough that nobody waits long for
    /// it; [`Pruned::more`] says that there is more of it. What is younger stays; of what is older
    /// a day may stay longer. Never forgotten are open orders, limits and stops that hold, epochs,
    /// revisions and the cursors of logs; an order goes with its steps and its key, a site order with its shares when all have
    /// ended.
    async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError>;
}

/// The time by which a measurement is placed: when it was measured, or, when the clock at the edge
/// was ahead, when it was received.
#[must_use]
pub fn time_of(telemetry: &Telemetry) -> Timestamp {
    telemetry.measured_at.min(telemetry.received_at)
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
    /// Another headend has it now. This one is never let in again: it ends its sessions, so that
    /// agents look for the other one.
    #[error("another headend has taken the store over; this one must end")]
    TakenOver,
    /// The cursor was not made by this store.
    #[error("the cursor is not one of this list; start again without it")]
    InvalidCursor,
}

impl StoreError {
    /// The error with its causes, in one line for a log; a cause that repeats what was said is left out.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }
}
