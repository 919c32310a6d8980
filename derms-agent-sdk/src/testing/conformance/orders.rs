//! The parts of the kit about one order: repeated, ramped, and at its end.

use std::time::Duration;

use derms_proto::{DispatchId, Power};
use tokio::time::{Instant, sleep};

use super::probe::Probe;
use super::{Response, Rule};
use crate::{AdapterErrorKind, Setpoint};

/// Why nothing is known of the power.
const UNSEEN: &str = "its readings do not follow the orders";

impl Probe<'_> {
    /// Orders the same power again and again.
    pub(super) async fn repeat(&mut self, follows: bool) {
        let point = self.between(0.5);
        let rule = Rule::RepeatChangesNothing;
        if !follows {
            self.notes.undecided(rule, UNSEEN);
        }
        let Some(first) = self.apply(point, Rule::TakesTheWholeRange).await else {
            return;
        };
        let ordered = first.power.unwrap_or(point);
        if follows {
            let patience = self.patience();
            self.follow(ordered, patience).await;
        }
        let before = self.measured().await;
        for _ in 0..3 {
            let Some(again) = self.apply(point, rule).await else {
                return;
            };
            let same = match (first.power, again.power) {
                (Some(first), Some(again)) => (first - again).abs() <= self.kit.tolerance,
                _ => true,
            };
            self.notes.check(rule, same, || {
                format!(
                    "{point} was answered with {}, then with {}",
                    shown(first.power),
                    shown(again.power)
                )
            });
            sleep(Duration::from_secs(1)).await;
            if follows && let (Some(before), Some(now)) = (before, self.measured().await) {
                let still = match self.kit.response {
                    Response::Follows => (now - before).abs() <= self.kit.tolerance.mw(),
                    Response::Limits => self.keeps(now, ordered.mw()),
                };
                self.notes.check(rule, still, || {
                    format!("repeating {point} moved it from {before:.3} to {now:.3} MW")
                });
            }
        }
    }

    /// Orders a gentle ramp and looks that it is kept at the start.
    pub(super) async fn ramp(&mut self, follows: bool) {
        let rule = Rule::RampIsKept;
        if self.kit.response == Response::Limits {
            self.notes.skip(rule, "more than the setpoint moves it");
            return;
        }
        if !follows {
            self.notes.skip(rule, UNSEEN);
            return;
        }
        let default = self.kit.asset.default_mw;
        self.go_to_default(Rule::DefaultRepeats).await;
        let patience = self.patience();
        self.follow(default, patience).await;
        let Some(start) = self.measured().await else {
            return;
        };
        let distance = (self.far().mw() - start).abs();
        if distance < 20.0 * self.kit.tolerance.mw() {
            self.notes.skip(rule, "the range is too narrow");
            return;
        }
        // The whole way in a minute.
        let ramp = distance;
        let mut setpoint = Setpoint::new(self.far());
        setpoint.ramp_mw_per_min = Some(ramp);
        let since = Instant::now();
        match self.answer(self.start_apply(setpoint)).await {
            Some(Err(error)) if error.kind == AdapterErrorKind::Unsupported => {
                self.notes.kept(rule);
                return;
            }
            Some(Err(error)) => {
                let found =
                    format!("a setpoint with a ramp was refused, not as unsupported: {error}");
                self.notes.broken(rule, found);
                return;
            }
            Some(Ok(_)) => {}
            None => return,
        }
        while since.elapsed() < Duration::from_secs(5) {
            let Some(now) = self.measured().await else {
                return;
            };
            // A second more, for what the device and the line may lag.
            let allowed = ramp / 60.0 * (since.elapsed().as_secs_f64() + 1.0);
            let moved = (now - start).abs();
            let kept = moved <= allowed + self.kit.tolerance.mw();
            self.notes.check(rule, kept, || {
                let after = since.elapsed();
                format!("{moved:.3} MW in {after:.1?} with a ramp of {ramp:.3} MW/min")
            });
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// An order with a lease, its end, and the end again.
    pub(super) async fn lease_end(&mut self, follows: bool) {
        if !follows {
            self.notes.undecided(Rule::DefaultIsReached, UNSEEN);
        }
        let default = self.kit.asset.default_mw;
        let lease = Duration::from_secs(1);
        let mut setpoint = Setpoint::new(self.far());
        setpoint.dispatch_id = Some(DispatchId::generate());
        setpoint.remaining = Some(lease);
        let started = self.start_apply(setpoint);
        let what = "apply with a lease";
        let taken = self.taken(started, Rule::TakesTheWholeRange, what).await;
        if let (Some(applied), true) = (taken, follows) {
            let patience = self.patience();
            let ordered = applied.power.unwrap_or(self.far());
            self.follow(ordered, patience).await;
        }
        sleep(lease).await;
        if self.go_to_default(Rule::DefaultIsReached).await.is_none() {
            return;
        }
        if follows && let Err(where_it_is) = self.stays(default).await {
            let found = format!("go_to_default({default}) answered Ok, but {where_it_is}");
            self.notes.broken(Rule::DefaultIsReached, found);
            return;
        }
        self.no_setpoint_left().await;
        for _ in 0..2 {
            if self.go_to_default(Rule::DefaultRepeats).await.is_none() {
                return;
            }
        }
        if follows && let Err(where_it_is) = self.stays(default).await {
            let found = format!("after it was repeated, {where_it_is}");
            self.notes.broken(Rule::DefaultRepeats, found);
        }
    }

    async fn no_setpoint_left(&mut self) {
        let since = Instant::now();
        loop {
            let Some(reading) = self.read().await else {
                return;
            };
            match reading.measurements.setpoint_mw {
                None => return,
                Some(left) if since.elapsed() >= self.kit.settling => {
                    let found = format!("read still tells a setpoint of {left}");
                    self.notes.broken(Rule::DefaultIsReached, found);
                    return;
                }
                Some(_) => sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

fn shown(power: Option<Power>) -> String {
    power.map_or_else(|| "no power".into(), |power| power.to_string())
}
