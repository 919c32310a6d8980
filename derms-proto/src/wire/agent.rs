//! What an agent sends, and the last message of either side.

use std::time::Duration;

use super::scalar::{
    Fault, bounded, cut, duration_out, id, id_text, label, nanos_out, optional_duration,
    timestamp_out,
};
use super::{MAX_TEXT_BYTES, register, report, telemetry, word};
use crate::link::{AgentHeartbeat, AgentMessage, AssetHealth, Close, WireError};
use crate::pb::{self, agent_message::Body};

impl TryFrom<pb::AgentMessage> for AgentMessage {
    type Error = WireError;

    fn try_from(message: pb::AgentMessage) -> Result<Self, WireError> {
        let Some(body) = message.body else {
            return Ok(Self::Unknown);
        };
        match body {
            Body::Register(pb) => register::register(pb)
                .map(Self::Register)
                .map_err(|fault| fault.of("Register")),
            Body::Telemetry(pb) => telemetry::batch(pb)
                .map(Self::Telemetry)
                .map_err(|fault| fault.of("Telemetry")),
            Body::LiveTelemetry(pb) => telemetry::live(pb)
                .map(Self::LiveTelemetry)
                .map_err(|fault| fault.of("LiveTelemetry")),
            Body::Report(pb) => report::batch(pb)
                .map(Self::Report)
                .map_err(|fault| fault.of("Report")),
            Body::Heartbeat(pb) => heartbeat(pb)
                .map(Self::Heartbeat)
                .map_err(|fault| fault.of("Heartbeat")),
            Body::AssetUpdate(pb) => register::asset_update(pb)
                .map(Self::AssetUpdate)
                .map_err(|fault| fault.of("AssetUpdate")),
            Body::Pong(pb) => Ok(Self::Pong { nonce: pb.nonce }),
            Body::Close(pb) => close(pb)
                .map(Self::Close)
                .map_err(|fault| fault.of("Close")),
        }
    }
}

impl From<AgentMessage> for pb::AgentMessage {
    fn from(message: AgentMessage) -> Self {
        let body = match message {
            AgentMessage::Register(register) => Body::Register(register::register_out(register)),
            AgentMessage::Telemetry(batch) => Body::Telemetry(telemetry::batch_out(batch)),
            AgentMessage::LiveTelemetry(samples) => {
                Body::LiveTelemetry(telemetry::live_out(samples))
            }
            AgentMessage::Report(batch) => Body::Report(report::batch_out(batch)),
            AgentMessage::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat_out(&heartbeat)),
            AgentMessage::AssetUpdate(update) => {
                Body::AssetUpdate(register::asset_update_out(update))
            }
            AgentMessage::Pong { nonce } => Body::Pong(pb::Pong { nonce }),
            AgentMessage::Close(close) => Body::Close(close_out(close)),
            AgentMessage::Unknown => return Self::default(),
        };
        Self {
            traceparent: None,
            body: Some(body),
        }
    }
}

fn heartbeat(pb: pb::Heartbeat) -> Result<AgentHeartbeat, Fault> {
    Ok(AgentHeartbeat {
        agent_time: label(pb.agent_time),
        monotonic: Duration::from_nanos(pb.monotonic_ns),
        epoch: pb.epoch,
        outbox_depth: pb.outbox_depth,
        dropped_samples: pb.dropped_samples,
        assets: bounded("assets", pb.assets)?
            .iter()
            .filter_map(|health| asset_health(health).ok())
            .collect(),
        uptime: optional_duration("uptime", pb.uptime)?,
    })
}

fn heartbeat_out(heartbeat: &AgentHeartbeat) -> pb::Heartbeat {
    pb::Heartbeat {
        agent_time: heartbeat.agent_time.map(timestamp_out),
        monotonic_ns: nanos_out(heartbeat.monotonic),
        epoch: heartbeat.epoch,
        outbox_depth: heartbeat.outbox_depth,
        dropped_samples: heartbeat.dropped_samples,
        assets: heartbeat.assets.iter().map(asset_health_out).collect(),
        uptime: heartbeat.uptime.map(duration_out),
    }
}

fn asset_health(pb: &pb::AssetHealth) -> Result<AssetHealth, Fault> {
    Ok(AssetHealth {
        asset_id: id("asset_id", &pb.asset_id)?,
        availability: word::availability(pb.availability),
        control: register::control(pb.control.as_ref())?,
        read_errors: pb.read_errors,
        limit_revision: pb.limit_revision,
    })
}

fn asset_health_out(health: &AssetHealth) -> pb::AssetHealth {
    pb::AssetHealth {
        asset_id: id_text(health.asset_id.uuid()),
        availability: word::availability_out(health.availability),
        control: Some(register::control_out(health.control)),
        read_errors: health.read_errors,
        limit_revision: health.limit_revision,
    }
}

pub(super) fn close(pb: pb::Close) -> Result<Close, Fault> {
    Ok(Close {
        reason: word::close_reason(pb.reason),
        text: cut(pb.text, MAX_TEXT_BYTES),
        retry_after: optional_duration("retry_after", pb.retry_after)?,
    })
}

pub(super) fn close_out(close: Close) -> pb::Close {
    pb::Close {
        reason: word::close_reason_out(close.reason),
        text: close.text,
        retry_after: close.retry_after.map(duration_out),
    }
}
