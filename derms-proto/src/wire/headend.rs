//! What a headend sends.

use std::time::Duration;

use super::MAX_TEXT_BYTES;
use super::agent::{close, close_out};
use super::register::capabilities;
use super::scalar::{
    Fault, bounded, cut, duration, duration_out, from_one, id, id_text, interval, nanos_out,
    optional_duration, optional_power, positive, power, seq, timestamp, timestamp_out,
};
use super::word::{self, LogKindRead};
use crate::link::{
    AssetLimits, FollowUp, Grant, HeadendMessage, Limit, Limits, LogAck, LogCursor, MAX_LIMITS,
    RefusedEntry, Registered, ReleaseOrder, SetpointOrder, UnreadableSetpoint, WireError,
};
use crate::pb::{self, headend_message::Body};
use crate::{MAX_DURATION, Power};

impl TryFrom<pb::HeadendMessage> for HeadendMessage {
    type Error = WireError;

    fn try_from(message: pb::HeadendMessage) -> Result<Self, WireError> {
        let Some(body) = message.body else {
            return Ok(Self::Unknown);
        };
        match body {
            Body::Registered(pb) => registered(pb)
                .map(Self::Registered)
                .map_err(|fault| fault.of("Registered")),
            Body::Setpoint(pb) => setpoint(&pb).map(Self::Setpoint).or_else(|fault| {
                let error = fault.of("Setpoint");
                let unreadable = unreadable(&pb, &error);
                unreadable.map(Self::UnreadableSetpoint).ok_or(error)
            }),
            Body::Release(pb) => release(&pb)
                .map(Self::Release)
                .map_err(|fault| fault.of("Release")),
            Body::AssetLimits(pb) => asset_limits(&pb)
                .map(Self::AssetLimits)
                .map_err(|fault| fault.of("AssetLimits")),
            Body::LogAck(pb) => log_ack(pb)
                .map(|ack| ack.map_or(Self::Unknown, Self::LogAck))
                .map_err(|fault| fault.of("LogAck")),
            Body::HeartbeatAck(pb) => timestamp("server_time", pb.server_time)
                .map(|server_time| Self::HeartbeatAck {
                    monotonic: Duration::from_nanos(pb.monotonic_ns),
                    server_time,
                })
                .map_err(|fault| fault.of("HeartbeatAck")),
            Body::Ping(pb) => Ok(Self::Ping { nonce: pb.nonce }),
            Body::Throttle(pb) => duration("hold", pb.hold)
                .map(|hold| Self::Throttle {
                    backfill_batches_per_s: pb.backfill_batches_per_s,
                    hold,
                })
                .map_err(|fault| fault.of("Throttle")),
            Body::Resync(pb) => Ok(Self::Resync { epoch: pb.epoch }),
            Body::Grants(pb) => grants(pb.grants)
                .map(|grants| Self::Grants {
                    epoch: pb.epoch,
                    grants,
                })
                .map_err(|fault| fault.of("Grants")),
            Body::Close(pb) => close(pb)
                .map(Self::Close)
                .map_err(|fault| fault.of("Close")),
        }
    }
}

impl From<HeadendMessage> for pb::HeadendMessage {
    fn from(message: HeadendMessage) -> Self {
        let body = match message {
            HeadendMessage::Registered(registered) => Body::Registered(registered_out(registered)),
            HeadendMessage::Setpoint(order) => Body::Setpoint(setpoint_out(&order)),
            HeadendMessage::Release(order) => Body::Release(release_out(&order)),
            HeadendMessage::AssetLimits(limits) => Body::AssetLimits(asset_limits_out(limits)),
            HeadendMessage::LogAck(ack) => Body::LogAck(log_ack_out(ack)),
            HeadendMessage::HeartbeatAck {
                monotonic,
                server_time,
            } => Body::HeartbeatAck(pb::HeartbeatAck {
                monotonic_ns: nanos_out(monotonic),
                server_time: Some(timestamp_out(server_time)),
            }),
            HeadendMessage::Ping { nonce } => Body::Ping(pb::Ping { nonce }),
            HeadendMessage::Throttle {
                backfill_batches_per_s,
                hold,
            } => Body::Throttle(pb::Throttle {
                backfill_batches_per_s,
                hold: Some(duration_out(hold)),
            }),
            HeadendMessage::Resync { epoch } => Body::Resync(pb::Resync { epoch }),
            HeadendMessage::Grants { epoch, grants } => Body::Grants(pb::Grants {
                epoch,
                grants: grants.into_iter().map(grant_out).collect(),
            }),
            HeadendMessage::Close(close) => Body::Close(close_out(close)),
            HeadendMessage::UnreadableSetpoint(_) | HeadendMessage::Unknown => {
                return Self::default();
            }
        };
        Self {
            traceparent: None,
            body: Some(body),
        }
    }
}

