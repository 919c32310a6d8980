//! A store with one fault at a time: it shows that the contract tests can fail, and what the
//! headend does when its store does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind, Report, ReportEntry, SetpointPhase, SetpointReport};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Cursor, Dispatch, DispatchId, DispatchStatus,
    Event, EventId, Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId,
    Telemetry, TelemetryBucket, Timestamp,
};
use parking_lot::Mutex;

#[path = "faulty_cancel.rs"]
mod cancel;

use super::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, MemoryStore, NewOrder, NewShares, Order, Pruned, ReportAppend,
    ReportFate, Restraint, Restraints, Retention, SessionEnd, Store, StoreError, StoredReport,
    TelemetryAppend, TelemetryQuery,
};

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

    /// The order's own agent says this of it, in a log made up for it.
    async fn say(&self, order: &Order, phase: SetpointPhase) -> Result<(), StoreError> {
        let (Some(carrier), Some(asset_id)) = (order.carrier, order.dispatch.asset_id) else {
            return Ok(());
        };
        let report = Report::Setpoint(SetpointReport {
            dispatch_id: order.dispatch.id,
            revision: 0,
            phase,
            reason: None,
            text: None,
            applied: None,
        });
        let entry = ReportEntry {
            at: Timestamp::UNIX_EPOCH,
            asset_id,
            report,
        };
        let append = ReportAppend {
            agent: carrier.agent,
            epoch: carrier.epoch,
            log: LogId::generate(),
            entries: vec![StoredReport {
                seq: 1,
                entry,
                event: None,
            }],
            next_seq: 2,
            at: Timestamp::UNIX_EPOCH,
        };
        self.inner.append_reports(&[append]).await.map(drop)
    }

    async fn order(&self, id: DispatchId) -> Result<Option<Order>, StoreError> {
        let open = self.inner.open_orders(None).await?;
        Ok(open.into_iter().find(|order| order.dispatch.id == id))
    }

    /// The check and the commit in two transactions.
    async fn commit_apart(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        let Some(idempotency) = &order.idempotency else {
            return self.inner.commit(order).await;
        };
        let same = |known: &&(Idempotency, DispatchId)| known.0.key == idempotency.key;
        let known = self.state.lock().keys.iter().find(same).cloned();
        tokio::task::yield_now().await;
        if let Some((known, id)) = known {
            let dispatch = self.inner.dispatch(id).await?;
            return Ok(match dispatch {
                Some(dispatch) if known == *idempotency => Commit::Repeated(Box::new(dispatch)),
                _ => Commit::Conflict,
            });
        }
        let bare = NewOrder {
            idempotency: None,
            ..order.clone()
        };
        let commit = self.inner.commit(&bare).await?;
        self.state
            .lock()
            .keys
            .push((idempotency.clone(), order.dispatch.id));
        Ok(commit)
    }
}

fn unavailable<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable {
        context: "on request".to_owned(),
        source: None,
    })
}

