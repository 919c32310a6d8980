//! A store that forgets everything when its process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use async_trait::async_trait;
use derms_proto::link::{Gap, LogKind, Report};
use derms_proto::{
    AgentId, Aggregate, AssetId, Cursor, Dispatch, DispatchId, DispatchStatus, Heartbeat, LogId,
    Page, ReasonCode, SessionRecord, Telemetry, TelemetryBucket, Timestamp, Transition,
};
use parking_lot::Mutex;

use super::{
    Advance, Commit, DispatchQuery, HistoryQuery, NewOrder, Order, ReportAppend, ReportFate,
    Reported, SessionEnd, Store, StoreError, TelemetryAppend, TelemetryQuery,
};

/// Keeps everything in memory, bounded; for tests, demos and headends whose history lives
/// elsewhere.
///
/// Kept: per asset the newest 1,800 measurements (two hours at 4 s) and 256 heartbeats; 10,000
/// sessions; 50,000 orders that have ended, and every order that has not. The oldest go first.
#[derive(Debug)]
pub struct MemoryStore {
    bounds: Bounds,
    telemetry: Mutex<TelemetryTables>,
    orders: Mutex<OrderTables>,
    sessions: Mutex<SessionTables>,
    heartbeats: Mutex<HashMap<AssetId, VecDeque<Heartbeat>>>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    samples_per_asset: usize,
    heartbeats_per_asset: usize,
    sessions: usize,
    ended_orders: usize,
    gaps_per_agent: usize,
}

#[derive(Debug, Default)]
struct TelemetryTables {
    /// By time of measurement, and number to tell apart those of one time.
    by_asset: HashMap<AssetId, BTreeMap<(Timestamp, u64), Telemetry>>,
    cursors: HashMap<(AgentId, LogId), u64>,
    gaps: HashMap<AgentId, VecDeque<(LogId, Gap)>>,
    serial: u64,
}

#[derive(Debug, Default)]
struct OrderTables {
    orders: BTreeMap<DispatchId, Order>,
    parents: BTreeMap<DispatchId, (Dispatch, Vec<DispatchId>)>,
    open: HashMap<AssetId, BTreeSet<DispatchId>>,
    /// In the order in which they ended.
    ended: VecDeque<DispatchId>,
    revisions: HashMap<AssetId, u64>,
    keys: HashMap<String, (String, DispatchId)>,
    cursors: HashMap<(AgentId, LogId), u64>,
}

#[derive(Debug, Default)]
struct SessionTables {
    epochs: HashMap<AgentId, u64>,
    /// Oldest first.
    records: VecDeque<SessionRecord>,
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
            bounds: Bounds {
                samples_per_asset: 1_800,
                heartbeats_per_asset: 256,
                sessions: 10_000,
                ended_orders: 50_000,
                gaps_per_agent: 256,
            },
            telemetry: Mutex::default(),
            orders: Mutex::default(),
            sessions: Mutex::default(),
            heartbeats: Mutex::default(),
        }
    }

    /// Keeps this many measurements per asset instead of 1,800; at least 1.
    #[must_use]
    pub fn samples_per_asset(mut self, samples: usize) -> Self {
        self.bounds.samples_per_asset = samples.max(1);
        self
    }
}

impl OrderTables {
    fn with_children(&self, id: DispatchId) -> Option<Dispatch> {
        if let Some(order) = self.orders.get(&id) {
            return Some(order.dispatch.clone());
        }
        let (parent, children) = self.parents.get(&id)?;
        let mut parent = parent.clone();
        parent.children = children
            .iter()
            .filter_map(|child| self.orders.get(child).map(|order| order.dispatch.clone()))
            .collect();
        summarise(&mut parent);
        Some(parent)
    }

    /// Changes an order and keeps the indexes of open and ended orders true.
    fn change<T>(&mut self, id: DispatchId, f: impl FnOnce(&mut Order) -> T) -> Option<T> {
        let order = self.orders.get_mut(&id)?;
        let was_open = !order.dispatch.status.is_terminal();
        let result = f(order);
        let is_open = !order.dispatch.status.is_terminal();
        if was_open && !is_open {
            if let Some(asset) = order.dispatch.asset_id
                && let Some(open) = self.open.get_mut(&asset)
            {
                open.remove(&id);
            }
            self.ended.push_back(id);
        }
        Some(result)
    }

