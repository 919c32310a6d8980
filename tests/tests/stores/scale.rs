//! A day of one asset among ten million rows, over REST. Measurements, no checks:
//! `cargo test --release -p derms-tests --test stores -- --ignored --nocapture --test-threads 1`
#![allow(clippy::print_stdout, reason = "they are there to be read")]

use std::future::pending;
use std::time::{Duration, Instant};

use derms_client::{Client, TelemetryHistoryQuery};
use derms_headend_sdk::Headend;
use derms_headend_sdk::store::{PostgresOptions, Retention, SqliteStore, Store};
use derms_proto::{AssetId, Timestamp};
use derms_tests::Folder;

use crate::fleet::Fleet;
use crate::server::server;

/// With a measurement every 4 s for a day: 10 million rows.
const ASSETS: usize = 463;
const DAY: u64 = 21_600;
const LOOKS: usize = 21;

async fn fill(store: &dyn Store) -> AssetId {
    let mut fleet = Fleet::new(ASSETS, 6);
    // What a writer gathers in 8 s, time by time.
    for _ in 0..DAY / 2 {
        let appends = fleet.measure_one_by_one(2);
        store.append_telemetry(&appends).await.unwrap();
    }
    fleet.asset()
}

async fn look(name: &str, asset: AssetId, store: impl Store) {
    let fleet = format!(
        "sites:\n  - {{id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: A, location: B}}\nassets:\n  \
         - {{id: {asset}, name: C, site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, capacity_mwhr: 10, \
         max_mw: 10, min_mw: -10, efficiency: 0.9, ramp_rate_mw_per_min: 1000}}\n"
    );
    let fleet = derms_proto::Fleet::from_yaml(&fleet, "assets.yaml").unwrap();
    let headend = Headend::builder(fleet).store(store).build().await.unwrap();
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let listeners = vec![(listener, headend.rest_service())];
    let serving = tokio::spawn(async move { headend.serve(listeners, pending()).await });
    let client = Client::new(base.parse().unwrap()).unwrap();
    let since = Timestamp::now().saturating_sub(Duration::from_secs(24 * 3_600 + 600));
    let all = || TelemetryHistoryQuery::new().from(since).limit(1_000);
    let binned = || all().step(Duration::from_secs(900));
    for (what, query) in [
        (
            "first page of 1000",
            &all as &dyn Fn() -> TelemetryHistoryQuery,
        ),
        ("binned to 15 min", &binned),
    ] {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..LOOKS {
            let start = Instant::now();
            let page = client.telemetry_history(asset, query()).await.unwrap();
            times.push(start.elapsed());
            rows = page.items.len();
        }
        let first = times[0];
        times.sort_unstable();
        println!(
            "{name}: a day of one asset, {what}: {rows} items, median {:?}, first {first:?}",
            times[LOOKS / 2]
        );
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn sqlite_a_day_in_ten_million_rows() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file("a.sqlite")).await.unwrap();
    let asset = fill(&store).await;
    look("sqlite", asset, store).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn postgres_a_day_in_ten_million_rows() {
    let server = server();
    let url = server.database();
    let store = PostgresOptions::new(&url).unwrap().connect().await.unwrap();
    let asset = fill(&store).await;
    // As the headend does every hour.
    let (forever, start) = (Retention::forever(), Instant::now());
    while store.prune(&forever, Timestamp::now()).await.unwrap().more {}
    println!("postgres: summed up in {:?}", start.elapsed());
    look("postgres", asset, store).await;
}
