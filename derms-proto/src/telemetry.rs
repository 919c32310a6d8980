//! Measurements, from the device to the operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AssetId, ControlSource, Power, SiteId, Timestamp};

/// How far a measurement can be trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quality {
    /// Measured and plausible.
    #[default]
    Good,
    /// Read, but not to be trusted (sensor fault, out of calibration).
    Uncertain,
    /// Calculated or substituted, not measured.
    Estimated,
    /// Known to be wrong.
    Bad,
    /// Sent by a newer headend than this type knows: not to be trusted.
    #[serde(other)]
    Unknown,
}

/// What a device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeviceStatus {
    /// Switched off.
    Off,
    /// Ready, no power flows.
    Standby,
    /// On its way to running.
    Starting,
    /// Running as it could.
    Running,
    /// Running below what it could because of a limit or a setpoint.
    Curtailed,
    /// On its way to off.
    Stopping,
    /// Stopped by a fault.
    Fault,
    /// In local or maintenance mode.
    Maintenance,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

/// A value that only one type of asset has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Detail {
    /// Yes or no.
    Flag(bool),
    /// A finite number; its unit belongs into the name (`irradiance_w_per_m2`).
    Number(f64),
    /// Anything else.
    Text(String),
}

/// The values of one measurement. **What was not measured is absent, never 0.**
///
/// Signs as in [`Power`]; `*_pct` is 0 to 100.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "schema",
    schema(
        description = "The values of one measurement. **What was not measured is null, never 0.**"
    )
)]
pub struct Measurements {
    /// How far the values can be trusted.
    #[serde(default)]
    pub quality: Quality,
    /// Active power, MW, + = export.
    pub mw: Option<Power>,
    /// Reactive power, MVAr, + = export.
    pub mvar: Option<f64>,
    /// Voltage, V.
    pub voltage_v: Option<f64>,
    /// Frequency, Hz.
    pub frequency_hz: Option<f64>,
    /// Current, A.
    pub current_a: Option<f64>,
    /// State of charge, percent, 0 to 100.
    pub soc_pct: Option<f64>,
    /// State of health, percent, 0 to 100.
    pub soh_pct: Option<f64>,
    /// Energy taken in since commissioning, MWh.
    pub energy_in_mwh: Option<f64>,
    /// Energy given out since commissioning, MWh.
    pub energy_out_mwh: Option<f64>,
    /// How much more it could charge now, MW, as a magnitude.
    pub available_charge_mw: Option<Power>,
    /// How much more it could discharge now, MW, as a magnitude.
    pub available_discharge_mw: Option<Power>,
    /// The setpoint in force at the device, MW, + = export.
    pub setpoint_mw: Option<Power>,
    /// What the device is doing.
    pub status: Option<DeviceStatus>,
    /// What only one type of asset has.
    #[serde(default)]
    pub details: BTreeMap<String, Detail>,
    /// What had put the device where it was; `null` when it is not known. In the newest snapshot
    /// alone, not in history: orders, limits and events tell the same there.
    #[serde(default)]
    pub control: Option<ControlSource>,
}

impl Measurements {
    /// The first value that is NaN or infinite, by field name.
    #[must_use]
    pub fn non_finite(&self) -> Option<&str> {
        let power = |value: Option<Power>| value.map(Power::mw);
        let fixed = [
            (power(self.mw), "mw"),
            (power(self.available_charge_mw), "available_charge_mw"),
            (power(self.available_discharge_mw), "available_discharge_mw"),
            (power(self.setpoint_mw), "setpoint_mw"),
            (self.mvar, "mvar"),
            (self.voltage_v, "voltage_v"),
            (self.frequency_hz, "frequency_hz"),
            (self.current_a, "current_a"),
            (self.soc_pct, "soc_pct"),
            (self.soh_pct, "soh_pct"),
            (self.energy_in_mwh, "energy_in_mwh"),
            (self.energy_out_mwh, "energy_out_mwh"),
        ];
        for (value, name) in &fixed {
            if value.is_some_and(|value| !value.is_finite()) {
                return Some(name);
            }
        }
        self.details.iter().find_map(|(name, value)| match value {
            Detail::Number(number) if !number.is_finite() => Some(name.as_str()),
            _ => None,
        })
    }
}

/// One measurement of one asset, as stored and served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Telemetry {
    /// The asset.
    pub asset_id: AssetId,
    /// Its site.
    pub site_id: SiteId,
    /// When the device was read.
    pub measured_at: Timestamp,
    /// When the headend received it.
    pub received_at: Timestamp,
    /// The values.
    #[serde(flatten)]
    pub measurements: Measurements,
}

/// The newest measurement of an asset by time of measurement, with its age at the time of the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TelemetrySnapshot {
    /// The measurement.
    #[serde(flatten)]
    pub telemetry: Telemetry,
    /// Seconds since `measured_at` (`received_at`, if the clock of the agent is ahead); never
    /// negative.
    pub age_s: f64,
    /// Older than the headend allows, or the asset is not connected.
    pub stale: bool,
}

/// One bucket of a downsampled history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TelemetryBucket {
    /// The asset.
    pub asset_id: AssetId,
    /// Start of the bucket (included); buckets are aligned to 1970-01-01T00:00:00Z.
    pub from: Timestamp,
    /// End of the bucket (not included).
    pub to: Timestamp,
    /// How many measurements it holds.
    pub count: u64,
    /// Active power, MW, + = export.
    pub mw: Option<Aggregate>,
    /// State of charge, percent.
    pub soc_pct: Option<Aggregate>,
}

/// Smallest, mean and largest of the values that were measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Aggregate {
    /// Smallest, in the unit of the value.
    pub min: f64,
    /// Arithmetic mean, in the unit of the value.
    pub mean: f64,
    /// Largest, in the unit of the value.
    pub max: f64,
}

/// An item of `/telemetry/{id}/history`: a measurement or, with `step`, a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum TelemetryHistoryItem {
    /// One bucket of a downsampled history.
    Bucket(TelemetryBucket),
    /// One measurement.
    Measurement(Telemetry),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_null_and_not_zero() {
        let json = serde_json::to_value(Measurements::default()).unwrap();
        assert!(json["mw"].is_null());
        assert!(json["soc_pct"].is_null());
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let mut measurements = Measurements::default();
        assert_eq!(measurements.non_finite(), None);
        measurements
            .details
            .insert("tilt".into(), Detail::Number(f64::NAN));
        assert_eq!(measurements.non_finite(), Some("tilt"));
        measurements.voltage_v = Some(f64::INFINITY);
        assert_eq!(measurements.non_finite(), Some("voltage_v"));
    }
}
