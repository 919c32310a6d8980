//! The kit on adapters that are right: the simulators, and a device that waits for its line.

mod bench;
mod broken;

use std::time::Duration;

use derms_proto::{Asset, AssetKind, Power, Timestamp};

use self::bench::{Bench, Fault};
use super::{Kit, Outcome, Report, Response, Rule, check};
use crate::Reading;
use crate::sim::SimulatedDevice;
use crate::testing::{Call, ScriptedAdapter, asset};

fn simulated(kind: AssetKind, min: f64, max: f64) -> Asset {
    let mut simulated = asset(1);
    simulated.kind = kind;
    simulated.min_mw = Power::from_mw(min);
    simulated.max_mw = Power::from_mw(max);
    simulated.default_mw = Asset::default_power(kind, simulated.min_mw, simulated.max_mw);
    simulated.ramp_rate_mw_per_min = Some(60.0);
    if kind != AssetKind::Battery {
        simulated.capacity_mwhr = 0.0;
    }
    simulated
}

async fn passes(asset: &Asset, undecided: &[Rule]) {
    for seed in 0..4 {
        let noon: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let open = async || SimulatedDevice::starting_at(asset, seed, noon);
        let report = check(asset, open).await;
        report.assert_passed();
        assert_eq!(open_rules(&report), undecided, "{report}");
    }
}

fn open_rules(report: &Report) -> Vec<Rule> {
    let open = report
        .rules()
        .iter()
        .filter(|checked| matches!(checked.outcome, Outcome::NotApplicable { .. }));
    open.map(|checked| checked.rule).collect()
}

/// What no simulated device that takes orders can show: its calls never wait and never fail, and it
/// raises nothing.
const NEVER_WAITS: [Rule; 6] = [
    Rule::ReadOnlyRefuses,
    Rule::DroppedCallDisturbsNothing,
    Rule::FailureIsTold,
    Rule::ErrorsSayWhat,
    Rule::EventsSayWhat,
    Rule::EventsAreFew,
];

fn and(more: &[Rule]) -> Vec<Rule> {
    let mut rules = [&NEVER_WAITS, more].concat();
    rules.sort();
    rules
}

