use derms_proto::{AssetId, SiteId};
use uuid::Uuid;

use super::*;

/// ±10 MW, so a tolerance of 0.4 MW.
fn asset(kind: AssetKind) -> Asset {
    let limit = Power::from_mw(10.0);
    let (id, site) = (
        AssetId::new(Uuid::from_u128(1)),
        SiteId::new(Uuid::from_u128(2)),
    );
    Asset::new(id, "A", site, kind, -limit, limit)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH.saturating_add(Duration::from_secs(1_000 + seconds))
}

fn measured(mw: f64) -> Measurements {
    Measurements {
        mw: Some(Power::from_mw(mw)),
        ..Measurements::default()
    }
}

/// Said yes at second 0.
fn watch(asset: &Asset, target: f64) -> Watch {
    Watch::new(asset, Power::from_mw(target), at(0), &Rules::default()).unwrap()
}

fn battery(target: f64) -> Watch {
    watch(&asset(AssetKind::Battery), target)
}

#[test]
fn nothing_is_said_before_anything_is_measured() {
    assert_eq!(battery(5.0).following(), None);
}

#[test]
fn an_asset_follows_as_soon_as_it_is_within_its_tolerance() {
    let mut watch = battery(5.0);
    assert_eq!(watch.measured(at(1), &measured(5.5)), None);
    assert_eq!(watch.measured(at(2), &measured(5.3)), Some(true));
    assert_eq!(watch.measured(at(3), &measured(5.0)), None, "told once");
    assert_eq!(watch.following(), Some(true));
}

#[test]
fn the_least_tolerance_counts_where_a_share_of_the_range_is_less() {
    let mut small = asset(AssetKind::Battery);
    small.max_mw = Power::from_mw(0.1);
    small.min_mw = Power::from_mw(-0.1);
    assert_eq!(watch(&small, 0.1).tolerance(), Power::from_mw(0.05));
    assert_eq!(battery(5.0).tolerance(), Power::from_mw(0.4));
}

#[test]
fn a_deaf_device_is_found_out_after_the_settling_time_and_not_before() {
    let mut watch = battery(5.0);
    assert_eq!(watch.measured(at(4), &measured(0.0)), None);
    assert_eq!(watch.measured(at(13), &measured(0.0)), None);
    assert_eq!(watch.measured(at(14), &measured(0.0)), Some(false));
    assert_eq!(watch.measured(at(18), &measured(0.0)), None, "told once");
}

#[test]
fn a_ramp_has_its_time_by_the_step_that_was_to_be_made() {
    let mut slow = asset(AssetKind::Battery);
    slow.ramp_rate_mw_per_min = Some(10.0);
    // From -5 to 5 MW takes a minute, from the first measurement on.
    let mut watch = watch(&slow, 5.0);
    assert_eq!(watch.measured(at(4), &measured(-5.0)), None);
    assert_eq!(watch.measured(at(60), &measured(0.0)), None);
    assert_eq!(watch.measured(at(73), &measured(0.0)), None);
    assert_eq!(watch.measured(at(74), &measured(0.0)), Some(false));
    assert_eq!(watch.measured(at(120), &measured(5.0)), Some(true));
}

#[test]
fn an_asset_that_strays_later_has_the_settling_time_to_come_back() {
    let mut watch = battery(5.0);
    watch.measured(at(4), &measured(5.0));
    assert_eq!(watch.measured(at(100), &measured(2.0)), None);
    assert_eq!(
        watch.measured(at(104), &measured(5.0)),
        None,
        "back in time"
    );
    assert_eq!(watch.measured(at(200), &measured(2.0)), None);
    assert_eq!(watch.measured(at(210), &measured(2.0)), Some(false));
    assert_eq!(
        watch.measured(at(214), &measured(5.0)),
        Some(true),
        "by itself"
    );
}

#[test]
fn a_setpoint_is_an_upper_limit_to_what_weather_drives() {
    for kind in [AssetKind::Pv, AssetKind::Wind] {
        let mut watch = watch(&asset(kind), 5.0);
        assert_eq!(watch.measured(at(60), &measured(1.0)), Some(true));
        assert_eq!(watch.measured(at(100), &measured(8.0)), None);
        assert_eq!(watch.measured(at(110), &measured(8.0)), Some(false));
    }
}

#[test]
fn a_charger_without_a_vehicle_follows_and_one_above_its_limit_does_not() {
    let mut watch = watch(&asset(AssetKind::EvCharger), -3.0);
    assert_eq!(watch.measured(at(60), &measured(0.0)), Some(true));
    assert_eq!(watch.measured(at(100), &measured(-6.0)), None);
    assert_eq!(watch.measured(at(110), &measured(-6.0)), Some(false));
}

