//! A fleet of 1,000 agents on mutual TLS, while everything is exchanged under it.

use std::time::Duration;

use derms_agent_sdk::{AgentEvent, AgentRuntime, sim};
use derms_headend_sdk::Headend;
use derms_proto::{Asset, AssetId, AssetKind, Fleet, Power, Site, SiteId};
use derms_tests::{Pki, Wanted, until};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::rig::{Rig, mutual, showing};

const AGENTS: u128 = 1_000;
/// A loaded machine that runs both sides.
const SOON: Duration = Duration::from_secs(120);

fn fleet() -> Fleet {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(1)),
        name: "Large".into(),
        location: String::new(),
    };
    let (low, high) = (Power::from_mw(-1.0), Power::from_mw(1.0));
    let asset = |n: u128| {
        let id = AssetId::new(Uuid::from_u128((0xa55e << 112) + n));
        Asset::new(id, format!("B{n}"), site.id, AssetKind::Battery, low, high)
    };
    let assets = (1..=AGENTS).map(asset).collect();
    Fleet::new(vec![site], assets).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_outlive_new_certificates_and_lists_but_for_the_one_that_is_revoked() {
    let (pki, fleet) = (Pki::new(), fleet());
    let builder = Headend::builder(fleet.clone()).tls(mutual(&pki));
    // Agents are idle: what is looked at is the link.
    let builder = builder.telemetry_interval(Duration::from_secs(3_600));
    let rig = Rig::of(builder).await;
    let (sender, mut ends) = mpsc::unbounded_channel();
    let mut agents = tokio::task::JoinSet::new();
    for (number, asset) in fleet.assets().iter().enumerate() {
        let id = asset.id.to_string();
        let wanted = Wanted::agent(number as u64 + 10, &id);
        let uri = format!("https://{}", rig.address).parse().unwrap();
        let runtime = AgentRuntime::builder(uri)
            .backoff(|_: u32| Duration::from_millis(fastrand::u64(500..2_000)))
            .adapter(asset.clone(), sim::for_asset(asset, 1))
            .tls(showing(&pki, pki.issue(&id, &wanted)))
            .build()
            .unwrap();
        let (mut events, sender) = (runtime.handle().subscribe(), sender.clone());
        agents.spawn(async move { runtime.run().await.unwrap() });
        agents.spawn(async move {
            while let Some(event) = events.next().await {
                if let AgentEvent::Disconnected { .. } | AgentEvent::Halted { .. } = event {
                    let _ = sender.send(id.clone());
                }
            }
        });
        // All at once on a loaded machine, handshakes would run into their time limit.
        let started = number + 1;
        if started % 100 == 0 {
            until("these are connected", SOON, async || {
                (rig.agents().await.len() == started).then_some(())
            })
            .await;
        }
    }
    let before = rig.agents().await;
    while ends.try_recv().is_ok() {}

    pki.renew_headend(&["127.0.0.1"]);
    // The last of them.
    pki.revoke(&[AGENTS as u64 + 9]);
    until("the revoked one is gone", SOON, async || {
        (rig.agents().await.len() < AGENTS as usize).then_some(())
    })
    .await;
    for round in 0..3 {
        pki.renew_headend(&["127.0.0.1"]);
        pki.revoke(&[AGENTS as u64 + 9, round]);
        tokio::time::sleep(crate::rig::RELOAD * 5).await;
    }
    let last = AGENTS as usize - 1;
    assert_eq!(
        rig.agents().await,
        before[..last],
        "the same sessions, in the same epochs"
    );
    let ended: Vec<String> = std::iter::from_fn(|| ends.try_recv().ok()).collect();
    assert_eq!(ended, [before[last].0.clone()], "nobody else lost the link");
    assert_eq!(rig.headend.link_refusals().revoked, 1);
}
