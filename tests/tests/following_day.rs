//! The following watch over a day of every simulator: no false alarm, and no deaf device unnoticed.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_agent_sdk::{DerAdapter as _, Setpoint, sim::SimulatedDevice};
use derms_headend_sdk::following::{Rules, Watch};
use derms_proto::{Asset, AssetId, AssetKind, Power, SiteId, Timestamp};
use uuid::Uuid;

const READ_EVERY: Duration = Duration::from_secs(4);
const DAY_S: u64 = 24 * 3_600;

fn asset(kind: AssetKind, number: u128, min: f64, max: f64) -> Asset {
    let site = SiteId::new(Uuid::from_u128(1));
    let id = AssetId::new(Uuid::from_u128(100 + number));
    let (min, max) = (Power::from_mw(min), Power::from_mw(max));
    Asset::new(id, format!("{kind:?}-{number}"), site, kind, min, max)
}

/// One of each kind, with and without a ramp.
fn assets() -> Vec<Asset> {
    use AssetKind as K;
    let kinds = [
        (K::Battery, -10.0, 10.0),
        (K::Pv, 0.0, 8.0),
        (K::Wind, 0.0, 12.0),
        (K::EvCharger, -3.0, 0.0),
        (K::Genset, 0.0, 5.0),
        (K::Other, -2.0, 6.0),
    ];
    let ramps = [None, Some(2.0), Some(300.0)];
    let all = ramps
        .iter()
        .flat_map(|ramp| kinds.iter().map(move |kind| (*ramp, *kind)));
    all.zip(1..)
        .map(|((ramp, (kind, min, max)), number)| {
            let mut asset = asset(kind, number, min, max);
            asset.ramp_rate_mw_per_min = ramp;
            asset.efficiency = 0.9;
            // Small enough to be empty and full several times a day.
            asset.capacity_mwhr = if kind == AssetKind::Battery {
                15.0
            } else {
                0.0
            };
            (asset.min_soc_pct, asset.max_soc_pct) = (10.0, 90.0);
            asset
        })
        .collect()
}

/// What a day of orders for one asset led to.
#[derive(Debug, Default)]
struct Day {
    orders: usize,
    /// Orders that were seen to be followed.
    followed: usize,
    alarms: Vec<String>,
}

/// A day from midnight on, with an order every five to thirty minutes.
async fn day(asset: &Asset, deaf: bool) -> Day {
    let midnight = Timestamp::UNIX_EPOCH.saturating_add(Duration::from_secs(1_767_225_600));
    let device = SimulatedDevice::starting_at(asset, 7, midnight);
    let mut rng = fastrand::Rng::with_seed(asset.id.uuid().as_u128() as u64);
    let (mut day, mut watch): (Day, Option<Watch>) = Default::default();
    let (mut next_order, mut seen) = (0, false);
    for second in (0..DAY_S).step_by(READ_EVERY.as_secs() as usize) {
        let now = midnight.saturating_add(Duration::from_secs(second));
        if second >= next_order {
            next_order = second + rng.u64(300..1_800);
            let range = asset.max_mw.mw() - asset.min_mw.mw();
            let power = Power::from_mw(asset.min_mw.mw() + range * rng.f64());
            day.followed += usize::from(std::mem::take(&mut seen));
            let applied = if deaf {
                power
            } else {
                let applied = device.apply(&Setpoint::new(power)).await.unwrap();
                applied.power.unwrap_or(power)
            };
            watch = Watch::new(asset, applied, now, &Rules::default());
            day.orders += 1;
        }
        tokio::time::advance(READ_EVERY).await;
        let measured = device.read().await.unwrap().measurements;
        let watch = watch.as_mut().unwrap();
        let told = watch.measured(now.saturating_add(READ_EVERY), &measured);
        seen |= watch.following() == Some(true);
        if told == Some(false) {
            day.alarms.push(format!(
                "{} at {second} s: {watch:?}, {measured:?}",
                asset.name
            ));
        }
    }
    day.followed += usize::from(seen);
    day
}

#[tokio::test(start_paused = true)]
async fn no_false_alarm_in_a_day_of_any_simulator() {
    for asset in assets() {
        let day = day(&asset, false).await;
        assert!(day.alarms.is_empty(), "{:#?}", day.alarms);
        // A slow ramp may not have ended when the next order comes.
        assert!(
            day.orders > 50 && day.followed * 2 > day.orders,
            "{asset:?}: {day:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_told_nothing_is_found_out() {
    for asset in assets() {
        // What weather and vehicles allow is below most limits: there a deaf device may look well.
        if matches!(
            asset.kind,
            AssetKind::Battery | AssetKind::Genset | AssetKind::Other
        ) {
            let day = day(&asset, true).await;
            assert!(day.alarms.len() * 2 > day.orders, "{asset:?}: {day:?}");
        }
    }
}