fn registered(pb: pb::Registered) -> Result<Registered, Fault> {
    Ok(Registered {
        epoch: from_one("epoch", pb.epoch)?,
        server_time: timestamp("server_time", pb.server_time)?,
        telemetry_interval: interval("telemetry_interval", pb.telemetry_interval)?,
        heartbeat_interval: interval("heartbeat_interval", pb.heartbeat_interval)?,
        liveness_timeout: interval("liveness_timeout", pb.liveness_timeout)?,
        limits: limits(pb.limits.unwrap_or_default())?,
        logs: bounded("logs", pb.logs)?
            .into_iter()
            .filter_map(|cursor| log_cursor(&cursor).transpose())
            .collect::<Result<_, _>>()?,
        grants: grants(pb.grants)?,
        durable_acks: pb.durable_acks,
        capabilities: capabilities(pb.capabilities)?,
        protocol_minor: pb.protocol_minor,
    })
}

fn registered_out(registered: Registered) -> pb::Registered {
    pb::Registered {
        epoch: registered.epoch,
        server_time: Some(timestamp_out(registered.server_time)),
        telemetry_interval: Some(duration_out(registered.telemetry_interval)),
        heartbeat_interval: Some(duration_out(registered.heartbeat_interval)),
        liveness_timeout: Some(duration_out(registered.liveness_timeout)),
        limits: Some(pb::Limits {
            max_message_bytes: registered.limits.max_message_bytes,
            max_assets: registered.limits.max_assets,
            max_batch_samples: registered.limits.max_batch_samples,
            max_unacked_batches: registered.limits.max_unacked_batches,
            backfill_spread: Some(duration_out(registered.limits.backfill_spread)),
            backfill_batches_per_s: registered.limits.backfill_batches_per_s,
        }),
        logs: registered.logs.into_iter().map(log_cursor_out).collect(),
        grants: registered.grants.into_iter().map(grant_out).collect(),
        durable_acks: registered.durable_acks,
        capabilities: registered.capabilities,
        protocol_minor: registered.protocol_minor,
    }
}

/// A limit of 0 was not sent: nothing could pass it. Then the default holds.
fn limits(pb: pb::Limits) -> Result<Limits, Fault> {
    let default = Limits::default();
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    Ok(Limits {
        max_message_bytes: or(pb.max_message_bytes, default.max_message_bytes),
        max_assets: or(pb.max_assets, default.max_assets),
        max_batch_samples: or(pb.max_batch_samples, default.max_batch_samples),
        max_unacked_batches: or(pb.max_unacked_batches, default.max_unacked_batches),
        backfill_spread: optional_duration("limits.backfill_spread", pb.backfill_spread)?
            .unwrap_or(default.backfill_spread),
        backfill_batches_per_s: pb.backfill_batches_per_s,
    })
}

/// Where a log continues; `None` if it is of a kind that this version does not know.
fn log_cursor(pb: &pb::LogCursor) -> Result<Option<LogCursor>, Fault> {
    let kind = match word::log_kind(pb.kind) {
        LogKindRead::Known(kind) => kind,
        LogKindRead::Unknown => return Ok(None),
        LogKindRead::Unspecified => return Err(Fault::missing("logs.kind")),
    };
    Ok(Some(LogCursor {
        kind,
        log_id: id("logs.log_id", &pb.log_id)?,
        next_seq: seq("logs.next_seq", pb.next_seq)?,
    }))
}

fn log_cursor_out(cursor: LogCursor) -> pb::LogCursor {
    pb::LogCursor {
        kind: word::log_kind_out(cursor.kind),
        log_id: id_text(cursor.log_id.uuid()),
        next_seq: cursor.next_seq,
    }
}

