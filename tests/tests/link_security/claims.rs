//! Agents that claim what is not theirs.

use derms_agent_sdk::{AgentEvent, sim};
use derms_headend_sdk::Headend;
use derms_proto::link::GrantStatus;
use derms_proto::{AgentId, Asset};
use derms_tests::{Pki, until};

use crate::rig::{BESS_1, BESS_2, JERSEY, PV_1, Rig, SOON, asset, event, fleet, good, mutual};

#[tokio::test]
async fn a_gateway_gets_its_assets_and_not_that_of_its_neighbour() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let neighbours = asset(PV_1);
    let device = sim::for_asset(&neighbours, 1);
    let gateway = rig
        .agent(BESS_1)
        .agent_id(JERSEY.parse().unwrap())
        .adapter(neighbours, device)
        .tls(good(&pki, 2, JERSEY));
    let mut events = rig.run(gateway);
    let refused = event(&mut events, "a refusal", |event| match event {
        AgentEvent::Refused {
            asset_id, status, ..
        } => Some((asset_id.to_string(), *status)),
        _ => None,
    });
    assert_eq!(refused.await, (PV_1.to_owned(), GrantStatus::Forbidden));
    rig.until_agents(1).await;
    assert_eq!(rig.headend.link_refusals().claims, 1);
    let connected = rig.connected_assets().await;
    assert_eq!(connected, [BESS_1]);
}

#[tokio::test]
async fn the_embedders_registry_takes_the_place_of_the_fleet_file() {
    let pki = Pki::new();
    let of_2: AgentId = BESS_2.parse().unwrap();
    let policy =
        move |agent: AgentId, asset: &Asset| agent == of_2 && asset.id.to_string() == BESS_1;
    let builder = Headend::builder(fleet())
        .tls(mutual(&pki))
        .agent_policy(policy);
    let mut rig = Rig::of(builder).await;
    let agent = rig.agent(BESS_1).agent_id(of_2).tls(good(&pki, 2, BESS_2));
    rig.connected(agent).await;
    until("its asset is connected", SOON, async || {
        (rig.connected_assets().await == [BESS_1]).then_some(())
    })
    .await;
    // By the fleet file this would be the right one.
    let mut events = rig.run(rig.agent(BESS_1).tls(good(&pki, 3, BESS_1)));
    let text = crate::rig::failure(&mut events).await;
    assert!(text.starts_with("Forbidden"), "{text}");
}
