//! The store, with its fault where it belongs.

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
    TelemetryQuery,
};
use super::{Fault, FaultyStore, unavailable};

#[async_trait]
impl Store for FaultyStore {
    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn open_session(
        &self,
        session: &SessionRecord,
        at_least: u64,
    ) -> Result<u64, StoreError> {
        let epoch = self.inner.open_session(session, at_least).await?;
        Ok(if self.has(Fault::EpochsRepeat) {
            at_least.saturating_add(1)
        } else {
            epoch
        })
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
        if self.has(Fault::NothingAbandoned) {
            return Ok(Vec::new());
        }
        self.inner.abandon_sessions(end).await
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        let mut page = self.inner.sessions(query).await?;
        if self.has(Fault::EndsTwice) {
            for record in page
                .items
                .iter_mut()
                .filter(|r| r.disconnected_at.is_some())
            {
                record.text = Some("the last word".to_owned());
            }
        }
        Ok(page)
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        self.inner.log_cursor(agent, kind, log).await
    }

    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        self.append_with_fault(appends).await
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        self.latest_with_fault().await
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        self.telemetry_with_fault(query).await
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        let mut page = self.inner.telemetry_buckets(query, step_s).await?;
        if self.has(Fault::LooseBuckets) {
            for bucket in &mut page.items {
                bucket.from = bucket.from.max(query.page.from);
            }
        }
        Ok(page)
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        self.inner.gaps(agent).await
    }

    async fn append_reports(
        &self,
        appends: &[ReportAppend],
    ) -> Result<Vec<Vec<ReportFate>>, StoreError> {
        self.reach()?;
        self.reports_with_fault(appends).await
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        self.reach()?;
        self.commit_with_fault(order).await
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        self.reach()?;
        self.inner.committed(idempotency).await
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        self.reach()?;
        self.add_shares_with_fault(new).await
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        self.reach()?;
        self.advance_with_fault(steps).await
    }

    async fn cancel(&self, cancels: &[Cancel]) -> Result<Vec<Order>, StoreError> {
        tokio::task::yield_now().await;
        self.reach()?;
        let changed = self.cancel_with_fault(cancels).await?;
        if self.has(Fault::CancelFailsAfter) {
            return unavailable();
        }
        Ok(changed)
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        self.reach()?;
        if self.has(Fault::NoneInDoubt) {
            return Ok(Vec::new());
        }
        let epoch = if self.has(Fault::AllInDoubt) {
            u64::MAX
        } else {
            epoch
        };
        self.inner.mark_in_doubt(agent, epoch).await
    }

    async fn mark_dropped(
        &self,
        agent: AgentId,
        epoch: u64,
        assets: &[AssetId],
    ) -> Result<Vec<Order>, StoreError> {
        self.reach()?;
        if self.has(Fault::DroppedForgotten) {
            return Ok(Vec::new());
        }
        let epoch = if self.has(Fault::DroppedOfAll) {
            u64::MAX
        } else {
            epoch
        };
        self.inner.mark_dropped(agent, epoch, assets).await
    }

    async fn confirm(
        &self,
        agent: AgentId,
        epoch: u64,
        in_force: &[(AssetId, DispatchId)],
    ) -> Result<Vec<Order>, StoreError> {
        self.reach()?;
        self.inner.confirm(agent, epoch, in_force).await
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        self.reach()?;
        let mut dispatch = self.inner.dispatch(id).await?;
        if self.has(Fault::ChildrenLost)
            && let Some(dispatch) = &mut dispatch
        {
            dispatch.children.clear();
        }
        Ok(dispatch)
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        self.reach()?;
        self.inner.dispatches(query).await
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        self.reach()?;
        tokio::task::yield_now().await;
        self.inner.open_orders(assets).await
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        self.reach()?;
        self.inner.revisions(assets).await
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        self.reach()?;
        if self.has(Fault::RaiseForgotten) {
            return Ok(());
        }
        self.inner.raise_revision(asset, at_least).await
    }

    async fn put_limits(&self, limits: &[PowerLimit]) -> Result<(), StoreError> {
        if self.has(Fault::LimitsFail) {
            return unavailable();
        }
        let mut limits = limits.to_vec();
        if self.has(Fault::FirstWordCounts) {
            let mut new = Vec::new();
            for limit in limits {
                if self.inner.limit(limit.id).await?.is_none() {
                    new.push(limit);
                }
            }
            limits = new;
        }
        self.inner.put_limits(&limits).await
    }

    async fn limit(&self, id: LimitId) -> Result<Option<PowerLimit>, StoreError> {
        self.inner.limit(id).await
    }

    async fn limits(&self, query: &LimitQuery) -> Result<Page<PowerLimit>, StoreError> {
        self.inner.limits(query).await
    }

    async fn put_stops(&self, stops: &[Stop]) -> Result<(), StoreError> {
        if self.has(Fault::LimitsFail) {
            return unavailable();
        }
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
        if self.has(Fault::LimitsFail) {
            return unavailable();
        }
        let kept = self.inner.put_keyed(restraint, key).await?;
        if self.has(Fault::LimitsFailAfter) {
            return unavailable();
        }
        Ok(kept)
    }

    async fn keyed(&self, key: &Idempotency) -> Result<Option<Keyed>, StoreError> {
        if self.has(Fault::LimitsFail) {
            return unavailable();
        }
        if self.has(Fault::KeysForgotten) {
            return Ok(None);
        }
        self.inner.keyed(key).await
    }

    async fn restraints(&self) -> Result<Restraints, StoreError> {
        let mut restraints = self.inner.restraints().await?;
        if self.has(Fault::EndedHolds) {
            let all = self.inner.limits(&LimitQuery::default()).await?;
            restraints.limits = all.items;
        }
        if self.has(Fault::StopsForgotten) {
            restraints.stops.clear();
        }
        Ok(restraints)
    }

    async fn append_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        if self.has(Fault::AuditFails) {
            return unavailable();
        }
        if self.has(Fault::AuditChanges) {
            // Each takes the place of the one before it that has its id.
            let mut all = self.inner.audit(&AuditQuery::default()).await?.items;
            all.retain(|old| records.iter().all(|new| new.id != old.id));
            let mut retention = Retention::forever();
            retention.audit = Some(Duration::ZERO);
            self.inner.prune(&retention, Timestamp::MAX).await?;
            self.inner.append_audit(&all).await?;
        }
        self.inner.append_audit(records).await
    }

    async fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        if self.has(Fault::EventsFail) {
            return unavailable();
        }
        self.inner.append_events(events).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        let mut query = query.clone();
        if self.has(Fault::LeastForgotten) {
            query.least = None;
        }
        self.inner.events(&query).await
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.inner.event(id).await
    }

    async fn acknowledge(
        &self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Result<Option<Event>, StoreError> {
        if self.has(Fault::EventsFail) {
            return unavailable();
        }
        let mut event = self.inner.acknowledge(id, acknowledgement).await?;
        if self.has(Fault::LastWordCounts)
            && let Some(event) = &mut event
        {
            event.acknowledged = Some(acknowledgement.clone());
        }
        Ok(event)
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.inner.audit(query).await
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
        if self.has(Fault::NothingPruned) {
            return Ok(Pruned::default());
        }
        let now = if self.has(Fault::AllPruned) {
            Timestamp::MAX
        } else {
            now
        };
        self.inner.prune(retention, now).await
    }
}
