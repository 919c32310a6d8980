//! What the checks are made of.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::{
    EventReport, Gap, GapReason, Report, ReportEntry, SetpointPhase, SetpointReport,
};
use derms_proto::{
    AgentId, AssetId, CloseReason, Dispatch, DispatchId, DispatchStatus, EventId, EventSource,
    FollowUp, InstanceId, LogId, Measurements, Power, SessionRecord, Severity, SiteId, Telemetry,
    Timestamp,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::{
    Advance, Carrier, Commit, Idempotency, NewOrder, Order, ReportAppend, ReportFate, SessionEnd,
    Store, StoredReport, TelemetryAppend,
};
use super::Broken;

pub(crate) type Checked = Result<(), Broken>;

/// A sentence and the function that checks it.
macro_rules! sentences {
    ($($text:literal => $check:ident,)*) => {
        pub(super) const ALL: &[$crate::store::conformance::Sentence] = &[$(
            $crate::store::conformance::Sentence {
                text: $text,
                check: |store| Box::pin($check(store)),
            },
        )*];
    };
}
pub(super) use sentences;

/// Breaks off with a text unless it holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::store::conformance::Broken::Otherwise(format!($($text)+)));
        }
    };
}
pub(super) use ensure;

pub(crate) fn same<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Checked {
    ensure!(
        found == wanted,
        "{what}: found {found:?}, wanted {wanted:?}"
    );
    Ok(())
}

pub(crate) fn new_asset() -> AssetId {
    AssetId::new(Uuid::new_v4())
}

pub(crate) fn new_agent() -> AgentId {
    AgentId::new(Uuid::new_v4())
}

pub(crate) fn new_site() -> SiteId {
    SiteId::new(Uuid::new_v4())
}

/// So many seconds into the time of the test.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_000_000).saturating_add(Duration::from_secs(seconds))
}

pub(crate) fn record(agent: AgentId, connected_at: Timestamp) -> SessionRecord {
    SessionRecord {
        agent_id: agent,
        instance_id: InstanceId::generate(),
        epoch: 0,
        peer: Some("192.0.2.1:40000".to_owned()),
        agent_version: Some("agent 1.0".to_owned()),
        assets: vec![new_asset()],
        connected_at,
        disconnected_at: None,
        cause: None,
        text: None,
    }
}

pub(crate) fn end(seconds: u64, text: &str) -> SessionEnd {
    SessionEnd {
        at: at(seconds),
        cause: CloseReason::TransportLost,
        text: text.to_owned(),
    }
}

/// A session that has just begun, as the carrier of orders.
pub(crate) async fn session(store: &Arc<dyn Store>, agent: AgentId) -> Result<Carrier, Broken> {
    let record = record(agent, at(0));
    Ok(Carrier {
        agent,
        instance: record.instance_id,
        report_log: Some(LogId::generate()),
        epoch: store.open_session(&record, 0).await?,
    })
}

pub(crate) fn measured(asset: AssetId, measured_s: u64, received_s: u64, mw: f64) -> Telemetry {
    Telemetry {
        asset_id: asset,
        site_id: SiteId::new(Uuid::nil()),
        measured_at: at(measured_s),
        received_at: at(received_s),
        measurements: Measurements {
            mw: Some(Power::from_mw(mw)),
            ..Measurements::default()
        },
    }
}

/// Measurements of one asset from this number on, each measured at the second of its number.
pub(crate) fn samples(
    agent: AgentId,
    log: LogId,
    asset: AssetId,
    seqs: std::ops::Range<u64>,
) -> TelemetryAppend {
    TelemetryAppend {
        agent,
        log,
        next_seq: seqs.end,
        samples: seqs
            .map(|seq| (seq, measured(asset, seq, 1_000 + seq, seq as f64)))
            .collect(),
        gaps: Vec::new(),
    }
}

pub(crate) fn gap(first_seq: u64, last_seq: u64) -> Gap {
    Gap {
        first_seq,
        last_seq,
        reason: GapReason::OutboxFull,
    }
}

fn dispatch(asset: Option<AssetId>, site: SiteId, created_s: u64) -> Dispatch {
    Dispatch {
        id: DispatchId::generate(),
        parent_id: None,
        asset_id: asset,
        site_id: site,
        mw: Power::from_mw(1.5),
        duration_s: Some(900.0),
        ttl_s: 300.0,
        start_at: None,
        ramp_mw_per_min: None,
        follow_up: FollowUp::Default,
        revision: None,
        status: DispatchStatus::Pending,
        in_doubt: false,
        reason: None,
        text: None,
        applied_mw: None,
        created_at: at(created_s),
        expires_at: at(created_s + 300),
        principal: Some("operator".to_owned()),
        cancel_requested_at: None,
        cancelled_by: None,
        following: None,
        transitions: Vec::new(),
        split: None,
        limited_to: None,
        replaced: false,
        children: Vec::new(),
    }
}

pub(crate) fn new_order(asset: AssetId, site: SiteId, created_s: u64) -> NewOrder {
    NewOrder {
        dispatch: dispatch(Some(asset), site, created_s),
        idempotency: None,
    }
}

pub(crate) fn site_order(site: SiteId, assets: &[AssetId], created_s: u64) -> NewOrder {
    let mut parent = dispatch(None, site, created_s);
    let mut assets = assets.to_vec();
    assets.sort();
    let children = assets.into_iter().map(|asset| Dispatch {
        parent_id: Some(parent.id),
        ..dispatch(Some(asset), site, created_s)
    });
    parent.children = children.collect();
    NewOrder {
        dispatch: parent,
        idempotency: None,
    }
}