/// What can't be read is left out: an asset without a grant is not served.
pub(super) fn grants(grants: Vec<pb::Grant>) -> Result<Vec<Grant>, Fault> {
    let grants = bounded("grants", grants)?.into_iter().filter_map(|grant| {
        Some(Grant {
            asset_id: grant.asset_id.parse().ok()?,
            status: word::grant_status(grant.status),
            last_revision: grant.last_revision,
            text: grant.text.map(|text| cut(text, MAX_TEXT_BYTES)),
        })
    });
    Ok(grants.collect())
}

pub(super) fn grant_out(grant: Grant) -> pb::Grant {
    pb::Grant {
        asset_id: id_text(grant.asset_id.uuid()),
        status: word::grant_status_out(grant.status),
        last_revision: grant.last_revision,
        text: grant.text,
    }
}

fn setpoint(pb: &pb::Setpoint) -> Result<SetpointOrder, Fault> {
    Ok(SetpointOrder {
        asset_id: id("asset_id", &pb.asset_id)?,
        dispatch_id: id("dispatch_id", &pb.dispatch_id)?,
        revision: from_one("revision", pb.revision)?,
        epoch: pb.epoch,
        power: power("mw", pb.mw)?,
        duration: lease(pb.duration)?,
        start_at: pb
            .start_at
            .map(|start_at| timestamp("start_at", Some(start_at)))
            .transpose()?,
        start_deadline: timestamp("start_deadline", pb.start_deadline)?,
        ramp_mw_per_min: pb
            .ramp_mw_per_min
            .map(|ramp| positive("ramp_mw_per_min", ramp))
            .transpose()?,
        then: follow_up(pb.then)?,
    })
}

/// `None`: it can't be said what it is.
fn unreadable(pb: &pb::Setpoint, error: &WireError) -> Option<UnreadableSetpoint> {
    Some(UnreadableSetpoint {
        asset_id: id("asset_id", &pb.asset_id).ok()?,
        dispatch_id: id("dispatch_id", &pb.dispatch_id).ok()?,
        revision: from_one("revision", pb.revision).ok()?,
        epoch: pb.epoch,
        error: error.clone(),
    })
}

fn setpoint_out(order: &SetpointOrder) -> pb::Setpoint {
    use pb::follow_up::Then;
    pb::Setpoint {
        asset_id: id_text(order.asset_id.uuid()),
        dispatch_id: id_text(order.dispatch_id.uuid()),
        revision: order.revision,
        epoch: order.epoch,
        mw: order.power.mw(),
        duration: order.duration.map(duration_out),
        start_deadline: Some(timestamp_out(order.start_deadline)),
        ramp_mw_per_min: order.ramp_mw_per_min,
        then: Some(pb::FollowUp {
            then: Some(match order.then {
                FollowUp::Default | FollowUp::Unknown => Then::Default(true),
                FollowUp::Value(power) => Then::Mw(power.mw()),
                FollowUp::Hold => Then::Hold(true),
            }),
        }),
        start_at: order.start_at.map(timestamp_out),
    }
}

/// A lease of 0 would mean "for ever" to one side and "ended" to the other.
fn lease(value: Option<prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    let Some(lease) = value
        .map(|value| interval("duration", Some(value)))
        .transpose()?
    else {
        return Ok(None);
    };
    if lease > MAX_DURATION {
        return Err(Fault::new(
            "duration",
            format_args!(
                "is {} s, more than {} s",
                lease.as_secs(),
                MAX_DURATION.as_secs()
            ),
        ));
    }
    Ok(Some(lease))
}

/// What a newer peer wants to follow is not known here: the default is the safe choice.
fn follow_up(pb: Option<pb::FollowUp>) -> Result<FollowUp, Fault> {
    use pb::follow_up::Then;
    match pb.and_then(|follow_up| follow_up.then) {
        Some(Then::Mw(mw)) => power("then.mw", mw).map(FollowUp::Value),
        Some(Then::Hold(true)) => Ok(FollowUp::Hold),
        Some(Then::Default(_) | Then::Hold(false)) | None => Ok(FollowUp::Default),
    }
}

