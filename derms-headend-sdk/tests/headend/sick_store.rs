//! A store that fails when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use derms_headend_sdk::async_trait;
use derms_headend_sdk::proto::link::{Gap, LogKind};
use derms_headend_sdk::proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, Event, EventId,
    Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};
use derms_headend_sdk::store::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, MemoryStore, NewOrder, NewShares, Order, Pruned, ReportAppend,
    ReportFate, Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery,
};

/// What no caller may ever read.
pub(crate) const SECRET: &str = "postgres://derms:hunter2@db";

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Sickness {
    None,
    Unavailable,
    Corrupt,
    Panic,
    /// It answers, and takes nothing that is measured or reported.
    Full,
    /// Another headend has it.
    TakenOver,
}

/// All clones are the same store.
#[derive(Debug, Clone, Default)]
pub(crate) struct SickStore {
    inner: Arc<MemoryStore>,
    sickness: Arc<AtomicU8>,
}

impl SickStore {
    pub(crate) fn set(&self, sickness: Sickness) {
        self.sickness.store(sickness as u8, Ordering::SeqCst);
    }

    fn check(&self, call: &str) -> Result<(), StoreError> {
        const UNAVAILABLE: u8 = Sickness::Unavailable as u8;
        const CORRUPT: u8 = Sickness::Corrupt as u8;
        const PANIC: u8 = Sickness::Panic as u8;
        const TAKEN_OVER: u8 = Sickness::TakenOver as u8;
        const FULL: u8 = Sickness::Full as u8;
        let context = SECRET.to_owned();
        let source = Some(SECRET.into());
        match self.sickness.load(Ordering::SeqCst) {
            UNAVAILABLE => Err(StoreError::Unavailable { context, source }),
            CORRUPT => Err(StoreError::Corrupt { context, source }),
            TAKEN_OVER => Err(StoreError::TakenOver),
            PANIC => panic!("{SECRET}"),
            FULL if call.starts_with("append_") => Err(StoreError::Unavailable { context, source }),
            _ => Ok(()),
        }
    }
}

macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Store for SickStore {
            fn is_durable(&self) -> bool {
                self.inner.is_durable()
            }

            $(async fn $name(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
                self.check(stringify!($name))?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

delegate! {
    fn ping() -> ();
    fn open_session(session: &SessionRecord, at_least: u64) -> u64;
    fn close_session(agent: AgentId, epoch: u64, end: &SessionEnd) -> ();
    fn abandon_sessions(end: &SessionEnd) -> Vec<Order>;
    fn sessions(query: &HistoryQuery) -> Page<SessionRecord>;
    fn log_cursor(agent: AgentId, kind: LogKind, log: LogId) -> Option<u64>;
    fn append_telemetry(appends: &[TelemetryAppend]) -> ();
    fn latest_telemetry() -> Vec<Telemetry>;
    fn telemetry(query: &TelemetryQuery) -> Page<Telemetry>;
    fn telemetry_buckets(query: &TelemetryQuery, step_s: u64) -> Page<TelemetryBucket>;
    fn gaps(agent: AgentId) -> Vec<(LogId, Gap)>;
    fn append_reports(appends: &[ReportAppend]) -> Vec<Vec<ReportFate>>;
    fn commit(order: &NewOrder) -> Commit;
    fn committed(idempotency: &Idempotency) -> Option<Commit>;
    fn add_shares(new: &NewShares) -> Option<AddedShares>;
    fn advance(steps: &[Advance]) -> Vec<Option<Order>>;
    fn cancel(cancels: &[Cancel]) -> Vec<Order>;
    fn mark_in_doubt(agent: AgentId, epoch: u64) -> Vec<Order>;
    fn mark_dropped(agent: AgentId, epoch: u64, assets: &[AssetId]) -> Vec<Order>;
    fn confirm(agent: AgentId, epoch: u64, in_force: &[(AssetId, DispatchId)]) -> Vec<Order>;
    fn dispatch(id: DispatchId) -> Option<Dispatch>;
    fn dispatches(query: &DispatchQuery) -> Page<Dispatch>;
    fn open_orders(assets: Option<&[AssetId]>) -> Vec<Order>;
    fn revisions(assets: &[AssetId]) -> Vec<u64>;
    fn raise_revision(asset: AssetId, at_least: u64) -> ();
    fn put_limits(limits: &[PowerLimit]) -> ();
    fn limit(id: LimitId) -> Option<PowerLimit>;
    fn limits(query: &LimitQuery) -> Page<PowerLimit>;
    fn put_stops(stops: &[Stop]) -> ();
    fn stop(id: StopId) -> Option<Stop>;
    fn stops(query: &HistoryQuery) -> Page<Stop>;
    fn put_keyed(restraint: &Restraint, key: &Idempotency) -> Option<Keyed>;
    fn keyed(key: &Idempotency) -> Option<Keyed>;
    fn restraints() -> Restraints;
    fn append_events(events: &[Event]) -> ();
    fn events(query: &EventQuery) -> Page<Event>;
    fn event(id: EventId) -> Option<Event>;
    fn acknowledge(id: EventId, acknowledgement: &Acknowledgement) -> Option<Event>;
    fn append_audit(records: &[AuditRecord]) -> ();
    fn audit(query: &AuditQuery) -> Page<AuditRecord>;
    fn append_heartbeats(heartbeats: &[Heartbeat]) -> ();
    fn heartbeats(asset: AssetId, query: &HistoryQuery) -> Page<Heartbeat>;
    fn prune(retention: &Retention, now: Timestamp) -> Pruned;
}
