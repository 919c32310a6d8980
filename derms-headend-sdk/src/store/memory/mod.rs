//! A store that forgets everything when its process ends.

mod audit;
mod cancel;
mod events;
mod limits;
mod logs;
mod orders;
mod sessions;
mod telemetry;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, Event, EventId,
    Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};
use parking_lot::Mutex;

use self::audit::AuditTable;
use self::events::EventTable;
use self::limits::LimitTables;
use self::orders::OrderTables;
use self::sessions::SessionTables;
use self::telemetry::{HeartbeatTable, TelemetryTables};
use super::retention::horizon;
use super::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, NewOrder, NewShares, Order, Pruned, ReportAppend, ReportFate,
    Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery,
};

/// Keeps everything in memory, bounded; for tests, demos and headends whose history lives
/// elsewhere.
///
/// Kept, the newest of each: 1,800 measurements per asset (two hours at 4 s), 1,000,000 in all,
/// so that more than 555 assets keep fewer each; 256 heartbeats per asset, 256,000 in all; 256 gaps
/// per agent; the place in 8 logs of each kind per agent; every session that lives, and 10,000 that
/// have ended; every order that is open, and 50,000 that have ended, with their idempotency keys;
/// every limit and stop that holds, and 10,000 of each that have ended; 10,000 records of the audit
/// trail; 10,000 events. Reports are not kept beyond what orders show.
#[derive(Debug)]
pub struct MemoryStore {
    telemetry: Mutex<TelemetryTables>,
    orders: Mutex<OrderTables>,
    sessions: Mutex<SessionTables>,
    heartbeats: Mutex<HeartbeatTable>,
    limits: Mutex<LimitTables>,
    audit: Mutex<AuditTable>,
    events: Mutex<EventTable>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with the bounds stated at the type.
    #[must_use]
    pub fn new() -> Self {
        Self {
            telemetry: Mutex::new(TelemetryTables::new(1_800, 1_000_000)),
            orders: Mutex::new(OrderTables::new(50_000)),
            sessions: Mutex::new(SessionTables::new(10_000)),
            heartbeats: Mutex::default(),
            limits: Mutex::default(),
            audit: Mutex::default(),
            events: Mutex::default(),
        }
    }

    #[cfg(test)]
    fn bounded(samples: usize, ended_orders: usize, ended_sessions: usize) -> Self {
        Self {
            telemetry: Mutex::new(TelemetryTables::new(1_800, samples)),
            orders: Mutex::new(OrderTables::new(ended_orders)),
            sessions: Mutex::new(SessionTables::new(ended_sessions)),
            heartbeats: Mutex::default(),
            limits: Mutex::default(),
            audit: Mutex::default(),
            events: Mutex::default(),
        }
    }

    /// Keeps this many measurements per asset instead of 1,800; at least 1.
    #[must_use]
    pub fn samples_per_asset(mut self, samples: usize) -> Self {
        self.telemetry.get_mut().set_per_asset(samples);
        self
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError> {
        Ok(self.sessions.lock().open(session, at_least))
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError> {
        self.sessions.lock().close(agent, epoch, end);
        Ok(())
    }

    async fn abandon_sessions(&self, end: &SessionEnd) -> Result<Vec<Order>, StoreError> {
        let mut orders = self.orders.lock();
        let sessions = self.sessions.lock().abandon(end);
        Ok(orders.abandon(sessions))
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        self.sessions.lock().history(query)
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        Ok(match kind {
            LogKind::Telemetry => self.telemetry.lock().logs.cursor(agent, log),
            _ => self.orders.lock().logs.cursor(agent, log),
        })
    }

    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        self.telemetry.lock().append(appends);
        Ok(())
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        Ok(self.telemetry.lock().latest())
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        self.telemetry.lock().history(query)
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        self.telemetry.lock().buckets(query, step_s)
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        Ok(self.telemetry.lock().gaps(agent))
    }

    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        let mut orders = self.orders.lock();
        let fates: Vec<_> = appends
            .iter()
            .map(|append| orders.append_reports(append))
            .collect();
        let raised = fates.iter().flatten().filter_map(|fate| match fate {
            ReportFate::Event(event) => Some(&**event),
            _ => None,
        });
        self.events.lock().append(raised);
        Ok(fates)
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        Ok(self.orders.lock().commit(order))
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        Ok(self.orders.lock().committed(idempotency))
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        Ok(self.orders.lock().add_shares(new))
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        Ok(self.orders.lock().advance(steps))
    }

    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError> {
        Ok(self.orders.lock().cancel(cancels))
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        Ok(self.orders.lock().mark_in_doubt(agent, epoch))
    }

    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError> {
        Ok(self.orders.lock().mark_dropped(agent, epoch, assets))
    }

    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError> {
        Ok(self.orders.lock().confirm(agent, epoch, in_force))
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        Ok(self.orders.lock().dispatch(id))
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        self.orders.lock().history(query)
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        Ok(self.orders.lock().open_orders(assets))
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        Ok(self.orders.lock().revisions(assets))
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        self.orders.lock().raise_revision(asset, at_least);
        Ok(())
    }

    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError> {
        self.limits.lock().put_limits(limits);
        Ok(())
    }

    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        Ok(self.limits.lock().limit(id))
    }

    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        self.limits.lock().limit_history(query)
    }

    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError> {
        self.limits.lock().put_stops(stops);
        Ok(())
    }

    async fn stop(&self, id: StopId) -> Result<Option<Stop>, StoreError> {
        Ok(self.limits.lock().stop(id))
    }

    async fn stops(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError> {
        self.limits.lock().stop_history(query)
    }

    async fn put_keyed(
        &self,
        restraint: &Restraint,
        key: &Idempotency,
    ) -> Result<Option<Keyed>, StoreError> {
        Ok(self.limits.lock().put_keyed(restraint, key))
    }

    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError> {
        Ok(self.limits.lock().keyed(key))
    }

    async fn restraints(&self) -> Result<Restraints, StoreError> {
        Ok(self.limits.lock().restraints())
    }

    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError> {
        self.heartbeats.lock().append(heartbeats);
        Ok(())
    }

    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        self.heartbeats.lock().history(asset, query)
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.audit.lock().append(records);
        Ok(())
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.audit.lock().history(query)
    }

    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        self.events.lock().append(events);
        Ok(())
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.events.lock().history(query)
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        Ok(self.events.lock().event(id))
    }

    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError> {
        Ok(self.events.lock().acknowledge(id, acknowledgement))
    }

    async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        if let Some(before) = horizon(retention.telemetry, now) {
            (pruned.telemetry, pruned.gaps) = self.telemetry.lock().prune(before);
        }
        if let Some(before) = horizon(retention.heartbeats, now) {
            pruned.heartbeats = self.heartbeats.lock().prune(before);
        }
        if let Some(before) = horizon(retention.sessions, now) {
            pruned.sessions = self.sessions.lock().prune(before);
        }
        if let Some(before) = horizon(retention.dispatches, now) {
            pruned.dispatches = self.orders.lock().prune(before);
        }
        if let Some(before) = horizon(retention.limits, now) {
            pruned.limits = self.limits.lock().prune(before);
        }
        if let Some(before) = horizon(retention.audit, now) {
            pruned.audit = self.audit.lock().prune(before);
        }
        if let Some(before) = horizon(retention.events, now) {
            pruned.events = self.events.lock().prune(before);
        }
        Ok(pruned)
    }
}
