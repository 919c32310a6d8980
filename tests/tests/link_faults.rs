//! Agents and a headend in one process, over a link that fails.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use derms_agent_sdk::{AgentRuntime, sim};
use derms_client::{Client, HistoryQuery, TelemetryHistoryQuery};
use derms_headend_sdk::Headend;
use derms_proto::{
    Asset, AssetId, AssetKind, CloseReason, DispatchStatus, Fleet, NewDispatch, Power, Site, SiteId,
};
use derms_tests::{Proxy, until};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

fn asset_id(n: u128) -> AssetId {
    AssetId::new(Uuid::from_u128(100 + n))
}

fn fleet() -> Fleet {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(1)),
        name: "S".into(),
        location: String::new(),
    };
    let battery = |n, capacity, max: f64| Asset {
        capacity_mwhr: capacity,
        min_soc_pct: 5.0,
        max_soc_pct: 95.0,
        ..Asset::new(
            asset_id(n),
            format!("B{n}"),
            site.id,
            AssetKind::Battery,
            Power::from_mw(-max),
            Power::from_mw(max),
        )
    };
    let assets = vec![
        battery(0, 120.0, 60.0),
        battery(1, 40.0, 20.0),
        battery(2, 40.0, 20.0),
    ];
    Fleet::new(vec![site], assets).unwrap()
}

fn whole() -> TelemetryHistoryQuery {
    TelemetryHistoryQuery::new().limit(1_000)
}

struct Running {
    address: SocketAddr,
    /// Straight on the service: no socket.
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    /// A headend that notices a silent agent within 1.5 s.
    async fn start() -> Self {
        let headend = Headend::builder(fleet())
            .telemetry_interval(Duration::from_millis(200))
            .heartbeat_interval(Duration::from_secs(1))
            .build()
            .await
            .unwrap();
        let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (serving, service) = (headend.clone(), headend.grpc_service());
        let served = tokio::spawn(async move {
            serving
                .serve(vec![(listener, service)], async { drop(stopped.await) })
                .await;
        });
        let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();
        Self {
            address,
            client,
            stop: Some(stop),
            served,
        }
    }

    async fn connected(&self, asset: AssetId) -> bool {
        self.client.asset(asset).await.unwrap().connected
    }

    async fn until_connected(&self, asset: AssetId, wanted: bool) {
        until(&format!("connected = {wanted}"), SOON, async || {
            (self.connected(asset).await == wanted).then_some(())
        })
        .await;
    }
}

