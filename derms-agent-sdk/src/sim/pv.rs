//! A photovoltaic plant: daylight, clouds, curtailment.

use std::f64::consts::PI;

use derms_proto::{Asset, Detail, Measurements};

use super::curtail::Curtailed;
use super::device::Model;
use super::drive::Command;
use super::noise::Noise;
use super::terminal::round;
use crate::{AdapterError, Applied};

#[derive(Debug)]
pub(super) struct Pv {
    plant: Curtailed,
    sky: Sky,
    rated_mw: f64,
}

#[derive(Debug)]
struct Sky {
    noise: Noise,
    sunrise_h: f64,
}

impl Sky {
    /// Share of full sun on the modules, 0 to 1.
    fn sun(&self, now: f64) -> f64 {
        let hour = (now / 3600.0).rem_euclid(24.0);
        // Not `sin(π)` at the end of the day: it isn't quite 0.
        let day = (hour - self.sunrise_h) / 12.0;
        if day <= 0.0 || day >= 1.0 {
            return 0.0;
        }
        let cover = 0.7 * self.noise.wave(now, 1800.0) + 0.3 * self.noise.wave(now, 120.0);
        (PI * day).sin() * (1.0 - 0.7 * cover.max(0.0))
    }
}

impl Pv {
    pub(super) fn new(asset: &Asset, seed: u64, now: f64) -> Self {
        let noise = Noise::of_asset(seed, asset.id).channel("pv");
        let sky = Sky {
            noise,
            sunrise_h: noise.pick(0, 5.75, 6.25),
        };
        let rated_mw = asset.max_mw.mw().max(0.0);
        Self {
            plant: Curtailed::new(asset, seed, rated_mw * sky.sun(now)),
            sky,
            rated_mw,
        }
    }
}

impl Model for Pv {
    fn advance(&mut self, now: f64, dt: f64) {
        self.plant.advance(self.rated_mw * self.sky.sun(now), dt);
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        Ok(self.plant.command(command))
    }

    fn measure(&self, now: f64) -> Measurements {
        let sun = self.sky.sun(now);
        let module_c = 12.0 + 28.0 * sun + 2.0 * self.sky.noise.wave(now, 900.0);
        let mut measured = self.plant.measure(now);
        measured.details.extend([
            (
                "irradiance_w_per_m2".to_owned(),
                Detail::Number(round(1000.0 * sun, 10.0)),
            ),
            (
                "module_temperature_c".to_owned(),
                Detail::Number(round(module_c, 10.0)),
            ),
        ]);
        measured
    }
}
