//! What headends send.

use std::time::Duration;

use derms_proto::link::*;
use derms_proto::pb::{self, headend_message};
use derms_proto::wire::TraceContext as _;
use derms_proto::*;
use prost::Message as _;

use super::*;

pub(crate) fn of_headends() -> Vec<Golden<HeadendMessage>> {
    use headend_message::Body;
    vec![
        full(
            "headend_registered",
            HeadendMessage::Registered(registered()),
        ),
        minimal(
            "headend_registered_minimal",
            Body::Registered(pb::Registered {
                epoch: 1,
                server_time: Some(pb_noon()),
                telemetry_interval: Some(pb_seconds(4)),
                heartbeat_interval: Some(pb_seconds(30)),
                liveness_timeout: Some(pb_seconds(45)),
                ..pb::Registered::default()
            }),
            HeadendMessage::Registered(Registered {
                epoch: 1,
                server_time: noon(),
                telemetry_interval: Duration::from_secs(4),
                heartbeat_interval: Duration::from_secs(30),
                liveness_timeout: Duration::from_secs(45),
                limits: Limits {
                    backfill_batches_per_s: 0,
                    ..Limits::default()
                },
                logs: vec![],
                grants: vec![],
                durable_acks: false,
                capabilities: vec![],
                protocol_minor: 0,
            }),
        ),
        full(
            "headend_setpoint",
            HeadendMessage::Setpoint(setpoint(FollowUp::Value(Power::from_mw(-2.5)))),
        ),
        full(
            "headend_setpoint_then_hold",
            HeadendMessage::Setpoint(setpoint(FollowUp::Hold)),
        ),
        full(
            "headend_setpoint_then_default",
            HeadendMessage::Setpoint(setpoint(FollowUp::Default)),
        ),
        full(
            "headend_setpoint_scheduled",
            HeadendMessage::Setpoint(SetpointOrder {
                start_at: Some(noon()),
                ..setpoint(FollowUp::Default)
            }),
        ),
        minimal(
            "headend_setpoint_minimal",
            Body::Setpoint(pb::Setpoint {
                asset_id: ASSET.to_owned(),
                dispatch_id: DISPATCH.to_owned(),
                revision: 1,
                start_deadline: Some(pb_noon()),
                ..pb::Setpoint::default()
            }),
            HeadendMessage::Setpoint(SetpointOrder {
                asset_id: id(ASSET),
                dispatch_id: id(DISPATCH),
                revision: 1,
                epoch: 0,
                power: Power::ZERO,
                duration: None,
                start_at: None,
                start_deadline: noon(),
                ramp_mw_per_min: None,
                then: FollowUp::Default,
            }),
        ),
        full("headend_release", HeadendMessage::Release(release(8, 12))),
        minimal(
            "headend_release_minimal",
            Body::Release(pb::Release {
                asset_id: ASSET.to_owned(),
                dispatch_id: DISPATCH.to_owned(),
                revision: 1,
                epoch: 0,
            }),
            HeadendMessage::Release(release(1, 0)),
        ),
        full(
            "headend_asset_limits",
            HeadendMessage::AssetLimits(AssetLimits {
                asset_id: id(ASSET),
                revision: 3,
                epoch: 12,
                limits: vec![Limit {
                    id: id(DISPATCH),
                    min: Some(Power::from_mw(-20.0)),
                    max: Some(Power::from_mw(7.5)),
                    expires_at: Some(noon()),
                }],
                stop: true,
                return_within: Duration::from_secs(300),
            }),
        ),
        minimal(
            "headend_asset_limits_minimal",
            Body::AssetLimits(pb::AssetLimits {
                asset_id: ASSET.to_owned(),
                revision: 1,
                ..pb::AssetLimits::default()
            }),
            HeadendMessage::AssetLimits(AssetLimits {
                asset_id: id(ASSET),
                revision: 1,
                epoch: 0,
                limits: vec![],
                stop: false,
                return_within: Duration::ZERO,
            }),
        ),
        full(
            "headend_log_ack",
            HeadendMessage::LogAck(LogAck {
                kind: LogKind::Telemetry,
                log_id: id(LOG),
                up_to_seq: 42,
                refused: vec![RefusedEntry {
                    seq: 41,
                    code: RefusalCode::NotGranted,
                    text: Some("not granted".to_owned()),
                }],
                rewind: true,
            }),
        ),
        minimal(
            "headend_log_ack_minimal",
            Body::LogAck(pb::LogAck {
                kind: pb::LogKind::Report.into(),
                log_id: LOG.to_owned(),
                ..pb::LogAck::default()
            }),
            HeadendMessage::LogAck(LogAck {
                kind: LogKind::Report,
                log_id: id(LOG),
                up_to_seq: 0,
                refused: vec![],
                rewind: false,
            }),
        ),
        full(
            "headend_heartbeat_ack",
            HeadendMessage::HeartbeatAck {
                monotonic: Duration::from_nanos(123_456_789_012),
                server_time: noon(),
            },
        ),
        minimal(
            "headend_heartbeat_ack_minimal",
            Body::HeartbeatAck(pb::HeartbeatAck {
                monotonic_ns: 0,
                server_time: Some(pb_noon()),
            }),
            HeadendMessage::HeartbeatAck {
                monotonic: Duration::ZERO,
                server_time: noon(),
            },
        ),
        full("headend_ping", HeadendMessage::Ping { nonce: 77 }),
        minimal(
            "headend_ping_minimal",
            Body::Ping(pb::Ping::default()),
            HeadendMessage::Ping { nonce: 0 },
        ),
        full(
            "headend_throttle",
            HeadendMessage::Throttle {
                backfill_batches_per_s: 5,
                hold: Duration::from_millis(2_500),
            },
        ),
        minimal(
            "headend_throttle_minimal",
            Body::Throttle(pb::Throttle {
                backfill_batches_per_s: 0,
                hold: Some(pb_seconds(60)),
            }),
            HeadendMessage::Throttle {
                backfill_batches_per_s: 0,
                hold: Duration::from_secs(60),
            },
        ),
        full("headend_resync", HeadendMessage::Resync { epoch: 12 }),
        minimal(
            "headend_resync_minimal",
            Body::Resync(pb::Resync::default()),
            HeadendMessage::Resync { epoch: 0 },
        ),
        full(
            "headend_grants",
            HeadendMessage::Grants {
                epoch: 12,
                grants: vec![grant()],
            },
        ),
        minimal(
            "headend_grants_minimal",
            Body::Grants(pb::Grants::default()),
            HeadendMessage::Grants {
                epoch: 0,
                grants: vec![],
            },
        ),
        full("headend_close", HeadendMessage::Close(close())),
        minimal(
            "headend_close_minimal",
            Body::Close(pb::Close::default()),
            HeadendMessage::Close(Close::new(CloseReason::Unknown, "")),
        ),
    ]
}

