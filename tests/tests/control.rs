//! Limits, stops and orders for later: an agent and a headend in one process, over a link that fails.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_agent_sdk::{AgentRuntime, sim};
use derms_client::Client;
use derms_headend_sdk::Headend;
use derms_proto::{
    Asset, AssetId, AssetKind, ControlSource, Dispatch, DispatchStatus, Fleet, FollowUp,
    LimitStatus, NewDispatch, NewLimit, NewStop, Power, ReasonCode, Site, SiteId, Timestamp,
};
use derms_tests::{Proxy, until};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);
const BATTERY: AssetId = AssetId::new(Uuid::from_u128(100));

fn fleet() -> Fleet {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(1)),
        name: "S".into(),
        location: String::new(),
    };
    let (min, max) = (Power::from_mw(-60.0), Power::from_mw(60.0));
    let battery = Asset::new(BATTERY, "B", site.id, AssetKind::Battery, min, max);
    let battery = Asset {
        capacity_mwhr: 120.0,
        min_soc_pct: 5.0,
        max_soc_pct: 95.0,
        ..battery
    };
    Fleet::new(vec![site], vec![battery]).unwrap()
}

/// A headend, the agent of its only asset, and the link between them.
struct World {
    client: Client,
    link: Proxy,
}

impl World {
    async fn start() -> Self {
        let headend = Headend::builder(fleet())
            .telemetry_interval(Duration::from_millis(200))
            .heartbeat_interval(Duration::from_secs(1))
            .build()
            .await
            .unwrap();
        let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let link = Proxy::to(listener.local_addr().unwrap()).await;
        let (serving, service) = (headend.clone(), headend.grpc_service());
        tokio::spawn(async move {
            let never = std::future::pending();
            serving.serve(vec![(listener, service)], never).await;
        });
        let address = format!("http://{}", link.address()).parse().unwrap();
        let battery = fleet().asset(BATTERY).unwrap().clone();
        let device = sim::for_asset(&battery, 7);
        let agent = AgentRuntime::builder(address)
            .backoff(|_: u32| Duration::from_millis(50))
            .adapter(battery, device)
            .build()
            .unwrap();
        tokio::spawn(agent.run());
        let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();
        let world = Self { client, link };
        world.until_connected(true).await;
        world
    }

    async fn until_connected(&self, wanted: bool) {
        until(&format!("connected = {wanted}"), SOON, async || {
            let asset = self.client.asset(BATTERY).await.unwrap();
            (asset.connected == wanted).then_some(())
        })
        .await;
    }

    async fn until_status(&self, order: &Dispatch, wanted: DispatchStatus) -> Dispatch {
        until(&format!("{wanted:?}"), SOON, async || {
            let now = self.client.get_dispatch(order.id).await.unwrap();
            assert!(now.status == wanted || !now.status.is_terminal(), "{now:?}");
            (now.status == wanted).then_some(now)
        })
        .await
    }

    async fn order(&self, order: NewDispatch) -> Dispatch {
        self.client.dispatch(&order).await.unwrap()
    }
}

fn battery(mw: f64) -> NewDispatch {
    NewDispatch::asset(BATTERY, Power::from_mw(mw))
}

