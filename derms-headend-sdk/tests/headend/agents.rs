//! `/agents`, `/heartbeat`.

use std::time::Duration;

use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::ProblemCode as Code;
use derms_headend_sdk::proto::link::GrantStatus;
use derms_headend_sdk::store::MemoryStore;

use crate::agent::Agent;
use crate::support::{BESS_1, BESS_2, JERSEY, NOBODY, PV_1, fleet, get, headend, headend_with};

#[tokio::test(start_paused = true)]
async fn agents_are_listed_one_per_session_while_they_are_connected() {
    let headend = headend().await;
    assert_eq!(
        get(&headend, "/agents")
            .await
            .ok()
            .as_array()
            .unwrap()
            .len(),
        0
    );
    let gateway = Agent::connect(&headend, JERSEY, &[BESS_1, BESS_2]).await;
    assert!(
        gateway
            .grants()
            .iter()
            .all(|grant| grant.status == GrantStatus::Granted)
    );

    let agents = get(&headend, "/agents").await.ok();
    assert_eq!(agents.as_array().unwrap().len(), 1);
    let agent = &agents[0];
    assert_eq!(agent["agent_id"], JERSEY);
    assert_eq!(agent["mode"], "gateway");
    assert_eq!(agent["site_id"], JERSEY);
    assert_eq!(agent["site_name"], "Jersey");
    assert_eq!(agent["connected"], true);
    assert_eq!(agent["assets"][1]["name"], "BESS-2");
    assert_eq!(agent["agent_version"], "scripted 1.2");
    assert_eq!(agent["epoch"], gateway.registered.epoch);
    assert!(agent["peer"].is_null() && agent["principal"].is_null());

    let all = get(&headend, "/agents?all=true").await.ok();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[1]["connected"], false);
    assert_eq!(all[1]["assets"][0]["id"], PV_1);
    assert_eq!(get(&headend, "/agents?all=false").await.ok(), agents);
}

#[tokio::test]
async fn agents_are_told_how_to_send_what_they_measured_without_a_link() {
    let told = async |headend: &Headend| {
        let agent = Agent::connect(headend, BESS_1, &[BESS_1]).await;
        let limits = agent.registered.limits;
        (limits.backfill_spread, limits.backfill_batches_per_s)
    };
    assert_eq!(told(&headend().await).await, (Duration::from_secs(30), 20));
    let spread = Duration::from_secs(600);
    let builder = Headend::builder(fleet()).backfill(spread, 3);
    let slow = builder.build().await.unwrap();
    assert_eq!(told(&slow).await, (spread, 3));
}

#[tokio::test(start_paused = true)]
async fn sessions_that_ended_stay_in_history_with_their_cause() {
    let headend = headend().await;
    let first = Agent::connect(&headend, JERSEY, &[BESS_1]).await;
    let second = Agent::connect(&headend, JERSEY, &[BESS_1]).await;
    // The loser is told, then its stream ends.
    let mut loser = first;
    while loser.next().await.is_some() {}
    let history = get(&headend, "/agents/history").await.ok();
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["epoch"], second.registered.epoch, "newest first");
    assert!(items[0]["disconnected_at"].is_null());
    assert_eq!(items[1]["epoch"], loser.registered.epoch);
    assert_eq!(items[1]["cause"], "taken_over");
    assert!(history["next_cursor"].is_null());

    let page = get(&headend, "/agents/history?limit=1").await.ok();
    assert_eq!(page["items"][0], items[0]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = get(
        &headend,
        &format!("/agents/history?limit=1&cursor={cursor}"),
    )
    .await
    .ok();
    assert_eq!(page["items"][0], items[1]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_that_of_the_agent_that_serves_the_asset() {
    let (headend, clock) = headend_with(MemoryStore::new()).await;
    let path = format!("/heartbeat/{BESS_1}");
    get(&headend, &path).await.problem(Code::NoHeartbeat);
    get(&headend, &format!("/heartbeat/{NOBODY}"))
        .await
        .problem(Code::UnknownAsset);

    let mut agent = Agent::connect(&headend, BESS_1, &[BESS_1]).await;
    agent.heartbeat().await;
    let heartbeat = get(&headend, &path).await.ok();
    assert_eq!(heartbeat["asset_id"], BESS_1);
    assert_eq!(heartbeat["agent_id"], BESS_1);
    assert_eq!(heartbeat["epoch"], agent.registered.epoch);
    assert_eq!(heartbeat["received_at"], clock.now().to_string());
    assert_eq!(heartbeat["outbox_depth"], 2);
    assert_eq!(heartbeat["dropped_samples"], 1);
    assert_eq!(heartbeat["read_errors"], 3);
    assert_eq!(heartbeat["uptime_s"], 9.0);
    assert_eq!(heartbeat["availability"], "available");
    assert!(heartbeat["agent_time"].is_null());
    let history = get(&headend, &format!("{path}/history")).await.ok();
    assert_eq!(history["items"][0], heartbeat);
}

#[tokio::test]
async fn heartbeats_of_two_devices_stay_apart_when_both_come_back() {
    let (headend, _) = headend_with(MemoryStore::new()).await;
    for (first, second) in [(BESS_1, BESS_2), (BESS_2, BESS_1)] {
        let mut agents = Vec::new();
        for id in [first, second] {
            agents.push(Agent::connect(&headend, id, &[id]).await);
        }
        for agent in agents.iter_mut().rev() {
            agent.heartbeat().await;
        }
        for (id, agent) in [first, second].into_iter().zip(&agents) {
            let heartbeat = get(&headend, &format!("/heartbeat/{id}")).await.ok();
            assert_eq!(heartbeat["asset_id"], id);
            assert_eq!(heartbeat["agent_id"], id);
            assert_eq!(heartbeat["epoch"], agent.registered.epoch);
        }
    }
}
