//! How fast the device is moved.

use std::time::Duration;

use derms_proto::Power;

use crate::clock::MonoTime;

/// A ramp is driven in steps of this time; a device that ramps by itself does so within each.
const STEP: Duration = Duration::from_secs(1);

/// Differences below this are rounding (MW).
const EPSILON_MW: f64 = 1e-9;

/// Where the device was told to be, and when.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    /// The last power that it has accepted, or, before the first, what was measured.
    at: Option<Power>,
    /// When it was last told a power.
    moved: Option<MonoTime>,
    /// What it is being told.
    telling: Option<Power>,
    /// It has refused or not answered the last: it may be anywhere between.
    unsure: bool,
}

impl Ramp {
    pub(super) const fn at(&self) -> Option<Power> {
        self.at
    }

    /// Where it is, unless it has refused or not answered the last command.
    pub(super) fn sure(&self) -> Option<Power> {
        self.at.filter(|_| !self.unsure)
    }

    /// Whether it was neither told anything nor read.
    pub(super) const fn is_unknown(&self) -> bool {
        self.at.is_none() && self.moved.is_none()
    }

    /// The next power on the way from where it is to `target`, at `mw_per_min`, which is never
    /// outside of `bounds`: a limit is kept at once, the ramp is from there.
    ///
    /// A device of which nothing is known goes there at once.
    pub(super) fn next(
        &self,
        target: Power,
        mw_per_min: Option<f64>,
        bounds: (Power, Power),
        now: MonoTime,
    ) -> Power {
        let (Some(at), Some(rate)) = (self.at, mw_per_min) else {
            return target;
        };
        let from = at.clamp(bounds.0, bounds.1).mw();
        let since = self
            .moved
            .map_or(STEP, |moved| now.saturating_since(moved).min(STEP));
        let most = rate / 60.0 * since.as_secs_f64();
        let way = target.mw() - from;
        if way.abs() <= most + EPSILON_MW {
            target
        } else {
            Power::from_mw(from + most.copysign(way))
        }
    }

    /// When the next step is due.
    pub(super) fn due(&self) -> Option<MonoTime> {
        self.moved.map(|moved| moved + STEP)
    }

    /// The device is being told. To stay where it is is no step.
    pub(super) fn tell(&mut self, power: Power, now: MonoTime) {
        if self.sure() != Some(power) {
            self.moved = Some(now);
        }
        self.telling = Some(power);
    }

    /// It has answered.
    pub(super) const fn told(&mut self, accepted: bool) {
        if let Some(power) = self.telling.take() {
            self.unsure = !accepted;
            if accepted {
                self.at = Some(power);
            }
        }
    }

    /// It was read; that counts only before it was ever told anything.
    pub(super) const fn measured(&mut self, power: Option<Power>) {
        if self.at.is_none() && self.moved.is_none() {
            self.at = power;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: (Power, Power) = (Power::from_mw(-100.0), Power::from_mw(100.0));

    fn at(seconds: f64) -> MonoTime {
        MonoTime::from_origin(Duration::from_secs_f64(seconds))
    }

    fn mw(mw: f64) -> Power {
        Power::from_mw(mw)
    }

    fn told(ramp: &mut Ramp, power: Power, now: MonoTime) {
        ramp.tell(power, now);
        ramp.told(true);
    }

    #[test]
    fn a_device_of_which_nothing_is_known_goes_there_at_once() {
        assert_eq!(
            Ramp::default().next(mw(9.0), Some(1.0), WIDE, at(0.0)),
            mw(9.0)
        );
    }

    #[test]
    fn steps_are_what_the_ramp_allows_in_a_second_however_long_the_device_was_left_alone() {
        let mut ramp = Ramp::default();
        told(&mut ramp, mw(0.0), at(0.0));
        assert_eq!(ramp.next(mw(9.0), Some(60.0), WIDE, at(500.0)), mw(1.0));
        assert_eq!(ramp.next(mw(-9.0), Some(60.0), WIDE, at(500.0)), mw(-1.0));
        assert_eq!(ramp.next(mw(0.5), Some(60.0), WIDE, at(500.0)), mw(0.5));
        assert_eq!(ramp.next(mw(9.0), None, WIDE, at(500.0)), mw(9.0));
    }

    #[test]
    fn a_second_order_within_the_same_second_gets_no_second_step() {
        let mut ramp = Ramp::default();
        told(&mut ramp, mw(0.0), at(0.0));
        told(&mut ramp, mw(1.0), at(10.0));
        assert_eq!(ramp.next(mw(9.0), Some(60.0), WIDE, at(10.0)), mw(1.0));
        assert_eq!(ramp.next(mw(9.0), Some(60.0), WIDE, at(10.5)), mw(1.5));
    }

    #[test]
    fn to_be_told_to_stay_is_no_step() {
        let mut ramp = Ramp::default();
        ramp.measured(Some(mw(0.0)));
        told(&mut ramp, mw(0.0), at(10.0));
        assert_eq!(ramp.next(mw(9.0), Some(60.0), WIDE, at(10.0)), mw(1.0));
    }

    #[test]
    fn a_limit_is_kept_at_once_and_left_by_the_ramp() {
        let mut ramp = Ramp::default();
        told(&mut ramp, mw(50.0), at(0.0));
        let narrow = (mw(-5.0), mw(5.0));
        assert_eq!(ramp.next(mw(5.0), Some(60.0), narrow, at(1.0)), mw(5.0));
        told(&mut ramp, mw(5.0), at(1.0));
        assert_eq!(ramp.next(mw(50.0), Some(60.0), WIDE, at(2.0)), mw(6.0));
    }

    #[test]
    fn what_was_refused_moves_nothing_but_takes_its_time_and_leaves_it_open_where_the_device_is() {
        let mut ramp = Ramp::default();
        told(&mut ramp, mw(0.0), at(0.0));
        ramp.tell(mw(1.0), at(10.0));
        ramp.told(false);
        assert_eq!(ramp.at(), Some(mw(0.0)));
        assert_eq!(ramp.due(), Some(at(11.0)));
        assert_eq!(ramp.sure(), None);
        told(&mut ramp, mw(0.5), at(12.0));
        assert_eq!(ramp.sure(), Some(mw(0.5)));
    }

    #[test]
    fn a_measurement_counts_only_before_the_first_command() {
        let mut ramp = Ramp::default();
        ramp.measured(Some(mw(7.0)));
        assert_eq!(ramp.at(), Some(mw(7.0)));
        told(&mut ramp, mw(0.0), at(0.0));
        ramp.measured(Some(mw(7.0)));
        assert_eq!(ramp.at(), Some(mw(0.0)));
    }
}
