//! The contract of all stores.

use std::sync::atomic::{AtomicU32, Ordering};

use derms_headend_sdk::store::{PostgresOptions, SqliteStore, conformance};

use crate::server::server;
use derms_tests::Folder;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sqlite_store_keeps_the_contract() {
    let (folder, files) = (Folder::new(), AtomicU32::new(0));
    conformance::check(async || {
        let number = files.fetch_add(1, Ordering::Relaxed);
        SqliteStore::open(folder.file(&number.to_string()))
            .await
            .unwrap()
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_postgres_store_keeps_the_contract() {
    let server = server();
    let (url, schemas) = (server.database(), AtomicU32::new(0));
    conformance::check(async || {
        let number = schemas.fetch_add(1, Ordering::Relaxed);
        let options = PostgresOptions::new(&url).unwrap();
        options
            .schema(format!("s{number}"))
            .connect()
            .await
            .unwrap()
    })
    .await
    .unwrap();
}
