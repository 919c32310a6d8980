//! The point where a device meets the grid: voltage, frequency, current.

use derms_proto::{Asset, Measurements, Power};

use super::noise::Noise;

/// Volts, hertz and amperes at a device's terminals.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    nominal_v: f64,
    rated_mw: f64,
    voltage: Noise,
    frequency: Noise,
    grid: Noise,
}

impl Terminal {
    pub(super) fn new(asset: &Asset, seed: u64) -> Self {
        let rated_mw = asset.max_mw.mw().abs().max(asset.min_mw.mw().abs());
        let noise = Noise::of_asset(seed, asset.id);
        Self {
            nominal_v: match rated_mw {
                mw if mw >= 5.0 => 33_000.0,
                mw if mw >= 0.5 => 11_000.0,
                _ => 400.0,
            },
            rated_mw,
            voltage: noise.channel("voltage"),
            frequency: noise.channel("frequency"),
            grid: Noise::shared(seed).channel("grid"),
        }
    }

    /// The electrical values at this power.
    pub(super) fn measure(&self, mw: f64, mvar: Option<f64>, now: f64) -> Measurements {
        let load = if self.rated_mw > 0.0 {
            (mw / self.rated_mw).clamp(-1.0, 1.0)
        } else {
            0.0
        };
        // What feeds in lifts the voltage.
        let voltage = self.nominal_v * (1.0 + 0.01 * self.voltage.wave(now, 90.0) + 0.01 * load);
        let frequency =
            50.0 + 0.03 * self.grid.wave(now, 45.0) + 0.001 * self.frequency.wave(now, 5.0);
        let apparent_mva = mw.hypot(mvar.unwrap_or(0.0));
        let current = apparent_mva * 1e6 / (3.0_f64.sqrt() * voltage);
        Measurements {
            mw: Some(power(mw)),
            mvar: mvar.map(|mvar| round(mvar, 1e6)),
            voltage_v: Some(round(voltage, 10.0)),
            frequency_hz: Some(round(frequency, 1e3)),
            current_a: Some(round(current, 10.0)),
            ..Measurements::default()
        }
    }
}

/// A power as a device shows it, to the watt.
pub(super) fn power(mw: f64) -> Power {
    Power::from_mw(round(mw, 1e6))
}

/// To `1 / parts`, the resolution of the sensor; never a negative zero.
pub(super) fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts + 0.0
}
