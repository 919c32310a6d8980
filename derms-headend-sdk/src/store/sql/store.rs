//! The store itself: one transaction a call, tried again where that helps, with an end.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, Event, EventId,
    Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};

use super::super::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, NewOrder, NewShares, Order, Pruned, ReportAppend, ReportFate,
    Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery, time_of,
};
use super::assets::Assets;
use super::connection::{Connection, Database};
use super::fault::Fault;
use super::{audit, events, limits, logs, orders, prune, sessions, telemetry};

/// How often a transaction that met another one is tried.
const MOST_TRIES: u32 = 10;

/// Whether to try again after this fault; waits a little, each time longer.
async fn again(fault: &Fault, tries: &mut u32) -> bool {
    *tries += 1;
    if !fault.may_be_tried_again() || *tries >= MOST_TRIES {
        return false;
    }
    tokio::time::sleep(Duration::from_millis(u64::from(*tries) * 3)).await;
    true
}

/// Ends a transaction as its result says.
async fn end<C: Connection, T>(connection: C, result: Result<T, Fault>) -> Result<T, Fault> {
    match result {
        Ok(result) => connection.commit().await.map(|()| result),
        Err(fault) => {
            connection.rollback().await;
            Err(fault)
        }
    }
}

/// Runs a body in a transaction of its own until it goes through.
macro_rules! write {
    ($store:ident, $what:literal, $connection:ident => $body:expr) => {
        $store
            .within($what, async {
                let mut tries = 0;
                loop {
                    let attempt = async {
                        let mut opened = $store.database.begin().await?;
                        let $connection = &mut opened;
                        let result = $body.await;
                        end(opened, result).await
                    };
                    match attempt.await {
                        Ok(result) => return Ok(result),
                        Err(fault) if again(&fault, &mut tries).await => {}
                        Err(fault) => return Err(fault),
                    }
                }
            })
            .await
    };
}

/// Runs a body on what the database holds at one moment.
macro_rules! read {
    ($store:ident, $what:literal, $connection:ident => $body:expr) => {
        $store
            .within($what, async {
                let mut opened = $store.database.snapshot().await?;
                let $connection = &mut opened;
                let result = $body.await;
                end(opened, result).await
            })
            .await
    };
}

/// A store in a database; see [`SqliteStore`](super::SqliteStore) and
/// [`PostgresStore`](super::PostgresStore).
#[derive(Debug)]
pub struct SqlStore<D> {
    pub(super) database: D,
    assets: Assets,
    /// What tells apart measurements of one time; begins anywhere, so that two lives differ.
    tie: AtomicU32,
    /// The longest a call may take.
    limit: Duration,
}

impl<D: Database> SqlStore<D> {
    /// Counts what [`prune`](Store::prune) would forget, all calls of it together, and forgets
    /// nothing.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn prunable(
        &self,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, StoreError> {
        let rows = self
            .within(
                "to count what is old",
                self.database.count_old(retention, now),
            )
            .await?;
        let rest = read!(self, "to count what is old", connection =>
            prune::count(connection, retention, now))?;
        Ok(rows + rest)
    }

    pub(super) fn new(database: D, limit: Duration) -> Self {
        let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
        Self {
            database,
            assets: Assets::default(),
            tie: AtomicU32::new(u32::from_ne_bytes([a, b, c, d])),
            limit,
        }
    }