/// Agents that dial quickly, for tests that wait for them.
fn agent(address: SocketAddr, assets: &[u128]) -> AgentRuntime {
    let fleet = fleet();
    let mut builder = AgentRuntime::builder(format!("http://{address}").parse().unwrap())
        .backoff(|_: u32| Duration::from_millis(50));
    for n in assets {
        let asset = fleet.asset(asset_id(*n)).unwrap().clone();
        let device = sim::for_asset(&asset, 7);
        builder = builder.adapter(asset, device);
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_holed_agent_is_shown_disconnected_within_the_liveness_bound_and_comes_back() {
    let running = Running::start().await;
    let proxy = Proxy::to(running.address).await;
    let runtime = agent(proxy.address(), &[0]);
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());
    running.until_connected(asset_id(0), true).await;
    until("telemetry", SOON, async || {
        running.client.telemetry(asset_id(0)).await.ok()
    })
    .await;

    proxy.swallow();
    let swallowed = tokio::time::Instant::now();
    running.until_connected(asset_id(0), false).await;
    assert!(
        swallowed.elapsed() < Duration::from_secs(3),
        "{:?}",
        swallowed.elapsed()
    );
    assert!(running.client.telemetry(asset_id(0)).await.unwrap().stale);
    let ended = until("the end of the session", SOON, async || {
        let page = running
            .client
            .agents_history(HistoryQuery::new())
            .await
            .unwrap();
        page.items
            .into_iter()
            .find(|session| session.cause.is_some())
    })
    .await;
    assert_eq!(ended.cause, Some(CloseReason::LivenessTimeout));

    proxy.mend();
    running.until_connected(asset_id(0), true).await;
    handle.shutdown();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_no_sample_is_missing_and_none_is_there_twice() {
    let running = Running::start().await;
    let proxy = Proxy::to(running.address).await;
    let runtime = agent(proxy.address(), &[0]);
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());
    for _ in 0..4 {
        running.until_connected(asset_id(0), true).await;
        let before = running
            .client
            .telemetry_history(asset_id(0), whole())
            .await
            .unwrap();
        until("more telemetry", SOON, async || {
            let page = running
                .client
                .telemetry_history(asset_id(0), whole())
                .await
                .unwrap();
            (page.items.len() > before.items.len() + 3).then_some(())
        })
        .await;
        proxy.cut();
        running.until_connected(asset_id(0), false).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.mend();
    }
    running.until_connected(asset_id(0), true).await;
    // What was measured during the cuts arrives late: the series has no hole larger than an
    // interval and a bit, and every time is there once.
    until("the backfill", Duration::from_secs(60), async || {
        let page = running
            .client
            .telemetry_history(asset_id(0), whole())
            .await
            .unwrap();
        let times: Vec<i64> = page
            .items
            .iter()
            .map(|item| match item {
                derms_proto::TelemetryHistoryItem::Measurement(row) => {
                    row.measured_at.unix_micros()
                }
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        let steps: Vec<i64> = times.windows(2).map(|pair| pair[0] - pair[1]).collect();
        assert!(
            steps.iter().all(|step| *step > 20_000),
            "a sample is there twice: {steps:?}"
        );
        steps.iter().all(|step| *step < 450_000).then_some(())
    })
    .await;
    handle.shutdown();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_a_site_on_one_stream_and_a_site_order_is_split_over_it() {
    let running = Running::start().await;
    let runtime = agent(running.address, &[0, 1, 2]);
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());
    for n in 0..3 {
        running.until_connected(asset_id(n), true).await;
    }
    let agents = running.client.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].assets.len(), 3);

    let site = SiteId::new(Uuid::from_u128(1));
    let wish = NewDispatch::site(site, Power::from_mw(12.0)).lasting(Duration::from_secs(60));
    let sent = running.client.dispatch(&wish).await.unwrap();
    let mut shares: Vec<(AssetId, f64)> = sent
        .children
        .iter()
        .map(|child| (child.asset_id.unwrap(), child.mw.mw()))
        .collect();
    shares.sort_by_key(|(asset, _)| *asset);
    for ((_, share), expected) in shares.iter().zip([7.2, 2.4, 2.4]) {
        assert!((share - expected).abs() < 1e-9, "{shares:?}");
    }
    let active = running.client.wait_until_active(sent.id).await.unwrap();
    assert_eq!(active.status, DispatchStatus::Active);
    handle.shutdown();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_under_way_when_the_link_is_cut_is_in_doubt_until_the_agent_tells() {
    let running = Running::start().await;
    let proxy = Proxy::to(running.address).await;
    let runtime = agent(proxy.address(), &[0]);
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());
    running.until_connected(asset_id(0), true).await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(5.0)).lasting(Duration::from_secs(4));
    let sent = running.client.dispatch(&wish).await.unwrap();
    running.client.wait_until_active(sent.id).await.unwrap();

    proxy.cut();
    let doubtful = until("doubt", SOON, async || {
        let dispatch = running.client.get_dispatch(sent.id).await.unwrap();
        dispatch.in_doubt.then_some(dispatch)
    })
    .await;
    assert_eq!(
        doubtful.status,
        DispatchStatus::Active,
        "doubt is a mark, never a guess"
    );
    proxy.mend();

    let done = running.client.wait(sent.id).await.unwrap();
    assert_eq!(
        (done.status, done.in_doubt),
        (DispatchStatus::Completed, false)
    );
    let starts = done
        .transitions
        .iter()
        .filter(|step| step.status == DispatchStatus::Active);
    assert_eq!(starts.count(), 1);
    handle.shutdown();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waited_too_long_expires_and_is_never_applied() {
    let running = Running::start().await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(5.0))
        .waiting_at_most(Duration::from_millis(300));
    let sent = running.client.dispatch(&wish).await.unwrap();
    assert_eq!(sent.status, DispatchStatus::Pending);
    let expired = running.client.wait(sent.id).await.unwrap();
    assert_eq!(expired.status, DispatchStatus::Expired);

    let runtime = agent(running.address, &[0]);
    let handle = runtime.handle();
    let agent = tokio::spawn(runtime.run());
    running.until_connected(asset_id(0), true).await;
    until("a few readings", SOON, async || {
        let page = running
            .client
            .telemetry_history(asset_id(0), whole())
            .await
            .unwrap();
        (page.items.len() > 3).then_some(())
    })
    .await;
    let snapshot = running.client.telemetry(asset_id(0)).await.unwrap();
    assert_eq!(snapshot.telemetry.measurements.setpoint_mw, None);
    let after = running.client.get_dispatch(sent.id).await.unwrap();
    assert_eq!(after.status, DispatchStatus::Expired);
    handle.shutdown();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_agents_have_left_nothing_of_them_is_left() {
    let mut running = Running::start().await;
    let mut agents = Vec::new();
    for n in 0..3 {
        let runtime = agent(running.address, &[n]);
        agents.push((runtime.handle(), tokio::spawn(runtime.run())));
        running.until_connected(asset_id(n), true).await;
    }
    for (handle, agent) in agents {
        handle.shutdown();
        agent.await.unwrap().unwrap();
    }
    until("no agent", SOON, async || {
        running
            .client
            .agents()
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    let history = running
        .client
        .agents_history(HistoryQuery::new())
        .await
        .unwrap();
    assert!(
        history
            .items
            .iter()
            .all(|session| session.cause == Some(CloseReason::Normal))
    );
    drop(running.stop.take());
    let ended = tokio::time::timeout(SOON, running.served).await;
    assert!(ended.is_ok(), "the headend does not end");
}
