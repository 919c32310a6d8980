//! How fast measurements go in and how much room they take. Measurements, no checks:
//! `cargo test --release -p derms-tests --test stores -- --ignored --nocapture --test-threads 1`
#![allow(clippy::print_stdout, reason = "they are there to be read")]

use std::time::{Duration, Instant};

use derms_headend_sdk::store::{PostgresOptions, SqliteStore, Store};

use crate::fleet::Fleet;
use crate::server::server;
use derms_tests::Folder;

async fn rate(store: &dyn Store, name: &str, fleet: &mut Fleet, samples: u64, calls: usize) {
    store
        .append_telemetry(&fleet.measure(samples))
        .await
        .unwrap();
    let (mut rows, mut took, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    let before = processor();
    for _ in 0..calls {
        let appends = fleet.measure(samples);
        let start = Instant::now();
        store.append_telemetry(&appends).await.unwrap();
        let call = start.elapsed();
        took += call;
        slowest = slowest.max(call);
        rows += appends.len() * samples as usize;
    }
    let processor = processor() - before;
    println!(
        "{name}: {:>4} appends of {samples:>3} with {:>2} values a call: {:>7.0} rows/s, \
         {:>5.1} us of this process a row, slowest call {slowest:?}",
        fleet.agents.len(),
        fleet.values,
        rows as f64 / took.as_secs_f64(),
        processor.as_secs_f64() * 1e6 / rows as f64
    );
}

/// What this process has used so far; the same whatever else the machine does.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

async fn rates(store: &dyn Store, name: &str) {
    rate(store, name, &mut Fleet::new(1_000, 6), 1, 200).await;
    rate(store, name, &mut Fleet::new(256, 6), 1, 400).await;
    rate(store, name, &mut Fleet::new(10_000, 6), 1, 20).await;
    rate(store, name, &mut Fleet::new(16, 6), 64, 200).await;
    // As many as the headend's writer stores in one call.
    rate(store, name, &mut Fleet::new(128, 6), 64, 60).await;
    rate(store, name, &mut Fleet::new(8, 13), 128, 200).await;
    rate(store, name, &mut Fleet::new(1, 6), 1, 200).await;
}

/// Every asset measures for a day, for the room that a row takes then.
async fn a_day(store: &dyn Store, values: usize) {
    let mut fleet = Fleet::new(DAY_ASSETS, values);
    for _ in 0..DAY / 8 {
        store
            .append_telemetry(&fleet.measure_one_by_one(8))
            .await
            .unwrap();
    }
}

const DAY_ASSETS: usize = 10;
/// Every 4 s.
const DAY: u64 = 21_600;
const DAY_ROWS: f64 = 216_000.0;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn sqlite() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file("a.sqlite")).await.unwrap();
    rates(&store, "sqlite").await;
    for values in [1, 6, 13] {
        let path = folder.file(&format!("{values}.sqlite"));
        let store = SqliteStore::open(&path).await.unwrap();
        a_day(&store, values).await;
        drop(store);
        let store = SqliteStore::open(&path).await.unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!(
            "sqlite: {values} values: {:.0} bytes a row",
            bytes as f64 / DAY_ROWS
        );
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn postgres() {
    let server = server();
    let url = server.database();
    let options = |schema: &str| PostgresOptions::new(&url).unwrap().schema(schema);
    let store = options("a").connect().await.unwrap();
    rates(&store, "postgres").await;
    for values in [1, 6, 13] {
        let schema = format!("v{values}");
        let store = options(&schema).connect().await.unwrap();
        a_day(&store, values).await;
        let parts = server.sql(
            &url,
            &format!(
                "select sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)) \
                 from pg_inherits where inhparent = '{schema}.telemetry'::regclass"
            ),
        );
        let parts: Vec<f64> = parts.split('|').map(|part| part.parse().unwrap()).collect();
        println!(
            "postgres: {values} values: {:.0} bytes a row and {:.0} for its index",
            parts[0] / DAY_ROWS,
            parts[1] / DAY_ROWS
        );
    }
}
