//! A store of your own: one that copies every measurement to the plant's historian.
//!
//! Run with `cargo run -p derms-examples --example custom_store`. It takes the contract tests with
//! the historian hanging and with it gone, then runs a headend with a battery on it and shows what
//! reaches the historian; it needs no other program.
//!
//! A store on a database of your own has the same methods, with SQL in them, and some 1,000 lines:
//! docs/store-guide.md is the way there. This one stands in front of another store and adds to it.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use derms_agent_sdk::{AgentRuntime, sim};
use derms_headend_sdk::proto::link::{Gap, LogKind};
use derms_headend_sdk::proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, Event, EventId, Fleet,
    Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};
use derms_headend_sdk::store::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, MemoryStore, NewOrder, NewShares, Order, Pruned, ReportAppend,
    ReportFate, Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery, conformance,
};
use derms_headend_sdk::{Headend, async_trait};
use tokio::sync::mpsc;

/// Another store, with a copy of its measurements for a historian.
///
/// The historian may be slow, hang or be gone: that delays and loses nothing here. It gets a
/// measurement once more when the store was away in between, so it goes by asset and time.
#[derive(Debug)]
pub(crate) struct Mirrored<S> {
    inner: S,
    historian: mpsc::Sender<Vec<Telemetry>>,
    /// Measurements that the historian had no room for. The store has them: `telemetry` gives
    /// them, page by page, to whoever fills the hole.
    missed: AtomicU64,
}

impl<S: Store> Mirrored<S> {
    /// The other end of `historian` belongs to a task that writes to it.
    pub(crate) fn new(inner: S, historian: mpsc::Sender<Vec<Telemetry>>) -> Self {
        Self {
            inner,
            historian,
            missed: AtomicU64::new(0),
        }
    }

    fn mirror(&self, appends: &[TelemetryAppend]) {
        let samples = appends.iter().flat_map(|append| &append.samples);
        let batch: Vec<Telemetry> = samples.map(|(_, telemetry)| telemetry.clone()).collect();
        // No waiting: the headend's acknowledgements to its agents wait for this call.
        if let Err(refused) = self.historian.try_send(batch) {
            let count = refused.into_inner().len() as u64;
            self.missed.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl<S: Store> Store for Mirrored<S> {
    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        // Durable first: if this fails the agent sends again, and the historian never holds what
        // the headend does not know.
        self.inner.append_telemetry(appends).await?;
        self.mirror(appends);
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Without its historian the headend does its work: this is about the store alone.
        self.inner.ping().await
    }

    // The rest is the other store's.

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError> {
        self.inner.open_session(session, at_least).await
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError> {
        self.inner.close_session(agent, epoch, end).await
    }

    async fn abandon_sessions(&self, end: &SessionEnd) -> Result<Vec<Order>, StoreError> {
        self.inner.abandon_sessions(end).await
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        self.inner.sessions(query).await
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        self.inner.log_cursor(agent, kind, log).await
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        self.inner.latest_telemetry().await
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        self.inner.telemetry(query).await
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        self.inner.telemetry_buckets(query, step_s).await
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        self.inner.gaps(agent).await
    }

    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        self.inner.append_reports(appends).await
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        self.inner.commit(order).await
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        self.inner.committed(idempotency).await
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        self.inner.add_shares(new).await
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        self.inner.advance(steps).await
    }

    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError> {
        self.inner.cancel(cancels).await
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        self.inner.mark_in_doubt(agent, epoch).await
    }

    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError> {
        self.inner.mark_dropped(agent, epoch, assets).await
    }

    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError> {
        self.inner.confirm(agent, epoch, in_force).await
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.inner.dispatch(id).await
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        self.inner.dispatches(query).await
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        self.inner.open_orders(assets).await
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        self.inner.revisions(assets).await
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        self.inner.raise_revision(asset, at_least).await
    }

    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError> {
        self.inner.put_limits(limits).await
    }

    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        self.inner.limit(id).await
    }

    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        self.inner.limits(query).await
    }

    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError> {
        self.inner.put_stops(stops).await
    }

    async fn stop(&self, id: StopId) -> Result<Option<Stop>, StoreError> {
        self.inner.stop(id).await
    }

    async fn stops(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError> {
        self.inner.stops(query).await
    }

    async fn put_keyed(
        &self,
        restraint: &Restraint,
        key: &Idempotency,
    ) -> Result<Option<Keyed>, StoreError> {
        self.inner.put_keyed(restraint, key).await
    }

    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError> {
        self.inner.keyed(key).await
    }

    async fn restraints(&self) -> Result<Restraints, StoreError> {
        self.inner.restraints().await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.inner.append_audit(records).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.inner.audit(query).await
    }

    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        self.inner.append_events(events).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.inner.events(query).await
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.inner.event(id).await
    }

    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError> {
        self.inner.acknowledge(id, acknowledgement).await
    }

    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError> {
        self.inner.append_heartbeats(heartbeats).await
    }

    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        self.inner.heartbeats(asset, query).await
    }

    async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        self.inner.prune(retention, now).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A historian that takes one batch and then no more, and one whose task has ended.
    let (hanging, _never_read) = mpsc::channel(1);
    conformance::check(async || Mirrored::new(MemoryStore::new(), hanging.clone())).await?;
    let (gone, _) = mpsc::channel(1);
    conformance::check(async || Mirrored::new(MemoryStore::new(), gone.clone())).await?;
    let sentences = conformance::Sentence::all().len();
    println!("the store keeps all {sentences} sentences of its contract, historian or not");

    let fleet = Fleet::load("assets.yaml")?;
    let battery = fleet.assets()[0].clone();
    let (sender, mut historian) = mpsc::channel(1_024);
    let headend = Headend::builder(fleet)
        .store(Mirrored::new(MemoryStore::new(), sender))
        .telemetry_interval(Duration::from_millis(500))
        .build()
        .await?;
    let listener = Headend::bind("127.0.0.1:0".parse()?)?;
    let agent = AgentRuntime::builder(format!("http://{}", listener.local_addr()?).parse()?)
        .adapter(battery.clone(), sim::for_asset(&battery, 7))
        .build()?;
    let handle = agent.handle();
    // In your program a task of its own that writes to the historian until it answers.
    let three_batches = async {
        for _ in 0..3 {
            for telemetry in historian.recv().await.into_iter().flatten() {
                let power = telemetry.measurements.mw.unwrap_or_default();
                let at = telemetry.measured_at;
                println!("historian: {} {at} {power}", battery.name);
            }
        }
        handle.shutdown();
    };
    let serve = headend.serve(vec![(listener, headend.grpc_service())], three_batches);
    let (ran, ()) = tokio::join!(agent.run(), serve);
    Ok(ran?)
}