    fn forget_oldest(&mut self, keep: usize) {
        while self.ended.len() > keep {
            let Some(id) = self.ended.pop_front() else {
                return;
            };
            let parent = self.orders.remove(&id).and_then(|order| order.dispatch.parent_id);
            let root = parent.unwrap_or(id);
            if let Some((_, children)) = self.parents.get_mut(&root) {
                children.retain(|child| *child != id);
                if children.is_empty() {
                    self.parents.remove(&root);
                }
            }
            if !self.parents.contains_key(&root) {
                self.keys.retain(|_, (_, dispatch)| *dispatch != root);
            }
        }
    }
}

fn summarise(parent: &mut Dispatch) {
    if let Some(status) = DispatchStatus::summary(parent.children.iter().map(|c| c.status)) {
        parent.status = status;
    }
    parent.in_doubt = parent.children.iter().any(|child| child.in_doubt);
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
        let mut tables = self.sessions.lock();
        let known = tables.epochs.entry(session.agent_id).or_default();
        let epoch = (*known).max(at_least).saturating_add(1);
        *known = epoch;
        if tables.records.len() >= self.bounds.sessions {
            tables.records.pop_front();
        }
        tables.records.push_back(SessionRecord {
            epoch,
            ..session.clone()
        });
        Ok(epoch)
    }

    async fn close_session(
        &self,
        agent: AgentId,
        epoch: u64,
        end: &SessionEnd,
    ) -> Result<(), StoreError> {
        let mut tables = self.sessions.lock();
        let record = tables
            .records
            .iter_mut()
            .rev()
            .find(|r| r.agent_id == agent && r.epoch == epoch && r.disconnected_at.is_none());
        if let Some(record) = record {
            record.disconnected_at = Some(end.at);
            record.cause = Some(end.cause);
            record.text = Some(end.text.clone());
        }
        Ok(())
    }

    async fn sessions(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        let tables = self.sessions.lock();
        let items = tables.records.iter().enumerate().map(|(i, record)| {
            let serial = i as u64;
            ((record.connected_at, serial), record)
        });
        let mut sorted: Vec<_> = items.collect();
        sorted.sort_by_key(|(key, record)| (key.0, record.epoch, record.agent_id));
        // Records move down as old ones go, so the place is told by what identifies them.
        let keyed = sorted.iter().rev().map(|(key, record)| {
            let id = format!("{}.{}.{}", key.0.unix_micros(), record.epoch, record.agent_id);
            (key.0, id, *record)
        });
        page(keyed, query)
    }

    async fn log_cursor(
        &self,
        agent: AgentId,
        kind: LogKind,
        log: LogId,
    ) -> Result<Option<u64>, StoreError> {
        Ok(match kind {
            LogKind::Telemetry => self.telemetry.lock().cursors.get(&(agent, log)).copied(),
            _ => self.orders.lock().cursors.get(&(agent, log)).copied(),
        })
    }

    async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        let mut guard = self.telemetry.lock();
        let tables = &mut *guard;
        for append in appends {
            let cursor = tables.cursors.entry((append.agent, append.log)).or_insert(0);
            let known = *cursor;
            *cursor = known.max(append.next_seq);
            for (seq, telemetry) in &append.samples {
                if *seq < known {
                    continue;
                }
                let rows = tables.by_asset.entry(telemetry.asset_id).or_default();
                tables.serial += 1;
                rows.insert((telemetry.measured_at, tables.serial), telemetry.clone());
                if rows.len() > self.bounds.samples_per_asset {
                    rows.pop_first();
                }
            }
            for gap in append.gaps.iter().filter(|gap| gap.first_seq >= known) {
                let gaps = tables.gaps.entry(append.agent).or_default();
                gaps.push_back((append.log, *gap));
                if gaps.len() > self.bounds.gaps_per_agent {
                    gaps.pop_front();
                }
            }
        }
        Ok(())
    }

    async fn latest_telemetry(&self) -> Result<Vec<Telemetry>, StoreError> {
        let tables = self.telemetry.lock();
        Ok(tables
            .by_asset
            .values()
            .filter_map(|rows| rows.last_key_value().map(|(_, row)| row.clone()))
            .collect())
    }

    async fn telemetry(&self, query: &TelemetryQuery) -> Result<Page<Telemetry>, StoreError> {
        let tables = self.telemetry.lock();
        let rows = tables.by_asset.get(&query.asset);
        let keyed = rows.into_iter().flat_map(|rows| rows.iter().rev()).map(
            |((at, serial), row)| (*at, format!("{}.{serial}", at.unix_micros()), row),
        );
        page(keyed, &query.page)
    }

    async fn telemetry_buckets(
        &self,
        query: &TelemetryQuery,
        step_s: u64,
    ) -> Result<Page<TelemetryBucket>, StoreError> {
        let step = i64::try_from(step_s.max(1).saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let mut buckets: BTreeMap<i64, Vec<&Telemetry>> = BTreeMap::new();
        let tables = self.telemetry.lock();
        let rows = tables.by_asset.get(&query.asset);
        for ((at, _), row) in rows.into_iter().flatten() {
            if (query.page.from..query.page.to).contains(at) {
                buckets.entry(at.unix_micros().div_euclid(step)).or_default().push(row);
            }
        }
        let buckets: Vec<TelemetryBucket> = buckets
            .into_iter()
            .map(|(number, rows)| TelemetryBucket {
                asset_id: query.asset,
                from: Timestamp::from_unix_micros(number.saturating_mul(step)),
                to: Timestamp::from_unix_micros(number.saturating_add(1).saturating_mul(step)),
                count: rows.len() as u64,
                mw: aggregate(rows.iter().filter_map(|r| r.measurements.mw.map(|p| p.mw()))),
                soc_pct: aggregate(rows.iter().filter_map(|r| r.measurements.soc_pct)),
            })
            .collect();
        let keyed = buckets.iter().rev().map(|bucket| {
            // A bucket is in range when any of its rows was.
            let inside = bucket.from.max(query.page.from);
            (inside, bucket.from.unix_micros().to_string(), bucket)
        });
        page(keyed, &query.page)
    }

    async fn gaps(&self, agent: AgentId) -> Result<Vec<(LogId, Gap)>, StoreError> {
        let tables = self.telemetry.lock();
        Ok(tables.gaps.get(&agent).map(|g| g.iter().copied().collect()).unwrap_or_default())
    }

    async fn append_reports(&self, append: &ReportAppend) -> Result<Vec<ReportFate>, StoreError> {
        let mut tables = self.orders.lock();
        let cursor = tables.cursors.entry((append.agent, append.log)).or_insert(0);
        let known = *cursor;
        *cursor = known.max(append.next_seq);
        let mut fates = Vec::new();
        for stored in append.entries.iter().filter(|stored| stored.seq >= known) {
            let report = match &stored.entry.report {
                Report::Setpoint(report) => report,
                _ => {
                    fates.push(ReportFate::Event(stored.entry.clone()));
                    continue;
                }
            };
            let changed = tables.change(report.dispatch_id, |order| {
                let reported = order.report(report, stored.entry.at, append.at);
                (reported, Box::new(order.clone()))
            });
            fates.push(match changed {
                None => ReportFate::UnknownDispatch(report.dispatch_id),
                Some((Reported::Applied, order)) => ReportFate::Applied(order),
                Some((Reported::Repeated, order)) => ReportFate::Repeated(order),
                Some((Reported::Contradiction(reported), order)) => {
                    ReportFate::Contradiction { order, reported }
                }
            });
        }
        tables.forget_oldest(self.bounds.ended_orders);
        Ok(fates)
    }

    async fn commit(&self, new: &NewOrder) -> Result<Commit, StoreError> {
        let mut tables = self.orders.lock();
        if let Some(idempotency) = &new.idempotency
            && let Some((fingerprint, id)) = tables.keys.get(&idempotency.key)
        {
            return Ok(if *fingerprint == idempotency.fingerprint {
                tables
                    .with_children(*id)
                    .map_or(Commit::Conflict, |dispatch| Commit::Repeated(Box::new(dispatch)))
            } else {
                Commit::Conflict
            });
        }
        let mut parent = new.dispatch.clone();
        let mut orders = if parent.asset_id.is_some() {
            vec![parent.clone()]
        } else {
            std::mem::take(&mut parent.children)
        };
        let mut superseded = Vec::new();
        for order in &mut orders {
            let Some(asset) = order.asset_id else {
                continue;
            };
            let revision = tables.revisions.entry(asset).or_default();
            *revision += 1;
            order.revision = Some(*revision);
            let waiting: Vec<DispatchId> =
                tables.open.get(&asset).into_iter().flatten().copied().collect();
            for id in waiting {
                let step = Advance {
                    id,
                    status: DispatchStatus::Superseded,
                    at: order.created_at,
                    reason: Some(ReasonCode::NewerOrder),
                    text: Some(format!("dispatch {} took its place", order.id)),
                    carrier: None,
                };
                let changed = tables.change(id, |order| {
                    // Only what was never sent: the agent tells the fate of the others.
                    let pending = order.dispatch.status == DispatchStatus::Pending;
                    (pending && order.advance(&step)).then(|| order.dispatch.clone())
                });
                superseded.extend(changed.flatten());
            }
            order.transitions = vec![Transition {
                status: order.status,
                at: order.created_at,
                reported_at: None,
                reason: None,
                text: None,
                applied_mw: None,
                epoch: None,
            }];
            tables.open.entry(asset).or_default().insert(order.id);
            tables.orders.insert(
                order.id,
                Order {
                    dispatch: order.clone(),
                    carrier: None,
                },
            );
        }
        if parent.asset_id.is_none() {
            let children = orders.iter().map(|order| order.id).collect();
            tables.parents.insert(parent.id, (parent.clone(), children));
        }
        if let Some(idempotency) = &new.idempotency {
            let value = (idempotency.fingerprint.clone(), parent.id);
            tables.keys.insert(idempotency.key.clone(), value);
        }
        tables.forget_oldest(self.bounds.ended_orders);
        let dispatch = tables.with_children(parent.id).unwrap_or(parent);
        Ok(Commit::New {
            dispatch: Box::new(dispatch),
            superseded,
        })
    }

    async fn advance(&self, advance: &Advance) -> Result<Option<Order>, StoreError> {
        let mut tables = self.orders.lock();
        let changed = tables.change(advance.id, |order| {
            order.advance(advance).then(|| order.clone())
        });
        tables.forget_oldest(self.bounds.ended_orders);
        Ok(changed.flatten())
    }

    async fn mark_in_doubt(&self, agent: AgentId, epoch: u64) -> Result<Vec<Order>, StoreError> {
        let mut tables = self.orders.lock();
        let open: Vec<DispatchId> = tables.open.values().flatten().copied().collect();
        Ok(open
            .into_iter()
            .filter_map(|id| {
                let order = tables.orders.get_mut(&id)?;
                let carried = order
                    .carrier
                    .is_some_and(|carrier| carrier.agent == agent && carrier.epoch == epoch);
                let sent = order.dispatch.status != DispatchStatus::Pending;
                (carried && sent && !order.dispatch.in_doubt).then(|| {
                    order.dispatch.in_doubt = true;
                    order.clone()
                })
            })
            .collect())
    }

    async fn confirm(&self, id: DispatchId) -> Result<Option<Order>, StoreError> {
        let mut tables = self.orders.lock();
        let order = tables.orders.get_mut(&id);
        Ok(order.filter(|order| order.dispatch.in_doubt).map(|order| {
            order.dispatch.in_doubt = false;
            order.clone()
        }))
    }

    async fn dispatch(&self, id: DispatchId) -> Result<Option<Dispatch>, StoreError> {
        Ok(self.orders.lock().with_children(id))
    }

    async fn dispatches(&self, query: &DispatchQuery) -> Result<Page<Dispatch>, StoreError> {
        let tables = self.orders.lock();
        let single = tables.orders.values().filter(|order| {
            // The shares of a site order stand under their parent, unless an asset is asked for.
            order.dispatch.parent_id.is_none() || query.asset.is_some()
        });
        let ids = single.map(|order| order.dispatch.id);
        let mut ids: Vec<DispatchId> = match query.asset {
            Some(_) => ids.collect(),
            None => ids.chain(tables.parents.keys().copied()).collect(),
        };
        ids.sort_unstable();
        let all: Vec<Dispatch> = ids
            .into_iter()
            .rev()
            .filter_map(|id| tables.with_children(id))
            .filter(|dispatch| {
                query.asset.is_none_or(|asset| dispatch.asset_id == Some(asset))
                    && query.site.is_none_or(|site| dispatch.site_id == site)
                    && query.status.is_none_or(|status| dispatch.status == status)
            })
            .collect();
        let keyed = all.iter().map(|dispatch| {
            let id = format!("{}.{}", dispatch.created_at.unix_micros(), dispatch.id);
            (dispatch.created_at, id, dispatch)
        });
        page(keyed, &query.page)
    }

    async fn open_orders(&self, assets: Option<&[AssetId]>) -> Result<Vec<Order>, StoreError> {
        let tables = self.orders.lock();
        let ids: Vec<DispatchId> = match assets {
            Some(assets) => assets
                .iter()
                .filter_map(|asset| tables.open.get(asset))
                .flatten()
                .copied()
                .collect(),
            None => tables.open.values().flatten().copied().collect(),
        };
        let mut orders: Vec<Order> =
            ids.iter().filter_map(|id| tables.orders.get(id).cloned()).collect();
        orders.sort_by_key(|order| std::cmp::Reverse(order.dispatch.revision));
        Ok(orders)
    }

    async fn revisions(&self, assets: &[AssetId]) -> Result<Vec<u64>, StoreError> {
        let tables = self.orders.lock();
        let revision = |asset| tables.revisions.get(asset).copied().unwrap_or(0);
        Ok(assets.iter().map(revision).collect())
    }

    async fn raise_revision(&self, asset: AssetId, at_least: u64) -> Result<(), StoreError> {
        let mut tables = self.orders.lock();
        let revision = tables.revisions.entry(asset).or_default();
        *revision = (*revision).max(at_least);
        Ok(())
    }

    async fn append_heartbeats(&self, heartbeats: &[Heartbeat]) -> Result<(), StoreError> {
        let mut tables = self.heartbeats.lock();
        for heartbeat in heartbeats {
            let ring = tables.entry(heartbeat.asset_id).or_default();
            ring.push_back(heartbeat.clone());
            if ring.len() > self.bounds.heartbeats_per_asset {
                ring.pop_front();
            }
        }
        Ok(())
    }

    async fn heartbeats(
        &self,
        asset: AssetId,
        query: &HistoryQuery,
    ) -> Result<Page<Heartbeat>, StoreError> {
        let tables = self.heartbeats.lock();
        let ring = tables.get(&asset);
        let keyed = ring.into_iter().flat_map(|ring| ring.iter().rev()).map(|heartbeat| {
            let at = heartbeat.received_at;
            (at, format!("{}.{}", at.unix_micros(), heartbeat.epoch), heartbeat)
        });
        page(keyed, query)
    }
}

