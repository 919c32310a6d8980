//! Headend and agents killed (SIGKILL) at random points under load: nothing acknowledged is lost,
//! nothing is there twice, no order is lost or applied twice (I1, I6, I8 to I13 of
//! `docs/protocol.md`). With a bug planted in the store the same runs must fail.
//!
//! Each seed is a run of its own; `CRASH_SEEDS=7` or `CRASH_SEEDS=0..200` chooses others.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "a run is repeated with its seed from the environment"
)]

mod counted;
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
/// Bugs that a store can have, by the names that `crash_headend` knows.
const PLANTED: [&str; 4] = [
    "ack-before-commit",
    "ack-of-one-more",
    "drop-without-gap",
    "key-apart",
];
/// Each of them shows in one of these at the latest.
const PLANTED_SEEDS: Range<u64> = 2_001..2_013;
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
                let world = World::start(seed, None, None).await;
                assert_eq!(run(seed, world).await, Ok(()), "seed {seed}");
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
        let world = World::start(seed, Some(server.database()), None).await;
        assert_eq!(run(seed, world).await, Ok(()), "seed {seed}");
    }
}

/// The test is worth something: a store that breaks one of the promises is found out.
#[tokio::test]
async fn each_planted_bug_is_found_within_a_few_seeds() {
    let mut lanes = JoinSet::new();
    let runs = async {
        for bug in PLANTED {
            lanes.spawn_local(async move {
                for seed in PLANTED_SEEDS {
                    let world = World::start(seed, None, Some(bug)).await;
                    let folder = world.folder();
                    let found = run(seed, world).await;
                    let _ = std::fs::remove_dir_all(folder);
                    if found.is_err() {
                        return;
                    }
                }
                panic!("{bug} was not found");
            });
        }
        while let Some(ended) = lanes.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(runs).await;
}

async fn run(seed: u64, mut world: World) -> Result<(), String> {
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
    world.check().await
}

fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("CRASH_SEEDS") else {
        return default;
    };
    let (first, last) = text.split_once("..").unwrap_or((&text, ""));
    let first = first.parse().unwrap();
    first..last.parse().unwrap_or(first + 1)
}
