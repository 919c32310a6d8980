//! What agents send.

use std::time::Duration;

use derms_proto::link::*;
use derms_proto::pb::{self, agent_message};
use derms_proto::wire::TraceContext as _;
use derms_proto::*;
use prost::Message as _;

use super::*;

pub(crate) fn of_agents() -> Vec<Golden<AgentMessage>> {
    use agent_message::Body;
    vec![
        full("agent_register", AgentMessage::Register(register())),
        minimal(
            "agent_register_minimal",
            Body::Register(pb::Register {
                agent_id: AGENT.to_owned(),
                instance_id: INSTANCE.to_owned(),
                ..pb::Register::default()
            }),
            AgentMessage::Register(Register {
                agent_id: id(AGENT),
                instance_id: id(INSTANCE),
                protocol_minor: 0,
                capabilities: vec![],
                software: Software::default(),
                last_epoch: 0,
                logs: vec![],
                assets: vec![],
                durable: false,
                agent_time: None,
            }),
        ),
        full(
            "agent_telemetry",
            AgentMessage::Telemetry(TelemetryBatch {
                log_id: id(LOG),
                first_seq: 41,
                samples: vec![Ok(sample()), Ok(bare_sample())],
                gaps: vec![Gap {
                    first_seq: 38,
                    last_seq: 40,
                    reason: GapReason::OutboxFull,
                }],
            }),
        ),
        minimal(
            "agent_telemetry_minimal",
            Body::Telemetry(pb::Telemetry {
                log_id: LOG.to_owned(),
                first_seq: 1,
                samples: vec![pb::Sample {
                    asset_id: ASSET.to_owned(),
                    measured_at: Some(pb_noon()),
                    ..pb::Sample::default()
                }],
                gaps: vec![],
            }),
            AgentMessage::Telemetry(TelemetryBatch {
                log_id: id(LOG),
                first_seq: 1,
                samples: vec![Ok(bare_sample())],
                gaps: vec![],
            }),
        ),
        full(
            "agent_telemetry_stopped",
            AgentMessage::Telemetry(TelemetryBatch {
                log_id: id(LOG),
                first_seq: 41,
                samples: vec![Ok(Sample {
                    measurements: Measurements {
                        control: Some(ControlSource::Stop),
                        ..sample().measurements
                    },
                    ..sample()
                })],
                gaps: vec![],
            }),
        ),
        full(
            "agent_live_telemetry",
            AgentMessage::LiveTelemetry(vec![Ok(sample())]),
        ),
        minimal(
            "agent_live_telemetry_minimal",
            Body::LiveTelemetry(pb::LiveTelemetry::default()),
            AgentMessage::LiveTelemetry(vec![]),
        ),
        full("agent_report", AgentMessage::Report(report())),
        full(
            "agent_report_limit",
            AgentMessage::Report(ReportBatch {
                log_id: id(LOG),
                first_seq: 5,
                entries: vec![Ok(ReportEntry {
                    at: noon(),
                    asset_id: id(ASSET),
                    report: Report::Limit(LimitReport {
                        revision: 3,
                        phase: LimitPhase::NotObeyed,
                        reason: Some(ReasonCode::DeviceError),
                        text: Some("exception 4".to_owned()),
                    }),
                })],
            }),
        ),
        minimal(
            "agent_report_minimal",
            Body::Report(pb::Report {
                log_id: LOG.to_owned(),
                first_seq: 1,
                entries: vec![],
            }),
            AgentMessage::Report(ReportBatch {
                log_id: id(LOG),
                first_seq: 1,
                entries: vec![],
            }),
        ),
        full("agent_heartbeat", AgentMessage::Heartbeat(heartbeat())),
        full(
            "agent_heartbeat_limited",
            AgentMessage::Heartbeat(AgentHeartbeat {
                assets: vec![AssetHealth {
                    asset_id: id(ASSET),
                    availability: Availability::Available,
                    control: Control {
                        limited: true,
                        ..control()
                    },
                    read_errors: 0,
                    limit_revision: 3,
                }],
                ..heartbeat()
            }),
        ),
        minimal(
            "agent_heartbeat_minimal",
            Body::Heartbeat(pb::Heartbeat::default()),
            AgentMessage::Heartbeat(AgentHeartbeat {
                agent_time: None,
                monotonic: Duration::ZERO,
                epoch: 0,
                outbox_depth: 0,
                dropped_samples: 0,
                assets: vec![],
                uptime: None,
            }),
        ),
        full(
            "agent_asset_update",
            AgentMessage::AssetUpdate(AssetUpdate {
                epoch: 12,
                upserted: vec![Ok(asset_state())],
                removed: vec![id(AGENT)],
            }),
        ),
        full(
            "agent_asset_update_limited",
            AgentMessage::AssetUpdate(AssetUpdate {
                epoch: 12,
                upserted: vec![Ok(AssetState {
                    limit_revision: 3,
                    ..asset_state()
                })],
                removed: vec![],
            }),
        ),
        minimal(
            "agent_asset_update_minimal",
            Body::AssetUpdate(pb::AssetUpdate::default()),
            AgentMessage::AssetUpdate(AssetUpdate {
                epoch: 0,
                upserted: vec![],
                removed: vec![],
            }),
        ),
        full("agent_pong", AgentMessage::Pong { nonce: 77 }),
        minimal(
            "agent_pong_minimal",
            Body::Pong(pb::Pong::default()),
            AgentMessage::Pong { nonce: 0 },
        ),
        full("agent_close", AgentMessage::Close(close())),
        minimal(
            "agent_close_minimal",
            Body::Close(pb::Close::default()),
            AgentMessage::Close(Close::new(CloseReason::Unknown, "")),
        ),
    ]
}

