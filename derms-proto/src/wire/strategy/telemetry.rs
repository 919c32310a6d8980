//! Samples and gaps.

use proptest::collection::{btree_map, vec};

use super::agent::control_source;
use super::*;
use crate::link::*;
use crate::*;

pub(super) fn telemetry() -> impl Strategy<Value = TelemetryBatch> {
    let gaps = vec((1..1_000_u64, 0..1_000_u64, gap_reason()), 0..4);
    (id(), vec(sample().prop_map(Ok), 0..4), gaps).prop_map(|(log_id, samples, parts)| {
        let mut next = 1;
        let mut gaps = Vec::new();
        for (skipped, more, reason) in parts {
            let first_seq = next + skipped;
            let last_seq = first_seq + more;
            next = last_seq + 1;
            gaps.push(Gap {
                first_seq,
                last_seq,
                reason,
            });
        }
        TelemetryBatch {
            log_id,
            first_seq: next,
            samples,
            gaps,
        }
    })
}

fn gap_reason() -> impl Strategy<Value = GapReason> {
    select(vec![
        GapReason::Unknown,
        GapReason::OutboxFull,
        GapReason::TooOld,
        GapReason::Corrupt,
    ])
}

pub(super) fn sample() -> impl Strategy<Value = Sample> {
    (id(), timestamp(), measurements()).prop_map(|(asset_id, measured_at, measurements)| Sample {
        asset_id,
        measured_at,
        measurements,
    })
}

fn measurements() -> impl Strategy<Value = Measurements> {
    let quality = select(vec![
        Quality::Good,
        Quality::Uncertain,
        Quality::Estimated,
        Quality::Bad,
    ]);
    let status = of(select(vec![
        DeviceStatus::Off,
        DeviceStatus::Standby,
        DeviceStatus::Starting,
        DeviceStatus::Running,
        DeviceStatus::Curtailed,
        DeviceStatus::Stopping,
        DeviceStatus::Fault,
        DeviceStatus::Maintenance,
    ]));
    let detail = prop_oneof![
        number().prop_map(Detail::Number),
        text().prop_map(Detail::Text),
        any::<bool>().prop_map(Detail::Flag),
    ];
    let powers = proptest::array::uniform4(of(power()));
    let others = proptest::array::uniform8(of(number()));
    let details = btree_map(text(), detail, 0..=5);
    (
        quality,
        powers,
        others,
        status,
        details,
        of(control_source()),
    )
        .prop_map(|(quality, powers, others, status, details, control)| {
            let [mw, available_charge_mw, available_discharge_mw, setpoint_mw] = powers;
            let [
                mvar,
                voltage_v,
                frequency_hz,
                current_a,
                soc_pct,
                soh_pct,
                energy_in_mwh,
                energy_out_mwh,
            ] = others;
            Measurements {
                quality,
                mw,
                mvar,
                voltage_v,
                frequency_hz,
                current_a,
                soc_pct,
                soh_pct,
                energy_in_mwh,
                energy_out_mwh,
                available_charge_mw,
                available_discharge_mw,
                setpoint_mw,
                status,
                details,
                control,
            }
        })
}
