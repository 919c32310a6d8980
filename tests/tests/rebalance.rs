//! A site order that is shared anew, in a whole headend with agents of the SDK.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_agent_sdk::testing::ScriptedAdapter;
use derms_agent_sdk::{AdapterError, AgentRuntime};
use derms_client::Client;
use derms_headend_sdk::Headend;
use derms_proto::{
    Asset, AssetId, AssetKind, DispatchStatus, Fleet, NewDispatch, Power, Site, SiteId,
};
use derms_tests::until;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);
const SITE: SiteId = SiteId::new(Uuid::from_u128(1));

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_refuses_the_others_do_and_the_order_completes() {
    let site = Site {
        id: SITE,
        name: "S".into(),
        location: String::new(),
    };
    let sizes = [(60.0, 120.0), (20.0, 40.0), (20.0, 40.0)];
    let assets = sizes.into_iter().zip(100..).map(|((mw, capacity), id)| {
        let (min, max) = (Power::from_mw(-mw), Power::from_mw(mw));
        let id = AssetId::new(Uuid::from_u128(id));
        let mut asset = Asset::new(id, id.to_string(), SITE, AssetKind::Battery, min, max);
        asset.capacity_mwhr = capacity;
        asset
    });
    let assets: Vec<Asset> = assets.collect();
    let fleet = Fleet::new(vec![site], assets.clone()).unwrap();
    let headend = Headend::builder(fleet)
        .heartbeat_interval(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();
    let service = headend.grpc_service();
    tokio::spawn(async move {
        let never = std::future::pending();
        headend.serve(vec![(listener, service)], never).await;
    });
    let devices: Vec<ScriptedAdapter> = assets.iter().map(|_| ScriptedAdapter::new()).collect();
    for (asset, device) in assets.iter().zip(&devices) {
        let agent = AgentRuntime::builder(address.parse().unwrap())
            .adapter(asset.clone(), device.clone())
            .build()
            .unwrap();
        tokio::spawn(agent.run());
    }
    until("all are connected", SOON, async || {
        let assets = client.assets().await.unwrap();
        assets.iter().all(|asset| asset.connected).then_some(())
    })
    .await;
    devices[0].answer(Err(AdapterError::unavailable("local mode")));
    let new = NewDispatch::site(SITE, Power::from_mw(12.0))
        .rebalanced()
        .lasting(Duration::from_secs(17));
    let order = client.dispatch(&new).await.unwrap();
    let over = client.wait(order.id).await.unwrap();
    assert_eq!(over.status, DispatchStatus::Completed, "{over:?}");
    let told = |n: usize| -> Vec<f64> {
        let setpoints = devices[n].setpoints();
        setpoints.iter().map(|power| power.mw()).collect()
    };
    assert_eq!((told(1), told(2)), (vec![2.4, 6.0], vec![2.4, 6.0]));
    let split = over.split.unwrap();
    assert_eq!((split.resplits.len(), split.residual_mw), (1, Power::ZERO));
    // Its lease is what was left of the order's, so that it ends in time, and not before.
    let ended = over.children.iter().flat_map(|share| &share.transitions);
    let ended = ended.filter_map(|step| step.reported_at).max().unwrap();
    let end = over.created_at.saturating_add(Duration::from_secs(17));
    let (late, early) = (ended.saturating_since(end), end.saturating_since(ended));
    assert!(late < Duration::from_secs(2), "{late:?}");
    assert!(early < Duration::from_secs(1), "{early:?}");
}
