//! A battery on a test bench: right, or wrong in one chosen way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use derms_proto::{AssetKind, Availability, Measurements, Power, Severity};
use tokio::sync::Mutex as Lock;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::{
    AdapterError, Applied, AssetEvents, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};

const CAPACITY_MWH: f64 = 40.0;
/// MW per second, without a ramp of the setpoint.
const FAST: f64 = 20.0;

/// What is wrong with an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    WrongKind,
    ReadsNan,
    ReadsOverfull,
    ZeroForUnmeasured,
    CachesWithoutAge,
    /// No fault.
    CachesWithAge,
    ReadsWithWrongSign,
    ReadsKilowatts,
    TakesChargingForDischarge,
    RefusesCharging,
    IsInLocalMode,
    AnswersWhatWasAsked,
    AnswersBeforeTheDevice,
    TogglesOnRepeat,
    AddsUp,
    AnswersAnewOnRepeat,
    IgnoresRamp,
    ForgetsWithoutWriting,
    KeepsShowingTheSetpoint,
    RefusesSecondDefault,
    StaysBusyWhenDropped,
    StaysBusyWhenDroppedLate,
    WritesAfterItWasDropped,
    LocksInTwoOrders,
    InventsValues,
    SaysUnsupportedWhenDead,
    ErrsWithoutText,
    HangsAtMinimum,
    BlocksTheThread,
    PanicsAtMinimum,
    TakesOrdersAsMeter,
    RefusesOrdersAsDevice,
    RaisesWithoutCode,
    RaisesWithoutText,
    TwoAlarmsOfOneCode,
    RaisesWithEachRead,
    NamesAnAlarmAnewWithEachRead,
    PanicsWithEvents,
    BlocksWithEvents,
}

/// The adapter.
pub(super) struct Bench {
    fault: Fault,
    plugged: bool,
    line: Lock<()>,
    other: Lock<()>,
    state: Arc<Mutex<State>>,
    events: OnceLock<AssetEvents>,
    reads: AtomicU32,
}

struct State {
    from: f64,
    target: f64,
    per_s: f64,
    since: Instant,
    /// Given out, net, until `counted`.
    energy_mwh: f64,
    counted: Instant,
    setpoint: Option<f64>,
    defaulted: bool,
    busy: bool,
    cached: Option<(Instant, Reading)>,
}

impl State {
    fn power(&self) -> f64 {
        let way = self.per_s * self.since.elapsed().as_secs_f64();
        self.from + (self.target - self.from).clamp(-way, way)
    }

    fn count(&mut self) {
        self.energy_mwh += self.power() * self.counted.elapsed().as_secs_f64() / 3600.0;
        self.counted = Instant::now();
    }

    fn go(&mut self, target: f64, per_s: f64) {
        self.count();
        self.from = self.power();
        self.target = target;
        self.per_s = per_s;
        self.since = Instant::now();
    }
}

impl Bench {
    pub(super) fn with(fault: Fault) -> Self {
        Self {
            fault,
            plugged: true,
            line: Lock::new(()),
            other: Lock::new(()),
            state: Arc::new(Mutex::new(State {
                from: 0.0,
                target: 0.0,
                per_s: FAST,
                since: Instant::now(),
                energy_mwh: 0.0,
                counted: Instant::now(),
                setpoint: None,
                defaulted: false,
                busy: false,
                cached: None,
            })),
            events: OnceLock::new(),
            reads: AtomicU32::new(0),
        }
    }

