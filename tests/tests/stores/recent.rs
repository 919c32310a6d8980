//! Measurements that come one by one wait in the file until there are many of their asset.

use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::store::{HistoryQuery, Retention, Store, TelemetryAppend, TelemetryQuery};
use derms_proto::{AssetId, LogId, Telemetry};
use derms_tests::Folder;

use crate::facts::*;
use crate::place::Place;

/// More than may wait, of so many assets.
const CALLS: u64 = 130;
const ASSETS: usize = 40;

struct Fleet {
    place: Place,
    store: Arc<dyn Store>,
    assets: Vec<(AssetId, LogId)>,
    calls: u64,
}

impl Fleet {
    async fn new() -> Self {
        let place = Place::Sqlite(Folder::new());
        let mut assets: Vec<_> = (0..ASSETS).map(|_| (asset(), LogId::generate())).collect();
        assets.sort();
        Self {
            store: place.open().await,
            place,
            assets,
            calls: 0,
        }
    }

    /// One measurement of each asset, every second.
    async fn measure(&mut self) {
        let now = at(self.calls);
        self.calls += 1;
        let append = |(asset, log): &(AssetId, LogId)| {
            part((*asset).into(), *log, self.calls, vec![bare(*asset, now)])
        };
        let appends: Vec<TelemetryAppend> = self.assets.iter().map(append).collect();
        self.store.append_telemetry(&appends).await.unwrap();
    }

    /// Whether an asset has what it measured from this call on, each once and in order.
    async fn check(&self, asset: AssetId, from: u64) {
        let mut page = HistoryQuery::default();
        page.limit = 1_000;
        let query = TelemetryQuery::new(asset, page);
        let wanted: Vec<Telemetry> = (from..self.calls)
            .rev()
            .map(|call| bare(asset, at(call)))
            .collect();
        let found = self.store.telemetry(&query).await.unwrap();
        assert_eq!(found.items, wanted);
        let buckets = self.store.telemetry_buckets(&query, 60).await.unwrap();
        let counted: u64 = buckets.items.iter().map(|bucket| bucket.count).sum();
        assert_eq!(counted, self.calls - from);
    }

    async fn check_all(&self, from: u64) {
        for (asset, _) in &self.assets {
            self.check(*asset, from).await;
        }
        let mut latest = self.store.latest_telemetry().await.unwrap();
        latest.sort_by_key(|telemetry| telemetry.asset_id);
        let newest = at(self.calls - 1);
        let wanted: Vec<Telemetry> = self
            .assets
            .iter()
            .map(|(asset, _)| bare(*asset, newest))
            .collect();
        assert_eq!(latest, wanted);
    }

    /// Rows that wait, and rows in their place.
    async fn rows(&self) -> (i64, i64) {
        let url = format!("sqlite://{}", self.place.file().display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let sql =
            "select (select count(*) from telemetry_recent), (select count(*) from telemetry)";
        let rows = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
        pool.close().await;
        rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_one_by_one_is_found_before_while_and_after_it_goes_to_its_place() {
    let mut fleet = Fleet::new().await;
    for call in 0..CALLS {
        fleet.measure().await;
        if call % 20 == 0 {
            fleet.check(fleet.assets[call as usize % ASSETS].0, 0).await;
        }
        if call == CALLS / 2 {
            drop(fleet.store);
            fleet.store = fleet.place.open().await;
            fleet.check_all(0).await;
        }
    }
    fleet.check_all(0).await;
    let (waiting, placed) = fleet.rows().await;
    assert_eq!(waiting + placed, (CALLS * ASSETS as u64) as i64);
    assert!(placed > 0 && waiting > 0, "{waiting} wait, {placed} do not");
    assert!(waiting < 4_200, "{waiting} wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_forgotten_at_its_time_like_what_does_not() {
    let mut fleet = Fleet::new().await;
    for _ in 0..CALLS {
        fleet.measure().await;
    }
    let mut retention = Retention::forever();
    retention.telemetry = Some(Duration::from_secs(10));
    let now = at(CALLS - 1);
    while fleet.store.prune(&retention, now).await.unwrap().more {}
    fleet.check_all(CALLS - 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_measurements_with_the_same_key_are_both_kept() {
    let mut fleet = Fleet::new().await;
    fleet.measure().await;
    // As if an earlier life had given the same numbers to others of that time.
    let sql = "insert into telemetry (asset, at, tie, received_at) \
               select asset, at, tie, received_at from telemetry_recent";
    fleet.place.sql(sql).await;
    for _ in 1..CALLS {
        fleet.measure().await;
    }
    let (waiting, placed) = fleet.rows().await;
    assert!(placed > ASSETS as i64, "nothing was moved");
    let all = (CALLS as usize * ASSETS + ASSETS) as i64;
    assert_eq!(waiting + placed, all);
}
