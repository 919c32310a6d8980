//! What holds for every simulated device.

use std::time::Duration;

use derms_proto::{
    Asset, AssetKind, Availability, Detail, DeviceStatus, Measurements, Power, Timestamp,
};
use tokio::time::advance;

use super::SimulatedDevice;
use crate::{AdapterErrorKind, DerAdapter, Setpoint};

const KINDS: [AssetKind; 7] = [
    AssetKind::Battery,
    AssetKind::Pv,
    AssetKind::Wind,
    AssetKind::EvCharger,
    AssetKind::Meter,
    AssetKind::Genset,
    AssetKind::Other,
];

fn asset(kind: AssetKind, n: u8) -> Asset {
    let (min, max) = match kind {
        AssetKind::EvCharger => (-0.3, 0.0),
        AssetKind::Pv | AssetKind::Wind | AssetKind::Genset => (0.0, 8.0),
        AssetKind::Meter => (0.0, 0.0),
        _ => (-10.0, 10.0),
    };
    let mut asset = Asset::new(
        format!("7ba7b810-9dad-11d1-80b4-00c04fd430{n:02x}")
            .parse()
            .unwrap(),
        format!("{kind:?}-{n}"),
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
        kind,
        Power::from_mw(min),
        Power::from_mw(max),
    );
    if kind == AssetKind::Battery {
        asset.capacity_mwhr = 5.0;
        asset.efficiency = 0.88;
        asset.min_soc_pct = 10.0;
        asset.max_soc_pct = 90.0;
    }
    if kind == AssetKind::EvCharger {
        asset.default_mw = asset.min_mw;
    }
    asset
}

fn device(asset: &Asset, seed: u64, time: &str) -> SimulatedDevice {
    SimulatedDevice::starting_at(asset, seed, format!("2026-06-01T{time}Z").parse().unwrap())
}

async fn read(device: &SimulatedDevice) -> Measurements {
    let measured = device.read().await.unwrap().measurements;
    assert_eq!(measured.non_finite(), None, "{measured:?}");
    measured
}

fn mw(measured: &Measurements) -> f64 {
    measured.mw.unwrap().mw()
}

