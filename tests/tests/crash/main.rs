//! Headend and agents killed (SIGKILL) at random points under load: nothing acknowledged is lost,
//! nothing is there twice, no order is lost or applied twice (I1, I6, I8 to I13 of
//! `docs/protocol.md`).
//!
//! Each seed is a run of its own; `CRASH_SEEDS=7` or `CRASH_SEEDS=0..200` chooses others.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a run is repeated with its seed from the environment"
)]

mod history;
mod world;

use std::ops::Range;
use std::time::Duration;

use derms_tests::PostgresServer;
use fastrand::Rng;
use tokio::task::{JoinSet, LocalSet};

use world::World;

const SEEDS: Range<u64> = 0..50;
/// With PostgreSQL behind it, where a run takes longer.
const POSTGRES_SEEDS: Range<u64> = 1_000..1_008;
/// Runs at the same time.
const LANES: usize = 4;
/// Between two of these there is a kill or an order.
const STEPS: usize = 12;

#[tokio::test]
async fn nothing_is_lost_or_done_twice_whenever_headend_or_agents_are_killed() {
    let mut lanes = JoinSet::new();
    let runs = async {
        for seed in seeds(SEEDS) {
            if lanes.len() >= LANES {
                lanes.join_next().await.unwrap().unwrap();
            }
            lanes.spawn_local(async move {
                let world = World::start(seed, None).await;
                run(seed, world).await;
            });
        }
        while let Some(ended) = lanes.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(runs).await;
}

#[tokio::test]
async fn the_same_holds_with_postgres() {
    let server = PostgresServer::start();
    for seed in seeds(POSTGRES_SEEDS) {
        let world = World::start(seed, Some(server.database())).await;
        run(seed, world).await;
    }
}

async fn run(seed: u64, mut world: World) {
    let mut random = Rng::with_seed(seed);
    for _ in 0..STEPS {
        tokio::time::sleep(Duration::from_millis(random.u64(10..250))).await;
        match random.u8(0..10) {
            0..5 => world.order(&mut random),
            5..8 => world.kill_headend(&mut random).await,
            _ => world.kill_agent(&mut random).await,
        }
    }
    world.settle().await;
    world.check().await;
}

fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("CRASH_SEEDS") else {
        return default;
    };
    let (first, last) = text.split_once("..").unwrap_or((&text, ""));
    let first = first.parse().unwrap();
    first..last.parse().unwrap_or(first + 1)
}