fn full(name: &'static str, message: HeadendMessage) -> Golden<HeadendMessage> {
    let mut pb = pb::HeadendMessage::from(message.clone());
    pb.set_trace_context(Some(TRACE.to_owned()));
    let bytes = pb.encode_to_vec();
    Golden {
        name,
        bytes,
        message,
    }
}

fn minimal(
    name: &'static str,
    body: headend_message::Body,
    message: HeadendMessage,
) -> Golden<HeadendMessage> {
    let bytes = pb::HeadendMessage {
        traceparent: None,
        body: Some(body),
    }
    .encode_to_vec();
    Golden {
        name,
        bytes,
        message,
    }
}

fn registered() -> Registered {
    Registered {
        epoch: 12,
        server_time: noon(),
        telemetry_interval: Duration::from_secs(4),
        heartbeat_interval: Duration::from_secs(30),
        liveness_timeout: Duration::from_secs(45),
        limits: Limits {
            max_message_bytes: 131_072,
            max_assets: 1024,
            max_batch_samples: 128,
            max_unacked_batches: 6,
            backfill_spread: Duration::from_secs(20),
            backfill_batches_per_s: 10,
        },
        logs: vec![LogCursor {
            kind: LogKind::Report,
            log_id: id(LOG),
            next_seq: 5,
        }],
        grants: vec![grant()],
        durable_acks: true,
        capabilities: vec!["resync".to_owned()],
        protocol_minor: 4,
    }
}

fn grant() -> Grant {
    Grant {
        asset_id: id(ASSET),
        status: GrantStatus::ServedElsewhere,
        last_revision: 7,
        text: Some("served by another agent".to_owned()),
    }
}

fn setpoint(then: FollowUp) -> SetpointOrder {
    SetpointOrder {
        asset_id: id(ASSET),
        dispatch_id: id(DISPATCH),
        revision: 7,
        epoch: 12,
        power: Power::from_mw(-12.5),
        duration: Some(Duration::from_secs(900)),
        start_at: None,
        start_deadline: noon(),
        ramp_mw_per_min: Some(30.0),
        then,
    }
}

fn release(revision: u64, epoch: u64) -> ReleaseOrder {
    ReleaseOrder {
        asset_id: id(ASSET),
        dispatch_id: id(DISPATCH),
        revision,
        epoch,
    }
}
