//! A wind park: slowly varying wind, a power curve, curtailment.

use derms_proto::{Asset, Detail, Measurements};

use super::curtail::Curtailed;
use super::device::Model;
use super::drive::Command;
use super::noise::Noise;
use super::terminal::round;
use crate::{AdapterError, Applied};

/// Metres per second.
const CUT_IN: f64 = 3.0;
const RATED: f64 = 12.0;
const CUT_OUT: f64 = 25.0;

#[derive(Debug)]
pub(super) struct Wind {
    plant: Curtailed,
    noise: Noise,
    mean: f64,
    rated_mw: f64,
}

impl Wind {
    pub(super) fn new(asset: &Asset, seed: u64, now: f64) -> Self {
        let noise = Noise::of_asset(seed, asset.id).channel("wind");
        let mean = noise.pick(0, 7.5, 9.5);
        let rated_mw = asset.max_mw.mw().max(0.0);
        let available = rated_mw * power_curve(speed(noise, mean, now));
        Self {
            plant: Curtailed::new(asset, seed, available),
            noise,
            mean,
            rated_mw,
        }
    }
}

fn speed(noise: Noise, mean: f64, now: f64) -> f64 {
    let weather = noise.wave(now, 4.0 * 3600.0);
    let gust = noise.wave(now, 60.0);
    (mean * (1.0 + 0.5 * weather + 0.1 * gust)).max(0.0)
}

/// Share of the rated power at this wind speed.
fn power_curve(speed: f64) -> f64 {
    if !(CUT_IN..CUT_OUT).contains(&speed) {
        return 0.0;
    }
    let cubed = |v: f64| v.powi(3);
    ((cubed(speed) - cubed(CUT_IN)) / (cubed(RATED) - cubed(CUT_IN))).min(1.0)
}

impl Model for Wind {
    fn advance(&mut self, now: f64, dt: f64) {
        let available = self.rated_mw * power_curve(speed(self.noise, self.mean, now));
        self.plant.advance(available, dt);
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        Ok(self.plant.command(command))
    }

    fn measure(&self, now: f64) -> Measurements {
        let mut measured = self.plant.measure(now);
        measured.details.insert(
            "wind_speed_m_per_s".to_owned(),
            Detail::Number(round(speed(self.noise, self.mean, now), 100.0)),
        );
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_curve_is_zero_outside_its_speeds_and_full_from_the_rated_one() {
        assert_eq!(power_curve(2.9), 0.0);
        assert_eq!(power_curve(25.0), 0.0);
        assert_eq!(power_curve(12.0), 1.0);
        assert_eq!(power_curve(24.9), 1.0);
        assert!((0.2..0.4).contains(&power_curve(8.0)));
    }
}
