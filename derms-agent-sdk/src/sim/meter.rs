//! A meter: a daily load curve that nobody controls.

use std::f64::consts::TAU;

use derms_proto::{Asset, Availability, DeviceStatus, Measurements};

use super::device::Model;
use super::drive::{Command, Counters};
use super::noise::Noise;
use super::terminal::{Terminal, round};
use crate::{AdapterError, Applied};

/// Reactive for each active part: a power factor of 0.95.
const MVAR_PER_MW: f64 = 0.33;

#[derive(Debug)]
pub(super) struct Meter {
    terminal: Terminal,
    noise: Noise,
    counters: Counters,
    /// The highest load, MW, as a magnitude.
    peak: f64,
    mw: f64,
}

impl Meter {
    pub(super) fn new(asset: &Asset, seed: u64, now: f64) -> Self {
        let noise = Noise::of_asset(seed, asset.id).channel("meter");
        // A meter takes no orders, so its limits may well be 0 and say nothing of the load.
        let peak = if asset.min_mw.mw() < 0.0 {
            -asset.min_mw.mw()
        } else {
            noise.pick(0, 1.0, 4.0)
        };
        Self {
            terminal: Terminal::new(asset, seed),
            noise,
            counters: Counters::default(),
            peak,
            mw: load(noise, peak, now),
        }
    }
}

/// Low at night, two rises a day, always a consumption.
fn load(noise: Noise, peak: f64, now: f64) -> f64 {
    let day = (now / 86_400.0).rem_euclid(1.0);
    let shape = 0.55 - 0.2 * (TAU * day).cos() - 0.1 * (2.0 * TAU * (day - 0.06)).cos();
    let noise = 0.08 * noise.wave(now, 900.0) + 0.02 * noise.wave(now, 20.0);
    -peak * (shape + noise).clamp(0.05, 1.0)
}

impl Model for Meter {
    fn advance(&mut self, now: f64, dt: f64) {
        self.mw = load(self.noise, self.peak, now);
        self.counters.count(self.mw, dt);
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        if command.is_setpoint {
            return Err(AdapterError::unsupported(
                "a meter measures and takes no setpoint",
            ));
        }
        // The way back to the default is repeated until it succeeds; there is nothing to undo.
        Ok(Applied::accepted().saying("a meter is always at its default"))
    }

    fn measure(&self, now: f64) -> Measurements {
        Measurements {
            energy_in_mwh: Some(round(self.counters.taken_in, 1e6)),
            energy_out_mwh: Some(round(self.counters.given_out, 1e6)),
            status: Some(DeviceStatus::Running),
            ..self
                .terminal
                .measure(self.mw, Some(self.mw * MVAR_PER_MW), now)
        }
    }

    fn availability(&self) -> Availability {
        Availability::ReadOnly
    }
}
