//! Half an hour of a large gateway that had no link. A measurement:
//! `cargo test --release -p derms-tests --test away -- --ignored --nocapture half_an_hour`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derms_agent_sdk::AgentRuntime;
use derms_client::{Client, TelemetryHistoryQuery};
use derms_headend_sdk::Headend;
use derms_headend_sdk::store::SqliteStore;
use derms_proto::Fleet;
use derms_tests::{Folder, Numbered, number_of, numbered_asset, numbered_fleet, until};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::plant::check;

const ASSETS: usize = 256;
/// Every 4 s.
const SAMPLES: u64 = 450;
const PATIENCE: Duration = Duration::from_secs(300);

struct Running {
    client: Client,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// A headend that wants a measurement of each asset so often.
async fn headend(fleet: &Fleet, folder: &Folder, address: &str, interval: Duration) -> Running {
    let store = SqliteStore::open(folder.file("headend.sqlite"))
        .await
        .unwrap();
    let headend = Headend::builder(fleet.clone())
        .store(store)
        .telemetry_interval(interval)
        .build()
        .await
        .unwrap();
    let listener = Headend::bind(address.parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = vec![(listener, headend.grpc_service())];
    let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    Running {
        client,
        address,
        stop,
        serving: tokio::spawn(async move { headend.serve(listeners, shutdown).await }),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn half_an_hour_of_a_gateway_of_256_assets() {
    let folder = Folder::new();
    let text = numbered_fleet(ASSETS);
    let fleet = Fleet::from_yaml(&text, "assets.yaml").unwrap();
    // As much in a fraction of the time.
    let often = Duration::from_millis(100);
    let first = headend(&fleet, &folder, "127.0.0.1:0", often).await;
    let uri = format!("http://{}", first.address).parse().unwrap();
    let mut builder = AgentRuntime::builder(uri)
        .state_dir(folder.file("agent"))
        .backoff(|_: u32| Duration::from_millis(100));
    let mut devices = Vec::new();
    for asset in fleet.assets() {
        let device = Numbered::new(Arc::default());
        builder = builder.adapter(asset.clone(), device.adapter());
        devices.push(device);
    }
    let agent = tokio::spawn(builder.build().unwrap().run());
    until("a session", PATIENCE, async || {
        (first.client.telemetry_all().await.ok()?.len() == ASSETS).then_some(())
    })
    .await;
    let address = first.address.to_string();
    drop(first.stop);
    first.serving.await.unwrap();
    drop(first.client);
    let before = devices[0].readings();
    until("half an hour of readings", PATIENCE, async || {
        let read = devices.iter().map(|device| device.readings()).min()?;
        (read >= before + SAMPLES).then_some(())
    })
    .await;

    let second = headend(&fleet, &folder, &address, Duration::from_secs(4)).await;
    until("a session", PATIENCE, async || {
        (!second.client.agents().await.ok()?.is_empty()).then_some(())
    })
    .await;
    let back = Instant::now();
    let kept: Vec<u64> = devices.iter().map(|device| device.readings()).collect();
    let live = second.client.telemetry_all().await.unwrap();
    let newest = |number: usize| {
        let query = TelemetryHistoryQuery::new().limit(1);
        let client = &second.client;
        async move {
            let page = client
                .telemetry_history(numbered_asset(number), query)
                .await;
            page.ok()?.items.first().map(number_of)
        }
    };
    let mut began = None;
    for (number, wanted) in kept.iter().enumerate() {
        until("all that was kept", PATIENCE, async || {
            let stored = newest(number).await?;
            if stored > before + 10 && began.is_none() {
                began = Some(back.elapsed());
            }
            (stored >= *wanted).then_some(())
        })
        .await;
    }
    let took = back.elapsed();
    assert_eq!(live.len(), ASSETS, "live values come first");
    assert!(took < Duration::from_secs(60), "{took:?}");
    for (number, wanted) in kept.iter().enumerate() {
        let found = check(&second.client, number).await;
        assert!(found >= *wanted, "{number}: {found}");
    }
    println!(
        "{} samples of {} assets: live values of {} at once, backfill began after {began:?}, all \
         stored after {took:?}",
        kept.iter().sum::<u64>() - before * ASSETS as u64,
        ASSETS,
        live.len()
    );
    agent.abort();
    drop(second.stop);
    second.serving.await.unwrap();
}
