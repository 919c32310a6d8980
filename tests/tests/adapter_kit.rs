//! The adapter kit on what the project hands out: the vendor's example and the sample fleet.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use derms_agent_sdk::sim::SimulatedDevice;
use derms_agent_sdk::testing::conformance::{Outcome, Rule, check};
use derms_proto::{Fleet, Timestamp};

#[path = "../../examples/examples/vendor_adapter.rs"]
#[expect(dead_code, reason = "its program is not run here")]
mod vendor_adapter;

fn fleet() -> Fleet {
    Fleet::load(derms_tests::root().join("assets.yaml")).expect("the sample fleet is right")
}

#[tokio::test(start_paused = true)]
async fn the_vendors_example_passes() {
    let asset = fleet().assets()[0].clone();
    let report = check(&asset, async || vendor_adapter::Inverter::default()).await;
    report.assert_passed();
    for rule in [Rule::SignAndUnit, Rule::AnswerIsTrue, Rule::RampIsKept] {
        assert_eq!(*report.outcome(rule), Outcome::Passed, "{report}");
    }
}

#[test]
fn the_vendors_example_has_less_than_60_lines() {
    let lines = include_str!("../../examples/examples/vendor_adapter.rs").lines();
    assert!(lines.count() < 60);
}

#[tokio::test(start_paused = true)]
async fn every_simulated_asset_of_the_sample_fleet_passes() {
    for asset in fleet().assets() {
        for hour in [0, 6, 12, 18] {
            let time: Timestamp = format!("2026-06-01T{hour:02}:00:00Z").parse().unwrap();
            let open = async || SimulatedDevice::starting_at(asset, 1, time);
            check(asset, open).await.assert_passed();
        }
    }
}
