//! The largest gateway: 1,024 assets on one stream.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_agent_sdk::{AgentRuntime, sim};
use derms_client::{Client, DispatchOptions};
use derms_headend_sdk::Headend;
use derms_proto::{
    AgentMode, Asset, AssetId, AssetKind, Availability, DispatchStatus, Fleet, NewDispatch, Power,
    Site, SiteId,
};
use derms_tests::{Proxy, until};
use tokio::sync::oneshot;
use uuid::Uuid;

const ASSETS: u128 = 1_024;
/// A loaded machine that runs both sides.
const SOON: Duration = Duration::from_secs(60);

fn asset_id(n: u128) -> AssetId {
    AssetId::new(Uuid::from_u128(
        0xa55e_0000_0000_0000_0000_0000_0000_0000 + n,
    ))
}

fn fleet() -> Fleet {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(1)),
        name: "Large".into(),
        location: String::new(),
    };
    let limit = Power::from_mw(1.0);
    let battery = |n| Asset {
        capacity_mwhr: 4.0,
        ramp_rate_mw_per_min: Some(600.0),
        ..Asset::new(
            asset_id(n),
            format!("B{n}"),
            site.id,
            AssetKind::Battery,
            -limit,
            limit,
        )
    };
    let assets = (1..=ASSETS).map(battery).collect();
    Fleet::new(vec![site], assets).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_1024_assets_is_shown_measured_and_obeyed_and_comes_back_with_all_in_force() {
    let fleet = fleet();
    let headend = Headend::builder(fleet.clone())
        .max_assets_per_agent(1_024)
        .telemetry_interval(Duration::from_secs(2))
        .build()
        .await
        .unwrap();
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (serving, service) = (headend.clone(), headend.grpc_service());
    let served = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        serving.serve(vec![(listener, service)], shutdown).await;
    });
    let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();

    let uri = format!("http://{}", proxy.address()).parse().unwrap();
    let mut builder = AgentRuntime::builder(uri).backoff(|_: u32| Duration::from_millis(50));
    for asset in fleet.assets() {
        builder = builder.adapter(asset.clone(), sim::for_asset(asset, 7));
    }
    let runtime = builder.build().unwrap();
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());

    until("all are connected and available", SOON, async || {
        let assets = client.assets().await.unwrap();
        let available = |asset: &derms_proto::AssetStatus| {
            asset.connected && asset.availability == Some(Availability::Available)
        };
        assets.iter().all(available).then_some(())
    })
    .await;
    let agents = client.agents().await.unwrap();
    assert_eq!((agents.len(), agents[0].assets.len()), (1, 1_024));
    assert_eq!(agents[0].mode, Some(AgentMode::Gateway));
    until("telemetry of all", SOON, async || {
        (client.telemetry_all().await.unwrap().len() == 1_024).then_some(())
    })
    .await;

    let last = asset_id(ASSETS);
    let order = NewDispatch::asset(last, Power::from_mw(0.5));
    let wait = DispatchOptions::new().wait(SOON);
    let applied = client.dispatch_with(&order, wait.clone()).await.unwrap();
    assert_eq!(applied.status, DispatchStatus::Active, "{applied:?}");
    let measured = until("its power", SOON, async || {
        let snapshot = client.telemetry(last).await.ok()?;
        let mw = snapshot.telemetry.measurements.mw?.mw();
        ((mw - 0.5).abs() < 0.01).then_some(mw)
    });
    measured.await;

    // All in force at once: the largest Register there is.
    let site = fleet.sites()[0].id;
    let order = NewDispatch::site(site, Power::from_mw(512.0));
    let all = client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(all.status, DispatchStatus::Active);
    assert_eq!(all.children.len(), 1_024);
    proxy.cut();
    until("the end of the session", SOON, async || {
        client.agents().await.unwrap().is_empty().then_some(())
    })
    .await;
    proxy.mend();
    until("all are connected again", SOON, async || {
        let agents = client.agents().await.unwrap();
        (agents.first()?.assets.len() == 1_024).then_some(())
    })
    .await;
    until("nothing is in doubt", SOON, async || {
        let dispatch = client.get_dispatch(all.id).await.unwrap();
        (dispatch.status == DispatchStatus::Active && !dispatch.in_doubt).then_some(())
    })
    .await;
    assert_eq!(handle.status().dropped_samples, 0);

    handle.shutdown();
    agent.await.unwrap().unwrap();
    drop(stop);
    served.await.unwrap();
}