#[test]
fn a_battery_that_can_give_no_more_does_what_it_can() {
    let mut empty = measured(1.0);
    empty.available_discharge_mw = Some(Power::ZERO);
    assert_eq!(battery(5.0).measured(at(60), &empty), Some(true));
    let mut full = measured(-1.0);
    full.available_charge_mw = Some(Power::ZERO);
    assert_eq!(battery(-5.0).measured(at(60), &full), Some(true));
    // The other direction is no excuse, nor is power that is there.
    let mut wrong_way = measured(-3.0);
    wrong_way.available_discharge_mw = Some(Power::ZERO);
    let mut watch = battery(5.0);
    watch.measured(at(60), &wrong_way);
    assert_eq!(watch.measured(at(70), &wrong_way), Some(false));
    let mut able = measured(1.0);
    able.available_discharge_mw = Some(Power::from_mw(9.0));
    let mut watch = battery(5.0);
    watch.measured(at(60), &able);
    assert_eq!(watch.measured(at(70), &able), Some(false));
}

#[test]
fn a_device_that_is_starting_has_its_ramp_before_it_and_a_curtailed_one_does_what_it_may() {
    let mut starting = measured(0.0);
    starting.status = Some(DeviceStatus::Starting);
    let mut watch = watch(&asset(AssetKind::Genset), 5.0);
    assert_eq!(watch.measured(at(4), &starting), None);
    assert_eq!(watch.measured(at(40), &starting), None);
    assert_eq!(watch.measured(at(49), &measured(0.0)), None);
    assert_eq!(watch.measured(at(50), &measured(0.0)), Some(false));
    let mut curtailed = measured(2.0);
    curtailed.status = Some(DeviceStatus::Curtailed);
    assert_eq!(battery(5.0).measured(at(60), &curtailed), Some(true));
}

#[test]
fn what_is_old_wrong_or_without_a_power_tells_nothing() {
    let mut watch = battery(5.0);
    assert_eq!(
        watch.measured(at(0), &measured(5.0)),
        None,
        "before the yes"
    );
    let mut bad = measured(5.0);
    bad.quality = Quality::Bad;
    assert_eq!(watch.measured(at(5), &bad), None);
    assert_eq!(watch.measured(at(5), &Measurements::default()), None);
    assert_eq!(watch.measured(at(5), &measured(f64::NAN)), None);
    assert_eq!(watch.measured(at(5), &measured(5.0)), Some(true));
    assert_eq!(
        watch.measured(at(4), &measured(0.0)),
        None,
        "a late backfill"
    );
}

#[test]
fn a_meter_follows_nothing() {
    let meter = asset(AssetKind::Meter);
    assert_eq!(
        Watch::new(&meter, Power::ZERO, at(0), &Rules::default()),
        None
    );
}

#[test]
fn a_limit_moves_what_the_asset_is_held_to_and_gives_it_time() {
    let asset = asset(AssetKind::Battery);
    let mut watch = Watch::new(&asset, Power::from_mw(8.0), at(0), &Rules::default()).unwrap();
    assert_eq!(watch.measured(at(4), &measured(8.0)), Some(true));
    let range = Some((Power::from_mw(-10.0), Power::from_mw(3.0)));
    watch.limited(range);
    assert_eq!(
        watch.measured(at(8), &measured(3.0)),
        None,
        "it still follows"
    );
    watch.limited(range);
    assert_eq!(watch.measured(at(12), &measured(8.0)), None);
    watch.limited(range);
    assert_eq!(
        watch.measured(at(30), &measured(8.0)),
        Some(false),
        "it is beyond the limit"
    );
    watch.limited(None);
    assert_eq!(watch.measured(at(34), &measured(8.0)), Some(true));
}

#[test]
fn the_slower_ramp_of_asset_and_order_counts() {
    let asset = asset(AssetKind::Battery);
    let watch = Watch::new(&asset, Power::from_mw(6.0), at(0), &Rules::default());
    let mut watch = watch.unwrap().ramping(Some(6.0));
    assert_eq!(watch.measured(at(4), &measured(0.0)), None);
    assert_eq!(watch.measured(at(60), &measured(3.0)), None, "on its way");
    assert_eq!(watch.measured(at(80), &measured(3.0)), Some(false), "stuck");
}

#[test]
fn what_the_device_said_it_applies_is_following_too_while_nothing_limits_it() {
    let asset = asset(AssetKind::Battery);
    let watch = Watch::new(&asset, Power::from_mw(6.0), at(0), &Rules::default());
    let mut watch = watch.unwrap().saying(Some(Power::from_mw(5.0)));
    assert_eq!(watch.measured(at(4), &measured(5.0)), Some(true));
}
