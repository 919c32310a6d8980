//! The adapter around a model: keeps the time and one call at a time.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use derms_proto::{Asset, AssetKind, Availability, Measurements, Power, Timestamp};
use tokio::time::Instant;

use super::battery::Battery;
use super::drive::Command;
use super::ev_charger::EvCharger;
use super::genset::Genset;
use super::meter::Meter;
use super::pv::Pv;
use super::source::Source;
use super::wind::Wind;
use crate::{AdapterError, Alarm, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait};

/// The longest step of the integration, in seconds.
const STEP_S: f64 = 1.0;
/// The most steps for one call: a day. Past it the steps grow longer.
const MAX_STEPS: f64 = 86_400.0;

/// The physics of a device. Times are seconds since 1970 UTC, powers MW.
pub(super) trait Model: Send {
    /// Lets `dt` seconds pass, until `now`; `dt` may be 0.
    fn advance(&mut self, now: f64, dt: f64);

    /// Takes an order. It takes effect with the next call of [`advance`](Self::advance).
    fn command(&mut self, command: Command, now: f64) -> Result<Applied, AdapterError>;

    /// What its sensors show.
    fn measure(&self, now: f64) -> Measurements;

    /// Whether it takes orders.
    fn availability(&self) -> Availability {
        Availability::Available
    }

    /// The alarms that it has now.
    fn alarms(&self) -> Vec<Alarm> {
        Vec::new()
    }
}

/// One simulated device; see the [module's page](super) for the kinds.
pub struct SimulatedDevice {
    info: DeviceInfo,
    epoch: Instant,
    epoch_s: f64,
    state: Mutex<State>,
}

struct State {
    model: Box<dyn Model>,
    /// Seconds since 1970 UTC until which the model has been simulated.
    now: f64,
}

impl SimulatedDevice {
    /// A device for this asset that starts now, by this machine's wall clock.
    #[must_use]
    pub fn new(asset: &Asset, seed: u64) -> Self {
        Self::starting_at(asset, seed, Timestamp::now())
    }

    /// A device for this asset for which it is now `time`: a test chooses the time of day.
    #[must_use]
    pub fn starting_at(asset: &Asset, seed: u64, time: Timestamp) -> Self {
        let epoch_s = time.unix_micros() as f64 / 1e6;
        let (name, model) = model(&usable(asset), seed, epoch_s);
        Self {
            info: DeviceInfo::new(asset.kind, "Simulated", name),
            epoch: Instant::now(),
            epoch_s,
            state: Mutex::new(State {
                model,
                now: epoch_s,
            }),
        }
    }

    /// The state, simulated until now.
    fn state(&self) -> MutexGuard<'_, State> {
        // A model is plain numbers: whatever a panic left is as good as before.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(self.epoch_s + self.epoch.elapsed().as_secs_f64());
        state
    }

    fn command(&self, command: Command) -> Result<Applied, AdapterError> {
        if !command.target.is_finite() || command.ramp.is_some_and(|r| !(r.is_finite() && r > 0.0))
        {
            return Err(AdapterError::device(format!(
                "power {} MW with ramp {:?} MW/min is not a finite order with a ramp above 0",
                command.target, command.ramp
            )));
        }
        let mut state = self.state();
        let now = state.now;
        let applied = state.model.command(command, now)?;
        state.model.advance(now, 0.0);
        Ok(applied)
    }
}

impl State {
    fn advance(&mut self, now: f64) {
        let gap = now - self.now;
        if gap <= 0.0 {
            return;
        }
        let steps = (gap / STEP_S).ceil().min(MAX_STEPS);
        let start = self.now;
        let dt = gap / steps;
        for step in 1..=(steps as u32) {
            self.model.advance(start + dt * f64::from(step), dt);
        }
        self.now = now;
    }
}

/// The asset with what no fleet file could hold put right: a hand-made one may hold anything.
fn usable(asset: &Asset) -> Asset {
    let finite = |power: Power| {
        if power.is_finite() {
            power
        } else {
            Power::ZERO
        }
    };
    let percent = |value: f64, otherwise: f64| {
        if (0.0..=100.0).contains(&value) {
            value
        } else {
            otherwise
        }
    };
    let mut usable = asset.clone();
    usable.max_mw = finite(asset.max_mw);
    usable.min_mw = Power::from_mw(finite(asset.min_mw).mw().min(usable.max_mw.mw()));
    usable.default_mw = finite(asset.default_mw).clamp(usable.min_mw, usable.max_mw);
    usable.ramp_rate_mw_per_min = asset
        .ramp_rate_mw_per_min
        .filter(|ramp| ramp.is_finite() && *ramp > 0.0);
    if !asset.capacity_mwhr.is_finite() {
        usable.capacity_mwhr = 0.0;
    }
    if !(asset.efficiency > 0.0 && asset.efficiency <= 1.0) {
        usable.efficiency = 1.0;
    }
    usable.min_soc_pct = percent(asset.min_soc_pct, 0.0);
    usable.max_soc_pct = percent(asset.max_soc_pct, 100.0).max(usable.min_soc_pct);
    usable
}

fn model(asset: &Asset, seed: u64, now: f64) -> (&'static str, Box<dyn Model>) {
    match asset.kind {
        AssetKind::Pv => ("pv", Box::new(Pv::new(asset, seed, now))),
        AssetKind::Wind => ("wind", Box::new(Wind::new(asset, seed, now))),
        AssetKind::EvCharger => ("ev_charger", Box::new(EvCharger::new(asset, seed))),
        AssetKind::Meter => ("meter", Box::new(Meter::new(asset, seed, now))),
        AssetKind::Genset => ("genset", Box::new(Genset::new(asset, seed))),
        AssetKind::Battery if asset.capacity_mwhr > 0.0 => {
            ("battery", Box::new(Battery::new(asset, seed)))
        }
        _ if asset.capacity_mwhr > 0.0 && asset.min_mw < Power::ZERO => {
            ("battery", Box::new(Battery::new(asset, seed)))
        }
        _ => ("source", Box::new(Source::new(asset, seed))),
    }
}

#[async_trait]
impl DerAdapter for SimulatedDevice {
    fn describe(&self) -> DeviceInfo {
        self.info.clone()
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        let state = self.state();
        let mut reading = Reading::new(state.model.measure(state.now));
        reading.alarms = state.model.alarms();
        Ok(reading.available(state.model.availability()))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        self.command(Command {
            target: setpoint.power.mw(),
            is_setpoint: true,
            ramp: setpoint.ramp_mw_per_min,
        })
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.command(Command {
            target: default.mw(),
            is_setpoint: false,
            ramp: None,
        })
    }
}

impl fmt::Debug for SimulatedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDevice")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