fn number(measured: &Measurements, name: &str) -> f64 {
    match measured.details[name] {
        Detail::Number(number) => number,
        ref other => panic!("{name} is {other:?}"),
    }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// What energy and time allow beyond the ramp itself: the resolution of the values.
const RESOLUTION: f64 = 2e-6;

async fn order(device: &SimulatedDevice, mw: f64, ramp: Option<f64>) {
    let mut setpoint = Setpoint::new(Power::from_mw(mw));
    setpoint.ramp_mw_per_min = ramp;
    device.apply(&setpoint).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_day_of_random_orders_keeps_every_device_inside_its_bounds() {
    for kind in KINDS {
        for seed in 0..4 {
            let mut asset = asset(kind, 1);
            asset.ramp_rate_mw_per_min = (seed % 2 == 0).then_some(4.0);
            let device = device(&asset, seed, "00:00:00");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut last = read(&device).await;
            for _ in 0..1500 {
                if random.u8(..) < 40 && kind != AssetKind::Meter {
                    let span = (asset.max_mw - asset.min_mw).mw();
                    let ramp = random.bool().then(|| 0.2 + 10.0 * random.f64());
                    order(&device, asset.min_mw.mw() + span * random.f64(), ramp).await;
                }
                if random.u8(..) < 10 {
                    device.go_to_default(asset.default_mw).await.unwrap();
                }
                let dt = if random.bool() {
                    4.0
                } else {
                    0.1 + 120.0 * random.f64()
                };
                advance(seconds(dt)).await;
                let now = read(&device).await;
                if kind != AssetKind::Meter {
                    assert!(asset.allows(now.mw.unwrap()), "{kind:?}: {now:?}");
                }
                if let Some(soc) = now.soc_pct {
                    assert!((10.0..=90.0).contains(&soc), "{soc}");
                }
                for counter in [
                    (last.energy_in_mwh, now.energy_in_mwh),
                    (last.energy_out_mwh, now.energy_out_mwh),
                ] {
                    assert!(
                        counter.0 <= counter.1,
                        "a counter ran backwards: {counter:?}"
                    );
                }
                for headroom in [now.available_charge_mw, now.available_discharge_mw] {
                    assert!(headroom.is_none_or(|h| h >= Power::ZERO), "{now:?}");
                }
                if let Some(ramp) = asset.ramp_rate_mw_per_min {
                    let moved = (mw(&now) - mw(&last)).abs();
                    // Weather is no ramp: what a plant has available may move by itself.
                    let weather = match kind {
                        AssetKind::Pv | AssetKind::Wind => {
                            (available(&now) - available(&last)).abs()
                        }
                        AssetKind::Meter => f64::INFINITY,
                        _ => 0.0,
                    };
                    assert!(
                        moved <= ramp / 60.0 * dt + weather + RESOLUTION,
                        "{kind:?} moved by {moved} MW in {dt} s\n{last:?}\n{now:?}"
                    );
                }
                last = now;
            }
        }
    }
}

fn available(measured: &Measurements) -> f64 {
    mw(measured) + measured.available_discharge_mw.unwrap().mw()
}

#[tokio::test(start_paused = true)]
async fn the_stored_energy_is_what_went_in_less_what_went_out_and_the_losses() {
    let asset = asset(AssetKind::Battery, 1);
    let device = device(&asset, 3, "00:00:00");
    let one_way = asset.efficiency.sqrt();
    let start = read(&device).await;
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..500 {
        order(&device, -10.0 + 20.0 * random.f64(), None).await;
        advance(seconds(1.0 + 600.0 * random.f64())).await;
        let now = read(&device).await;
        let stored = (now.soc_pct.unwrap() - start.soc_pct.unwrap()) / 100.0 * asset.capacity_mwhr;
        let balance = now.energy_in_mwh.unwrap() * one_way - now.energy_out_mwh.unwrap() / one_way;
        assert!(
            (stored - balance).abs() < 1e-4,
            "stored {stored}, balance {balance}"
        );
    }
    let end = read(&device).await;
    assert!(end.energy_in_mwh.unwrap() > 5.0 && end.energy_out_mwh.unwrap() > 5.0);
}

#[tokio::test(start_paused = true)]
async fn the_counters_are_the_integral_of_the_power() {
    let device = device(&asset(AssetKind::Battery, 1), 3, "00:00:00");
    order(&device, 6.0, None).await;
    advance(seconds(600.0)).await;
    order(&device, -3.0, None).await;
    advance(seconds(1200.0)).await;
    let end = read(&device).await;
    assert_eq!(end.energy_out_mwh, Some(1.0));
    assert_eq!(end.energy_in_mwh, Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_battery_stops_within_its_ramp_at_its_bounds_and_says_so() {
    let mut asset = asset(AssetKind::Battery, 1);
    asset.ramp_rate_mw_per_min = Some(2.0);
    for (target, bound) in [(10.0, 10.0), (-10.0, 90.0)] {
        let device = device(&asset, 3, "00:00:00");
        order(&device, target, None).await;
        let mut last = 0.0;
        for _ in 0..7200 {
            advance(seconds(1.0)).await;
            let power = mw(&read(&device).await);
            assert!(
                (power - last).abs() <= 2.0 / 60.0 + RESOLUTION,
                "{last} to {power}"
            );
            last = power;
        }
        let end = read(&device).await;
        assert_eq!(mw(&end), 0.0);
        assert_eq!(end.status, Some(DeviceStatus::Standby));
        assert!(
            (end.soc_pct.unwrap() - bound).abs() < 0.01,
            "{:?}",
            end.soc_pct
        );
        let applied = device
            .apply(&Setpoint::new(Power::from_mw(target)))
            .await
            .unwrap();
        assert_eq!(applied.power, Some(Power::ZERO));
        assert!(applied.text.unwrap().contains("state of charge"));
    }
}

#[tokio::test(start_paused = true)]
async fn power_moves_at_the_tighter_of_the_two_ramps() {
    let mut asset = asset(AssetKind::Battery, 1);
    asset.capacity_mwhr = 100.0;
    asset.ramp_rate_mw_per_min = Some(6.0);
    let device = device(&asset, 1, "12:00:00");
    for (ramp, after_10_s) in [(None, 1.0), (Some(3.0), 0.5), (Some(60.0), 1.0)] {
        order(&device, 0.0, None).await;
        advance(seconds(600.0)).await;
        order(&device, 5.0, ramp).await;
        assert_eq!(mw(&read(&device).await), 0.0);
        advance(seconds(10.0)).await;
        assert!((mw(&read(&device).await) - after_10_s).abs() < RESOLUTION);
    }
}

#[tokio::test(start_paused = true)]
async fn the_setpoint_is_shown_only_while_one_is_in_force() {
    for kind in [
        AssetKind::Battery,
        AssetKind::Pv,
        AssetKind::Genset,
        AssetKind::Other,
    ] {
        let asset = asset(kind, 1);
        let device = device(&asset, 1, "12:00:00");
        assert_eq!(read(&device).await.setpoint_mw, None);
        order(&device, 3.0, None).await;
        assert_eq!(read(&device).await.setpoint_mw, Some(Power::from_mw(3.0)));
        device.go_to_default(asset.default_mw).await.unwrap();
        assert_eq!(read(&device).await.setpoint_mw, None, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pv_is_zero_at_night_and_below_what_is_available_when_curtailed() {
    let asset = asset(AssetKind::Pv, 1);
    let dark = device(&asset, 1, "22:00:00");
    let night = read(&dark).await;
    assert_eq!(
        (mw(&night), number(&night, "irradiance_w_per_m2")),
        (0.0, 0.0)
    );
    assert_eq!(night.status, Some(DeviceStatus::Standby));

    let sunny = device(&asset, 1, "12:00:00");
    let free = read(&sunny).await;
    assert!(mw(&free) > 2.0, "{free:?}");
    assert_eq!(free.status, Some(DeviceStatus::Running));
    order(&sunny, 1.5, None).await;
    let curtailed = read(&sunny).await;
    assert_eq!(mw(&curtailed), 1.5);
    assert_eq!(curtailed.status, Some(DeviceStatus::Curtailed));
    assert!(available(&curtailed) > 2.0);
    // A limit above what there is changes nothing.
    order(&sunny, 8.0, None).await;
    assert_eq!(mw(&read(&sunny).await), mw(&free));
}

#[tokio::test(start_paused = true)]
async fn a_curtailment_bites_at_once_from_what_is_produced() {
    let mut asset = asset(AssetKind::Pv, 1);
    asset.ramp_rate_mw_per_min = Some(60.0);
    let device = device(&asset, 1, "08:00:00");
    let free = mw(&read(&device).await);
    assert!(free < 6.0);
    order(&device, 0.0, None).await;
    advance(seconds(1.0)).await;
    assert!((mw(&read(&device).await) - (free - 1.0)).abs() < 1e-3);
    // The same order again changes nothing on its way.
    order(&device, 0.0, None).await;
    advance(seconds(1.0)).await;
    assert!((mw(&read(&device).await) - (free - 2.0)).abs() < 1e-3);
}

#[tokio::test(start_paused = true)]
async fn wind_varies_and_follows_a_limit() {
    let asset = asset(AssetKind::Wind, 1);
    let device = device(&asset, 5, "00:00:00");
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for _ in 0..288 {
        advance(seconds(300.0)).await;
        let power = mw(&read(&device).await);
        low = low.min(power);
        high = high.max(power);
    }
    assert!(high - low > 3.0, "{low} to {high} MW in a day");
    order(&device, 0.25, None).await;
    for _ in 0..100 {
        advance(seconds(60.0)).await;
        assert!(mw(&read(&device).await) <= 0.25);
    }
}

#[tokio::test(start_paused = true)]
async fn a_charger_draws_only_while_a_vehicle_is_there_and_keeps_to_its_limit() {
    let asset = asset(AssetKind::EvCharger, 1);
    let device = device(&asset, 2, "00:00:00");
    let (mut charging, mut idle, mut limited) = (0, 0, 0);
    for minute in 0..1440 {
        if minute == 720 {
            order(&device, -0.1, None).await;
        }
        advance(seconds(60.0)).await;
        let now = read(&device).await;
        let connected = now.details["vehicle_connected"] == Detail::Flag(true);
        assert!(connected || mw(&now) == 0.0, "{now:?}");
        assert!(minute < 720 || mw(&now) >= -0.1);
        charging += u32::from(mw(&now) < -0.12);
        idle += u32::from(!connected);
        limited += u32::from(now.status == Some(DeviceStatus::Curtailed));
    }
    assert!(
        charging > 60 && idle > 60 && limited > 60,
        "{charging} {idle} {limited}"
    );
    let refused = device
        .apply(&Setpoint::new(Power::from_mw(0.1)))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, AdapterErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_meter_measures_consumption_and_refuses_setpoints() {
    let asset = asset(AssetKind::Meter, 1);
    let device = device(&asset, 1, "18:00:00");
    let reading = device.read().await.unwrap();
    assert_eq!(reading.availability, Availability::ReadOnly);
    assert!(mw(&reading.measurements) < 0.0);
    assert_eq!(reading.measurements.soc_pct, None);
    let refused = device.apply(&Setpoint::new(Power::ZERO)).await.unwrap_err();
    assert_eq!(refused.kind, AdapterErrorKind::Unsupported);
    // The agent repeats this until it succeeds, so it must.
    device.go_to_default(Power::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_genset_needs_its_time_to_start_and_holds_its_least_load() {
    let asset = asset(AssetKind::Genset, 1);
    let device = device(&asset, 1, "12:00:00");
    assert_eq!(read(&device).await.status, Some(DeviceStatus::Off));
    let applied = device
        .apply(&Setpoint::new(Power::from_mw(1.0)))
        .await
        .unwrap();
    assert_eq!(applied.power, Some(Power::from_mw(8.0 * 0.3)));
    advance(seconds(10.0)).await;
    let starting = read(&device).await;
    assert_eq!(
        (mw(&starting), starting.status),
        (0.0, Some(DeviceStatus::Starting))
    );
    advance(seconds(25.0)).await;
    let running = read(&device).await;
    assert!((mw(&running) - 2.4).abs() < RESOLUTION, "{running:?}");
    device.go_to_default(Power::ZERO).await.unwrap();
    advance(seconds(5.0)).await;
    let off = read(&device).await;
    assert_eq!((mw(&off), off.status), (0.0, Some(DeviceStatus::Off)));
}

#[tokio::test(start_paused = true)]
async fn one_that_stores_and_can_charge_is_a_battery_and_shows_no_charge_otherwise() {
    let mut other = asset(AssetKind::Other, 1);
    assert_eq!(read(&device(&other, 1, "12:00:00")).await.soc_pct, None);
    other.capacity_mwhr = 5.0;
    assert!(read(&device(&other, 1, "12:00:00")).await.soc_pct.is_some());
    assert_eq!(
        device(&other, 1, "12:00:00").describe().kind,
        AssetKind::Other
    );
}

async fn series(asset: &Asset, seed: u64) -> Vec<Measurements> {
    let device = device(asset, seed, "11:00:00");
    let mut series = Vec::new();
    for _ in 0..200 {
        advance(seconds(4.0)).await;
        series.push(read(&device).await);
    }
    series
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_series_and_another_asset_or_seed_another() {
    for kind in KINDS {
        let base = series(&asset(kind, 1), 7).await;
        assert_eq!(base, series(&asset(kind, 1), 7).await, "{kind:?}");
        assert_ne!(base, series(&asset(kind, 1), 8).await, "{kind:?}");
        assert_ne!(base, series(&asset(kind, 2), 7).await, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_asset_that_no_fleet_would_hold_gives_no_nan_and_no_panic() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -1e300,
        0.0,
        1e300,
    ];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let mut value = || odd[random.usize(..odd.len())];
        for kind in KINDS {
            let mut asset = asset(kind, 1);
            asset.max_mw = Power::from_mw(value());
            asset.min_mw = Power::from_mw(value());
            asset.default_mw = Power::from_mw(value());
            asset.capacity_mwhr = value();
            asset.efficiency = value();
            asset.ramp_rate_mw_per_min = Some(value());
            asset.min_soc_pct = value();
            asset.max_soc_pct = value();
            let device = SimulatedDevice::starting_at(&asset, 1, Timestamp::MAX);
            advance(seconds(5.0)).await;
            let _ = device.apply(&Setpoint::new(Power::from_mw(value()))).await;
            advance(seconds(5.0)).await;
            let _ = device.read().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_no_number_is_an_error() {
    let device = device(&asset(AssetKind::Battery, 1), 1, "12:00:00");
    let mut setpoint = Setpoint::new(Power::from_mw(f64::NAN));
    assert!(device.apply(&setpoint).await.is_err());
    setpoint = Setpoint::new(Power::from_mw(1.0));
    setpoint.ramp_mw_per_min = Some(0.0);
    assert!(device.apply(&setpoint).await.is_err());
    assert_eq!(read(&device).await.setpoint_mw, None);
}