fn is_send(steps: &[Advance]) -> bool {
    steps.iter().any(|step| step.status == DispatchStatus::Sent)
}

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
        let fault = self.state.lock().fault;
        match fault {
            Fault::AppendFails => return unavailable(),
            Fault::AppendSlow => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Fault::Poison(log, next)
                if !appends.iter().any(|a| (a.log, a.next_seq) == (log, next)) => {}
            Fault::AppendNever | Fault::Poison(..) => {
                return Err(StoreError::Corrupt {
                    context: "on request".to_owned(),
                    source: None,
                });
            }
            _ => {}
        }
        let mut appends = appends.to_vec();
        if self.has(Fault::GapsLost) {
            appends.iter_mut().for_each(|append| append.gaps.clear());
        }
        self.inner.append_telemetry(&appends).await?;
        if self.has(Fault::SamplesTwice) {
            // What was settled before comes in again, as if nothing were known of the log.
            for append in &mut appends {
                append.log = LogId::generate();
            }
            self.inner.append_telemetry(&appends).await?;
        }
        Ok(())
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        let mut latest = self.inner.latest_telemetry().await?;
        if self.has(Fault::LatestByReceipt) {
            for telemetry in &mut latest {
                let query = TelemetryQuery::new(telemetry.asset_id, HistoryQuery::default());
                let all = self.inner.telemetry(&query).await?.items;
                let newest = all
                    .into_iter()
                    .max_by_key(|telemetry| telemetry.received_at);
                *telemetry = newest.unwrap_or_else(|| telemetry.clone());
            }
        }
        Ok(latest)
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        let mut query = query.clone();
        if self.has(Fault::CursorCounts) {
            let (limit, cursor) = (query.page.limit, query.page.cursor.take());
            let passed = cursor.map_or(Ok(0), |cursor| {
                cursor
                    .as_str()
                    .parse()
                    .map_err(|_| StoreError::InvalidCursor)
            })?;
            query.page.limit = usize::MAX;
            let all = self.inner.telemetry(&query).await?.items;
            let more = all.len() > passed + limit;
            return Ok(Page {
                items: all.into_iter().skip(passed).take(limit).collect(),
                next_cursor: more.then(|| Cursor::new((passed + limit).to_string())),
            });
        }
        let page = self.inner.telemetry(&query).await;
        if self.has(Fault::AnyCursor) && matches!(page, Err(StoreError::InvalidCursor)) {
            query.page.cursor = None;
            return self.inner.telemetry(&query).await;
        }
        let mut page = page?;
        if self.has(Fault::OldestFirst) {
            page.items.reverse();
        }
        Ok(page)
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
        let mut appends = appends.to_vec();
        if self.has(Fault::RefusalsBelieved) {
            cancel::believe_refusals(&mut appends);
        }
        if self.has(Fault::AnyAgentReports) {
            let orders = self.inner.open_orders(None).await?;
            for append in &mut appends {
                let carrier = orders.iter().find_map(|order| order.carrier);
                append.agent = carrier.map_or(append.agent, |carrier| carrier.agent);
            }
        }
        if self.has(Fault::EventsTwice) {
            // Those of a repeated part once more, as one without a cursor would.
            let again = appends.iter().flat_map(|append| &append.entries);
            let again: Vec<Event> = again
                .filter_map(|it| it.event.as_deref().cloned())
                .collect();
            self.inner.append_events(&again).await?;
        }
        if self.has(Fault::ReportsTwice) {
            self.inner.append_reports(&appends).await?;
            appends
                .iter_mut()
                .for_each(|append| append.log = LogId::generate());
        }
        let mut fates = self.inner.append_reports(&appends).await?;
        if self.has(Fault::ContradictionsHidden) {
            for fate in fates.iter_mut().flatten() {
                if let ReportFate::Contradiction { order, .. } = fate {
                    *fate = ReportFate::Repeated(order.clone());
                }
            }
        }
        Ok(fates)
    }

    async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        self.reach()?;
        // A real store takes its time: others run meanwhile.
        tokio::task::yield_now().await;
        if self.has(Fault::CommitFails) {
            return unavailable();
        }
        if self.has(Fault::CommitSlow) {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
        if self.has(Fault::KeyApart) {
            return self.commit_apart(order).await;
        }
        if self.has(Fault::SentSuperseded) {
            for open in self.inner.open_orders(None).await? {
                if open.dispatch.asset_id == order.dispatch.asset_id {
                    self.say(&open, SetpointPhase::Superseded).await?;
                }
            }
        }
        let waiting = self.inner.open_orders(None).await?;
        let mut commit = self.inner.commit(order).await?;
        if self.has(Fault::AllSuperseded) && matches!(commit, Commit::New { .. }) {
            // As if every order were for now.
            let same = |open: &&Order| open.dispatch.asset_id == order.dispatch.asset_id;
            let steps = waiting.iter().filter(same).map(|open| Advance {
                id: open.dispatch.id,
                status: DispatchStatus::Superseded,
                at: order.dispatch.created_at,
                reason: None,
                text: None,
                carrier: None,
            });
            let steps: Vec<Advance> = steps.collect();
            let stepped_back = self.inner.advance(&steps).await?;
            if let Commit::New { superseded, .. } = &mut commit {
                superseded.extend(
                    stepped_back
                        .into_iter()
                        .flatten()
                        .map(|order| order.dispatch),
                );
            }
        }
        if self.has(Fault::CommitFailsAfter) {
            return unavailable();
        }
        if self.has(Fault::RevisionsRepeat)
            && let Commit::New { dispatch, .. } = &mut commit
        {
            dispatch.revision = dispatch.revision.map(|_| 1);
        }
        Ok(commit)
    }

    async fn committed(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        self.reach()?;
        self.inner.committed(idempotency).await
    }

    async fn add_shares(&self, new: &NewShares) -> Result<Option<AddedShares>, StoreError> {
        self.reach()?;
        tokio::task::yield_now().await;
        let mut new = new.clone();
        if self.has(Fault::SharesBlind) {
            let assets: Vec<AssetId> = new.shares.iter().filter_map(|s| s.asset_id).collect();
            new.seen = self.inner.revisions(&assets).await?;
        }
        if self.has(Fault::ReplacedForgotten) {
            new.replaced.clear();
        }
        let added = self.inner.add_shares(&new).await?;
        if self.has(Fault::SharesSlow) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.has(Fault::CommitFailsAfter) {
            return unavailable();
        }
        Ok(added)
    }

    async fn advance(&self, steps: &[Advance]) -> Result<Vec<Option<Order>>, StoreError> {
        self.reach()?;
        tokio::task::yield_now().await;
        self.note(steps.len());
        let sending = is_send(steps);
        if self.has(Fault::AdvanceFails) || (self.has(Fault::SentFails) && sending) {
            return unavailable();
        }
        if self.has(Fault::SentExpires) {
            for step in steps
                .iter()
                .filter(|step| step.status == DispatchStatus::Expired)
            {
                if let Some(order) = self.order(step.id).await? {
                    self.say(&order, SetpointPhase::Expired).await?;
                }
            }
        }
        let mut moved = self.inner.advance(steps).await?;
        if self.has(Fault::AdvanceSlow) {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        if self.has(Fault::SentFailsAfter) && sending {
            return unavailable();
        }
        if self.has(Fault::SentTwice) {
            for (step, moved) in steps.iter().zip(&mut moved) {
                if step.status == DispatchStatus::Sent && moved.is_none() {
                    *moved = self.order(step.id).await?;
                }
            }
        }
        Ok(moved)
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
