//! A battery: losses in each direction, state of charge, a soft stop at its bounds.

use std::collections::BTreeMap;

use derms_proto::{Asset, Detail, DeviceStatus, Measurements, Power, Severity};

use super::device::Model;
use super::drive::{Command, Counters, Drive, approach};
use super::noise::Noise;
use super::terminal::{Terminal, power, round};
use crate::{AdapterError, Alarm, Applied};

/// Below this the cells are taken as full or empty: 0.1 Wh, in MWh.
const NOTHING_MWH: f64 = 1e-7;

#[derive(Debug)]
pub(super) struct Battery {
    drive: Drive,
    terminal: Terminal,
    noise: Noise,
    counters: Counters,
    capacity_mwh: f64,
    /// In the cells, MWh.
    stored_mwh: f64,
    lowest_mwh: f64,
    highest_mwh: f64,
    /// The square root of the round trip: half of the loss falls in each direction.
    one_way: f64,
    soh_pct: f64,
    mw: f64,
}

impl Battery {
    pub(super) fn new(asset: &Asset, seed: u64) -> Self {
        let noise = Noise::of_asset(seed, asset.id).channel("battery");
        let capacity_mwh = asset.capacity_mwhr;
        let lowest_mwh = capacity_mwh * asset.min_soc_pct / 100.0;
        let highest_mwh = capacity_mwh * asset.max_soc_pct / 100.0;
        let filled = noise.pick(0, 0.4, 0.7);
        Self {
            drive: Drive::new(asset),
            terminal: Terminal::new(asset, seed),
            noise,
            counters: Counters::default(),
            capacity_mwh,
            stored_mwh: lowest_mwh + (highest_mwh - lowest_mwh) * filled,
            lowest_mwh,
            highest_mwh,
            one_way: asset.efficiency.sqrt(),
            soh_pct: noise.pick(1, 94.0, 99.5),
            mw: 0.0,
        }
    }

    /// Energy it can still give at its terminals, MWh.
    fn giveable(&self) -> f64 {
        (self.stored_mwh - self.lowest_mwh) * self.one_way
    }

    /// Energy it can still take at its terminals, MWh.
    fn takeable(&self) -> f64 {
        (self.highest_mwh - self.stored_mwh) / self.one_way
    }

    /// Lowest and highest power now, MW, so that it can stop at its bounds within the ramp.
    fn reach(&self, dt: f64) -> (f64, f64) {
        let ramp = self.drive.ramp;
        let charge = stoppable(self.takeable(), ramp, dt);
        let discharge = stoppable(self.giveable(), ramp, dt);
        (
            self.drive.min.max(-charge).min(self.drive.max),
            self.drive.max.min(discharge).max(self.drive.min),
        )
    }

    /// Whether less than a thousandth of it is left up to this bound, MWh.
    fn is_at(&self, bound: f64) -> bool {
        (self.stored_mwh - bound).abs() < self.capacity_mwh / 1e3
    }

    fn status(&self) -> DeviceStatus {
        if self.mw == 0.0 {
            DeviceStatus::Standby
        } else {
            DeviceStatus::Running
        }
    }
}

/// The highest power from which `energy` MWh are enough to ramp down to 0.
///
/// Steps of `h` hours that go down by `r·h` from `p` take at most `(p + r·h/2)² / 2r` MWh, so
/// that is what must be left; the step that has begun is included.
fn stoppable(energy: f64, ramp: Option<f64>, dt: f64) -> f64 {
    if energy < NOTHING_MWH {
        return 0.0;
    }
    let step_h = dt.max(1.0) / 3600.0;
    match ramp {
        None => energy / step_h,
        Some(ramp) => {
            let per_h = ramp * 60.0;
            ((2.0 * energy * per_h).sqrt() - per_h * step_h / 2.0).max(0.0)
        }
    }
}

impl Model for Battery {
    fn advance(&mut self, _now: f64, dt: f64) {
        let (low, high) = self.reach(dt);
        let wanted = self.drive.target.max(low).min(high);
        // A setpoint's gentle ramp must not carry it through a bound: then its own ramp counts.
        let ramp = if self.mw < low || self.mw > high {
            self.drive.own_ramp
        } else {
            self.drive.ramp
        };
        let mut mw = approach(self.mw, wanted, ramp, dt);
        if dt > 0.0 {
            let hours = dt / 3600.0;
            mw = mw
                .max(-self.takeable() / hours)
                .min(self.giveable() / hours);
            let stored = if mw > 0.0 {
                -mw / self.one_way
            } else {
                -mw * self.one_way
            };
            // The clamp only takes away the rounding of the last bit.
            self.stored_mwh = (self.stored_mwh + stored * hours)
                .max(self.lowest_mwh)
                .min(self.highest_mwh);
            self.counters.count(mw, dt);
        }
        self.mw = mw;
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        self.drive.command(command);
        let target = self.drive.target;
        let (low, high) = self.reach(1.0);
        if target > 0.0 && high <= 0.0 {
            return Ok(Applied::exactly(Power::ZERO).saying("at the lowest state of charge"));
        }
        if target < 0.0 && low >= 0.0 {
            return Ok(Applied::exactly(Power::ZERO).saying("at the highest state of charge"));
        }
        Ok(Applied::exactly(Power::from_mw(target)))
    }

    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if self.is_at(self.lowest_mwh) {
            let text = "at the lowest state of charge: it can't discharge";
            alarms.push(Alarm::new(Severity::Warning, "soc_at_minimum", text));
        }
        if self.is_at(self.highest_mwh) {
            let text = "at the highest state of charge: it can't charge";
            alarms.push(Alarm::new(Severity::Info, "soc_at_maximum", text));
        }
        alarms
    }

    fn measure(&self, now: f64) -> Measurements {
        let (low, high) = self.reach(1.0);
        let load = self.mw.abs() / self.drive.max.abs().max(self.drive.min.abs()).max(1e-9);
        let cell_c = 24.0 + 8.0 * load.min(1.0) + self.noise.wave(now, 600.0);
        Measurements {
            soc_pct: Some(round(self.stored_mwh / self.capacity_mwh * 100.0, 1e4)),
            soh_pct: Some(round(self.soh_pct, 10.0)),
            energy_in_mwh: Some(round(self.counters.taken_in, 1e6)),
            energy_out_mwh: Some(round(self.counters.given_out, 1e6)),
            available_charge_mw: Some(power((-low - (-self.mw).max(0.0)).max(0.0))),
            available_discharge_mw: Some(power((high - self.mw.max(0.0)).max(0.0))),
            setpoint_mw: self.drive.setpoint.map(Power::from_mw),
            status: Some(self.status()),
            details: BTreeMap::from([(
                "cell_temperature_c".to_owned(),
                Detail::Number(round(cell_c, 10.0)),
            )]),
            ..self.terminal.measure(self.mw, None, now)
        }
    }
}
