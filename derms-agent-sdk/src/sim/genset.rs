//! A generating set: it takes its time to start and has a least load.

use std::collections::BTreeMap;

use derms_proto::{Asset, Detail, DeviceStatus, Measurements, Power};

use super::device::Model;
use super::drive::{Command, Counters, Drive, approach};
use super::noise::Noise;
use super::terminal::{Terminal, power, round};
use crate::{AdapterError, Applied};

/// Share of the rated power below which it does not run.
const LEAST_LOAD: f64 = 0.3;
const MVAR_PER_MW: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Genset {
    drive: Drive,
    terminal: Terminal,
    noise: Noise,
    counters: Counters,
    engine: Engine,
    start_up_s: f64,
    mw: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Engine {
    Off,
    /// Turns, gives nothing yet.
    Starting {
        left_s: f64,
    },
    Running,
}

impl Genset {
    pub(super) fn new(asset: &Asset, seed: u64) -> Self {
        let noise = Noise::of_asset(seed, asset.id).channel("genset");
        Self {
            drive: Drive::new(asset),
            terminal: Terminal::new(asset, seed),
            noise,
            counters: Counters::default(),
            engine: Engine::Off,
            start_up_s: noise.pick(0, 15.0, 30.0).round(),
            mw: 0.0,
        }
    }

    fn least_load(&self) -> f64 {
        (self.drive.max * LEAST_LOAD).max(self.drive.min).max(0.0)
    }

    /// What it will do for its target: nothing, or at least the least load.
    fn wanted(&self) -> f64 {
        if self.drive.target > 0.0 {
            self.drive.target.max(self.least_load())
        } else {
            0.0
        }
    }
}

impl Model for Genset {
    fn advance(&mut self, _now: f64, dt: f64) {
        let wanted = self.wanted();
        self.engine = match self.engine {
            Engine::Off if wanted > 0.0 => Engine::Starting {
                left_s: self.start_up_s,
            },
            Engine::Starting { .. } if wanted == 0.0 => Engine::Off,
            Engine::Starting { left_s } if left_s <= dt => Engine::Running,
            Engine::Starting { left_s } => Engine::Starting {
                left_s: left_s - dt,
            },
            Engine::Running if wanted == 0.0 && self.mw == 0.0 => Engine::Off,
            same => same,
        };
        if self.engine == Engine::Running {
            self.mw = approach(self.mw, wanted, self.drive.ramp, dt);
        }
        self.counters.count(self.mw, dt);
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        self.drive.command(command);
        let wanted = self.wanted();
        let applied = Applied::exactly(Power::from_mw(wanted));
        Ok(match self.engine {
            Engine::Off if wanted > 0.0 => {
                applied.saying(format!("starting, gives power in {:.0} s", self.start_up_s))
            }
            _ if wanted > self.drive.target => applied.saying("held at the least load"),
            _ => applied,
        })
    }

    fn measure(&self, now: f64) -> Measurements {
        let (status, rpm) = match self.engine {
            Engine::Off => (DeviceStatus::Off, 0.0),
            Engine::Starting { .. } => (DeviceStatus::Starting, 1500.0 * 0.6),
            Engine::Running if self.wanted() == 0.0 => (DeviceStatus::Stopping, 1500.0),
            Engine::Running => (DeviceStatus::Running, 1500.0 + self.noise.wave(now, 7.0)),
        };
        Measurements {
            energy_out_mwh: Some(round(self.counters.given_out, 1e6)),
            available_discharge_mw: Some(power(self.drive.max - self.mw)),
            setpoint_mw: self.drive.setpoint.map(Power::from_mw),
            status: Some(status),
            details: BTreeMap::from([("engine_rpm".to_owned(), Detail::Number(round(rpm, 1.0)))]),
            ..self
                .terminal
                .measure(self.mw, Some(self.mw * MVAR_PER_MW), now)
        }
    }
}
