//! How fast measurements go in and how much room they take. Measurements, no checks:
//! `cargo test --release -p derms-tests --test stores -- --ignored --nocapture --test-threads 1`
#![allow(clippy::print_stdout, reason = "they are there to be read")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use derms_headend_sdk::store::{
    HistoryQuery, PostgresOptions, SqliteStore, Store, TelemetryAppend, TelemetryQuery,
};
use derms_proto::{
    AgentId, AssetId, Detail, LogId, Measurements, Power, SiteId, Telemetry, Timestamp,
};
use uuid::Uuid;

use crate::server::server;
use derms_tests::Folder;

/// A fleet that measures; each agent has one asset and one log.
struct Fleet {
    agents: Vec<(AgentId, LogId, AssetId)>,
    site: SiteId,
    values: usize,
    next_seq: u64,
    now: Timestamp,
}

impl Fleet {
    fn new(agents: usize, values: usize) -> Self {
        let agent = |_| {
            let asset = AssetId::new(Uuid::new_v4());
            (AgentId::from(asset), LogId::generate(), asset)
        };
        Self {
            agents: (0..agents).map(agent).collect(),
            site: SiteId::new(Uuid::new_v4()),
            values,
            next_seq: 1,
            now: Timestamp::now().saturating_sub(Duration::from_secs(24 * 3600)),
        }
    }

    /// The next measurements of every agent, every 4 s.
    fn measure(&mut self, samples: u64) -> Vec<TelemetryAppend> {
        let (first, now) = (self.next_seq, self.now);
        self.next_seq += samples;
        self.now = now.saturating_add(Duration::from_secs(4 * samples));
        let (site, values) = (self.site, self.values);
        let appends = self
            .agents
            .iter()
            .map(|(agent, log, asset)| TelemetryAppend {
                agent: *agent,
                log: *log,
                samples: (0..samples)
                    .map(|n| {
                        let at = now.saturating_add(Duration::from_secs(4 * n));
                        (first + n, telemetry(*asset, site, at, values))
                    })
                    .collect(),
                gaps: Vec::new(),
                next_seq: first + samples,
            });
        appends.collect()
    }
}

/// A measurement with so many values; more than 12: the details of a simulated battery too.
fn telemetry(asset_id: AssetId, site_id: SiteId, at: Timestamp, values: usize) -> Telemetry {
    let x = (at.unix_micros() % 86_400_000_000) as f64 / 1e7;
    let nth = |n: usize| (n <= values).then_some(x + n as f64 + 0.123_456);
    let mut details = BTreeMap::new();
    if values > 12 {
        details.insert("cell_temperature_c".to_owned(), Detail::Number(27.3));
    }
    Telemetry {
        asset_id,
        site_id,
        measured_at: at,
        received_at: at.saturating_add(Duration::from_micros(12_345)),
        measurements: Measurements {
            mw: nth(1).map(Power::from_mw),
            mvar: nth(2),
            voltage_v: nth(3),
            frequency_hz: nth(4),
            current_a: nth(5),
            soc_pct: nth(6),
            soh_pct: nth(7),
            energy_in_mwh: nth(8),
            energy_out_mwh: nth(9),
            available_charge_mw: nth(10).map(Power::from_mw),
            available_discharge_mw: nth(11).map(Power::from_mw),
            setpoint_mw: nth(12).map(Power::from_mw),
            status: Some(derms_proto::DeviceStatus::Running),
            details,
            ..Measurements::default()
        },
    }
}

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

async fn history(store: &dyn Store, name: &str, fleet: &Fleet) {
    let asset = fleet.agents[fleet.agents.len() / 2].2;
    let mut page = HistoryQuery::default();
    page.limit = 30_000;
    let query = TelemetryQuery::new(asset, page);
    for _ in 0..3 {
        let start = Instant::now();
        let rows = store.telemetry(&query).await.unwrap().items.len();
        let took = start.elapsed();
        let start = Instant::now();
        let buckets = store
            .telemetry_buckets(&query, 900)
            .await
            .unwrap()
            .items
            .len();
        println!(
            "{name}: {rows} rows of one asset in {took:?}, {buckets} buckets in {:?}",
            start.elapsed()
        );
    }
    let start = Instant::now();
    let latest = store.latest_telemetry().await.unwrap().len();
    println!(
        "{name}: the latest of {latest} assets in {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn sqlite() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file("a.sqlite")).await.unwrap();
    rates(&store, "sqlite").await;
    for values in [1, 6, 13] {
        let path = folder.file(&format!("{values}.sqlite"));
        let store = SqliteStore::open(&path).await.unwrap();
        let mut fleet = Fleet::new(100, values);
        for _ in 0..2_000 {
            store.append_telemetry(&fleet.measure(1)).await.unwrap();
        }
        history(&store, "sqlite", &fleet).await;
        drop(store);
        let store = SqliteStore::open(&path).await.unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!(
            "sqlite: {values} values: {:.0} bytes a row",
            bytes as f64 / 200_000.0
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
        let mut fleet = Fleet::new(100, values);
        for _ in 0..2_000 {
            store.append_telemetry(&fleet.measure(1)).await.unwrap();
        }
        history(&store, "postgres", &fleet).await;
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
            parts[0] / 200_000.0,
            parts[1] / 200_000.0
        );
    }
}