/// When a step happened at the agent.
fn reported(order: &Dispatch, status: DispatchStatus) -> Timestamp {
    let step = order.transitions.iter().find(|step| step.status == status);
    step.unwrap().reported_at.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_for_later_begin_on_time_without_a_link_and_are_told_when_it_is_back() {
    let world = World::start().await;
    let start = Timestamp::now().saturating_add(Duration::from_millis(1_500));
    let second_start = start.saturating_add(Duration::from_millis(700));
    let first = battery(5.0)
        .starting_at(start)
        .lasting(Duration::from_millis(400));
    let second = battery(-3.0)
        .starting_at(second_start)
        .lasting(Duration::from_millis(400));
    let (first, second) = (world.order(first).await, world.order(second).await);
    for order in [&first, &second] {
        world.until_status(order, DispatchStatus::Received).await;
    }
    world.link.cut();
    world.until_connected(false).await;
    assert!(Timestamp::now() < start, "the link was cut too late");
    // Both run to their end with nobody to tell.
    let end = second_start.saturating_add(Duration::from_millis(800));
    tokio::time::sleep(end.saturating_since(Timestamp::now())).await;
    let untold = world.client.get_dispatch(first.id).await.unwrap();
    assert_eq!(
        (untold.status, untold.in_doubt),
        (DispatchStatus::Received, true)
    );
    world.link.mend();
    for (order, start) in [(first, start), (second, second_start)] {
        let done = world.until_status(&order, DispatchStatus::Completed).await;
        let began = reported(&done, DispatchStatus::Active);
        assert!(began >= start, "{began} is before {start}");
        let late = began.saturating_since(start);
        assert!(late < Duration::from_millis(600), "{late:?} late");
        assert!(!done.in_doubt);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_now_does_not_end_what_begins_after_it() {
    let world = World::start().await;
    world.link.cut();
    world.until_connected(false).await;
    let start = Timestamp::now().saturating_add(Duration::from_secs(3600));
    let later = world.order(battery(5.0).starting_at(start)).await;
    let now = battery(7.0)
        .lasting(Duration::from_secs(60))
        .followed_by(FollowUp::Hold)
        .ramping(100_000.0);
    let now = world.order(now).await;
    for order in [&later, &now] {
        world.until_status(order, DispatchStatus::Pending).await;
    }
    world.link.mend();
    world.until_status(&now, DispatchStatus::Active).await;
    world.until_status(&later, DispatchStatus::Received).await;
    // This one lasts until that time and longer: what was to begin then does not.
    world.order(battery(9.0)).await;
    let gone = world.until_status(&later, DispatchStatus::Superseded).await;
    assert_eq!(gone.reason, Some(ReasonCode::NewerOrder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_and_a_stop_reach_the_device_and_are_told_of_truthfully() {
    let world = World::start().await;
    let order = world.order(battery(20.0)).await;
    world.until_status(&order, DispatchStatus::Active).await;
    let wish = NewLimit::at_most(BATTERY, Power::from_mw(4.0));
    let limit = world.client.set_limit(&wish).await.unwrap();
    until("in force", SOON, async || {
        let limit = world.client.limit(limit.id).await.unwrap();
        (limit.status == LimitStatus::InForce).then_some(())
    })
    .await;
    let shown = world.client.get_dispatch(order.id).await.unwrap();
    assert_eq!(shown.limited_to.unwrap().max_mw, Power::from_mw(4.0));
    until("limited", SOON, async || {
        let control = world.client.asset(BATTERY).await.unwrap().control?;
        (control.limited && control.mw == Some(Power::from_mw(4.0))).then_some(())
    })
    .await;

    let stop = world.client.stop(&NewStop::all()).await.unwrap();
    assert_eq!((stop.assets, stop.reached), (1, 1));
    until("stopped", SOON, async || {
        let stop = world.client.get_stop(stop.id).await.unwrap();
        (stop.confirmed == 1).then_some(())
    })
    .await;
    let ended = world.until_status(&order, DispatchStatus::Cancelled).await;
    assert_eq!(ended.reason, Some(ReasonCode::Stopped));
    // It stays stopped over a lost link.
    world.link.cut();
    world.until_connected(false).await;
    world.link.mend();
    world.until_connected(true).await;
    let control = world.client.asset(BATTERY).await.unwrap().control.unwrap();
    assert_eq!(control.source, ControlSource::Stop);
    world
        .client
        .resume(stop.id, Some(Duration::ZERO))
        .await
        .unwrap();
    until("returned", SOON, async || {
        let control = world.client.asset(BATTERY).await.unwrap().control?;
        (control.source == ControlSource::Default).then_some(())
    })
    .await;
    let order = world.order(battery(20.0)).await;
    world.until_status(&order, DispatchStatus::Active).await;
}