fn release(pb: &pb::Release) -> Result<ReleaseOrder, Fault> {
    Ok(ReleaseOrder {
        asset_id: id("asset_id", &pb.asset_id)?,
        dispatch_id: id("dispatch_id", &pb.dispatch_id)?,
        revision: from_one("revision", pb.revision)?,
        epoch: pb.epoch,
    })
}

fn release_out(order: &ReleaseOrder) -> pb::Release {
    pb::Release {
        asset_id: id_text(order.asset_id.uuid()),
        dispatch_id: id_text(order.dispatch_id.uuid()),
        revision: order.revision,
        epoch: order.epoch,
    }
}

fn asset_limits(pb: &pb::AssetLimits) -> Result<AssetLimits, Fault> {
    if pb.limits.len() > MAX_LIMITS {
        return Err(Fault::new(
            "limits",
            format_args!("has {} entries, more than {MAX_LIMITS}", pb.limits.len()),
        ));
    }
    Ok(AssetLimits {
        asset_id: id("asset_id", &pb.asset_id)?,
        revision: from_one("revision", pb.revision)?,
        epoch: pb.epoch,
        limits: pb.limits.iter().map(limit).collect::<Result<_, _>>()?,
        stop: pb.stop,
        return_within: optional_duration("return_within", pb.return_within)?.unwrap_or_default(),
    })
}

fn asset_limits_out(limits: AssetLimits) -> pb::AssetLimits {
    pb::AssetLimits {
        asset_id: id_text(limits.asset_id.uuid()),
        revision: limits.revision,
        epoch: limits.epoch,
        limits: limits.limits.into_iter().map(limit_out).collect(),
        stop: limits.stop,
        return_within: Some(duration_out(limits.return_within)),
    }
}

fn limit(pb: &pb::Limit) -> Result<Limit, Fault> {
    let limit = Limit {
        id: id("limits.limit_id", &pb.limit_id)?,
        min: optional_power("limits.min_mw", pb.min_mw)?,
        max: optional_power("limits.max_mw", pb.max_mw)?,
        expires_at: pb
            .expires_at
            .map(|at| timestamp("limits.expires_at", Some(at)))
            .transpose()?,
    };
    match (limit.min, limit.max) {
        (Some(min), Some(max)) if min > max => Err(Fault::new(
            "limits.min_mw",
            format_args!("is {}, above max_mw {}", min.mw(), max.mw()),
        )),
        _ => Ok(limit),
    }
}

fn limit_out(limit: Limit) -> pb::Limit {
    pb::Limit {
        limit_id: id_text(limit.id.uuid()),
        min_mw: limit.min.map(Power::mw),
        max_mw: limit.max.map(Power::mw),
        expires_at: limit.expires_at.map(timestamp_out),
    }
}

/// An acknowledgement; `None` if it is of a log of a kind that this version does not know.
fn log_ack(pb: pb::LogAck) -> Result<Option<LogAck>, Fault> {
    let kind = match word::log_kind(pb.kind) {
        LogKindRead::Known(kind) => kind,
        LogKindRead::Unknown => return Ok(None),
        LogKindRead::Unspecified => return Err(Fault::missing("kind")),
    };
    Ok(Some(LogAck {
        kind,
        log_id: id("log_id", &pb.log_id)?,
        up_to_seq: pb.up_to_seq,
        refused: bounded("refused", pb.refused)?
            .into_iter()
            .map(refused)
            .collect::<Result<_, _>>()?,
        rewind: pb.rewind,
    }))
}

fn log_ack_out(ack: LogAck) -> pb::LogAck {
    pb::LogAck {
        kind: word::log_kind_out(ack.kind),
        log_id: id_text(ack.log_id.uuid()),
        up_to_seq: ack.up_to_seq,
        refused: ack
            .refused
            .into_iter()
            .map(|entry| pb::RefusedEntry {
                seq: entry.seq,
                code: word::refusal_code_out(entry.code),
                text: entry.text,
            })
            .collect(),
        rewind: ack.rewind,
    }
}

fn refused(pb: pb::RefusedEntry) -> Result<RefusedEntry, Fault> {
    Ok(RefusedEntry {
        seq: seq("refused.seq", pb.seq)?,
        code: word::refusal_code(pb.code),
        text: pb.text.map(|text| cut(text, MAX_TEXT_BYTES)),
    })
}
