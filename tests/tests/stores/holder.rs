//! One headend has a schema at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use derms_headend_sdk::store::{HistoryQuery, OpenError, PostgresOptions, Store, StoreError};
use derms_tests::{PostgresServer, until};
use tokio::time::Instant;

use crate::facts::*;
use crate::place::beside;
use crate::server::server;

const SOON: Duration = Duration::from_secs(60);

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url).unwrap()
}

/// Ends connections of headends, as a server does that has lost sight of them.
fn lose(server: &PostgresServer, url: &str, which: &str) {
    let sql = format!(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity \
         where application_name = 'derms-headend' and datname = current_database() and {which}"
    );
    server.sql(url, &sql);
}

const ALL: &str = "true";
/// But for the one whose last words shared the lock.
const OF_THE_POOL: &str = "query not like '%pg_advisory_unlock(%'";

async fn is_refused(url: &str) {
    let patience = Duration::from_millis(300);
    let second = options(url).patience(patience).connect().await;
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_has_one_headend_at_a_time() {
    let server = server();
    let url = server.database();
    let first = options(&url).connect().await.unwrap();
    let patience = Duration::from_millis(600);
    let began = Instant::now();
    let second = options(&url).patience(patience).connect().await;
    assert!(began.elapsed() >= patience);
    let error = second.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        "schema derms",
        "connected from 127.0.0.1 (derms-headend)",
        "is in use by another headend",
    ] {
        assert!(text.contains(part), "{text}");
    }

    // Maintenance goes on beside it, and so does a headend with a schema of its own.
    beside(&url)
        .await
        .prune(&Default::default(), at(0))
        .await
        .unwrap();
    assert!(options(&url).migrate().await.unwrap().is_empty());
    options(&url).schema("south").connect().await.unwrap();
    first.ping().await.unwrap();
    drop(first);
    options(&url).connect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headends_that_start_at_once_get_the_schema_one_after_the_other() {
    let server = server();
    let url = server.database();
    let have_it = Arc::new(AtomicU32::new(0));
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let options = options(&url).connections(2).patience(SOON);
            let have_it = Arc::clone(&have_it);
            tokio::spawn(async move {
                let store = options.connect().await?;
                assert_eq!(have_it.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                for _ in 0..10 {
                    store.ping().await?;
                }
                have_it.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, OpenError>(())
            })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headend_whose_schema_another_one_has_taken_reads_and_writes_nothing() {
    let server = server();
    let url = server.database();
    let first = options(&url).connect().await.unwrap();
    let asset = asset();
    commit(&first, &order(asset)).await;
    // Until the other one is in before the first takes hold again.
    let second = until("the other one has the schema", SOON, async || {
        lose(&server, &url, ALL);
        let patience = Duration::from_secs(1);
        options(&url).patience(patience).connect().await.ok()
    })
    .await;

    let known = first.dispatches(&Default::default()).await;
    assert!(matches!(known, Err(StoreError::TakenOver)), "{known:?}");
    let given = first.commit(&order(asset)).await;
    assert!(matches!(given, Err(StoreError::TakenOver)), "{given:?}");
    let told = first.ping().await;
    assert!(matches!(told, Err(StoreError::TakenOver)), "{told:?}");
    assert_eq!(second.revisions(&[asset]).await.unwrap(), [1]);
    second.sessions(&HistoryQuery::default()).await.unwrap();

    // What is left of it is not in the way of a third one.
    drop(second);
    let third = options(&url).patience(SOON).connect().await.unwrap();
    third.ping().await.unwrap();
    let told = first.ping().await;
    assert!(matches!(told, Err(StoreError::TakenOver)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headend_keeps_its_schema_while_its_pool_has_no_connection() {
    let server = server();
    let url = server.database();
    let first = options(&url).connect().await.unwrap();
    lose(&server, &url, OF_THE_POOL);
    is_refused(&url).await;
    until("it is connected again", SOON, async || {
        first.ping().await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headend_that_does_nothing_takes_hold_again_when_all_its_connections_were_lost() {
    let server = server();
    let url = server.database();
    let first = options(&url).connect().await.unwrap();
    lose(&server, &url, ALL);
    let held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 5 \
                and database = (select oid from pg_database where datname = current_database())";
    until("it holds its schema", SOON, async || {
        (server.sql(&url, held) != "0").then_some(())
    })
    .await;
    is_refused(&url).await;
    first.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_taken_where_transactions_are_read_only_unless_they_say_otherwise() {
    let server = server();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    let sql = format!("alter database {name} set default_transaction_read_only = on");
    server.sql(&url, &sql);
    let store = options(&url).connect().await.unwrap();
    commit(&store, &order(asset())).await;
}
