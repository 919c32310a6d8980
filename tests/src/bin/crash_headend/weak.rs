//! A store with a bug that loses what was acknowledged: it shows that the crash test finds such.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use derms_headend_sdk::async_trait;
use derms_headend_sdk::store::{
    AddedShares, Advance, AuditQuery, Cancel, Commit, DispatchQuery, EventQuery, HistoryQuery,
    Idempotency, Keyed, LimitQuery, NewOrder, NewShares, Order, Pruned, ReportAppend, ReportFate,
    Restraint, Restraints, Retention, SessionEnd, Store, StoreError, TelemetryAppend,
    TelemetryQuery,
};
use derms_proto::link::{Gap, LogKind};
use derms_proto::{
    Acknowledgement, AgentId, AssetId, AuditRecord, Dispatch, DispatchId, Event, EventId,
    Heartbeat, LimitId, LogId, Page, PowerLimit, SessionRecord, Stop, StopId, Telemetry,
    TelemetryBucket, Timestamp,
};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Telemetry is acknowledged, and stored a little later.
    AckBeforeCommit,
    /// The last measurement of a batch is acknowledged with it and not stored.
    AckOfOneMore,
    /// What an agent has lost is not written down.
    DropWithoutGap,
    /// An order's idempotency key is written down after the order.
    KeyApart,
}

impl FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "ack-before-commit" => Self::AckBeforeCommit,
            "ack-of-one-more" => Self::AckOfOneMore,
            "drop-without-gap" => Self::DropWithoutGap,
            "key-apart" => Self::KeyApart,
            other => return Err(format!("`{other}` is no bug that can be planted")),
        })
    }
}

/// A sound store with, perhaps, a bug in front of it.
#[derive(Debug)]
pub(crate) struct WeakStore {
    inner: Arc<dyn Store>,
    bug: Option<Bug>,
    /// Keys of orders, for [`Bug::KeyApart`]: key and order, a line each.
    keys: PathBuf,
    calls: AtomicU64,
}

impl WeakStore {
    pub(crate) fn new(inner: Arc<dyn Store>, bug: Option<Bug>, keys: PathBuf) -> Self {
        Self {
            inner,
            bug,
            keys,
            calls: AtomicU64::new(0),
        }
    }

    /// Whether this is one of every few calls, so that a bug does not show at once.
    fn is_turn(&self, of: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % of == of - 1
    }

    async fn append(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
        let mut appends = appends.to_vec();
        match self.bug {
            Some(Bug::AckBeforeCommit) => {
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    while inner.append_telemetry(&appends).await.is_err() {}
                });
                return Ok(());
            }
            Some(Bug::AckOfOneMore) if self.is_turn(10) => {
                for append in &mut appends {
                    if append.samples.pop().is_some() {
                        append.next_seq -= 1;
                    }
                }
            }
            Some(Bug::DropWithoutGap) => {
                for append in &mut appends {
                    append.gaps.clear();
                }
            }
            _ => {}
        }
        self.inner.append_telemetry(&appends).await
    }

    async fn commit_apart(&self, order: &NewOrder) -> Result<Commit, StoreError> {
        let Some(idempotency) = &order.idempotency else {
            return self.inner.commit(order).await;
        };
        if let Some(known) = self.find(idempotency).await? {
            return Ok(known);
        }
        let bare = NewOrder {
            idempotency: None,
            ..order.clone()
        };
        let commit = self.inner.commit(&bare).await?;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut line = String::new();
        let _ = writeln!(line, "{} {}", idempotency.key, order.dispatch.id);
        let options = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.keys);
        let written = options.and_then(|mut file| file.write_all(line.as_bytes()));
        written
            .map(|()| commit)
            .map_err(|error| StoreError::Unavailable {
                context: "to write down a key".to_owned(),
                source: Some(Box::new(error)),
            })
    }

    async fn find(&self, idempotency: &Idempotency) -> Result<Option<Commit>, StoreError> {
        let keys = std::fs::read_to_string(&self.keys).unwrap_or_default();
        let known = keys.lines().find_map(|line| {
            let (key, id) = line.split_once(' ')?;
            (key == idempotency.key).then(|| id.parse::<DispatchId>().ok())?
        });
        let Some(id) = known else { return Ok(None) };
        let dispatch = self.inner.dispatch(id).await?;
        Ok(dispatch.map(|dispatch| Commit::Repeated(Box::new(dispatch))))
    }
}

macro_rules! delegate {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Store for WeakStore {
            fn is_durable(&self) -> bool {
                self.inner.is_durable()
            }

            async fn append_telemetry(&self, appends: &[TelemetryAppend]) -> Result<(), StoreError> {
                self.append(appends).await
            }

            async fn commit(&self, order: &NewOrder) -> Result<Commit, StoreError> {
                match self.bug {
                    Some(Bug::KeyApart) => self.commit_apart(order).await,
                    _ => self.inner.commit(order).await,
                }
            }

            async fn committed(&self, key: &Idempotency) -> Result<Option<Commit>, StoreError> {
                match self.bug {
                    Some(Bug::KeyApart) => self.find(key).await,
                    _ => self.inner.committed(key).await,
                }
            }

            $(async fn $name(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
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
    fn latest_telemetry() -> Vec<Telemetry>;
    fn telemetry(query: &TelemetryQuery) -> Page<Telemetry>;
    fn telemetry_buckets(query: &TelemetryQuery, step_s: u64) -> Page<TelemetryBucket>;
    fn gaps(agent: AgentId) -> Vec<(LogId, Gap)>;
    fn append_reports(appends: &[ReportAppend]) -> Vec<Vec<ReportFate>>;
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
