//! What the tests store.

use std::collections::BTreeMap;
use std::time::Duration;

use derms_headend_sdk::store::{
    Carrier, Commit, Idempotency, NewOrder, ReportAppend, Store, StoredReport, TelemetryAppend,
};
use derms_proto::link::{
    EventReport, Gap, GapReason, Report, ReportEntry, SetpointPhase, SetpointReport,
};
use derms_proto::{
    AgentId, AssetId, Availability, ControlSource, Detail, DeviceStatus, Dispatch, DispatchId,
    DispatchStatus, Event, EventId, EventSource, FollowUp, Heartbeat, InstanceId, LeftOut,
    LeftOutReason, LimitId, LimitStatus, LogId, Measurements, Power, PowerLimit, Quality,
    ReasonCode, SessionRecord, Severity, SiteId, SplitPolicy, SplitSummary, Stop, StopId,
    Telemetry, Timestamp,
};
use uuid::Uuid;

pub(crate) fn asset() -> AssetId {
    AssetId::new(Uuid::new_v4())
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_123_456).saturating_add(Duration::from_secs(seconds))
}

/// A measurement with everything that there is.
pub(crate) fn full(asset_id: AssetId, site_id: SiteId, measured_at: Timestamp) -> Telemetry {
    let details = BTreeMap::from([
        ("flag".to_owned(), Detail::Flag(true)),
        ("number".to_owned(), Detail::Number(1.25)),
        ("text".to_owned(), Detail::Text("ünïcödé".to_owned())),
    ]);
    Telemetry {
        asset_id,
        site_id,
        measured_at,
        received_at: measured_at.saturating_add(Duration::from_micros(7)),
        measurements: Measurements {
            quality: Quality::Estimated,
            mw: Some(Power::from_mw(-1.1)),
            mvar: Some(0.1),
            voltage_v: Some(400.123_456_789),
            frequency_hz: Some(50.01),
            current_a: Some(1e-9),
            soc_pct: Some(55.5),
            soh_pct: Some(99.9),
            energy_in_mwh: Some(123_456.789_012),
            energy_out_mwh: Some(0.0),
            available_charge_mw: Some(Power::from_mw(3.0)),
            available_discharge_mw: Some(Power::from_mw(4.0)),
            setpoint_mw: Some(Power::from_mw(-1.0)),
            status: Some(DeviceStatus::Curtailed),
            details,
            control: None,
        },
    }
}

pub(crate) fn bare(asset_id: AssetId, measured_at: Timestamp) -> Telemetry {
    Telemetry {
        asset_id,
        site_id: SiteId::new(Uuid::nil()),
        measured_at,
        received_at: measured_at,
        measurements: Measurements::default(),
    }
}

pub(crate) fn part(
    agent: AgentId,
    log: LogId,
    first_seq: u64,
    rows: Vec<Telemetry>,
) -> TelemetryAppend {
    let samples: Vec<_> = (first_seq..).zip(rows).collect();
    TelemetryAppend {
        agent,
        log,
        next_seq: first_seq + samples.len() as u64,
        samples,
        gaps: Vec::new(),
    }
}

pub(crate) fn gap(first_seq: u64, last_seq: u64) -> Gap {
    Gap {
        first_seq,
        last_seq,
        reason: GapReason::TooOld,
    }
}

pub(crate) fn session(agent: AgentId) -> SessionRecord {
    SessionRecord {
        agent_id: agent,
        instance_id: InstanceId::generate(),
        epoch: 0,
        peer: Some("192.0.2.1:1".to_owned()),
        agent_version: None,
        assets: vec![asset(), asset()],
        connected_at: at(1),
        disconnected_at: None,
        cause: None,
        text: None,
    }
}

pub(crate) fn heartbeat(asset_id: AssetId, received_at: Timestamp) -> Heartbeat {
    Heartbeat {
        asset_id,
        agent_id: asset_id.into(),
        epoch: 3,
        received_at,
        agent_time: Some(at(9)),
        uptime_s: Some(1.5),
        outbox_depth: 1,
        dropped_samples: 2,
        availability: Availability::Unavailable,
        control: ControlSource::FollowUp,
        control_mw: Some(Power::from_mw(-2.5)),
        read_errors: 3,
    }
}

