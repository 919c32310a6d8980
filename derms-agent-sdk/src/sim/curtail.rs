//! A plant that weather drives and a setpoint limits.

use derms_proto::{Asset, DeviceStatus, Measurements, Power};

use super::drive::{Command, Counters, Drive, approach};
use super::terminal::{Terminal, power, round};
use crate::Applied;

/// Gives the smaller of what is available and what is allowed.
#[derive(Debug)]
pub(super) struct Curtailed {
    drive: Drive,
    terminal: Terminal,
    counters: Counters,
    available: f64,
    /// The limit on its way to the target, MW.
    limit: f64,
    mw: f64,
}

impl Curtailed {
    pub(super) fn new(asset: &Asset, seed: u64, available: f64) -> Self {
        let drive = Drive::new(asset);
        let limit = drive.target.max(0.0);
        Self {
            terminal: Terminal::new(asset, seed),
            counters: Counters::default(),
            available,
            limit,
            mw: available.min(limit),
            drive,
        }
    }

    pub(super) fn advance(&mut self, available: f64, dt: f64) {
        self.available = available;
        self.limit = approach(self.limit, self.drive.target.max(0.0), self.drive.ramp, dt);
        self.mw = available.min(self.limit);
        self.counters.count(self.mw, dt);
    }

    pub(super) fn command(&mut self, command: Command) -> Applied {
        self.drive.command(command);
        // A limit far above what is produced would take its time before it did anything.
        self.limit = self.limit.min(self.mw.max(self.drive.target));
        Applied::exactly(Power::from_mw(self.drive.target))
            .saying(format!("limit taken; {:.3} MW available", self.available))
    }

    pub(super) fn measure(&self, now: f64) -> Measurements {
        Measurements {
            energy_out_mwh: Some(round(self.counters.given_out, 1e6)),
            available_discharge_mw: Some(power(self.available - self.mw)),
            setpoint_mw: self.drive.setpoint.map(Power::from_mw),
            status: Some(if self.available <= 0.0 {
                DeviceStatus::Standby
            } else if self.mw < self.available {
                DeviceStatus::Curtailed
            } else {
                DeviceStatus::Running
            }),
            ..self.terminal.measure(self.mw, None, now)
        }
    }
}
