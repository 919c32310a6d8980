//! What a device was told, and how fast it may get there.

use derms_proto::Asset;

/// An order to a simulated device, checked: finite, the ramp above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Command {
    /// MW.
    pub(super) target: f64,
    /// A setpoint, or the way back to the default.
    pub(super) is_setpoint: bool,
    /// MW per minute.
    pub(super) ramp: Option<f64>,
}

/// The order in force and the limits it is kept in.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    /// Lowest power, MW.
    pub(super) min: f64,
    /// Highest power, MW.
    pub(super) max: f64,
    /// What the device may do at most, MW per minute.
    pub(super) own_ramp: Option<f64>,
    /// What it is to do at most now, MW per minute; never above `own_ramp`.
    pub(super) ramp: Option<f64>,
    /// The wanted power, MW.
    pub(super) target: f64,
    /// The setpoint in force, MW.
    pub(super) setpoint: Option<f64>,
}

impl Drive {
    /// At the asset's default.
    pub(super) fn new(asset: &Asset) -> Self {
        Self {
            min: asset.min_mw.mw(),
            max: asset.max_mw.mw(),
            own_ramp: asset.ramp_rate_mw_per_min,
            ramp: asset.ramp_rate_mw_per_min,
            target: asset.default_mw.mw(),
            setpoint: None,
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.target = command.target.min(self.max).max(self.min);
        self.setpoint = command.is_setpoint.then_some(command.target);
        self.ramp = match (self.own_ramp, command.ramp) {
            (Some(own), Some(asked)) => Some(own.min(asked)),
            (own, asked) => own.or(asked),
        };
    }
}

/// The power after `dt` seconds on the way from `from` to `to`; `ramp` in MW per minute.
pub(super) fn approach(from: f64, to: f64, ramp: Option<f64>, dt: f64) -> f64 {
    match ramp {
        None => to,
        Some(ramp) => {
            let step = ramp / 60.0 * dt;
            from + (to - from).clamp(-step, step)
        }
    }
}

/// Energy through the device since it started, MWh.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) taken_in: f64,
    pub(super) given_out: f64,
}

impl Counters {
    pub(super) fn count(&mut self, mw: f64, dt: f64) {
        let energy = mw * dt / 3600.0;
        self.given_out += energy.max(0.0);
        self.taken_in += (-energy).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_ramp_wins_and_is_forgotten_with_the_next_order() {
        let mut drive = Drive {
            min: -10.0,
            max: 10.0,
            own_ramp: Some(6.0),
            ramp: Some(6.0),
            target: 0.0,
            setpoint: None,
        };
        let order = |ramp| Command {
            target: 4.0,
            is_setpoint: true,
            ramp,
        };
        drive.command(order(Some(3.0)));
        assert_eq!(drive.ramp, Some(3.0));
        drive.command(order(Some(9.0)));
        assert_eq!(drive.ramp, Some(6.0));
        drive.command(order(None));
        assert_eq!(drive.ramp, Some(6.0));
        drive.own_ramp = None;
        drive.command(order(Some(9.0)));
        assert_eq!(drive.ramp, Some(9.0));
    }

    #[test]
    fn without_a_ramp_the_target_is_reached_at_once_and_with_one_in_time() {
        assert_eq!(approach(0.0, 5.0, None, 0.0), 5.0);
        assert_eq!(approach(0.0, 5.0, Some(60.0), 0.0), 0.0);
        assert_eq!(approach(0.0, 5.0, Some(60.0), 2.0), 2.0);
        assert_eq!(approach(0.0, -5.0, Some(60.0), 9.0), -5.0);
    }
}
