//! One headend has a schema at a time.

use std::time::Duration;

use derms_headend_sdk::store::{HistoryQuery, OpenError, PostgresOptions, Store, StoreError};
use derms_tests::{PostgresServer, until};
use tokio::time::Instant;

use crate::facts::*;
use crate::place::beside;
use crate::server::server;

const SOON: Duration = Duration::from_secs(20);

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url).unwrap()
}

/// Ends the connections of all headends, as a server does that has lost sight of them.
fn lose_headends(server: &PostgresServer, url: &str) {
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
               where application_name = 'derms-headend' and datname = current_database()";
    server.sql(url, sql);
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
async fn of_headends_that_start_at_once_one_gets_the_schema_and_the_others_get_it_in_turn() {
    let server = server();
    let url = server.database();
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let options = options(&url).connections(2).patience(SOON);
            tokio::spawn(async move { options.connect().await.map(drop) })
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
    lose_headends(&server, &url);
    let second = options(&url).connect().await.unwrap();

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
async fn a_headend_that_lost_its_connections_goes_on_if_nobody_has_taken_its_schema() {
    let server = server();
    let url = server.database();
    let first = options(&url).connect().await.unwrap();
    lose_headends(&server, &url);
    until("it is connected again", SOON, async || {
        first.ping().await.ok()
    })
    .await;
    let patience = Duration::from_millis(100);
    let second = options(&url).patience(patience).connect().await;
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
}