pub(crate) fn keyed(mut order: NewOrder, key: &str, fingerprint: &str) -> NewOrder {
    order.idempotency = Some(Idempotency {
        key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
    });
    order
}

/// Commits what must be new; answers it and what it superseded.
pub(crate) async fn commit(
    store: &Arc<dyn Store>,
    order: &NewOrder,
) -> Result<(Dispatch, Vec<Dispatch>), Broken> {
    match store.commit(order).await? {
        Commit::New {
            dispatch,
            superseded,
        } => Ok((*dispatch, superseded)),
        other => Err(Broken::Otherwise(format!(
            "a new order was answered {other:?}"
        ))),
    }
}

/// A committed order of a new asset.
pub(crate) async fn committed(store: &Arc<dyn Store>) -> Result<Dispatch, Broken> {
    let order = new_order(new_asset(), new_site(), 0);
    Ok(commit(store, &order).await?.0)
}

pub(crate) fn step(id: DispatchId, status: DispatchStatus) -> Advance {
    Advance {
        id,
        status,
        at: at(10),
        reason: None,
        text: None,
        carrier: None,
    }
}

pub(crate) async fn advance(
    store: &Arc<dyn Store>,
    step: Advance,
) -> Result<Option<Order>, Broken> {
    let moved = store.advance(&[step]).await?;
    same("answers to one step", &moved.len(), &1)?;
    Ok(moved.into_iter().next().flatten())
}

pub(crate) async fn send(
    store: &Arc<dyn Store>,
    id: DispatchId,
    carrier: Carrier,
) -> Result<Option<Order>, Broken> {
    let step = Advance {
        carrier: Some(carrier),
        ..step(id, DispatchStatus::Sent)
    };
    advance(store, step).await
}

/// An order that this session carries.
pub(crate) async fn sent(store: &Arc<dyn Store>, carrier: Carrier) -> Result<Dispatch, Broken> {
    let dispatch = committed(store).await?;
    let order = send(store, dispatch.id, carrier).await?;
    let Some(order) = order else {
        return Err(Broken::Otherwise(
            "a pending order can't be sent".to_owned(),
        ));
    };
    same(
        "the carrier of a sent order",
        &order.carrier,
        &Some(carrier),
    )?;
    Ok(order.dispatch)
}

pub(crate) fn says(order: &Dispatch, seq: u64, phase: SetpointPhase) -> StoredReport {
    let report = Report::Setpoint(SetpointReport {
        dispatch_id: order.id,
        revision: order.revision.unwrap_or(0),
        phase,
        reason: None,
        text: Some("by the device".to_owned()),
        applied: Some(Power::from_mw(1.25)),
    });
    StoredReport {
        seq,
        entry: ReportEntry {
            at: at(20 + seq),
            asset_id: order.asset_id.unwrap_or_else(new_asset),
            report,
        },
        event: None,
    }
}

pub(crate) fn event(asset: AssetId, seq: u64) -> StoredReport {
    let event = EventReport {
        severity: Severity::Warning,
        code: "door_open".to_owned(),
        text: "the door is open".to_owned(),
    };
    let stored = derms_proto::Event {
        id: EventId::generate(),
        at: at(20 + seq),
        received_at: at(100),
        asset_id: Some(asset),
        site_id: None,
        agent_id: None,
        severity: event.severity,
        code: event.code.clone(),
        text: event.text.clone(),
        source: EventSource::Agent,
        acknowledged: None,
    };
    StoredReport {
        seq,
        entry: ReportEntry {
            at: at(20 + seq),
            asset_id: asset,
            report: Report::Event(event),
        },
        event: Some(Box::new(stored)),
    }
}

pub(crate) fn reports(carrier: Carrier, log: LogId, entries: Vec<StoredReport>) -> ReportAppend {
    ReportAppend {
        agent: carrier.agent,
        epoch: carrier.epoch,
        log,
        next_seq: entries.last().map_or(1, |last| last.seq + 1),
        entries,
        at: at(100),
    }
}

/// Stores one entry in a log of its own; answers its fate.
pub(crate) async fn report(
    store: &Arc<dyn Store>,
    carrier: Carrier,
    entry: StoredReport,
) -> Result<ReportFate, Broken> {
    let append = reports(carrier, LogId::generate(), vec![entry]);
    let mut fates = store.append_reports(&[append]).await?.into_iter().flatten();
    match (fates.next(), fates.next()) {
        (Some(fate), None) => Ok(fate),
        other => Err(Broken::Otherwise(format!(
            "the fates of one report are {other:?}"
        ))),
    }
}

pub(crate) async fn stored(store: &Arc<dyn Store>, id: DispatchId) -> Result<Dispatch, Broken> {
    let dispatch = store.dispatch(id).await?;
    dispatch.ok_or_else(|| Broken::Otherwise(format!("order {id} is gone")))
}

/// Makes calls at the same time.
pub(crate) async fn at_once<T, F>(calls: impl IntoIterator<Item = F>) -> Result<Vec<T>, Broken>
where
    T: Send + 'static,
    F: Future<Output = Result<T, super::StoreError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for call in calls {
        running.spawn(call);
    }
    let mut results = Vec::new();
    while let Some(result) = running.join_next().await {
        let result = result.map_err(|error| Broken::Otherwise(format!("a call ended: {error}")))?;
        results.push(result?);
    }
    Ok(results)
}
