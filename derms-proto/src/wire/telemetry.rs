//! Samples and gaps.

use std::collections::BTreeMap;

use super::scalar::{Fault, bounded, cut, first_seq, id, id_text, seq, timestamp, timestamp_out};
use super::{MAX_DETAILS, MAX_NAME_BYTES, MAX_TEXT_BYTES, word};
use crate::link::{Gap, Refusal, Sample, TelemetryBatch};
use crate::{Detail, Measurements, Power, pb};

pub(super) fn batch(pb: pb::Telemetry) -> Result<TelemetryBatch, Fault> {
    let samples = samples(pb.samples)?;
    let first_seq = first_seq(pb.first_seq, samples.len())?;
    Ok(TelemetryBatch {
        log_id: id("log_id", &pb.log_id)?,
        first_seq,
        gaps: gaps(pb.gaps, first_seq, samples.len())?,
        samples,
    })
}

pub(super) fn batch_out(batch: TelemetryBatch) -> pb::Telemetry {
    pb::Telemetry {
        log_id: id_text(batch.log_id.uuid()),
        first_seq: batch.first_seq,
        // A sample that can't be sent still takes its number: the peer refuses it, too.
        samples: batch
            .samples
            .into_iter()
            .map(|sample| sample.map_or_else(|_| pb::Sample::default(), sample_out))
            .collect(),
        gaps: batch.gaps.into_iter().map(gap_out).collect(),
    }
}

pub(super) fn live(pb: pb::LiveTelemetry) -> Result<Vec<Result<Sample, Refusal>>, Fault> {
    samples(pb.samples)
}

pub(super) fn live_out(samples: Vec<Result<Sample, Refusal>>) -> pb::LiveTelemetry {
    pb::LiveTelemetry {
        samples: samples.into_iter().flatten().map(sample_out).collect(),
    }
}

fn samples(samples: Vec<pb::Sample>) -> Result<Vec<Result<Sample, Refusal>>, Fault> {
    Ok(bounded("samples", samples)?
        .into_iter()
        .map(sample)
        .collect())
}

fn sample(pb: pb::Sample) -> Result<Sample, Refusal> {
    let power = |mw: Option<f64>| mw.map(Power::from_mw);
    let sample = Sample {
        asset_id: id("asset_id", &pb.asset_id)?,
        measured_at: timestamp("measured_at", pb.measured_at)?,
        measurements: Measurements {
            quality: word::quality(pb.quality),
            mw: power(pb.mw),
            mvar: pb.mvar,
            voltage_v: pb.voltage_v,
            frequency_hz: pb.frequency_hz,
            current_a: pb.current_a,
            soc_pct: pb.soc_pct,
            soh_pct: pb.soh_pct,
            energy_in_mwh: pb.energy_in_mwh,
            energy_out_mwh: pb.energy_out_mwh,
            available_charge_mw: power(pb.available_charge_mw),
            available_discharge_mw: power(pb.available_discharge_mw),
            setpoint_mw: power(pb.setpoint_mw),
            status: word::device_status(pb.status),
            details: details(pb.details)?,
            control: word::control_source(pb.control),
        },
    };
    match sample.measurements.non_finite() {
        None => Ok(sample),
        Some(name) => Err(Refusal {
            field: name.to_owned(),
            problem: "is not finite; leave out what was not measured".to_owned(),
        }),
    }
}

fn sample_out(sample: Sample) -> pb::Sample {
    let Measurements {
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
    } = sample.measurements;
    pb::Sample {
        asset_id: id_text(sample.asset_id.uuid()),
        measured_at: Some(timestamp_out(sample.measured_at)),
        quality: word::quality_out(quality),
        mw: mw.map(Power::mw),
        mvar,
        voltage_v,
        frequency_hz,
        current_a,
        soc_pct,
        soh_pct,
        energy_in_mwh,
        energy_out_mwh,
        available_charge_mw: available_charge_mw.map(Power::mw),
        available_discharge_mw: available_discharge_mw.map(Power::mw),
        setpoint_mw: setpoint_mw.map(Power::mw),
        status: status.map_or(0, word::device_status_out),
        details: details
            .into_iter()
            .map(|(name, value)| (name, detail_out(value)))
            .collect(),
        control: control.map_or(0, word::control_source_out),
    }
}

/// Details; one without a value is of a newer peer and left out.
fn details(details: BTreeMap<String, pb::Detail>) -> Result<BTreeMap<String, Detail>, Fault> {
    if details.len() > MAX_DETAILS {
        return Err(Fault::new(
            "details",
            format_args!("has {} entries, more than {MAX_DETAILS}", details.len()),
        ));
    }
    details
        .into_iter()
        .filter_map(|(name, detail)| {
            if name.len() > MAX_NAME_BYTES {
                let name = cut(name, 32);
                return Some(Err(Fault::new(
                    "details",
                    format_args!("`{name}…` is a name of more than {MAX_NAME_BYTES} bytes"),
                )));
            }
            let value = match detail.value? {
                pb::detail::Value::Number(number) => Detail::Number(number),
                pb::detail::Value::Text(text) => Detail::Text(cut(text, MAX_TEXT_BYTES)),
                pb::detail::Value::Flag(flag) => Detail::Flag(flag),
            };
            Some(Ok((name, value)))
        })
        .collect()
}

fn detail_out(detail: Detail) -> pb::Detail {
    pb::Detail {
        value: Some(match detail {
            Detail::Number(number) => pb::detail::Value::Number(number),
            Detail::Text(text) => pb::detail::Value::Text(text),
            Detail::Flag(flag) => pb::detail::Value::Flag(flag),
        }),
    }
}

/// Gaps in order, apart from each other and from the samples they come with.
fn gaps(gaps: Vec<pb::Gap>, first_sample: u64, samples: usize) -> Result<Vec<Gap>, Fault> {
    // No overflow: `first_seq` has checked it.
    let after_samples = first_sample + samples as u64;
    let mut previous = 0;
    bounded("gaps", gaps)?
        .into_iter()
        .map(
            |pb::Gap {
                 first_seq,
                 last_seq,
                 reason,
             }| {
                let gap = format_args!("{first_seq} to {last_seq}");
                // The log goes on after it.
                seq("gaps", last_seq.saturating_add(1))?;
                if seq("gaps", first_seq)? > last_seq {
                    return Err(Fault::new("gaps", format_args!("{gap} runs backwards")));
                }
                if first_seq <= previous {
                    return Err(Fault::new(
                        "gaps",
                        format_args!("{gap} is not above {previous}, the end of the one before"),
                    ));
                }
                if first_seq < after_samples && last_seq >= first_sample {
                    return Err(Fault::new(
                        "gaps",
                        format_args!("{gap} holds numbers of samples that are here"),
                    ));
                }
                previous = last_seq;
                Ok(Gap {
                    first_seq,
                    last_seq,
                    reason: word::gap_reason(reason),
                })
            },
        )
        .collect()
}

fn gap_out(gap: Gap) -> pb::Gap {
    pb::Gap {
        first_seq: gap.first_seq,
        last_seq: gap.last_seq,
        reason: word::gap_reason_out(gap.reason),
    }
}