fn dispatch(asset_id: Option<AssetId>, site_id: SiteId) -> Dispatch {
    Dispatch {
        id: DispatchId::generate(),
        parent_id: None,
        asset_id,
        site_id,
        mw: Power::from_mw(-2.5),
        duration_s: None,
        ttl_s: 60.5,
        start_at: Some(at(1)),
        ramp_mw_per_min: Some(12.5),
        follow_up: FollowUp::Value(Power::from_mw(1.5)),
        revision: None,
        status: DispatchStatus::Pending,
        in_doubt: false,
        reason: None,
        text: None,
        applied_mw: None,
        created_at: at(0),
        expires_at: at(60),
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

pub(crate) fn order(asset: AssetId) -> NewOrder {
    NewOrder {
        dispatch: dispatch(Some(asset), SiteId::new(Uuid::new_v4())),
        idempotency: None,
    }
}

pub(crate) fn site_order(assets: &[AssetId]) -> NewOrder {
    let mut parent = dispatch(None, SiteId::new(Uuid::new_v4()));
    let excluded = vec![LeftOut {
        asset_id: asset(),
        name: "BESS-4".to_owned(),
        reason: LeftOutReason::Unavailable,
    }];
    let residual = Power::from_mw(0.5);
    parent.split = Some(SplitSummary::new(SplitPolicy::Soc, residual, excluded));
    let mut assets = assets.to_vec();
    assets.sort();
    let children = assets.into_iter().map(|asset| Dispatch {
        parent_id: Some(parent.id),
        ..dispatch(Some(asset), parent.site_id)
    });
    parent.children = children.collect();
    NewOrder {
        dispatch: parent,
        idempotency: None,
    }
}

pub(crate) fn key(key: &str) -> Idempotency {
    Idempotency {
        key: key.to_owned(),
        fingerprint: "-2.5 MW".to_owned(),
    }
}

pub(crate) async fn commit(store: &dyn Store, order: &NewOrder) -> Dispatch {
    match store.commit(order).await.unwrap() {
        Commit::New { dispatch, .. } => *dispatch,
        other => panic!("a new order was answered {other:?}"),
    }
}

pub(crate) async fn carrier(store: &dyn Store, agent: AgentId) -> Carrier {
    let session = session(agent);
    Carrier {
        agent,
        instance: session.instance_id,
        report_log: Some(LogId::generate()),
        epoch: store.open_session(&session, 0).await.unwrap(),
    }
}

pub(crate) fn told(carrier: Carrier, order: &Dispatch, phase: SetpointPhase) -> ReportAppend {
    let setpoint = Report::Setpoint(SetpointReport {
        dispatch_id: order.id,
        revision: order.revision.unwrap(),
        phase,
        reason: None,
        text: None,
        applied: Some(Power::from_mw(-2.25)),
    });
    let told = EventReport {
        severity: Severity::Critical,
        code: "arc_fault".to_owned(),
        text: "string 3".to_owned(),
    };
    let event = Event {
        id: EventId::generate(),
        at: at(5),
        received_at: at(6),
        asset_id: order.asset_id,
        site_id: Some(order.site_id),
        agent_id: Some(carrier.agent),
        severity: told.severity,
        code: told.code.clone(),
        text: told.text.clone(),
        source: EventSource::Agent,
        acknowledged: None,
    };
    let entries = [
        (setpoint, None),
        (Report::Event(told), Some(Box::new(event))),
    ]
    .into_iter()
    .zip(1..)
    .map(|((report, event), seq)| StoredReport {
        seq,
        entry: ReportEntry {
            at: at(5),
            asset_id: order.asset_id.unwrap(),
            report,
        },
        event,
    });
    ReportAppend {
        agent: carrier.agent,
        epoch: carrier.epoch,
        log: carrier.report_log.unwrap(),
        entries: entries.collect(),
        next_seq: 3,
        at: at(6),
    }
}

pub(crate) fn limit(asset: AssetId, site: SiteId, status: LimitStatus) -> PowerLimit {
    PowerLimit {
        id: LimitId::generate(),
        asset_id: asset,
        site_id: site,
        min_mw: Some(Power::from_mw(-1.5)),
        max_mw: Some(Power::from_mw(2.25)),
        created_at: at(0),
        expires_at: Some(at(60)),
        principal: Some("operator".to_owned()),
        status,
        reason: Some(ReasonCode::DeviceError),
        text: Some("the relay sticks".to_owned()),
        confirmed_at: None,
        removed_at: None,
        removed_by: None,
        revision: 5,
    }
}

pub(crate) fn stop(site: SiteId) -> Stop {
    Stop {
        id: StopId::generate(),
        asset_id: None,
        site_id: Some(site),
        all: false,
        reason: Some("smoke".to_owned()),
        principal: Some("operator".to_owned()),
        created_at: at(0),
        revision: 7,
        assets: 3,
        reached: 2,
        confirmed: 1,
        not_obeyed: 1,
        offline: 0,
        unsupported: 0,
        cannot_be_held: Vec::new(),
        stored: true,
        ended_at: None,
        ended_by: None,
        return_within_s: None,
    }
}
