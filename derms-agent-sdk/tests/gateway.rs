//! A gateway whose assets come and go, over a fake headend, under a paused clock.

use std::time::Duration;

use derms_agent_sdk::testing::{Call, FakeHeadend, FakeSession, ScriptedAdapter, asset};
use derms_agent_sdk::{AgentHandle, ChangeError, RunError};
use derms_proto::link::{
    AgentMessage, AssetUpdate, Grant, GrantStatus, HeadendMessage, SetpointPhase,
};
use derms_proto::{AssetId, Power, ReasonCode};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

const MW: fn(f64) -> Power = Power::from_mw;

struct Gateway {
    handle: AgentHandle,
    running: JoinHandle<Result<(), RunError>>,
}

/// With one device, so that it has an id of its own.
async fn start(headend: &mut FakeHeadend, device: &ScriptedAdapter) -> (Gateway, FakeSession) {
    let agent = headend.agent().agent_id(asset(1).site_id.into());
    let agent = agent.adapter(asset(1), device.clone()).build();
    let agent = agent.expect("this is a valid agent");
    let handle = agent.handle();
    let running = TaskTracker::new().spawn(agent.run());
    (
        Gateway { handle, running },
        headend.accept_and_grant().await,
    )
}

async fn update(session: &mut FakeSession) -> AssetUpdate {
    session
        .wait_for("an update of the assets", |message| match message {
            AgentMessage::AssetUpdate(update) => Some(update.clone()),
            _ => None,
        })
        .await
}

async fn grant(session: &FakeSession, asset_id: AssetId) {
    let grant = Grant {
        asset_id,
        status: GrantStatus::Granted,
        last_revision: 0,
        text: None,
    };
    let epoch = session.epoch();
    let grants = vec![grant];
    session.send(HeadendMessage::Grants { epoch, grants }).await;
}

#[tokio::test(start_paused = true)]
async fn an_asset_is_added_obeys_and_is_removed_on_one_stream() {
    let mut headend = FakeHeadend::in_memory();
    let (first, second) = (ScriptedAdapter::new(), ScriptedAdapter::new());
    let (gateway, mut session) = start(&mut headend, &first).await;
    let id = asset(2).id;
    gateway.handle.add(asset(2), second.clone()).await.unwrap();
    let claimed = update(&mut session).await;
    assert_eq!(claimed.upserted[0].as_ref().unwrap().asset_id, id);
    grant(&session, id).await;
    assert_eq!(second.next_call().await, Call::GoToDefault(Power::ZERO));
    let order = session.order(id, MW(2.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    assert_eq!(second.setpoints(), [MW(2.0)]);
    session
        .wait_for("telemetry of both", |message| match message {
            AgentMessage::Telemetry(batch) => {
                let mut samples = batch.samples.iter().flatten();
                samples.any(|sample| sample.asset_id == id).then_some(())
            }
            _ => None,
        })
        .await;

    gateway.handle.remove(id).await.unwrap();
    let failed = session
        .reported(order.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(failed.reason, Some(ReasonCode::Interrupted));
    assert!(matches!(second.calls().last(), Some(Call::GoToDefault(_))));
    assert_eq!(update(&mut session).await.removed, [id]);
    let (reads, calls) = (second.reads(), second.calls().len());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((second.reads(), second.calls().len()), (reads, calls));
    assert!(!gateway.running.is_finished());
    assert_eq!(gateway.handle.status().assets.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_hangs_is_removed_and_delays_nobody() {
    let mut headend = FakeHeadend::in_memory();
    let (fine, stuck) = (ScriptedAdapter::new(), ScriptedAdapter::new());
    let (gateway, mut session) = start(&mut headend, &fine).await;
    let id = asset(2).id;
    gateway.handle.add(asset(2), stuck.clone()).await.unwrap();
    update(&mut session).await;
    grant(&session, id).await;
    stuck.next_call().await;
    stuck.hang(true);
    stuck.hang_reads(true);
    let hangs = session.order(id, MW(2.0));
    session.setpoint(&hangs).await;
    session
        .reported(hangs.dispatch_id, SetpointPhase::Received)
        .await;
    let begun = Instant::now();
    let removing = gateway.handle.clone();
    let removing = TaskTracker::new().spawn(async move { removing.remove(id).await });
    let order = session.order(asset(1).id, MW(3.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let reads = fine.reads();
    removing.await.unwrap().unwrap();
    let took = begun.elapsed().as_secs_f64();
    assert!((14.0..17.0).contains(&took), "{took}");
    assert!(fine.reads() >= reads + 3);
    let failed = session
        .reported(hangs.dispatch_id, SetpointPhase::Failed)
        .await;
    assert_eq!(failed.reason, Some(ReasonCode::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn an_asset_that_has_changed_is_driven_by_its_new_adapter() {
    let mut headend = FakeHeadend::in_memory();
    let (old, new) = (ScriptedAdapter::new(), ScriptedAdapter::new());
    let (gateway, mut session) = start(&mut headend, &old).await;
    let order = session.order(asset(1).id, MW(3.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    gateway.handle.add(asset(1), new.clone()).await.unwrap();
    session
        .reported(order.dispatch_id, SetpointPhase::Failed)
        .await;
    assert!(matches!(old.calls().last(), Some(Call::GoToDefault(_))));
    let claimed = update(&mut session).await;
    assert_eq!(claimed.removed, []);
    grant(&session, asset(1).id).await;
    let order = session.order(asset(1).id, MW(4.0));
    session.setpoint(&order).await;
    session
        .reported(order.dispatch_id, SetpointPhase::Started)
        .await;
    assert_eq!(
        (old.setpoints(), new.setpoints()),
        (vec![MW(3.0)], vec![MW(4.0)])
    );
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_changed_is_an_error_that_says_why() {
    let mut headend = FakeHeadend::in_memory();
    let device = ScriptedAdapter::new();
    let (gateway, _session) = start(&mut headend, &device).await;
    let unknown = gateway.handle.remove(asset(9).id).await.unwrap_err();
    assert!(
        matches!(unknown, ChangeError::UnknownAsset { .. }),
        "{unknown}"
    );
    let mut upside_down = asset(2);
    upside_down.min_mw = MW(20.0);
    let invalid = gateway.handle.add(upside_down, device.clone()).await;
    assert!(matches!(invalid, Err(ChangeError::InvalidAsset { .. })));
    gateway.handle.shutdown();
    gateway.running.await.unwrap().unwrap();
    let stopped = gateway.handle.remove(asset(1).id).await.unwrap_err();
    assert!(matches!(stopped, ChangeError::Stopped), "{stopped}");
}
