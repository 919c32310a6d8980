//! What lies by day is read by day, in partitions and in chunks alike.

use std::collections::BTreeSet;
use std::time::Duration;

use derms_headend_sdk::store::{HistoryQuery, PostgresStore, Store, TelemetryQuery};
use derms_tests::{PostgresServer, until};

use crate::facts::*;
use crate::partitions::{append, days_ago};
use crate::server::server;

/// The partitions or chunks of telemetry that were looked into. Into the rest looks whoever starts:
/// it may have rows of a day that gets a partition.
fn looked_into(server: &PostgresServer, url: &str) -> BTreeSet<String> {
    let rows = server.sql(
        url,
        "select relname from pg_stat_all_tables join pg_inherits on inhrelid = relid \
         where inhparent = 'derms.telemetry'::regclass and relname <> 'telemetry_rest' \
         and seq_scan + coalesce(idx_scan, 0) > 0",
    );
    rows.lines().map(str::to_owned).collect()
}

/// Whoever leaves tells what he has looked into.
async fn all_have_left(server: &PostgresServer, url: &str) {
    let others = "select count(*) from pg_stat_activity where datname = current_database() \
                  and backend_type = 'client backend' and pid <> pg_backend_pid()";
    until("the others to leave", PATIENCE, async || {
        (server.sql(url, others) == "0").then_some(())
    })
    .await;
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_one_asset_is_read_from_that_day_alone() {
    let server = server();
    let url = server.database();
    let store = PostgresStore::connect(&url).await.unwrap();
    let asset = asset();
    let days: Vec<_> = (0..20).map(|day| bare(asset, days_ago(day))).collect();
    append(&store, days).await;
    let measured = days_ago(7);
    drop(store);
    all_have_left(&server, &url).await;
    server.sql(&url, "select pg_stat_reset()");
    all_have_left(&server, &url).await;

    let store = PostgresStore::connect(&url).await.unwrap();
    let mut page = HistoryQuery::default();
    page.from = measured.saturating_sub(Duration::from_secs(60));
    page.to = measured;
    let query = TelemetryQuery::new(asset, page);
    // Plans for whatever may be asked come after some for what was.
    for _ in 0..12 {
        assert_eq!(store.telemetry(&query).await.unwrap().items.len(), 1);
        let buckets = store.telemetry_buckets(&query, 60).await.unwrap();
        assert_eq!(buckets.items.len(), 1);
    }
    drop(store);
    all_have_left(&server, &url).await;
    let looked_into = looked_into(&server, &url);
    let day = format!(
        "select distinct c.relname from derms.telemetry t join pg_class c on c.oid = t.tableoid \
         where at <= '{measured}' and at > '{measured}'::timestamptz - interval '1 minute'"
    );
    assert_eq!(looked_into, BTreeSet::from([server.sql(&url, &day)]));
}
