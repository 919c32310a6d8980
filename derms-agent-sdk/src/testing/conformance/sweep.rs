//! What a device says it is, and where it goes over its whole range.

use std::time::Duration;

use derms_proto::{Availability, Power};
use tokio::time::sleep;

use super::Rule;
use super::follow::{Followed, power};
use super::probe::Probe;
use crate::Reading;

/// How long state of charge and energy are watched.
const WATCH: Duration = Duration::from_secs(5);
/// How much longer is waited for a value that may have been cached.
const CACHE: Duration = Duration::from_secs(60);

impl Probe<'_> {
    /// The title of the report.
    pub(super) async fn describe(&mut self) -> String {
        let asset = &self.kit.asset;
        let Some(info) = self.finish(self.start_describe()).await else {
            return format!("{}: describe gave nothing", asset.name);
        };
        self.notes
            .check(Rule::NamesTheKind, info.kind == asset.kind, || {
                format!("it says {:?}, the asset is {:?}", info.kind, asset.kind)
            });
        let (maker, model) = (&info.manufacturer, &info.model);
        format!("{} ({:?}): {maker} {model}", asset.name, asset.kind)
    }

    /// Whether the device says that it takes orders.
    pub(super) async fn takes_orders(&mut self) -> bool {
        let Some(reading) = self.read().await else {
            return true;
        };
        let takes = reading.availability == Availability::Available;
        self.notes.check(Rule::TakesTheWholeRange, takes, || {
            format!(
                "the device says it is {:?} and takes no orders",
                reading.availability
            )
        });
        takes
    }

    /// The powers to order, each far from the one before.
    fn points(&self) -> Vec<Power> {
        let (min, max) = (self.kit.asset.min_mw, self.kit.asset.max_mw);
        let half = |power: Power| Power::from_mw(power.mw() / 2.0);
        let mut points: Vec<Power> = Vec::new();
        for point in [max, Power::ZERO, min, half(max), half(min), half(min + max)] {
            if self.kit.asset.allows(point) && !points.contains(&point) {
                points.push(point);
            }
        }
        points
    }

    /// The limit that is farther from the default.
    pub(super) fn far(&self) -> Power {
        let asset = &self.kit.asset;
        let distance = |limit: Power| (limit - asset.default_mw).abs();
        if distance(asset.min_mw) > distance(asset.max_mw) {
            asset.min_mw
        } else {
            asset.max_mw
        }
    }

    /// The default and this share of the way from there to the far limit.
    pub(super) fn between(&self, share: f64) -> Power {
        let default = self.kit.asset.default_mw;
        Power::from_mw(default.mw() + share * (self.far() - default).mw())
    }

    /// Orders power over the whole range. Whether readings follow.
    pub(super) async fn sweep(&mut self) -> bool {
        self.go_to_default(Rule::DefaultIsReached).await;
        let mut follows = true;
        for point in self.points() {
            let before = self.measured().await;
            let Some(applied) = self.apply(point, Rule::TakesTheWholeRange).await else {
                continue;
            };
            let ordered = applied.power.unwrap_or(point);
            if !self.plausible(ordered) {
                follows = false;
                let found = format!("apply of {point} was answered with {ordered}");
                self.notes.broken(Rule::AnswerIsTrue, found);
                continue;
            }
            follows &= self.arrives(ordered, before).await;
            if follows {
                self.energy().await;
            }
        }
        follows
    }

    fn plausible(&self, applied: Power) -> bool {
        let (asset, slack) = (&self.kit.asset, self.kit.tolerance);
        applied >= asset.min_mw - slack && applied <= asset.max_mw + slack
    }

    async fn arrives(&mut self, ordered: Power, before: Option<f64>) -> bool {
        let patience = self.patience();
        let tolerance = self.kit.tolerance.mw();
        let (mw, frozen) = match self.follow(ordered, patience).await {
            Followed::Reached(now) => {
                self.notes.kept(Rule::AnswerIsTrue);
                self.notes.kept(Rule::AgeIsTold);
                if ordered.abs().mw() > tolerance && now.abs() > tolerance {
                    self.notes.kept(Rule::SignAndUnit);
                }
                return true;
            }
            Followed::Elsewhere { mw, frozen } => (mw, frozen),
            Followed::TooOld => {
                let found = format!(
                    "no reading within {patience:?} was younger than the order; a device that is \
                     polled more seldom needs a longer Kit::settling"
                );
                self.notes.broken(Rule::AnswerIsTrue, found);
                return false;
            }
            Followed::NoPower => {
                for rule in [Rule::AnswerIsTrue, Rule::SignAndUnit, Rule::AgeIsTold] {
                    self.notes.skip(rule, "the device measures no power");
                }
                return false;
            }
            Followed::Unread => return false,
        };
        let found = format!("{ordered} applied, {mw:.3} MW read after {patience:?}");
        let moved = before.is_none_or(|before| (mw - before).abs() > tolerance);
        let factor = mw / ordered.mw();
        if moved && mw.abs() > tolerance && factor < 0.0 {
            let found = format!("{found}: the sign is wrong");
            self.notes.broken(Rule::SignAndUnit, found);
        } else if let Some(unit) = wrong_unit(factor) {
            self.notes
                .broken(Rule::SignAndUnit, format!("{found}: {unit}"));
        } else if frozen && let Followed::Reached(_) = self.follow(ordered, CACHE).await {
            let found = format!("{found} with age 0; it followed only later");
            self.notes.broken(Rule::AgeIsTold, found);
        } else {
            self.notes.broken(Rule::AnswerIsTrue, found);
        }
        false
    }

    /// Looks whether state of charge and energy counters move the way the power says.
    pub(super) async fn energy(&mut self) {
        let Some(before) = self.read().await else {
            return;
        };
        sleep(WATCH).await;
        let Some(after) = self.read().await else {
            return;
        };
        let (Some(from), Some(to)) = (power(&before), power(&after)) else {
            return;
        };
        let tolerance = self.kit.tolerance.mw();
        if from.abs().min(to.abs()) <= tolerance || from * to < 0.0 {
            return;
        }
        let expected_mwh = (from + to) / 2.0 * WATCH.as_secs_f64() / 3600.0;
        for (name, taken_in_mwh) in self.taken_in(&before, &after) {
            // What is far from it is a sensor's noise or another load behind the same counter.
            let share = -taken_in_mwh / expected_mwh;
            if (0.5..2.0).contains(&share.abs()) {
                self.notes
                    .check(Rule::EnergyAgreesWithSign, share > 0.0, || {
                        format!("{name} shows the opposite of {to:.3} MW")
                    });
            }
        }
        let why = format!("nothing moved measurably within {WATCH:?}");
        self.notes.skip(Rule::EnergyAgreesWithSign, &why);
    }

    /// Energy taken in between two readings, MWh, by each value that tells it.
    fn taken_in(&self, before: &Reading, after: &Reading) -> Vec<(&'static str, f64)> {
        let (before, after) = (&before.measurements, &after.measurements);
        let change = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
        let stored = change(before.soc_pct, after.soc_pct)
            .map(|soc_pct| soc_pct / 100.0 * self.kit.asset.capacity_mwhr);
        let into = change(before.energy_in_mwh, after.energy_in_mwh);
        let out = change(before.energy_out_mwh, after.energy_out_mwh);
        let shown = [
            ("soc_pct", stored),
            ("energy_in_mwh", into),
            ("energy_out_mwh", out.map(|mwh| -mwh)),
        ];
        let told = shown
            .into_iter()
            .filter_map(|(name, mwh)| Some((name, mwh?)));
        told.collect()
    }
}

fn wrong_unit(factor: f64) -> Option<&'static str> {
    let near = |unit: f64| (factor / unit - 1.0).abs() < 0.02;
    if near(1e3) {
        Some("a value in kW is given as MW")
    } else if near(1e6) {
        Some("a value in W is given as MW")
    } else if near(1e-3) || near(1e-6) {
        Some("a value in MW is converted as if it were in kW or W")
    } else {
        None
    }
}
