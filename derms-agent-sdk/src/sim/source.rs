//! Anything that simply follows its setpoint: a source or a controllable load that stores nothing.

use derms_proto::{Asset, DeviceStatus, Measurements, Power};

use super::device::Model;
use super::drive::{Command, Counters, Drive, approach};
use super::terminal::{Terminal, power, round};
use crate::{AdapterError, Applied};

#[derive(Debug)]
pub(super) struct Source {
    drive: Drive,
    terminal: Terminal,
    counters: Counters,
    mw: f64,
}

impl Source {
    pub(super) fn new(asset: &Asset, seed: u64) -> Self {
        let drive = Drive::new(asset);
        Self {
            terminal: Terminal::new(asset, seed),
            counters: Counters::default(),
            mw: drive.target,
            drive,
        }
    }
}

impl Model for Source {
    fn advance(&mut self, _now: f64, dt: f64) {
        self.mw = approach(self.mw, self.drive.target, self.drive.ramp, dt);
        self.counters.count(self.mw, dt);
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        self.drive.command(command);
        Ok(Applied::exactly(Power::from_mw(self.drive.target)))
    }

    fn measure(&self, now: f64) -> Measurements {
        let Drive { min, max, .. } = self.drive;
        Measurements {
            energy_in_mwh: Some(round(self.counters.taken_in, 1e6)),
            energy_out_mwh: Some(round(self.counters.given_out, 1e6)),
            available_charge_mw: Some(power((-min).max(0.0) - (-self.mw).max(0.0))),
            available_discharge_mw: Some(power(max.max(0.0) - self.mw.max(0.0))),
            setpoint_mw: self.drive.setpoint.map(Power::from_mw),
            status: Some(if self.mw == 0.0 {
                DeviceStatus::Standby
            } else {
                DeviceStatus::Running
            }),
            ..self.terminal.measure(self.mw, None, now)
        }
    }
}
