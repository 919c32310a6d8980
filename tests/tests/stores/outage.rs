//! A server that is gone for a while.

use std::time::{Duration, Instant};

use derms_headend_sdk::store::{PostgresOptions, Store, StoreError};
use derms_proto::LogId;
use derms_tests::{PostgresServer, until};

use crate::facts::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_unavailable_in_bounded_time_and_serves_again_when_it_is_back() {
    let server = PostgresServer::start();
    let limit = Duration::from_secs(3);
    let options = PostgresOptions::new(&server.database()).unwrap();
    let store = options.call_limit(limit).connect().await.unwrap();
    let (asset, log) = (asset(), LogId::generate());
    let first = part(asset.into(), log, 1, vec![bare(asset, at(1))]);
    store.append_telemetry(&[first]).await.unwrap();

    server.stop();
    let second = part(asset.into(), log, 2, vec![bare(asset, at(2))]);
    for _ in 0..3 {
        let start = Instant::now();
        let error = store
            .append_telemetry(std::slice::from_ref(&second))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(start.elapsed() < 2 * limit + Duration::from_secs(2));
        assert!(matches!(
            store.ping().await,
            Err(StoreError::Unavailable { .. })
        ));
    }

    server.start_again();
    until("the server", Duration::from_secs(30), async || {
        store.ping().await.ok()
    })
    .await;
    store.append_telemetry(&[second]).await.unwrap();
    assert_eq!(
        store.latest_telemetry().await.unwrap(),
        [bare(asset, at(2))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_a_lock_ends_with_its_limit_and_leaves_nothing_behind() {
    let server = crate::server::server();
    let url = server.database();
    let options = PostgresOptions::new(&url)
        .unwrap()
        .call_limit(Duration::from_secs(1));
    let store = options.connect().await.unwrap();
    let asset = asset();
    commit(&store, &order(asset)).await;

    // Somebody holds the counter of the asset, and goes on when he is told to.
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    let hold = "select revision from derms.revisions for update";
    sqlx::query(hold).fetch_all(&mut *holder).await.unwrap();
    let second = order(asset);
    let error = store.commit(&second).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(store.dispatch(second.dispatch.id).await.unwrap().is_none());
    holder.rollback().await.unwrap();

    let second = commit(&store, &second).await;
    assert_eq!(second.revision, Some(2));
}
