//! What is counted of the store, and of orders, which all pass through it.

use std::sync::Arc;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, DispatchStatus, Event,
    EventId, Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};
use prometheus::{HistogramVec, IntCounterVec};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Make, Metrics, word};
use crate::store::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, NewOrder, NewShares, Order, Pruned, ReportAppend, ReportFate,
    Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery,
};

/// Upper bounds of a call, seconds.
const CALLS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of an agent's answer, seconds.
const ANSWERS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0, 60.0];

#[derive(Debug)]
pub(super) struct StoreMetrics {
    calls: HistogramVec,
    errors: IntCounterVec,
    transitions: IntCounterVec,
    answers: HistogramVec,
}

impl StoreMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let metrics = Self {
            calls: make.histograms(
                "derms_store_call_duration_seconds",
                "Calls of the store, by operation.",
                &["operation"],
                &CALLS,
            )?,
            errors: make.counters(
                "derms_store_errors_total",
                "Calls of the store that failed, by operation.",
                &["operation"],
            )?,
            transitions: make.counters(
                "derms_dispatch_transitions_total",
                "Orders for one asset that came to a status; a share of a site order is one.",
                &["status"],
            )?,
            answers: make.histograms(
                "derms_dispatch_answer_seconds",
                "From the sending of an order to the report that its agent has it (received) or its \
                 device obeys (active).",
                &["status"],
                &ANSWERS,
            )?,
        };
        for status in DispatchStatus::ALL {
            metrics.transitions.with_label_values(&[&word(status)]);
        }
        for status in [DispatchStatus::Received, DispatchStatus::Active] {
            metrics.answers.with_label_values(&[&word(status)]);
        }
        Ok(metrics)
    }

    fn committed<'a>(&self, new: impl Iterator<Item = &'a Dispatch>, superseded: &'a [Dispatch]) {
        for dispatch in new.chain(superseded) {
            self.moved(dispatch);
        }
    }

    fn moved(&self, dispatch: &Dispatch) {
        let status = word(dispatch.status);
        self.transitions.with_label_values(&[&status]).inc();
        let later = dispatch.status == DispatchStatus::Active && dispatch.start_at.is_some();
        let answers = [DispatchStatus::Received, DispatchStatus::Active];
        if later || !answers.contains(&dispatch.status) {
            return;
        }
        let last = |status| {
            let mut steps = dispatch.transitions.iter().rev();
            steps.find(|step| step.status == status)
        };
        if let (Some(sent), Some(answer)) = (last(DispatchStatus::Sent), last(dispatch.status)) {
            let took = answer.at.saturating_since(sent.at).as_secs_f64();
            self.answers.with_label_values(&[&status]).observe(took);
        }
    }
}

/// The store of a headend, each of whose calls is timed and counted.
#[derive(Debug)]
pub(crate) struct CountedStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Cancelled when the store is another headend's.
    taken_over: CancellationToken,
}

impl CountedStore {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        taken_over: CancellationToken,
    ) -> Self {
        Self {
            inner,
            metrics,
            taken_over,
        }
    }

    /// A call that is given up is not counted: what became of it is not known.
    async fn timed<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        let store = &self.metrics.store;
        let calls = store.calls.with_label_values(&[operation]);
        calls.observe(began.elapsed().as_secs_f64());
        let errors = store.errors.with_label_values(&[operation]);
        // A cursor that is none is a fault of its caller.
        if matches!(&answer, Err(error) if !matches!(error, StoreError::InvalidCursor)) {
            errors.inc();
        }
        if matches!(answer, Err(StoreError::TakenOver)) && !self.taken_over.is_cancelled() {
            tracing::error!("another headend has taken the store over; this one ends its sessions");
            self.taken_over.cancel();
        }
        answer
    }
}

/// The orders for single assets: a dispatch itself, or its children.
fn leaves(dispatch: &Dispatch) -> impl Iterator<Item = &Dispatch> {
    let own = dispatch.asset_id.is_some().then_some(dispatch);
    own.into_iter().chain(&dispatch.children)
}

