//! A headend that is as busy as a test wants it.
//!
//! `crash_headend <assets.yaml> <SQLite file or postgres://…> <REST address> <gRPC address>
//! [interval_ms=50] [heartbeat_ms=500] [backlog=<bytes>] [connections=<of one address>]
//! [bug=<one to plant in the store>]`
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program of the tests, which has arguments and says where it listens"
)]

mod weak;

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::store::{PostgresStore, SqliteStore, Store};
use derms_proto::Fleet;

use weak::WeakStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [assets, store, http, grpc, settings @ ..] = words.as_slice() else {
        return Err("give the assets, the store, and two addresses".into());
    };
    let fleet = Fleet::from_yaml(&std::fs::read_to_string(assets)?, assets)?;
    let (mut interval, mut heartbeat) = (50, 500);
    let (mut backlog, mut connections, mut bug) = (None, None, None);
    for setting in settings {
        match setting.split_once('=') {
            Some(("interval_ms", value)) => interval = value.parse()?,
            Some(("heartbeat_ms", value)) => heartbeat = value.parse()?,
            Some(("backlog", value)) => backlog = Some(value.parse()?),
            Some(("connections", value)) => connections = Some(value.parse()?),
            Some(("bug", value)) => bug = Some(value.parse()?),
            _ => return Err(format!("`{setting}` is no setting").into()),
        }
    }
    let mut builder = Headend::builder(fleet)
        .telemetry_interval(Duration::from_millis(interval))
        .heartbeat_interval(Duration::from_millis(heartbeat));
    if let Some(backlog) = backlog {
        builder = builder.store_backlog(backlog);
    }
    if let Some(connections) = connections {
        builder = builder.max_connections_per_address(connections);
    }
    let sound: Arc<dyn Store> = if store.starts_with("postgres:") {
        Arc::new(PostgresStore::connect(store).await?)
    } else {
        Arc::new(SqliteStore::open(store).await?)
    };
    let keys = Path::new(assets).with_file_name("keys");
    let store = WeakStore::new(sound, bug, keys);
    let headend = builder.store(store).build().await?;
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
