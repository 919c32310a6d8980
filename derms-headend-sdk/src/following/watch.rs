//! One order against the measurements of its asset.

use std::time::Duration;

use derms_proto::{Asset, AssetKind, DeviceStatus, Measurements, Power, Quality, Timestamp};

/// How closely an asset must follow, and how soon.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Rules {
    /// Allowed deviation as a share of the asset's range (`max_mw - min_mw`), 0 to 1. Default 0.02.
    pub tolerance_share: f64,
    /// Allowed deviation at least, not below 0. Default 0.05 MW.
    pub tolerance_least: Power,
    /// How long an asset may stray when its ramp is over, and at any later time. Default 10 s.
    pub settling: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tolerance_share: 0.02,
            tolerance_least: Power::from_mw(0.05),
            settling: Duration::from_secs(10),
        }
    }
}

/// What a setpoint is to an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The power itself.
    Exact,
    /// The most that may be generated: weather decides what is.
    Cap,
    /// The most that may flow in the direction of the setpoint: who is plugged in decides what does.
    Magnitude,
}

/// Watches one order that is in force.
///
/// The first measurement after the device's yes tells how far it has to go. It must come within the
/// tolerance when its ramp would be over and the settling time has passed, and must not leave it for
/// longer than that afterwards. What an asset can't give is no fault of it: a pv or wind plant below
/// its setpoint, a charger without a vehicle, a battery that says that no more power is available, a
/// device that is starting or is curtailed.
///
/// ```
/// use std::time::Duration;
/// use derms_headend_sdk::following::{Rules, Watch};
/// use derms_proto::{Asset, AssetKind, Measurements, Power, Timestamp};
///
/// let mw = Power::from_mw;
/// let asset = Asset::new(
///     "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse()?,
///     "BESS-1",
///     "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse()?,
///     AssetKind::Battery,
///     mw(-10.0),
///     mw(10.0),
/// );
/// let yes = Timestamp::now();
/// let mut watch = Watch::new(&asset, mw(5.0), yes, &Rules::default()).ok_or("not a meter")?;
/// let measured = |mw| Measurements { mw: Some(mw), ..Measurements::default() };
/// let after = |seconds| yes.saturating_add(Duration::from_secs(seconds));
/// assert_eq!(watch.measured(after(4), &measured(mw(0.0))), None);
/// assert_eq!(watch.measured(after(16), &measured(mw(0.0))), Some(false));
/// assert_eq!(watch.measured(after(20), &measured(mw(5.0))), Some(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// What is asked for, and what limits leave of it.
    ordered: f64,
    target: f64,
    /// What the device said it applies; counts while nothing limits it.
    said: Option<f64>,
    tolerance: f64,
    meaning: Meaning,
    /// MW per second; `None`: at once.
    ramp: Option<f64>,
    settling: Duration,
    /// The last measurement that was looked at, or the device's yes.
    last: Timestamp,
    /// When the ramp is over; `None` before the first measurement.
    moves_until: Option<Timestamp>,
    stray_since: Option<Timestamp>,
    following: Option<bool>,
}

impl Watch {
    /// Watches an asset that said yes to `target` at `since`, on the headend's clock. `None` for a meter, which follows nothing.
    #[must_use]
    pub fn new(asset: &Asset, target: Power, since: Timestamp, rules: &Rules) -> Option<Self> {
        let meaning = match asset.kind {
            AssetKind::Meter => return None,
            AssetKind::Pv | AssetKind::Wind => Meaning::Cap,
            AssetKind::EvCharger => Meaning::Magnitude,
            _ => Meaning::Exact,
        };
        let range = (asset.max_mw - asset.min_mw).mw();
        let ramp = asset.ramp_rate_mw_per_min.filter(|ramp| *ramp > 0.0);
        Some(Self {
            ordered: target.mw(),
            target: target.mw(),
            said: None,
            tolerance: (range * rules.tolerance_share).max(rules.tolerance_least.mw()),
            meaning,
            ramp: ramp.map(|per_minute| per_minute / 60.0),
            settling: rules.settling,
            last: since,
            moves_until: None,
            stray_since: None,
            following: None,
        })
    }