#[async_trait]
impl Store for CountedStore {
    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.timed("ping", self.inner.ping()).await
    }

    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError> {
        self.timed("open_session", self.inner.open_session(session, at_least))
            .await
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError> {
        self.timed("close_session", self.inner.close_session(agent, epoch, end))
            .await
    }

    async fn abandon_sessions(&self, end: &SessionEnd) -> Result<Vec<Order>, StoreError> {
        self.timed("abandon_sessions", self.inner.abandon_sessions(end))
            .await
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        self.timed("sessions", self.inner.sessions(query)).await
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        self.timed("log_cursor", self.inner.log_cursor(agent, kind, log))
            .await
    }

    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        self.timed("append_telemetry", self.inner.append_telemetry(appends))
            .await
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        self.timed("latest_telemetry", self.inner.latest_telemetry())
            .await
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        self.timed("telemetry", self.inner.telemetry(query)).await
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        self.timed(
            "telemetry_buckets",
            self.inner.telemetry_buckets(query, step_s),
        )
        .await
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        self.timed("gaps", self.inner.gaps(agent)).await
    }

    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        let answer = self
            .timed("append_reports", self.inner.append_reports(appends))
            .await?;
        for fate in answer.iter().flatten() {
            if let ReportFate::Applied(order) = fate {
                self.metrics.store.moved(&order.dispatch);
            }
        }
        Ok(answer)
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        let answer = self.timed("commit", self.inner.commit(order)).await?;
        if let Commit::New {
            dispatch,
            superseded,
        } = &answer
        {
            self.metrics.store.committed(leaves(dispatch), superseded);
        }
        Ok(answer)
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        self.timed("committed", self.inner.committed(idempotency))
            .await
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        let answer = self.timed("add_shares", self.inner.add_shares(new)).await?;
        if let Some(added) = &answer {
            self.metrics
                .store
                .committed(added.shares.iter(), &added.superseded);
        }
        Ok(answer)
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        let answer = self.timed("advance", self.inner.advance(steps)).await?;
        for order in answer.iter().flatten() {
            self.metrics.store.moved(&order.dispatch);
        }
        Ok(answer)
    }

    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError> {
        let answer = self.timed("cancel", self.inner.cancel(cancels)).await?;
        for order in &answer {
            // The others are asked to end, and their agents tell when they have.
            if order.dispatch.status == DispatchStatus::Cancelled {
                self.metrics.store.moved(&order.dispatch);
            }
        }
        Ok(answer)
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        self.timed("mark_in_doubt", self.inner.mark_in_doubt(agent, epoch))
            .await
    }

    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError> {
        self.timed(
            "mark_dropped",
            self.inner.mark_dropped(agent, epoch, assets),
        )
        .await
    }

    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError> {
        self.timed("confirm", self.inner.confirm(agent, epoch, in_force))
            .await
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.timed("dispatch", self.inner.dispatch(id)).await
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        self.timed("dispatches", self.inner.dispatches(query)).await
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        self.timed("open_orders", self.inner.open_orders(assets))
            .await
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        self.timed("revisions", self.inner.revisions(assets)).await
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        self.timed("raise_revision", self.inner.raise_revision(asset, at_least))
            .await
    }

    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError> {
        self.timed("put_limits", self.inner.put_limits(limits))
            .await
    }

    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        self.timed("limit", self.inner.limit(id)).await
    }

    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        self.timed("limits", self.inner.limits(query)).await
    }

    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError> {
        self.timed("put_stops", self.inner.put_stops(stops)).await
    }

    async fn stop(&self, id: StopId) -> Result<Option<Stop>, StoreError> {
        self.timed("stop", self.inner.stop(id)).await
    }

    async fn stops(&self, query: &HistoryQuery) -> Result<Page<Stop>, StoreError> {
        self.timed("stops", self.inner.stops(query)).await
    }

    async fn put_keyed(
        &self,
        restraint: &Restraint,
        key: &Idempotency,
    ) -> Result<Option<Keyed>, StoreError> {
        self.timed("put_keyed", self.inner.put_keyed(restraint, key))
            .await
    }

    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError> {
        self.timed("keyed", self.inner.keyed(key)).await
    }

    async fn restraints(&self) -> Result<Restraints, StoreError> {
        self.timed("restraints", self.inner.restraints()).await
    }

    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError> {
        self.timed(
            "append_heartbeats",
            self.inner.append_heartbeats(heartbeats),
        )
        .await
    }

    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        self.timed("heartbeats", self.inner.heartbeats(asset, query))
            .await
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.timed("append_audit", self.inner.append_audit(records))
            .await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.timed("audit", self.inner.audit(query)).await
    }

    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        self.timed("append_events", self.inner.append_events(events))
            .await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.timed("events", self.inner.events(query)).await
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.timed("event", self.inner.event(id)).await
    }

    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError> {
        self.timed("acknowledge", self.inner.acknowledge(id, acknowledgement))
            .await
    }

    async fn prune(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        self.timed("prune", self.inner.prune(retention, now)).await
    }
}
