//! Cancels in a whole headend with agents of the SDK: after "cancelled before it was sent" an order
//! never starts, after "released" nothing of it is written to the device.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_agent_sdk::testing::{Call, ScriptedAdapter};
use derms_agent_sdk::{AgentHandle, AgentRuntime, Setpoint};
use derms_client::Client;
use derms_headend_sdk::Headend;
use derms_proto::{
    Asset, AssetId, AssetKind, Dispatch, DispatchStatus, Fleet, NewDispatch, Power, Site, SiteId,
    Timestamp,
};
use derms_tests::{Proxy, until};
use tokio::task::JoinHandle;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);
const ASSET: AssetId = AssetId::new(Uuid::from_u128(100));

fn asset() -> Asset {
    let site = SiteId::new(Uuid::from_u128(1));
    let (min, max) = (Power::from_mw(-500.0), Power::from_mw(500.0));
    Asset::new(ASSET, "B", site, AssetKind::Battery, min, max)
}

/// A headend, and an agent whose link can be cut and whose device notes what it is told.
struct World {
    client: Client,
    proxy: Proxy,
    device: ScriptedAdapter,
    agent: Option<(AgentHandle, JoinHandle<()>)>,
}

impl World {
    async fn new() -> Self {
        let site = Site {
            id: asset().site_id,
            name: "S".into(),
            location: String::new(),
        };
        let headend = Headend::builder(Fleet::new(vec![site], vec![asset()]).unwrap())
            .heartbeat_interval(Duration::from_secs(1))
            .build()
            .await
            .unwrap();
        let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::with_service("/".parse().unwrap(), headend.rest_service()).unwrap();
        let service = headend.grpc_service();
        tokio::spawn(async move {
            let never = std::future::pending();
            headend.serve(vec![(listener, service)], never).await;
        });
        Self {
            client,
            proxy: Proxy::to(address).await,
            device: ScriptedAdapter::new(),
            agent: None,
        }
    }

    async fn start_agent(&mut self) {
        let runtime =
            AgentRuntime::builder(format!("http://{}", self.proxy.address()).parse().unwrap())
                .backoff(|_: u32| Duration::from_millis(20))
                .adapter(asset(), self.device.clone())
                .build()
                .unwrap();
        let handle = runtime.handle();
        let task = tokio::spawn(async move { runtime.run().await.unwrap() });
        self.agent = Some((handle, task));
        self.until_connected(true).await;
    }

    async fn until_connected(&self, wanted: bool) {
        until(&format!("connected = {wanted}"), SOON, async || {
            let asset = self.client.asset(ASSET).await.unwrap();
            (asset.connected == wanted).then_some(())
        })
        .await;
    }

    async fn order(&self, mw: f64) -> Dispatch {
        let new = NewDispatch::asset(ASSET, Power::from_mw(mw)).waiting_at_most(SOON);
        self.client.dispatch(&new).await.unwrap()
    }

    async fn until_active(&self, order: &Dispatch) {
        let active = self.client.wait_until_active(order.id).await.unwrap();
        assert_eq!(active.status, DispatchStatus::Active, "{active:?}");
    }
}

/// Writes to the device after a cancel was confirmed that it rules out: `told` is how many calls
/// the device had seen when it was.
fn violations(calls: &[Call], cancelled: &[(f64, usize)]) -> Vec<String> {
    let mut found = Vec::new();
    for (mw, told) in cancelled {
        let later = calls.iter().enumerate().skip(*told);
        let written = later.filter(|(_, call)| is_apply(call, *mw));
        found.extend(written.map(|(place, _)| format!("{mw} MW was written as call {place}")));
    }
    found
}

fn is_apply(call: &Call, mw: f64) -> bool {
    matches!(call, Call::Apply(setpoint) if setpoint.power == Power::from_mw(mw))
}