fn full(name: &'static str, message: AgentMessage) -> Golden<AgentMessage> {
    let mut pb = pb::AgentMessage::from(message.clone());
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
    body: agent_message::Body,
    message: AgentMessage,
) -> Golden<AgentMessage> {
    let bytes = pb::AgentMessage {
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

fn register() -> Register {
    Register {
        agent_id: id(AGENT),
        instance_id: id(INSTANCE),
        protocol_minor: 3,
        capabilities: vec!["ramp".to_owned(), "resync".to_owned()],
        software: Software {
            name: "edge_agent".to_owned(),
            version: "0.1.0".to_owned(),
        },
        last_epoch: 11,
        logs: vec![
            LogHead {
                kind: LogKind::Telemetry,
                log_id: id(LOG),
                first_seq: 38,
                next_seq: 43,
            },
            LogHead {
                kind: LogKind::Report,
                log_id: id(INSTANCE),
                first_seq: 5,
                next_seq: 5,
            },
        ],
        assets: vec![Ok(asset_state())],
        durable: true,
        agent_time: Some(noon()),
    }
}

fn asset_state() -> AssetState {
    AssetState {
        asset_id: id(ASSET),
        kind: AssetKind::Battery,
        rating: Rating {
            min: Power::from_mw(-60.0),
            max: Power::from_mw(60.0),
            capacity_mwh: Some(120.0),
            ramp_mw_per_min: Some(1000.0),
        },
        last_revision: 7,
        control: control(),
        availability: Availability::ReadOnly,
        limit_revision: 0,
    }
}

fn control() -> Control {
    Control {
        source: ControlSource::Setpoint,
        dispatch_id: Some(id(DISPATCH)),
        revision: Some(7),
        power: Some(Power::from_mw(-12.5)),
        remaining: Some(Duration::from_millis(899_500)),
        limited: false,
    }
}

fn sample() -> Sample {
    Sample {
        asset_id: id(ASSET),
        measured_at: noon(),
        measurements: Measurements {
            quality: Quality::Estimated,
            mw: Some(Power::from_mw(-12.25)),
            mvar: Some(0.5),
            voltage_v: Some(11_003.5),
            frequency_hz: Some(49.98),
            current_a: Some(640.0),
            soc_pct: Some(0.0),
            soh_pct: Some(97.5),
            energy_in_mwh: Some(1234.5),
            energy_out_mwh: Some(1111.25),
            available_charge_mw: Some(Power::from_mw(47.75)),
            available_discharge_mw: Some(Power::ZERO),
            setpoint_mw: Some(Power::from_mw(-12.5)),
            status: Some(DeviceStatus::Curtailed),
            details: [
                ("cell_temperature_c", Detail::Number(31.5)),
                ("firmware", Detail::Text("2.7.1".to_owned())),
                ("door_open", Detail::Flag(false)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            control: None,
        },
    }
}

fn bare_sample() -> Sample {
    Sample {
        asset_id: id(ASSET),
        measured_at: noon(),
        measurements: Measurements::default(),
    }
}

fn report() -> ReportBatch {
    let entry = |report| {
        Ok(ReportEntry {
            at: noon(),
            asset_id: id(ASSET),
            report,
        })
    };
    ReportBatch {
        log_id: id(LOG),
        first_seq: 5,
        entries: vec![
            entry(Report::Setpoint(SetpointReport {
                dispatch_id: id(DISPATCH),
                revision: 7,
                phase: SetpointPhase::Failed,
                reason: Some(ReasonCode::DeviceError),
                text: Some("exception 4".to_owned()),
                applied: Some(Power::from_mw(-12.0)),
            })),
            entry(Report::Event(EventReport {
                severity: Severity::Alarm,
                code: "door_open".to_owned(),
                text: "the container's door is open".to_owned(),
            })),
        ],
    }
}

fn heartbeat() -> AgentHeartbeat {
    AgentHeartbeat {
        agent_time: Some(noon()),
        monotonic: Duration::from_nanos(123_456_789_012),
        epoch: 12,
        outbox_depth: 3,
        dropped_samples: 4,
        assets: vec![AssetHealth {
            asset_id: id(ASSET),
            availability: Availability::Unavailable,
            control: control(),
            read_errors: 5,
            limit_revision: 0,
        }],
        uptime: Some(Duration::from_secs(86_400)),
    }
}
