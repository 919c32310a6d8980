//! A charging point: vehicles come and go, each wants its own energy at its own power.

use std::collections::BTreeMap;

use derms_proto::{Asset, Detail, DeviceStatus, Measurements, Power};

use super::device::Model;
use super::drive::{Command, Counters, Drive, approach};
use super::noise::Noise;
use super::terminal::{Terminal, power, round};
use crate::{AdapterError, Applied};

/// At most one vehicle comes in each slot.
const SLOT_S: f64 = 45.0 * 60.0;
/// Seven of ten slots see one.
const BUSY: f64 = 0.7;
/// How long the last part of a charge is stretched, in hours.
const TAPER_H: f64 = 0.05;

#[derive(Debug)]
pub(super) struct EvCharger {
    drive: Drive,
    terminal: Terminal,
    noise: Noise,
    counters: Counters,
    slot: i64,
    session: Option<Session>,
    /// Given to the vehicle of this slot, MWh.
    delivered_mwh: f64,
    /// What the vehicle would take now, MW, as a magnitude.
    demand: f64,
    mw: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Session {
    arrives: f64,
    leaves: f64,
    wanted_mwh: f64,
    /// MW, as a magnitude.
    power: f64,
}

impl EvCharger {
    pub(super) fn new(asset: &Asset, seed: u64) -> Self {
        Self {
            drive: Drive::new(asset),
            terminal: Terminal::new(asset, seed),
            noise: Noise::of_asset(seed, asset.id).channel("ev_charger"),
            counters: Counters::default(),
            slot: i64::MIN,
            session: None,
            delivered_mwh: 0.0,
            demand: 0.0,
            mw: 0.0,
        }
    }

    fn schedule(&self, slot: i64) -> Option<Session> {
        let noise = |what: &str| self.noise.channel(what);
        if noise("busy").pick(slot, 0.0, 1.0) >= BUSY {
            return None;
        }
        let start = slot as f64 * SLOT_S;
        let rated = (-self.drive.min).max(0.0);
        let power = rated * noise("power").pick(slot, 0.5, 1.0);
        let stay_s = SLOT_S * noise("stay").pick(slot, 0.5, 0.75);
        Some(Session {
            arrives: start + SLOT_S * noise("arrive").pick(slot, 0.0, 0.2),
            leaves: start + SLOT_S * 0.2 + stay_s,
            wanted_mwh: power * stay_s / 3600.0 * noise("energy").pick(slot, 0.4, 1.2),
            power,
        })
    }

    fn connected(&self, now: f64) -> Option<Session> {
        self.session
            .filter(|session| (session.arrives..session.leaves).contains(&now))
    }

    /// What it may draw at most, MW, as a magnitude.
    fn allowed(&self) -> f64 {
        (-self.drive.target).max(0.0)
    }
}

impl Model for EvCharger {
    fn advance(&mut self, now: f64, dt: f64) {
        let slot = (now / SLOT_S).floor() as i64;
        if slot != self.slot {
            self.slot = slot;
            self.session = self.schedule(slot);
            self.delivered_mwh = 0.0;
        }
        self.demand = self.connected(now).map_or(0.0, |session| {
            let missing = session.wanted_mwh - self.delivered_mwh;
            if missing < session.wanted_mwh / 100.0 {
                0.0
            } else {
                session.power.min(missing / TAPER_H)
            }
        });
        let wanted = -self.demand.min(self.allowed());
        self.mw = approach(self.mw, wanted, self.drive.ramp, dt);
        self.counters.count(self.mw, dt);
        self.delivered_mwh += -self.mw * dt / 3600.0;
    }

    fn command(&mut self, command: Command, _now: f64) -> Result<Applied, AdapterError> {
        if command.target > 0.0 {
            return Err(AdapterError::unsupported(
                "this charger can't feed back; order 0 MW or less",
            ));
        }
        self.drive.command(command);
        Ok(
            Applied::exactly(Power::from_mw(self.drive.target)).saying(format!(
                "limit taken; the vehicle asks for {:.3} MW",
                self.demand
            )),
        )
    }

    fn measure(&self, now: f64) -> Measurements {
        let vehicle = self.connected(now);
        let mut details = BTreeMap::from([(
            "vehicle_connected".to_owned(),
            Detail::Flag(vehicle.is_some()),
        )]);
        if vehicle.is_some() {
            details.insert(
                "session_energy_mwh".to_owned(),
                Detail::Number(round(self.delivered_mwh, 1e6)),
            );
        }
        Measurements {
            energy_in_mwh: Some(round(self.counters.taken_in, 1e6)),
            available_charge_mw: Some(power((self.demand + self.mw).max(0.0))),
            setpoint_mw: self.drive.setpoint.map(Power::from_mw),
            status: Some(if self.demand > self.allowed() {
                DeviceStatus::Curtailed
            } else if self.mw == 0.0 {
                DeviceStatus::Standby
            } else {
                DeviceStatus::Running
            }),
            details,
            ..self.terminal.measure(self.mw, None, now)
        }
    }
}
