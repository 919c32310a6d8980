//! What agents send, but for samples.

use proptest::collection::vec;

use super::telemetry::{sample, telemetry};
use super::*;
use crate::link::*;
use crate::*;

/// What stands on the wire as a whole; items that are refused by their sender do not.
pub(in crate::wire) fn agent_message() -> impl Strategy<Value = AgentMessage> {
    prop_oneof![
        register().prop_map(AgentMessage::Register),
        telemetry().prop_map(AgentMessage::Telemetry),
        vec(sample().prop_map(Ok), 0..4).prop_map(AgentMessage::LiveTelemetry),
        report().prop_map(AgentMessage::Report),
        heartbeat().prop_map(AgentMessage::Heartbeat),
        asset_update().prop_map(AgentMessage::AssetUpdate),
        any::<u64>().prop_map(|nonce| AgentMessage::Pong { nonce }),
        close().prop_map(AgentMessage::Close),
        Just(AgentMessage::Unknown),
    ]
}

fn register() -> impl Strategy<Value = Register> {
    let who = (id(), id(), any::<u32>(), vec(text(), 0..3), software());
    let what = (
        any::<u64>(),
        vec(log_head(), 0..3),
        vec(asset_state().prop_map(Ok), 0..4),
    );
    (who, what, any::<bool>(), of(timestamp())).prop_map(|(who, what, durable, agent_time)| {
        let (agent_id, instance_id, protocol_minor, capabilities, software) = who;
        let (last_epoch, logs, assets) = what;
        Register {
            agent_id,
            instance_id,
            protocol_minor,
            capabilities,
            software,
            last_epoch,
            logs,
            assets,
            durable,
            agent_time,
        }
    })
}

fn software() -> impl Strategy<Value = Software> {
    (text(), text()).prop_map(|(name, version)| Software { name, version })
}

fn log_head() -> impl Strategy<Value = LogHead> {
    (log_kind(), id(), 1..=MAX_SEQ, any::<u32>()).prop_map(
        |(kind, log_id, first_seq, held): (_, _, u64, u32)| LogHead {
            kind,
            log_id,
            first_seq,
            next_seq: (first_seq + u64::from(held)).min(MAX_SEQ),
        },
    )
}

fn asset_state() -> impl Strategy<Value = AssetState> {
    let kind = select(vec![
        AssetKind::Battery,
        AssetKind::Pv,
        AssetKind::Wind,
        AssetKind::EvCharger,
        AssetKind::Meter,
        AssetKind::Genset,
        AssetKind::Other,
    ]);
    (
        id(),
        kind,
        rating(),
        any::<u64>(),
        control(),
        (availability(), any::<u64>()),
    )
        .prop_map(
            |(asset_id, kind, rating, last_revision, control, more)| AssetState {
                asset_id,
                kind,
                rating,
                last_revision,
                control,
                availability: more.0,
                limit_revision: more.1,
            },
        )
}

fn rating() -> impl Strategy<Value = Rating> {
    (number(), number(), of(positive()), of(positive())).prop_map(
        |(a, b, capacity_mwh, ramp_mw_per_min)| Rating {
            min: Power::from_mw(a.min(b)),
            max: Power::from_mw(a.max(b)),
            capacity_mwh,
            ramp_mw_per_min,
        },
    )
}

fn availability() -> impl Strategy<Value = Availability> {
    select(vec![
        Availability::Available,
        Availability::ReadOnly,
        Availability::Unavailable,
    ])
}

pub(super) fn control_source() -> impl Strategy<Value = ControlSource> {
    select(vec![
        ControlSource::Default,
        ControlSource::Setpoint,
        ControlSource::FollowUp,
        ControlSource::Failsafe,
        ControlSource::Stop,
    ])
}

fn control() -> impl Strategy<Value = Control> {
    (
        control_source(),
        of(id()),
        of(any::<u64>()),
        of(power()),
        of(duration()),
        any::<bool>(),
    )
        .prop_map(
            |(source, dispatch_id, revision, power, remaining, limited)| Control {
                source,
                dispatch_id,
                revision,
                power,
                remaining,
                limited,
            },
        )
}

