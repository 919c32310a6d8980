//! Alarms and changes of state: from the device to the report log, not too many of them.

use derms_proto::link::{EventReport, Report};
use derms_proto::{Availability, Severity};

use super::{AssetMachine, Ctx};
use crate::alarm::{BURST, EVERY};
use crate::clock::MonoTime;
use crate::{AgentEvent, Alarm};

/// Most alarms of one device at one time; more are not looked at.
const MOST_ALARMS: usize = 64;

/// What the events of one asset take up, and what of them was left out.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    used: u32,
    since: MonoTime,
    left_out: u64,
}

impl Throttle {
    /// Whether one more may pass.
    fn pass(&mut self, now: MonoTime) -> bool {
        let whole = now.saturating_since(self.since).as_secs() / EVERY.as_secs();
        let back = u32::try_from(whole).unwrap_or(u32::MAX).min(self.used);
        self.used -= back;
        self.since = if self.used == 0 {
            now
        } else {
            self.since + EVERY * back
        };
        let passes = self.used < BURST;
        self.used += u32::from(passes);
        passes
    }
}

/// What the device was told to be in by its last reading.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    active: Vec<Alarm>,
    throttle: Throttle,
}

impl AssetMachine {
    /// The device has raised something; `left_out` before it found no room.
    pub(in super::super) fn raised(&mut self, alarm: Alarm, left_out: u64, ctx: &mut Ctx<'_>) {
        self.alarms.throttle.left_out += left_out;
        if !self.raise(alarm, ctx) {
            self.alarms.throttle.left_out += 1;
        }
    }

    /// These alarms the device has now: tells what is new and what is over. What can't be told now is
    /// told with a later reading, if it is still so.
    pub(super) fn have(&mut self, mut now: Vec<Alarm>, ctx: &mut Ctx<'_>) {
        now.truncate(MOST_ALARMS);
        let mut over = Vec::new();
        for known in std::mem::take(&mut self.alarms.active) {
            if now.iter().any(|alarm| alarm.code == known.code) {
                self.alarms.active.push(known);
            } else {
                over.push(known);
            }
        }
        for alarm in over {
            let cleared = Alarm {
                severity: Severity::Info,
                code: format!("{}_cleared", alarm.code),
                text: format!("over: {}", alarm.text),
            };
            if !self.raise(cleared, ctx) {
                self.alarms.active.push(alarm);
            }
        }
        for alarm in now {
            let known = self
                .alarms
                .active
                .iter()
                .position(|it| it.code == alarm.code);
            let same = known.is_some_and(|at| self.alarms.active[at].severity == alarm.severity);
            if same || !self.raise(alarm.clone(), ctx) {
                continue;
            }
            if let Some(known) = known {
                self.alarms.active.remove(known);
            }
            self.alarms.active.push(alarm);
        }
    }

    /// The device can be read, or can't any more.
    pub(super) fn reads(&mut self, failing: Option<&str>, ctx: &mut Ctx<'_>) {
        let alarm = match failing {
            Some(text) => Alarm::new(Severity::Warning, "read_failed", text),
            None => Alarm::new(Severity::Info, "read_recovered", "the device reads again"),
        };
        self.raised(alarm, 0, ctx);
    }

    /// The device takes orders, or does not: local or maintenance mode.
    pub(super) fn takes_orders(&mut self, availability: Availability, ctx: &mut Ctx<'_>) {
        if !self.was_read || self.read_failing || self.availability == availability {
            return;
        }
        let alarm = match availability {
            Availability::Available => {
                Alarm::new(Severity::Info, "available", "the device takes orders again")
            }
            Availability::ReadOnly => {
                Alarm::new(Severity::Warning, "read_only", "the device takes no orders")
            }
            _ => Alarm::new(
                Severity::Warning,
                "unavailable",
                "the device says it is unavailable",
            ),
        };
        self.raised(alarm, 0, ctx);
    }

    /// Writes an event down. `false`: there are too many.
    fn raise(&mut self, alarm: Alarm, ctx: &mut Ctx<'_>) -> bool {
        // The headend would refuse what is said of it.
        let refused = self.is_refused();
        let throttle = &mut self.alarms.throttle;
        if refused || !ctx.reports.has_room_for_event() || !throttle.pass(ctx.now.mono) {
            return false;
        }
        let asset_id = self.asset.id;
        let mut text = alarm.text;
        let left_out = std::mem::take(&mut throttle.left_out);
        if left_out > 0 {
            text = format!("{text} ({left_out} events before this one were left out)");
        }
        ctx.event(AgentEvent::Raised {
            asset_id,
            severity: alarm.severity,
            code: alarm.code.clone(),
            text: text.clone(),
        });
        let event = EventReport {
            severity: alarm.severity,
            code: alarm.code,
            text,
        };
        ctx.append(asset_id, Report::Event(event));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_in_ten_seconds() {
        let mut throttle = Throttle::default();
        let at = |seconds| MonoTime::from_origin(Duration::from_secs(seconds));
        let passed = |throttle: &mut Throttle, second| {
            (0..100).filter(|_| throttle.pass(at(second))).count()
        };
        assert_eq!(passed(&mut throttle, 1_000), 20);
        assert_eq!(passed(&mut throttle, 1_009), 0);
        assert_eq!(passed(&mut throttle, 1_010), 1);
        assert_eq!(passed(&mut throttle, 1_035), 2);
        assert_eq!(passed(&mut throttle, 1_040), 1);
        assert_eq!(passed(&mut throttle, 9_000), 20);
    }
}
