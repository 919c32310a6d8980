//! An edge gateway as a process: three assets on one stream, one of which fails.

use std::time::Duration;

use derms_client::DispatchOptions;
use derms_proto::{
    AgentMode, AssetId, Availability, DispatchStatus, NewDispatch, Power, ReasonCode, SiteId,
};
use derms_tests::{Folder, HeadendProcess, Program, until};
use rustix::process::Signal;

use crate::{BESS_1, BESS_2, JERSEY};

const BESS_3: &str = "7ba7b812-9dad-11d1-80b4-00c04fd430c8";
const SOON: Duration = Duration::from_secs(30);

fn id(text: &str) -> AssetId {
    text.parse().unwrap()
}

async fn until_available(headend: &HeadendProcess, asset: AssetId, wanted: Availability) {
    until(&format!("{asset} {wanted:?}"), SOON, async || {
        let status = headend.client.asset(asset).await.ok()?;
        (status.availability == Some(wanted)).then_some(())
    })
    .await;
}

async fn ordered(headend: &HeadendProcess, asset: AssetId, mw: f64) -> derms_proto::Dispatch {
    let order = NewDispatch::asset(asset, Power::from_mw(mw)).lasting(Duration::from_secs(600));
    let wait = DispatchOptions::new().wait(SOON);
    headend.client.dispatch_with(&order, wait).await.unwrap()
}

#[tokio::test]
async fn a_site_is_one_agent_on_one_peer_and_a_failing_device_stops_no_other() {
    let headend = HeadendProcess::start().await;
    let faults = Folder::new();
    let dir = faults.path().display().to_string();
    let gateway = Program::new("edge_agent")
        .args(["--site-id", JERSEY, "--headend", &headend.grpc])
        .args(["--faults-dir", &dir])
        .start();
    let all = [id(BESS_1), id(BESS_2), id(BESS_3)];
    for asset in all {
        until_available(&headend, asset, Availability::Available).await;
    }
    let agents = headend.client.agents().await.unwrap();
    assert_eq!(agents.len(), 1, "{agents:?}");
    let agent = &agents[0];
    assert_eq!(agent.mode, Some(AgentMode::Gateway));
    assert_eq!(agent.site_id, Some(JERSEY.parse::<SiteId>().unwrap()));
    let peer = agent.peer.as_ref().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    let served: Vec<AssetId> = agent.assets.iter().map(|asset| asset.id).collect();
    assert_eq!(served, all);

    let [first, broken, third] = all;
    let file = faults.path().join(BESS_2);
    std::fs::write(&file, "the inverter is on fire").unwrap();
    until_available(&headend, broken, Availability::Unavailable).await;
    for (asset, mw) in [(first, 5.0), (third, -3.0)] {
        let order = ordered(&headend, asset, mw).await;
        assert_eq!(order.status, DispatchStatus::Active, "{order:?}");
        until_available(&headend, asset, Availability::Available).await;
    }
    let refused = ordered(&headend, broken, 2.0).await;
    assert_eq!(refused.status, DispatchStatus::Failed, "{refused:?}");
    assert_eq!(refused.reason, Some(ReasonCode::DeviceError));
    assert_eq!(refused.text.as_deref(), Some("the inverter is on fire"));
    // What hangs keeps the others from nothing either.
    std::fs::write(&file, "hang").unwrap();
    let order = ordered(&headend, first, 6.0).await;
    assert_eq!(order.status, DispatchStatus::Active, "{order:?}");

    std::fs::remove_file(&file).unwrap();
    until_available(&headend, broken, Availability::Available).await;
    let agents = headend.client.agents().await.unwrap();
    assert_eq!(agents[0].epoch, Some(1), "one session all the time");
    assert_eq!(gateway.terminated().await, Some(0));
    assert_eq!(headend.process.terminated().await, Some(0));
}

/// The sample fleet with this text after its head, as a file of the gateway.
fn fleet_without(lines: &[&str]) -> String {
    let whole = std::fs::read_to_string(derms_tests::root().join("assets.yaml")).unwrap();
    let (head, assets) = whole.split_once("\nassets:\n").unwrap();
    let entries = assets.split("\n  - ").enumerate();
    let kept = entries.filter(|(_, entry)| !lines.iter().any(|line| entry.contains(line)));
    let kept: Vec<&str> = kept.map(|(_, entry)| entry).collect();
    format!("{head}\nassets:\n{}", kept.join("\n  - "))
}

#[tokio::test]
async fn a_gateway_reads_its_fleet_file_again_and_keeps_what_runs_if_that_is_bad() {
    let headend = HeadendProcess::start().await;
    let folder = Folder::new();
    let file = folder.path().join("fleet.yaml");
    std::fs::write(&file, fleet_without(&[BESS_3])).unwrap();
    let mut gateway = Program::new("edge_agent")
        .args(["--site-id", JERSEY, "--headend", &headend.grpc])
        .args(["--assets", &file.display().to_string()])
        .start();
    let [first, second, third] = [BESS_1, BESS_2, BESS_3].map(id);
    let connected = async |asset: AssetId, wanted: bool| {
        until(&format!("{asset} connected: {wanted}"), SOON, async || {
            let status = headend.client.asset(asset).await.ok()?;
            (status.connected == wanted).then_some(())
        })
        .await;
    };
    connected(first, true).await;
    connected(second, true).await;
    let order = ordered(&headend, first, 5.0).await;
    assert_eq!(order.status, DispatchStatus::Active, "{order:?}");

    std::fs::write(&file, fleet_without(&[BESS_2])).unwrap();
    gateway.signal(Signal::HUP);
    connected(third, true).await;
    connected(second, false).await;

    std::fs::write(&file, "sites: []\nassets: 5\n").unwrap();
    gateway.signal(Signal::HUP);
    let line = gateway.says("the fleet file is not taken").await;
    assert!(line.contains("fleet.yaml") && line.contains('2'), "{line}");
    let now = headend.client.get_dispatch(order.id).await.unwrap();
    assert_eq!(now.status, DispatchStatus::Active, "nobody was disturbed");
    let agents = headend.client.agents().await.unwrap();
    assert_eq!((agents.len(), agents[0].epoch), (1, Some(1)));
    let served: Vec<AssetId> = agents[0].assets.iter().map(|asset| asset.id).collect();
    assert_eq!(served, [first, third]);
    assert_eq!(gateway.terminated().await, Some(0));
    assert_eq!(headend.process.terminated().await, Some(0));
}
