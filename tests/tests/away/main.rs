//! The database is away for a while under load: nothing acknowledged is lost, what is live goes on,
//! nothing is sent that is not recorded, memory stays bounded, and all comes back without a hand
//! (I8, I10, I11, I12, I17 of `docs/protocol.md`).
//!
//! A large one, whose figures are in `docs/performance.md`:
//! `AWAY_AGENTS=10000 AWAY_SECONDS=60 cargo test --release -p derms-tests --test away -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "the size of the large one comes from the environment"
)]
#![allow(clippy::print_stdout, reason = "its figures are there to be read")]

mod backfill;
mod plant;
mod steered;
mod steering;
mod story;

use std::time::{Duration, Instant};

use derms_client::DispatchOptions;
use derms_proto::{DispatchStatus, NewDispatch, Power, ProblemCode, Timestamp};
use derms_tests::{build_programs, until};
use http::StatusCode;

use plant::{Plant, Size};

/// A machine that builds beside the tests may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const SMALL: Size = Size {
    agents: 64,
    interval: Duration::from_millis(500),
    heartbeat: Duration::from_secs(10),
    backlog: 1 << 20,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_what_is_live_goes_on_and_afterwards_nothing_is_missing() {
    let mut plant = Plant::start(SMALL).await;
    plant.until_stored(4, PATIENCE).await;
    let order = NewDispatch::asset(plant.asset(0), Power::from_mw(1.0));
    let memory = plant.memory();

    // What is measured from now on is so large that the agents' windows hold 11 MiB.
    plant.speak_up(true);
    let before = plant.readings();
    let gone = Timestamp::now();
    plant.database().stop();
    until("readiness says so", PATIENCE, async || {
        let error = plant.client.readyz().await.err()?;
        (error.code() == Some(ProblemCode::StoreUnavailable)).then_some(())
    })
    .await;
    let refused = plant.client.dispatch(&order).await.unwrap_err();
    assert_eq!(
        refused.status(),
        Some(StatusCode::SERVICE_UNAVAILABLE),
        "{refused:?}"
    );
    assert_eq!(
        refused.code(),
        Some(ProblemCode::StoreUnavailable),
        "{refused:?}"
    );
    // More than a window of 12 batches, so that every agent has been told to keep something.
    until("devices are read on", PATIENCE, async || {
        let readings = plant.readings().into_iter().zip(&before);
        readings
            .map(|(now, before)| now - before)
            .all(|read| read > 20)
            .then_some(())
    })
    .await;
    plant.client.healthz().await.unwrap();
    let agents = plant.client.agents().await.unwrap();
    assert_eq!(agents.len(), SMALL.agents);
    let snapshots = plant.client.telemetry_all().await.unwrap();
    assert_eq!(snapshots.len(), SMALL.agents);
    for snapshot in snapshots {
        assert!(
            !snapshot.stale && snapshot.telemetry.measured_at > gone,
            "{snapshot:?}"
        );
    }
    let grown = plant.memory().saturating_sub(memory);
    assert!(grown < 6 << 20, "the headend has grown by {grown} bytes");
    assert_eq!(plant.applied(), 0, "an order that is not recorded was sent");

    plant.speak_up(false);
    let kept = plant.readings();
    plant.database().start_again();
    until("readiness", PATIENCE, async || {
        plant.client.readyz().await.ok()
    })
    .await;
    plant.until_all_stored(&kept, PATIENCE).await;
    for number in 0..SMALL.agents {
        plant.check(number).await;
    }
    let orders = plant
        .client
        .dispatch_history(Default::default())
        .await
        .unwrap();
    assert!(orders.items.is_empty(), "{:?}", orders.items);
    let wait = DispatchOptions::new().wait(PATIENCE);
    let order = plant.client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(order.status, DispatchStatus::Active);
    assert_eq!(plant.applied(), 1);
}

/// Every agent measures every 4 s.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_large_fleet() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let size = Size {
        agents: number("AWAY_AGENTS", 10_000_u32) as usize,
        interval: Duration::from_secs(4),
        heartbeat: Duration::from_secs(30),
        backlog: 64 << 20,
    };
    let away = Duration::from_secs(number("AWAY_SECONDS", 60).into());
    let patience = Duration::from_secs(600);
    build_programs();
    let start = Instant::now();
    let plant = Plant::start(size).await;
    plant.until_stored(2, patience).await;
    until("no lag", patience, async || {
        (plant.behind(5) == 0).then_some(())
    })
    .await;
    println!(
        "{} agents have stored something after {:?}",
        size.agents,
        start.elapsed()
    );
    let (memory, before) = (plant.memory(), plant.readings());
    println!("the headend has {} MiB", memory >> 20);
    let gone = Instant::now();
    plant.database().stop();
    let mut most = memory;
    let end = tokio::time::Instant::now() + away;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(500)).await;
        most = most.max(plant.memory());
    }
    let kept = plant.readings();
    let read = kept.iter().sum::<u64>() - before.iter().sum::<u64>();
    let rate = read as f64 / gone.elapsed().as_secs_f64();
    println!("{rate:.0} readings/s while away for {away:?}");
    let wanted = size.agents as f64 / size.interval.as_secs_f64();
    let start = Instant::now();
    plant.database().start_again();
    let back = Instant::now();
    until("no lag", patience, async || {
        most = most.max(plant.memory());
        (plant.behind(5) == 0).then_some(())
    })
    .await;
    let lag = back.elapsed();
    println!(
        "started in {:?}, less than 5 s behind after {lag:?}",
        back - start
    );
    plant.until_all_stored(&kept, patience).await;
    println!("everything stored after {:?}", back.elapsed());
    for number in 0..size.agents {
        plant.check(number).await;
    }
    println!(
        "nothing missing, nothing twice; the headend grew to {} MiB",
        most >> 20
    );
    assert!(rate > 0.95 * wanted, "this machine is too slow");
    // Telemetry and heartbeats have a backlog each; reports are not made here.
    assert!(most - memory < 2 * size.backlog);
    assert!(lag < Duration::from_secs(30));
}
