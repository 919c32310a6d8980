use std::time::Duration;

use derms_client::{Client, DispatchOptions};
use derms_proto::{AssetId, Dispatch, DispatchStatus, NewDispatch, Power, Timestamp};
use derms_tests::{HeadendProcess, Process, lasting_address, until};
use rustix::process::Signal;

use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(15);

async fn until_fresh(client: &Client, asset: AssetId) {
    until("telemetry", SOON, async || {
        let snapshot = client.telemetry(asset).await.ok()?;
        (!snapshot.stale).then_some(())
    })
    .await;
}

async fn active(client: &Client, order: &NewDispatch) -> Dispatch {
    let wait = DispatchOptions::new().wait(SOON);
    let dispatch = client.dispatch_with(order, wait).await.unwrap();
    assert_eq!(dispatch.status, DispatchStatus::Active, "{dispatch:?}");
    dispatch
}

async fn until_setpoint(client: &Client, asset: AssetId, wanted: Option<f64>) {
    until(&format!("setpoint {wanted:?}"), SOON, async || {
        let measured = client.telemetry(asset).await.ok()?.telemetry.measurements;
        (measured.setpoint_mw.map(Power::mw) == wanted).then_some(())
    })
    .await;
}

/// The time at the beginning of the next line of the log with these words.
async fn time_of(agent: &mut Process, words: &str) -> Timestamp {
    let line = agent.says(words).await;
    let time = line.split(' ').next().unwrap();
    serde_json::from_value(time.into()).unwrap()
}

#[tokio::test]
async fn agents_outlive_a_headend_that_was_killed_and_has_forgotten_everything() {
    let (http, grpc) = (lasting_address().to_string(), lasting_address().to_string());
    let headend = HeadendProcess::at(&http, &grpc, "memory").await;
    let (leased, ordered): (AssetId, AssetId) = (BESS_1.parse().unwrap(), BESS_2.parse().unwrap());
    let mut agents = [BESS_1, BESS_2]
        .map(|asset| Process::start("edge_agent", &["--asset-id", asset, "--headend", &grpc]));
    until_fresh(&headend.client, leased).await;
    until_fresh(&headend.client, ordered).await;

    // Three orders, so that the next headend's own count would be behind the agent's.
    let mut seen = 0;
    for mw in [1.0, 2.0, 3.0] {
        let order = NewDispatch::asset(ordered, Power::from_mw(mw));
        seen = active(&headend.client, &order).await.revision.unwrap();
    }
    let order = NewDispatch::asset(leased, Power::from_mw(5.0)).lasting(LEASE);
    active(&headend.client, &order).await;
    let began = time_of(&mut agents[0], "phase=started").await;

    headend.process.signal(Signal::KILL);
    assert_eq!(headend.process.ended().await.0, None);
    for agent in &mut agents {
        agent.says("will try again").await;
    }
    let headend = HeadendProcess::at(&http, &grpc, "memory").await;
    let client = &headend.client;
    assert!(
        client
            .dispatch_history(Default::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    until_fresh(client, leased).await;
    until_fresh(client, ordered).await;

    let order = NewDispatch::asset(ordered, Power::from_mw(-4.0));
    let fresh = active(client, &order).await;
    assert!(
        fresh.revision.unwrap() > seen,
        "{fresh:?} is not above {seen}"
    );

    // The lease goes on through the outage and ends at its time, with nobody to tell it.
    until_setpoint(client, leased, Some(5.0)).await;
    let ended = time_of(&mut agents[0], "phase=completed").await;
    let lasted = ended.saturating_since(began);
    let late = LEASE + Duration::from_secs(2);
    assert!(
        (LEASE..late).contains(&lasted),
        "the lease lasted {lasted:?}"
    );
    until_setpoint(client, leased, None).await;
    until_setpoint(client, ordered, Some(-4.0)).await;

    for agent in agents {
        assert_eq!(agent.terminated().await, Some(0));
    }
    assert_eq!(headend.process.terminated().await, Some(0));
}