fn aggregate(values: impl Iterator<Item = f64>) -> Option<Aggregate> {
    let (mut min, mut max, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0_u32);
    for value in values {
        min = min.min(value);
        max = max.max(value);
        sum += value;
        count += 1;
    }
    (count > 0).then(|| Aggregate {
        min,
        mean: sum / f64::from(count),
        max,
    })
}

/// Cuts a page out of items that come newest first, each with its time and its place.
///
/// A cursor is the place of the last item served; places are unique, so what arrives later never
/// shifts the page.
fn page<'a, T: Clone + 'a>(
    items: impl Iterator<Item = (Timestamp, String, &'a T)>,
    query: &HistoryQuery,
) -> Result<Page<T>, StoreError> {
    let limit = query.limit.max(1);
    let inside = |at: &Timestamp| *at >= query.from && *at < query.to;
    let mut items = items.filter(|(at, _, _)| inside(at)).peekable();
    if let Some(cursor) = &query.cursor {
        let resumed = items.by_ref().any(|(_, place, _)| place == cursor.as_str());
        if !resumed {
            return Err(StoreError::InvalidCursor);
        }
    }
    let mut page = Page {
        items: Vec::new(),
        next_cursor: None,
    };
    while page.items.len() < limit {
        let Some((_, place, item)) = items.next() else {
            return Ok(page);
        };
        page.items.push(item.clone());
        page.next_cursor = Some(Cursor::new(place));
    }
    if items.peek().is_none() {
        page.next_cursor = None;
    }
    Ok(page)
}