    pub(super) fn unplugged(fault: Fault) -> Self {
        Self {
            plugged: false,
            ..Self::with(fault)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One exchange on the line: it waits twice.
    async fn exchange(&self) -> Result<(), AdapterError> {
        sleep(Duration::from_millis(5)).await;
        if !self.plugged {
            return Err(match self.fault {
                Fault::ErrsWithoutText => AdapterError::timeout(""),
                Fault::SaysUnsupportedWhenDead => AdapterError::unsupported("no answer"),
                _ => AdapterError::timeout("no answer on the serial line; check the cable"),
            });
        }
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    async fn command(&self, setpoint: Option<&Setpoint>, mw: f64) -> Result<Applied, AdapterError> {
        match self.fault {
            Fault::HangsAtMinimum if mw <= -10.0 => std::future::pending().await,
            Fault::PanicsAtMinimum if mw <= -10.0 => panic!("register out of range"),
            #[expect(clippy::disallowed_methods, reason = "this is the fault")]
            Fault::BlocksTheThread => std::thread::sleep(Duration::from_millis(25)),
            Fault::WritesAfterItWasDropped if setpoint.is_some() => {
                let state = Arc::clone(&self.state);
                let write = async move {
                    sleep(Duration::from_secs_f64(mw.abs() / 20.0)).await;
                    state
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .go(mw, FAST);
                };
                let _ = TaskTracker::new().spawn(write).await;
            }
            _ => {}
        }
        let _other = match self.fault {
            Fault::LocksInTwoOrders => {
                let other = self.other.lock().await;
                sleep(Duration::from_millis(1)).await;
                Some(other)
            }
            _ => None,
        };
        let _line = self.line.lock().await;
        if self.fault == Fault::StaysBusyWhenDroppedLate {
            sleep(Duration::from_millis(1)).await;
        }
        if matches!(
            self.fault,
            Fault::StaysBusyWhenDropped | Fault::StaysBusyWhenDroppedLate
        ) {
            if std::mem::replace(&mut self.state().busy, true) {
                return Err(AdapterError::device("an exchange is under way"));
            }
            self.exchange().await?;
            self.state().busy = false;
        } else {
            self.exchange().await?;
        }
        let mut state = self.state();
        if self.fault == Fault::RefusesSecondDefault && setpoint.is_none() {
            if std::mem::replace(&mut state.defaulted, true) {
                return Err(AdapterError::device("already at the default"));
            }
        } else {
            state.defaulted = false;
        }
        let repeated = setpoint.is_some() && state.setpoint == Some(mw);
        let ramp = setpoint.and_then(|setpoint| setpoint.ramp_mw_per_min);
        let per_s = match ramp {
            Some(ramp) if self.fault != Fault::IgnoresRamp => ramp / 60.0,
            _ => FAST,
        };
        if setpoint.is_some() || self.fault != Fault::KeepsShowingTheSetpoint {
            state.setpoint = setpoint.map(|setpoint| setpoint.power.mw());
        }
        let (target, answer) = match self.fault {
            Fault::TogglesOnRepeat if repeated => (0.0, mw),
            Fault::AddsUp if repeated => (state.target + 1.0, state.target + 1.0),
            Fault::AnswersAnewOnRepeat if repeated => (mw, mw / 2.0),
            Fault::AnswersWhatWasAsked => (mw.clamp(-4.0, 4.0), mw),
            Fault::AnswersBeforeTheDevice if setpoint.is_some() => (state.target, mw),
            Fault::ForgetsWithoutWriting if setpoint.is_none() => (state.target, mw),
            _ => (mw, mw),
        };
        state.go(target, per_s);
        Ok(Applied::exactly(Power::from_mw(answer)))
    }

    fn alarmed(&self, reading: Reading) -> Reading {
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let hot = |code: &str| reading.clone().alarm(Severity::Warning, code, "61 C");
        match (self.fault, self.events.get()) {
            (Fault::TwoAlarmsOfOneCode, _) => hot("hot").alarm(Severity::Info, "hot", "62 C"),
            (Fault::NamesAnAlarmAnewWithEachRead, _) => hot(&format!("hot_{number}")),
            (Fault::RaisesWithEachRead, Some(events)) => {
                events.raise(Severity::Warning, "hot", "61 C");
                reading
            }
            _ => hot("hot"),
        }
    }

    fn measure(&self) -> Reading {
        let mut state = self.state();
        state.count();
        let power = state.power();
        let (shown, given_mwh) = match self.fault {
            Fault::ReadsWithWrongSign => (-power, state.energy_mwh),
            Fault::ReadsKilowatts => (power * 1e3, state.energy_mwh),
            Fault::TakesChargingForDischarge => (power, -state.energy_mwh),
            _ => (power, state.energy_mwh),
        };
        let soc = 50.0 - given_mwh / CAPACITY_MWH * 100.0;
        let reading = Reading::new(Measurements {
            mw: Some(Power::from_mw(shown)),
            soc_pct: Some(match self.fault {
                Fault::ReadsOverfull => soc + 60.0,
                _ => soc,
            }),
            voltage_v: (self.fault == Fault::ZeroForUnmeasured).then_some(0.0),
            current_a: (self.fault == Fault::ReadsNan).then_some(f64::NAN),
            setpoint_mw: state.setpoint.map(Power::from_mw),
            ..Measurements::default()
        });
        let age = match self.fault {
            Fault::CachesWithAge => 1,
            Fault::CachesWithoutAge => 0,
            _ => return reading,
        };
        match &state.cached {
            Some((at, cached)) if at.elapsed() < Duration::from_secs(20) => {
                cached.clone().aged(at.elapsed() * age)
            }
            _ => {
                state.cached = Some((Instant::now(), reading.clone()));
                reading
            }
        }
    }
}

#[async_trait]
impl DerAdapter for Bench {
    fn describe(&self) -> DeviceInfo {
        let kind = match self.fault {
            Fault::WrongKind => AssetKind::Pv,
            Fault::TakesOrdersAsMeter | Fault::RefusesOrdersAsDevice => AssetKind::Meter,
            _ => AssetKind::Battery,
        };
        DeviceInfo::new(kind, "Acme", "Bench")
    }

    fn take_events(&self, events: AssetEvents) {
        match self.fault {
            Fault::PanicsWithEvents => panic!("no room for events"),
            #[expect(clippy::disallowed_methods, reason = "this is the fault")]
            Fault::BlocksWithEvents => std::thread::sleep(Duration::from_millis(25)),
            Fault::RaisesWithoutCode => events.raise(Severity::Info, "-", "started"),
            Fault::RaisesWithoutText => events.raise(Severity::Info, "started", ""),
            _ => events.raise(Severity::Info, "started", "the bench was switched on"),
        }
        let _ = self.events.set(events);
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        if self.fault == Fault::InventsValues && !self.plugged {
            return Ok(self.measure());
        }
        let _line = self.line.lock().await;
        let _other = match self.fault {
            Fault::LocksInTwoOrders => {
                sleep(Duration::from_millis(1)).await;
                Some(self.other.lock().await)
            }
            _ => None,
        };
        self.exchange().await?;
        let reading = self.alarmed(self.measure());
        Ok(reading.available(match self.fault {
            Fault::IsInLocalMode | Fault::TakesOrdersAsMeter | Fault::RefusesOrdersAsDevice => {
                Availability::ReadOnly
            }
            _ => Availability::Available,
        }))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        if self.fault == Fault::RefusesCharging && setpoint.power < Power::ZERO {
            return Err(AdapterError::device("charging is locked"));
        }
        if self.fault == Fault::RefusesOrdersAsDevice {
            return Err(AdapterError::device("no such register"));
        }
        self.command(Some(setpoint), setpoint.power.mw()).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.command(None, default.mw()).await
    }
}