#[test]
fn a_write_after_the_word_is_found() {
    let [order, other] = [5.0, 6.0].map(|mw| Call::Apply(Setpoint::new(Power::from_mw(mw))));
    let calls = [order, Call::GoToDefault(Power::ZERO), other];
    assert!(violations(&calls, &[(5.0, 2)]).is_empty());
    assert_eq!(violations(&calls, &[(5.0, 2), (6.0, 2)]).len(), 1);
    assert_eq!(
        violations(&calls, &[(5.0, 0)]).len(),
        1,
        "it started after all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_cancelled_before_it_was_sent_never_starts() {
    let mut world = World::new().await;
    let order = world.order(5.0).await;
    let cancelled = world.client.cancel(order.id).await.unwrap();
    assert_eq!(cancelled.status, DispatchStatus::Cancelled);
    world.start_agent().await;
    let next = world.order(6.0).await;
    world.until_active(&next).await;
    assert_eq!(world.device.setpoints(), [Power::from_mw(6.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_cancelled_while_its_agent_was_away_ends_when_it_is_back() {
    let mut world = World::new().await;
    world.start_agent().await;
    let order = world.order(5.0).await;
    world.until_active(&order).await;
    world.proxy.cut();
    world.until_connected(false).await;
    let asked = world.client.cancel(order.id).await.unwrap();
    assert_eq!(asked.status, DispatchStatus::Active, "nobody knows better");
    assert!(asked.cancel_requested_at.is_some());
    world.proxy.mend();
    let over = world.client.wait(order.id).await.unwrap();
    assert_eq!(over.status, DispatchStatus::Cancelled);
    let calls = world.device.calls();
    assert!(
        matches!(calls.last(), Some(Call::GoToDefault(_))),
        "{calls:?}"
    );
}

impl World {
    /// An order for later, at its agent.
    async fn order_for_later(&self, mw: f64, ahead: Duration) -> Dispatch {
        let start = Timestamp::now().saturating_add(ahead);
        let new = NewDispatch::asset(ASSET, Power::from_mw(mw)).starting_at(start);
        let order = self.client.dispatch(&new).await.unwrap();
        until("received", SOON, async || {
            let now = self.client.get_dispatch(order.id).await.unwrap();
            (now.status == DispatchStatus::Received).then_some(order.clone())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_later_that_was_cancelled_never_starts_with_the_link_or_without() {
    for cut in [false, true] {
        let mut world = World::new().await;
        world.start_agent().await;
        let order = world.order_for_later(5.0, Duration::from_secs(2)).await;
        let cancelled = world.client.cancel_within(order.id, SOON).await.unwrap();
        assert_eq!(cancelled.status, DispatchStatus::Cancelled, "{cancelled:?}");
        if cut {
            world.proxy.cut();
        }
        let start = order.start_at.unwrap();
        until("its time has passed", SOON, async || {
            let late = Timestamp::now().saturating_since(start);
            (late > Duration::from_millis(700)).then_some(())
        })
        .await;
        world.proxy.mend();
        world.until_connected(true).await;
        let next = world.order(6.0).await;
        world.until_active(&next).await;
        assert_eq!(
            world.device.setpoints(),
            [Power::from_mw(6.0)],
            "cut: {cut}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_can_not_reach_the_agent_before_the_start_says_so_and_ends_it_later() {
    let mut world = World::new().await;
    world.start_agent().await;
    let order = world.order_for_later(5.0, Duration::from_secs(3)).await;
    world.proxy.cut();
    world.until_connected(false).await;
    let asked = world.client.cancel(order.id).await.unwrap();
    // Nobody may claim that it does not start.
    assert_eq!(asked.status, DispatchStatus::Received);
    assert!(
        asked.in_doubt && asked.cancel_requested_at.is_some(),
        "{asked:?}"
    );
    until("it starts at the edge", SOON, async || {
        let started = world.device.setpoints() == [Power::from_mw(5.0)];
        started.then_some(())
    })
    .await;
    let still = world.client.get_dispatch(order.id).await.unwrap();
    assert!(still.in_doubt && still.status == DispatchStatus::Received);
    world.proxy.mend();
    let over = world.client.wait(order.id).await.unwrap();
    assert_eq!(over.status, DispatchStatus::Cancelled);
    let steps: Vec<_> = over.transitions.iter().map(|step| step.status).collect();
    assert!(
        steps.contains(&DispatchStatus::Active),
        "it is not hidden: {steps:?}"
    );
    let calls = world.device.calls();
    assert!(
        matches!(calls.last(), Some(Call::GoToDefault(_))),
        "{calls:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cancels_at_any_moment_keep_their_word() {
    let mut world = World::new().await;
    world.start_agent().await;
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let (mut cancelled, mut mw) = (Vec::new(), 0.0);
    let mut open = Vec::new();
    for _ in 0..100 {
        mw += 1.0;
        open.push((world.order(mw).await, mw));
        match random.u8(0..6) {
            0 => world.proxy.cut(),
            1 => world.proxy.mend(),
            2 => world.until_active_or_not(&open[open.len() - 1].0).await,
            _ => {}
        }
        if random.bool() {
            tokio::time::sleep(Duration::from_millis(random.u64(0..30))).await;
        }
        // Any of those that may still be open, the newest most of all.
        let which = open.len() - 1 - random.usize(0..open.len().min(3));
        let order = &open[which].0;
        let wait = Duration::from_millis(random.u64(0..200));
        world.client.cancel_within(order.id, wait).await.unwrap();
        world.note(&mut open, &mut cancelled).await;
    }
    world.proxy.mend();
    for (order, _) in &open {
        world.client.cancel(order.id).await.unwrap();
    }
    for (order, _) in open.clone() {
        tokio::time::timeout(SOON, world.client.wait(order.id))
            .await
            .unwrap()
            .unwrap();
        world.note(&mut open, &mut cancelled).await;
    }
    assert!(cancelled.len() > 20, "{} were cancelled", cancelled.len());
    // Whatever was still under way has arrived before this one.
    let last = world.order(450.0).await;
    world.until_active(&last).await;
    let found = violations(&world.device.calls(), &cancelled);
    assert!(found.is_empty(), "{found:?}");
    let (handle, task) = world.agent.take().unwrap();
    handle.shutdown();
    task.await.unwrap();
}

impl World {
    async fn until_active_or_not(&self, order: &Dispatch) {
        let limit = Duration::from_millis(300);
        let _ = tokio::time::timeout(limit, self.client.wait_until_active(order.id)).await;
    }

    /// Notes what is confirmed to be cancelled by now, and how much the device had seen.
    async fn note(&self, open: &mut Vec<(Dispatch, f64)>, cancelled: &mut Vec<(f64, usize)>) {
        for (order, mw) in std::mem::take(open) {
            let now = self.client.get_dispatch(order.id).await.unwrap();
            if now.status == DispatchStatus::Cancelled {
                cancelled.push((mw, self.device.calls().len()));
            } else if !now.status.is_terminal() {
                open.push((order, mw));
            }
        }
    }
}
