//! Who an agent is, what it serves and what it is doing.

use super::scalar::{
    Fault, bounded, cut, duration_out, finite, id, id_text, label, optional_duration,
    optional_power, positive, power, seq, timestamp_out,
};
use super::word::{self, LogKindRead};
use super::{MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::link::{
    AssetState, AssetUpdate, Control, InvalidClaim, LogHead, Rating, Register, Software,
};
use crate::{Power, pb};

pub(super) fn register(pb: pb::Register) -> Result<Register, Fault> {
    let software = pb.software.unwrap_or_default();
    Ok(Register {
        agent_id: id("agent_id", &pb.agent_id)?,
        instance_id: id("instance_id", &pb.instance_id)?,
        protocol_minor: pb.protocol_minor,
        capabilities: capabilities(pb.capabilities)?,
        software: Software {
            name: cut(software.name, MAX_NAME_BYTES),
            version: cut(software.version, MAX_NAME_BYTES),
        },
        last_epoch: pb.last_epoch,
        logs: bounded("logs", pb.logs)?
            .into_iter()
            .filter_map(|head| log_head(&head).transpose())
            .collect::<Result<_, _>>()?,
        assets: claims("assets", pb.assets)?,
        durable: pb.durable,
        agent_time: label(pb.agent_time),
    })
}

pub(super) fn register_out(register: Register) -> pb::Register {
    pb::Register {
        agent_id: id_text(register.agent_id.uuid()),
        instance_id: id_text(register.instance_id.uuid()),
        protocol_minor: register.protocol_minor,
        capabilities: register.capabilities,
        software: Some(pb::Software {
            name: register.software.name,
            version: register.software.version,
        }),
        last_epoch: register.last_epoch,
        logs: register.logs.into_iter().map(log_head_out).collect(),
        assets: claims_out(register.assets),
        durable: register.durable,
        agent_time: register.agent_time.map(timestamp_out),
    }
}

pub(super) fn asset_update(pb: pb::AssetUpdate) -> Result<AssetUpdate, Fault> {
    Ok(AssetUpdate {
        epoch: pb.epoch,
        upserted: claims("upserted", pb.upserted)?,
        // What has no id was never granted, so its removal says nothing.
        removed: bounded("removed", pb.removed)?
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
    })
}

pub(super) fn asset_update_out(update: AssetUpdate) -> pb::AssetUpdate {
    pb::AssetUpdate {
        epoch: update.epoch,
        upserted: claims_out(update.upserted),
        removed: update
            .removed
            .iter()
            .map(|asset| id_text(asset.uuid()))
            .collect(),
    }
}

/// A capability that is too long is none that this version knows.
pub(super) fn capabilities(names: Vec<String>) -> Result<Vec<String>, Fault> {
    let mut names = bounded("capabilities", names)?;
    names.retain(|name| name.len() <= MAX_NAME_BYTES);
    Ok(names)
}

/// The head of a log; `None` if it is of a kind that this version does not know.
fn log_head(pb: &pb::LogHead) -> Result<Option<LogHead>, Fault> {
    let kind = match word::log_kind(pb.kind) {
        LogKindRead::Known(kind) => kind,
        LogKindRead::Unknown => return Ok(None),
        LogKindRead::Unspecified => return Err(Fault::missing("logs.kind")),
    };
    let first_seq = seq("logs.first_seq", pb.first_seq)?;
    if seq("logs.next_seq", pb.next_seq)? < first_seq {
        return Err(Fault::new(
            "logs.next_seq",
            format_args!("is {}, below first_seq {first_seq}", pb.next_seq),
        ));
    }
    Ok(Some(LogHead {
        kind,
        log_id: id("logs.log_id", &pb.log_id)?,
        first_seq,
        next_seq: pb.next_seq,
    }))
}

fn log_head_out(head: LogHead) -> pb::LogHead {
    pb::LogHead {
        kind: word::log_kind_out(head.kind),
        log_id: id_text(head.log_id.uuid()),
        first_seq: head.first_seq,
        next_seq: head.next_seq,
    }
}

fn claims(
    field: &'static str,
    claims: Vec<pb::AssetState>,
) -> Result<Vec<Result<AssetState, InvalidClaim>>, Fault> {
    let claims = bounded(field, claims)?.into_iter().map(|claim| {
        asset_state(&claim).map_err(|fault| InvalidClaim {
            asset_id: claim.asset_id.chars().take(64).collect(),
            refusal: fault.into(),
        })
    });
    Ok(claims.collect())
}

fn claims_out(claims: Vec<Result<AssetState, InvalidClaim>>) -> Vec<pb::AssetState> {
    claims
        .into_iter()
        .map(|claim| match claim {
            Ok(state) => asset_state_out(&state),
            // Without a rating the peer finds it invalid, too.
            Err(invalid) => pb::AssetState {
                asset_id: cut(invalid.asset_id, MAX_TEXT_BYTES),
                ..pb::AssetState::default()
            },
        })
        .collect()
}

fn asset_state(pb: &pb::AssetState) -> Result<AssetState, Fault> {
    Ok(AssetState {
        asset_id: id("asset_id", &pb.asset_id)?,
        kind: word::asset_kind(pb.kind),
        rating: rating(pb.rating.ok_or_else(|| Fault::missing("rating"))?)?,
        last_revision: pb.last_revision,
        control: control(pb.control.as_ref())?,
        availability: word::availability(pb.availability),
        limit_revision: pb.limit_revision,
    })
}

fn asset_state_out(state: &AssetState) -> pb::AssetState {
    pb::AssetState {
        asset_id: id_text(state.asset_id.uuid()),
        kind: word::asset_kind_out(state.kind),
        rating: Some(pb::Rating {
            min_mw: state.rating.min.mw(),
            max_mw: state.rating.max.mw(),
            capacity_mwh: state.rating.capacity_mwh,
            ramp_mw_per_min: state.rating.ramp_mw_per_min,
        }),
        last_revision: state.last_revision,
        control: Some(control_out(state.control)),
        availability: word::availability_out(state.availability),
        limit_revision: state.limit_revision,
    }
}

fn rating(pb: pb::Rating) -> Result<Rating, Fault> {
    let min = power("rating.min_mw", pb.min_mw)?;
    let max = power("rating.max_mw", pb.max_mw)?;
    if min > max {
        return Err(Fault::new(
            "rating.min_mw",
            format_args!("is {}, above max_mw {}", min.mw(), max.mw()),
        ));
    }
    let capacity_mwh = pb
        .capacity_mwh
        .map(|capacity| match finite("rating.capacity_mwh", capacity)? {
            negative if negative < 0.0 => Err(Fault::new(
                "rating.capacity_mwh",
                format_args!("is {negative}; send 0 or more"),
            )),
            capacity => Ok(capacity),
        })
        .transpose()?;
    Ok(Rating {
        min,
        max,
        capacity_mwh,
        ramp_mw_per_min: pb
            .ramp_mw_per_min
            .map(|ramp| positive("rating.ramp_mw_per_min", ramp))
            .transpose()?,
    })
}

/// What an asset is doing; a peer that does not say has nothing in force.
pub(super) fn control(pb: Option<&pb::Control>) -> Result<Control, Fault> {
    let Some(pb) = pb else {
        return Ok(Control::default());
    };
    Ok(Control {
        source: word::control_source(pb.source).unwrap_or_default(),
        dispatch_id: pb
            .dispatch_id
            .as_deref()
            .map(|text| id("control.dispatch_id", text))
            .transpose()?,
        revision: pb.revision,
        power: optional_power("control.mw", pb.mw)?,
        remaining: optional_duration("control.remaining", pb.remaining)?,
        limited: pb.limited,
    })
}

pub(super) fn control_out(control: Control) -> pb::Control {
    pb::Control {
        source: word::control_source_out(control.source),
        dispatch_id: control.dispatch_id.map(|dispatch| id_text(dispatch.uuid())),
        revision: control.revision,
        mw: control.power.map(Power::mw),
        remaining: control.remaining.map(duration_out),
        limited: control.limited,
    }
}
