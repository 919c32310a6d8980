//! A headend that is as busy as a test wants it: its agents send 20 times a second.
//!
//! `crash_headend <assets.yaml> <SQLite file or postgres://…> <REST address> <gRPC address>`
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program of the tests, which has arguments and says where it listens"
)]

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::store::{PostgresStore, SqliteStore};
use derms_proto::Fleet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [assets, store, http, grpc] = words.as_slice() else {
        return Err("give the assets, the store, and two addresses".into());
    };
    let fleet = Fleet::from_yaml(&std::fs::read_to_string(assets)?, assets)?;
    let builder = Headend::builder(fleet)
        .telemetry_interval(Duration::from_millis(50))
        .heartbeat_interval(Duration::from_millis(500));
    let builder = if store.starts_with("postgres:") {
        builder.store(PostgresStore::connect(store).await?)
    } else {
        builder.store(SqliteStore::open(store).await?)
    };
    let headend = builder.build().await?;
    let rest = Headend::bind(http.parse::<SocketAddr>()?)?;
    let link = Headend::bind(grpc.parse::<SocketAddr>()?)?;
    let addresses = serde_json::json!({
        "http_addr": rest.local_addr()?,
        "grpc_addr": link.local_addr()?,
    });
    println!("{addresses}");
    let listeners = vec![
        (rest, headend.rest_service()),
        (link, headend.grpc_service()),
    ];
    headend.serve(listeners, pending()).await;
    Ok(())
}