fn report() -> impl Strategy<Value = ReportBatch> {
    let what = prop_oneof![
        setpoint_report().prop_map(Report::Setpoint),
        event().prop_map(Report::Event),
        limit_report().prop_map(Report::Limit),
        Just(Report::Unknown),
    ];
    let entry = (timestamp(), id(), what).prop_map(|(at, asset_id, report)| {
        Ok(ReportEntry {
            at,
            asset_id,
            report,
        })
    });
    (id(), 1..MAX_SEQ - 4, vec(entry, 0..4)).prop_map(|(log_id, first_seq, entries)| ReportBatch {
        log_id,
        first_seq,
        entries,
    })
}

fn setpoint_report() -> impl Strategy<Value = SetpointReport> {
    let phase = select(vec![
        SetpointPhase::Received,
        SetpointPhase::Started,
        SetpointPhase::Completed,
        SetpointPhase::Superseded,
        SetpointPhase::Released,
        SetpointPhase::Rejected,
        SetpointPhase::Expired,
        SetpointPhase::Failed,
    ]);
    (id(), 1_u64.., phase, of(reason()), of(text()), of(power())).prop_map(
        |(dispatch_id, revision, phase, reason, text, applied)| SetpointReport {
            dispatch_id,
            revision,
            phase,
            reason,
            text,
            applied,
        },
    )
}

fn limit_report() -> impl Strategy<Value = LimitReport> {
    let phase = select(vec![
        LimitPhase::InForce,
        LimitPhase::Refused,
        LimitPhase::NotObeyed,
    ]);
    (1_u64.., phase, of(reason()), of(text())).prop_map(|(revision, phase, reason, text)| {
        LimitReport {
            revision,
            phase,
            reason,
            text,
        }
    })
}

/// Without `Unknown`: that is what a word of a newer peer is read as, and not a word itself.
fn reason() -> impl Strategy<Value = ReasonCode> {
    select(vec![
        ReasonCode::DeadlinePassed,
        ReasonCode::NotGranted,
        ReasonCode::StaleRevision,
        ReasonCode::OutOfRange,
        ReasonCode::ClockUnsure,
        ReasonCode::ReportLogFull,
        ReasonCode::DeviceError,
        ReasonCode::DeviceTimeout,
        ReasonCode::DeviceUnavailable,
        ReasonCode::Unsupported,
        ReasonCode::Interrupted,
        ReasonCode::NewerOrder,
        ReasonCode::CancelledByOperator,
        ReasonCode::TtlElapsed,
        ReasonCode::ReportLogLost,
        ReasonCode::NoReport,
        ReasonCode::StorageFailed,
        ReasonCode::Failsafe,
        ReasonCode::Stopped,
        ReasonCode::TooManyWaiting,
        ReasonCode::Malformed,
    ])
}

fn event() -> impl Strategy<Value = EventReport> {
    let severity = select(vec![
        Severity::Info,
        Severity::Warning,
        Severity::Alarm,
        Severity::Critical,
    ]);
    (severity, text(), text()).prop_map(|(severity, code, text)| EventReport {
        severity,
        code,
        text,
    })
}

fn heartbeat() -> impl Strategy<Value = AgentHeartbeat> {
    let numbers = (any::<u64>(), any::<u64>());
    let health = (id(), availability(), control(), numbers).prop_map(
        |(asset_id, availability, control, (read_errors, limit_revision))| AssetHealth {
            asset_id,
            availability,
            control,
            read_errors,
            limit_revision,
        },
    );
    let times = (of(timestamp()), any::<u64>(), of(duration()));
    (
        times,
        proptest::array::uniform3(any::<u64>()),
        vec(health, 0..4),
    )
        .prop_map(
            |((agent_time, ns, uptime), [epoch, outbox_depth, dropped_samples], assets)| {
                AgentHeartbeat {
                    agent_time,
                    monotonic: Duration::from_nanos(ns),
                    epoch,
                    outbox_depth,
                    dropped_samples,
                    assets,
                    uptime,
                }
            },
        )
}

fn asset_update() -> impl Strategy<Value = AssetUpdate> {
    (
        any::<u64>(),
        vec(asset_state().prop_map(Ok), 0..4),
        vec(id(), 0..4),
    )
        .prop_map(|(epoch, upserted, removed)| AssetUpdate {
            epoch,
            upserted,
            removed,
        })
}