    /// Ends a call that takes too long, and says what it was.
    async fn within<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        let result = tokio::time::timeout(self.limit, call).await;
        result
            .unwrap_or(Err(Fault::TooLong))
            .map_err(|fault| fault.told(what))
    }

    /// The first of this many numbers that tell apart measurements of one time.
    fn ties(&self, appends: &[TelemetryAppend]) -> u32 {
        let samples: usize = appends.iter().map(|append| append.samples.len()).sum();
        let samples = u32::try_from(samples).unwrap_or(u32::MAX);
        self.tie.fetch_add(samples, Ordering::Relaxed)
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    fn is_durable(&self) -> bool {
        true
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A store that can be read alone is of no use; nor is one whose disk is full.
        write!(self, "to reach the database", connection => touch(connection))
    }

    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError> {
        write!(self, "to open a session", connection =>
            sessions::open(connection, session, at_least))
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError> {
        write!(self, "to close a session", connection =>
            sessions::close(connection, agent, epoch, end))
    }

    async fn abandon_sessions(&self, end: &SessionEnd) -> Result<Vec<Order>, StoreError> {
        write!(self, "to abandon sessions", connection => orders::abandon(connection, end))
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        read!(self, "to list sessions", connection => sessions::history(connection, query))
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        read!(self, "to read where a log continues", connection =>
            logs::cursor(connection, agent, kind, log))
    }

    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        let samples = || appends.iter().flat_map(|append| &append.samples);
        let times = samples().map(|(_, telemetry)| time_of(telemetry));
        let wanted = samples().map(|(_, t)| (t.asset_id, Some(t.site_id)));
        let assets = self
            .within("to name assets", async {
                self.database.make_room("telemetry", times).await?;
                tokio::task::yield_now().await;
                self.assets.all(&self.database, wanted).await
            })
            .await?;
        write!(self, "to store telemetry", connection =>
            telemetry::append(connection, appends, &assets, self.ties(appends)))
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        read!(self, "to read the latest telemetry", connection => telemetry::latest(connection))
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        read!(self, "to read telemetry", connection =>
            telemetry::history(connection, &self.assets, query))
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        read!(self, "to summarise telemetry", connection =>
            telemetry::buckets(connection, &self.assets, query, step_s))
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        read!(self, "to read gaps", connection => logs::gaps(connection, agent))
    }

    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        write!(self, "to store reports", connection => orders::append(connection, appends))
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        write!(self, "to commit an order", connection => orders::commit(connection, order))
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        read!(self, "to look up a key", connection => orders::committed(connection, idempotency))
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        write!(self, "to add shares to an order", connection =>
            orders::add_shares(connection, new))
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        write!(self, "to move orders on", connection => orders::advance(connection, steps))
    }

    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError> {
        write!(self, "to cancel orders", connection => orders::cancel(connection, cancels))
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        write!(self, "to put orders in doubt", connection =>
            orders::mark(connection, agent, epoch))
    }

    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError> {
        write!(self, "to put orders in doubt", connection =>
            orders::mark_dropped(connection, agent, epoch, assets))
    }

    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError> {
        write!(self, "to confirm orders", connection =>
            orders::confirm(connection, agent, epoch, in_force))
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        read!(self, "to read an order", connection => orders::dispatch(connection, id))
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        read!(self, "to list orders", connection => orders::dispatches(connection, query))
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        read!(self, "to read open orders", connection => orders::open(connection, assets))
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        read!(self, "to read revisions", connection => orders::revisions(connection, assets))
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        write!(self, "to raise a revision", connection =>
            orders::raise_revision(connection, asset, at_least))
    }

    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError> {
        write!(self, "to keep limits", connection => limits::put_limits(connection, limits))
    }

    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        read!(self, "to read a limit", connection => limits::limit(connection, id))
    }

    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        read!(self, "to list limits", connection => limits::limits(connection, query))
    }

    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError> {
        write!(self, "to keep stops", connection => limits::put_stops(connection, stops))
    }

    async fn stop(&self, id: StopId) -> Result<Option<Stop>, StoreError> {
        read!(self, "to read a stop", connection => limits::stop(connection, id))
    }

    async fn stops(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError> {
        read!(self, "to list stops", connection => limits::stops(connection, query))
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        write!(self, "to keep the audit trail", connection => audit::append(connection, records))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        read!(self, "to read the audit trail", connection => audit::history(connection, query))
    }

    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        write!(self, "to keep events", connection =>
            events::append(connection, events.iter().collect()))
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        read!(self, "to list events", connection => events::history(connection, query))
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        read!(self, "to read an event", connection => events::event(connection, id))
    }

    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError> {
        write!(self, "to acknowledge an event", connection =>
            events::acknowledge(connection, id, acknowledgement))
    }

    async fn put_keyed(
        &self,
        restraint: &Restraint,
        key: &Idempotency,
    ) -> Result<Option<Keyed>, StoreError> {
        write!(self, "to keep a limit or a stop", connection =>
            limits::put_keyed(connection, restraint, key))
    }

    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError> {
        read!(self, "to look up a key", connection => limits::keyed(connection, key))
    }

    async fn restraints(&self) -> Result<Restraints, StoreError> {
        read!(self, "to read what holds", connection => limits::restraints(connection))
    }

    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError> {
        let wanted = heartbeats
            .iter()
            .map(|heartbeat| (heartbeat.asset_id, None));
        let times = heartbeats.iter().map(|heartbeat| heartbeat.received_at);
        let assets = self
            .within("to name assets", async {
                self.database.make_room("heartbeats", times).await?;
                self.assets.all(&self.database, wanted).await
            })
            .await?;
        write!(self, "to store heartbeats", connection =>
            sessions::append_heartbeats(connection, heartbeats, &assets))
    }

    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        read!(self, "to list heartbeats", connection =>
            sessions::heartbeats(connection, &self.assets, asset, query))
    }

    async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let dropped = self
            .within(
                "to drop old telemetry",
                self.database.drop_old(retention, now),
            )
            .await?;
        let deleted = write!(self, "to delete what is old", connection =>
            prune::delete(connection, retention, now))?;
        Ok(dropped + deleted)
    }
}

async fn touch<C: Connection>(connection: &mut C) -> Result<(), Fault> {
    connection.script(C::TOUCH).await
}
