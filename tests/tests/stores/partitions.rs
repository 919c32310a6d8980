//! Measurements by day, in partitions that PostgreSQL has by itself: chosen, so also on a server with
//! TimescaleDB.

use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::store::{
    HistoryQuery, PostgresOptions, PostgresStore, Retention, Store, TelemetryQuery,
};
use derms_proto::{AssetId, LogId, Telemetry, Timestamp};
use derms_tests::PostgresServer;

use crate::facts::*;
use crate::place::beside;
use crate::server::server;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn days_ago(days: u32) -> Timestamp {
    Timestamp::now().saturating_sub(DAY * days)
}

async fn store() -> (Arc<PostgresServer>, String, PostgresStore) {
    let server = server();
    let url = server.database();
    let options = PostgresOptions::new(&url).unwrap().without_timescaledb();
    let store = options.connect().await.unwrap();
    (server, url, store)
}

pub(crate) async fn append(store: &PostgresStore, rows: Vec<Telemetry>) {
    let agent = rows[0].asset_id.into();
    let append = part(agent, LogId::generate(), 1, rows);
    store.append_telemetry(&[append]).await.unwrap();
}

pub(crate) async fn times(store: &PostgresStore, asset: AssetId) -> Vec<Timestamp> {
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    let rows = store.telemetry(&query).await.unwrap().items;
    rows.iter().map(|row| row.measured_at).collect()
}

/// Partitions of a table, and how many rows are in the one for the rest.
fn laid_down(server: &PostgresServer, url: &str, table: &str) -> (usize, usize) {
    let days = format!(
        "select count(*) from pg_inherits where inhparent = 'derms.{table}'::regclass \
         and inhrelid <> 'derms.{table}_rest'::regclass"
    );
    let rest = format!("select count(*) from derms.{table}_rest");
    (
        server.sql(url, &days).parse().unwrap(),
        server.sql(url, &rest).parse().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn late_measurements_get_a_day_and_very_late_ones_the_rest() {
    let (server, url, store) = store().await;
    // Today and two days ahead.
    assert_eq!(laid_down(&server, &url, "telemetry"), (3, 0));
    let asset = asset();
    let wanted = [
        days_ago(0),
        days_ago(1),
        days_ago(40),
        days_ago(400),
        at(0),
        Timestamp::MIN,
    ];
    append(
        &store,
        wanted.iter().rev().map(|at| bare(asset, *at)).collect(),
    )
    .await;
    assert_eq!(laid_down(&server, &url, "telemetry"), (5, 3));
    assert_eq!(laid_down(&server, &url, "heartbeats"), (3, 0));
    assert_eq!(times(&store, asset).await, wanted);

    // Pages and buckets go through all of them.
    let mut page = HistoryQuery::default();
    page.limit = 2;
    let mut found = Vec::new();
    loop {
        let query = TelemetryQuery::new(asset, page.clone());
        let part = store.telemetry(&query).await.unwrap();
        found.extend(part.items.iter().map(|row| row.measured_at));
        page.cursor = part.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, wanted);
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    let buckets = store.telemetry_buckets(&query, 60).await.unwrap().items;
    assert_eq!(buckets.len(), wanted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn very_late_ones_are_kept_as_long_as_their_day() {
    let (server, url, store) = store().await;
    let asset = asset();
    let all = ["2001-03-02T06:00:00Z", "2001-03-01T23:59:59Z"].map(|at| at.parse().unwrap());
    append(&store, all.iter().map(|at| bare(asset, *at)).collect()).await;
    assert_eq!(laid_down(&server, &url, "telemetry").1, 2);
    let mut retention = Retention::forever();
    retention.telemetry = Some(DAY);
    let noon: Timestamp = "2001-03-03T12:00:00Z".parse().unwrap();
    let old = store.prunable(&retention, noon).await.unwrap();
    let gone = store.prune(&retention, noon).await.unwrap();
    assert_eq!((old.telemetry, gone.telemetry), (1, 1));
    assert_eq!(times(&store, asset).await, all[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_is_found_however_long_ago_it_was() {
    let (_server, _url, store) = store().await;
    let ages = [0, 1, 2, 5, 30, 44, 60, 2_000];
    let assets: Vec<(AssetId, u32)> = ages.iter().map(|days| (asset(), *days)).collect();
    for (asset, days) in &assets {
        let older = days_ago(days + 1);
        append(
            &store,
            vec![bare(*asset, older), bare(*asset, days_ago(*days))],
        )
        .await;
    }
    let latest = store.latest_telemetry().await.unwrap();
    assert_eq!(latest.len(), assets.len());
    for (asset, days) in assets {
        let row = latest.iter().find(|row| row.asset_id == asset).unwrap();
        let age = Timestamp::now().saturating_since(row.measured_at);
        assert!(
            age >= DAY * days && age < DAY * (days + 1),
            "{days}: {age:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_days_are_dropped_whole_and_what_comes_for_them_later_still_finds_a_place() {
    let (server, url, store) = store().await;
    let asset = asset();
    let all = [
        days_ago(0),
        days_ago(2),
        days_ago(10),
        days_ago(20),
        days_ago(100),
    ];
    append(&store, all.iter().map(|at| bare(asset, *at)).collect()).await;
    let beats: Vec<_> = all.iter().map(|at| heartbeat(asset, *at)).collect();
    store.append_heartbeats(&beats).await.unwrap();
    server.sql(&url, "analyze");
    let mut retention = Retention::forever();
    retention.telemetry = Some(DAY * 5);
    retention.heartbeats = Some(DAY * 15);
    let old = store.prunable(&retention, Timestamp::now()).await.unwrap();
    assert_eq!((old.telemetry, old.heartbeats, old.total()), (3, 2, 5));
    let mut pruned = store.prune(&retention, Timestamp::now()).await.unwrap();
    assert!(pruned.more, "two days are old, and one goes at a time");
    while pruned.more {
        let next = store.prune(&retention, Timestamp::now()).await.unwrap();
        let more = next.more;
        pruned = pruned + next;
        pruned.more = more;
    }
    assert_eq!((pruned.telemetry, pruned.heartbeats), (3, 2));
    assert_eq!(times(&store, asset).await, all[..2]);
    let (_, rest) = laid_down(&server, &url, "telemetry");
    assert_eq!(rest, 0);

    // Late ones for a day that was dropped; by this store and by one that never knew of it.
    append(&store, vec![bare(asset, all[2])]).await;
    let other = beside(&url).await;
    append(&other, vec![bare(asset, all[3])]).await;
    assert_eq!(times(&store, asset).await, all[..4]);

    // And by one that believes it is there, when another program has dropped it.
    while other
        .prune(&retention, Timestamp::now())
        .await
        .unwrap()
        .more
    {}
    append(&store, vec![bare(asset, all[2])]).await;
    assert_eq!(times(&store, asset).await, all[..3]);
    // A third one finds rows of that day in the rest and leaves them there.
    let third = beside(&url).await;
    append(&third, vec![bare(asset, all[2])]).await;
    assert_eq!(times(&third, asset).await.len(), 4);
}