#[tokio::test(start_paused = true)]
async fn the_simulated_battery_passes() {
    passes(&simulated(AssetKind::Battery, -10.0, 10.0), &NEVER_WAITS).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_pv_plant_passes() {
    let asset = simulated(AssetKind::Pv, 0.0, 8.0);
    passes(&asset, &and(&[Rule::RampIsKept])).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_genset_passes() {
    passes(&simulated(AssetKind::Genset, 0.0, 8.0), &NEVER_WAITS).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_source_passes() {
    passes(&simulated(AssetKind::Other, -2.0, 8.0), &NEVER_WAITS).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_wind_park_and_charger_pass_whatever_the_weather_and_the_vehicles_do() {
    let wind = simulated(AssetKind::Wind, 0.0, 8.0);
    let mut charger = simulated(AssetKind::EvCharger, -0.3, 0.0);
    charger.default_mw = charger.min_mw;
    for asset in [wind, charger] {
        for hour in 0..24 {
            let time: Timestamp = format!("2026-06-01T{hour:02}:00:00Z").parse().unwrap();
            let open = async || SimulatedDevice::starting_at(&asset, 3, time);
            check(&asset, open).await.assert_passed();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_meter_passes_what_concerns_it() {
    let asset = simulated(AssetKind::Meter, 0.0, 0.0);
    let report = check(&asset, async || SimulatedDevice::new(&asset, 1)).await;
    report.assert_passed();
    assert_eq!(*report.outcome(Rule::ReadOnlyRefuses), Outcome::Passed);
    assert_eq!(*report.outcome(Rule::EnergyAgreesWithSign), Outcome::Passed);
    assert!(open_rules(&report).contains(&Rule::TakesTheWholeRange));
}

#[tokio::test(start_paused = true)]
async fn a_right_adapter_that_waits_for_its_line_passes_every_rule() {
    let kit = Kit::new(&asset(1)).failing("unplugged", || async { Bench::unplugged(Fault::None) });
    let report = kit.check(async || Bench::with(Fault::None)).await;
    report.assert_passed();
    assert_eq!(open_rules(&report), [Rule::ReadOnlyRefuses], "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_tells_its_age_passes_if_it_is_given_the_time() {
    let open = async || Bench::with(Fault::CachesWithAge);
    let kit = Kit::new(&asset(1));
    let hasty = kit.check(open).await;
    assert_eq!(hasty.failed().next(), Some(Rule::AnswerIsTrue), "{hasty}");
    let kit = kit.settling(Duration::from_secs(30));
    kit.check(open).await.assert_passed();
}

#[tokio::test]
async fn the_kit_works_on_real_time_too() {
    let kit = Kit::new(&asset(1)).failing("unplugged", || async { Bench::unplugged(Fault::None) });
    let report = kit.check(async || Bench::with(Fault::None)).await;
    report.assert_passed();
    assert_eq!(open_rules(&report), [Rule::ReadOnlyRefuses], "{report}");
}

#[tokio::test(start_paused = true)]
async fn every_part_leaves_the_device_at_its_default_whatever_it_found() {
    let device = ScriptedAdapter::new();
    device.reads_as(Ok(Reading::of_power(Power::from_mw(7.0))));
    let report = check(&asset(1), async || device.clone()).await;
    assert!(report.failed().next().is_some());
    let calls = device.calls();
    let leased = calls
        .iter()
        .position(|call| matches!(call, Call::Apply(setpoint) if setpoint.remaining.is_some()));
    let before = &calls[leased.expect("the end of a lease is a part") - 1];
    assert_eq!(*before, Call::GoToDefault(Power::ZERO));
    assert_eq!(calls.last(), Some(&Call::GoToDefault(Power::ZERO)));
}

#[tokio::test(start_paused = true)]
async fn a_reading_from_before_the_order_proves_nothing() {
    let pv = simulated(AssetKind::Pv, 0.0, 8.0);
    let old = Reading::of_power(Power::ZERO).aged(Duration::from_secs(3600));
    let device = ScriptedAdapter::new();
    device.reads_as(Ok(old));
    let report = check(&pv, async || device.clone()).await;
    assert!(
        report.failed().any(|rule| rule == Rule::AnswerIsTrue),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_adapter_without_a_power_is_judged_by_what_it_answers() {
    let device = async || {
        let device = ScriptedAdapter::new();
        device.reads_as(Ok(Reading::default()));
        device
    };
    let report = check(&asset(1), device).await;
    report.assert_passed();
    let open = open_rules(&report);
    for unseen in [
        Rule::AnswerIsTrue,
        Rule::RepeatChangesNothing,
        Rule::DefaultIsReached,
    ] {
        assert!(open.contains(&unseen), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept_from_zero_to_the_setpoint_and_not_beyond() {
    let pv = simulated(AssetKind::Pv, 0.0, 8.0);
    let reads = |mw: f64| {
        async move || {
            let device = ScriptedAdapter::new();
            device.reads_as(Ok(Reading::of_power(Power::from_mw(mw))));
            device
        }
    };
    let dark = Kit::new(&pv).check(reads(0.0)).await;
    assert_eq!(*dark.outcome(Rule::AnswerIsTrue), Outcome::Passed);
    let unmoved = Kit::new(&pv).check(reads(3.0)).await;
    assert!(unmoved.failed().any(|rule| rule == Rule::AnswerIsTrue));
    let follows = Kit::new(&pv).response(Response::Follows);
    let dark = follows.check(reads(0.0)).await;
    assert!(dark.failed().any(|rule| rule == Rule::AnswerIsTrue));
}