    /// The order has a ramp of its own, MW per minute; the slower one counts.
    #[must_use]
    pub fn ramping(mut self, mw_per_min: Option<f64>) -> Self {
        let of_order = mw_per_min
            .filter(|ramp| *ramp > 0.0)
            .map(|ramp| ramp / 60.0);
        self.ramp = self.ramp.into_iter().chain(of_order).reduce(f64::min);
        self
    }

    /// The device said that it applies this. It follows with that, too, while nothing limits it.
    #[must_use]
    pub fn saying(mut self, applied: Option<Power>) -> Self {
        self.said = applied.map(Power::mw).filter(|mw| mw.is_finite());
        self
    }

    /// Limits leave this range to the asset, or nothing limits it. What they move takes its time.
    pub fn limited(&mut self, range: Option<(Power, Power)>) {
        let target = range.map_or(self.ordered, |(low, high)| {
            Power::from_mw(self.ordered).clamp(low, high).mw()
        });
        if (target - self.target).abs() > f64::EPSILON {
            self.target = target;
            self.moves_until = None;
            self.stray_since = None;
        }
    }

    /// Whether it follows; `None` before that is known.
    #[must_use]
    pub const fn following(&self) -> Option<bool> {
        self.following
    }

    /// The allowed deviation.
    #[must_use]
    pub fn tolerance(&self) -> Power {
        Power::from_mw(self.tolerance)
    }

    /// Looks at a measurement; gives whether the asset follows, if that has changed by it. One that is
    /// not newer than the last, is known to be wrong or has no power tells nothing.
    pub fn measured(&mut self, at: Timestamp, measured: &Measurements) -> Option<bool> {
        let mw = measured.mw.filter(|mw| mw.is_finite())?.mw();
        if at <= self.last || measured.quality == Quality::Bad {
            return None;
        }
        self.last = at;
        let starting = measured.status == Some(DeviceStatus::Starting);
        let moves_until = match self.moves_until {
            Some(until) if !starting => until,
            // Only now, or only when it has started, it moves.
            _ => at.saturating_add(self.ramp_time(mw)),
        };
        self.moves_until = Some(moves_until);
        let before = self.following;
        if self.keeps(mw, measured) {
            self.stray_since = None;
            self.following = Some(true);
        } else if !starting && at >= moves_until {
            let since = *self
                .stray_since
                .get_or_insert(moves_until.max(at_least(at, before)));
            if at.saturating_since(since) >= self.settling {
                self.following = Some(false);
            }
        }
        (self.following != before)
            .then_some(self.following)
            .flatten()
    }

    fn ramp_time(&self, mw: f64) -> Duration {
        let seconds = self
            .ramp
            .map_or(0.0, |ramp| (self.target - mw).abs() / ramp);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Whether the power is as it should be, or can't be.
    fn keeps(&self, mw: f64, measured: &Measurements) -> bool {
        let limited = (self.target - self.ordered).abs() > f64::EPSILON;
        let said = self.said.filter(|_| !limited);
        std::iter::once(self.target)
            .chain(said)
            .any(|target| self.keeps_to(target, mw, measured))
    }

    fn keeps_to(&self, target: f64, mw: f64, measured: &Measurements) -> bool {
        let (low, high) = (target - self.tolerance, target + self.tolerance);
        match self.meaning {
            Meaning::Cap => mw <= high,
            Meaning::Magnitude if target > 0.0 => mw <= high,
            Meaning::Magnitude => mw >= low,
            Meaning::Exact if (low..=high).contains(&mw) => true,
            Meaning::Exact => self.gives_what_it_can(mw, measured),
        }
    }

    /// Less than is asked for, in the right direction, and no more is there.
    fn gives_what_it_can(&self, mw: f64, measured: &Measurements) -> bool {
        let (short, more) = if self.target > 0.0 {
            let short = (-self.tolerance..self.target).contains(&mw);
            (short, measured.available_discharge_mw)
        } else {
            let short = mw > self.target && mw <= self.tolerance;
            (short, measured.available_charge_mw)
        };
        let exhausted = more.is_some_and(|more| more.mw().abs() <= self.tolerance);
        short && (exhausted || measured.status == Some(DeviceStatus::Curtailed))
    }
}

/// An asset that has followed strays from the first measurement that shows it, one that has not from
/// the end of its ramp on.
fn at_least(at: Timestamp, before: Option<bool>) -> Timestamp {
    if before == Some(true) {
        at
    } else {
        Timestamp::UNIX_EPOCH
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
